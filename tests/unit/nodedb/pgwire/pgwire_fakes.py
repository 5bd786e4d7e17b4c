"""A scripted session that needs no SQL engine, and a wire client that prints messages.

The fake's "SQL" is a verb and words, statements are separated by ``;``::

    select 1           one int4 row               numbers N      N rows (n int4, word text)
    tag TEXT           a tag, no rows             echo           the bound parameters, as text
    fail | crash       SqlError | RuntimeError    notice TEXT    a notice, tag NOTICE
    begin | commit     block status               set NAME VALUE a reported parameter changes
    copy in | copy out N                          wait           waits for ``session.gate``
    die                57P01 from the session     badcommit      the commit in ``finish`` fails
    waitcommit         waits for the gate as a commit does: nothing interrupts it
    broken KIND        a StorageError             wide N BYTES   N rows of a text of BYTES bytes
    many N             N rows at once, in one batch
"""

from collections.abc import Callable, Sequence
from typing import Any

from nodedb.errors import DiskFull, LogCorrupted, MapFull, StorageError, StoreCorrupted
from nodedb.pgwire.auth import make_scram_secret
from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.connection import Connection
from nodedb.pgwire.handshake import Door
from nodedb.session.api import (
    Credential,
    Notice,
    Notification,
    Result,
    ResultColumn,
    StatementDescription,
)
from nodedb.waiter import Interrupts, Waiter
from sql.errors import (
    AdminShutdown,
    BadCopyFileFormat,
    DivisionByZero,
    InvalidCatalogName,
    InvalidCursorName,
    InvalidSqlStatementName,
    QueryCanceled,
    SerializationFailure,
    SqlError,
    SqlSyntaxError,
)
from sql.types import catalog

ONE = (ResultColumn("?column?", catalog.INT4),)
NUMBERS = (ResultColumn("n", catalog.INT4, -1, 16384, 1), ResultColumn("word", catalog.TEXT))
BATCH = 100
STORAGE_ERRORS = {
    "full": DiskFull("no room in /secret/path"),
    "map": MapFull("the map is full"),
    "page": StoreCorrupted("page 7"),
    "log": LogCorrupted("segment", 4096, "bad crc"),
    "disk": StorageError("fdatasync: Input/output error"),
}


class FakeFormat:
    date_style = "ISO, MDY"
    interval_style = "postgres"
    time_zone = "UTC"
    extra_float_digits = 1
    bytea_output = "hex"


class FakeCopyIn:
    format_binary = False
    column_count = 2

    def __init__(self, session: "FakeSession") -> None:
        self.received = b""
        self.session = session

    async def data(self, chunk: bytes) -> None:
        if chunk.startswith(b"bad"):
            raise BadCopyFileFormat("extra data after last expected column")
        self.received += chunk

    async def done(self) -> str:
        self.session.copied.append(self.received)
        return f"COPY {self.received.count(10)}"

    def fail(self, message: str) -> None:
        raise QueryCanceled(f"COPY from stdin failed: {message}")


class FakeCopyOut:
    format_binary = False
    column_count = 2

    def __init__(self, count: int) -> None:
        self.lines = [f"{n}\tx{n}\n".encode() for n in range(count)]

    async def next_chunk(self) -> list[bytes]:
        chunk, self.lines = self.lines[:BATCH], self.lines[BATCH:]
        return chunk


def columns_of(text: str) -> tuple[ResultColumn, ...] | None:
    match text.split():
        case ["select", "1"]:
            return ONE
        case ["numbers", *_]:
            return NUMBERS
        case ["many", _]:
            return NUMBERS
        case ["echo"] | ["wide", _, _]:
            return (ResultColumn("echo", catalog.TEXT),)
    return None


