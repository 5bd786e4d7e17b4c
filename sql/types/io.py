"""Value input and output: one closure per type and direction, found by dictionary.

``text_input``, ``text_output``, ``binary_input``, ``binary_output`` and ``wire_text_output`` are
cheap to call and their results may be kept as long as the context's settings stay the same.
NULLs never reach the closures. Settings are read when a closure is made; ``now`` when it runs.

Source: PostgreSQL docs, "Data Types", "Client Connection Defaults" (DateStyle, IntervalStyle, ...).
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Protocol

from sql.errors import FeatureNotSupported, SqlError, UndefinedFunction, UndefinedObject
from sql.types import binary as _binary
from sql.types import scalar_text as _scalar
from sql.types.array import array_in, array_out
from sql.types.base import Datum, SqlType
from sql.types.catalog import (
    ACLITEM,
    BOOL,
    BPCHAR,
    BYTEA,
    CHAR,
    CID,
    CSTRING,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT2VECTOR,
    INT4,
    INT8,
    INTERVAL,
    JSON,
    JSONB,
    NAME,
    NUMERIC,
    OID,
    OIDVECTOR,
    PG_LSN,
    PG_NODE_TREE,
    RECORD,
    REGCLASS,
    REGNAMESPACE,
    REGOPER,
    REGOPERATOR,
    REGPROC,
    REGPROCEDURE,
    REGROLE,
    REGTYPE,
    TEXT,
    TID,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    UNKNOWN,
    UUID,
    VARCHAR,
    VOID,
    XID,
    XID8,
)
from sql.types.datetime_input import (
    DateSettings,
    read_date,
    read_time,
    read_timestamp,
    read_timestamptz,
    read_timetz,
)
from sql.types.datetime_output import (
    clock_text,
    date_text,
    timestamp_text,
    timestamptz_text,
    timetz_text,
)
from sql.types.interval import FULL_RANGE, interval_text, read_interval
from sql.types.json import jsonb_in, validate_json
from sql.types.numeric import numeric_in, numeric_out
from sql.types.record import RecordValue, record_out
from sql.types.timezone import session_zone
from sql.types.typmod import apply_typmod

TextInput = Callable[[str, int], Datum]
TextOutput = Callable[[Datum], str]
BinaryInput = Callable[[bytes], Datum]
BinaryOutput = Callable[[Datum], bytes]


class RegResolver(Protocol):
    """Names behind the reg types; the catalog's part."""

    def output(self, sql_type: SqlType, oid: int, /) -> str | None:
        """Return the name to show for an OID, or None to show the number."""

    def input(self, sql_type: SqlType, text: str, /) -> int:
        """Return the OID of a name. Raises the type's "does not exist" error."""


class FormatContext:
    """The session settings that values' texts depend on.

    ``now`` is the transaction's time in microseconds since 2000-01-01 UTC, or None.
    Setting any other attribute drops the closures kept here.
    """

    __slots__ = (
        "_cache",
        "bytea_output",
        "date_style",
        "extra_float_digits",
        "interval_style",
        "now",
        "reg_resolver",
        "time_zone",
    )

    _cache: dict[tuple[str, int], Any]
    bytea_output: str
    date_style: str
    extra_float_digits: int
    interval_style: str
    now: int | None
    reg_resolver: RegResolver | None
    time_zone: str

    def __init__(
        self,
        date_style: str = "ISO, MDY",
        interval_style: str = "postgres",
        time_zone: str = "UTC",
        extra_float_digits: int = 1,
        bytea_output: str = "hex",
        now: int | None = None,
        reg_resolver: RegResolver | None = None,
    ) -> None:
        self.date_style = date_style
        self.interval_style = interval_style
        self.time_zone = time_zone
        self.extra_float_digits = extra_float_digits
        self.bytea_output = bytea_output
        self.now = now
        self.reg_resolver = reg_resolver

    def __setattr__(self, name: str, value: object) -> None:
        """Change a setting; every closure made before is forgotten."""
        object.__setattr__(self, name, value)
        if name != "now":
            object.__setattr__(self, "_cache", {})

    @property
    def date_form(self) -> str:
        """Return ISO, SQL, POSTGRES or GERMAN."""
        return self.date_style.partition(",")[0].strip().upper()

    @property
    def date_order(self) -> str:
        """Return MDY, DMY or YMD."""
        return self.date_style.partition(",")[2].strip().upper() or "MDY"


