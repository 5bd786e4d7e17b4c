"""INSERT, UPDATE and DELETE: rows made, verified, locked, checked again, written; RETURNING.

Foreign keys at the end.

A statement never sees its own writes (``sql.executor.store``), so input and writing go batch by
batch. All work is done before the first RETURNING row goes out. A row that changed between
reading and locking is taken in its newest version, and the condition is evaluated again with it
(PostgreSQL docs, "Read Committed Isolation Level").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sql.errors import CardinalityViolation, SqlError
from sql.executor.foreign_keys import ForeignKeyWork
from sql.executor.join import LoopCode
from sql.executor.node import Batches, Node, RowMeter, chunks, close_generator
from sql.executor.store import LockedRow, LockStrength, TableAccess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sql.catalog.descriptor import Table
    from sql.executor.foreign_keys import StatementChanges
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

AFFECTED: Final = "executor.affected_rows"


@dataclass(frozen=True, slots=True)
class TargetCode:
    """A written table: how storage is reached, and ``verify(row, context) -> row``.

    ``verify`` fills generated columns and raises for NOT NULL (23502) and CHECK (23514).
    """

    access: TableAccess
    verify: LoopCode
    foreign_keys: ForeignKeyWork | None

    @property
    def table(self) -> Table:
        """The table."""
        return self.access.table

    async def verified(
        self, rows: Sequence[Row], context: ExecutionContext
    ) -> tuple[list[Row], SqlError | None]:
        """Verify rows up to the first refused one; returns them and why that one was refused.

        The caller writes them before it raises: rows are checked one after the other, so that
        a duplicate key of an earlier row is reported rather than a NULL of a later one.
        """
        return await until_fault(self.verify, rows, context)


async def until_fault(
    code: LoopCode, rows: Sequence[Row], context: ExecutionContext
) -> tuple[list[Row], SqlError | None]:
    """Apply ``code(row, context)`` to rows up to the first error."""
    call = code.call
    done: list[Row] = []
    append = done.append
    try:
        if code.is_async:
            for row in rows:
                append(await call(row, context))
        else:
            for row in rows:
                append(call(row, context))
    except SqlError as fault:
        return done, fault
    return done, None


async def _run(code: LoopCode, *args: Any) -> Any:
    result = code.call(*args)
    return await result if code.is_async else result


class ModifyNode(Node):
    """What the three statements share: counting, RETURNING, foreign keys at the end."""

    verb = "Insert"

    def __init__(
        self, layout: Sequence[int], child: Node, target: TargetCode, returning: LoopCode | None
    ) -> None:
        super().__init__(layout, (child,))
        self.target = target
        self.alias = ""
        self.view_check: LoopCode | None = None
        self._returning = returning

    def title(self) -> str:
        """Return EXPLAIN's name."""
        name = self.target.table.name
        alias = "" if self.alias in {"", name} else f" {self.alias}"
        return f"{self.verb} on {name}{alias}"

    async def run(self, context: ExecutionContext) -> Batches:
        """Do everything, then yield RETURNING's rows."""
        meter = RowMeter(context)
        work = self.target.foreign_keys
        changes = None if work is None else work.begin()
        returned: list[Row] = []
        count = 0
        operator = self.children[0].open(context)
        try:
            while rows := await operator.next_batch():
                done = await self.apply(rows, context, changes)
                count += len(done)
                if self._returning is not None and done:
                    out = await _run(self._returning, done, context)
                    meter.add(out)
                    returned += out
                await context.checkpoint()
            operator.close()
            context.cache[AFFECTED, self] = count
            if work is not None and changes is not None:
                await work.finish(changes, context)
            for batch in chunks(returned):
                yield batch
        finally:
            operator.close()
            meter.release()

    async def accepted(
        self, rows: Sequence[Row], context: ExecutionContext
    ) -> tuple[list[Row], SqlError | None]:
        """Verify rows as ``TargetCode.verified`` does, then against the views' check options.

        The standard tests these last: a row that only they refuse is returned with the fault, so
        that it is written, and meets the unique indexes, before the fault is raised.
        """
        done, fault = await self.target.verified(rows, context)
        if self.view_check is not None:
            inside, outside = await until_fault(self.view_check, done, context)
            if outside is not None:
                return done[: len(inside) + 1], outside
        return done, fault

    async def apply(
        self,
        rows: list[Row],  # noqa: ARG002
        context: ExecutionContext,  # noqa: ARG002
        changes: StatementChanges | None,  # noqa: ARG002
    ) -> list[Row]:
        """Write a batch; returns what RETURNING is computed from, one per affected row."""
        raise AssertionError("abstract")


