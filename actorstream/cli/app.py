"""All commands."""

from __future__ import annotations

import typer

from actorstream.cli import administering, consuming, describing, perf, publishing

app = typer.Typer(
    name="actorstream",
    help="RabbitMQ Streams from a shell. Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 no broker, 4 not found, "
    "5 refused, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

for part in (publishing, consuming, administering, describing, perf):
    part.add_to(app)