DEFAULT_CONTEXT: Final = FormatContext()


def text_input(sql_type: SqlType, context: FormatContext = DEFAULT_CONTEXT) -> TextInput:
    """Return the reader of a type's text: ``(text, typmod) -> datum``."""
    found = _PLAIN_INPUT.get(sql_type)
    if found is not None:
        return found
    made: TextInput = _cached("text_input", sql_type, context, _make_text_input)
    return made


def text_output(sql_type: SqlType, context: FormatContext = DEFAULT_CONTEXT) -> TextOutput:
    """Return the writer of a type's text."""
    found = _PLAIN_OUTPUT.get(sql_type)
    if found is not None:
        return found
    made: TextOutput = _cached("text_output", sql_type, context, _make_text_output)
    return made


def wire_text_output(sql_type: SqlType, context: FormatContext = DEFAULT_CONTEXT) -> BinaryOutput:
    """Return the writer of a type's text as UTF-8 bytes."""
    found = _PLAIN_WIRE.get(sql_type)
    if found is not None:
        return found
    made: BinaryOutput = _cached("wire", sql_type, context, _make_wire)
    return made


def binary_input(sql_type: SqlType, context: FormatContext = DEFAULT_CONTEXT) -> BinaryInput:
    """Return the reader of a type's binary form. Raises 42883 for a type without one."""
    found = _BINARY_INPUT.get(sql_type)
    if found is not None:
        return found
    made: BinaryInput = _cached("binary_input", sql_type, context, _make_binary_input)
    return made


def binary_output(sql_type: SqlType, context: FormatContext = DEFAULT_CONTEXT) -> BinaryOutput:
    """Return the writer of a type's binary form. Raises 42883 for a type without one."""
    found = _BINARY_OUTPUT.get(sql_type)
    if found is not None:
        return found
    made: BinaryOutput = _cached("binary_output", sql_type, context, _make_binary_output)
    return made


def _cached(
    direction: str,
    sql_type: SqlType,
    context: FormatContext,
    make: Callable[[SqlType, FormatContext], Any],
) -> Any:
    cache = context._cache  # noqa: SLF001 - the context is this module's own
    key = (direction, sql_type.oid)
    found = cache.get(key)
    if found is None:
        found = cache[key] = make(sql_type, context)
    return found


def _ignoring_typmod(read: Callable[[str], Datum]) -> TextInput:
    return lambda text, _typmod: read(text)


def _identity_input(text: str, _typmod: int) -> str:
    return text


def _with_typmod(sql_type: SqlType, read: Callable[[str], Datum]) -> TextInput:
    def read_and_fit(text: str, typmod: int) -> Datum:
        value = read(text)
        return value if typmod < 0 else apply_typmod(sql_type, value, typmod, explicit=False)

    return read_and_fit


def _int_input(read: Callable[[str], int]) -> TextInput:
    def read_int(text: str, _typmod: int) -> int:
        return read(text)

    return read_int


def _json_input(text: str, _typmod: int) -> str:
    validate_json(text)
    return text


def _identity(value: Datum) -> Any:
    return value


def _refusing(message: str, kind: type[SqlError] = FeatureNotSupported) -> Callable[..., Any]:
    def refuse(*_: object) -> Any:
        raise kind(message)

    return refuse


