"""The command `actorstream`, as a script would use it: `python -m examples.command_line [URI]`."""

from __future__ import annotations

import os
import subprocess
import sys

STREAM = "example-command-line"
LINES = b"one\ntwo\nthree\n"


def actorstream(*arguments: str, stdin: bytes = b"") -> None:
    """Run the command (`actorstream …` in a shell), and show what it says."""
    done = subprocess.run(  # noqa: S603 - it is our own
        [sys.executable, "-m", "actorstream", *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    print(f"$ actorstream {' '.join(arguments)}")
    print(done.stdout.decode(), end="")
    assert done.returncode == 0  # 1 if a message failed, and others for other reasons


def main(uri: str) -> None:
    os.environ["ACTORSTREAM_URI"] = uri
    actorstream("create", STREAM, "--max-length", "1GB", "--exist-ok")
    try:
        # A run with a name may be repeated: what is stored already is skipped, by the numbers of the lines.
        actorstream("publish", STREAM, "--name", "import", "--property", "source=example", stdin=LINES)
        actorstream("publish", STREAM, "--name", "import", stdin=LINES + b"four\n")

        # With `--name` here, too, the next run would go on where this one ended.
        actorstream("consume", STREAM, "--until-end", "--format", r"%o %s %p\n")
    finally:
        actorstream("delete", STREAM)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "rabbitmq-stream://localhost")
