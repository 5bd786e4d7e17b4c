"""A table's descriptor while a statement changes it, and the work on rows that follows.

``TableEditor`` is shared by CREATE TABLE and ALTER TABLE: columns and constraints are added to
``table`` first, then ``store`` puts the descriptor and runs what the rows need, once: a rewrite, or
index backfills and validations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog.ddl.names import choose_name
from nodedb.catalog.ddl.objects import is_relation_name_taken
from nodedb.catalog.derived import derived
from sql.catalog.descriptor import Check, Column, ForeignKey, Index, Table
from sql.errors import DuplicateObject, UndefinedColumn

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.query import Expression
    from sql.catalog.snapshot import CatalogSnapshot


def constraint_names(table: Table) -> set[str]:
    """Return the names of a table's constraints."""
    names = {check.name for check in table.checks}
    names.update(key.name for key in table.foreign_keys)
    names.update(index.name for index in table.indexes if index.constraint)
    if table.primary_name:
        names.add(table.primary_name)
    return names


def _schema_constraints(snapshot: CatalogSnapshot) -> dict[int, set[str]]:
    result: dict[int, set[str]] = {}
    for table in snapshot.all(Table):
        result.setdefault(table.schema_id, set()).update(constraint_names(table))
    return result


class TableEditor:
    """One table under change; ``old`` is None for a new one."""

    def __init__(self, env: DdlEnvironment, table: Table, old: Table | None = None) -> None:
        self.env = env
        self.table = table
        self.old = old
        self.conversions: dict[int, Expression] = {}
        self.needs_rewrite = False
        self._not_nulls: list[int] = []
        self._checks: list[Check] = []
        self._indexes: list[int] = []
        self._rebuilt: list[Index] = []
        self._foreign_keys: list[int] = []

    def change(self, **fields: object) -> None:
        """Replace fields of the descriptor."""
        self.table = msgspec.structs.replace(self.table, **fields)

    def column(self, name: str) -> Column:
        """Find a live column; UndefinedColumn (42703)."""
        found = self.table.column_by_name.get(name)
        if found is None:
            raise UndefinedColumn(f'column "{name}" of relation "{self.table.name}" does not exist')
        return found

    def change_column(self, position: int, **fields: object) -> Column:
        """Replace fields of a column."""
        columns = list(self.table.columns)
        columns[position] = msgspec.structs.replace(columns[position], **fields)
        self.change(columns=tuple(columns))
        return columns[position]

    def is_name_taken(self, name: str) -> bool:
        """Tell whether a relation or index of this name is in the table's schema."""
        table = self.table
        own = {table.name, table.primary_name, *(index.name for index in table.indexes)}
        return name in own or is_relation_name_taken(self.env, table.schema_id, name)

    def choose_relation_name(self, column_names: str, label: str, *, constraint: bool) -> str:
        """Make up the name of an index or sequence of this table."""
        return choose_name(
            self.table.name,
            column_names,
            label,
            lambda name: self.is_name_taken(name) or (constraint and self.is_constraint(name)),
        )

    def choose_constraint_name(self, column_names: str, label: str) -> str:
        """Make up the name of a check or foreign key."""
        return choose_name(self.table.name, column_names, label, self.is_constraint)

    def is_constraint(self, name: str) -> bool:
        """Tell whether a constraint of this name is in the table's schema."""
        snapshot = self.env.overlay.snapshot
        others = derived(snapshot, "constraint names", _schema_constraints)
        return name in others.get(self.table.schema_id, ()) or name in constraint_names(self.table)

    def require_free_constraint(self, name: str) -> None:
        """DuplicateObject (42710) if the table has a constraint of this name."""
        if name in constraint_names(self.table):
            raise DuplicateObject(
                f'constraint "{name}" for relation "{self.table.name}" already exists'
            )

    def add_check(self, check: Check) -> None:
        """Add a check; existing rows are validated unless it is NOT VALID."""
        self.change(checks=(*self.table.checks, check))
        if check.validated:
            self._checks.append(check)

    def add_index(self, index: Index, *, fill: bool = True) -> None:
        """Add an index under the table's next index id, with entries for the rows there are."""
        self.change(
            indexes=(*self.table.indexes, index), next_index_id=self.table.next_index_id + 1
        )
        if fill:
            self._indexes.append(index.index_id)

    def rebuild_index(self, old: Index, new: Index) -> None:
        """Replace an index by one whose entries look different."""
        new = msgspec.structs.replace(new, index_id=self.table.next_index_id)
        self.change(
            indexes=tuple(new if index is old else index for index in self.table.indexes),
            next_index_id=self.table.next_index_id + 1,
        )
        self._indexes.append(new.index_id)
        self._rebuilt.append(old)

    def add_foreign_key(self, key: ForeignKey) -> None:
        """Add a foreign key and tell the referenced table of it."""
        self.change(foreign_keys=(*self.table.foreign_keys, key))
        if key.referenced_table_id == self.table.id:
            self.change(referenced_by=add_id(self.table.referenced_by, self.table.id))
        if key.validated:
            self._foreign_keys.append(key.id)

    def set_not_null(self, position: int) -> None:
        """Make a column NOT NULL and have its rows validated."""
        if not self.table.columns[position].not_null:
            self.change_column(position, not_null=True)
            self._not_nulls.append(position)

    def convert(self, position: int, expression: Expression) -> None:
        """Have a column rewritten by an expression over the old row."""
        self.conversions[position] = expression
        self.needs_rewrite = True

    async def store(self) -> None:
        """Put the descriptor, tell the referenced tables, then bring the rows in line."""
        old = self.old
        await self._lock_referenced()
        if old is not None and self.needs_rewrite:
            self.change(storage_id=self.env.overlay.allocate_id())
        if self.table != old:
            self.env.overlay.put(self.table)
        self._link_referenced()
        if old is None:
            return
        table = self.table
        if self.needs_rewrite:
            await self.env.rewrite_table(old, table, self.conversions)
            await self.env.clear_storage(old.storage_id)
        for position in self._not_nulls:
            if not table.columns[position].dropped:
                await self.env.validate_not_null(table, table.columns[position])
        for check in self._checks:
            if check in table.checks:
                await self.env.validate_check(table, check)
        for index in table.indexes:
            if index.index_id in self._indexes and not self.needs_rewrite:
                await self.env.backfill_index(table, index)
        for index in self._rebuilt if not self.needs_rewrite else ():
            await self.env.drop_index_entries(table, index)
        for key in table.foreign_keys:
            if key.id in self._foreign_keys:
                await self.env.validate_foreign_key(table, key)

    async def _lock_referenced(self) -> None:
        """Lock the tables that new foreign keys refer to: their writers must know of the keys."""
        known = set() if self.old is None else {key.id for key in self.old.foreign_keys}
        for key in self.table.foreign_keys:
            if key.id not in known and key.referenced_table_id != self.table.id:
                await self.env.lock_table(key.referenced_table_id, "share row exclusive")

    def _link_referenced(self) -> None:
        for key in self.table.foreign_keys:
            if key.referenced_table_id == self.table.id:
                continue
            other = self.env.overlay.snapshot.table(key.referenced_table_id)
            assert other is not None, key
            if self.table.id not in other.referenced_by:
                self.env.overlay.put(
                    msgspec.structs.replace(
                        other, referenced_by=add_id(other.referenced_by, self.table.id)
                    )
                )


def add_id(ids: tuple[int, ...], new: int) -> tuple[int, ...]:
    """Return sorted ids with one more."""
    return tuple(sorted({*ids, new}))
