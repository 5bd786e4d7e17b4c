"""Runs corpus statements against a server and compares two answers.

An answer has the simple protocol's reply and, for queries that change nothing, the extended
protocol's reply with binary results; for one row of results also the reply to ``SELECT $1, ...``
with those binary values sent back as parameters. Differences are either hard (columns with type,
size and modifier, rows, tag, SQLSTATE, message, position, transaction status, raw binary bytes) or
soft (detail, hint, object names, notices): soft ones are printed and do not count.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from wire import Connection, Reply, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from statements import Statement

Answer = dict[str, Any]

_HARD_ERROR_FIELDS: Final = ("message", "position", "severity")
_SOFT_ERROR_FIELDS: Final = (
    "detail",
    "hint",
    "schema",
    "table",
    "column",
    "datatype",
    "constraint",
)
_NO_BINARY_INPUT: Final = {705, 2249, 2287, 1033, 1034}  # unknown, record, record[], aclitem
_ECHO_COLUMNS_MAX: Final = 20


class Server:
    """A running server and the sessions of one corpus file on it."""

    def __init__(self, host: str, port: int, *, user: str, maintenance: str) -> None:
        self.host = host
        self.port = port
        self.user = user
        self.maintenance = maintenance

    def connect(self, database: str) -> Connection:
        """Open a session."""
        return Connection(self.host, self.port, user=self.user, database=database)

    def administer(self, *commands: str) -> list[Reply]:
        """Run commands in the maintenance database, errors are in the replies."""
        session = self.connect(self.maintenance)
        try:
            return [session.simple(command) for command in commands]
        finally:
            session.close()


def run_file(server: Server, name: str, statements: list[Statement]) -> Iterator[Answer]:
    """Yield the answer to each statement, in a database of the file's own."""
    database = f"corpus_{name.split('_', maxsplit=1)[0]}"
    replies = server.administer(
        f"drop database if exists {database}", f"create database {database}"
    )
    error = replies[-1].get("error")
    if error is not None:
        raise WireError(f"cannot create {database}: {error}")
    session = server.connect(database)
    try:
        for statement in statements:
            try:
                yield _run(server, session, statement)
            except (WireError, OSError, ValueError) as problem:
                yield {
                    "simple": {"results": [], "error": {"sqlstate": "-", "message": str(problem)}}
                }
                session.close()
                session = server.connect(database)
    finally:
        session.close()
        with suppress(WireError, OSError):
            server.administer(f"drop database if exists {database}")


def _run(server: Server, session: Connection, statement: Statement) -> Answer:
    if statement.is_meta_command:
        return {"psql": _psql(server, session.database, statement.sql)}
    reply = session.simple(statement.sql, statement.copy_data)
    answer: Answer = {"simple": reply}
    if "error" in reply or not statement.is_plain_query:
        return answer
    binary = session.extended(statement.sql)
    answer["binary"] = binary
    columns = binary["results"][0].get("columns", []) if binary["results"] else []
    rows = binary["results"][0].get("rows", []) if columns else []
    oids = [column[1] for column in columns]
    if (
        "error" not in binary
        and len(rows) == 1
        and 0 < len(oids) <= _ECHO_COLUMNS_MAX
        and not any(oid in _NO_BINARY_INPUT or oid == "user" for oid in oids)
    ):
        answer["echo"] = _echo(session, tuple(oids), rows[0])
    return answer


def _echo(session: Connection, oids: tuple[int, ...], row: list[str | None]) -> Reply:
    """Send one row's binary values back and ask for their text."""
    placeholders = ", ".join(f"${number + 1}" for number in range(len(oids)))
    values = tuple(None if value is None else bytes.fromhex(value) for value in row)
    reply = session.extended(
        f"select {placeholders}", oids, values, binary_values=True, binary_results=False
    )
    return {"rows": [result.get("rows") for result in reply["results"]],
            **({"error": reply["error"]} if "error" in reply else {})}  # fmt: skip


