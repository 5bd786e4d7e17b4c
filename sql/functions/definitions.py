"""The ``pg_get_...def`` functions: catalog objects as the SQL that would make them.

Source: PostgreSQL docs, "System Catalog Information Functions".
"""

from sql.ast.deparse import deparse_expression, deparse_query
from sql.ast.deparse_names import quote_identifier
from sql.ast.query import ColumnRef, Expression, FunctionCall
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import ForeignKey, Index, IndexKey, Table, View
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements
from sql.functions.reg import RegResolver, find_index
from sql.types.catalog import REGCLASS


def _parenthesized(expression: Expression, *, pretty: bool) -> str:
    """Return an expression in parentheses, as definitions need unless it is a call or a name."""
    text = deparse_expression(expression)
    wrapped = text.startswith("(") and text.endswith(")") and _closes_at_end(text)
    if pretty and wrapped:
        return text[1:-1]
    return text if pretty or wrapped else f"({text})"


def _closes_at_end(text: str) -> bool:
    depth = 0
    in_string = False
    for position, char in enumerate(text):
        if char == "'":
            in_string = not in_string
        elif not in_string and char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0 and position < len(text) - 1:
                return False
    return True


def _column_list(table: Table, positions: tuple[int, ...]) -> str:
    return ", ".join(quote_identifier(table.columns[p].name) for p in positions)


def _timing(*, deferrable: bool, deferred: bool) -> str:
    return (" DEFERRABLE" if deferrable else "") + (" INITIALLY DEFERRED" if deferred else "")


def _foreign_key(context: ExecutionContext, table: Table, key: ForeignKey) -> str:
    target = context.catalog.snapshot.table(key.referenced_table_id)
    assert target is not None
    name = RegResolver(context.catalog).output(REGCLASS, target.id)
    text = (
        f"FOREIGN KEY ({_column_list(table, key.columns)}) REFERENCES {name}"
        f"({_column_list(target, key.referenced_columns)})"
    )
    if key.match_full:
        text += " MATCH FULL"
    for event, action, columns in (
        ("UPDATE", key.on_update, ()),
        ("DELETE", key.on_delete, key.on_delete_columns),
    ):
        if action == "no action":
            continue
        text += f" ON {event} {action.upper()}"
        if columns:
            text += f" ({_column_list(table, tuple(columns))})"
    text += _timing(deferrable=key.deferrable, deferred=key.initially_deferred)
    return text if key.validated else text + " NOT VALID"


def _unique(table: Table, index: Index) -> str:
    positions = tuple(key.position for key in index.keys)
    nulls = " NULLS NOT DISTINCT" if index.nulls_not_distinct else ""
    word = "PRIMARY KEY" if index.primary else f"UNIQUE{nulls}"
    text = f"{word} ({_column_list(table, positions)})"
    if index.include:
        text += f" INCLUDE ({_column_list(table, index.include)})"
    return text + _timing(deferrable=index.deferrable, deferred=index.initially_deferred)


@implements("pg_get_constraintdef(oid)", "pg_get_constraintdef(oid,bool)", context=True)
def _constraint_definition(context: ExecutionContext, oid: int, pretty: bool = False) -> str | None:  # noqa: FBT001, FBT002
    for table in context.catalog.snapshot.all(Table):
        if table.primary_name and oid == table.primary_id + 1:
            deferrable = " DEFERRABLE" if table.primary_deferrable else ""
            return f"PRIMARY KEY ({_column_list(table, table.clustering_key)}){deferrable}"
        for check in table.checks:
            if check.id == oid:
                text = f"CHECK ({_parenthesized(check.expression, pretty=pretty)})"
                text += " NO INHERIT" if check.no_inherit else ""
                return text if check.validated else text + " NOT VALID"
        for key in table.foreign_keys:
            if key.id == oid:
                return _foreign_key(context, table, key)
        for index in table.indexes:
            if index.constraint and index.constraint_id == oid:
                return _unique(table, index)
    return None


