"""One source, two builds of the wire layer: interpreted, and compiled by mypyc. Wheels come with either."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from actorstream import wire

ROOT = Path(__file__).resolve().parent.parent
WIRE = {f"wire/{path.stem}" for path in (ROOT / "actorstream" / "wire").glob("*.py")}
CORES = {
    f"actors/{name}"
    for name in (
        "encoding",
        "entries",
        "grouping",
        "intake",
        "numbering",
        "outbox",
        "progress",
        "receipt",
        "room",
        "routing_table",
        "spread",
    )
}
NEVER_COMPILED = {"wire/__init__", "wire/amqp", "wire/native"}
COMPILED = WIRE - NEVER_COMPILED | CORES  # see setup.py

USE = """
import actorstream.wire
from actorstream.wire.message import Message
from actorstream.wire.publish import data_entry
assert Message.decode(data_entry(b"body")[4:]).body == b"body"
print(actorstream.wire.compiled)
"""


def is_machine_code(path: str) -> bool:
    return path.endswith(tuple(EXTENSION_SUFFIXES))


def test_the_build_that_was_asked_for_is_the_one_that_is_tested() -> None:
    assert wire.compiled is (os.environ.get("ACTORSTREAM_COMPILE") == "1")


def test_every_module_is_of_the_build_that_the_package_says() -> None:
    names = {name: f"actorstream.{name.replace('/', '.').removesuffix('.__init__')}" for name in WIRE | CORES}
    files = {name: importlib.import_module(module).__file__ or "" for name, module in names.items()}
    compiled = {name for name, file in files.items() if is_machine_code(file)}
    assert compiled == (COMPILED if wire.compiled else set())


def test_other_processes_run_the_same_build() -> None:
    shown = subprocess.check_output([sys.executable, "-c", USE], cwd=ROOT, text=True)
    assert shown.strip() == str(wire.compiled)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What a wheel is built from, in a folder of its own: builds leave their traces in it."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "actorstream", folder / "actorstream", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def build(source: Path, variables: dict[str, str]) -> tuple[Path, str]:
    """The wheel, and what was said while it was built."""
    environment = {name: value for name, value in os.environ.items() if name != "ACTORSTREAM_COMPILE"} | variables
    target = source.parent / "wheels"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--no-build-isolation", "-w", target, "."],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    (wheel,) = target.iterdir()
    return wheel, said


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def used(wheel: Path, tmp_path: Path) -> str:
    """What a program that uses the wheel says of its build."""
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    return subprocess.check_output([sys.executable, "-c", USE], env=environment, text=True).strip()


@pytest.mark.parametrize(
    ("variables", "complaints"),
    [({"ACTORSTREAM_COMPILE": "0"}, 0), ({"CC": "/no/compiler"}, 1)],
    ids=["unwanted", "no"],
)
def test_without_a_compiler_the_wheel_has_the_source_alone_and_one_line_says_so(
    source: Path, tmp_path: Path, variables: dict[str, str], complaints: int
) -> None:
    wheel, said = build(source, variables)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert said.count("the wire layer is not compiled") == complaints
    assert not [name for name in files_of(wheel) if is_machine_code(name)]
    assert used(wheel, tmp_path) == "False"


@pytest.mark.skipif(wire.compiled, reason="what runs here is such a wheel, built a moment ago")
@pytest.mark.timeout(300)
def test_with_a_compiler_the_wheel_has_both_and_runs_compiled(source: Path, tmp_path: Path) -> None:
    wheel, said = build(source, {})
    assert "the wire layer is not compiled" not in said
    assert "-py3-none-any" not in wheel.name
    files = files_of(wheel)
    assert {"actorstream/py.typed", *(f"actorstream/{name}.py" for name in WIRE | CORES)} <= files
    machine_code = {name.partition(".")[0] for name in files if is_machine_code(name)}
    assert machine_code == {f"actorstream/{name}" for name in COMPILED} | {"actorstream__mypyc"}
    assert used(wheel, tmp_path) == "True"


def test_who_asks_for_a_compiled_wheel_gets_no_other(source: Path) -> None:
    with pytest.raises(AssertionError, match="/no/compiler"):
        build(source, {"ACTORSTREAM_COMPILE": "1", "CC": "/no/compiler"})
