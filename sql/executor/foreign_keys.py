"""Foreign keys: checks and referential actions at the end of each statement.

Or when the session says so.

Each written table has a ``ForeignKeyWork``; a statement notes its new keys (to look up in the
parents) and its vanished keys (to look up in the children) in ``StatementChanges``. Cascades
write through the same verification as statements and do their own foreign keys in turn. Parents
of new keys are locked FOR KEY SHARE.

A deferrable constraint that is deferred just now goes to ``context.cache[DEFERRED]``, a
``DeferredChecks`` that the session keeps for its transaction and runs by ``run_deferred`` at
COMMIT or SET CONSTRAINTS IMMEDIATE.

Source: PostgreSQL docs, "Foreign Keys", "CREATE TABLE" (REFERENCES), "SET CONSTRAINTS".
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

from sql.catalog.descriptor import PRIMARY_INDEX_ID, ForeignKey, Table
from sql.errors import ForeignKeyViolation
from sql.executor.node import datum_bytes
from sql.executor.store import KeySpan, TableAccess
from sql.executor.violations import describe_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sql.catalog.catalog import Catalog
    from sql.executor.join import LoopCode
    from sql.executor.modify import TargetCode
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

DEFERRED: Final = "deferred"
Key = tuple[Any, ...]


class TargetSource(Protocol):
    """Where cascades find the compiled code of the tables they write."""

    def of_table(self, table: Table) -> TargetCode:
        """Return the code of a table."""

    def defaults(self, table: Table, columns: tuple[int, ...]) -> LoopCode:
        """Return ``f(context) -> tuple`` of the columns' defaults."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One foreign key with both of its tables."""

    key: ForeignKey
    child: Table
    parent: Table
    child_schema: str


class DeferredChecks:
    """Checks that wait for the end of the transaction.

    ``is_deferred`` tells whether a constraint waits just now.
    """

    def __init__(self, is_deferred: Callable[[ForeignKey], bool] | None = None) -> None:
        self._is_deferred = is_deferred or (lambda key: key.initially_deferred)
        self._waiting: dict[
            tuple[str, int, int], tuple[str, Constraint, TargetSource, set[Key]]
        ] = {}

    def defers(self, key: ForeignKey) -> bool:
        """Tell whether checks of this constraint wait."""
        return key.deferrable and self._is_deferred(key)

    def add(
        self, kind: str, constraint: Constraint, source: TargetSource, keys: Iterable[Key]
    ) -> None:
        """Queue keys: "child" keys need a parent, "parent" keys must have no child left."""
        entry = self._waiting.setdefault(
            (kind, constraint.child.id, constraint.key.id), (kind, constraint, source, set())
        )
        entry[3].update(keys)

    def take(self, chosen: Callable[[ForeignKey], bool] | None = None) -> list[Any]:
        """Remove and return what waits, of all constraints or of the chosen ones."""
        taken = [
            (name, entry)
            for name, entry in self._waiting.items()
            if chosen is None or chosen(entry[1].key)
        ]
        for name, _ in taken:
            del self._waiting[name]
        return [entry for _, entry in taken]

    def concern(self, table_id: int) -> bool:
        """Tell whether a check waits that writing this table has left."""
        return any(
            (constraint.child if kind == "child" else constraint.parent).id == table_id
            for kind, constraint, _, _ in self._waiting.values()
        )

    def __len__(self) -> int:
        """Return how many constraints wait."""
        return len(self._waiting)


async def run_deferred(
    queue: DeferredChecks,
    context: ExecutionContext,
    chosen: Callable[[ForeignKey], bool] | None = None,
) -> None:
    """Run the waiting checks; ForeignKeyViolation (23503).

    A constraint that is gone by now has nothing to check.
    """
    for kind, noted, _source, keys in queue.take(chosen):
        constraint = _as_of_now(noted, context)
        if constraint is None:
            continue
        if kind == "child":
            await check_parents(constraint, keys, context, only_present=True)
        else:
            await check_children(constraint, keys, context)


