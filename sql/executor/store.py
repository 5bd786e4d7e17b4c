"""What the executor needs of storage: rows of tables and indexes at one statement's snapshot.

The consumer owns this seam. ``nodedb.txn`` implements it over locks, the write buffer and MVCC;
tests implement it over dictionaries. Rows are tuples in the order of ``table.columns``. Awaiting
may suspend (a lock, a remote group); nothing else does. The statement sees its transaction's
earlier statements' writes, never its own, except through the calls that say so.

Errors: UniqueViolation (23505), DeadlockDetected (40P01), LockNotAvailable (55P03), QueryCanceled
(57014), SerializationFailure (40001), SnapshotTooOld (72000), DiskFull (53100).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sql.catalog.descriptor import Table
    from sql.types.base import Datum, Row

LockStrength = Literal["key share", "share", "no key update", "update"]
WaitPolicy = Literal["wait", "nowait", "skip"]


class KeySpan(NamedTuple):
    """A range of an index's keys, in the index's own order: prefixes of its key columns' values.

    ``start`` () means from the beginning, ``end`` () to the end. An inclusive end takes every key
    that starts with the prefix; an exclusive start skips every key that starts with it. A None
    value in a prefix is the key NULL.
    """

    start: tuple[Datum, ...]
    end: tuple[Datum, ...]
    start_inclusive: bool = True
    end_inclusive: bool = True


class Cursor(Protocol):
    """A scan in progress."""

    async def next_batch(self) -> list[Row]:
        """Return the next rows (1 to 1,024), [] at the end."""


class IndexEntryMaker(NamedTuple):
    """How one index's key is made of a row, compiled by the planner.

    None: the row has no entry (predicate).
    """

    index_id: int
    make: Callable[[Row], tuple[Datum, ...] | None]


class TableAccess(NamedTuple):
    """A table with the compiled makers of those of its indexes that have expressions or predicates.

    Indexes over plain columns need no maker: storage takes the columns itself. Makers run in the
    statement's context.
    """

    table: Table
    makers: tuple[IndexEntryMaker, ...] = ()


class LockedRow(NamedTuple):
    """Outcome of locking one row.

    ``row`` is the newest version; None: gone, or skipped. ``changed``: differs from what was
    read.
    """

    row: Row | None
    changed: bool


class Store(Protocol):
    """One statement's access to rows."""

    async def get(self, table: Table, key: tuple[Datum, ...]) -> Row | None:
        """Return the row with this clustering key."""

    async def get_many(self, table: Table, keys: Sequence[tuple[Datum, ...]]) -> list[Row | None]:
        """Return rows by clustering key, in order."""

    def scan(
        self,
        table: Table,
        spans: Sequence[KeySpan] | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        columns: frozenset[int] | None = None,
    ) -> Cursor:
        """Scan the clustered rows in key order; None: all.

        ``limit`` is a hint for the first batch. ``columns`` are the positions that will be read
        (None: any): what stands at others is undefined.
        """

    def scan_index(
        self,
        access: TableAccess,
        index_id: int,
        spans: Sequence[KeySpan] | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        columns: frozenset[int] | None = None,
    ) -> Cursor:
        """Scan a secondary index in its order; yields the table's rows, ``columns`` as ``scan``."""

    async def get_by_index(
        self, access: TableAccess, index_id: int, keys: Sequence[tuple[Datum, ...]]
    ) -> list[list[Row]]:
        """For each full or prefix key, return the matching rows."""

    async def lock(
        self,
        table: Table,
        rows: Sequence[Row],
        strength: LockStrength,
        wait: WaitPolicy,
        purpose: str = "locking",
    ) -> list[LockedRow]:
        """Lock rows by their clustering key; results are parallel to ``rows``.

        ``purpose`` is what for, as errors say it: "locking", "updating" or "deleting".
        """

    async def insert(self, access: TableAccess, rows: Sequence[Row]) -> None:
        """Insert rows with their index entries; UniqueViolation (23505).

        Locks the primary and unique keys first.

        The hidden rowid is filled in when None: read it back from nothing, it is not visible.
        """

    async def insert_or_conflict(
        self,
        access: TableAccess,
        row: Row,
        arbiters: tuple[int, ...],
        strength: LockStrength | None = "update",
    ) -> Row | None:
        """Insert one row, or return the row that conflicts on an arbiter, locked, as it is now.

        Without ``strength`` it is not locked (DO NOTHING), and nobody who only locks it is waited
        for.

        ``arbiters`` () means every unique index; a deferrable one raises
        ObjectNotInPrerequisiteState (55000). A conflict on another unique index raises
        UniqueViolation. A conflicting row that this very command inserted or updated comes back
        too: the executor tells by ``written_by_command`` and raises CardinalityViolation (21000).
        """

    def written_by_command(self, table: Table, row: Row) -> bool:
        """Tell whether this command has written the row with this clustering key."""

    async def update(
        self, access: TableAccess, old_rows: Sequence[Row], new_rows: Sequence[Row]
    ) -> None:
        """Replace rows already locked; checks unique keys.

        The lock is UPDATE, or NO KEY UPDATE when no key column changes.

        All old index entries of the batch go before the new ones come, so that keys may move
        among the rows. Uniqueness is checked row by row as PostgreSQL does, for deferrable
        constraints at the end of the statement.
        """

    async def delete(self, access: TableAccess, rows: Sequence[Row]) -> None:
        """Delete rows already locked."""

    def parents(self) -> Store:
        """Return a view for finding the parents of this statement's rows.

        As ``current``, but in a transaction with one snapshot for all statements the rows
        committed since are not there.
        """

    def current(self) -> Store:
        """Return a view for constraint checks.

        It also sees this statement's own writes and the newest committed rows.
        """

    async def row_count(self, table: Table) -> int:
        """Return the approximate number of rows, for the planner and reltuples."""
