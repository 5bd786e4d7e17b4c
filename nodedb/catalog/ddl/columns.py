"""Column definitions: types, defaults, identity, generated columns, and their constraints.

Source: PostgreSQL docs, "CREATE TABLE", "Generated Columns", "Serial Types", "Identity Columns".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog.ddl.binding import bind_over
from nodedb.catalog.ddl.objects import resolve_regclass
from nodedb.catalog.ddl.rewrite import columns_in, nextval, storable
from nodedb.catalog.ddl.sequence import RANGES, make_sequence
from nodedb.catalog.ddl.types import check_collation, check_column_type, resolve_type, serial_type
from sql.ast.ddl import (
    CheckConstraint,
    ColumnDefinition,
    DefaultConstraint,
    ForeignKeyConstraint,
    GeneratedConstraint,
    IdentityConstraint,
    NotNullConstraint,
    NullConstraint,
    SequenceOptions,
    TableConstraint,
    UniqueConstraint,
)
from sql.ast.query import ColumnRef, Expression, NullLiteral
from sql.catalog.descriptor import Column
from sql.errors import (
    InvalidObjectDefinition,
    InvalidParameterValue,
    SqlError,
    SqlSyntaxError,
    TooManyColumns,
)
from sql.types.base import SqlType

if TYPE_CHECKING:
    from nodedb.catalog.ddl.editor import TableEditor
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.span import Span

COLUMNS_MAX = 1600
SYSTEM_COLUMNS = frozenset(("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"))


@dataclass(slots=True)
class Definition:
    """A column definition taken apart: what its constraints say, each at most once."""

    source: ColumnDefinition
    type: SqlType
    typmod: int
    serial: bool
    collation: str = ""
    not_null: bool | None = None
    default: Expression | None = None
    generated: GeneratedConstraint | None = None
    identity: IdentityConstraint | None = None
    table_constraints: list[TableConstraint] = field(default_factory=list)


def analyze_definition(
    env: DdlEnvironment, source: ColumnDefinition, table_name: str
) -> Definition:
    """Take a column definition apart.

    SqlSyntaxError (42601) for constraints that contradict each other.
    """
    if source.name in SYSTEM_COLUMNS:
        from sql.errors import DuplicateColumn  # noqa: PLC0415 - only this branch

        raise DuplicateColumn(f'column name "{source.name}" conflicts with a system column name')
    serial = serial_type(source.type_name)
    sql_type, typmod = (serial, -1) if serial is not None else resolve_type(source.type_name)
    result = Definition(source, sql_type, typmod, serial is not None)
    try:
        result.collation = check_collation(env, source.collation, sql_type)
    except SqlError as error:
        raise error.at(source.collation_span) from None
    for constraint in source.constraints:
        _add_constraint(result, constraint, table_name)
    if result.serial:
        _add_serial_constraints(result, table_name)
    check_column_type(source.name, sql_type)
    return result


def _add_serial_constraints(result: Definition, table_name: str) -> None:
    """Add what serial stands for, DEFAULT and NOT NULL, after what the definition says itself."""
    place = f'for column "{result.source.name}" of table "{table_name}"'
    if result.default is not None:
        raise SqlSyntaxError(f"multiple default values specified {place}")
    _refuse_two_values(result, place, None)
    if result.not_null is False:
        raise SqlSyntaxError(f"conflicting NULL/NOT NULL declarations {place}")
    result.not_null = True


def _add_constraint(result: Definition, constraint: object, table_name: str) -> None:
    place = f'for column "{result.source.name}" of table "{table_name}"'
    match constraint:
        case NullConstraint() | NotNullConstraint():
            wanted = isinstance(constraint, NotNullConstraint)
            if result.not_null is not None and result.not_null != wanted:
                raise SqlSyntaxError(
                    f"conflicting NULL/NOT NULL declarations {place}", span=constraint.span
                )
            result.not_null = wanted
        case DefaultConstraint():
            if result.default is not None:
                raise SqlSyntaxError(
                    f"multiple default values specified {place}", span=constraint.span
                )
            result.default = constraint.expression
        case IdentityConstraint():
            if result.identity is not None:
                raise SqlSyntaxError(
                    f"multiple identity specifications {place}", span=constraint.span
                )
            if result.not_null is False:
                raise SqlSyntaxError(
                    f"conflicting NULL/NOT NULL declarations {place}", span=constraint.span
                )
            result.identity = constraint
            result.not_null = True
        case GeneratedConstraint():
            if result.generated is not None:
                raise SqlSyntaxError(
                    f"multiple generation clauses specified {place}", span=constraint.span
                )
            result.generated = constraint
        case CheckConstraint():
            result.table_constraints.append(constraint)
        case UniqueConstraint() | ForeignKeyConstraint():
            result.table_constraints.append(
                msgspec.structs.replace(constraint, columns=(result.source.name,))
            )
        case _:
            raise AssertionError(constraint)
    if not result.serial:
        _refuse_two_values(result, place, getattr(constraint, "span", None))


def _refuse_two_values(result: Definition, place: str, span: Span | None) -> None:
    has_default = result.default is not None or result.serial
    if has_default and result.identity is not None:
        raise SqlSyntaxError(f"both default and identity specified {place}", span=span)
    if has_default and result.generated is not None:
        raise SqlSyntaxError(f"both default and generation expression specified {place}", span=span)
    if result.identity is not None and result.generated is not None:
        raise SqlSyntaxError(
            f"both identity and generation expression specified {place}", span=span
        )


async def add_column(editor: TableEditor, definition: Definition) -> Column:
    """Append a column with its default, identity or serial sequence; not yet what it generates."""
    source = definition.source
    visible = sum(1 for c in editor.table.columns if not c.hidden)
    if visible >= COLUMNS_MAX:
        raise TooManyColumns("tables can have at most 1600 columns")
    column = Column(
        name=source.name,
        type_oid=definition.type.oid,
        position=len(editor.table.columns),
        number=visible + 1,
        typmod=definition.typmod,
        not_null=bool(definition.not_null),
        collation=definition.collation,
    )
    editor.change(columns=(*editor.table.columns, column))
    if definition.default is not None:
        return editor.change_column(
            column.position, default=bind_default(editor, column, definition.default)
        )
    if definition.serial:
        return await add_serial(editor, column)
    if definition.identity is not None:
        return await add_identity(
            editor, column, always=definition.identity.always, options=definition.identity.options
        )
    return column


def bind_default(editor: TableEditor, column: Column, expression: Expression) -> Expression | None:
    """Check a DEFAULT expression and return it as stored; None for the constant NULL."""
    bound = bind_over(
        editor.env, expression, (), relation=editor.table.name, purpose="default", target=column
    )
    stored = storable(expression, bound, lambda text: resolve_regclass(editor.env, text))
    return None if isinstance(stored, NullLiteral) else stored


async def add_serial(editor: TableEditor, column: Column) -> Column:
    """Give a column a sequence that it owns, and nextval as its default."""
    sequence = await make_sequence(
        editor.env,
        editor.choose_relation_name(column.name, "seq", constraint=False),
        editor.table.schema_id,
        SequenceOptions(),
        default_type=column.type,
        owned_by=(editor.table.id, column.position),
        owner=editor.table.owner,
    )
    return editor.change_column(
        column.position, default=nextval(sequence.id), sequence_id=sequence.id
    )


def check_identity_type(column: Column) -> None:
    """InvalidParameterValue (22023) for a column that cannot be an identity column."""
    if column.type_oid not in RANGES:
        raise InvalidParameterValue("identity column type must be smallint, integer, or bigint")


async def add_identity(
    editor: TableEditor, column: Column, *, always: bool, options: SequenceOptions
) -> Column:
    """Make a column an identity column; InvalidParameterValue (22023) for other types."""
    check_identity_type(column)
    name = options.sequence_name
    sequence = await make_sequence(
        editor.env,
        name.name
        if name is not None
        else editor.choose_relation_name(column.name, "seq", constraint=False),
        editor.table.schema_id,
        options,
        default_type=column.type,
        owned_by=(editor.table.id, column.position),
        identity=True,
        owner=editor.table.owner,
    )
    return editor.change_column(
        column.position,
        identity="always" if always else "by default",
        sequence_id=sequence.id,
    )


def set_generated(editor: TableEditor, position: int, constraint: GeneratedConstraint) -> None:
    """Make a column a stored generated one; all columns of the table must be there already."""
    column = editor.table.columns[position]
    for name in columns_in(constraint.expression):
        other = editor.table.column_by_name.get(name)
        if other is not None and (other.generated is not None or other.position == position):
            raise InvalidObjectDefinition(
                f'cannot use generated column "{name}" in column generation expression',
                detail="A generated column cannot reference another generated column.",
                span=_span_of(constraint.expression, name),
            )
    bound = bind_over(
        editor.env,
        constraint.expression,
        editor.table.visible_columns,
        relation=editor.table.name,
        purpose="generated",
        target=column,
    )
    stored = storable(constraint.expression, bound, lambda text: resolve_regclass(editor.env, text))
    editor.change_column(position, generated=stored)


def _span_of(expression: Expression, name: str) -> Span | None:
    from sql.ast.walk import walk  # noqa: PLC0415 - error path

    for node in walk(expression):
        if isinstance(node, ColumnRef) and node.parts[-1] == name:
            return node.span
    return None
