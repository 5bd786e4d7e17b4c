"""Plans in the form of ``describe_plan``; GOLDEN_REWRITE=1 writes them anew for review."""

import os
from pathlib import Path

import pytest
from analysis import read_golden, write_golden
from binder_schema import make_catalog

from sql.binder import bind_statement
from sql.binder.describe import describe_plan
from sql.parser import parse_statements

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "binder" / "plans.golden"
CATALOG = make_catalog()


def plan_of(statement: str) -> str:
    return describe_plan(bind_statement(parse_statements(statement)[0].statement, CATALOG).plan)


if os.environ.get("GOLDEN_REWRITE"):
    write_golden(GOLDEN, [(s, plan_of(s)) for s, _ in read_golden(GOLDEN)])


@pytest.mark.parametrize(
    ("statement", "expected"), [pytest.param(s, p, id=s) for s, p in read_golden(GOLDEN)]
)
def test_plan(statement: str, expected: str) -> None:
    assert plan_of(statement) == expected
