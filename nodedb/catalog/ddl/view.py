"""CREATE [OR REPLACE] VIEW.

Source: PostgreSQL docs, "CREATE VIEW".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog.ddl.binding import bind_over, bind_view
from nodedb.catalog.ddl.objects import (
    creation_schema,
    find_in,
    initial_acl,
    is_temporary,
    require_owner,
    resolve_regclass,
)
from nodedb.catalog.ddl.options import CHECK_OPTION, check_options
from nodedb.catalog.ddl.rewrite import storable
from sql.ast.ddl import AlterColumnDefault, ResetOptions, SetOptions, StorageOption
from sql.ast.query import (
    CommonTable,
    Delete,
    Insert,
    NullLiteral,
    QualifiedName,
    Query,
    Select,
    SetOperation,
    Star,
    TableRef,
    Target,
    Update,
    WithClause,
)
from sql.ast.walk import strip_spans
from sql.binder.scope import SYSTEM_COLUMNS
from sql.catalog.descriptor import Column, Sequence, Table, View, ViewColumn
from sql.errors import (
    DuplicateColumn,
    DuplicateTable,
    FeatureNotSupported,
    InvalidTableDefinition,
    SqlSyntaxError,
    UndefinedColumn,
    WrongObjectType,
)
from sql.functions.builtin import REGISTRY
from sql.functions.updatable import view_obstacle
from sql.types.catalog import TEXT, UNKNOWN, type_by_oid
from sql.types.typmod import format_type

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import CreateView


async def create_view(env: DdlEnvironment, statement: CreateView) -> str:
    """CREATE VIEW; one over a temporary relation is temporary itself, with PostgreSQL's notice."""
    name = statement.name
    query = _recursive(statement) if statement.recursive else statement.query
    _refuse(query)
    bound = bind_view(env, query)
    temporary = statement.temporary
    if not temporary and _reads_temporary(env, bound.depends_on):
        temporary = True
        env.notice("NOTICE", "00000", f'view "{name.name}" will be a temporary view')
    schema_id = creation_schema(env, name, temporary=temporary)
    columns = _named(statement, bound.columns)
    if statement.check_option or any(o.name == CHECK_OPTION for o in statement.options):
        _require_updatable(bound.query)
    options = _options(statement)
    check_option = dict(options).get(CHECK_OPTION, "")
    old = find_in(env, schema_id, name.name)
    if old is not None and not statement.or_replace:
        raise DuplicateTable(f'relation "{name.name}" already exists')
    stored = strip_spans(bound.query)
    if old is None:
        env.overlay.put(
            View(
                id=env.overlay.allocate_id(),
                name=name.name,
                owner=env.catalog.user_id,
                acl=initial_acl(env, "r", schema_id),
                schema_id=schema_id,
                columns=columns,
                query=stored,
                depends_on=bound.depends_on,
                check_option=check_option,
                options=options,
                temporary_session=env.session_id if is_temporary(env, schema_id) else 0,
            )
        )
        return "CREATE VIEW"
    if not isinstance(old, View):
        raise WrongObjectType(f'"{name.name}" is not a view')
    require_owner(env, old)
    _check_replacement(old.columns, columns)
    columns = (
        tuple(
            msgspec.structs.replace(column, default=before.default, comment=before.comment)
            for column, before in zip(columns, old.columns, strict=False)
        )
        + columns[len(old.columns) :]
    )
    await env.lock_table(old.id, "access exclusive")
    env.overlay.put(
        msgspec.structs.replace(
            old,
            columns=columns,
            query=stored,
            depends_on=bound.depends_on,
            check_option=check_option,
            options=options,
        )
    )
    return "CREATE VIEW"


async def alter_view(
    env: DdlEnvironment, view_id: int, action: SetOptions | ResetOptions | AlterColumnDefault
) -> None:
    """ALTER VIEW ... SET (...), RESET (...), ALTER COLUMN ... SET or DROP DEFAULT."""
    view = env.overlay.snapshot.get(view_id)
    assert isinstance(view, View), view_id
    require_owner(env, view)
    await env.lock_table(view.id, "access exclusive")
    if isinstance(action, AlterColumnDefault):
        columns = _with_default(env, view, action)
        env.overlay.put(msgspec.structs.replace(view, columns=columns))
        return
    options = dict(view.options)
    if isinstance(action, ResetOptions):
        options = {k: v for k, v in options.items() if k not in action.names}
    else:
        given = dict(check_options("view", action.options))
        if CHECK_OPTION in given:
            _require_updatable(view.query)
        options |= given
    env.overlay.put(
        msgspec.structs.replace(
            view,
            options=tuple(options.items()),
            check_option=options.get(CHECK_OPTION, ""),
        )
    )


