"""Operator classes of index keys: which exist, which types they take, which a type has by default.

All of a type's classes order alike here: a class that is not the default one is kept for the
index's definition.

Source: PostgreSQL docs, "Operator Classes and Operator Families".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.errors import DatatypeMismatch, InvalidSchemaName, UndefinedObject

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.types.base import SqlType

_METHODS: Final = ("btree", "hash")
_TEXT: Final = ("text", "varchar")
_PADDED: Final = ("bpchar", "text", "varchar")
_OIDS: Final = frozenset(
    (
        "oid",
        "regclass",
        "regcollation",
        "regconfig",
        "regdictionary",
        "regnamespace",
        "regoper",
        "regoperator",
        "regproc",
        "regprocedure",
        "regrole",
        "regtype",
    )
)
_SPECIAL: Final = {
    "text_ops": _TEXT,
    "varchar_ops": _TEXT,
    "text_pattern_ops": _TEXT,
    "varchar_pattern_ops": _TEXT,
    "bpchar_ops": _PADDED,
    "bpchar_pattern_ops": _PADDED,
    "oid_ops": tuple(_OIDS),
}
_PLAIN: Final = frozenset(
    (
        "bool",
        "bytea",
        "char",
        "date",
        "float4",
        "float8",
        "int2",
        "int4",
        "int8",
        "interval",
        "jsonb",
        "name",
        "numeric",
        "oidvector",
        "pg_lsn",
        "record",
        "time",
        "timestamp",
        "timestamptz",
        "timetz",
        "uuid",
        "xid8",
    )
)


def check_operator_class(env: DdlEnvironment, written: str, method: str, key_type: SqlType) -> str:
    """Return an index key's operator class, "" for its type's default one.

    UndefinedObject (42704) for one that does not exist, DatatypeMismatch (42804) for one that does
    not take the type.
    """
    schema, _, name = written.rpartition(".")
    if schema and env.catalog.schema_id(schema) is None:
        raise InvalidSchemaName(f'schema "{schema}" does not exist')
    is_known = name in _SPECIAL or name == "array_ops" or name.removesuffix("_ops") in _PLAIN
    if schema not in ("", "pg_catalog") or method not in _METHODS or not is_known:
        raise UndefinedObject(
            f'operator class "{written}" does not exist for access method "{method}"'
        )
    if name == "array_ops":
        fits = key_type.is_array
    else:
        fits = key_type.name in _SPECIAL.get(name, (name.removesuffix("_ops"),))
    if not fits:
        raise DatatypeMismatch(
            f'operator class "{name}" does not accept data type {key_type.display_name}'
        )
    return "" if name == _default_class(key_type) else name


def _default_class(key_type: SqlType) -> str:
    if key_type.is_array:
        return "array_ops"
    if key_type.name in _OIDS:
        return "oid_ops"
    return "text_ops" if key_type.name == "varchar" else f"{key_type.name}_ops"
