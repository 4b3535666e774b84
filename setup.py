"""Compiles `actorstream/wire`, and a little more, with mypyc when a wheel is built; all else is in pyproject.toml.

    ACTORSTREAM_COMPILE=1   compiled, or the build fails
    ACTORSTREAM_COMPILE=0   not compiled: the wheel has no machine code, and runs anywhere
    not set                 compiled where that is possible, else not, and one line says so

The source is the same in both. An editable installation is never compiled: what is edited has to be what runs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.dist import Distribution

GROUP = "actorstream"
"""For the name of the one library that all compiled modules share; each of them is a stub that loads it."""

INTERPRETED = {"__init__.py", "amqp.py", "native.py"}
"""`amqp` is made of subclasses of built-ins, which mypyc does not compile; `native` stands for a module of mypyc's."""


CORES = (
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
"""Modules of `actors` that are no actors: what is done there for each message."""


def extensions() -> list[Extension]:
    """What is to be compiled: nothing, unless this is a wheel."""
    wish = os.environ.get("ACTORSTREAM_COMPILE", "")
    if wish == "0" or "bdist_wheel" not in sys.argv:
        return []
    try:
        require_compiler()
        return compiled_modules()
    except (Exception, SystemExit) as error:  # mypyc exits when something is not to its liking
        if wish == "1":
            raise
        print(f"actorstream: the wire layer is not compiled, and so runs slower: {error}")
        return []


def require_compiler() -> None:
    """Compile and link an extension of no use: it takes a compiler, and Python's headers."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\nPyMODINIT_FUNC PyInit_probe(void) { return NULL; }\n")
        command = build_ext(Distribution({"ext_modules": [Extension("probe", [str(source)])]}))
        command.build_lib = command.build_temp = folder
        command.ensure_finalized()
        command.run()


def compiled_modules() -> list[Extension]:
    """The modules as C."""
    from mypyc.build import mypycify  # noqa: PLC0415 - not there when it is not wanted

    wire = [path for path in sorted(Path("actorstream/wire").glob("*.py")) if path.name not in INTERPRETED]
    modules = [*map(str, wire), *(f"actorstream/actors/{name}.py" for name in CORES)]
    # Types are the linter's business: here they are only believed, whatever a newer mypy may have to say of them.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", "--cache-dir=build/mypy"]
    found = mypycify([*options, *modules], opt_level="3", group_name=GROUP, target_dir="build/c")
    for extension in found:
        # A warning that this compiler does not have must not stop another one.
        extension.extra_compile_args = [option for option in extension.extra_compile_args if option != "-Werror"]
    return found


setup(ext_modules=extensions())
