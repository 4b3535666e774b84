"""docs/features.md tells the truth: each row's test and example are there, and no feature is missing."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
HEADER = ["feature", "here", "test", "example"]


class Row(NamedTuple):
    section: str
    feature: str
    here: str
    test: str
    example: str


def rows() -> list[Row]:
    found: list[Row] = []
    section = ""
    for line in (ROOT / "docs" / "features.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("|"):
            # A cell may hold a vertical bar, escaped.
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if cells != HEADER and set("".join(cells)) != {"-"}:
                assert len(cells) == len(HEADER), line
                found.append(Row(section, *cells))
    return found


ROWS = rows()
BY_FEATURE = pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.section}: {row.feature}".replace("`", "")) for row in ROWS]
)


@functools.cache
def functions_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@BY_FEATURE
def test_the_test_of_a_feature_is_there(row: Row) -> None:
    named = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)(\[[^\]]+\])?`", row.test)
    assert named, row.test
    assert named[2] in functions_in(named[1]), row.test


@BY_FEATURE
def test_the_example_of_a_feature_is_there_and_is_run(row: Row) -> None:
    named = re.fullmatch(r"`examples/(\w+)\.py`", row.example)
    assert named, row.example
    assert (ROOT / "examples" / f"{named[1]}.py").exists()
    # `make demo` breaks brokers, and says itself whether all went well.
    assert named[1] == "demo" or (ROOT / "tests" / "examples" / f"{named[1]}.regex").exists()


def test_no_feature_has_two_rows() -> None:
    features = [(row.section, row.feature) for row in ROWS]
    assert len(features) == len(set(features))
