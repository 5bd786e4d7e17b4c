"""Runs of the SQL generator: the same statement on the node and on a PostgreSQL server.

A statement's outcome is ("ok", tag, sorted rows) or ("error", SQLSTATE). Each runs in a transaction
that is rolled back.
Numbers that look like float8 are compared to 12 digits.
"""

import os
import re
import select
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import pq

from tests.fuzz.reduce import reduce_text
from tests.fuzz.sql_grammar import SqlGenerator
from tests.fuzz.sql_tables import SETUP
from tests.fuzz.wire_run import Limits, case_random

POSTGRES_VARIABLE = "NODEDB_FUZZ_POSTGRES"
POSTGRES_DEFAULT = "host=127.0.0.1 port=55432 user=postgres dbname=postgres connect_timeout=3"
DATABASE = "nodedb_fuzz"
STATEMENT_SECONDS = 20.0
_RUN_TIME = ("21", "22", "23", "0A000")
_FLOAT = re.compile(rb"^-?\d+(\.\d+)?(e[+-]?\d+)?$")

Outcome = tuple[object, ...]


def postgres_dsn() -> str:
    """Return how to reach the server to compare with."""
    return os.environ.get(POSTGRES_VARIABLE, POSTGRES_DEFAULT)


def why_no_postgres() -> str:
    """Return why the comparison cannot run; "" when it can."""
    try:
        with psycopg.connect(postgres_dsn()) as connection:
            if connection.info.server_version // 10000 != 15:
                return "the server to compare with is not PostgreSQL 15"
    except psycopg.OperationalError as error:
        return f"no PostgreSQL to compare with ({POSTGRES_VARIABLE}): {error}"
    return ""


class Hang(Exception):
    """A statement did not end, statement_timeout notwithstanding."""


class Subject:
    """One side of the comparison."""

    def __init__(self, name: str, dsn: str) -> None:
        self.name = name
        self.dsn = dsn
        self._connect()

    def _connect(self) -> None:
        self._connection = psycopg.connect(self.dsn, autocommit=True)
        self._raw = self._connection.pgconn
        for text in (
            "set client_min_messages = error",
            "set statement_timeout = '5s'",
            "set timezone = 'UTC'",
        ):
            self.ask(text)

    def ask(self, text: str) -> Outcome:
        """Run one simple query; the outcome of its last statement, or of the one that failed."""
        raw = self._raw
        raw.send_query(text.encode())
        deadline = time.monotonic() + STATEMENT_SECONDS
        while raw.flush():
            select.select([raw.socket], [raw.socket], [], 1)
        last: pq.abc.PGresult | None = None
        while True:
            while raw.is_busy():
                readable, _, _ = select.select(
                    [raw.socket], [], [], max(deadline - time.monotonic(), 0)
                )
                if not readable:
                    raise Hang(text)
                raw.consume_input()
            result = raw.get_result()
            if result is None:
                break
            if last is None or last.status != pq.ExecStatus.FATAL_ERROR:
                last = result
        assert last is not None
        return _outcome(last)

    def statement(self, text: str) -> Outcome:
        """Run one statement in a transaction of its own, and roll it back."""
        self.ask("begin")
        try:
            return self.ask(text)
        finally:
            self.ask("rollback")

    def reconnect(self) -> None:
        """Go on with another connection."""
        self._connection.close()
        self._connect()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def _outcome(result: "pq.abc.PGresult") -> Outcome:
    if result.status == pq.ExecStatus.FATAL_ERROR:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        return ("error", (state or b"?").decode(), message.decode(errors="replace"))
    rows = [
        tuple(_value(result, row, column) for column in range(result.nfields))
        for row in range(result.ntuples)
    ]
    return ("ok", (result.command_status or b"").decode(), sorted(rows, key=repr))


def _value(result: "pq.abc.PGresult", row: int, column: int) -> bytes | None:
    value = result.get_value(row, column)
    if value is not None and result.ftype(column) == 701 and _FLOAT.match(value):
        return f"{float(value):.12g}".encode()
    return value


