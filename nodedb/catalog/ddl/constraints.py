"""CHECK, PRIMARY KEY, UNIQUE and FOREIGN KEY on a table under change.

Source: PostgreSQL docs, "Constraints", "CREATE TABLE", "ALTER TABLE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nodedb.catalog.ddl.binding import bind_over
from nodedb.catalog.ddl.names import index_column_names, join_column_names
from nodedb.catalog.ddl.objects import (
    find_any,
    kind_of,
    resolve_regclass,
    system_catalog,
    undefined,
)
from nodedb.catalog.ddl.options import check_options
from nodedb.catalog.ddl.rewrite import columns_in, storable
from nodedb.catalog.ddl.types import check_indexable
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import (
    PRIMARY_INDEX_ID,
    Check,
    Column,
    ForeignKey,
    Index,
    IndexKey,
    Table,
)
from sql.errors import (
    DatatypeMismatch,
    DuplicateColumn,
    DuplicateObject,
    DuplicateTable,
    FeatureNotSupported,
    InvalidForeignKey,
    InvalidTableDefinition,
    ObjectNotInPrerequisiteState,
    UndefinedColumn,
    UndefinedObject,
    WrongObjectType,
)

if TYPE_CHECKING:
    from nodedb.catalog.ddl.editor import TableEditor
    from sql.ast.ddl import CheckConstraint, ForeignKeyConstraint, UniqueConstraint
    from sql.types.base import SqlType

_KEY_FAMILIES: Final = (
    frozenset(("int2", "int4", "int8")),
    frozenset(("float4", "float8")),
    frozenset(("text", "varchar", "name")),
    frozenset(("date", "timestamp", "timestamptz")),
)


def add_check(editor: TableEditor, constraint: CheckConstraint, *, is_new: bool) -> None:
    """Add a CHECK constraint."""
    bound = bind_over(
        editor.env,
        constraint.expression,
        editor.table.visible_columns,
        relation=editor.table.name,
        purpose="check",
    )
    name = constraint.name
    if name:
        if is_new and name in {check.name for check in editor.table.checks}:
            raise DuplicateObject(f'check constraint "{name}" already exists')
        editor.require_free_constraint(name)
    else:
        mentioned = columns_in(constraint.expression)
        name = editor.choose_constraint_name(mentioned[0] if len(mentioned) == 1 else "", "check")
    editor.add_check(
        Check(
            id=editor.env.overlay.allocate_id(),
            name=name,
            expression=storable(
                constraint.expression, bound, lambda text: resolve_regclass(editor.env, text)
            ),
            validated=is_new or not constraint.not_valid,
            no_inherit=constraint.no_inherit,
        )
    )


def key_columns(editor: TableEditor, constraint: UniqueConstraint) -> tuple[Column, ...]:
    """Return the columns of a key in its order; 42703, 42701 and 42704 for bad ones."""
    what = "primary key" if constraint.primary else "unique"
    result: list[Column] = []
    for name in constraint.columns:
        column = named_in_key(editor, name, constraint)
        if column in result:
            raise DuplicateColumn(
                f'column "{name}" appears twice in {what} constraint', span=constraint.span
            )
        check_indexable(column.type)
        result.append(column)
    return tuple(result)


def named_in_key(editor: TableEditor, name: str, constraint: UniqueConstraint) -> Column:
    """Find a column of a key; UndefinedColumn (42703)."""
    column = editor.table.column_by_name.get(name)
    if column is not None:
        return column
    if editor.old is None:
        raise UndefinedColumn(f'column "{name}" named in key does not exist', span=constraint.span)
    if constraint.primary and name in constraint.columns:
        # ALTER TABLE makes the columns NOT NULL first.
        raise UndefinedColumn(f'column "{name}" of relation "{editor.table.name}" does not exist')
    raise UndefinedColumn(f'column "{name}" named in key does not exist')


def _key_name(
    editor: TableEditor, constraint: UniqueConstraint, columns: tuple[Column, ...]
) -> str:
    if constraint.name:
        if editor.is_name_taken(constraint.name):
            raise DuplicateTable(f'relation "{constraint.name}" already exists')
        editor.require_free_constraint(constraint.name)
        return constraint.name
    if constraint.primary:
        return editor.choose_relation_name("", "pkey", constraint=True)
    names = [*(column.name for column in columns), *constraint.include]
    return editor.choose_relation_name(
        join_column_names(index_column_names(names)), "key", constraint=True
    )


def has_primary_key(table: Table) -> bool:
    """Tell whether a table has a primary key, clustering or added later."""
    return bool(table.primary_name) or any(index.primary for index in table.indexes)


def add_key(editor: TableEditor, constraint: UniqueConstraint) -> None:
    """Add a PRIMARY KEY or UNIQUE constraint.

    A new table's primary key becomes its clustering key, unless it is deferrable: two rows may have
    the same for a while then.
    """
    table = editor.table
    if constraint.primary and has_primary_key(table):
        raise InvalidTableDefinition(
            f'multiple primary keys for table "{table.name}" are not allowed',
            span=constraint.span if editor.old is None else None,
        )
    if constraint.using_index:
        _adopt_index(editor, constraint)
        return
    columns = key_columns(editor, constraint)
    include = tuple(named_in_key(editor, name, constraint).position for name in constraint.include)
    options = check_options("index", constraint.options)
    name = _key_name(editor, constraint, columns)
    if constraint.primary:
        for column in columns:
            editor.set_not_null(column.position)
    may_cluster = constraint.primary and not constraint.deferrable
    if may_cluster and _may_cluster(table, is_new=editor.old is None):
        first = editor.env.overlay.allocate_id()
        second = editor.env.overlay.allocate_id()
        assert second > first
        editor.change(
            clustering_key=tuple(column.position for column in columns),
            primary_name=name,
            primary_id=first,
            primary_include=include,
        )
        if editor.old is not None:
            _recluster(editor, editor.old)
        return
    editor.add_index(
        Index(
            id=editor.env.overlay.allocate_id(),
            name=name,
            owner=table.owner,
            index_id=table.next_index_id,
            keys=tuple(IndexKey(position=column.position) for column in columns),
            unique=True,
            nulls_not_distinct=constraint.nulls_not_distinct,
            primary=constraint.primary,
            include=include,
            constraint=True,
            constraint_id=editor.env.overlay.allocate_id(),
            deferrable=constraint.deferrable,
            initially_deferred=constraint.initially_deferred,
            options=options,
        )
    )


def _may_cluster(table: Table, *, is_new: bool) -> bool:
    """Tell whether a primary key can order the rows.

    In a new table, or where the hidden key did so far.
    """
    return is_new or table.columns[table.clustering_key[0]].hidden


def _recluster(editor: TableEditor, old: Table) -> None:
    """Move the rows from their hidden key to the primary key.

    A rewrite, once, for the sake of every later look-up.
    """
    for position in old.clustering_key:
        editor.change_column(position, dropped=True, not_null=False)
    editor.needs_rewrite = True


def _adopt_index(editor: TableEditor, constraint: UniqueConstraint) -> None:
    """ADD CONSTRAINT ... USING INDEX: the index becomes the constraint's."""
    table = editor.table
    name = constraint.using_index
    found = next((index for index in table.indexes if index.name == name), None)
    if found is None:
        raise UndefinedObject(f'index "{name}" does not exist', span=constraint.span)
    if found.constraint:
        raise ObjectNotInPrerequisiteState(
            f'index "{name}" is already associated with a constraint', span=constraint.span
        )
    if found.state != "public":
        raise ObjectNotInPrerequisiteState(f'index "{name}" is not valid', span=constraint.span)
    for problem, text in (
        (not found.unique, f'"{name}" is not a unique index'),
        (
            any(key.expression is not None for key in found.keys),
            f'index "{name}" contains expressions',
        ),
        (found.predicate is not None, f'"{name}" is a partial index'),
    ):
        if problem:
            raise WrongObjectType(
                text,
                detail="Cannot create a primary key or unique constraint using such an index.",
                span=constraint.span,
            )
    new_name = constraint.name or name
    if new_name != name:
        editor.require_free_constraint(new_name)
        if editor.is_name_taken(new_name):
            raise DuplicateTable(f'relation "{new_name}" already exists')
        editor.env.notice(
            "NOTICE",
            "00000",
            f'ALTER TABLE / ADD CONSTRAINT USING INDEX will rename index "{name}" to "{new_name}"',
        )
    if constraint.primary:
        for key in found.keys:
            editor.set_not_null(key.position)
    changed = msgspec.structs.replace(
        found,
        name=new_name,
        primary=constraint.primary,
        constraint=True,
        constraint_id=editor.env.overlay.allocate_id(),
        deferrable=constraint.deferrable,
        initially_deferred=constraint.initially_deferred,
    )
    if changed.deferrable:
        editor.rebuild_index(found, changed)
    else:
        editor.change(indexes=tuple(changed if i is found else i for i in table.indexes))


