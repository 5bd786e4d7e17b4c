"""Binding: names and types resolved against a catalog, giving logical plans (``bound``)."""

from sql.binder.column_use import column_privileges
from sql.binder.statement import bind_expression, bind_statement, expression_type_name
from sql.binder.view import qualify_view_query

__all__ = [
    "bind_expression",
    "bind_statement",
    "column_privileges",
    "expression_type_name",
    "qualify_view_query",
]
