"""System information, settings, sequences, locks and other session services.

Source: PostgreSQL docs, "System Information Functions and Operators", "System Administration
Functions",
"Sequence Manipulation Functions".
"""

import re
from collections.abc import Callable, Coroutine
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from sql.ast.deparse_names import quote_identifier
from sql.ast.keywords import BARE_LABELS, COL_NAME, KEYWORDS, RESERVED, TYPE_FUNC_NAME
from sql.catalog.descriptor import Database, Schema, Sequence, Table, View
from sql.errors import (
    AmbiguousFunction,
    DatatypeMismatch,
    InternalError,
    InvalidCatalogName,
    InvalidParameterValue,
    InvalidSchemaName,
    NullValueNotAllowed,
    NumericValueOutOfRange,
    SqlError,
    UndefinedColumn,
    UndefinedFunction,
    UndefinedObject,
    UndefinedTable,
    WrongObjectType,
)
from sql.functions.collated import collatable
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements, register
from sql.functions.reg import RegResolver, find_index, split_name
from sql.functions.tables import OPERATOR_ROWS, SIGNATURE_BY_OID
from sql.functions.updatable import writable_columns
from sql.types.array import ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.calendar import USECS_PER_SECOND
from sql.types.catalog import (
    REGCLASS,
    REGNAMESPACE,
    REGOPER,
    REGOPERATOR,
    REGPROC,
    REGPROCEDURE,
    REGROLE,
    REGTYPE,
    type_by_oid,
)
from sql.types.io import binary_output
from sql.types.numeric import numeric_out
from sql.types.timezone import find_zone, zone_names
from sql.types.typmod import format_type

VERSION: Final = "PostgreSQL 15.0 (nodedb 0.1.0)"
Types = tuple[SqlType, ...]
_ENCODINGS: Final = {6: "UTF8", 0: "SQL_ASCII", 8: "LATIN1"}


register("version()", lambda: VERSION)


@implements("current_database()", context=True)
def _current_database(context: ExecutionContext) -> str:
    return context.catalog.database_name


@implements("current_schema()", context=True)
def _current_schema(context: ExecutionContext) -> str | None:
    catalog = context.catalog
    for schema_id in catalog.search_path_ids():
        if isinstance(catalog.snapshot.get(schema_id), Schema):
            return catalog.schema_name(schema_id)
    return None


@implements("current_schemas(bool)", context=True)
def _current_schemas(context: ExecutionContext, implicit: bool) -> ArrayValue:  # noqa: FBT001
    catalog = context.catalog
    return ArrayValue(
        tuple(
            catalog.schema_name(schema_id)
            for schema_id in catalog.search_path_ids()
            if implicit or isinstance(catalog.snapshot.get(schema_id), Schema)
        )
    )


@implements("current_user()", "getpgusername()", context=True)
def _current_user(context: ExecutionContext) -> str:
    return context.session.user_name


@implements("session_user()", context=True)
def _session_user(context: ExecutionContext) -> str:
    return context.session.session_user_name


@implements("current_setting(text)", "current_setting(text,bool)", context=True)
def _current_setting(context: ExecutionContext, name: str, missing_ok: bool = False) -> str | None:  # noqa: FBT001, FBT002
    value = context.session.get_setting(name)
    if value is None and not missing_ok:
        raise UndefinedObject(f'unrecognized configuration parameter "{name}"')
    return value


@implements("set_config(text,text,bool)", context=True)
def _set_config(
    context: ExecutionContext,
    name: str | None,
    value: str | None,
    is_local: bool | None,  # noqa: FBT001
) -> str:
    if name is None:
        raise InvalidParameterValue("SET requires parameter name")
    return context.session.set_setting(name, value or "", local=bool(is_local))


@implements("pg_backend_pid()", context=True)
def _backend_pid(context: ExecutionContext) -> int:
    return context.session.process_id


@implements("inet_client_port()", context=True)
def _client_port(context: ExecutionContext) -> int | None:
    return context.session.client_port if context.session.client_address else None


@implements("inet_server_port()", context=True)
def _server_port(context: ExecutionContext) -> int | None:
    port = context.session.get_setting("port")
    return int(port) if port is not None and context.session.client_address else None


