"""What a front end (pgwire) needs from a session, and the plain values that cross between them.

The front end owns bytes and formats; the session owns meaning. Every method that may wait is a
coroutine that awaits only ``nodedb.clock``-free waiters, so the driver can run it with
``send(None)``. Errors are ``sql.errors.SqlError``; after one the front end calls ``on_error``
exactly once.

Source: PostgreSQL docs, "Message Flow".
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from nodedb.waiter import Waiter
from sql.errors import SqlError
from sql.types.base import Datum, Row, SqlType


class ResultColumn(NamedTuple):
    """One field of RowDescription.

    ``table_oid`` and ``column_number`` are 0 for computed columns.
    """

    name: str
    type: SqlType
    typmod: int = -1
    table_oid: int = 0
    column_number: int = 0


class Notice(NamedTuple):
    """A NoticeResponse; ``severity`` WARNING, NOTICE, INFO, LOG or DEBUG."""

    severity: str
    sqlstate: str
    message: str
    detail: str = ""
    hint: str = ""


class Notification(NamedTuple):
    """A NotificationResponse."""

    process_id: int
    channel: str
    payload: str


class CopyIn(Protocol):
    """The receiving end of ``COPY ... FROM STDIN``; the session parses the data itself."""

    format_binary: bool
    column_count: int

    async def data(self, chunk: bytes) -> None:
        """Take a CopyData body; chunks may split rows anywhere."""

    async def done(self) -> str:
        """Take CopyDone; return the command tag once the rows are durable.

        Or buffered in a block.
        """

    def fail(self, message: str) -> None:
        """Take CopyFail: raises QueryCanceled (57014) ``COPY from stdin failed: message``."""


class CopyOut(Protocol):
    """The sending end of ``COPY ... TO STDOUT``."""

    format_binary: bool
    column_count: int

    async def next_chunk(self) -> list[bytes]:
        """Return the next CopyData bodies, [] at the end."""


class Result:
    """What one executed statement answers.

    ``columns`` is None for a statement without rows. ``rows`` is the first batch; while ``more`` is
    not None the front end awaits it for the next batch until it returns []. Then it awaits
    ``finish`` if that is not None; ``tag`` is final afterwards (implicit transactions commit there,
    before CommandComplete is sent). ``suspended`` (portal row limit reached, known after the rows)
    asks for PortalSuspended instead of a tag. ``empty`` asks for EmptyQueryResponse.
    """

    __slots__ = (
        "__weakref__",
        "columns",
        "copy_in",
        "copy_out",
        "empty",
        "finish",
        "more",
        "rows",
        "suspended",
        "tag",
    )

    def __init__(
        self,
        tag: str,
        columns: tuple[ResultColumn, ...] | None = None,
        rows: Sequence[Row] = (),
    ) -> None:
        self.tag = tag
        self.columns = columns
        self.rows = rows
        self.more: Callable[[], Awaitable[Sequence[Row]]] | None = None
        self.finish: Callable[[], Awaitable[None]] | None = None
        self.suspended = False
        self.empty = False
        self.copy_in: CopyIn | None = None
        self.copy_out: CopyOut | None = None


class StatementDescription(NamedTuple):
    """Answer to Describe of a statement: parameter types, and columns (None: NoData)."""

    parameter_types: tuple[SqlType, ...]
    columns: tuple[ResultColumn, ...] | None


class FormatSettings(Protocol):
    """The session variables that shape text output; satisfied by the session's settings object."""

    date_style: str
    interval_style: str
    time_zone: str
    extra_float_digits: int
    bytea_output: str


class AnswerAtOnce(Protocol):
    """The whole answer of a statement that needed nothing but itself."""

    @property
    def columns(self) -> tuple[ResultColumn, ...] | None:
        """The columns, None for no rows; the same object each time."""

    @property
    def rows(self) -> Sequence[Row]:
        """All rows."""

    @property
    def tag(self) -> str:
        """The command tag."""


StepOutcome = Waiter[int] | Literal[True] | None
"""True: done. A waiter: done but for the commit. None: declined, nothing has happened."""


class Step(Protocol):
    """A prepared statement that runs in one plain call, between two turns of the loop.

    ``columns`` is None for no rows, the same object each time. ``rows`` and ``tag`` are the answer
    of the last run.
    """

    columns: tuple[ResultColumn, ...] | None
    rows: Sequence[Row]
    tag: str

    def run(self, values: Sequence[bytes | None], formats: Sequence[int]) -> StepOutcome:
        """Execute with parameters as they came. Raises only what a commit raises."""

    def run_with(self, parameters: tuple[Datum, ...]) -> StepOutcome:
        """Execute with parameters that are datums."""

    def finish(self, failure: SqlError | None = None) -> None:
        """Complete a run whose waiter is done. Raises what the commit failed with.

        ``failure`` is what awaiting the waiter has raised: that takes the error out of it.
        """