def _referenced_table(editor: TableEditor, constraint: ForeignKeyConstraint) -> Table:
    name = constraint.referenced_table
    own = editor.table
    if (
        editor.old is None
        and name.name == own.name
        and (not name.schema or editor.env.catalog.schema_name(own.schema_id) == name.schema)
    ):
        return own
    found = find_any(editor.env, name)
    if found is None:
        raise undefined(editor.env, name)
    if kind_of(found) == "index":
        raise WrongObjectType(f'"{name.name}" is an index')
    if isinstance(found, VirtualTable):
        raise system_catalog(found)
    if not isinstance(found, Table):
        raise WrongObjectType(f'referenced relation "{name.name}" is not a table')
    if found.id == own.id:
        return own
    if found.temporary_session and not own.temporary_session:
        raise InvalidTableDefinition(
            "constraints on permanent tables may reference only permanent tables"
        )
    if own.temporary_session and not found.temporary_session:
        raise InvalidTableDefinition(
            "constraints on temporary tables may reference only temporary tables"
        )
    return found


def _foreign_columns(table: Table, names: tuple[str, ...]) -> tuple[Column, ...]:
    result: list[Column] = []
    for name in names:
        column = table.column_by_name.get(name)
        if column is None:
            raise UndefinedColumn(
                f'column "{name}" referenced in foreign key constraint does not exist'
            )
        result.append(column)
    return tuple(result)