def _as_of_now(noted: Constraint, context: ExecutionContext) -> Constraint | None:
    """Return a constraint with its tables as this transaction has them by now."""
    snapshot = context.catalog.snapshot
    child, parent = snapshot.table(noted.child.id), snapshot.table(noted.parent.id)
    if child is None or parent is None:
        return None
    for key in child.foreign_keys:
        if key.id == noted.key.id:
            return Constraint(key, child, parent, noted.child_schema)
    return None


@dataclass(slots=True)
class StatementChanges:
    """What one statement did to keys that take part in foreign keys."""

    work: ForeignKeyWork
    new_keys: dict[int, set[Key]] = field(default_factory=dict)
    old_keys: dict[int, dict[Key, Key | None]] = field(default_factory=dict)
    """By number of the incoming constraint: old key -> new key (None: deleted)."""

    def inserted(self, rows: Sequence[Row]) -> None:
        """Note inserted rows."""
        for number, constraint in enumerate(self.work.outgoing):
            self._note_new(number, constraint.key, rows)

    def updated(self, olds: Sequence[Row], news: Sequence[Row], changed: frozenset[int]) -> None:
        """Note updated rows; only ``changed`` columns may differ."""
        for number, constraint in enumerate(self.work.outgoing):
            if changed.intersection(constraint.key.columns):
                columns = constraint.key.columns
                rows = [
                    new
                    for old, new in zip(olds, news, strict=True)
                    if _pick(old, columns) != _pick(new, columns)
                ]
                self._note_new(number, constraint.key, rows)
        for number, constraint in enumerate(self.work.incoming):
            columns = constraint.key.referenced_columns
            if changed.intersection(columns):
                gone = self.old_keys.setdefault(number, {})
                for old, new in zip(olds, news, strict=True):
                    before, after = _pick(old, columns), _pick(new, columns)
                    if before != after and None not in before:
                        gone[before] = after

    def deleted(self, rows: Sequence[Row]) -> None:
        """Note deleted rows."""
        for number, constraint in enumerate(self.work.incoming):
            gone = self.old_keys.setdefault(number, {})
            for row in rows:
                key = _pick(row, constraint.key.referenced_columns)
                if None not in key:
                    gone[key] = None

    def _note_new(self, number: int, key: ForeignKey, rows: Sequence[Row]) -> None:
        wanted = self.new_keys.setdefault(number, set())
        columns = key.columns
        for row in rows:
            value = _pick(row, columns)
            if None not in value or (key.match_full and any(v is not None for v in value)):
                wanted.add(value)


def _pick(row: Row, columns: tuple[int, ...]) -> Key:
    return tuple([row[c] for c in columns])


