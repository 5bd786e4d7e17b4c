"""What DDL needs of its session, over the transaction's overlay, locks and rows.

Schema changes that touch rows read them through the statement's store and write through the
transaction's buffer, so they commit or vanish with the catalog change. Implements
``nodedb.catalog.ddl.environment.DdlEnvironment``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nodedb.kv.keys import index_prefix, storage_prefix
from nodedb.kv.locks import ACCESS_EXCLUSIVE
from nodedb.session import constraints, schema_rows
from nodedb.session.settings import BY_NAME, join_values
from sql.errors import ObjectInUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodedb.catalog.changes import CatalogOverlay
    from nodedb.catalog.session_catalog import SessionCatalog
    from nodedb.session.session import Session
    from sql.ast.ddl import OptionValue
    from sql.ast.query import Expression, Query
    from sql.catalog.descriptor import Check, Column, ForeignKey, Index, Sequence, Table


class SessionDdlEnvironment:
    """One DDL statement's services."""

    def __init__(self, session: Session, *, in_block: bool) -> None:
        self._session = session
        self._in_block = in_block
        self._first_schema = ""

    @property
    def catalog(self) -> SessionCatalog:
        """The session's view over the overlay's present snapshot."""
        catalog = self._session.catalog()
        return catalog.searching_first(self._first_schema) if self._first_schema else catalog

    @contextmanager
    def search_first(self, schema: str) -> Iterator[None]:
        """Look names up in a schema before the search path, while the context lasts."""
        before, self._first_schema = self._first_schema, schema
        try:
            yield
        finally:
            self._first_schema = before

    @property
    def overlay(self) -> CatalogOverlay:
        """The transaction's catalog changes."""
        overlay = self._session.block.overlay
        assert overlay is not None
        return overlay

    @property
    def in_transaction_block(self) -> bool:
        """Tell whether a block surrounds the statement."""
        return self._in_block

    @property
    def session_user_id(self) -> int:
        """The role that logged in."""
        return self._session.session_user_id

    @property
    def session_id(self) -> int:
        """The session's process id."""
        return self._session.process_id

    def notice(
        self, severity: str, sqlstate: str, message: str, detail: str = "", hint: str = ""
    ) -> None:
        """Queue a NoticeResponse."""
        self._session.notice(severity, sqlstate, message, detail, hint)

    def make_scram_secret(self, password: str) -> str:
        """Return the stored form of a password."""
        return self._session.node.make_scram_secret(password)

    def stored_setting(self, name: str, values: tuple[OptionValue, ...]) -> tuple[str, str]:
        """Check ALTER ROLE or DATABASE ...

        SET; return the variable's proper name and the text to keep.
        """
        text = join_values(name, values)
        self._session.settings.check(name, text)
        variable = BY_NAME.get(name.lower())
        return (name if variable is None else variable.name), text

    def role_is_connected(self, role_id: int) -> bool:
        """Tell whether any session runs as the role."""
        return any(
            role_id in (s.session_user_id, s.user_id) for s in self._session.node.sessions.values()
        )

    def connections_to(self, database_id: int) -> int:
        """Return the number of other sessions in a database."""
        return sum(
            s.database_id == database_id and s is not self._session
            for s in self._session.node.sessions.values()
        )

    async def lock_table(self, table_id: int, mode: str) -> None:
        """Lock a relation until the transaction ends."""
        from nodedb.session.utility import LOCK_MODES  # noqa: PLC0415  a table in a sibling

        session = self._session
        transaction = session.block.transaction
        assert transaction is not None
        lock_mode = LOCK_MODES.get(mode, ACCESS_EXCLUSIVE)
        manager = session.node.transactions
        if not manager.locks.try_acquire(transaction, table_id, lock_mode):
            await manager.wait_for_lock(transaction, table_id, lock_mode)

    def require_unused(self, table: Table, command: str) -> None:
        """Refuse a command on a table while deferred checks of its rows wait (55006)."""
        if constraints.are_waiting(self._session, table.id):
            raise ObjectInUse(
                f'cannot {command} "{table.name}" because it has pending trigger events'
            )

    async def missing_value(self, column: Column) -> bytes | None:
        """Evaluate a new column's default once; None: volatile."""
        return await schema_rows.missing_value(self._session, column)

    async def rewrite_table(
        self, old: Table, new: Table, conversions: Mapping[int, Expression]
    ) -> None:
        """Write all rows of ``old`` under ``new.storage_id``."""
        await schema_rows.rewrite_table(self._session, old, new, conversions)

    async def backfill_index(self, table: Table, index: Index) -> None:
        """Make an index's entries."""
        await schema_rows.backfill_index(self._session, table, index)

    async def validate_check(self, table: Table, check: Check) -> None:
        """Check every row against a CHECK constraint."""
        await schema_rows.validate_check(self._session, table, check)

    async def validate_not_null(self, table: Table, column: Column) -> None:
        """Check that a column holds no NULL."""
        await schema_rows.validate_not_null(self._session, table, column)

    async def validate_foreign_key(self, table: Table, foreign_key: ForeignKey) -> None:
        """Check every row against a foreign key."""
        await schema_rows.validate_foreign_key(self._session, table, foreign_key)

    async def clear_storage(self, storage_id: int) -> None:
        """Drop a storage's rows when the transaction commits."""
        self._clear(storage_prefix(storage_id))

    async def drop_index_entries(self, table: Table, index: Index) -> None:
        """Drop an index's entries when the transaction commits."""
        self._clear(index_prefix(table.storage_id, index.index_id))

    def _clear(self, prefix: bytes) -> None:
        transaction = self._session.block.transaction
        assert transaction is not None
        transaction.cleared.append(prefix)

    async def run_query_into(self, query: Query, table: Table) -> int:
        """Insert a query's rows into a table just created."""
        return await schema_rows.run_query_into(self._session, query, table)

    async def create_sequence(self, sequence: Sequence, value: int, *, is_called: bool) -> None:
        """Set the running value of a sequence nobody else can see yet."""
        await self._session.node.sequences.set_value(sequence, value, is_called=is_called)

    async def set_sequence(self, sequence: Sequence, value: int, *, is_called: bool) -> None:
        """Set a running value; a rollback puts the old one back."""
        sequences: Any = self._session.node.sequences
        before = sequences.state(sequence)
        await sequences.set_value(sequence, value, is_called=is_called)
        self._session.block.on_rollback.append(lambda: sequences.restore(sequence, *before))

    async def sequence_state(self, sequence: Sequence) -> tuple[int, bool]:
        """Return (last_value, is_called)."""
        return self._session.node.sequences.state(sequence)
