"""Some 250 queries with the answers PostgreSQL 15 gave on the same random rows.

Each block of tests/golden/planner/answers.txt is a query, ``----``, the rows as ``psql -At``
prints them (NULL is ∅) or the error. Order counts where the query's outermost level sorts.
"""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import pytest

from sql.catalog.descriptor import Index, IndexKey
from sql.errors import SqlError
from sql.types.catalog import FLOAT8, INT4, INT8, NUMERIC, TEXT
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner

ANSWERS = Path(__file__).resolve().parents[4] / "tests" / "golden" / "planner" / "answers.txt"
BLOCKS = [
    tuple(block.split("\n----\n"))
    for block in ANSWERS.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
]


def database() -> Runner:
    """The tables that the answers were recorded on: seed 3."""
    rng = random.Random(3)
    descending = IndexKey(position=2, descending=True, nulls_first=True)
    indexes = [
        Index(id=21001, name="t_b_idx", index_id=2, keys=(IndexKey(position=1),)),
        Index(id=21002, name="t_cb_idx", index_id=3, keys=(descending, IndexKey(position=1))),
    ]
    columns = [
        ("a", INT4, {"not_null": True}),
        ("b", INT4),
        ("c", TEXT),
        ("d", NUMERIC),
        ("e", FLOAT8),
    ]
    t = make_table("t", columns, ["a"], table_id=20001, indexes=indexes)
    by_x = Index(id=21003, name="u_x_idx", index_id=2, keys=(IndexKey(position=0),))
    u = make_table("u", [("x", INT4), ("y", TEXT), ("z", INT8)], (), table_id=20002, indexes=[by_x])
    required = {"not_null": True}
    w = make_table(
        "w", [("p", INT4, required), ("q", INT4, required), ("v", TEXT)], ["p", "q"], table_id=20003
    )
    numerics = [None, Decimal("1.5"), Decimal("2.25"), Decimal(-3), Decimal("1.50")]
    floats = [None, 0.5, 1.25, -2.0, float("inf"), float("nan")]
    runner = Runner(t, u, w)
    runner.load(
        "t",
        [
            (
                n,
                rng.choice([None, 1, 2, 3, 4, 5, 6, 7]),
                rng.choice([None, "abc", "abd", "x", "y%z", "q"]),
                rng.choice(numerics),
                rng.choice(floats),
            )
            for n in range(1, 41)
        ],
    )
    runner.load(
        "u",
        [
            (
                rng.choice([None, 1, 2, 3, 4, 5, 9]),
                rng.choice(["one", "two", None, "abc"]),
                rng.choice([None, 1, 2, 30]),
            )
            for _ in range(15)
        ],
    )
    runner.load("w", [(p, q, f"v{p}{q}") for p in range(1, 6) for q in range(1, 5)])
    return runner


@pytest.fixture(scope="module")
def db() -> Runner:
    return database()


@pytest.mark.parametrize(("query", "answer"), BLOCKS)
def test_answer(db: Runner, query: str, answer: str) -> None:
    expected = [] if answer == "(no rows)" else answer.split("\n")
    try:
        rows = db.texts(query)
        found = ["|".join("∅" if v is None else v for v in row) for row in rows]
    except SqlError as error:
        found = [f"ERROR:  {error.sqlstate}: {error.message}"]
    if " order by" not in query.rpartition(")")[2]:
        found.sort()
        expected.sort()
    assert found == expected
