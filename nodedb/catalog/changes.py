"""Catalog changes: what a transaction's DDL does to the descriptors, before and after it commits.

A session with DDL in progress holds a ``CatalogOverlay`` over the newest catalog, which it follows
(``rebase``): what others commit is seen at once, as in PostgreSQL. Statements put and delete whole
descriptors; ``snapshot`` is the catalog as that session sees it. At commit ``changes()`` becomes
the payload of one metadata log entry and every node applies it with ``apply_change``, which cannot
fail. ``conflict`` tells, against the newest snapshot, whether the changes may still be applied;
sessions lock what they change (``nodedb.catalog.claims``), so at COMMIT it finds nothing.

Guarantees: a descriptor's version grows by exactly one per transaction that changes it; an object
created and dropped in one transaction leaves nothing; ids taken after a mark are free again after
``rollback`` unless an ``IdAllocator`` is shared with other sessions, which never gives an id twice.

Payload: ``format version:1 byte | MessagePack of CatalogChange``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from sql.catalog.descriptor import (
    FIRST_USER_ID,
    AnyDescriptor,
    Database,
    Role,
    Schema,
    Sequence,
    Table,
    View,
)
from sql.errors import (
    DuplicateDatabase,
    DuplicateObject,
    DuplicateSchema,
    DuplicateTable,
    SerializationFailure,
    SqlError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sql.catalog.snapshot import CatalogSnapshot

FORMAT_VERSION: Final = 1


class CatalogChange(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The net effect of one transaction's DDL.

    ``deletes`` apply before ``puts``; what follows ``next_id`` is for audit.
    """

    puts: tuple[AnyDescriptor, ...] = ()
    deletes: tuple[int, ...] = ()
    next_id: int = 0
    user: str = ""
    statements: tuple[str, ...] = ()
    """Tags of the statements, in order (``CREATE TABLE``)."""
    process_id: int = 0
    client: str = ""
    """Address of the client; "" for the node itself."""
    committed_at: int = 0
    """Microseconds since 2000-01-01 UTC, as the session's node had it."""

    def encode(self) -> bytes:
        """Return the payload of a metadata log entry."""
        return bytes((FORMAT_VERSION,)) + _ENCODER.encode(self)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(CatalogChange)


def decode_change(payload: bytes) -> CatalogChange:
    """Read a payload written by ``CatalogChange.encode``.

    ValueError for an unknown format version.
    """
    if not payload or payload[0] != FORMAT_VERSION:
        version = payload[0] if payload else None
        raise ValueError(f"catalog change of unknown format version {version}")
    return _DECODER.decode(memoryview(payload)[1:])


def apply_change(snapshot: CatalogSnapshot, change: CatalogChange, index: int) -> CatalogSnapshot:
    """Return the catalog after ``change``.

    ``index`` is the metadata log index and becomes the schema version.
    """
    return snapshot.with_changes(
        change.puts,
        change.deletes,
        schema_version=index,
        next_id=max(snapshot.next_id, change.next_id),
    )


class IdAllocator:
    """Gives out object ids to all sessions of a node.

    An id given out is never given again while the node runs.
    """

    __slots__ = ("_next",)

    def __init__(self, snapshot: CatalogSnapshot) -> None:
        self._next = snapshot.next_id

    def __call__(self) -> int:
        """Return a fresh id."""
        result = self._next
        self._next += 1
        return result

    def observe(self, snapshot: CatalogSnapshot) -> None:
        """Skip the ids that other nodes have used, as seen in a newly applied snapshot."""
        self._next = max(self._next, snapshot.next_id)


class Author(NamedTuple):
    """Who commits a change, for the audit; the fields of ``CatalogChange``."""

    user: str = ""
    process_id: int = 0
    client: str = ""
    committed_at: int = 0


NOBODY: Final = Author()


class Mark(NamedTuple):
    """An overlay's state at a savepoint."""

    puts: dict[int, AnyDescriptor]
    deletes: dict[int, int]
    next_id: int
    statements: int


