"""Text to typed statements: our own parser of PostgreSQL 15's grammar (ADR 0009).

Pure functions of the text; nothing is looked up. What parses is syntax only.
"""

from sql.parser.statements import (
    ParsedStatement,
    parse_expression,
    parse_statements,
    parse_type_name,
)

__all__ = ["ParsedStatement", "parse_expression", "parse_statements", "parse_type_name"]