@implements("pg_typeof(any)", types=True)
def _typeof(_value: Datum, *, types: Types) -> int:
    return types[0].oid


@implements("format_type(oid,int4)")
def _format_type(oid: int | None, typmod: int | None) -> str | None:
    if oid is None:
        return None
    sql_type = type_by_oid(oid)
    if sql_type is None:
        return "-" if oid == 0 else "???"
    return format_type(sql_type, typmod)


@implements("pg_column_size(any)", context=True, types=True)
def _column_size(context: ExecutionContext, value: Datum, *, types: Types) -> int | None:
    if value is None:
        return None
    if types[0].length > 0:
        return types[0].length
    try:
        size = len(binary_output(types[0], context.format)(value))
    except SqlError:
        size = len(str(value).encode())
    return size + 4


@implements("pg_collation_for(any)", types=True)
def _collation_for(_value: Datum, *, types: Types) -> str | None:
    """Refuse what has no collation; the binder answers the rest itself."""
    if not collatable(types[0]):
        raise DatatypeMismatch(f"collations are not supported by type {types[0].display_name}")
    return None


@implements("pg_get_userbyid(oid)", context=True)
def _user_by_id(context: ExecutionContext, oid: int) -> str:
    role = context.catalog.snapshot.role_by_id(oid)
    return f"unknown (OID={oid})" if role is None else role.name


@implements("pg_table_is_visible(oid)", context=True)
def _table_is_visible(context: ExecutionContext, oid: int) -> bool | None:
    return RegResolver(context.catalog).is_visible(oid)


@implements("pg_type_is_visible(oid)")
def _type_is_visible(oid: int) -> bool | None:
    return True if type_by_oid(oid) is not None else None


_OPERATOR_OIDS: Final = frozenset(row.oid for row in OPERATOR_ROWS)


@implements("pg_function_is_visible(oid)")
def _function_is_visible(oid: int) -> bool | None:
    return True if oid in SIGNATURE_BY_OID else None


@implements("pg_operator_is_visible(oid)")
def _operator_is_visible(oid: int) -> bool | None:
    return True if oid in _OPERATOR_OIDS else None


for _kind in (
    "collation",
    "conversion",
    "opclass",
    "opfamily",
    "statistics_obj",
    "ts_config",
    "ts_dict",
    "ts_parser",
    "ts_template",
):
    register(f"pg_{_kind}_is_visible(oid)", lambda _oid: True)


register("pg_encoding_to_char(int4)", lambda code: _ENCODINGS.get(code, ""))
register("pg_encoding_max_length(int4)", lambda code: 4 if code == 6 else 1)


@implements("pg_char_to_encoding(name)")
def _char_to_encoding(name: str) -> int:
    wanted = re.sub(r"[^a-z0-9]", "", name.lower())
    return {"utf8": 6, "unicode": 6, "sqlascii": 0, "latin1": 8, "iso88591": 8}.get(wanted, -1)


_SIZE_UNITS: Final = (
    ("bytes", 10 * 1024, 1),
    ("kB", 20 * 1024 - 1, 1 << 10),
    ("MB", 20 * 1024 - 1, 1 << 20),
    ("GB", 20 * 1024 - 1, 1 << 30),
    ("TB", 20 * 1024 - 1, 1 << 40),
    ("PB", 20 * 1024 - 1, 1 << 50),
)


@implements("pg_size_pretty(int8)")
def _size_pretty(size: int) -> str:
    if abs(size) < 10 * 1024:
        return f"{size} bytes"
    halves = _halve(size, 9)
    for name, _limit, _unit in _SIZE_UNITS[1:]:
        if name == "PB" or abs(halves) < 20 * 1024 - 1:
            rounded = halves + 1 if halves >= 0 else halves - 1
            return f"{_toward_zero(rounded, 2)} {name}"
        halves = _halve(halves, 10)
    raise AssertionError(size)


def _halve(size: int, bits: int) -> int:
    return _toward_zero(size, 1 << bits)


def _toward_zero(value: int, divisor: int) -> int:
    return abs(value) // divisor * (-1 if value < 0 else 1)


@implements("pg_size_pretty(numeric)")
def _size_pretty_numeric(size: Decimal) -> str:
    if not size.is_finite():
        return f"{numeric_out(size)} PB"
    if abs(size) < 10 * 1024:
        return f"{size:f} bytes"
    return _size_pretty(int(size.to_integral_value(rounding=ROUND_HALF_UP)))


