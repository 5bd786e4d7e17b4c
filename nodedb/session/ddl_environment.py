"""What DDL needs of its session, over the transaction's overlay, locks and rows.

Schema changes that touch rows read them through the statement's store and write through the
transaction's buffer, so they commit or vanish with the catalog change. Implements
``nodedb.catalog.ddl.environment.DdlEnvironment``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nodedb.catalog.claims import Claim, object_resource
from nodedb.catalog.ddl.relabel import UTC_ZONES
from nodedb.kv.keys import index_prefix, storage_prefix
from nodedb.kv.locks import ACCESS_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE
from nodedb.session import constraints, schema_rows
from nodedb.session.settings import BY_NAME, join_values
from nodedb.txn.sequences import sequence_key
from sql.catalog.descriptor import Sequence
from sql.errors import ObjectInUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodedb.catalog.changes import CatalogOverlay
    from nodedb.catalog.ddl.environment import PendingBuild
    from nodedb.catalog.session_catalog import SessionCatalog
    from nodedb.session.session import Session
    from sql.ast.ddl import OptionValue
    from sql.ast.query import Expression, Query
    from sql.catalog.descriptor import Check, Column, ForeignKey, Index, Table


class LookAgain(Exception):
    """The statement has waited for a lock: it must be planned again, from its names on."""


class SessionDdlEnvironment:
    """One DDL statement's services."""

    def __init__(self, session: Session, *, in_block: bool) -> None:
        self._session = session
        self._in_block = in_block
        self._first_schema = ""
        self._claimed: set[Claim] = set()
        self._taken: set[Claim] = set()
        self.pending_build: PendingBuild | None = None

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
        """The transaction's catalog changes, over the newest catalog."""
        return self._session.block.ensure_overlay()

    @property
    def in_transaction_block(self) -> bool:
        """Tell whether a block surrounds the statement."""
        return self._in_block

    @property
    def may_commit(self) -> bool:
        """Tell whether the statement is the only one of its transaction, and commits it."""
        return not self._in_block and self._session.ends_batch

    @property
    def is_utc(self) -> bool:
        """Tell whether the session's time zone is UTC."""
        return self._session.settings.get("timezone").lower() in UTC_ZONES

    def build_later(self, pending: PendingBuild) -> None:
        """Have an index built online once the statement's changes are committed."""
        self.pending_build = pending

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
            role_id in (s.session_user_id, s.user_id) for s in self._session.node.all_sessions()
        )

    def connections_to(self, database_id: int) -> int:
        """Return the number of other sessions in a database."""
        return sum(
            s.database_id == database_id and s.process_id != self._session.process_id
            for s in self._session.node.all_sessions()
        )

    async def lock_table(self, table_id: int, mode: str) -> None:
        """Lock a relation until the transaction ends; ``LookAgain`` as below.

        Its descriptor too, against who changes that without the relation's lock (GRANT), unless the
        mode is one of readers and writers of rows.
        """
        from nodedb.session.utility import LOCK_MODES  # noqa: PLC0415  a table in a sibling

        lock_mode = LOCK_MODES[mode]
        await self.lock(Claim(table_id, lock_mode))
        if lock_mode >= SHARE_UPDATE_EXCLUSIVE:
            await self.lock_object(table_id)

    async def lock_object(self, descriptor_id: int, *, to_drop: bool = False) -> None:
        """Lock a descriptor until the transaction ends; ``LookAgain`` as below."""
        mode = ACCESS_EXCLUSIVE if to_drop else SHARE_UPDATE_EXCLUSIVE
        await self.lock(Claim(object_resource(descriptor_id), mode))

    async def lock(self, claim: Claim) -> None:
        """Take a lock until the transaction ends.

        Raises ``LookAgain`` when it had to wait for it: who held it may have changed what the
        statement has looked up. The lock is held then.
        """
        session = self._session
        transaction = session.block.transaction
        assert transaction is not None
        manager = session.node.transactions
        locks = manager.locks
        self._claimed.add(claim)
        if locks.holds(transaction, *claim):
            return
        has_waited = not locks.try_acquire(transaction, *claim)
        if has_waited:
            await manager.wait_for_lock(transaction, *claim)
        self._taken.add(claim)
        if has_waited:
            raise LookAgain

    def begin_attempt(self) -> None:
        """Forget what the last attempt has asked for; what it has locked stays locked."""
        self.pending_build = None
        self._claimed.clear()

    def release_unclaimed(self) -> None:
        """Let go of what only attempts in vain have locked: the name means something else now."""
        transaction = self._session.block.transaction
        assert transaction is not None
        for claim in self._taken - self._claimed:
            self._session.node.transactions.locks.release(transaction, *claim)

    def require_unused(self, table: Table, command: str) -> None:
        """Refuse a command on a table while deferred checks of its rows wait (55006)."""
        if constraints.are_waiting(self._session, table.id):
            raise ObjectInUse(
                f'cannot {command} "{table.name}" because it has pending trigger events'
            )

    @contextmanager
    def _reading_newest(self) -> Iterator[None]:
        """Let statements see all rows: the table's change applies to those that it has at COMMIT.

        Source: PostgreSQL docs, "Caveats" of Concurrency Control.
        """
        self._session.reads_newest = True
        try:
            yield
        finally:
            self._session.reads_newest = False

    async def missing_value(self, column: Column) -> bytes | None:
        """Evaluate a new column's default once; None: volatile."""
        return await schema_rows.missing_value(self._session, column)

    async def rewrite_table(
        self, old: Table, new: Table, conversions: Mapping[int, Expression]
    ) -> None:
        """Write all rows of ``old`` under ``new.storage_id``."""
        with self._reading_newest():
            await schema_rows.rewrite_table(self._session, old, new, conversions)

    async def backfill_index(
        self, table: Table, index: Index, command: str = "CREATE INDEX"
    ) -> None:
        """Make an index's entries."""
        with self._reading_newest():
            await schema_rows.backfill_index(self._session, table, index, command)

    async def validate_check(self, table: Table, check: Check) -> None:
        """Check every row against a CHECK constraint."""
        with self._reading_newest():
            await schema_rows.validate_check(self._session, table, check)

    async def validate_not_null(self, table: Table, column: Column) -> None:
        """Check that a column holds no NULL."""
        with self._reading_newest():
            await schema_rows.validate_not_null(self._session, table, column)

    async def validate_foreign_key(self, table: Table, foreign_key: ForeignKey) -> None:
        """Check every row against a foreign key."""
        with self._reading_newest():
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

    async def begin_sequence(self, sequence: Sequence, value: int, *, is_called: bool) -> None:
        """Give a new storage its running value: in memory, until the transaction commits."""
        block, sequences = self._session.block, self._session.node.sequences
        storage_id = sequence.storage_id
        sequences.begin(sequence, value, is_called=is_called)
        block.on_rollback.append(lambda: sequences.forget(storage_id))
        block.before_commit.append(lambda: self._write_sequence(sequence.id, storage_id))
        block.on_commit.append(lambda: sequences.publish(storage_id))

    def _write_sequence(self, sequence_id: int, storage_id: int) -> None:
        """Write a sequence's value with the transaction, if it still has that storage."""
        block = self._session.block
        assert block.transaction is not None
        found = block.ensure_overlay().snapshot.get(sequence_id)
        if isinstance(found, Sequence) and found.storage_id == storage_id:
            block.transaction.put(*self._session.node.sequences.write(storage_id))

    async def clear_sequence(self, storage_id: int) -> None:
        """Forget a running value when the transaction commits."""
        sequences = self._session.node.sequences
        self._clear(sequence_key(storage_id))
        self._session.block.on_commit.append(lambda: sequences.forget(storage_id))

    async def sequence_state(self, sequence: Sequence) -> tuple[int, bool]:
        """Return (last_value, is_called)."""
        return self._session.node.sequences.state(sequence)
