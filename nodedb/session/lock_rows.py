"""pg_locks: who holds and who awaits which lock, as PostgreSQL shows it.

Shape: PostgreSQL's columns. Locks of rows are not listed, there and here: a transaction that has
changed or locked any row holds its own ``transactionid``, and whoever wants one of the rows waits
for that, or in line for the ``tuple`` (``nodedb.kv.lock_waits``). Pages and tuple numbers stand for
keys and mean nothing beyond being the same for the same row.

Differs from PostgreSQL: no locks of indexes, none of the session's own reading of catalogs, and
never ``fastpath``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nodedb.catalog.derived import derived
from nodedb.clock import sql_timestamp
from nodedb.kv.keys import PREFIX
from nodedb.kv.lock_waits import LOCKTYPES, advisory_place, tuple_place, wait_of
from nodedb.kv.locks import MODE_NAMES, CatalogResource
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Table

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from nodedb.kv.locks import LockOwner, LockRequest
    from nodedb.session.manager import SessionManager
    from nodedb.session.session import Session
    from sql.catalog.snapshot import CatalogSnapshot
    from sql.types.base import Row


class _Place(NamedTuple):
    """The columns of pg_locks that say what is locked, ``locktype`` to ``objsubid``."""

    locktype: str
    database: int | None = None
    relation: int | None = None
    page: int | None = None
    tuple: int | None = None
    virtualxid: str | None = None
    transactionid: int | None = None
    classid: int | None = None
    objid: int | None = None
    objsubid: int | None = None


class SessionLockNames:
    """Says what locked keys mean, by the newest catalog. Implements ``kv.locks.LockNames``."""

    def __init__(self, node: SessionManager) -> None:
        self._node = node

    def database_id(self, owner: LockOwner) -> int:
        """Return the database of the owner's session."""
        session = self._node.find_session(int(owner.deadlock_name))
        return 0 if session is None else session.database_id

    def relation(self, key: bytes) -> tuple[int, str]:
        """Return the table of a key, and the name of the index or table that has it."""
        storage_id, index_id = PREFIX.unpack_from(key)
        tables = derived(self._node.metadata.catalog, "tables by storage", _tables_by_storage)
        table = tables.get(storage_id)
        if table is None:
            return 0, ""
        if index_id != PRIMARY_INDEX_ID:
            found = next((i.name for i in table.indexes if i.index_id == index_id), "")
            return table.id, found
        return table.id, table.name if self.is_row(key) else table.primary_name or table.name

    def is_row(self, key: bytes) -> bool:
        """Tell whether a key is that of a committed row."""
        group = self._node.transactions.group
        is_primary: bool = PREFIX.unpack_from(key)[1] == PRIMARY_INDEX_ID
        return is_primary and group.newest(key) is not None


def _tables_by_storage(snapshot: CatalogSnapshot) -> dict[int, Table]:
    return {table.storage_id: table for table in snapshot.all(Table)}


def has_transaction_id(session: Session) -> bool:
    """Tell whether PostgreSQL would have given the session's transaction an id.

    It does with the first row that is written or locked, or awaited for that, and with the first
    change of a catalog.
    """
    block = session.block
    transaction = block.transaction
    if transaction is None or not transaction.is_active:
        # One whose commit is under way still has its id.
        return transaction is not None and bool(transaction.writes or transaction.encoded)
    return bool(
        transaction.writes
        or transaction.cleared
        or session.services.numbered_transaction == transaction.id
        or (block.overlay is not None and block.overlay.is_changed)
        or (
            transaction.waiting is not None and isinstance(transaction.waiting.lock.resource, bytes)
        )
        or any(isinstance(resource, bytes) for resource in transaction.held)
    )


def virtual_transaction(session: Session) -> str:
    """Return ``backend/number`` of the session's transaction; number 0 outside one.

    Our backends are numbered by their process ids.
    """
    transaction = session.block.transaction
    number = transaction.id if transaction is not None and transaction.is_active else 0
    return f"{session.process_id}/{number}"


def lock_rows(session: Session) -> list[Row]:
    """Return the rows of pg_locks."""
    node = session.node
    rows: list[Row] = []
    for other in node.all_sessions():
        rows += _own_rows(other)
    locks = node.transactions.locks
    for resource, owner, modes, is_granted in locks.entries():
        if not is_granted or isinstance(resource, bytes):
            continue
        place = _place(resource, locks.names.database_id(owner))
        if place is not None:
            rows += [
                _row(node, place, owner, name, is_granted=True)
                for bit, name in MODE_NAMES.items()
                if modes & bit
            ]
    for request in locks.waiting():
        rows += _waiting_rows(node, request)
    return rows


def _own_rows(session: Session) -> Iterator[Row]:
    """Yield the locks that a transaction has on itself, for others to wait for its end."""
    transaction = session.block.transaction
    if transaction is None:
        return
    if transaction.is_active:
        place = _Place("virtualxid", virtualxid=virtual_transaction(session))
        yield _row(session.node, place, transaction, "ExclusiveLock", is_granted=True)
    if has_transaction_id(session):
        place = _Place("transactionid", transactionid=transaction.id)
        yield _row(session.node, place, transaction, "ExclusiveLock", is_granted=True)


def _place(resource: Hashable, database_id: int) -> _Place | None:
    if isinstance(resource, tuple):
        database_id, high, low, kind = advisory_place(resource)
        return _Place("advisory", database_id, classid=high, objid=low, objsubid=kind)
    if isinstance(resource, int):
        return _Place("relation", database_id, resource)
    if isinstance(resource, CatalogResource) and resource.kind == "object":
        return _Place(LOCKTYPES[CatalogResource], database_id, objid=resource.number, objsubid=0)
    return None  # A name: in PostgreSQL that is a row of a catalog.


def _waiting_rows(node: SessionManager, request: LockRequest) -> Iterator[Row]:
    names = node.transactions.locks.names
    wait = wait_of(request, names)
    resource, owner = request.lock.resource, request.owner
    database_id = names.database_id(owner)
    row_place = None
    if isinstance(resource, bytes):
        row_place = _Place(
            "tuple", database_id, names.relation(resource)[0] or None, *tuple_place(resource)
        )
    place = _place(resource, database_id)
    if wait.locktype == "tuple":
        place = row_place
    elif wait.locktype == "transactionid":
        place = _Place("transactionid", transactionid=wait.other.started)
    assert place is not None, resource
    if wait.tuple_mode and row_place is not None:
        yield _row(node, row_place, owner, wait.tuple_mode, is_granted=True)
    since = sql_timestamp(request.since_us) if request.since_us else None
    yield _row(node, place, owner, wait.mode, is_granted=False, since=since)


def _row(
    node: SessionManager,
    place: _Place,
    owner: LockOwner,
    mode: str,
    *,
    is_granted: bool,
    since: int | None = None,
) -> Row:
    process_id = int(owner.deadlock_name)
    session = node.find_session(process_id)
    # Without a session: what the node does on its own.
    virtual = f"{process_id}/{owner.started}" if session is None else virtual_transaction(session)
    return (*place, virtual, process_id, mode, is_granted, False, since)