def _psql(server: Server, database: str, command: str) -> str | None:
    """Run one meta-command in psql; None when there is no psql."""
    program = shutil.which("psql")
    if program is None:
        return None
    finished = subprocess.run(
        [program, "-X", "-h", server.host, "-p", str(server.port), "-U", server.user,
         "-d", database, "-c", command],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return finished.stdout + finished.stderr


def _canonical_rows(rows: list[Any], *, ordered: bool) -> list[Any]:
    return rows if ordered else sorted(rows, key=json.dumps)


def _compare_error(what: str, expected: Reply, actual: Reply) -> tuple[list[str], list[str]]:
    hard: list[str] = []
    soft: list[str] = []
    wanted = expected.get("error") or {}
    found = actual.get("error") or {}
    if wanted.get("sqlstate") != found.get("sqlstate"):
        hard.append(f"{what} sqlstate: {_error_text(wanted)} | {_error_text(found)}")
        return hard, soft
    for fields, differences in ((_HARD_ERROR_FIELDS, hard), (_SOFT_ERROR_FIELDS, soft)):
        differences.extend(
            f"{what} {field}: {wanted.get(field)!r} | {found.get(field)!r}"
            for field in fields
            if wanted.get(field) != found.get(field)
        )
    return hard, soft


def _error_text(error: dict[str, str]) -> str:
    if not error:
        return "no error"
    return f"{error.get('sqlstate')} {error.get('message')} at {error.get('position')}"


def _compare_reply(
    what: str, expected: Reply, actual: Reply, *, ordered: bool
) -> tuple[list[str], list[str]]:
    hard, soft = _compare_error(what, expected, actual)
    if expected.get("status") != actual.get("status"):
        hard.append(f"{what} status: {expected.get('status')} | {actual.get('status')}")
    if hard:
        return hard, soft
    # A failed query may have sent its columns already or not: only complete results count.
    wanted = [result for result in expected["results"] if "tag" in result]
    found = [result for result in actual["results"] if "tag" in result]
    if len(wanted) != len(found):
        hard.append(f"{what} number of results: {len(wanted)} | {len(found)}")
    for one, other in zip(wanted, found, strict=False):
        for field in ("columns", "tag", "copy"):
            if one.get(field) != other.get(field):
                hard.append(f"{what} {field}: {one.get(field)} | {other.get(field)}")
        rows = _canonical_rows(one.get("rows", []), ordered=ordered)
        others = _canonical_rows(other.get("rows", []), ordered=ordered)
        if rows != others:
            hard.append(f"{what} rows: {rows[:12]} | {others[:12]}")
    notices = [(one.get("sqlstate"), one.get("message")) for one in expected.get("notices", [])]
    others = [(one.get("sqlstate"), one.get("message")) for one in actual.get("notices", [])]
    if notices != others:
        soft.append(f"{what} notices: {notices} | {others}")
    return hard, soft


def compare(statement: Statement, expected: Answer, actual: Answer) -> tuple[list[str], list[str]]:
    """Return the hard and the soft differences, each as ``what: PostgreSQL | nodedb``."""
    if statement.is_meta_command:
        wanted, found = expected.get("psql"), actual.get("psql")
        if found is None or wanted == found:
            return [], []
        return [f"psql output:\n{wanted}|\n{found}"], []
    ordered = statement.is_ordered
    hard, soft = _compare_reply("", expected["simple"], actual["simple"], ordered=ordered)
    if hard:
        return hard, soft
    if "binary" in expected:
        more_hard, _ = _compare_reply(
            "binary", expected["binary"], actual.get("binary", {"results": []}), ordered=ordered
        )
        hard += more_hard
    if not hard and "echo" in expected and expected["echo"] != actual.get("echo"):
        hard.append(f"binary input: {expected['echo']} | {actual.get('echo')}")
    return hard, soft