class ForeignKeyWork:
    """The foreign keys of one table: outgoing (it refers) and incoming (others refer to it).

    The source knows it too, so the plan's node keeps the source and here is a weak reference:
    plans come and go by the thousand, and cycles would leave them to the collector.
    """

    __slots__ = ("_source", "incoming", "outgoing")

    def __init__(
        self, outgoing: Sequence[Constraint], incoming: Sequence[Constraint], source: TargetSource
    ) -> None:
        self.outgoing = tuple(outgoing)
        self.incoming = tuple(incoming)
        self._source = weakref.ref(source)

    @property
    def _targets(self) -> TargetSource:
        source = self._source()
        assert source is not None, "the plan that owns the source is gone"
        return source

    @classmethod
    def of(cls, table: Table, catalog: Catalog, source: TargetSource) -> ForeignKeyWork | None:
        """Return a table's work, None when it takes part in no foreign key."""
        outgoing = []
        for key in table.foreign_keys:
            parent = catalog.snapshot.table(key.referenced_table_id)
            if parent is not None:
                outgoing.append(
                    Constraint(key, table, parent, catalog.schema_name(table.schema_id))
                )
        incoming = []
        for child_id in table.referenced_by:
            child = catalog.snapshot.table(child_id)
            if child is None:
                continue
            for key in child.foreign_keys:
                if key.referenced_table_id == table.id:
                    incoming.append(  # noqa: PERF401
                        Constraint(key, child, table, catalog.schema_name(child.schema_id))
                    )
        if not outgoing and not incoming:
            return None
        return cls(outgoing, incoming, source)

    def begin(self) -> StatementChanges:
        """Start noting one statement's changes."""
        return StatementChanges(self)

    async def finish(self, changes: StatementChanges, context: ExecutionContext) -> None:
        """Run actions, then checks; ForeignKeyViolation (23503)."""
        held = sum(datum_bytes(k) for keys in changes.new_keys.values() for k in list(keys)[:4])
        context.memory.charge(held)
        try:
            await self._act(changes, context)
            await self._check(changes, context)
        finally:
            context.memory.release(held)

    async def _act(self, changes: StatementChanges, context: ExecutionContext) -> None:
        for number, gone in changes.old_keys.items():
            constraint = self.incoming[number]
            deleted = {key for key, new in gone.items() if new is None}
            moved = {key: new for key, new in gone.items() if new is not None}
            if deleted:
                await self._act_on(
                    constraint, constraint.key.on_delete, dict.fromkeys(deleted), context
                )
            if moved:
                await self._act_on(constraint, constraint.key.on_update, moved, context)

    async def _act_on(
        self, constraint: Constraint, action: str, keys: dict[Key, Any], context: ExecutionContext
    ) -> None:
        if action in {"no action", "restrict"}:
            queue = context.cache.get(DEFERRED)
            if action == "no action" and queue is not None and queue.defers(constraint.key):
                queue.add("parent", constraint, self._targets, keys)
                return
            await check_children(constraint, keys, context, restrict=action == "restrict")
            return
        rows = await referencing_rows(constraint, keys, context)
        if not rows:
            return
        is_delete = next(iter(keys.values())) is None
        target = self._targets.of_table(constraint.child)
        locked = await _lock(context, constraint.child, rows, "update")
        rows = [row for row in locked if _pick(row, constraint.key.columns) in keys]
        if action == "cascade" and is_delete:
            await _delete_rows(target, rows, context)
            return
        columns = constraint.key.columns
        if action == "cascade":
            news = [_replaced(row, columns, keys[_pick(row, columns)]) for row in rows]
        else:
            if is_delete and constraint.key.on_delete_columns:
                columns = constraint.key.on_delete_columns
            values: Key = (None,) * len(columns)
            if action == "set default":
                defaults = self._targets.defaults(constraint.child, columns)
                found = defaults.call(context)
                values = await found if defaults.is_async else found
            news = [_replaced(row, columns, values) for row in rows]
        await _update_rows(target, rows, news, frozenset(columns), context)
        if action == "set default":
            # A default equal to the vanished key changed nothing above, and is missing its parent.
            await check_children(constraint, keys, context)

    async def _check(self, changes: StatementChanges, context: ExecutionContext) -> None:
        queue: DeferredChecks | None = context.cache.get(DEFERRED)
        for number, keys in changes.new_keys.items():
            if not keys:
                continue
            constraint = self.outgoing[number]
            if queue is not None and queue.defers(constraint.key):
                queue.add("child", constraint, self._targets, keys)
            else:
                await check_parents(constraint, keys, context)


def _replaced(row: Row, columns: tuple[int, ...], values: Key) -> Row:
    fresh = list(row)
    for column, value in zip(columns, values, strict=True):
        fresh[column] = value
    return tuple(fresh)


async def _lock(
    context: ExecutionContext, table: Table, rows: Sequence[Row], strength: str
) -> list[Row]:
    locked = await context.store.current().lock(table, rows, strength, "wait")
    return [newest for newest, _ in locked if newest is not None]