def primary_positions(table: Table) -> tuple[int, tuple[int, ...], bool] | None:
    """Return (index id, row positions, deferrable) of a table's primary key, None without one."""
    if table.primary_name:
        return PRIMARY_INDEX_ID, table.clustering_key, False
    for index in table.indexes:
        if index.primary:
            return index.index_id, tuple(key.position for key in index.keys), index.deferrable
    return None


def _referenced_key(
    table: Table, columns: tuple[Column, ...] | None
) -> tuple[int, tuple[int, ...], dict[int, int]]:
    """Return (index id, key positions in its order.

    Position by position) of the key a foreign key relies on.
    """
    primary = primary_positions(table)
    if columns is None:
        if primary is None:
            raise UndefinedObject(f'there is no primary key for referenced table "{table.name}"')
        candidates = [primary]
    else:
        candidates = [primary] if primary is not None else []
        candidates.extend(
            (index.index_id, tuple(key.position for key in index.keys), index.deferrable)
            for index in table.indexes
            if index.unique
            and index.state == "public"
            and index.predicate is None
            and all(key.expression is None for key in index.keys)
        )
    deferrable_found = False
    wanted = None if columns is None else sorted(column.position for column in columns)
    for index_id, positions, deferrable in candidates:
        if wanted is not None and sorted(positions) != wanted:
            continue
        if deferrable:
            deferrable_found = True
            continue
        return index_id, positions, {position: n for n, position in enumerate(positions)}
    if deferrable_found:
        kind = "primary key" if columns is None else "unique constraint"
        raise ObjectNotInPrerequisiteState(
            f'cannot use a deferrable {kind} for referenced table "{table.name}"'
        )
    raise InvalidForeignKey(
        f'there is no unique constraint matching given keys for referenced table "{table.name}"'
    )


