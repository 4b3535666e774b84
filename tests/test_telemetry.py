"""What telemetry promises without a broker: its instruments are documented, and it is an extra."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from actorstream import telemetry
from actorstream.telemetry.instruments import COUNTED, READINGS

PAGE = (Path(__file__).parent.parent / "docs" / "observing.md").read_text()
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", PAGE, flags=re.MULTILINE))


def test_every_instrument_is_documented_with_its_unit() -> None:
    assert {one.name: one.unit for one in telemetry.INSTRUMENTS.values()} == ROWS


def test_every_instrument_has_something_to_tell() -> None:
    counted = {one.instrument for several in COUNTED.values() for one in several}
    assert set(READINGS) | counted | {"actorstream.connection.count"} == set(telemetry.INSTRUMENTS)
    assert not set(READINGS) & counted


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


@pytest.mark.parametrize("imported", ["actorstream", "actorstream.blocking"])
def test_who_does_not_ask_for_it_does_not_load_it(imported: str) -> None:
    assert run(f"import sys, {imported}; print('opentelemetry' in sys.modules)") == "False"


def test_without_the_api_the_error_names_the_extra() -> None:
    said = run(
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    from actorstream import telemetry\nexcept ImportError as error:\n    print(error)"
    )
    assert said == "actorstream.telemetry needs the OpenTelemetry API: pip install 'actorstream[telemetry]'"
