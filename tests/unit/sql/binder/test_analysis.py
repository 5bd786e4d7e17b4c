"""The binder says what a PostgreSQL 15 server says (recorded by ``record_answers.py``)."""

from pathlib import Path

import pytest
from analysis import answer, read_golden
from binder_schema import make_catalog

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "binder" / "analysis.golden"
CATALOG = make_catalog()


@pytest.mark.parametrize(
    ("statement", "expected"), [pytest.param(s, a, id=s) for s, a in read_golden(GOLDEN)]
)
def test_same_answer_as_the_server(statement: str, expected: str) -> None:
    assert answer(statement, CATALOG) == expected
