"""Resolving type names of the syntax to types and typmods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sql.errors import FeatureNotSupported, InvalidSchemaName, SqlError, UndefinedObject
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.catalog import type_by_name
from sql.types.typmod import typmod_in

if TYPE_CHECKING:
    from sql.ast.query import TypeName
    from sql.catalog.catalog import Catalog

_UNSUPPORTED = frozenset(
    (
        "bit",
        "varbit",
        "xml",
        "money",
        "point",
        "line",
        "lseg",
        "box",
        "path",
        "polygon",
        "circle",
        "inet",
        "cidr",
        "macaddr",
        "macaddr8",
        "tsvector",
        "tsquery",
    )
)


def resolve_type(catalog: Catalog, name: TypeName) -> tuple[SqlType, int]:
    """Return (type, typmod) of a type name; 42704 when it does not exist, 0A000 when we lack it."""
    base = type_by_name(name.name)
    if name.schema and name.schema != "pg_catalog":
        if catalog.schema_id(name.schema) is None:
            raise InvalidSchemaName(f'schema "{name.schema}" does not exist', span=name.span)
        base = None
    if base is None:
        shown = f"{name.schema}.{name.name}" if name.schema else name.name
        if name.name in _UNSUPPORTED and name.schema in ("", "pg_catalog"):
            raise FeatureNotSupported(f'type "{shown}" is not supported', span=name.span)
        brackets = "[]" * name.array_dimensions
        raise UndefinedObject(f'type "{shown}{brackets}" does not exist', span=name.span)
    typmod = NO_TYPMOD
    if name.modifiers or name.fields:
        try:
            typmod = typmod_in(base, name.modifiers, name.fields)
        except SqlError as error:
            raise error.at(name.span) from None
    if name.array_dimensions:
        array = base if base.element is not None else base.array
        if array is None:
            raise UndefinedObject(f'type "{name.name}[]" does not exist', span=name.span)
        return array, typmod
    return base, typmod