class CatalogOverlay:
    """One transaction's uncommitted catalog changes over ``base``."""

    __slots__ = (
        "_allocate",
        "_deletes",
        "_is_stale",
        "_next_id",
        "_puts",
        "_snapshot",
        "base",
        "statements",
    )

    def __init__(self, base: CatalogSnapshot, allocate: Callable[[], int] | None = None) -> None:
        self.base = base
        self.statements: list[str] = []
        self._allocate = allocate
        self._puts: dict[int, AnyDescriptor] = {}
        self._deletes: dict[int, int] = {}
        """Ids, with the versions that were deleted."""
        self._next_id = base.next_id
        self._snapshot: CatalogSnapshot | None = base
        self._is_stale = False

    @property
    def snapshot(self) -> CatalogSnapshot:
        """The catalog as this transaction sees it; its schema_version is the base's."""
        if self._snapshot is None:
            self._snapshot = self.base.with_changes(
                self._puts.values(),
                self._deletes,
                schema_version=self.base.schema_version,
                next_id=self._next_id,
            )
        return self._snapshot

    @property
    def is_changed(self) -> bool:
        """Tell whether anything would be committed."""
        return bool(self._puts or self._deletes)

    def put(self, descriptor: AnyDescriptor) -> None:
        """Create or replace a descriptor.

        Its ``version`` is set here: 1, or one more than the base's. The version it comes with tells
        what it was made from: when others have replaced that meanwhile, ``conflict`` will say so.
        """
        old = self.base.get(descriptor.id)
        if descriptor.id not in self._puts and old is not None:
            self._is_stale |= descriptor.version != old.version
        version = 1 if old is None else old.version + 1
        if descriptor.version != version:
            descriptor = msgspec.structs.replace(descriptor, version=version)
        self._puts[descriptor.id] = descriptor
        self._deletes.pop(descriptor.id, None)
        self._snapshot = None

    def delete(self, descriptor_id: int) -> None:
        """Delete a descriptor."""
        self._puts.pop(descriptor_id, None)
        old = self.base.get(descriptor_id)
        if old is not None:
            self._deletes[descriptor_id] = old.version
        self._snapshot = None

    def allocate_id(self) -> int:
        """Return a fresh id for an object, a constraint, an index or a storage."""
        result = self._next_id if self._allocate is None else self._allocate()
        self._next_id = max(self._next_id, result + 1)
        return result

    def mark(self) -> Mark:
        """Remember the current state for ``rollback``."""
        return Mark(dict(self._puts), dict(self._deletes), self._next_id, len(self.statements))

    def rollback(self, mark: Mark) -> None:
        """Return to the state at ``mark``, which stays usable."""
        self._puts = dict(mark.puts)
        self._deletes = dict(mark.deletes)
        self._next_id = mark.next_id
        del self.statements[mark.statements :]
        self._snapshot = None
        self._is_stale = False

    def changed_since(self, mark: Mark) -> list[tuple[AnyDescriptor | None, AnyDescriptor | None]]:
        """Return (before, after) of what was put or deleted since a mark, in id order.

        ``before`` is the committed descriptor, None for a new one; ``after`` is None when deleted.
        """
        ids = {i for i, put in self._puts.items() if mark.puts.get(i) is not put}
        ids |= self._deletes.keys() - mark.deletes.keys()
        return [(self.base.get(i), self._puts.get(i)) for i in sorted(ids)]

    def changes(self, author: Author = NOBODY) -> CatalogChange | None:
        """Return what to commit, in id order (for determinism), or None when nothing changed."""
        if not self.is_changed:
            return None
        return CatalogChange(
            puts=tuple(self._puts[i] for i in sorted(self._puts)),
            deletes=tuple(sorted(self._deletes)),
            next_id=self._next_id,
            user=author.user,
            statements=tuple(self.statements),
            process_id=author.process_id,
            client=author.client,
            committed_at=author.committed_at,
        )

    def rebase(self, newer: CatalogSnapshot) -> None:
        """Take ``newer`` as the base; the changes stay."""
        if newer is self.base:
            return
        self.base = newer
        self._next_id = max(self._next_id, newer.next_id)
        self._snapshot = None

    def conflict(self, newer: CatalogSnapshot) -> SqlError | None:
        """Return the error that forbids committing on top of ``newer``, None if there is none.

        DuplicateTable (42P07) and its like when a name was taken meanwhile; SerializationFailure
        (40001) when an object we changed, or one we rely on, was changed or dropped. Running the
        statement, or the transaction, again cures the latter.
        """
        if self._is_stale or any(self._is_replaced(newer, put) for put in self._puts.values()):
            return SerializationFailure("could not serialize access due to concurrent update")
        for descriptor_id, version in self._deletes.items():
            now = newer.get(descriptor_id)
            if now is None or now.version != version:
                return SerializationFailure("could not serialize access due to concurrent update")
        for descriptor in self._puts.values():
            error = self._taken(newer, descriptor) or self._orphaned(newer, descriptor)
            if error is not None:
                return error
        return None

    @staticmethod
    def _is_replaced(newer: CatalogSnapshot, put: AnyDescriptor) -> bool:
        """Tell whether ``newer`` has not the version that a changed descriptor was made from."""
        now = newer.get(put.id)
        return put.version != (1 if now is None else now.version + 1)

    def _taken(self, newer: CatalogSnapshot, descriptor: AnyDescriptor) -> SqlError | None:
        holder = _holder_of_name(newer, descriptor)
        if holder in (None, descriptor.id) or holder in self._deletes:
            return None
        if holder in self._puts and _name_key(self._puts[holder]) != _name_key(descriptor):
            return None
        name = descriptor.name
        match descriptor:
            case Database():
                return DuplicateDatabase(f'database "{name}" already exists')
            case Role():
                return DuplicateObject(f'role "{name}" already exists')
            case Schema():
                return DuplicateSchema(f'schema "{name}" already exists')
            case Table() | View() | Sequence():
                return DuplicateTable(f'relation "{name}" already exists')

    def _orphaned(self, newer: CatalogSnapshot, descriptor: AnyDescriptor) -> SqlError | None:
        needed = [descriptor.owner]
        if isinstance(descriptor, Schema):
            needed.append(descriptor.database_id)
        elif isinstance(descriptor, (Table, View, Sequence)):
            needed.append(descriptor.schema_id)
        if isinstance(descriptor, View):
            # Relations below are system tables, which are not stored.
            needed.extend(on for on, _ in descriptor.depends_on if on >= FIRST_USER_ID)
        if isinstance(descriptor, Table):
            needed.extend(key.referenced_table_id for key in descriptor.foreign_keys)
        for descriptor_id in needed:
            if descriptor_id not in self._puts and (
                newer.get(descriptor_id) is None or descriptor_id in self._deletes
            ):
                return SerializationFailure("could not serialize access due to concurrent delete")
        return None


def _name_key(descriptor: AnyDescriptor) -> tuple[str, int, str]:
    match descriptor:
        case Database():
            return ("database", 0, descriptor.name)
        case Role():
            return ("role", 0, descriptor.name)
        case Schema():
            return ("schema", descriptor.database_id, descriptor.name)
        case Table() | View() | Sequence():
            return ("relation", descriptor.schema_id, descriptor.name)


def _holder_of_name(snapshot: CatalogSnapshot, descriptor: AnyDescriptor) -> int | None:
    found: AnyDescriptor | None
    match descriptor:
        case Database():
            found = snapshot.database(descriptor.name)
        case Role():
            found = snapshot.role(descriptor.name)
        case Schema():
            found = snapshot.schema(descriptor.database_id, descriptor.name)
        case Table() | View() | Sequence():
            found = snapshot.relation(descriptor.schema_id, descriptor.name)
    return None if found is None else found.id
