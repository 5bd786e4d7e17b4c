"""What depends on what, and DROP with RESTRICT and CASCADE.

An object is an ``Address``: a descriptor, or a part of a table (column, default, constraint,
index). Dependents come in two strengths: automatic ones go silently with what they belong to (an
index with its table, a serial's sequence with its column), normal ones need CASCADE. The order of
messages is PostgreSQL's: what was made first comes first.

Source: PostgreSQL docs, "Dependency Tracking", "DROP TABLE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from nodedb.catalog.ddl.objects import describe, qualified, shown_name
from nodedb.catalog.ddl.rewrite import columns_in, relations_in
from nodedb.catalog.derived import relations
from sql.ast.deparse_names import quote_identifier
from sql.catalog.descriptor import (
    PRIMARY_INDEX_ID,
    Check,
    Column,
    ForeignKey,
    Index,
    Relation,
    Schema,
    Sequence,
    Table,
    View,
)
from sql.errors import DependentObjectsStillExist
from sql.types.catalog import INT8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.catalog.snapshot import CatalogSnapshot

PartKind = Literal["object", "column", "default", "constraint", "index"]
CASCADE_HINT = "Use DROP ... CASCADE to drop the dependent objects too."
DETAIL_LINES_MAX = 100


class Address(NamedTuple):
    """``kind`` object: ``id`` alone.

    Column, default: ``part`` is the row position. constraint: its OID. index: index_id.
    """

    kind: PartKind
    id: int
    part: int = 0


class Dependent(NamedTuple):
    """Something that goes with, or stands in the way of, what it depends on."""

    address: Address
    automatic: bool
    order: int
    """OID, or something close to it: creation order."""


def dependents(snapshot: CatalogSnapshot, address: Address) -> list[Dependent]:
    """Return the direct dependents of an object."""
    match address.kind:
        case "object":
            found = snapshot.get(address.id)
            if isinstance(found, Schema):
                return list(_in_schema(snapshot, found))
            if isinstance(found, Table):
                return list(_of_table(snapshot, found))
            if isinstance(found, View):
                return list(_views_over(snapshot, found.id, None))
            if isinstance(found, Sequence):
                return list(_of_sequence(snapshot, found))
            return []
        case "column":
            return list(_of_column(snapshot, address))
        case "constraint" | "index":
            return list(_of_key(snapshot, address))
        case "default":
            return []


def _in_schema(snapshot: CatalogSnapshot, schema: Schema) -> Iterator[Dependent]:
    for relation in relations(snapshot):
        if relation.schema_id == schema.id and not (
            isinstance(relation, Sequence) and relation.owned_by
        ):
            yield Dependent(Address("object", relation.id), automatic=False, order=relation.id)


def _of_table(snapshot: CatalogSnapshot, table: Table) -> Iterator[Dependent]:
    for other_id in table.referenced_by:
        other = snapshot.table(other_id)
        if other is None or other_id == table.id:
            continue
        for key in other.foreign_keys:
            if key.referenced_table_id == table.id:
                yield Dependent(
                    Address("constraint", other_id, key.id), automatic=False, order=key.id
                )
    yield from _views_over(snapshot, table.id, None)
    for sequence in snapshot.all(Sequence):
        if sequence.owned_by is not None and sequence.owned_by[0] == table.id:
            yield Dependent(Address("object", sequence.id), automatic=True, order=sequence.id)


def _views_over(
    snapshot: CatalogSnapshot, relation_id: int, position: int | None
) -> Iterator[Dependent]:
    for view in snapshot.all(View):
        if any(
            on == relation_id and (position is None or position == at) for on, at in view.depends_on
        ):
            yield Dependent(Address("object", view.id), automatic=False, order=view.id)


def _of_sequence(snapshot: CatalogSnapshot, sequence: Sequence) -> Iterator[Dependent]:
    for table in snapshot.all(Table):
        for column in table.visible_columns:
            if column.default is not None and sequence.id in relations_in(column.default):
                yield Dependent(
                    Address("default", table.id, column.position), automatic=False, order=table.id
                )
    for view in snapshot.all(View):
        for position, shown in enumerate(view.columns):
            if shown.default is not None and sequence.id in relations_in(shown.default):
                yield Dependent(
                    Address("default", view.id, position), automatic=False, order=view.id
                )
    yield from _views_over(snapshot, sequence.id, None)


def _of_column(snapshot: CatalogSnapshot, address: Address) -> Iterator[Dependent]:
    table = snapshot.table(address.id)
    assert table is not None, address
    position = address.part
    name = table.columns[position].name
    yield from _views_over(snapshot, table.id, position)
    for column in table.visible_columns:
        if column.generated is not None and name in columns_in(column.generated):
            yield Dependent(
                Address("column", table.id, column.position), automatic=False, order=table.id
            )
    for sequence in snapshot.all(Sequence):
        if sequence.owned_by == (table.id, position):
            yield Dependent(Address("object", sequence.id), automatic=True, order=sequence.id)
    for check in table.checks:
        if name in columns_in(check.expression):
            yield Dependent(
                Address("constraint", table.id, check.id), automatic=True, order=check.id
            )
    for key in table.foreign_keys:
        if position in key.columns:
            yield Dependent(Address("constraint", table.id, key.id), automatic=True, order=key.id)
    if table.primary_name and position in (*table.clustering_key, *table.primary_include):
        yield Dependent(
            Address("constraint", table.id, table.primary_id + 1),
            automatic=True,
            order=table.primary_id,
        )
    for index in table.indexes:
        if index_uses(table, index, position):
            part = (
                Address("constraint", table.id, index.constraint_id)
                if index.constraint
                else Address("index", table.id, index.index_id)
            )
            yield Dependent(part, automatic=True, order=index.id)


def index_uses(table: Table, index: Index, position: int) -> bool:
    """Tell whether an index mentions a column."""
    name = table.columns[position].name
    return (
        position in index.include
        or any(key.position == position for key in index.keys)
        or any(
            key.expression is not None and name in columns_in(key.expression) for key in index.keys
        )
        or (index.predicate is not None and name in columns_in(index.predicate))
    )


def _of_key(snapshot: CatalogSnapshot, address: Address) -> Iterator[Dependent]:
    """Foreign keys that rely on a primary key or unique index."""
    table = snapshot.table(address.id)
    assert table is not None, address
    index_id = address.part if address.kind == "index" else 0
    if address.kind == "constraint":
        if table.primary_name and address.part == table.primary_id + 1:
            index_id = PRIMARY_INDEX_ID
        for index in table.indexes:
            if index.constraint and index.constraint_id == address.part:
                index_id = index.index_id
    if not index_id:
        return
    for other_id in table.referenced_by:
        other = snapshot.table(other_id)
        if other is None:
            continue
        for key in other.foreign_keys:
            if key.referenced_table_id == table.id and key.referenced_index_id == index_id:
                yield Dependent(
                    Address("constraint", other_id, key.id), automatic=False, order=key.id
                )


def constraint_name(table: Table, constraint_id: int) -> str:
    """Return the name of a constraint by its OID."""
    items: tuple[Check | ForeignKey, ...] = (*table.checks, *table.foreign_keys)
    for item in items:
        if item.id == constraint_id:
            return item.name
    for index in table.indexes:
        if index.constraint and index.constraint_id == constraint_id:
            return index.name
    assert table.primary_name, constraint_id
    return table.primary_name


def describe_address(env: DdlEnvironment, address: Address, *, key_as_index: bool = False) -> str:
    """Return an object as dependency messages name it."""
    found = env.overlay.snapshot.get(address.id)
    assert found is not None, address
    if address.kind == "object":
        return describe(env, found)
    if isinstance(found, View):
        assert address.kind == "default", address
        name = quote_identifier(found.columns[address.part].name)
        return f"default value for column {name} of view {shown_name(env, found)}"
    assert isinstance(found, Table), address
    table = f"table {shown_name(env, found)}"
    match address.kind:
        case "column":
            return f"column {quote_identifier(found.columns[address.part].name)} of {table}"
        case "default":
            name = quote_identifier(found.columns[address.part].name)
            return f"default value for column {name} of {table}"
        case "constraint":
            name = constraint_name(found, address.part)
            if key_as_index:
                return f"index {qualified(env, found.schema_id, name)}"
            return f"constraint {quote_identifier(name)} on {table}"
        case "index":
            index = next(i for i in found.indexes if i.index_id == address.part)
            return f"index {qualified(env, found.schema_id, index.name)}"


class _Target(NamedTuple):
    address: Address
    automatic: bool
    because: Address | None


class DropPlan:
    """Everything that one DROP removes, found before anything is removed."""

    def __init__(self, env: DdlEnvironment, roots: list[Address]) -> None:
        self.env = env
        self.roots = roots
        self._targets: dict[Address, _Target] = {}
        self._order: list[Address] = []
        for root in roots:
            self._visit(root, automatic=False, because=None)

    def _visit(self, address: Address, *, automatic: bool, because: Address | None) -> None:
        known = self._targets.get(address)
        if known is not None:
            if automatic and not known.automatic and known.because is not None:
                self._targets[address] = known._replace(automatic=True)
            return
        self._targets[address] = _Target(address, automatic, because)
        found = dependents(self.env.overlay.snapshot, address)
        for item in sorted(found, key=lambda item: -item.order):
            if not self._is_inside(item.address):
                self._visit(item.address, automatic=item.automatic, because=address)
        self._order.append(address)

    def _is_inside(self, address: Address) -> bool:
        """Tell whether it is a part of a table that goes as a whole: no need to mention it."""
        if address.kind == "object":
            return False
        return Address("object", address.id) in self._targets

    def run_checks(self, *, cascade: bool) -> None:
        """DependentObjectsStillExist (2BP01) without CASCADE.

        Else the notice about what goes too.
        """
        others = [
            target
            for target in (self._targets[address] for address in reversed(self._order))
            if target.because is not None
            and not target.automatic
            and target.address not in self.roots
            and not self._is_inside(target.address)
        ]
        if not others:
            return
        if not cascade:
            lines = [
                f"{describe_address(self.env, target.address)} depends on "
                + describe_address(self.env, target.because, key_as_index=True)
                for target in others
                if target.because is not None
            ]
            what = describe_address(self.env, self.roots[0])
            message = f"cannot drop {what} because other objects depend on it"
            if len(self.roots) > 1:
                message = "cannot drop desired object(s) because other objects depend on them"
            raise DependentObjectsStillExist(message, detail=_lines(lines), hint=CASCADE_HINT)
        texts = [f"drop cascades to {describe_address(self.env, t.address)}" for t in others]
        if len(texts) == 1:
            self.env.notice("NOTICE", "00000", texts[0])
        else:
            self.env.notice(
                "NOTICE", "00000", f"drop cascades to {len(texts)} other objects", _lines(texts)
            )

    async def lock(self) -> None:
        """Lock what goes, before anything is said about it: who else drops it may be first.

        Of a part the table's descriptor; its rows are locked only when it really goes.
        """
        for target in sorted(self._targets):
            if target.kind != "object":
                await self.env.lock_object(target.id)
            elif isinstance(self.env.overlay.snapshot.get(target.id), (Table, View, Sequence)):
                await self.env.lock_table(target.id, "access exclusive")
            else:
                await self.env.lock_object(target.id, to_drop=True)

    async def execute(self) -> None:
        """Remove everything in the plan from the overlay and mark storages for clearing."""
        whole = {a.id for a in self._targets if a.kind == "object"}
        parts: dict[int, list[Address]] = {}
        for address in self._targets:
            if address.kind != "object" and address.id not in whole:
                parts.setdefault(address.id, []).append(address)
        for table_id, addresses in parts.items():
            view = self.env.overlay.snapshot.get(table_id)
            if isinstance(view, View):
                self.env.overlay.put(_without_defaults(view, {a.part for a in addresses}))
                continue
            table = self.env.overlay.snapshot.table(table_id)
            assert table is not None
            await self.env.lock_table(table_id, "access exclusive")
            changed = await remove_parts(self.env, table, addresses)
            await _unlink(self.env, table, changed)
            self.env.overlay.put(changed)
            if changed.storage_id != table.storage_id:
                await self.env.rewrite_table(table, changed, {})
                await self.env.clear_storage(table.storage_id)
        for descriptor_id in whole:
            await self._remove(descriptor_id)

    async def _remove(self, descriptor_id: int) -> None:
        found = self.env.overlay.snapshot.get(descriptor_id)
        assert found is not None, descriptor_id
        if isinstance(found, (Table, View, Sequence)):
            await self.env.lock_table(descriptor_id, "access exclusive")
        if isinstance(found, Table):
            self.env.require_unused(found, "DROP TABLE")
        if isinstance(found, Table):
            await _unlink(self.env, found, msgspec.structs.replace(found, foreign_keys=()))
            await self.env.clear_storage(found.storage_id)
        elif isinstance(found, Sequence):
            await self.env.clear_sequence(found.storage_id)
        self.env.overlay.delete(descriptor_id)


def _without_defaults(view: View, positions: set[int]) -> View:
    columns = tuple(
        msgspec.structs.replace(column, default=None) if position in positions else column
        for position, column in enumerate(view.columns)
    )
    return msgspec.structs.replace(view, columns=columns)


def _lines(lines: list[str]) -> str:
    if len(lines) <= DETAIL_LINES_MAX:
        return "\n".join(lines)
    rest = len(lines) - DETAIL_LINES_MAX
    return (
        "\n".join(lines[:DETAIL_LINES_MAX])
        + f"\nand {rest} other objects (see server log for list)"
    )


async def _unlink(env: DdlEnvironment, old: Table, new: Table) -> None:
    """Take ``old`` out of ``referenced_by`` of the tables that ``new`` no longer references.

    Who is changing them may be about to look into ``old``, so they are locked as PostgreSQL does.
    """
    kept = {key.referenced_table_id for key in new.foreign_keys}
    for target_id in sorted({key.referenced_table_id for key in old.foreign_keys} - kept):
        if target_id != old.id and env.overlay.snapshot.table(target_id) is not None:
            await env.lock_table(target_id, "access exclusive")
        target = env.overlay.snapshot.table(target_id)
        if target is not None and old.id in target.referenced_by:
            ids = tuple(i for i in target.referenced_by if i != old.id)
            env.overlay.put(msgspec.structs.replace(target, referenced_by=ids))


async def remove_parts(env: DdlEnvironment, table: Table, addresses: list[Address]) -> Table:
    """Return the table without the given columns, defaults, constraints and indexes."""
    columns = list(table.columns)
    gone_constraints = {a.part for a in addresses if a.kind == "constraint"}
    gone_indexes = {a.part for a in addresses if a.kind == "index"}
    for address in addresses:
        column = columns[address.part] if address.kind in ("column", "default") else None
        if column is None:
            continue
        if address.kind == "default":
            columns[address.part] = msgspec.structs.replace(column, default=None)
        else:
            columns[address.part] = msgspec.structs.replace(
                column,
                name=f"........pg.dropped.{column.number}........",
                dropped=True,
                not_null=False,
                default=None,
                generated=None,
                identity="",
                sequence_id=0,
                missing_value=b"",
                comment="",
                acl=None,
            )
    kept: list[Index] = []
    for index in table.indexes:
        if index.index_id in gone_indexes or (
            index.constraint and index.constraint_id in gone_constraints
        ):
            await env.drop_index_entries(table, index)
        else:
            kept.append(index)
    changed = msgspec.structs.replace(
        table,
        columns=tuple(columns),
        indexes=tuple(kept),
        checks=tuple(c for c in table.checks if c.id not in gone_constraints),
        foreign_keys=tuple(k for k in table.foreign_keys if k.id not in gone_constraints),
    )
    if table.primary_name and table.primary_id + 1 in gone_constraints:
        changed = _unclustered(env, changed)
    return _without_self_reference(changed)


def _unclustered(env: DdlEnvironment, table: Table) -> Table:
    """Give a table that loses its primary key the hidden one; its rows move to a new storage."""
    position = len(table.columns)
    rowid = Column(
        name="rowid", type_oid=INT8.oid, position=position, number=0, not_null=True, hidden=True
    )
    return msgspec.structs.replace(
        table,
        columns=(*table.columns, rowid),
        clustering_key=(position,),
        storage_id=env.overlay.allocate_id(),
        primary_name="",
        primary_id=0,
        primary_include=(),
        primary_comment="",
        distribute_by=(),
        options=tuple(o for o in table.options if o[0] != "distribute_by"),
    )


def _without_self_reference(table: Table) -> Table:
    if table.id in table.referenced_by and not any(
        key.referenced_table_id == table.id for key in table.foreign_keys
    ):
        ids = tuple(i for i in table.referenced_by if i != table.id)
        return msgspec.structs.replace(table, referenced_by=ids)
    return table


def relation_address(relation: Relation) -> Address:
    """Return a relation's address."""
    return Address("object", relation.id)
