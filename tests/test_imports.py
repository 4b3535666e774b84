"""The import rule: handles -> actors -> transport -> wire -> values, each arrow downward only.

Every import statement counts, wherever it stands and also if it is for types only: a name that is needed for a
signature is a dependency too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "actorstream"
MODULES = sorted(path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py"))

VALUES = {"backoff", "compression", "errors", "events", "offset", "options", "routing"}
HEIGHT = {"values": 0, "wire": 1, "transport": 2, "actors": 3, "handles": 4}

# A handle encodes and decodes messages and names commands; it never drives the protocol.
NOT_IN_HANDLES = {"actorstream.wire.frames", "actorstream.wire.session"}

NOT_IN_WIRE = {"asyncio", "pykka", "select", "selectors", "socket", "ssl", "threading", "time"}

# What the supervisor stands on. Everything else in its folder is a concrete actor, or knows one.
SUPERVISOR = "actorstream/actors/supervisor.py"
SUPERVISOR_MAY_USE = {"child", "future", "home", "reasons", "restart", "runtime"}


def room(module: str) -> str:
    """The room of a dotted module name below `actorstream`."""
    first = module.removeprefix("actorstream").lstrip(".").split(".")[0]
    if first in ("wire", "transport", "actors"):
        return first
    return "values" if first in VALUES else "handles"


def dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_of(path: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported; `from a import b` gives `a.b` where that is a module, else `a`."""
    package = dotted(path).split(".") if path.endswith("__init__.py") else dotted(path).split(".")[:-1]
    for node in ast.walk(ast.parse((PACKAGE.parent / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield node.lineno, name if is_module(name) else source


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def own(path: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in imports_of(path) if name.split(".")[0] == "actorstream"]


def foreign(path: str) -> list[tuple[int, str]]:
    return [(line, name.split(".")[0]) for line, name in imports_of(path) if name.split(".")[0] != "actorstream"]


@pytest.mark.parametrize("path", MODULES)
def test_imports_point_downward_only(path: str) -> None:
    height = HEIGHT[room(dotted(path))]
    upward = [(line, name) for line, name in own(path) if HEIGHT[room(name)] > height]
    assert not upward, f"{path} is of the room {room(dotted(path))}"


@pytest.mark.parametrize("path", [path for path in MODULES if room(dotted(path)) == "wire"])
def test_wire_knows_no_loop_no_socket_no_clock(path: str) -> None:
    assert not [(line, name) for line, name in foreign(path) if name in NOT_IN_WIRE]


@pytest.mark.parametrize("path", [path for path in MODULES if room(dotted(path)) != "actors"])
def test_pykka_is_imported_by_actors_only(path: str) -> None:
    assert not [(line, name) for line, name in foreign(path) if name == "pykka"]


@pytest.mark.parametrize("path", [path for path in MODULES if not dotted(path).startswith("actorstream.telemetry")])
def test_opentelemetry_is_for_those_who_ask_for_it(path: str) -> None:
    assert not [(line, name) for line, name in foreign(path) if name == "opentelemetry"]
    assert not [(line, name) for line, name in own(path) if name.startswith("actorstream.telemetry")]


@pytest.mark.parametrize("path", [path for path in MODULES if room(dotted(path)) == "handles"])
def test_handles_do_not_drive_the_protocol(path: str) -> None:
    assert not [(line, name) for line, name in own(path) if name in NOT_IN_HANDLES]


@pytest.mark.parametrize("path", [path for path in MODULES if "/cli/" not in path and "__main__" not in path])
def test_nothing_stands_on_the_command_line(path: str) -> None:
    """So that nobody needs what it needs, who does not use it."""
    assert not [(line, name) for line, name in own(path) if f"{name}.".startswith("actorstream.cli.")]
    assert not [(line, name) for line, name in foreign(path) if name in ("rich", "typer")]


def test_the_supervisor_knows_no_concrete_actor() -> None:
    used = [(line, name) for line, name in own(SUPERVISOR) if room(name) in ("actors", "wire", "transport")]
    assert not [(line, name) for line, name in used if name.split(".")[-1] not in SUPERVISOR_MAY_USE]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import asyncio.events", {"asyncio.events"}),
        ("from actorstream.errors import Closed", {"actorstream.errors"}),
        ("from actorstream import errors", {"actorstream.errors"}),
        ("from ..errors import Closed", {"actorstream.errors"}),
        ("from .. import errors", {"actorstream.errors"}),
        ("def f():\n    import time", {"time"}),
    ],
)
def test_every_form_of_import_is_seen(statement: str, expected: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_named: statement)
    assert {name for _line, name in imports_of("actorstream/actors/example.py")} == expected
