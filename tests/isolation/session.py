"""A scripted session: one connection by libpq that is never waited for longer than one likes.

``send`` starts a statement, ``take_answer`` returns its answer once it is complete. Between the two
the session may stand still for as long as the script likes. Built on libpq's asynchronous calls, so
one thread drives all sessions of a script, and every answer is what the server sent: text values,
command tags, errors, notices.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from psycopg import pq

Protocol = Literal["simple", "extended"]

_SHOWN_TRANSACTION: Final = {
    pq.TransactionStatus.IDLE: "idle",
    pq.TransactionStatus.INTRANS: "open",
    pq.TransactionStatus.INERROR: "failed",
}
# What these errors add to their message names processes, or is PostgreSQL's own reasoning.
_DETAIL_HIDDEN: Final = ("40001", "40P01")
# Of a duplicate name in PostgreSQL's own catalog, whose detail is made of OIDs.
_CATALOG_INDEX: Final = 'unique constraint "pg_'


class SessionFailed(Exception):
    """The connection broke, or could not be made."""


@dataclass(slots=True)
class Answer:
    """What came back for one statement.

    ``lines`` is how a transcript shows it; ``state`` the transaction's state after it: "idle",
    "open", "failed".
    """

    lines: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    sqlstate: str = ""
    state: str = ""
    rows: list[list[str]] = field(default_factory=list)


class Session:
    """One connection and the statement it is running, if any."""

    def __init__(self, name: str, dsn: str, protocol: Protocol = "simple") -> None:
        self.name = name
        self._protocol = protocol
        self._connection = pq.PGconn.connect(dsn.encode())
        if self._connection.status != pq.ConnStatus.OK:
            raise SessionFailed(self._connection.error_message.decode())
        self._connection.notice_handler = self._on_notice
        self._answer = Answer()
        self.is_running = False
        self.process_id = self._connection.backend_pid

    @property
    def socket(self) -> int:
        """The file descriptor that becomes readable when an answer comes."""
        return self._connection.socket

    def send(self, statement: str) -> None:
        """Start a statement."""
        assert not self.is_running, f"session {self.name} is still running a statement"
        self._answer = Answer()
        self.is_running = True
        if self._protocol == "simple":
            self._connection.send_query(statement.encode())
        else:
            self._connection.send_query_params(statement.encode(), None)

    def take_answer(self) -> Answer | None:
        """Return the answer if all of it has come; never waits."""
        self._connection.consume_input()
        while not self._connection.is_busy():
            result = self._connection.get_result()
            if result is None:
                self.is_running = False
                status = pq.TransactionStatus(self._connection.transaction_status)
                self._answer.state = _SHOWN_TRANSACTION.get(status, "broken")
                return self._answer
            self._add(result)
        return None

    def close(self) -> None:
        """Say goodbye; a statement that still runs is left to the server."""
        self._connection.finish()

    def _add(self, result: pq.abc.PGresult) -> None:
        answer = self._answer
        match pq.ExecStatus(result.status):
            case pq.ExecStatus.TUPLES_OK:
                answer.lines.append(" | ".join(_names(result)))
                rows = _rows(result)
                answer.rows += rows
                answer.lines += [" | ".join(row) for row in rows]
                self._add_tag(result)
            case pq.ExecStatus.COMMAND_OK:
                self._add_tag(result)
            case pq.ExecStatus.FATAL_ERROR:
                answer.sqlstate = _field(result, pq.DiagnosticField.SQLSTATE)
                answer.lines += _message(result)
            case status:
                answer.lines.append(status.name)

    def _add_tag(self, result: pq.abc.PGresult) -> None:
        tag = (result.command_status or b"").decode()
        self._answer.tags.append(tag)
        self._answer.lines.append(tag)

    def _on_notice(self, result: pq.abc.PGresult) -> None:
        self._answer.lines += _message(result)


def _names(result: pq.abc.PGresult) -> list[str]:
    return [(result.fname(column) or b"").decode() for column in range(result.nfields)]


def _rows(result: pq.abc.PGresult) -> list[list[str]]:
    rows = []
    for row in range(result.ntuples):
        values = [result.get_value(row, column) for column in range(result.nfields)]
        rows.append(["NULL" if value is None else value.decode() for value in values])
    return rows


def _field(result: pq.abc.PGresult, name: pq.DiagnosticField) -> str:
    return (result.error_field(name) or b"").decode()


def _message(result: pq.abc.PGresult) -> list[str]:
    sqlstate = _field(result, pq.DiagnosticField.SQLSTATE)
    severity = _field(result, pq.DiagnosticField.SEVERITY)
    message = _field(result, pq.DiagnosticField.MESSAGE_PRIMARY)
    lines = [f"{severity} {sqlstate}: {message}"]
    detail = _field(result, pq.DiagnosticField.MESSAGE_DETAIL)
    if detail and sqlstate not in _DETAIL_HIDDEN and _CATALOG_INDEX not in message:
        lines += f"DETAIL: {detail}".splitlines()
    return lines