class FrontEndSession(Protocol):
    """One connection's session after authentication."""

    process_id: int
    secret_key: int
    ends_batch: bool
    """Set before ``execute``: whether Sync follows, so that the statement stands alone."""

    @property
    def forwarding(self) -> Any:
        """The way to the node that serves the rows; None if this one always does."""

    @property
    def is_recorded(self) -> bool:
        """Tell whether the batch commits at its end, in ``sync``, together with its answer."""

    @property
    def format(self) -> FormatSettings:
        """The settings that shape output; another object after one of them changed."""

    @property
    def transaction_status(self) -> bytes:
        """``b"I"``, ``b"T"`` or ``b"E"`` for ReadyForQuery."""

    def reported_parameters(self) -> list[tuple[str, str]]:
        """Return the 13 reported parameters and their values, for the start of the connection."""

    def take_parameter_changes(self) -> list[tuple[str, str]]:
        """Return and forget the reported parameters that changed since the last call."""

    def take_notices(self) -> list[Notice]:
        """Return and forget the pending notices."""

    def take_notifications(self) -> list[Notification]:
        """Return and forget the notifications that may be delivered now (never inside a block)."""

    @property
    def has_asynchronous(self) -> bool:
        """Tell whether one of the three methods above might return something."""

    def step(self, name: str) -> Step | None:
        """Return what runs a prepared statement in one plain call, None if it takes more."""

    def query_step(self, text: str) -> tuple[Step, tuple[Datum, ...]] | None:
        """Return the step and the parameters of a simple query, if it has such."""

    async def execute_in_one_step(
        self, statement: str, values: Sequence[bytes | None], formats: Sequence[int]
    ) -> AnswerAtOnce | None:
        """Bind, execute and sync a prepared statement that may have to wait, but is simple.

        None changes nothing, errors are as of ``execute``.
        """

    def simple_statements(self, text: str) -> list[Any]:
        """Split and parse a simple query into opaque handles.

        [] when it holds none (EmptyQueryResponse).
        """

    async def execute_simple(self, statement: Any, *, is_last: bool) -> Result:
        """Run one statement of a simple query; an implicit transaction spans them all."""

    async def parse(self, name: str, text: str, parameter_oids: Sequence[int]) -> None:
        """Create a prepared statement ("" is the unnamed one, replaced silently)."""

    async def bind(
        self,
        portal: str,
        statement: str,
        parameters: Sequence[bytes | None],
        parameter_formats: Sequence[int],
        result_formats: Sequence[int],
    ) -> None:
        """Create a portal; values are still as they came, in the given formats.

        0 text, 1 binary.
        """

    async def describe_statement(self, name: str) -> StatementDescription:
        """Describe a prepared statement; InvalidSqlStatementName (26000) if unknown."""

    def describe_portal(self, name: str) -> tuple[tuple[ResultColumn, ...] | None, Sequence[int]]:
        """Return a portal's columns (None: NoData) and one result format per column."""

    def portal_formats(self, name: str) -> Sequence[int]:
        """Return one result format per column of the portal."""

    async def execute(self, portal: str, row_limit: int) -> Result:
        """Run or resume a portal; row_limit 0 means all."""

    async def close_statement(self, name: str) -> None:
        """Forget a prepared statement; unknown names are fine."""

    async def close_portal(self, name: str) -> None:
        """Forget a portal; unknown names are fine."""

    async def sync(self) -> None:
        """End the extended-query batch: commits the implicit transaction.

        Also called after simple queries.
        """

    async def on_error(self, error: Exception) -> None:
        """Fail the block or roll the implicit transaction back."""

    def interrupt(self, error: Exception) -> None:
        """Have the running statement raise ``error`` at its next safe point."""

    async def close(self) -> None:
        """End the session: roll back, release locks, drop temporary state. Idempotent."""


class Credential(NamedTuple):
    """What authentication needs of a role.

    ``scram_secret`` is PostgreSQL's rolpassword text, "" if none.
    """

    role: str
    scram_secret: str
    may_login: bool


class SessionFactory(Protocol):
    """The node's door for front ends."""

    def credential(self, role: str) -> Credential | None:
        """Return the role's credential, or None if there is no such role."""

    def open_session(
        self, *, user: str, database: str, parameters: dict[str, str], peer: str, tls: bool
    ) -> FrontEndSession:
        """Make a session. Raises InvalidCatalogName (3D000), TooManyConnections.

        53300, CannotConnectNow (57P03).
        """

    def cancel(self, process_id: int, secret_key: int) -> None:
        """Cancel the session's running statement if the key fits; silent otherwise."""
