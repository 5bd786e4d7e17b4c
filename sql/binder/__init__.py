"""Binding: names and types of the syntax resolved against a catalog.

Giving logical plans (``bound``).
"""

from sql.binder.statement import bind_expression, bind_statement, expression_type_name
from sql.binder.view import qualify_view_query

__all__ = ["bind_expression", "bind_statement", "expression_type_name", "qualify_view_query"]