_SIZE: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?)?\s*")


@implements("pg_size_bytes(text)")
def _size_bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidParameterValue(f'invalid size: "{text}"')
    factor = 1
    if match[2]:
        units = {name.lower(): unit for name, _, unit in _SIZE_UNITS}
        found = units.get(match[2].lower(), 1 if match[2].lower() == "b" else None)
        if found is None:
            raise InvalidParameterValue(
                f'invalid size: "{text}"',
                detail=f'Invalid size unit: "{match[2]}".',
                hint='Valid units are "bytes", "B", "kB", "MB", "GB", "TB", and "PB".',
            )
        factor = found
    return int((Decimal(match[1]) * factor).to_integral_value(rounding=ROUND_HALF_UP))


@implements(
    "pg_relation_size(regclass)",
    "pg_table_size(regclass)",
    "pg_total_relation_size(regclass)",
    context=True,
)
def _relation_size(context: ExecutionContext, oid: int) -> int | None:
    if context.catalog.relation_by_id(oid) is None and not find_index(
        context.catalog.snapshot, oid
    ):
        return None
    return context.session.relation_size(oid)


@implements("pg_relation_size(regclass,text)", context=True)
def _fork_size(context: ExecutionContext, oid: int, fork: str) -> int | None:
    if fork not in ("main", "fsm", "vm", "init"):
        raise InvalidParameterValue(
            "invalid fork name", hint='Valid fork names are "main", "fsm", "vm", and "init".'
        )
    return _relation_size(context, oid) if fork == "main" else 0


@implements("pg_indexes_size(regclass)", context=True)
def _indexes_size(context: ExecutionContext, oid: int) -> int | None:
    table = context.catalog.snapshot.table(oid)
    if table is None:
        return None
    return sum(context.session.relation_size(index.id) for index in table.indexes)


@implements("pg_database_size(name)", "pg_database_size(oid)", context=True)
def _database_size(context: ExecutionContext, database: str | int) -> int | None:
    snapshot = context.catalog.snapshot
    found = snapshot.database(database) if isinstance(database, str) else snapshot.get(database)
    if not isinstance(found, Database):
        if isinstance(database, int):
            return None
        raise InvalidCatalogName(f'database "{database}" does not exist')
    schemas = {schema.id for schema in snapshot.all(Schema) if schema.database_id == found.id}
    tables = [table for table in snapshot.all(Table) if table.schema_id in schemas]
    return sum(context.session.relation_size(table.id) for table in tables)


register("pg_relation_filenode(regclass)", lambda oid: oid)
register("pg_is_in_recovery()", lambda: False)
register("pg_is_wal_replay_paused()", lambda: False)
register("pg_jit_available()", lambda: False)
register("pg_my_temp_schema()", lambda: 0)
register("pg_is_other_temp_schema(oid)", lambda _oid: False)
register("pg_trigger_depth()", lambda: 0)
register("pg_tablespace_location(oid)", lambda _oid: "")
register("pg_get_partkeydef(oid)", lambda _oid: None)
register("pg_get_partition_constraintdef(oid)", lambda _oid: None)
register("row_security_active(oid)", lambda _oid: False)
register("row_security_active(text)", lambda _name: False)
register("pg_relation_is_publishable(regclass)", lambda _oid: True)
register("pg_stat_clear_snapshot()", lambda: "")
register("pg_stat_reset()", lambda: "")
register("pg_reload_conf()", lambda: True)


@implements("pg_relation_is_updatable(regclass,bool)", context=True)
def _is_updatable(context: ExecutionContext, oid: int, _triggers: bool) -> int:  # noqa: FBT001
    """Return the bits of INSERT, UPDATE and DELETE events."""
    columns = _writable_columns(context, oid)
    return 0 if columns is None else 28 if columns else 16


def _writable_columns(context: ExecutionContext, oid: int) -> frozenset[str] | None:
    from sql.functions.builtin import REGISTRY  # noqa: PLC0415 - it is made of this module

    catalog = context.catalog
    return writable_columns(catalog.relation_by_id, REGISTRY, catalog.relation_by_id(oid))