_PLAIN_INPUT: Final[dict[SqlType, TextInput]] = {
    TEXT: _identity_input,
    UNKNOWN: _identity_input,
    CSTRING: _identity_input,
    ACLITEM: _identity_input,
    VARCHAR: _with_typmod(VARCHAR, _identity),
    BPCHAR: _with_typmod(BPCHAR, _identity),
    NAME: _ignoring_typmod(_scalar.name_in),
    CHAR: _ignoring_typmod(_scalar.char_in),
    BOOL: _ignoring_typmod(_scalar.bool_in),
    INT2: _int_input(_scalar.int2_in),
    INT4: _int_input(_scalar.int4_in),
    INT8: _int_input(_scalar.int8_in),
    FLOAT4: _ignoring_typmod(_scalar.float4_in),
    FLOAT8: _ignoring_typmod(_scalar.float_in),
    NUMERIC: _with_typmod(NUMERIC, numeric_in),
    BYTEA: _ignoring_typmod(_scalar.bytea_in),
    UUID: _ignoring_typmod(_scalar.uuid_in),
    JSON: _json_input,
    JSONB: _ignoring_typmod(jsonb_in),
    OID: _ignoring_typmod(_scalar.oid_in),
    XID: _ignoring_typmod(_scalar.lenient_reader(32)),
    CID: _ignoring_typmod(_scalar.lenient_reader(32)),
    XID8: _ignoring_typmod(_scalar.lenient_reader(64)),
    TID: _ignoring_typmod(_scalar.tid_in),
    PG_LSN: _ignoring_typmod(_scalar.pg_lsn_in),
    INT2VECTOR: _ignoring_typmod(_scalar.int2vector_in),
    OIDVECTOR: _ignoring_typmod(_scalar.oidvector_in),
    VOID: lambda _text, _typmod: "",
    RECORD: _refusing("input of anonymous composite types is not implemented"),
    PG_NODE_TREE: _refusing("cannot accept a value of type pg_node_tree"),
}

_PLAIN_OUTPUT: Final[dict[SqlType, TextOutput]] = {
    TEXT: _identity,
    UNKNOWN: _identity,
    CSTRING: _identity,
    ACLITEM: _identity,
    VARCHAR: _identity,
    BPCHAR: _identity,
    NAME: _identity,
    CHAR: _identity,
    PG_NODE_TREE: _identity,
    JSON: _identity,
    JSONB: _identity,
    VOID: lambda _value: "",
    BOOL: _scalar.bool_out,
    INT2: str,
    INT4: str,
    INT8: str,
    OID: str,
    XID: str,
    CID: str,
    XID8: str,
    NUMERIC: numeric_out,
    UUID: _scalar.uuid_out,
    TID: _scalar.tid_out,
    PG_LSN: _scalar.pg_lsn_out,
    TIME: clock_text,
    TIMETZ: timetz_text,
    INT2VECTOR: _scalar.vector_out,
    OIDVECTOR: _scalar.vector_out,
}

_encode: Final = str.encode
_PLAIN_WIRE: Final[dict[SqlType, BinaryOutput]] = {
    **{sql_type: _encode for sql_type, write in _PLAIN_OUTPUT.items() if write is _identity},
    **{
        sql_type: lambda value: b"%d" % value
        for sql_type in (INT2, INT4, INT8, OID, XID, CID, XID8)
    },
    BOOL: lambda value: b"t" if value else b"f",
    VOID: lambda _value: b"",
}