class FakeStep:
    """A step that answers as it is told.

    The answer ``declines``, or waits for the session's gate when ``commits``; what the gate failed
    with is what finishing raises.
    """

    def __init__(self, session: "FakeSession", answer: Any) -> None:
        self._session = session
        self._answer = answer
        self.columns = answer.columns
        self.rows = answer.rows
        self.tag = answer.tag

    def run(self, values: Any, formats: Any) -> Any:
        self._session.log.append(f"step {list(values)} {list(formats)}")
        return self.run_with(())

    def run_with(self, parameters: Any) -> Any:
        del parameters
        if self._answer.declines:
            return None
        return self._session.gate if self._answer.commits else True

    def finish(self, failure: SqlError | None = None) -> None:
        self._session.log.append("finish")
        error = failure or self._session.gate.error
        if error is not None:
            raise error


class FakeSession:
    """See the module. ``log`` holds the calls that change state, in order."""

    def __init__(self, parameters: dict[str, str] | None = None) -> None:
        self.process_id = 77
        self.secret_key = 0xCAFE
        self.format = FakeFormat()
        self.parameters = parameters or {}
        self.transaction_status = b"I"
        self.log: list[str] = []
        self.copied: list[bytes] = []
        self.gate: Waiter[None] = Waiter()
        self.interrupts = Interrupts()
        self.statements: dict[str, str] = {}
        self.portals: dict[str, dict[str, Any]] = {}
        self.notices: list[Notice] = []
        self.notifications: list[Notification] = []
        self.changes: list[tuple[str, str]] = []
        self.is_closed = False
        self.forwarding = None
        self.is_recorded = False
        self.at_once: dict[str, Any] = {}
        self.in_one_step: dict[str, Any] = {}

    def reported_parameters(self) -> list[tuple[str, str]]:
        return [("server_version", "15.8"), ("client_encoding", "UTF8")]

    def take_parameter_changes(self) -> list[tuple[str, str]]:
        taken, self.changes = self.changes, []
        return taken

    def take_notices(self) -> list[Notice]:
        taken, self.notices = self.notices, []
        return taken

    def take_notifications(self) -> list[Notification]:
        if self.transaction_status != b"I":
            return []
        taken, self.notifications = self.notifications, []
        return taken

    @property
    def has_asynchronous(self) -> bool:
        return bool(self.notices or self.notifications or self.changes)

    def step(self, name: str) -> Any:
        """Return the step of a statement named in ``at_once``."""
        answer = self.at_once.get(name)
        return None if answer is None else FakeStep(self, answer)

    def query_step(self, text: str) -> Any:
        step = self.step(text)
        return None if step is None else (step, ())

    async def execute_in_one_step(self, statement: str, values: Any, formats: Any) -> Any:
        """Answer the statements named in ``in_one_step``; an exception there is raised."""
        del values, formats
        answer = self.in_one_step.get(statement)
        if answer is not None:
            self.log.append(f"one step {statement}")
        if isinstance(answer, Exception):
            raise answer
        if answer is not None and "waits" in statement:
            await self.interrupts.wait(self.gate)
        return answer

    def simple_statements(self, text: str) -> list[str]:
        statements = [part.strip() for part in text.split(";") if part.strip()]
        if "syntax" in statements:
            position = text.index("syntax") + 1
            raise SqlSyntaxError('syntax error at or near "syntax"', position=position)
        return statements

    async def execute_simple(self, statement: str, *, is_last: bool) -> Result:
        self.log.append(f"simple {statement}{' last' if is_last else ''}")
        return await self.run(statement, {"parameters": [], "offset": 0}, 0)

    async def run(self, text: str, portal: dict[str, Any], limit: int) -> Result:
        columns = columns_of(text)
        match text.split():
            case ["select", "1"]:
                return Result("SELECT 1", columns, [(1,)])
            case ["numbers", count]:
                return self.numbers(int(count), portal, limit)
            case ["echo"]:
                return Result("SELECT 1", columns, [(repr(portal["parameters"]),)])
            case ["tag", *words]:
                return Result(" ".join(words))
            case ["empty"]:
                result = Result("")
                result.empty = True
                return result
            case ["fail"]:
                raise DivisionByZero("division by zero")
            case ["broken", kind]:
                raise STORAGE_ERRORS[kind]
            case ["wide", count, width]:
                return Result(f"SELECT {count}", columns, [("x" * int(width),)] * int(count))
            case ["many", count]:
                return Result(f"SELECT {count}", columns, [(n, "w") for n in range(int(count))])
            case ["crash"]:
                raise RuntimeError("a bug, with secrets")
            case ["die"]:
                raise AdminShutdown("terminating connection due to administrator command")
            case ["notice", *words]:
                self.notices.append(Notice("NOTICE", "00000", " ".join(words), hint="A hint."))
                return Result("NOTICE")
            case ["begin"]:
                self.transaction_status = b"T"
                return Result("BEGIN")
            case ["commit"]:
                self.transaction_status = b"I"
                return Result("COMMIT")
            case ["set", name, value]:
                self.changes.append((name, value))
                return Result("SET")
            case ["wait"]:
                await self.interrupts.wait(self.gate)
                return Result("WAITED")
            case ["waitcommit"]:
                await self.gate
                return Result("WAITED")
            case ["badcommit"]:
                return self.bad_commit()
            case ["copy", "in"]:
                result = Result("")
                result.copy_in = FakeCopyIn(self)
                return result
            case ["copy", "out", count]:
                result = Result(f"COPY {count}")
                result.copy_out = FakeCopyOut(int(count))
                return result
        raise SqlSyntaxError(f'syntax error at or near "{text.split(maxsplit=1)[0]}"', position=1)

    def bad_commit(self) -> Result:
        async def finish() -> None:
            raise SerializationFailure("could not serialize access")

        result = Result("INSERT 0 1")
        result.finish = finish
        return result

    def numbers(self, count: int, portal: dict[str, Any], limit: int) -> Result:
        start = portal["offset"]
        end = min(count, start + limit) if limit else count
        rows = [(n, None if n % 7 == 3 else f"word {n}") for n in range(start, end)]
        portal["offset"] = end
        result = Result(f"SELECT {end - start}", NUMBERS, rows[:BATCH])
        result.suspended = end < count
        batches = iter([rows[at : at + BATCH] for at in range(BATCH, len(rows), BATCH)])

        async def more() -> Sequence[tuple[Any, ...]]:
            return next(batches, [])

        if len(rows) > BATCH:
            result.more = more
        return result

    async def parse(self, name: str, text: str, parameter_oids: Sequence[int]) -> None:
        if text == "syntax":
            raise SqlSyntaxError('syntax error at or near "syntax"', position=1)
        self.statements[name] = text.rstrip(" ;")

    async def bind(
        self,
        portal: str,
        statement: str,
        parameters: Sequence[bytes | None],
        parameter_formats: Sequence[int],
        result_formats: Sequence[int],
    ) -> None:
        text = self._statement(statement)
        columns = columns_of(text) or ()
        formats = tuple(result_formats)
        if len(formats) <= 1:
            formats = (formats or (0,)) * len(columns)
        self.portals[portal] = {
            "text": text,
            "columns": columns_of(text),
            "formats": formats,
            "parameters": list(parameters),
            "offset": 0,
        }

    def _statement(self, name: str) -> str:
        if name not in self.statements:
            raise InvalidSqlStatementName(f'prepared statement "{name}" does not exist')
        return self.statements[name]

    def _portal(self, name: str) -> dict[str, Any]:
        if name not in self.portals:
            raise InvalidCursorName(f'portal "{name}" does not exist')
        return self.portals[name]

    async def describe_statement(self, name: str) -> StatementDescription:
        text = self._statement(name)
        types = (catalog.INT4, catalog.TEXT) if text == "echo" else ()
        return StatementDescription(types, columns_of(text))

    def describe_portal(self, name: str) -> tuple[tuple[ResultColumn, ...] | None, Sequence[int]]:
        portal = self._portal(name)
        return portal["columns"], portal["formats"]

    def portal_formats(self, name: str) -> Sequence[int]:
        formats: Sequence[int] = self._portal(name)["formats"]
        return formats

    async def execute(self, portal: str, row_limit: int) -> Result:
        found = self._portal(portal)
        return await self.run(found["text"], found, row_limit)

    async def close_statement(self, name: str) -> None:
        self.statements.pop(name, None)

    async def close_portal(self, name: str) -> None:
        self.portals.pop(name, None)

    async def sync(self) -> None:
        self.log.append("sync")

    async def on_error(self, error: Exception) -> None:
        self.log.append(f"error {error}")
        if self.transaction_status == b"T":
            self.transaction_status = b"E"

    def interrupt(self, error: Exception) -> None:
        self.interrupts.interrupt(error)

    async def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True
        self.log.append("close")