@implements("pg_column_is_updatable(regclass,int2,bool)", context=True)
def _column_is_updatable(
    context: ExecutionContext,
    oid: int,
    number: int,
    _triggers: bool,  # noqa: FBT001
) -> bool:
    relation = context.catalog.relation_by_id(oid)
    columns = _writable_columns(context, oid)
    if columns is None or not isinstance(relation, Table | View) or number < 1:
        return False
    if isinstance(relation, Table):
        return any(c.number == number for c in relation.visible_columns)
    return number <= len(relation.columns) and relation.columns[number - 1].name in columns


_NOT_FOUND: Final = (
    AmbiguousFunction,
    InvalidSchemaName,
    UndefinedFunction,
    UndefinedObject,
    UndefinedTable,
)


def _nullable(sql_type: SqlType) -> Callable[[ExecutionContext, str], int | None]:
    def resolve(context: ExecutionContext, name: str) -> int | None:
        try:
            return RegResolver(context.catalog).input(sql_type, name)
        except _NOT_FOUND as error:
            if sql_type in (REGPROCEDURE, REGOPERATOR) and isinstance(error, UndefinedObject):
                raise  # The type of an argument.
            return None

    return resolve


for _type in (
    REGCLASS,
    REGTYPE,
    REGROLE,
    REGNAMESPACE,
    REGPROC,
    REGPROCEDURE,
    REGOPER,
    REGOPERATOR,
):
    register(f"to_{_type.name}(text)", _nullable(_type), context=True)


@implements("regclass(text)", context=True)
def _text_to_regclass(context: ExecutionContext, name: str) -> int:
    return RegResolver(context.catalog).input(REGCLASS, name)


def _sequence(context: ExecutionContext, oid: int) -> Sequence:
    relation = context.catalog.relation_by_id(oid)
    if isinstance(relation, Sequence):
        return relation
    if relation is None:
        raise InternalError(f"could not open relation with OID {oid}")
    raise WrongObjectType(f'"{relation.name}" is not a sequence')


@implements("nextval(regclass)", context=True)
async def _nextval(context: ExecutionContext, oid: int) -> int:
    sequence = _sequence(context, oid)
    context.catalog.check_privilege(sequence, "Uw")
    return await context.session.nextval(sequence)


@implements("currval(regclass)", context=True)
def _currval(context: ExecutionContext, oid: int) -> int:
    sequence = _sequence(context, oid)
    context.catalog.check_privilege(sequence, "Ur")
    return context.session.currval(sequence)


@implements("lastval()", context=True)
def _lastval(context: ExecutionContext) -> int:
    return context.session.lastval()


@implements("setval(regclass,int8)", "setval(regclass,int8,bool)", context=True)
async def _setval(
    context: ExecutionContext,
    oid: int,
    value: int,
    is_called: bool = True,  # noqa: FBT001, FBT002
) -> int:
    sequence = _sequence(context, oid)
    context.catalog.check_privilege(sequence, "w")
    return await context.session.setval(sequence, value, is_called=is_called)


@implements("pg_sequence_last_value(regclass)", context=True)
async def _sequence_last_value(context: ExecutionContext, oid: int) -> int | None:
    last_value, is_called = await context.session.sequence_state(_sequence(context, oid))
    return last_value if is_called else None


@implements("pg_sequence_parameters(oid)", context=True)
def _sequence_parameters(context: ExecutionContext, oid: int) -> tuple[Datum, ...]:
    s = context.catalog.relation_by_id(oid)
    if not isinstance(s, Sequence):
        raise UndefinedTable(f"relation with OID {oid} does not exist")
    return s.start, s.min_value, s.max_value, s.increment, s.cycle, s.cache, s.type_oid


@implements("pg_get_serial_sequence(text,text)", context=True)
def _serial_sequence(context: ExecutionContext, table_name: str, column_name: str) -> str | None:
    catalog = context.catalog
    table = catalog.relation_by_id(RegResolver(catalog).relation_id(table_name))
    if not isinstance(table, Table):
        return None
    column = table.column_by_name.get(column_name)
    if column is None:
        raise UndefinedColumn(
            f'column "{column_name}" of relation "{split_name(table_name)[-1]}" does not exist'
        )
    sequence = catalog.snapshot.get(column.sequence_id) if column.sequence_id else None
    if not isinstance(sequence, Sequence):
        return None
    schema = catalog.schema_name(sequence.schema_id)
    return f"{quote_identifier(schema)}.{quote_identifier(sequence.name)}"


