"""``name[n]``: PostgreSQL's name is an array of "char" too, counted from 0.

The subscript becomes a call over the name's text. Source: PostgreSQL docs, "Character Types".
"""

from sql.ast.query import (
    BinaryOp,
    Expression,
    FunctionCall,
    IntegerLiteral,
    OperatorName,
    Subscript,
    TypeCast,
    TypeName,
)
from sql.errors import FeatureNotSupported


def name_character(node: Subscript) -> Expression:
    """Return the expression for one character; FeatureNotSupported (0A000) for a slice."""
    if node.is_slice or node.lower is None:
        raise FeatureNotSupported("slices of a name are not supported", span=node.span)
    position = BinaryOp(OperatorName("+", "pg_catalog"), node.lower, IntegerLiteral(1))
    text = TypeCast(node.operand, TypeName("text", "pg_catalog"))
    part = FunctionCall(("pg_catalog", "substr"), (text, position, IntegerLiteral(1)))
    return TypeCast(part, TypeName("char", "pg_catalog"))
