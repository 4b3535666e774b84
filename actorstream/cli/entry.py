"""Where the command begins. What it is made of may not be installed, and that is told in one line."""

from __future__ import annotations

import importlib
import sys

NEEDED = {"typer", "rich"}
MISSING = 2


def main() -> int:
    """Run the command with the arguments of this process; its exit code, unless it exits by itself."""
    try:
        app = importlib.import_module("actorstream.cli.app").app
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        sys.stderr.write(f"actorstream: the command line needs {error.name}: pip install 'actorstream[cli]'\n")
        return MISSING
    app()
    return 0