@implements("pg_sleep(float8)", context=True)
async def _sleep(context: ExecutionContext, seconds: float) -> str:
    await context.session.sleep(max(seconds, 0.0))
    return ""


@implements("pg_sleep_for(interval)", context=True)
async def _sleep_for(context: ExecutionContext, span: tuple[int, int, int]) -> str:
    seconds = (span[0] * 30 + span[1]) * 86_400 + span[2] / USECS_PER_SECOND
    return await _sleep(context, seconds)


@implements("pg_sleep_until(timestamptz)", context=True)
async def _sleep_until(context: ExecutionContext, instant: int) -> str:
    return await _sleep(context, (instant - context.clock()) / USECS_PER_SECOND)


AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]


def _advisory_lock(*, shared: bool, transaction: bool, wait: bool) -> AsyncFunction:
    async def lock(context: ExecutionContext, *key: int) -> Any:
        taken = await context.session.advisory_lock(
            key, shared=shared, transaction=transaction, wait=wait
        )
        return "" if wait else taken

    return lock


def _advisory_unlock(*, shared: bool) -> Callable[..., bool]:
    return lambda context, *key: context.session.advisory_unlock(key, shared=shared)


def _register_advisory_locks() -> None:
    for arguments in ("(int8)", "(int4,int4)"):
        for suffix, shared in (("", False), ("_shared", True)):
            register(
                f"pg_advisory_unlock{suffix}{arguments}",
                _advisory_unlock(shared=shared),
                context=True,
            )
            for scope, transaction in (("", False), ("_xact", True)):
                for prefix, wait in (("pg_advisory", True), ("pg_try_advisory", False)):
                    register(
                        f"{prefix}{scope}_lock{suffix}{arguments}",
                        _advisory_lock(shared=shared, transaction=transaction, wait=wait),
                        context=True,
                    )


@implements("pg_advisory_unlock_all()", context=True)
def _advisory_unlock_all(context: ExecutionContext) -> str:
    context.session.advisory_unlock_all()
    return ""


@implements("pg_cancel_backend(int4)", context=True)
def _cancel_backend(context: ExecutionContext, process_id: int) -> bool:
    return context.session.cancel_backend(process_id)


@implements("pg_terminate_backend(int4,int8)", context=True)
async def _terminate_backend(
    context: ExecutionContext, process_id: int, timeout_ms: int = 0
) -> bool:
    if timeout_ms < 0:
        raise NumericValueOutOfRange('"timeout" must not be negative')
    return await context.session.terminate_backend(process_id, timeout_ms)


@implements("pg_blocking_pids(int4)", context=True)
def _blocking_pids(context: ExecutionContext, process_id: int) -> ArrayValue:
    return ArrayValue(tuple(context.session.blocking_process_ids(process_id)))


@implements("pg_isolation_test_session_is_blocked(int4,_int4)", context=True)
def _is_blocked(context: ExecutionContext, process_id: int, by: ArrayValue) -> bool:
    return not set(by.elements).isdisjoint(context.session.blocking_process_ids(process_id))


# Live session views, by the functions below them.


@implements("pg_stat_get_backend_idset()", context=True)
def _backend_ids(context: ExecutionContext) -> list[Datum]:
    return [row[2] for row in context.session.system_rows("pg_stat_activity")]


def _backend_fact(fact: str) -> Callable[[ExecutionContext, int], Datum]:
    return lambda context, backend_id: context.session.backend_fact(backend_id, fact)


for _fact in (
    "pid",
    "dbid",
    "userid",
    "activity",
    "activity_start",
    "client_port",
    "start",
    "wait_event",
    "wait_event_type",
    "xact_start",
):
    register(f"pg_stat_get_backend_{_fact}(int4)", _backend_fact(_fact), context=True)


@implements("pg_lock_status()", context=True)
def _lock_status(context: ExecutionContext) -> list[tuple[Datum, ...]]:
    return context.session.system_rows("pg_locks")


