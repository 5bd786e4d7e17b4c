"""The table of types. OIDs, lengths and categories are PostgreSQL 15's (pg_type).

``type_by_oid`` and ``type_by_name`` find them (names as in pg_type.typname; ``TYPE_ALIASES`` maps
the SQL spellings); ``array_of`` gives the array type of an element type.
"""

from typing import Final

from sql.types.base import SqlType, index_by_oid

BOOL: Final = SqlType(16, "bool", 1, "B", display_name="boolean", preferred=True)
BYTEA: Final = SqlType(17, "bytea", -1, "U")
CHAR: Final = SqlType(18, "char", 1, "Z", display_name='"char"')
NAME: Final = SqlType(19, "name", 64, "S")
INT8: Final = SqlType(20, "int8", 8, "N", display_name="bigint")
INT2: Final = SqlType(21, "int2", 2, "N", display_name="smallint")
INT4: Final = SqlType(23, "int4", 4, "N", display_name="integer")
REGPROC: Final = SqlType(24, "regproc", 4, "N")
TEXT: Final = SqlType(25, "text", -1, "S", preferred=True)
OID: Final = SqlType(26, "oid", 4, "N", preferred=True)
TID: Final = SqlType(27, "tid", 6, "U")
XID: Final = SqlType(28, "xid", 4, "U")
CID: Final = SqlType(29, "cid", 4, "U")
JSON: Final = SqlType(114, "json", -1, "U")
PG_NODE_TREE: Final = SqlType(194, "pg_node_tree", -1, "Z")
FLOAT4: Final = SqlType(700, "float4", 4, "N", display_name="real")
FLOAT8: Final = SqlType(701, "float8", 8, "N", display_name="double precision", preferred=True)
REGPROCEDURE: Final = SqlType(2202, "regprocedure", 4, "N")
REGOPER: Final = SqlType(2203, "regoper", 4, "N")
REGOPERATOR: Final = SqlType(2204, "regoperator", 4, "N")
REGCLASS: Final = SqlType(2205, "regclass", 4, "N")
REGTYPE: Final = SqlType(2206, "regtype", 4, "N")
REGROLE: Final = SqlType(4096, "regrole", 4, "N")
REGNAMESPACE: Final = SqlType(4089, "regnamespace", 4, "N")
BPCHAR: Final = SqlType(1042, "bpchar", -1, "S", display_name="character")
VARCHAR: Final = SqlType(1043, "varchar", -1, "S", display_name="character varying")
DATE: Final = SqlType(1082, "date", 4, "D")
TIME: Final = SqlType(1083, "time", 8, "D", display_name="time without time zone")
TIMESTAMP: Final = SqlType(1114, "timestamp", 8, "D", display_name="timestamp without time zone")
TIMESTAMPTZ: Final = SqlType(
    1184, "timestamptz", 8, "D", display_name="timestamp with time zone", preferred=True
)
INTERVAL: Final = SqlType(1186, "interval", 16, "T", preferred=True)
TIMETZ: Final = SqlType(1266, "timetz", 12, "D", display_name="time with time zone")
NUMERIC: Final = SqlType(1700, "numeric", -1, "N")
UUID: Final = SqlType(2950, "uuid", 16, "U")
JSONB: Final = SqlType(3802, "jsonb", -1, "U")
RECORD: Final = SqlType(2249, "record", -1, "P", kind="p")
UNKNOWN: Final = SqlType(705, "unknown", -2, "X", kind="p")
VOID: Final = SqlType(2278, "void", 4, "P", kind="p")
ANY: Final = SqlType(2276, "any", 4, "P", display_name='"any"', kind="p")
ANYELEMENT: Final = SqlType(2283, "anyelement", 4, "P", kind="p")
ANYARRAY: Final = SqlType(2277, "anyarray", -1, "P", kind="p")
ANYNONARRAY: Final = SqlType(2776, "anynonarray", 4, "P", kind="p")
ANYCOMPATIBLE: Final = SqlType(5077, "anycompatible", 4, "P", kind="p")
ANYCOMPATIBLEARRAY: Final = SqlType(5078, "anycompatiblearray", -1, "P", kind="p")
ANYCOMPATIBLENONARRAY: Final = SqlType(5079, "anycompatiblenonarray", 4, "P", kind="p")
CSTRING: Final = SqlType(2275, "cstring", -2, "P", kind="p")
TRIGGER: Final = SqlType(2279, "trigger", 4, "P", kind="p")
INTERNAL: Final = SqlType(2281, "internal", 8, "P", kind="p")
ACLITEM: Final = SqlType(1033, "aclitem", 12, "U")
XID8: Final = SqlType(5069, "xid8", 8, "U")
PG_LSN: Final = SqlType(3220, "pg_lsn", 8, "U")
INT2VECTOR: Final = SqlType(22, "int2vector", -1, "A", element=INT2)
OIDVECTOR: Final = SqlType(30, "oidvector", -1, "A", element=OID)

