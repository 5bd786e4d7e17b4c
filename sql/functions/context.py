"""What a running statement carries: parameters, settings, clocks, catalog, session services.

One ``ExecutionContext`` per execution. The session makes it; compiled expressions and operators
receive it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sql.errors import OutOfMemory

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from sql.catalog.catalog import Catalog
    from sql.catalog.descriptor import Sequence
    from sql.types.base import Datum
    from sql.types.io import FormatContext


class SessionServices(Protocol):
    """Session state and side effects that SQL functions reach."""

    client_address: str
    client_port: int

    @property
    def process_id(self) -> int:
        """The backend's process id."""

    @property
    def user_name(self) -> str:
        """Name of the current role."""

    @property
    def session_user_name(self) -> str:
        """Name of the role that logged in."""

    def get_setting(self, name: str) -> str | None:
        """Return a variable's SHOW text, None when unknown."""

    def set_setting(self, name: str, value: str, *, local: bool) -> str:
        """SET a variable; returns the new SHOW text."""

    async def nextval(self, sequence: Sequence) -> int:
        """Advance a sequence; SequenceGeneratorLimitExceeded (2200H) at its end."""

    def currval(self, sequence: Sequence) -> int:
        """Return the session's last value; ObjectNotInPrerequisiteState (55000) before nextval."""

    def lastval(self) -> int:
        """Return the last value of any sequence; 55000 before nextval."""

    async def setval(self, sequence: Sequence, value: int, *, is_called: bool) -> int:
        """Set a sequence's value."""

    async def sequence_state(self, sequence: Sequence) -> tuple[int, bool]:
        """Return (last_value, is_called) for ``SELECT * FROM sequence``."""

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""

    async def advisory_lock(
        self, key: tuple[int, ...], *, shared: bool, transaction: bool, wait: bool
    ) -> bool:
        """Take an advisory lock; False only when ``wait`` is False and it is held."""

    def advisory_unlock(self, key: tuple[int, ...], *, shared: bool) -> bool:
        """Release a session-level advisory lock; False with a warning if not held."""

    def advisory_unlock_all(self) -> None:
        """Release all session-level advisory locks."""

    def cancel_backend(self, process_id: int) -> bool:
        """Cancel another session's statement."""

    async def terminate_backend(self, process_id: int, timeout_ms: int) -> bool:
        """End another session; wait so long for its end."""

    def blocking_process_ids(self, process_id: int) -> list[int]:
        """Return the sessions that keep one waiting for a lock."""

    def backend_fact(self, backend_id: int, fact: str) -> Datum:
        """Return what ``pg_stat_get_backend_<fact>`` says of a session."""

    def notify(self, channel: str, payload: str) -> None:
        """Queue a notification for commit; 22023 for a channel or payload that cannot be."""

    def notification_usage(self) -> float:
        """Return the share of the room for undelivered notifications that is in use."""

    def system_rows(self, view: str) -> list[tuple[Datum, ...]]:
        """Rows of live system views.

        pg_stat_activity, pg_locks, pg_settings, pg_prepared_statements, pg_cursors,
        pg_stat_statements, pg_stat_progress_create_index, in the column order of their
        VirtualTable.
        """

    def current_transaction_id(self) -> int:
        """Return the transaction's number, assigning one (txid_current)."""

    def assigned_transaction_id(self) -> int | None:
        """Return the transaction's number if it has one (txid_current_if_assigned)."""

    def relation_size(self, relation_id: int) -> int:
        """Return bytes stored for a relation, approximately."""

    def notice(self, severity: str, sqlstate: str, message: str) -> None:
        """Queue a NoticeResponse."""


class MemoryBudget:
    """Bytes one query may hold in sorts, hashes, aggregates, sub-query results and buffers.

    ``charge`` raises OutOfMemory (53200) beyond ``limit_bytes``; operators release what they free.
    """

    __slots__ = ("limit_bytes", "peak_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0

    def charge(self, count: int) -> None:
        """Account for ``count`` more bytes."""
        self.used_bytes += count
        if self.used_bytes > self.limit_bytes:
            raise OutOfMemory(
                "out of memory",
                detail=f"The query needs more than its limit of {self.limit_bytes} bytes.",
                hint='Raise "query_memory_limit", or make the query hold fewer rows at a time.',
            )
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)

    def check(self, count: int) -> None:
        """Raise OutOfMemory (53200) unless ``count`` more bytes fit; nothing is charged."""
        self.charge(count)
        self.release(count)

    def release(self, count: int) -> None:
        """Give bytes back."""
        self.used_bytes -= count


class ExecutionContext:
    """Everything an execution may look at. Timestamps are microseconds since 2000-01-01 UTC.

    ``checkpoint`` is awaited by operators once per batch: it raises QueryCanceled (57014) when the
    statement was cancelled and lets other sessions run when this one has had its time slice.
    """

    __slots__ = (
        "cache",
        "catalog",
        "checkpoint",
        "clock",
        "format",
        "memory",
        "parameters",
        "random",
        "session",
        "statement_timestamp",
        "store",
        "transaction_timestamp",
    )

    def __init__(
        self,
        *,
        parameters: tuple[Datum, ...],
        catalog: Catalog,
        format_context: FormatContext,
        session: SessionServices,
        store: Any,
        memory: MemoryBudget,
        clock: Callable[[], int],
        statement_timestamp: int,
        transaction_timestamp: int,
        rng: random.Random,
        checkpoint: Callable[[], Any],
    ) -> None:
        self.parameters = parameters
        self.catalog = catalog
        self.format = format_context
        self.session = session
        self.store = store
        self.memory = memory
        self.clock = clock
        self.statement_timestamp = statement_timestamp
        self.transaction_timestamp = transaction_timestamp
        self.random = rng
        self.checkpoint = checkpoint
        self.cache: dict[object, Any] = {}