def difference(expected: Outcome, got: Outcome) -> str:
    """Name the kind of difference, "" if there is none. Messages are not compared."""
    if expected[0] == got[0] == "error":
        return (
            "" if expected[1] == got[1] else f"SQLSTATE {expected[1]} expected, {got[1]} {got[2]!r}"
        )
    if expected[0] == "error":
        return f"{expected[1]} expected, accepted"
    if got[0] == "error":
        return f"accepted expected, {got[1]} {got[2]!r}"
    if expected[1] != got[1]:
        return "another command tag"
    return "" if expected[2] == got[2] else "other rows"


def kind_of(text: str) -> str:
    """Return a difference without what varies from case to case, to tell them apart."""
    return re.sub(r"\"[^\"]*\"", '""', re.sub(r"at or near .*", "", text))


def is_order(expected: Outcome, got: Outcome) -> bool:
    """Tell whether the difference may come from the order of evaluation, which SQL leaves open.

    So it is when a run-time error (class 21, 22, 23, or NaN cast to an integer: 0A000) stands
    against a success or another run-time error.
    """
    states = [outcome[1] for outcome in (expected, got) if outcome[0] == "error"]
    return bool(states) and all(str(state).startswith(_RUN_TIME) for state in states)


@dataclass
class Report:
    """What a run found: one entry per kind of difference, with its smallest statement."""

    done: int = 0
    accepted: int = 0
    found: dict[str, tuple[str, str]] = field(default_factory=dict)
    order: dict[str, tuple[str, str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def write(self, path: Path, seed: int) -> None:
        """Write the findings file."""
        lines = [
            f"# SQL fuzzing: seed {seed}, {self.done} statements,"
            f" {self.accepted} accepted by PostgreSQL"
        ]
        for kind, (statement, details) in [
            *sorted(self.found.items()),
            *sorted(self.order.items()),
        ]:
            prefix = "perhaps the order of evaluation: " if kind in self.order else ""
            lines += [
                "",
                f"## {prefix}{kind} ({self.counts[kind]} times)",
                "",
                f"    {statement}",
                "",
                details,
            ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(node_dsn: str) -> tuple[Subject, Subject]:
    """Connect to both and make the tables."""
    with psycopg.connect(postgres_dsn(), autocommit=True) as connection:
        if (
            connection.execute(
                "select 1 from pg_database where datname = %s", (DATABASE,)
            ).fetchone()
            is None
        ):
            connection.execute(
                f"create database {DATABASE} template template0 encoding 'UTF8'"
                " lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8'"
            )
    postgres = Subject("PostgreSQL", f"{postgres_dsn()} dbname={DATABASE}")
    node = Subject("node", node_dsn)
    for subject in (postgres, node):
        for statement in filter(str.strip, SETUP.split(";")):
            outcome = subject.ask(statement)
            assert outcome[0] == "ok", (subject.name, statement, outcome)
    return postgres, node


def run_sql(node_dsn: str, seed: int, limits: Limits) -> Report:
    """Compare generated statements; Hang and lost connections pass through, with the statement."""
    postgres, node = prepare(node_dsn)
    report = Report()
    try:
        for number in limits.cases():
            text = SqlGenerator(case_random(seed, number)).statement()
            _one(postgres, node, text, report, f"seed {seed}, case {number}")
    finally:
        postgres.close()
        node.close()
    return report


def _one(postgres: Subject, node: Subject, text: str, report: Report, where: str) -> None:
    expected = postgres.statement(text)
    try:
        got = node.statement(text)
    except Exception as error:
        error.add_note(f"{where}: {text}")
        raise
    report.done += 1
    report.accepted += expected[0] == "ok"
    found = difference(expected, got)
    if not found:
        return
    kind = kind_of(found)
    report.counts[kind] = report.counts.get(kind, 0) + 1
    where_found = report.order if is_order(expected, got) else report.found
    if kind in where_found:
        return
    wanted = expected[0]

    def shows(candidate: str) -> bool:
        first = postgres.statement(candidate)
        return first[0] == wanted and kind_of(difference(first, node.statement(candidate))) == kind

    small = reduce_text(text, shows)
    answers = "".join(
        f"{subject.name}: {subject.statement(small)!r:.600}\n" for subject in (postgres, node)
    )
    answers += f"({where})"
    where_found[kind] = (small, answers)