_text_recv: Final = _scalar.decode_utf8
_oid_recv: Final = _binary.fixed_reader("I")
_oid_send: Final = _binary.fixed_writer("I")
_BINARY_INPUT: Final[dict[SqlType, BinaryInput]] = {
    BOOL: _binary.bool_recv,
    INT2: _binary.fixed_reader("h"),
    INT4: _binary.fixed_reader("i"),
    INT8: _binary.fixed_reader("q"),
    FLOAT4: _binary.float4_recv,
    FLOAT8: _binary.fixed_reader("d"),
    NUMERIC: _binary.numeric_recv,
    TEXT: _text_recv,
    VARCHAR: _text_recv,
    BPCHAR: _text_recv,
    UNKNOWN: _text_recv,
    CSTRING: _text_recv,
    NAME: _binary.name_recv,
    CHAR: _binary.char_recv,
    BYTEA: bytes,
    UUID: _binary.uuid_recv,
    JSON: _binary.json_recv,
    JSONB: _binary.jsonb_recv,
    DATE: _binary.date_recv,
    TIME: _binary.time_recv,
    TIMETZ: _binary.timetz_recv,
    TIMESTAMP: _binary.timestamp_recv,
    TIMESTAMPTZ: _binary.timestamp_recv,
    INTERVAL: _binary.interval_recv,
    TID: _binary.tid_recv,
    PG_LSN: _binary.fixed_reader("Q"),
    XID8: _binary.fixed_reader("Q"),
    VOID: lambda _data: "",
    RECORD: _refusing("input of anonymous composite types is not implemented"),
    PG_NODE_TREE: _refusing("cannot accept a value of type pg_node_tree"),
}
_BINARY_OUTPUT: Final[dict[SqlType, BinaryOutput]] = {
    BOOL: _binary.bool_send,
    INT2: _binary.fixed_writer("h"),
    INT4: _binary.fixed_writer("i"),
    INT8: _binary.fixed_writer("q"),
    FLOAT4: _binary.float4_send,
    FLOAT8: _binary.fixed_writer("d"),
    NUMERIC: _binary.numeric_send,
    TEXT: _encode,
    VARCHAR: _encode,
    BPCHAR: _encode,
    UNKNOWN: _encode,
    CSTRING: _encode,
    NAME: _encode,
    PG_NODE_TREE: _encode,
    JSON: _encode,
    CHAR: _binary.char_send,
    BYTEA: bytes,
    UUID: bytes,
    JSONB: _binary.jsonb_send,
    DATE: _binary.fixed_writer("i"),
    TIME: _binary.fixed_writer("q"),
    TIMETZ: _binary.timetz_send,
    TIMESTAMP: _binary.fixed_writer("q"),
    TIMESTAMPTZ: _binary.fixed_writer("q"),
    INTERVAL: _binary.interval_send,
    TID: _binary.tid_send,
    PG_LSN: _binary.fixed_writer("Q"),
    XID8: _binary.fixed_writer("Q"),
    VOID: lambda _value: b"",
}
for _oid_like in (
    OID,
    XID,
    CID,
    REGPROC,
    REGPROCEDURE,
    REGOPER,
    REGOPERATOR,
    REGCLASS,
    REGTYPE,
    REGROLE,
    REGNAMESPACE,
):
    _BINARY_INPUT[_oid_like] = _oid_recv
    _BINARY_OUTPUT[_oid_like] = _oid_send

_REG_KINDS: Final = {
    REGPROC: "function",
    REGPROCEDURE: "function",
    REGOPER: "operator",
    REGOPERATOR: "operator",
    REGCLASS: "relation",
    REGTYPE: "type",
    REGROLE: "role",
    REGNAMESPACE: "schema",
}


def _make_text_input(sql_type: SqlType, context: FormatContext) -> TextInput:
    if sql_type.element is not None:
        return _make_array_input(sql_type.element, context)
    if sql_type in _REG_KINDS:
        return _make_reg_input(sql_type, context)
    settings = _DynamicSettings(context)
    match sql_type.name:
        case "date":
            return lambda text, _typmod: read_date(text, settings.current())
        case "time":
            return _with_typmod(TIME, lambda text: read_time(text, settings.current()))
        case "timetz":
            return _with_typmod(TIMETZ, lambda text: read_timetz(text, settings.current()))
        case "timestamp":
            return _with_typmod(TIMESTAMP, lambda text: read_timestamp(text, settings.current()))
        case "timestamptz":
            return _with_typmod(
                TIMESTAMPTZ, lambda text: read_timestamptz(text, settings.current())
            )
        case "interval":
            return _make_interval_input(context.interval_style)
        case _:
            return _refusing(f"cannot accept a value of type {sql_type.display_name}")


class _DynamicSettings:
    """One ``DateSettings`` for a context, whose ``now`` follows the context's."""

    __slots__ = ("_context", "_settings")

    def __init__(self, context: FormatContext) -> None:
        self._context = context
        self._settings = DateSettings(context.date_order, session_zone(context.time_zone))

    def current(self) -> DateSettings:
        self._settings.now = self._context.now
        return self._settings


def _make_interval_input(style: str) -> TextInput:
    def read(text: str, typmod: int) -> Datum:
        if typmod < 0:
            return read_interval(text, FULL_RANGE, style)
        value = read_interval(text, typmod >> 16 & FULL_RANGE, style)
        return apply_typmod(INTERVAL, value, typmod, explicit=False)

    return read


def _make_array_input(element: SqlType, context: FormatContext) -> TextInput:
    read_element = text_input(element, context)
    delimiter = element.delimiter

    def read(text: str, typmod: int) -> Datum:
        return array_in(text, lambda item: read_element(item, typmod), delimiter)

    return read