def _database_fact(column: int) -> Callable[[ExecutionContext, int], Datum]:
    def fact(context: ExecutionContext, database_id: int) -> Datum:
        rows = context.session.system_rows("pg_stat_database")
        return next((row[column] for row in rows if row[0] == database_id), 0)

    return fact


for _column, _fact in (
    (2, "numbackends"),
    (3, "xact_commit"),
    (4, "xact_rollback"),
    (12, "conflict_all"),
    (15, "deadlocks"),
    (23, "sessions"),
):
    register(f"pg_stat_get_db_{_fact}(oid)", _database_fact(_column), context=True)


@implements("pg_notify(text,text)", context=True)
def _notify(context: ExecutionContext, channel: str | None, payload: str | None) -> str:
    context.session.notify(channel or "", payload or "")
    return ""


@implements("pg_notification_queue_usage()", context=True)
def _notification_usage(context: ExecutionContext) -> float:
    return context.session.notification_usage()


@implements("txid_current()", "pg_current_xact_id()", context=True)
def _transaction_id(context: ExecutionContext) -> int:
    return context.session.current_transaction_id()


@implements("txid_current_if_assigned()", "pg_current_xact_id_if_assigned()", context=True)
def _assigned_transaction_id(context: ExecutionContext) -> int | None:
    return context.session.assigned_transaction_id()


@implements("num_nulls(any)")
def _num_nulls(*values: Datum) -> int:
    return sum(value is None for value in values)


@implements("num_nonnulls(any)")
def _num_nonnulls(*values: Datum) -> int:
    return sum(value is not None for value in values)


_CATEGORIES: Final = (
    (RESERVED, "R", "reserved"),
    (COL_NAME, "C", "unreserved (cannot be function or type name)"),
    (TYPE_FUNC_NAME, "T", "reserved (can be function or type name)"),
)


@implements("pg_get_keywords()")
def _keywords() -> list[tuple[Datum, ...]]:
    rows: list[tuple[Datum, ...]] = []
    for word in sorted(KEYWORDS):
        code, text = next(
            ((code, text) for words, code, text in _CATEGORIES if word in words),
            ("U", "unreserved"),
        )
        bare = word in BARE_LABELS
        rows.append((word, code, bare, text, "can be bare label" if bare else "requires AS"))
    return rows


@implements("pg_timezone_names()", context=True)
def _timezone_names(context: ExecutionContext) -> list[tuple[Datum, ...]]:
    now = context.transaction_timestamp
    rows: list[tuple[Datum, ...]] = []
    for name in zone_names():
        zone = find_zone(name)
        assert zone is not None
        offset = (0, 0, zone.offset_at_utc(now) * USECS_PER_SECOND)
        rows.append(
            (name, zone.abbreviation_at_utc(now), offset, zone.is_daylight_saving_at_utc(now))
        )
    return rows


@implements("pg_options_to_table(_text)")
def _options_to_table(options: ArrayValue) -> list[tuple[str, str | None]]:
    rows: list[tuple[str, str | None]] = []
    for option in options.elements:
        if option is None:
            raise NullValueNotAllowed("null array element not allowed in this context")
        name, equals, value = option.partition("=")
        rows.append((name, value if equals else None))
    return rows


def _arguments(oid: int) -> str | None:
    signature = SIGNATURE_BY_OID.get(oid)
    if signature is None:
        return None
    names = signature.argument_names or ("",) * len(signature.arguments)
    shown = [
        f"{quote_identifier(name)} {format_type(t)}" if name else format_type(t)
        for name, t in zip(names, signature.arguments, strict=False)
    ]
    if signature.variadic and shown:
        shown[-1] = f"VARIADIC {shown[-1]}"
    return ", ".join(shown)


register("pg_get_function_arguments(oid)", _arguments)
register("pg_get_function_identity_arguments(oid)", _arguments)


@implements("pg_get_function_result(oid)")
def _function_result(oid: int) -> str | None:
    signature = SIGNATURE_BY_OID.get(oid)
    if signature is None:
        return None
    return ("SETOF " if signature.returns_set else "") + format_type(signature.result)


register(
    "oidvectortypes(oidvector)",
    lambda oids: ", ".join(_format_type(o, None) or "" for o in oids.elements),
)
_register_advisory_locks()