def _are_comparable(referencing: SqlType, referenced: SqlType) -> bool:
    from sql.functions.builtin import REGISTRY  # noqa: PLC0415 - big, needed here only

    if referencing is referenced:
        return True
    if any(referencing.name in family and referenced.name in family for family in _KEY_FAMILIES):
        return True
    cast = REGISTRY.find_cast(referencing, referenced)
    return cast is not None and cast.context == "implicit"


def add_foreign_key(editor: TableEditor, constraint: ForeignKeyConstraint) -> None:
    """Add a FOREIGN KEY constraint."""
    if constraint.match == "partial":
        raise FeatureNotSupported("MATCH PARTIAL not yet implemented", span=constraint.span)
    own = editor.table
    referenced = _referenced_table(editor, constraint)
    columns = _foreign_columns(own, constraint.columns)
    action_columns = _action_columns(own, columns, constraint)
    if constraint.referenced_columns:
        targets = _foreign_columns(referenced, constraint.referenced_columns)
        index_id, _, _ = _referenced_key(referenced, targets)
    else:
        index_id, positions, _ = _referenced_key(referenced, None)
        targets = tuple(referenced.columns[position] for position in positions)
    if len(columns) != len(targets):
        raise InvalidForeignKey(
            "number of referencing and referenced columns for foreign key disagree"
        )
    if referenced.id != own.id:
        editor.env.catalog.check_privilege(referenced, "x")
    name = constraint.name
    if name:
        editor.require_free_constraint(name)
    else:
        name = editor.choose_constraint_name(
            join_column_names(column.name for column in columns), "fkey"
        )
    for column, target in zip(columns, targets, strict=True):
        if not _are_comparable(column.type, target.type):
            raise DatatypeMismatch(
                f'foreign key constraint "{name}" cannot be implemented',
                detail=f'Key columns "{column.name}" and "{target.name}" are of incompatible'
                f" types: {column.type.display_name} and {target.type.display_name}.",
            )
    _refuse_actions_on_generated(columns, constraint)
    editor.add_foreign_key(
        ForeignKey(
            id=editor.env.overlay.allocate_id(),
            name=name,
            columns=tuple(column.position for column in columns),
            referenced_table_id=referenced.id,
            referenced_columns=tuple(target.position for target in targets),
            referenced_index_id=index_id,
            on_delete=constraint.on_delete,
            on_update=constraint.on_update,
            on_delete_columns=action_columns,
            match_full=constraint.match == "full",
            deferrable=constraint.deferrable or constraint.initially_deferred,
            initially_deferred=constraint.initially_deferred,
            validated=not constraint.not_valid or editor.old is None,
        )
    )


def _action_columns(
    table: Table, columns: tuple[Column, ...], constraint: ForeignKeyConstraint
) -> tuple[int, ...]:
    found = _foreign_columns(table, constraint.on_delete_columns)
    for column in found:
        if column not in columns:
            from sql.errors import InvalidColumnReference  # noqa: PLC0415 - error path

            raise InvalidColumnReference(
                f'column "{column.name}" referenced in ON DELETE SET action must be part of'
                " foreign key"
            )
    return tuple(column.position for column in found)


def _refuse_actions_on_generated(
    columns: tuple[Column, ...], constraint: ForeignKeyConstraint
) -> None:
    if not any(column.generated is not None for column in columns):
        return
    from sql.errors import SqlSyntaxError  # noqa: PLC0415 - error path

    for event, action, refused in (
        ("UPDATE", constraint.on_update, ("cascade", "set null", "set default")),
        ("DELETE", constraint.on_delete, ("set null", "set default")),
    ):
        if action in refused:
            raise SqlSyntaxError(
                f"invalid ON {event} action for foreign key constraint containing generated column"
            )