def _make_reg_input(sql_type: SqlType, context: FormatContext) -> TextInput:
    resolver = context.reg_resolver

    def read(text: str, _typmod: int) -> int:
        if text == "-" and sql_type not in (REGROLE, REGNAMESPACE):
            return 0
        if text and text.isascii() and text.isdigit():
            return _scalar.oid_in(text)
        if resolver is not None:
            return resolver.input(sql_type, text)
        raise UndefinedObject(f'{_REG_KINDS[sql_type]} "{text}" does not exist')

    return read


def _make_text_output(sql_type: SqlType, context: FormatContext) -> TextOutput:
    element = sql_type.element
    if element is not None:
        write_element, delimiter = text_output(element, context), element.delimiter
        return lambda value: array_out(value, write_element, delimiter)
    if sql_type in _REG_KINDS:
        return _make_reg_output(sql_type, context)
    style, order = context.date_form, context.date_order
    match sql_type.name:
        case "float4":
            return _scalar.float4_writer(context.extra_float_digits)
        case "float8":
            return _scalar.float8_writer(context.extra_float_digits)
        case "bytea":
            is_hex = context.bytea_output == "hex"
            return _scalar.bytea_hex_out if is_hex else _scalar.bytea_escape_out
        case "date":
            return lambda value: date_text(value, style, order)
        case "timestamp":
            return lambda value: timestamp_text(value, style, order)
        case "timestamptz":
            zone = session_zone(context.time_zone)
            return lambda value: timestamptz_text(value, zone, style, order)
        case "interval":
            interval_style = context.interval_style
            return lambda value: interval_text(value, interval_style)
        case "record":
            return lambda value: record_out(value, _record_writers(value, context))
        case _:
            return _refusing(f"cannot display a value of type {sql_type.display_name}")


_GUESSED_TYPES: Final[dict[type, SqlType]] = {
    bool: BOOL,
    int: INT8,
    float: FLOAT8,
    str: TEXT,
    bytes: BYTEA,
    Decimal: NUMERIC,
    RecordValue: RECORD,
    tuple: RECORD,
}


def record_types(value: tuple[Datum, ...]) -> tuple[SqlType, ...]:
    """Return the field types of a record; a plain tuple's are guessed from its values."""
    if isinstance(value, RecordValue):
        return value.types
    return tuple(_GUESSED_TYPES.get(type(field), TEXT) for field in value)


def _record_writers(value: tuple[Datum, ...], context: FormatContext) -> list[TextOutput]:
    return [text_output(sql_type, context) for sql_type in record_types(value)]


def _make_reg_output(sql_type: SqlType, context: FormatContext) -> TextOutput:
    resolver = context.reg_resolver

    def write(oid: int) -> str:
        if oid == 0:
            return "-"
        name = resolver.output(sql_type, oid) if resolver is not None else None
        return name if name is not None else str(oid)

    return write


def _make_wire(sql_type: SqlType, context: FormatContext) -> BinaryOutput:
    write = text_output(sql_type, context)
    return lambda value: write(value).encode()


def _make_binary_input(sql_type: SqlType, context: FormatContext) -> BinaryInput:
    element = sql_type.element
    if element is None:
        return _refusing(
            f"no binary input function available for type {sql_type.display_name}",
            UndefinedFunction,
        )
    read_element, oid = binary_input(element, context), element.oid
    if sql_type in (INT2VECTOR, OIDVECTOR):
        return lambda data: _scalar.vector_in(_binary.array_recv(data, oid, read_element).elements)
    return lambda data: _binary.array_recv(data, oid, read_element)


def _make_binary_output(sql_type: SqlType, context: FormatContext) -> BinaryOutput:
    element = sql_type.element
    if element is not None:
        write_element, oid = binary_output(element, context), element.oid
        return lambda value: _binary.array_send(value, oid, write_element)
    if sql_type is RECORD:
        return lambda value: _send_record(value, context)
    return _refusing(
        f"no binary output function available for type {sql_type.display_name}",
        UndefinedFunction,
    )


def _send_record(value: tuple[Datum, ...], context: FormatContext) -> bytes:
    fields = [
        (sql_type.oid, None if field is None else binary_output(sql_type, context)(field))
        for field, sql_type in zip(value, record_types(value), strict=True)
    ]
    return _binary.record_send(fields)
