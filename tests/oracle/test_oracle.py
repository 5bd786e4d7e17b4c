"""The same SQL says the same on nodedb as PostgreSQL 15 said when it was recorded.

One test per corpus file; a difference is accepted only when the corpus marks it ``@differs`` with a
reason (by design) or ``@open`` (a defect not mended yet), and a mark whose difference is gone fails
as stale. Together they stay below 2 %, and open defects are not accepted any more. ``report.py`` prints all differences.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from compat import PAGE, render_page
from node_process import nodedb
from runner import Answer, Server, compare, run_file
from statements import RECORDED, corpus_files, read_statements

from sql.functions.builtin import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATEMENTS_MIN: Final = 1500
DIFFERING_SHARE_MAX: Final = 0.02
OPEN_DEFECTS_MAX: Final = 0
ERROR_SHARE_MIN: Final = 1 / 3
FUNCTION_NAMED_MIN: Final = 3
# Reached through operators, casts and psql rather than by name.
_UNNAMED: Final = re.compile(
    r"pg_|has_|acl|inet_|to_regoper|txid_|row_security|like_escape|getpgusername"
    r"|(not)?i?like|similar_|is_normalized|oidvectortypes|textlen|anytextcat|textanycat|xid$"
    r"|json_(array_element|object_field)(_text)?$|.*_pattern_|d(cbrt|exp|log1|log10|pow|round|sqrt|trunc)$"
    r"|(int|float|numeric|date|time|interval|text|bpchar|name|byte|char|oid|xid|cid|tid|uuid|bool)"
    r"[a-z0-9]*_?(abs|um|up|inc|dec|uminus|uplus|exp|ln|log|power|sqrt|div_trunc|sub|add)$"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nodedb() as running:
        yield running


def _recorded(path: Path) -> list[Answer]:
    lines = (RECORDED / f"{path.stem}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_answers_as_postgresql(path: Path, server: Server) -> None:
    statements = read_statements(path)
    problems: list[str] = []
    answers = run_file(server, path.stem, statements)
    for statement, expected, actual in zip(statements, _recorded(path), answers, strict=True):
        hard, _soft = compare(statement, expected, actual)
        where = f"{path.name}:{statement.line}: {statement.sql}"
        mark = statement.differs or statement.open_defect
        if hard and not mark:
            problems.append(where + "".join(f"\n    {text}" for text in hard))
        was_run = not statement.is_meta_command or actual["psql"] is not None
        if mark and not hard and was_run:
            problems.append(f"{where}\n    stale mark: {mark}")
    assert not problems, f"PostgreSQL | nodedb ({len(problems)} statements)\n" + "\n".join(problems)


@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_recording_belongs_to_the_corpus(path: Path) -> None:
    recorded = [answer["sql"] for answer in _recorded(path)]
    assert recorded == [statement.sql for statement in read_statements(path)]


def test_every_function_is_named() -> None:
    text = "\n".join(path.read_text(encoding="utf-8").lower() for path in corpus_files())
    counts = Counter(re.findall(r"[a-z_][a-z0-9_]*", text))
    behind = {one.function.name for group in REGISTRY.operators.values() for one in group}
    names = {*REGISTRY.functions, *REGISTRY.aggregates, *REGISTRY.windows} - behind
    seldom = sorted(
        name
        for name in names
        if not _UNNAMED.match(name) and counts[name.lower().rpartition(".")[2]] < FUNCTION_NAMED_MIN
    )
    assert not seldom, f"named less than {FUNCTION_NAMED_MIN} times: {seldom}"


def test_breadth_errors_and_the_limit_of_differences() -> None:
    sources = set()
    total = errors = marked = defects = 0
    for path in corpus_files():
        for statement, answer in zip(read_statements(path), _recorded(path), strict=True):
            total += 1
            sources.add(statement.sql)
            errors += "error" in answer.get("simple", {})
            marked += bool(statement.differs)
            defects += bool(statement.open_defect)
    assert len(sources) >= STATEMENTS_MIN
    assert errors >= total * ERROR_SHARE_MIN
    assert marked <= total * DIFFERING_SHARE_MAX, f"{marked} of {total} are marked as different"
    assert defects <= OPEN_DEFECTS_MAX, f"{defects} open defects: mend some before adding others"


def test_compatibility_page_lists_every_difference() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "run: python tests/oracle/compat.py"