@dataclass(frozen=True, slots=True)
class ConflictCode:
    """ON CONFLICT: over ``existing + excluded`` rows; without ``assign`` DO NOTHING.

    ``strength`` is how an existing row is locked; None: not at all.
    """

    arbiters: tuple[int, ...]
    assign: LoopCode | None
    where: LoopCode | None
    changed: frozenset[int]
    strength: LockStrength | None


class InsertNode(ModifyNode):
    """INSERT. The input's rows are whole table rows."""

    verb = "Insert"

    def __init__(
        self,
        layout: Sequence[int],
        child: Node,
        target: TargetCode,
        returning: LoopCode | None,
        conflict: ConflictCode | None,
    ) -> None:
        super().__init__(layout, child, target, returning)
        self._conflict = conflict

    async def apply(
        self, rows: list[Row], context: ExecutionContext, changes: StatementChanges | None
    ) -> list[Row]:
        """Verify and insert; conflicting rows are skipped or updated."""
        target = self.target
        if self._conflict is not None:
            return await self._insert_each(rows, self._conflict, context, changes)
        rows, fault = await self.accepted(rows, context)
        await context.store.insert(target.access, rows)
        if fault is not None:
            raise fault
        if changes is not None:
            changes.inserted(rows)
        return rows

    async def _insert_each(
        self,
        rows: list[Row],
        conflict: ConflictCode,
        context: ExecutionContext,
        changes: StatementChanges | None,
    ) -> list[Row]:
        rows, fault = await self.target.verified(rows, context)
        done = []
        for row in rows:
            result = await self._insert_one(row, conflict, context, changes)
            if result is not None:
                done.append(result)
        if fault is not None:
            raise fault
        return done

    async def _insert_one(
        self,
        row: Row,
        conflict: ConflictCode,
        context: ExecutionContext,
        changes: StatementChanges | None,
    ) -> Row | None:
        target = self.target
        store = context.store
        existing = await store.insert_or_conflict(
            target.access, row, conflict.arbiters, conflict.strength
        )
        if existing is None:
            if self.view_check is not None:
                await _run(self.view_check, row, context)
            if changes is not None:
                changes.inserted([row])
            return row
        if conflict.assign is None:
            return None
        if store.written_by_command(target.table, existing):
            raise CardinalityViolation(
                "ON CONFLICT DO UPDATE command cannot affect row a second time",
                hint="Ensure that no rows proposed for insertion within the same command have "
                "duplicate constrained values.",
            )
        both = existing + row
        if conflict.where is not None and not await _run(conflict.where, both, context):
            return None
        new = await _run(conflict.assign, both, context)
        new = await _run(target.verify, new, context)
        await store.update(target.access, [existing], [new])
        if self.view_check is not None:
            await _run(self.view_check, new, context)
        if changes is not None:
            changes.updated([existing], [new], conflict.changed)
        result: Row = new
        return result