def _with_default(
    env: DdlEnvironment, view: View, action: AlterColumnDefault
) -> tuple[ViewColumn, ...]:
    names = [column.name for column in view.columns]
    if action.name not in names:
        if action.name in SYSTEM_COLUMNS:
            raise FeatureNotSupported(f'cannot alter system column "{action.name}"')
        raise UndefinedColumn(f'column "{action.name}" of relation "{view.name}" does not exist')
    position = names.index(action.name)
    column = view.columns[position]
    default = None
    if action.expression is not None:
        target = Column(
            name=column.name,
            type_oid=column.type_oid,
            typmod=column.typmod,
            position=position,
            number=position + 1,
        )
        expression = strip_spans(action.expression)  # PostgreSQL gives errors no place here.
        bound = bind_over(env, expression, (), relation=view.name, purpose="default", target=target)
        stored = storable(expression, bound, lambda text: resolve_regclass(env, text))
        default = None if isinstance(stored, NullLiteral) else stored
    changed = msgspec.structs.replace(column, default=default)
    return (*view.columns[:position], changed, *view.columns[position + 1 :])


def _options(statement: CreateView) -> tuple[tuple[str, str], ...]:
    """Return the options; WITH CHECK OPTION is PostgreSQL's other way to write one of them."""
    given = statement.options
    if statement.check_option:
        given = (*given, StorageOption(CHECK_OPTION, statement.check_option))
    return check_options("view", given)


def _require_updatable(query: Query) -> None:
    reason = view_obstacle(REGISTRY, query, with_columns=True)
    if reason:
        raise FeatureNotSupported(
            "WITH CHECK OPTION is supported only on automatically updatable views", hint=reason
        )


def _refuse(query: Query) -> None:
    first = query
    while isinstance(first, SetOperation):
        first = first.left
    if isinstance(first, Select) and first.into is not None:
        raise FeatureNotSupported("views must not contain SELECT INTO")
    if query.with_clause is not None and any(
        isinstance(table.statement, (Insert, Update, Delete)) for table in query.with_clause.tables
    ):
        raise FeatureNotSupported("views must not contain data-modifying statements in WITH")


def _recursive(statement: CreateView) -> Query:
    """CREATE RECURSIVE VIEW v (a) AS q is WITH RECURSIVE v (a) AS (q) SELECT a FROM v."""
    table = CommonTable(statement.name.name, statement.columns, statement.query)
    return Select(
        targets=(Target(Star()),),
        from_items=(TableRef(QualifiedName(statement.name.name)),),
        with_clause=WithClause(recursive=True, tables=(table,)),
    )


def _reads_temporary(env: DdlEnvironment, depends_on: tuple[tuple[int, int], ...]) -> bool:
    for relation_id, _ in depends_on:
        found = env.overlay.snapshot.get(relation_id)
        if isinstance(found, (Table, View, Sequence)) and found.temporary_session:
            return True
    return False


def _named(statement: CreateView, columns: tuple[ViewColumn, ...]) -> tuple[ViewColumn, ...]:
    if len(statement.columns) > len(columns):
        raise SqlSyntaxError("CREATE VIEW specifies more column names than columns")
    result: list[ViewColumn] = []
    for position, column in enumerate(columns):
        name = statement.columns[position] if position < len(statement.columns) else column.name
        if any(other.name == name for other in result):
            raise DuplicateColumn(f'column "{name}" specified more than once')
        sql_type = type_by_oid(column.type_oid)
        assert sql_type is not None, column
        if sql_type.kind == "p" and sql_type is not UNKNOWN:
            raise InvalidTableDefinition(f'column "{name}" has pseudo-type {sql_type.display_name}')
        type_oid = TEXT.oid if sql_type is UNKNOWN else column.type_oid
        result.append(ViewColumn(name, type_oid, column.typmod))
    return tuple(result)


def _check_replacement(old: tuple[ViewColumn, ...], new: tuple[ViewColumn, ...]) -> None:
    if len(new) < len(old):
        raise InvalidTableDefinition("cannot drop columns from view")
    for before, after in zip(old, new, strict=False):
        if before.name != after.name:
            raise InvalidTableDefinition(
                f'cannot change name of view column "{before.name}" to "{after.name}"',
                hint="Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.",
            )
        if (before.type_oid, before.typmod) != (after.type_oid, after.typmod):
            raise InvalidTableDefinition(
                f'cannot change data type of view column "{before.name}"'
                f" from {_shown(before)} to {_shown(after)}"
            )


def _shown(column: ViewColumn) -> str:
    sql_type = type_by_oid(column.type_oid)
    assert sql_type is not None, column
    return format_type(sql_type, column.typmod)
