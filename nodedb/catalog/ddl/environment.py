"""What DDL needs of the session that runs it: its overlay, and services over rows.

The session implements ``DdlEnvironment``. Everything that touches rows is awaited; ``catalog`` is a
property over ``overlay.snapshot``, so that a statement sees what it has just put.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from nodedb.catalog.changes import CatalogOverlay
    from nodedb.catalog.session_catalog import SessionCatalog
    from sql.ast.ddl import OptionValue
    from sql.ast.query import Expression, Query
    from sql.catalog.descriptor import (
        Check,
        Column,
        ForeignKey,
        Index,
        Sequence,
        Table,
    )


class PendingBuild(NamedTuple):
    """An index that the statement has made ``delete_only``, to be built when that is committed.

    ``keeps_invalid``: what cannot be finished stays, for the user to drop (CONCURRENTLY).
    """

    table_id: int
    index_oid: int
    command: str
    keeps_invalid: bool


class DdlEnvironment(Protocol):
    """One session's services for one DDL statement."""

    @property
    def catalog(self) -> SessionCatalog:
        """The session's view over the overlay's present snapshot."""

    def search_first(self, schema: str) -> AbstractContextManager[None]:
        """Look names up in a schema before the search path, while the context lasts."""

    @property
    def overlay(self) -> CatalogOverlay:
        """The transaction's catalog changes."""

    @property
    def in_transaction_block(self) -> bool:
        """Tell whether BEGIN, or a simple query of several statements, surrounds the statement."""

    @property
    def may_commit(self) -> bool:
        """Tell whether the statement is the only one of its transaction, and may commit it.

        Stronger than not being in a block: in a pipeline others may follow up to the Sync.
        """

    @property
    def is_utc(self) -> bool:
        """Tell whether the session's time zone is UTC."""

    def build_later(self, pending: PendingBuild) -> None:
        """Have an index built online once the statement's changes are committed."""

    @property
    def session_user_id(self) -> int:
        """The role that logged in; ``catalog.user_id`` is the current one."""

    @property
    def session_id(self) -> int:
        """The session's process id: owner of ``pg_temp_<session_id>``."""

    def notice(
        self, severity: str, sqlstate: str, message: str, detail: str = "", hint: str = ""
    ) -> None:
        """Queue a NoticeResponse; ``severity`` NOTICE, WARNING, INFO or DEBUG."""

    def make_scram_secret(self, password: str) -> str:
        """Return pg_authid.rolpassword text for a password in clear."""

    def stored_setting(self, name: str, values: tuple[OptionValue, ...]) -> tuple[str, str]:
        """Check ALTER ROLE or DATABASE ... SET; return the variable's proper name and its text.

        Raises 42704, 22023, 42501, 55P02.
        """

    def connections_to(self, database_id: int) -> int:
        """Return the number of other sessions in a database."""

    async def lock_table(self, table_id: int, mode: str) -> None:
        """Lock a relation until the transaction ends; ``mode`` as in LOCK TABLE, in lower case.

        If that took waiting, the statement is not resumed: it is planned again from its start.
        """

    async def lock_object(self, descriptor_id: int, *, to_drop: bool = False) -> None:
        """Lock a descriptor against others who would change it, or need it if it is ``to_drop``.

        Waits as ``lock_table``.
        """

    def require_unused(self, table: Table, command: str) -> None:
        """Refuse a command on a table while deferred checks of its rows wait.

        Raises ObjectInUse (55006).
        """

    async def missing_value(self, column: Column) -> bytes | None:
        """Evaluate a new column's default once, as a one-column row.

        None: volatile, the table must be rewritten.
        """

    async def rewrite_table(
        self, old: Table, new: Table, conversions: Mapping[int, Expression]
    ) -> None:
        """Write all rows of ``old`` under ``new.storage_id``, with all index entries.

        ``conversions`` maps row positions of ``new`` to expressions over the old row, coerced on
        assignment; other positions are copied, those the old row lacks get the column's default,
        generated columns are computed anew. Raises NotNullViolation (23502), CheckViolation
        (23514), UniqueViolation (23505).
        """

    async def backfill_index(
        self, table: Table, index: Index, command: str = "CREATE INDEX"
    ) -> None:
        """Make an index's entries; ``command`` is what the progress view shows.

        UniqueViolation (23505) ``could not create unique index "i"``.
        """

    async def validate_check(self, table: Table, check: Check) -> None:
        """Raise CheckViolation (23514): ``... of relation "t" is violated by some row``."""

    async def validate_not_null(self, table: Table, column: Column) -> None:
        """NotNullViolation (23502) ``column "a" of relation "t" contains null values``."""

    async def validate_foreign_key(self, table: Table, foreign_key: ForeignKey) -> None:
        """ForeignKeyViolation (23503) as INSERT would raise it."""

    async def clear_storage(self, storage_id: int) -> None:
        """Drop a storage's rows and index entries when the transaction commits."""

    async def drop_index_entries(self, table: Table, index: Index) -> None:
        """Drop an index's entries when the transaction commits."""

    async def run_query_into(self, query: Query, table: Table) -> int:
        """Insert a query's rows into a table just created; returns their number."""

    async def begin_sequence(self, sequence: Sequence, value: int, *, is_called: bool) -> None:
        """Give a sequence's new storage its running value, which commits with the transaction."""

    async def clear_sequence(self, storage_id: int) -> None:
        """Forget the running value in a sequence's storage when the transaction commits."""

    async def sequence_state(self, sequence: Sequence) -> tuple[int, bool]:
        """Return (last_value, is_called)."""