class ChangeNode(ModifyNode):
    """What UPDATE and DELETE share: locking the target's rows and checking changed ones again."""

    purpose = "updating"

    def __init__(
        self,
        layout: Sequence[int],
        child: Node,
        target: TargetCode,
        returning: LoopCode | None,
        *,
        positions: Sequence[int],
        condition: LoopCode | None,
        strength: LockStrength,
    ) -> None:
        super().__init__(layout, child, target, returning)
        self._positions = tuple(positions)
        self._condition = condition
        self._strength = strength
        self._joined = len(child.layout) > len(self._positions)
        self._whole = self._positions == tuple(range(len(child.layout)))

    async def run(self, context: ExecutionContext) -> Batches:
        """Do everything, then yield RETURNING's rows."""
        context.cache[self] = set()
        rows = super().run(context)
        try:
            async for batch in rows:
                yield batch
        finally:
            close_generator(rows)

    async def locked(
        self, rows: list[Row], context: ExecutionContext
    ) -> tuple[list[Row], list[Row]]:
        """Lock the target rows; returns (newest target rows, joined rows with them in place)."""
        key = self.target.table.clustering_key
        positions = self._positions
        touched: set[Row] = context.cache[self]
        olds, joined = [], []
        for row in rows:
            old = row if self._whole else tuple([row[p] for p in positions])
            if self._joined:
                identity = tuple([old[p] for p in key])
                if identity in touched or None in identity:
                    continue
                touched.add(identity)
            olds.append(old)
            joined.append(row)
        results = await self._lock(olds, joined, context)
        newest, final = [], []
        for (current, changed), row in zip(results, joined, strict=True):
            if current is None:
                continue
            if changed:
                fresh = list(row)
                for position, value in zip(positions, current, strict=True):
                    fresh[position] = value
                row = tuple(fresh)  # noqa: PLW2901
                if self._condition is not None and not await _run(self._condition, row, context):
                    continue
            newest.append(current)
            final.append(row)
        return newest, final

    async def _lock(
        self, olds: list[Row], joined: list[Row], context: ExecutionContext
    ) -> list[LockedRow]:
        """Lock target rows in the strength that the change needs."""
        del joined
        locked: list[LockedRow] = await context.store.lock(
            self.target.table, olds, self._strength, "wait", self.purpose
        )
        return locked


class UpdateNode(ChangeNode):
    """UPDATE. ``assign(row, context)`` makes the new row of a joined row.

    RETURNING sees new row + joined row.

    Rows whose keys are assigned what they are already need the weaker lock only, as in PostgreSQL:
    object mappers assign all columns, and children of such a row must not wait. ``keys`` are the
    assigned key columns and what computes their values, None where only the lock tells.
    """

    verb = "Update"
    keys: tuple[tuple[int, ...], LoopCode] | None = None

    def set_assignments(self, assign: LoopCode, changed: frozenset[int]) -> None:
        """Complete the node, at planning time."""
        self._assign = assign
        self._changed = changed

    async def _lock(
        self, olds: list[Row], joined: list[Row], context: ExecutionContext
    ) -> list[LockedRow]:
        if self.keys is None or self._strength != "update":
            return await super()._lock(olds, joined, context)
        table, store = self.target.table, context.store
        locked: list[LockedRow] = []
        for old, row in zip(olds, joined, strict=True):
            strength = await self._strength_for(old, row, context)
            (result,) = await store.lock(table, [old], strength, "wait", self.purpose)
            newest = result.row
            if strength != "update" and result.changed and newest is not None:
                # Its keys may have been changed since: then the weaker lock is not enough.
                strength = await self._strength_for(newest, row, context)
                if strength == "update":
                    (again,) = await store.lock(table, [newest], strength, "wait", self.purpose)
                    result = LockedRow(again.row, changed=True)
            locked.append(result)
        return locked

    async def _strength_for(self, old: Row, joined: Row, context: ExecutionContext) -> LockStrength:
        """Return the lock that a row needs: the strong one only if its keys change."""
        assert self.keys is not None
        positions, assign = self.keys
        try:
            values = await _run(assign, joined, context)
        except SqlError:
            return "update"  # The assignment says so itself, under the lock.
        same = all(old[p] == value for p, value in zip(positions, values, strict=True))
        return "no key update" if same else "update"

    async def apply(
        self, rows: list[Row], context: ExecutionContext, changes: StatementChanges | None
    ) -> list[Row]:
        """Lock, compute, verify, write."""
        olds, joined = await self.locked(rows, context)
        if not olds:
            return []
        assigned, late_fault = await until_fault(self._assign, joined, context)
        news, fault = await self.accepted(assigned, context)
        fault = fault or late_fault
        if fault is not None:
            olds = olds[: len(news)]
        await context.store.update(self.target.access, olds, news)
        if fault is not None:
            raise fault
        if changes is not None:
            changes.updated(olds, news, self._changed)
        return [new + row for new, row in zip(news, joined, strict=True)]


class DeleteNode(ChangeNode):
    """DELETE. RETURNING sees the joined row."""

    verb = "Delete"
    purpose = "deleting"

    async def apply(
        self, rows: list[Row], context: ExecutionContext, changes: StatementChanges | None
    ) -> list[Row]:
        """Lock, then delete."""
        olds, joined = await self.locked(rows, context)
        if olds:
            await context.store.delete(self.target.access, olds)
            if changes is not None:
                changes.deleted(olds)
        return joined
