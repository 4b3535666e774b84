"""`python -m lab`: the laboratory by hand. `make up` and `make down` are its daily use."""

from __future__ import annotations

import argparse
import sys

from lab import compose, engine, image, start
from lab.shell import LabError, say


def main() -> int:
    """Do what the command line says; 1 with one message where it cannot be done, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="everything that is missing, and one running broker")
    commands.add_parser("chaos", help="the same for the broker that tests break")
    commands.add_parser("secure", help="the same for the broker with TLS and every way to log in")
    commands.add_parser("cluster", help="the same for the three-node cluster")
    commands.add_parser("versions", help="the images of the oldest and the newest broker that tests try")
    build = commands.add_parser("image", help="build the image of a Debian suite")
    build.add_argument("suite", choices=image.SUITES, nargs="?", default=image.DEFAULT_SUITE)
    build.add_argument("--force", action="store_true", help="even if the present one is up to date")
    packages = commands.add_parser("packages", help="install Debian packages")
    packages.add_argument("name", nargs="+")
    commands.add_parser("down", help="remove this checkout's brokers with their data")
    commands.add_parser("status", help="the addresses and containers of this checkout")
    arguments = parser.parse_args()
    try:
        _carry_out(arguments)
    except LabError as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


def _carry_out(arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "up":
            print(start.set_up().uri)
        case "chaos":
            engine.ensure()
            print(start.chaos(image=image.choose()).uri)
        case "secure":
            engine.ensure()
            print(start.secure(image=image.choose()).tls_uri)
        case "cluster":
            engine.ensure()
            print(*(node.uri for node in start.cluster(image=image.choose()).nodes), sep="\n")
        case "versions":
            print(image.oldest(), image.newest(), sep="\n")
        case "image":
            engine.ensure()
            print(image.build(arguments.suite, force=arguments.force))
        case "packages":
            engine.apt_install(*arguments.name)
        case "down":
            compose.down()
        case "status":
            print(*(f"{name}={value}" for name, value in compose.settings().items()), sep="\n")
            print(compose.compose("ps", "--all"))


if __name__ == "__main__":
    sys.exit(main())