class FakeFactory:
    """Knows alice (password "secret"), nologin and nopassword; database missing is missing."""

    def __init__(self) -> None:
        secret = make_scram_secret("secret", b"0123456789abcdef")
        self.credentials = {
            "alice": Credential("alice", secret, may_login=True),
            "nologin": Credential("nologin", secret, may_login=False),
            "nopassword": Credential("nopassword", "", may_login=True),
        }
        self.sessions: list[FakeSession] = []
        self.opened: list[dict[str, Any]] = []
        self.cancelled: list[tuple[int, int]] = []

    def credential(self, role: str) -> Credential | None:
        return self.credentials.get(role)

    def open_session(self, **named: Any) -> FakeSession:
        if named["database"] == "missing":
            raise InvalidCatalogName('database "missing" does not exist')
        self.opened.append(named)
        self.sessions.append(FakeSession(named["parameters"]))
        return self.sessions[-1]

    def cancel(self, process_id: int, secret_key: int) -> None:
        self.cancelled.append((process_id, secret_key))


class FakeIo:
    """Collects what a connection writes; ``take`` empties it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False
        self.is_input_paused = False
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.on_write()

    def pause_input(self) -> None:
        self.is_input_paused = True

    def resume_input(self) -> None:
        self.is_input_paused = False

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data


class Harness:
    """A connection over FakeIo, trusted unless told otherwise."""

    def __init__(
        self,
        settings: PgWireSettings | None = None,
        *,
        is_trusted: bool = True,
        channel_binding: bytes = b"",
        has_tls: bool = False,
        admit: Callable[[], None] = lambda: None,
    ) -> None:
        self.io = FakeIo()
        self.factory = FakeFactory()
        self.tls: Waiter[None] | None = None
        self.ended = 0
        self.events: list[str] = []
        self.door = Door(
            factory=self.factory,
            peer="192.0.2.1:4711",
            is_trusted=is_trusted,
            nonce="server-nonce",
            mock_secret=b"mock",
            channel_binding=channel_binding,
            start_tls=self._start_tls if has_tls else None,
            admit=admit,
            on_startup=lambda: self.events.append("startup"),
            on_authenticated=lambda: self.events.append("authenticated"),
        )
        self.connection = Connection(
            self.io, settings or PgWireSettings(), self.door.open, self._on_end
        )
        self.connection.start()

    def _start_tls(self) -> Waiter[None]:
        self.tls = Waiter()
        self.io.write(b"S")
        return self.tls

    def _on_end(self) -> None:
        self.ended += 1

    @property
    def session(self) -> FakeSession:
        return self.factory.sessions[-1]

    def send(self, data: bytes) -> list[str]:
        """Feed bytes; return the answers as text."""
        self.connection.receive(data)
        return describe(self.io.take())

    def login(self) -> "Harness":
        self.connection.receive(startup(user="alice"))
        assert self.io.take().endswith(b"Z\0\0\0\x05I")
        return self


def startup(version: int = 196608, **parameters: str) -> bytes:
    body = version.to_bytes(4, "big")
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return (len(body) + 4).to_bytes(4, "big") + body


def frame(tag: str, body: bytes = b"") -> bytes:
    return tag.encode() + (len(body) + 4).to_bytes(4, "big") + body


def query(text: str) -> bytes:
    return frame("Q", text.encode() + b"\0")


def parse(text: str, name: str = "") -> bytes:
    return frame("P", name.encode() + b"\0" + text.encode() + b"\0\0\0")


def bind(
    statement: str = "",
    portal: str = "",
    parameters: Sequence[bytes | None] = (),
    formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    def short(value: int) -> bytes:
        return value.to_bytes(2, "big")

    body = portal.encode() + b"\0" + statement.encode() + b"\0"
    body += short(len(formats)) + b"".join(map(short, formats)) + short(len(parameters))
    for value in parameters:
        body += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
    return frame("B", body + short(len(result_formats)) + b"".join(map(short, result_formats)))


def execute(portal: str = "", limit: int = 0) -> bytes:
    return frame("E", portal.encode() + b"\0" + limit.to_bytes(4, "big", signed=True))


def describe_request(kind: str, name: str = "") -> bytes:
    return frame("D", kind.encode() + name.encode() + b"\0")


def close_request(kind: str, name: str = "") -> bytes:
    return frame("C", kind.encode() + name.encode() + b"\0")


SYNC = frame("S")
FLUSH = frame("H")
TERMINATE = frame("X")
COPY_DONE = frame("c")

_NAMES = {
    "R": "Authentication", "S": "ParameterStatus", "K": "BackendKeyData", "Z": "ReadyForQuery",
    "T": "RowDescription", "D": "DataRow", "C": "CommandComplete", "E": "ErrorResponse",
    "N": "NoticeResponse", "A": "NotificationResponse", "1": "ParseComplete", "2": "BindComplete",
    "3": "CloseComplete", "n": "NoData", "s": "PortalSuspended", "I": "EmptyQueryResponse",
    "G": "CopyInResponse", "H": "CopyOutResponse", "d": "CopyData", "c": "CopyDone",
    "t": "ParameterDescription", "v": "NegotiateProtocolVersion",
}  # fmt: skip


def describe(data: bytes) -> list[str]:
    """Print backend messages, one line each."""
    lines = []
    offset = 0
    while offset < len(data):
        tag = chr(data[offset])
        # The answers to the encryption requests have no length.
        if tag in "NS" and data[offset + 1 : offset + 2] != b"\0":
            lines.append(f"single byte {tag}")
            offset += 1
            continue
        end = offset + 1 + int.from_bytes(data[offset + 1 : offset + 5], "big")
        assert end <= len(data), "cut message"
        lines.append(f"{_NAMES[tag]} {_body(tag, data[offset + 5 : end])}".rstrip())
        offset = end
    return lines


def _body(tag: str, body: bytes) -> str:
    if tag in "EN":
        fields = [field.decode() for field in body.split(b"\0") if field]
        return " ".join(f"{field[0]}={field[1:]!r}" for field in fields if field[0] != "V")
    if tag == "D":
        return " ".join("NULL" if value is None else repr(value)[1:] for value in _values(body))
    if tag == "T":
        return _columns(body)
    if tag in "CS":
        return " ".join(body.decode().split("\0")).strip()
    return repr(body)[2:-1]


def _values(body: bytes) -> list[bytes | None]:
    values: list[bytes | None] = []
    offset = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[offset : offset + 4], "big", signed=True)
        offset += 4
        values.append(None if length < 0 else body[offset : offset + length])
        offset += max(length, 0)
    assert offset == len(body)
    return values


def _columns(body: bytes) -> str:
    words = []
    offset = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        stop = body.index(0, offset)
        name = body[offset:stop].decode()
        rest = body[stop + 1 : stop + 19]
        kind, code = int.from_bytes(rest[6:10], "big"), int.from_bytes(rest[16:18], "big")
        words.append(f"{name}:{kind}:{code}")
        offset = stop + 19
    assert offset == len(body)
    return " ".join(words)
