"""Damaged statements: parsing and binding end in a bound statement or in an SQL error, always.

The seed is in the test's name; the statements are those of the recorded analysis.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Final

import pytest
from analysis import read_golden
from binder_schema import make_catalog

from sql.ast.query import Delete, Insert, Select, SetOperation, Update, Values
from sql.binder import bind_statement, column_privileges
from sql.errors import SqlError
from sql.parser import parse_statements

GOLDEN: Final = Path(__file__).resolve().parents[3] / "golden" / "binder" / "analysis.golden"
CATALOG: Final = make_catalog()
TOKEN: Final = re.compile(r"'(?:[^']|'')*'|\w+|\s+|[-+*/<>=~!@#%^&|?:]+|.", re.DOTALL)
STATEMENTS: Final = [TOKEN.findall(statement) for statement, _ in read_golden(GOLDEN)]
POOL: Final = [token for tokens in STATEMENTS for token in tokens if not token.isspace()]
INSERTED: Final = (
    "null", "(", ")", "*", ",", "::", "[1]", "[1:2]", "(select 1)", "array[1]", "row(1,2)", ".x",
    "over ()", "distinct", "lateral", "$1", "default", "1e400", "'\\x'", "::int[]",
    "::jsonb", "::date", "within group (order by 1)", "t.*", "= any", "for update",
    "union select 1",
)  # fmt: skip
MUTATIONS: Final = 1500
DML: Final = (Select, Values, SetOperation, Insert, Update, Delete)


def mutate(rng: random.Random) -> str:
    tokens = list(rng.choice(STATEMENTS))
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(tokens) + 1)
        match rng.randrange(5):
            case 0:
                del tokens[at : at + 1]
            case 1:
                tokens.insert(at, f" {rng.choice(POOL)} ")
            case 2:
                tokens.insert(at, f" {rng.choice(INSERTED)} ")
            case 3:
                tokens[at : at + 1] = [rng.choice(POOL)]
            case _:
                other = rng.choice(STATEMENTS)
                start = rng.randrange(len(other))
                tokens[at:at] = other[start : start + rng.randrange(1, 6)]
    return "".join(tokens)


@pytest.mark.parametrize("seed", [1, 2])
def test_only_sql_errors(seed: int) -> None:
    rng = random.Random(seed)
    bound = 0
    for _ in range(MUTATIONS):
        text = mutate(rng)
        try:
            for parsed in parse_statements(text):
                if isinstance(parsed.statement, DML):
                    column_privileges(bind_statement(parsed.statement, CATALOG))
                    bound += 1
        except SqlError:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {text!r}") from error
    assert bound > MUTATIONS // 50
