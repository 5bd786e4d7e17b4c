"""The ``pg_get_...def`` functions: catalog objects as the SQL that would make them.

Source: PostgreSQL docs, "System Catalog Information Functions".
"""

import re
from functools import lru_cache
from typing import Final, cast

import msgspec

from sql.ast.column_names import with_column_names
from sql.ast.deparse import deparse_expression, deparse_query
from sql.ast.deparse_names import quote_identifier, quote_literal
from sql.ast.deparse_pretty import deparse_pretty, deparse_query_pretty
from sql.ast.node import Node
from sql.ast.query import (
    Coalesce,
    ColumnRef,
    CommonTable,
    Expression,
    FunctionCall,
    MinMax,
    NullIf,
    QualifiedName,
    Query,
    Select,
    TableRef,
)
from sql.ast.walk import transform, walk
from sql.catalog.catalog import Catalog, VirtualTable
from sql.catalog.descriptor import ForeignKey, Index, IndexKey, Table, View
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements
from sql.functions.reg import RegResolver, find_index
from sql.parser import parse_statements
from sql.types.catalog import REGCLASS

_REGCLASS_CONSTANT: Final = re.compile(r"'(\d+)'::regclass")


def _parenthesized(expression: Expression, *, pretty: bool) -> str:
    """Return an expression in parentheses, as definitions need unless it is a call or a name."""
    if pretty:
        return deparse_pretty(expression)
    text = deparse_expression(expression)
    return text if text.startswith("(") and _closes_at_end(text) else f"({text})"


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
            return f"PRIMARY KEY ({_column_list(table, table.clustering_key)})"
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


def _key_text(table: Table, key: IndexKey, *, ordered: bool, pretty: bool) -> str:
    write = deparse_pretty if pretty else deparse_expression
    if key.expression is None:
        text = quote_identifier(table.columns[key.position].name)
    elif isinstance(key.expression, FunctionCall | ColumnRef | Coalesce | MinMax | NullIf):
        text = write(key.expression)
    else:
        text = f"({write(key.expression)})"
    if not ordered:
        return text
    if key.collation:
        text += f" COLLATE {quote_identifier(key.collation)}"
    if key.operator_class:
        text += f" {quote_identifier(key.operator_class)}"
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
        names = [_key_text(table, key, ordered=False, pretty=pretty) for key in index.keys]
        names += [quote_identifier(table.columns[p].name) for p in index.include]
        return names[column - 1] if 1 <= column <= len(names) else ""
    schema = quote_identifier(context.catalog.schema_name(table.schema_id))
    unique = "UNIQUE " if index.unique else ""
    columns = ", ".join(_key_text(table, key, ordered=True, pretty=pretty) for key in index.keys)
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
def _view_definition(
    context: ExecutionContext,
    oid: int,
    pretty: bool | int = False,  # noqa: FBT001, FBT002
) -> str | None:
    relation = context.catalog.relation_by_id(oid)
    if not isinstance(relation, View):
        return "" if isinstance(relation, VirtualTable) else None
    names = tuple(column.name for column in relation.columns)
    query = with_column_names(_with_short_names(context.catalog, relation.query), names)
    is_pretty = pretty is not False
    text = deparse_query_pretty(query) if is_pretty else deparse_query(query, pretty=True)
    return text + ";"


def _with_short_names(catalog: Catalog, query: Query) -> Query:
    """Return a stored query without the schemas that the search path makes needless."""
    shadowing = {node.name for node in walk(query) if isinstance(node, CommonTable)}

    def change(node: Node) -> Node:
        if not isinstance(node, TableRef) or not node.relation_id or node.name.name in shadowing:
            return node
        name = QualifiedName(node.name.name)
        found = catalog.find_relation(name)
        is_same = found is not None and getattr(found, "id", 0) == node.relation_id
        return msgspec.structs.replace(node, name=name) if is_same else node

    return cast("Query", transform(query, change))


@implements("pg_get_viewdef(text)", "pg_get_viewdef(text,bool)", context=True)
def _view_definition_by_name(
    context: ExecutionContext,
    name: str,
    pretty: bool = False,  # noqa: FBT001, FBT002
) -> str | None:
    return _view_definition(context, RegResolver(context.catalog).relation_id(name), pretty)


@implements("pg_get_expr(pg_node_tree,oid)", "pg_get_expr(pg_node_tree,oid,bool)", context=True)
def _expression_text(
    context: ExecutionContext,
    expression: str,
    _relation: int,
    pretty: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Name the relations in what the system tables hold: SQL text with their OIDs."""
    if "::regclass" in expression:
        resolver = RegResolver(context.catalog)

        def named(match: re.Match[str]) -> str:
            name = resolver.output(REGCLASS, int(match[1]))
            return match[0] if name is None else f"{quote_literal(name)}::regclass"

        expression = _REGCLASS_CONSTANT.sub(named, expression)
    return _prettier(expression) if pretty else expression


@lru_cache(maxsize=1000)
def _prettier(text: str) -> str:
    [parsed] = parse_statements(f"SELECT {text}")
    statement = parsed.statement
    assert isinstance(statement, Select), text
    return deparse_pretty(statement.targets[0].expression)


@implements("pg_get_ruledef(oid)", "pg_get_ruledef(oid,bool)")
@implements("pg_get_triggerdef(oid)", "pg_get_triggerdef(oid,bool)")
@implements("pg_get_statisticsobjdef(oid)", "pg_get_functiondef(oid)")
@implements("pg_get_statisticsobjdef_columns(oid)", "pg_get_function_sqlbody(oid)")
def _no_definition(_oid: int, _pretty: bool = False) -> None:  # noqa: FBT001, FBT002
    """There are no rules, triggers, extended statistics or user-defined functions."""
    return