async def _delete_rows(target: TargetCode, rows: list[Row], context: ExecutionContext) -> None:
    await context.store.delete(target.access, rows)
    work = target.foreign_keys
    if work is not None and rows:
        changes = work.begin()
        changes.deleted(rows)
        await work.finish(changes, context)


async def _update_rows(
    target: TargetCode,
    olds: list[Row],
    news: list[Row],
    changed: frozenset[int],
    context: ExecutionContext,
) -> None:
    news, fault = await target.verified(news, context)
    if fault is not None:
        raise fault
    await context.store.update(target.access, olds, news)
    work = target.foreign_keys
    if work is not None and olds:
        changes = work.begin()
        changes.updated(olds, news, changed)
        await work.finish(changes, context)


async def check_parents(
    constraint: Constraint,
    keys: Iterable[Key],
    context: ExecutionContext,
    *,
    only_present: bool = False,
) -> None:
    """Find and lock the parents of child keys; ForeignKeyViolation (23503) for a key without one.

    ``only_present``: keys that no child row has any more need no parent (deferred checks).
    """
    wanted = sorted(
        keys, key=repr
    )  # For determinism: locks in one order, the same key in the error.
    if only_present and wanted:
        rows = await referencing_rows(constraint, wanted, context)
        present = {_pick(row, constraint.key.columns) for row in rows}
        wanted = [key for key in wanted if key in present]
    if constraint.key.match_full:
        for key in wanted:
            if None in key:
                raise _violation(
                    constraint,
                    constraint.child,
                    f'insert or update on table "{constraint.child.name}" violates foreign key '
                    f'constraint "{constraint.key.name}"',
                    "MATCH FULL does not allow mixing of null and nonnull key values.",
                )
    missing = await _lock_parents(constraint, wanted, context)
    if missing:
        described = describe_key(constraint.child, constraint.key.columns, missing[0], context)
        raise _violation(
            constraint,
            constraint.child,
            f'insert or update on table "{constraint.child.name}" violates foreign key '
            f'constraint "{constraint.key.name}"',
            f'Key {described} is not present in table "{constraint.parent.name}".',
        )


async def _lock_parents(
    constraint: Constraint, keys: list[Key], context: ExecutionContext
) -> list[Key]:
    """Lock the parents of keys so that they stay; returns the keys that have none."""
    missing: list[Key] = []
    while keys:
        found = await parent_rows(constraint, keys, context, for_child=True)
        missing += [key for key in keys if key not in found]
        pairs = list(found.items())
        locked = await context.store.parents().lock(
            constraint.parent, [row for _, row in pairs], "key share", "wait"
        )
        # While we waited a parent may have gone, or got another key, or another row got this one.
        keys = [
            key
            for (key, row), (newest, changed) in zip(pairs, locked, strict=True)
            if newest is None or (changed and _has_other_key(constraint, row, newest))
        ]
    return missing


def _has_other_key(constraint: Constraint, row: Row, newest: Row) -> bool:
    columns = constraint.key.referenced_columns
    return _pick(row, columns) != _pick(newest, columns)


async def check_children(
    constraint: Constraint,
    keys: Iterable[Key],
    context: ExecutionContext,
    *,
    restrict: bool = False,
) -> None:
    """Raise ForeignKeyViolation (23503) if a child row still has a key that left the parent.

    Unless ``restrict``, a key that the parent has again is no violation.
    """
    wanted = set(keys)
    if not restrict:
        back = await parent_rows(constraint, sorted(wanted, key=repr), context)
        wanted -= back.keys()
    if not wanted:
        return
    rows = await referencing_rows(constraint, wanted, context)
    if rows:
        key = _pick(rows[0], constraint.key.columns)
        described = describe_key(constraint.parent, constraint.key.referenced_columns, key, context)
        raise _violation(
            constraint,
            constraint.child,
            f'update or delete on table "{constraint.parent.name}" violates foreign key constraint '
            f'"{constraint.key.name}" on table "{constraint.child.name}"',
            f'Key {described} is still referenced from table "{constraint.child.name}".',
        )