_ARRAY_OIDS: Final = (
    (BOOL, 1000),
    (BYTEA, 1001),
    (CHAR, 1002),
    (NAME, 1003),
    (INT8, 1016),
    (INT2, 1005),
    (INT4, 1007),
    (REGPROC, 1008),
    (TEXT, 1009),
    (OID, 1028),
    (TID, 1010),
    (XID, 1011),
    (CID, 1012),
    (JSON, 199),
    (FLOAT4, 1021),
    (FLOAT8, 1022),
    (REGPROCEDURE, 2207),
    (REGOPER, 2208),
    (REGOPERATOR, 2209),
    (REGCLASS, 2210),
    (REGTYPE, 2211),
    (REGROLE, 4097),
    (REGNAMESPACE, 4090),
    (BPCHAR, 1014),
    (VARCHAR, 1015),
    (DATE, 1182),
    (TIME, 1183),
    (TIMESTAMP, 1115),
    (TIMESTAMPTZ, 1185),
    (INTERVAL, 1187),
    (TIMETZ, 1270),
    (NUMERIC, 1231),
    (UUID, 2951),
    (JSONB, 3807),
    (ACLITEM, 1034),
    (XID8, 271),
    (PG_LSN, 3221),
    (RECORD, 2287),
)


def _make_array(element: SqlType, oid: int) -> SqlType:
    array = SqlType(
        oid, "_" + element.name, -1, "A", display_name=element.display_name + "[]", element=element
    )
    element.array = array
    return array


ARRAY_TYPES: Final = tuple(_make_array(element, oid) for element, oid in _ARRAY_OIDS)
BASE_TYPES: Final = (
    BOOL,
    BYTEA,
    CHAR,
    NAME,
    INT8,
    INT2,
    INT2VECTOR,
    INT4,
    REGPROC,
    TEXT,
    OID,
    TID,
    XID,
    CID,
    OIDVECTOR,
    JSON,
    PG_NODE_TREE,
    FLOAT4,
    FLOAT8,
    REGPROCEDURE,
    REGOPER,
    REGOPERATOR,
    REGCLASS,
    REGTYPE,
    REGROLE,
    REGNAMESPACE,
    BPCHAR,
    VARCHAR,
    DATE,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    INTERVAL,
    TIMETZ,
    NUMERIC,
    UUID,
    JSONB,
    RECORD,
    UNKNOWN,
    VOID,
    ANY,
    ANYELEMENT,
    ANYARRAY,
    ANYNONARRAY,
    ANYCOMPATIBLE,
    ANYCOMPATIBLEARRAY,
    ANYCOMPATIBLENONARRAY,
    CSTRING,
    TRIGGER,
    INTERNAL,
    ACLITEM,
    XID8,
    PG_LSN,
)
_BY_OID: Final = index_by_oid(BASE_TYPES + ARRAY_TYPES)
_BY_NAME: Final = {sql_type.name: sql_type for sql_type in _BY_OID.values()}

TYPE_ALIASES: Final = {
    "boolean": "bool",
    "smallint": "int2",
    "int": "int4",
    "integer": "int4",
    "bigint": "int8",
    "real": "float4",
    "float": "float8",
    "double precision": "float8",
    "decimal": "numeric",
    "dec": "numeric",
    "character varying": "varchar",
    "char varying": "varchar",
    "character": "bpchar",
    "char": "bpchar",
    "nchar": "bpchar",
    "national character": "bpchar",
    "national char": "bpchar",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
}


def type_by_oid(oid: int) -> SqlType | None:
    """Return the type with this OID, or None."""
    return _BY_OID.get(oid)


def type_by_name(name: str) -> SqlType | None:
    """Return the type with this pg_type.typname (``int4``, ``_text``), or None."""
    return _BY_NAME.get(name)


def array_of(element: SqlType) -> SqlType | None:
    """Return the array type over ``element``, or None where it has none."""
    return element.array


def all_types() -> tuple[SqlType, ...]:
    """Return every type, base types first."""
    return BASE_TYPES + ARRAY_TYPES
