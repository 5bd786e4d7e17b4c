"""CREATE TABLE, LIKE, and CREATE TABLE AS.

Source: PostgreSQL docs, "CREATE TABLE", "CREATE TABLE AS".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from nodedb.catalog.ddl.binding import query_columns
from nodedb.catalog.ddl.columns import (
    Definition,
    add_column,
    analyze_definition,
    set_generated,
)
from nodedb.catalog.ddl.constraints import add_check, add_foreign_key, add_key
from nodedb.catalog.ddl.editor import TableEditor
from nodedb.catalog.ddl.names import index_column_names, join_column_names
from nodedb.catalog.ddl.objects import (
    creation_schema,
    find_any,
    initial_acl,
    is_temporary,
    kind_of,
    name_exists,
    undefined,
)
from nodedb.catalog.ddl.options import check_options, distribution
from nodedb.catalog.ddl.types import check_column_type
from sql.ast.ddl import (
    CheckConstraint,
    ColumnDefinition,
    CreateTable,
    CreateTableAs,
    ForeignKeyConstraint,
    GeneratedConstraint,
    LikeClause,
    SequenceOptions,
    StorageOption,
    TableConstraint,
    UniqueConstraint,
)
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import Column, Sequence, Table, View
from sql.errors import (
    DuplicateColumn,
    DuplicateTable,
    FeatureNotSupported,
    InvalidTableDefinition,
    SqlSyntaxError,
    UndefinedObject,
    WrongObjectType,
)
from sql.types.catalog import INT8, TEXT, UNKNOWN, type_by_oid

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.query import QualifiedName

_LIKE_PARTS: Final = frozenset(
    (
        "comments",
        "compression",
        "constraints",
        "defaults",
        "generated",
        "identity",
        "indexes",
        "statistics",
        "storage",
    )
)


async def create_table(env: DdlEnvironment, statement: CreateTable) -> str:
    """CREATE TABLE."""
    _refuse_unsupported(statement)
    name = statement.name
    schema_id = creation_schema(env, name, temporary=statement.temporary, placed=True)
    if name_exists(env, schema_id, name.name, if_not_exists=statement.if_not_exists):
        return "CREATE TABLE"
    if statement.on_commit and not is_temporary(env, schema_id):
        raise InvalidTableDefinition("ON COMMIT can only be used on temporary tables")
    editor = new_table(
        env,
        name.name,
        schema_id,
        statement.options,
        on_commit=statement.on_commit,
    )
    await _Builder(editor).build(statement)
    return "CREATE TABLE"


def _refuse_unsupported(statement: CreateTable) -> None:
    if statement.inherits:
        raise FeatureNotSupported("table inheritance is not supported")
    if statement.partition_by:
        raise FeatureNotSupported("table partitioning is not supported")
    if statement.tablespace not in ("", "pg_default"):
        raise UndefinedObject(f'tablespace "{statement.tablespace}" does not exist')


def new_table(
    env: DdlEnvironment,
    name: str,
    schema_id: int,
    options: tuple[StorageOption, ...],
    *,
    on_commit: Literal["", "preserve rows", "delete rows", "drop"] = "",
) -> TableEditor:
    """Return an editor over an empty table that is not stored yet."""
    table_id = env.overlay.allocate_id()
    return TableEditor(
        env,
        Table(
            id=table_id,
            name=name,
            owner=env.catalog.user_id,
            acl=initial_acl(env, "r", schema_id),
            schema_id=schema_id,
            storage_id=table_id,
            columns=(),
            clustering_key=(),
            options=check_options("table", options),
            temporary_session=env.session_id if is_temporary(env, schema_id) else 0,
            on_commit="" if on_commit == "preserve rows" else on_commit,
        ),
    )


async def finish_new(editor: TableEditor) -> Table:
    """Give a table without primary key its hidden one, check its distribution, and store it."""
    table = editor.table
    if not table.primary_name:
        position = len(table.columns)
        rowid = Column(
            name="rowid", type_oid=INT8.oid, position=position, number=0, not_null=True, hidden=True
        )
        editor.change(columns=(*table.columns, rowid), clustering_key=(position,))
    editor.change(distribute_by=distribution(editor.table))
    await editor.store()
    return editor.table


class _Builder:
    """One CREATE TABLE: elements in the order PostgreSQL takes them."""

    def __init__(self, editor: TableEditor) -> None:
        self.editor = editor
        self.env = editor.env
        self.constraints: list[TableConstraint] = []
        self.generated: list[tuple[int, GeneratedConstraint]] = []
        self.likes: list[tuple[Table, frozenset[str]]] = []

    async def build(self, statement: CreateTable) -> Table:
        """Add all elements and store the table."""
        definitions: list[Definition | LikeClause | TableConstraint] = []
        for element in statement.elements:
            match element:
                case ColumnDefinition():
                    definitions.append(
                        analyze_definition(self.env, element, self.editor.table.name)
                    )
                case _:
                    definitions.append(element)
        for definition in definitions:
            match definition:
                case LikeClause():
                    await self._copy_columns(definition)
                case Definition():
                    await self._add(definition)
                case _:
                    self.constraints.append(definition)
        self._require_one_primary()
        for position, generated in self.generated:
            set_generated(self.editor, position, generated)
        self._add_checks()
        self._add_keys()
        for constraint in self.constraints:
            if isinstance(constraint, ForeignKeyConstraint):
                add_foreign_key(self.editor, constraint)
        return await finish_new(self.editor)

    async def _add(self, definition: Definition) -> None:
        self._require_new(definition.source.name)
        column = await add_column(self.editor, definition)
        if definition.generated is not None:
            self.generated.append((column.position, definition.generated))
        self.constraints.extend(definition.table_constraints)

    def _require_new(self, name: str) -> None:
        if name in self.editor.table.column_by_name:
            raise DuplicateColumn(f'column "{name}" specified more than once')

    def _require_one_primary(self) -> None:
        primaries = [c for c in self.constraints if isinstance(c, UniqueConstraint) and c.primary]
        if len(primaries) > 1:
            raise InvalidTableDefinition(
                f'multiple primary keys for table "{self.editor.table.name}" are not allowed',
                span=primaries[1].span,
            )

    def _add_checks(self) -> None:
        for constraint in self.constraints:
            if isinstance(constraint, CheckConstraint):
                add_check(self.editor, constraint, is_new=True)
        for source, parts in self.likes:
            if "constraints" not in parts:
                continue
            for check in source.checks:
                self.editor.add_check(
                    msgspec.structs.replace(
                        check,
                        id=self.env.overlay.allocate_id(),
                        comment=check.comment if "comments" in parts else "",
                    )
                )

    def _add_keys(self) -> None:
        keys = [c for c in self.constraints if isinstance(c, UniqueConstraint)]
        keys.sort(key=lambda constraint: not constraint.primary)
        for source, parts in self.likes:
            if "indexes" in parts:
                self._copy_primary(source, bool(keys and keys[0].primary))
        seen: list[tuple[object, ...]] = []
        for constraint in keys:
            # PRIMARY KEY and UNIQUE over the same columns make one index, as do two equal UNIQUEs.
            shape = (
                constraint.columns,
                constraint.include,
                constraint.nulls_not_distinct,
                constraint.deferrable,
                constraint.initially_deferred,
            )
            if not constraint.name and shape in seen and not constraint.primary:
                continue
            seen.append(shape)
            add_key(self.editor, constraint)
        for source, parts in self.likes:
            if "indexes" in parts:
                self._copy_indexes(source, keep_comments="comments" in parts)

    async def _copy_columns(self, clause: LikeClause) -> None:
        found = find_any(self.env, clause.table)
        if found is None:
            raise undefined(self.env, clause.table, placed=True)
        if isinstance(found, (VirtualTable, View)):
            columns = found.columns
            for item in columns:
                name, type_oid = (
                    (item[0], item[1].oid)
                    if isinstance(item, tuple)
                    else (item.name, item.type_oid)
                )
                self._require_new(name)
                self._append_plain(name, type_oid, -1)
            return
        if not isinstance(found, Table):
            plural = "indexes" if kind_of(found) == "index" else "sequences"
            raise WrongObjectType(
                f'relation "{clause.table.name}" is invalid in LIKE clause',
                detail=f"This operation is not supported for {plural}.",
                span=clause.table.span,
            )
        self.env.catalog.check_privilege(found, "r")
        await self.env.lock_table(found.id, "access share")
        parts: set[str] = set()
        for including, what in clause.options:
            chosen = _LIKE_PARTS if what == "all" else {what}
            parts = parts | chosen if including else parts - chosen
        for column in found.visible_columns:
            await self._copy_column(column, parts)
        self.likes.append((found, frozenset(parts)))

    def _append_plain(self, name: str, type_oid: int, typmod: int) -> Column:
        columns = self.editor.table.columns
        column = Column(
            name=name,
            type_oid=type_oid,
            position=len(columns),
            number=len(columns) + 1,
            typmod=typmod,
        )
        self.editor.change(columns=(*columns, column))
        return column

    async def _copy_column(self, column: Column, parts: set[str]) -> None:
        from nodedb.catalog.ddl.columns import add_identity  # noqa: PLC0415 - one branch

        self._require_new(column.name)
        new = self._append_plain(column.name, column.type_oid, column.typmod)
        self.editor.change_column(
            new.position,
            not_null=column.not_null,
            collation=column.collation,
            default=column.default if "defaults" in parts else None,
            generated=column.generated if "generated" in parts else None,
            comment=column.comment if "comments" in parts else "",
        )
        sequence = self.env.overlay.snapshot.get(column.sequence_id)
        if column.identity and "identity" in parts and isinstance(sequence, Sequence):
            await add_identity(
                self.editor,
                new,
                always=column.identity == "always",
                options=SequenceOptions(
                    increment=sequence.increment,
                    min_value=sequence.min_value,
                    max_value=sequence.max_value,
                    start=sequence.start,
                    cache=sequence.cache,
                    cycle=sequence.cycle,
                ),
            )

    def _by_name(self, source: Table, position: int) -> int:
        return self.editor.table.column_by_name[source.columns[position].name].position

    def _copy_primary(self, source: Table, has_own: bool) -> None:  # noqa: FBT001 - private
        from nodedb.catalog.ddl.constraints import primary_positions  # noqa: PLC0415

        primary = primary_positions(source)
        if primary is None:
            return
        if has_own:
            raise InvalidTableDefinition(
                f'multiple primary keys for table "{self.editor.table.name}" are not allowed'
            )
        names = tuple(source.columns[position].name for position in primary[1])
        index = next((index for index in source.indexes if index.primary), None)
        included = source.primary_include if index is None else index.include
        add_key(
            self.editor,
            UniqueConstraint(
                primary=True,
                columns=names,
                include=tuple(source.columns[position].name for position in included),
                deferrable=index is not None and index.deferrable,
                initially_deferred=index is not None and index.initially_deferred,
            ),
        )

    def _copy_indexes(self, source: Table, *, keep_comments: bool) -> None:
        for index in source.indexes:
            if index.primary:
                continue
            keys = tuple(
                key
                if key.expression is not None
                else msgspec.structs.replace(key, position=self._by_name(source, key.position))
                for key in index.keys
            )
            parts = [
                key.expression if key.expression is not None else source.columns[key.position].name
                for key in index.keys
            ]
            names = index_column_names(parts)
            names.extend(source.columns[position].name for position in index.include)
            self.editor.add_index(
                msgspec.structs.replace(
                    index,
                    state="public",
                    id=self.env.overlay.allocate_id(),
                    owner=self.editor.table.owner,
                    name=self.editor.choose_relation_name(
                        join_column_names(names),
                        "key" if index.constraint else "idx",
                        constraint=index.constraint,
                    ),
                    index_id=self.editor.table.next_index_id,
                    keys=keys,
                    include=tuple(self._by_name(source, p) for p in index.include),
                    constraint_id=self.env.overlay.allocate_id() if index.constraint else 0,
                    comment=index.comment if keep_comments else "",
                )
            )


async def create_table_as(env: DdlEnvironment, statement: CreateTableAs) -> str:
    """CREATE TABLE AS and SELECT INTO.

    The tag is ``SELECT n``, or CREATE TABLE AS when nothing was run.
    """
    if statement.materialized_view:
        raise FeatureNotSupported("materialized views are not supported")
    name: QualifiedName = statement.name
    schema_id = creation_schema(env, name, temporary=statement.temporary)
    from nodedb.catalog.ddl.objects import find_in  # noqa: PLC0415 - message differs from CREATE TABLE

    if find_in(env, schema_id, name.name) is not None:
        if not statement.if_not_exists:
            raise DuplicateTable(f'relation "{name.name}" already exists')
        env.notice("NOTICE", "42P07", f'relation "{name.name}" already exists, skipping')
        return "CREATE TABLE AS"
    if statement.on_commit and not is_temporary(env, schema_id):
        raise InvalidTableDefinition("ON COMMIT can only be used on temporary tables")
    editor = new_table(env, name.name, schema_id, statement.options, on_commit=statement.on_commit)
    output = query_columns(env, statement.query)
    if len(statement.columns) > len(output):
        raise SqlSyntaxError("too many column names were specified")
    columns: list[Column] = []
    for position, item in enumerate(output):
        label = statement.columns[position] if position < len(statement.columns) else item.name
        sql_type = type_by_oid(item.type_oid)
        assert sql_type is not None, item
        stored = TEXT if sql_type is UNKNOWN else sql_type
        check_column_type(label, stored)
        if any(column.name == label for column in columns):
            raise DuplicateColumn(f'column "{label}" specified more than once')
        columns.append(
            Column(
                name=label,
                type_oid=stored.oid,
                position=position,
                number=position + 1,
                typmod=item.typmod,
            )
        )
    editor.change(columns=tuple(columns))
    table = await finish_new(editor)
    if not statement.with_data:
        return "CREATE TABLE AS"
    return f"SELECT {await env.run_query_into(statement.query, table)}"