def _key_text(table: Table, key: IndexKey, *, ordered: bool) -> str:
    if key.expression is None:
        text = quote_identifier(table.columns[key.position].name)
    elif isinstance(key.expression, FunctionCall | ColumnRef):
        text = deparse_expression(key.expression)
    else:
        text = _parenthesized(key.expression, pretty=False)
    if not ordered:
        return text
    if key.descending:
        return text + (" DESC" if key.nulls_first else " DESC NULLS LAST")
    return text + (" NULLS FIRST" if key.nulls_first else "")


@implements("pg_get_indexdef(oid)", "pg_get_indexdef(oid,int4,bool)", context=True)
def _index_definition(
    context: ExecutionContext,
    oid: int,
    column: int = 0,
    pretty: bool = False,  # noqa: FBT001, FBT002
) -> str | None:
    found = find_index(context.catalog.snapshot, oid)
    if found is None:
        return None
    table, index = found
    if index is None:
        keys = tuple(IndexKey(position=position) for position in table.clustering_key)
        index = Index(
            id=oid, name=table.primary_name, index_id=1, keys=keys, unique=True, primary=True
        )
    if column:
        names = [_key_text(table, key, ordered=False) for key in index.keys]
        names += [quote_identifier(table.columns[p].name) for p in index.include]
        return names[column - 1] if 1 <= column <= len(names) else ""
    schema = quote_identifier(context.catalog.schema_name(table.schema_id))
    unique = "UNIQUE " if index.unique else ""
    columns = ", ".join(_key_text(table, key, ordered=True) for key in index.keys)
    text = (
        f"CREATE {unique}INDEX {quote_identifier(index.name)} ON {schema}."
        f"{quote_identifier(table.name)} USING {index.method} ({columns})"
    )
    if index.include:
        text += f" INCLUDE ({_column_list(table, index.include)})"
    if index.nulls_not_distinct:
        text += " NULLS NOT DISTINCT"
    if index.options:
        text += " WITH (" + ", ".join(f"{name}='{value}'" for name, value in index.options) + ")"
    if index.predicate is not None:
        text += f" WHERE {_parenthesized(index.predicate, pretty=pretty)}"
    return text


@implements(
    "pg_get_viewdef(oid)", "pg_get_viewdef(oid,bool)", "pg_get_viewdef(oid,int4)", context=True
)
def _view_definition(context: ExecutionContext, oid: int, _pretty: object = None) -> str | None:
    relation = context.catalog.relation_by_id(oid)
    if isinstance(relation, View):
        return deparse_query(relation.query, pretty=True) + ";"
    return "" if isinstance(relation, VirtualTable) else None


@implements("pg_get_viewdef(text)", "pg_get_viewdef(text,bool)", context=True)
def _view_definition_by_name(
    context: ExecutionContext, name: str, _pretty: object = None
) -> str | None:
    return _view_definition(context, RegResolver(context.catalog).relation_id(name))


@implements("pg_get_expr(pg_node_tree,oid)", "pg_get_expr(pg_node_tree,oid,bool)")
def _expression_text(expression: str, _relation: int, _pretty: bool = False) -> str:  # noqa: FBT001, FBT002
    """Return the argument: the system tables hold expressions as SQL text already."""
    return expression


@implements("pg_get_ruledef(oid)", "pg_get_ruledef(oid,bool)")
@implements("pg_get_triggerdef(oid)", "pg_get_triggerdef(oid,bool)")
@implements("pg_get_statisticsobjdef(oid)", "pg_get_functiondef(oid)")
@implements("pg_get_statisticsobjdef_columns(oid)", "pg_get_function_sqlbody(oid)")
def _no_definition(_oid: int, _pretty: bool = False) -> None:  # noqa: FBT001, FBT002
    """There are no rules, triggers, extended statistics or user-defined functions."""
    return
