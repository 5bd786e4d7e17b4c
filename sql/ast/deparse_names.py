"""Names, string constants and types as SQL text."""

import re
from typing import Final

from sql.ast.keywords import KEYWORDS, UNRESERVED
from sql.ast.query import QualifiedName, TypeName

_SAFE: Final = re.compile(r"[a-z_][a-z0-9_]*\Z")
_DISPLAY: Final = {
    "int4": "integer",
    "int2": "smallint",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "varchar": "character varying",
    "varbit": "bit varying",
    "char": '"char"',
}
_ZONED: Final = {
    "time": ("time", " without time zone"),
    "timestamp": ("timestamp", " without time zone"),
    "timetz": ("time", " with time zone"),
    "timestamptz": ("timestamp", " with time zone"),
}


def quote_identifier(name: str) -> str:
    """Quote a name unless it reads back as itself: lower case and no reserved word."""
    if _SAFE.match(name) and (name not in KEYWORDS or name in UNRESERVED):
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_literal(value: str) -> str:
    """Quote a string constant."""
    return "'" + value.replace("'", "''") + "'"


def qualified_name_text(name: QualifiedName) -> str:
    """Print ``[catalog.][schema.]name``."""
    parts = [part for part in (name.catalog, name.schema, name.name) if part]
    return ".".join(map(quote_identifier, parts))


def type_name_text(node: TypeName) -> str:
    """Print a type as format_type does: ``character varying(10)[]``."""
    return _base(node) + "[]" * node.array_dimensions


def _base(node: TypeName) -> str:
    modifiers = f"({','.join(map(str, node.modifiers))})" if node.modifiers else ""
    if node.schema:
        return f"{quote_identifier(node.schema)}.{quote_identifier(node.name)}{modifiers}"
    if node.name in _ZONED:
        word, zone = _ZONED[node.name]
        return f"{word}{modifiers}{zone}"
    if node.name == "interval":
        return (
            f"interval {' '.join(node.fields)}{modifiers}"
            if node.fields
            else f"interval{modifiers}"
        )
    if node.name == "bpchar" and modifiers:
        return f"character{modifiers}"
    if node.name in ("numeric", "bit"):
        # An unadorned bit is bit(1); quoted it is the catalog's name without a length.
        return (
            f'"bit"{modifiers}' if node.name == "bit" and not modifiers else node.name + modifiers
        )
    return (_DISPLAY.get(node.name) or quote_identifier(node.name)) + modifiers
