"""Column types: type names resolved to types and typmods, and what may index them.

Source: PostgreSQL docs, "Data Types", "CREATE TABLE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.errors import (
    FeatureNotSupported,
    InvalidTableDefinition,
    SqlError,
    UndefinedObject,
)
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.catalog import (
    INT2,
    INT4,
    INT8,
    UNKNOWN,
    array_of,
    type_by_name,
)
from sql.types.typmod import typmod_in

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.query import TypeName

SERIAL_TYPES: Final = {
    "serial": INT4,
    "serial4": INT4,
    "bigserial": INT8,
    "serial8": INT8,
    "smallserial": INT2,
    "serial2": INT2,
}
_UNORDERED: Final = frozenset(("json", "xid", "cid", "aclitem", "pg_node_tree"))


def serial_type(name: TypeName) -> SqlType | None:
    """Return the integer type of a serial type name, None for other names."""
    found = None if name.schema else SERIAL_TYPES.get(name.name)
    if found is not None and name.array_dimensions:
        raise FeatureNotSupported("array of serial is not implemented", span=name.span)
    return found


def resolve_type(name: TypeName) -> tuple[SqlType, int]:
    """Return a type and typmod.

    UndefinedObject (42704) or the typmod's own errors, at the name's place.
    """
    element = type_by_name(name.name) if name.schema in ("", "pg_catalog") else None
    if element is None:
        shown = f"{name.schema}.{name.name}" if name.schema else name.name
        raise UndefinedObject(
            f'type "{shown}{"[]" * name.array_dimensions}" does not exist', span=name.span
        )
    typmod = NO_TYPMOD
    if name.modifiers or name.fields:
        try:
            typmod = typmod_in(element, name.modifiers, name.fields)
        except SqlError as error:
            raise error.at(name.span) from None
    if not name.array_dimensions:
        return element, typmod
    array = element if element.is_array and element.name[0] == "_" else array_of(element)
    if array is None:
        raise UndefinedObject(f'type "{element.display_name}[]" does not exist', span=name.span)
    return array, typmod


def check_column_type(column_name: str, sql_type: SqlType) -> None:
    """InvalidTableDefinition (42P16) for a type that cannot be stored."""
    if sql_type.kind == "p" or sql_type is UNKNOWN:
        raise InvalidTableDefinition(
            f'column "{column_name}" has pseudo-type {sql_type.display_name}'
        )


def check_indexable(sql_type: SqlType, method: str = "btree") -> None:
    """UndefinedObject (42704) for a type without an ordering."""
    base = sql_type.element or sql_type
    if base.name in _UNORDERED:
        raise UndefinedObject(
            f"data type {sql_type.display_name} has no default operator class"
            f' for access method "{method}"',
            hint="You must specify an operator class for the index"
            " or define a default operator class for the data type.",
        )


def check_collation(env: DdlEnvironment, collation: tuple[str, ...], sql_type: SqlType) -> str:
    """Return a COLLATE clause's name; UndefinedObject (42704) for one that does not exist."""
    if not collation:
        return ""
    name = collation[-1]
    if sql_type.category != "S" and (sql_type.element is None or sql_type.element.category != "S"):
        from sql.errors import DatatypeMismatch  # noqa: PLC0415 - only this branch

        raise DatatypeMismatch(f"collations are not supported by type {sql_type.display_name}")
    if name not in (
        "default",
        "C",
        "POSIX",
        "C.UTF-8",
        "C.utf8",
        "ucs_basic",
        "en_US",
        "und-x-icu",
    ):
        raise UndefinedObject(
            f'collation "{".".join(collation)}" for encoding "UTF8" does not exist'
        )
    assert env is not None
    return name if name != "default" else ""
