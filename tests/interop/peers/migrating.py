"""Runs a block of docs/migrating-from-rstream.md that is written for rstream, in the peers' environment."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import textwrap

MAIN = """
async def main():
{block}
"""


def main() -> None:
    """The request on stdin has the block, and the values of its names; the answer is what it printed."""
    import rstream

    request = json.load(sys.stdin)
    names = {**vars(rstream), "asyncio": asyncio, **request["names"]}
    printed = io.StringIO()
    exec(MAIN.format(block=textwrap.indent(request["block"], "    ")), names)
    with contextlib.redirect_stdout(printed):
        asyncio.run(asyncio.wait_for(names["main"](), 25))
    sys.stdout.write(json.dumps({"printed": printed.getvalue().splitlines()}))


if __name__ == "__main__":
    main()
