"""docs/failures.md tells the truth: each way to fail has its row, and each row a test that is there, or a reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")]
    for line in (ROOT / "docs" / "failures.md").read_text().splitlines()
    if line.startswith("| F")
]


def test_every_number_has_its_row() -> None:
    assert [row[0] for row in ROWS] == [f"F{number:02}" for number in range(1, 93)]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_names_tests_that_are_there_and_carry_its_number(row: list[str]) -> None:
    number, _what, _here, shown = row
    named = re.findall(r"`([^`]+)::([^`]+)`", shown)
    if not named:
        assert "told in [recovery.md]" in shown
        return
    for path, name in named:
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        assert name in functions
        assert f"_{number.lower()}_" in name