def _violation(
    constraint: Constraint, table: Table, message: str, detail: str
) -> ForeignKeyViolation:
    return ForeignKeyViolation(
        message,
        detail=detail,
        schema=constraint.child_schema,
        table=table.name,
        constraint=constraint.key.name,
    )


def _index_columns(table: Table, index_id: int) -> tuple[int, ...]:
    if index_id == PRIMARY_INDEX_ID:
        return table.clustering_key
    index = next(i for i in table.indexes if i.index_id == index_id)
    return tuple(k.position for k in index.keys)


def _converted(table: Table, column: int, value: Any) -> Any:
    """Give a key the type of the other side's column where the datums differ."""
    name = table.columns[column].type.name
    if name == "numeric" and isinstance(value, int):
        return Decimal(value)
    if name in {"float4", "float8"} and isinstance(value, (int, Decimal)):
        return float(value)
    return value


async def parent_rows(
    constraint: Constraint,
    keys: Sequence[Key],
    context: ExecutionContext,
    *,
    for_child: bool = False,
) -> dict[Key, Row]:
    """Return the parent row of each key that has one, as it is now.

    ``for_child``: as new child rows see it, which REPEATABLE READ keeps at the snapshot.
    """
    parent = constraint.parent
    index_id = constraint.key.referenced_index_id
    referenced = constraint.key.referenced_columns
    order = [referenced.index(c) for c in _index_columns(parent, index_id)]
    whole = [key for key in keys if None not in key]
    looked_up = [
        tuple([_converted(parent, referenced[at], key[at]) for at in order]) for key in whole
    ]
    store = context.store.parents() if for_child else context.store.current()
    if index_id == PRIMARY_INDEX_ID:
        rows = await store.get_many(parent, looked_up)
        return {key: row for key, row in zip(whole, rows, strict=True) if row is not None}
    groups = await store.get_by_index(TableAccess(parent), index_id, looked_up)
    return {key: group[0] for key, group in zip(whole, groups, strict=True) if group}


async def referencing_rows(
    constraint: Constraint, keys: Iterable[Key], context: ExecutionContext
) -> list[Row]:
    """Return the child rows with one of these keys, as they are now.

    By an index if one begins with the columns.
    """
    child = constraint.child
    columns = constraint.key.columns
    wanted = set(keys)
    store = context.store.current()
    rows: list[Row] = []
    found = _child_index(child, columns)
    if found is None:
        cursor = store.scan(child)
        while batch := await cursor.next_batch():
            rows += [row for row in batch if _pick(row, columns) in wanted]
            await context.checkpoint()
        return rows
    index_id, order = found
    prefixes = [
        tuple([_converted(child, columns[at], key[at]) for at in order])
        for key in sorted(wanted, key=repr)
    ]
    if index_id == PRIMARY_INDEX_ID:
        for prefix in prefixes:
            cursor = store.scan(child, [KeySpan(prefix, prefix)])
            while batch := await cursor.next_batch():
                rows += batch
        return rows
    for group in await store.get_by_index(TableAccess(child), index_id, prefixes):
        rows += group
    return rows


def _child_index(child: Table, columns: tuple[int, ...]) -> tuple[int, list[int]] | None:
    candidates = [(PRIMARY_INDEX_ID, child.clustering_key)]
    for index in child.indexes:
        if (
            index.state == "public"
            and index.predicate is None
            and not any(k.expression for k in index.keys)
        ):
            candidates.append((index.index_id, tuple(k.position for k in index.keys)))  # noqa: PERF401
    for index_id, positions in candidates:
        head = positions[: len(columns)]
        if set(head) == set(columns) and len(head) == len(columns):
            return index_id, [columns.index(p) for p in head]
    return None
