"""Functions about catalog objects that psql, pg_dump and drivers call.

Privilege lists, partitions, index properties. nodedb has no partitions, file system, replication or
commit timestamps: the functions about those give what PostgreSQL gives when there is nothing to
tell. Source: PostgreSQL docs, "System Information Functions and Operators", "System Administration
Functions".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sql.catalog.descriptor import Database, Schema, Table
from sql.errors import InvalidParameterValue, InvalidTextRepresentation, UndefinedObject
from sql.functions.implementation import implements, register
from sql.functions.reg import find_index
from sql.types.array import ArrayValue

if TYPE_CHECKING:
    from sql.functions.context import ExecutionContext

_DEFAULT_TABLESPACE: Final = 1663
_TABLESPACES: Final = {"pg_default": 1663, "pg_global": 1664}
_PRIVILEGE_NAMES: Final = {
    "a": "INSERT",
    "r": "SELECT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "X": "EXECUTE",
    "U": "USAGE",
    "C": "CREATE",
    "T": "TEMPORARY",
    "c": "CONNECT",
    "s": "SET",
    "A": "ALTER SYSTEM",
}
_DEFAULTS: Final = {
    # kind of object: (letters of PUBLIC, letters of the owner)
    "c": ("", ""),
    "r": ("", "arwdDxt"),
    "s": ("", "rwU"),
    "d": ("Tc", "CTc"),
    "f": ("X", "X"),
    "l": ("U", "U"),
    "L": ("", "rw"),
    "n": ("", "UC"),
    "p": ("", "sA"),
    "t": ("", "C"),
    "F": ("", "U"),
    "S": ("", "U"),
    "T": ("U", "U"),
}
_ACL_ITEM: Final = re.compile(r'("(?:[^"]|"")*"|[^"=]*)=([a-zA-Z*]*)/("(?:[^"]|"")*"|[^"]+)\Z')


def _shown_role(context: ExecutionContext, role_id: int) -> str:
    role = context.catalog.snapshot.role_by_id(role_id)
    name = str(role_id) if role is None else role.name
    if name and all(char.isalnum() or char == "_" for char in name):
        return name
    return '"' + name.replace('"', '""') + '"'


@implements("acldefault(char,oid)", context=True)
def _default_privileges(context: ExecutionContext, kind: str, owner: int) -> ArrayValue:
    found = _DEFAULTS.get(kind)
    if found is None:
        raise InvalidParameterValue(f"unrecognized object type abbreviation: {kind}")
    name = _shown_role(context, owner)
    public, own = found
    items = [f"={public}/{name}"] if public else []
    if own:
        items.append(f"{name}={own}/{name}")
    return ArrayValue(tuple(items))


def _role_id(context: ExecutionContext, text: str) -> int:
    if not text:
        return 0
    name = text[1:-1].replace('""', '"') if text.startswith('"') else text
    role = context.catalog.snapshot.role(name)
    if role is not None:
        return role.id
    if name.isdecimal():
        return int(name)
    raise UndefinedObject(f'role "{name}" does not exist')


@implements("aclexplode(_aclitem)", context=True)
def _explode(context: ExecutionContext, acl: ArrayValue) -> list[tuple[int, int, str, bool]]:
    rows: list[tuple[int, int, str, bool]] = []
    for item in acl.elements:
        match = _ACL_ITEM.match(item)
        if match is None:
            raise InvalidTextRepresentation(f'invalid input syntax for type aclitem: "{item}"')
        grantee, grantor = _role_id(context, match[1]), _role_id(context, match[3])
        letters = match[2]
        rows.extend(
            (grantor, grantee, _PRIVILEGE_NAMES[letter], letters[n + 1 : n + 2] == "*")
            for n, letter in enumerate(letters)
            if letter != "*"
        )
    return rows


@implements("pg_partition_ancestors(regclass)")
def _partition_ancestors(_relation: int) -> tuple[int, ...]:
    """Return no rows, as for a relation that is no partition."""
    return ()


@implements("pg_partition_tree(regclass)")
def _partition_tree(_relation: int) -> tuple[tuple[int, int | None, bool, int], ...]:
    return ()


def _tablespace(name: str) -> int:
    found = _TABLESPACES.get(name)
    if found is None:
        raise UndefinedObject(f'tablespace "{name}" does not exist')
    return found


@implements("pg_tablespace_size(oid)", "pg_tablespace_size(name)", context=True)
def _tablespace_size(context: ExecutionContext, tablespace: int | str) -> int | None:
    oid = _tablespace(tablespace) if isinstance(tablespace, str) else tablespace
    if oid not in _TABLESPACES.values():
        return None
    if oid != _DEFAULT_TABLESPACE:
        return 0
    session = context.session
    return sum(session.relation_size(t.id) for t in context.catalog.snapshot.all(Table))


@implements("pg_tablespace_databases(oid)", context=True)
def _tablespace_databases(context: ExecutionContext, oid: int) -> list[int]:
    if oid != _DEFAULT_TABLESPACE:
        return []
    return [database.id for database in context.catalog.snapshot.all(Database)]


@implements("pg_describe_object(oid,oid,int4)", context=True)
def _describe(context: ExecutionContext, class_id: int, oid: int, column: int) -> str | None:
    catalog = context.catalog
    found = catalog.snapshot.get(oid)
    if class_id == 1259:
        relation = catalog.relation_by_id(oid)
        if relation is not None:
            schema = catalog.schema_name(relation.schema_id)
            shown = (
                relation.name
                if relation.schema_id in catalog.search_path_ids()
                else f"{schema}.{relation.name}"
            )
            kind = type(relation).__name__.lower().replace("virtual", "")
            if not column:
                return f"{kind} {shown}"
            if isinstance(relation, Table):
                names = [c.name for c in relation.columns if c.number == column]
                return f"column {names[0]} of {kind} {shown}" if names else None
            return None
        place = find_index(catalog.snapshot, oid)
        if place is not None:
            return f"index {place[0].primary_name if place[1] is None else place[1].name}"
        return None
    if class_id == 2615 and isinstance(found, Schema):
        return f"schema {found.name}"
    if class_id == 1262 and isinstance(found, Database):
        return f"database {found.name}"
    role = catalog.snapshot.role_by_id(oid) if class_id == 1260 else None
    return None if role is None else f"role {role.name}"


_AM_PROPERTIES: Final = {
    "can_order": True,
    "can_unique": True,
    "can_multi_col": True,
    "can_exclude": False,
    "can_include": True,
}
_INDEX_PROPERTIES: Final = {
    "clusterable": False,
    "index_scan": True,
    "bitmap_scan": False,
    "backward_scan": True,
}


@implements("pg_indexam_has_property(oid,text)")
def _method_property(method: int, name: str) -> bool | None:
    return _AM_PROPERTIES.get(name) if method == 403 else None


@implements("pg_index_has_property(regclass,text)", context=True)
def _index_property(context: ExecutionContext, index: int, name: str) -> bool | None:
    found = find_index(context.catalog.snapshot, index)
    return None if found is None else _INDEX_PROPERTIES.get(name)


@implements("pg_index_column_has_property(regclass,int4,text)", context=True)
def _index_column_property(
    context: ExecutionContext, index: int, column: int, name: str
) -> bool | None:
    found = find_index(context.catalog.snapshot, index)
    if found is None:
        return None
    table, definition = found
    keys = len(table.clustering_key) if definition is None else len(definition.keys)
    included = len(table.primary_include if definition is None else definition.include)
    if not 1 <= column <= keys + included:
        return None
    is_key = column <= keys
    key = definition.keys[column - 1] if definition is not None and is_key else None
    descending = key is not None and key.descending
    nulls_first = key is not None and key.nulls_first
    if not is_key:
        return {"returnable": True}.get(name, False if name in _COLUMN_PROPERTIES else None)
    return {
        "asc": not descending,
        "desc": descending,
        "nulls_first": nulls_first,
        "nulls_last": not nulls_first,
        "orderable": True,
        "distance_orderable": False,
        "returnable": True,
        "search_array": True,
        "search_nulls": True,
    }.get(name)


_COLUMN_PROPERTIES: Final = frozenset(
    (
        "asc",
        "desc",
        "nulls_first",
        "nulls_last",
        "orderable",
        "distance_orderable",
        "search_array",
        "search_nulls",
    )
)


@implements("pg_listening_channels()", context=True)
def _listening_channels(context: ExecutionContext) -> list[str]:
    return [row[0] for row in context.session.system_rows("pg_listening_channels")]


@implements("pg_postmaster_start_time()", "pg_conf_load_time()", context=True)
def _start_time(context: ExecutionContext) -> int:
    """Return when the node started; it reads its configuration only then."""
    [(started,)] = context.session.system_rows("start time")
    result: int = started
    return result


@implements("pg_relation_filepath(regclass)", context=True)
def _file_path(context: ExecutionContext, oid: int) -> str | None:
    """Return where PostgreSQL would keep it; nodedb keeps all relations in one store."""
    return f"base/{context.catalog.database_id}/{oid}"


@implements("pg_collation_actual_version(oid)", "pg_database_collation_actual_version(oid)")
@implements("pg_column_compression(any)", "pg_get_function_arg_default(oid,int4)")
@implements("pg_get_replica_identity_index(regclass)", "pg_partition_root(regclass)")
@implements("pg_get_statisticsobjdef_expressions(oid)", "pg_last_wal_receive_lsn()")
@implements("pg_last_wal_replay_lsn()", "pg_last_xact_replay_timestamp()")
@implements("pg_xact_commit_timestamp(xid)")
def _nothing(*_arguments: object) -> None:
    """Return NULL: nodedb has no such thing."""
    return


register("pg_available_extensions()", lambda: [("plpgsql", "1.0", "PL/pgSQL procedural language")])
register("pg_safe_snapshot_blocking_pids(int4)", lambda _pid: ArrayValue((), (), ()))
