"""SQL values as JSON text, the way ``to_json`` writes each type.

Writers are closures kept per execution: numbers and booleans as they are, json as written,
arrays and records nested,
dates in ISO 8601, everything else as a JSON string of its text form.

Source: PostgreSQL docs, "JSON Creation Functions".
"""

from collections.abc import Callable

from sql.errors import InvalidParameterValue
from sql.functions.context import ExecutionContext
from sql.types.array import ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.catalog import (
    BOOL,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    JSON,
    JSONB,
    NUMERIC,
    RECORD,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
)
from sql.types.datetime_output import date_text, timestamp_text, timestamptz_text
from sql.types.io import text_output
from sql.types.json import quote_json
from sql.types.record import RecordValue
from sql.types.timezone import session_zone

Writer = Callable[[Datum], str]


def json_writer(context: ExecutionContext, sql_type: SqlType) -> Writer:
    """Return the writer of a type's non-null values."""
    key = ("json_writer", sql_type.oid)
    found = context.cache.get(key)
    if found is None:
        found = context.cache[key] = _make_writer(context, sql_type)
    writer: Writer = found
    return writer


def write_json(context: ExecutionContext, value: Datum, sql_type: SqlType) -> str:
    """Return a value's JSON text; NULL is ``null``."""
    return "null" if value is None else json_writer(context, sql_type)(value)


def _write_float(write: Writer) -> Writer:
    return lambda value: write(value) if value - value == 0.0 else f'"{write(value)}"'


def _write_numeric(write: Writer) -> Writer:
    return lambda value: write(value) if value.is_finite() else f'"{write(value)}"'


def _iso_timestamp(text: str) -> str:
    return f'"{text.replace(" ", "T", 1)}"'


def _make_writer(context: ExecutionContext, sql_type: SqlType) -> Writer:
    if sql_type.element is not None:
        return lambda value: write_array(context, value, sql_type)
    if sql_type is RECORD:
        return lambda value: write_record(context, value)
    write = text_output(sql_type, context.format)
    if sql_type in (INT2, INT4, INT8, JSON, JSONB):
        return write
    if sql_type is BOOL:
        return lambda value: "true" if value else "false"
    if sql_type in (FLOAT4, FLOAT8):
        return _write_float(write)
    if sql_type is NUMERIC:
        return _write_numeric(write)
    if sql_type is DATE:
        return lambda value: f'"{date_text(value)}"'
    if sql_type is TIMESTAMP:
        return lambda value: _iso_timestamp(timestamp_text(value))
    if sql_type is TIMESTAMPTZ:
        zone = session_zone(context.format.time_zone)
        return lambda value: _iso_timestamp(_full_offset(timestamptz_text(value, zone)))
    return lambda value: quote_json(write(value))


def _full_offset(text: str) -> str:
    """ISO 8601 has minutes in every offset: ``+00`` becomes ``+00:00``."""
    end = text.removesuffix(" BC")
    if end[-3:-2] in ("+", "-"):
        return f"{end}:00{text[len(end) :]}"
    return text


def write_array(
    context: ExecutionContext, value: ArrayValue, sql_type: SqlType, line_feed: str = ""
) -> str:
    """Write an array as nested JSON arrays; ``line_feed`` goes between the outermost elements."""
    element = sql_type.element
    assert element is not None
    if not value.dims:
        return "[]"
    write = json_writer(context, element)
    texts = ["null" if item is None else write(item) for item in value.elements]
    for level in range(len(value.dims) - 1, -1, -1):
        size = value.dims[level]
        separator = "," + line_feed if level == 0 else ","
        texts = [f"[{separator.join(texts[at : at + size])}]" for at in range(0, len(texts), size)]
    return texts[0]


def write_record(context: ExecutionContext, value: tuple[Datum, ...], line_feed: str = "") -> str:
    """Write a record as an object; fields without names are f1, f2..."""
    types: tuple[SqlType, ...] = value.types if isinstance(value, RecordValue) else ()
    names: tuple[str, ...] = value.names if isinstance(value, RecordValue) else ()
    types = types or (TEXT,) * len(value)
    names = names or tuple(f"f{number}" for number in range(1, len(value) + 1))
    fields = [
        f"{quote_json(name)}:{write_json(context, item, sql_type)}"
        for name, item, sql_type in zip(names, value, types, strict=True)
    ]
    return "{" + ("," + line_feed).join(fields) + "}"


def write_key(context: ExecutionContext, value: Datum, sql_type: SqlType) -> str:
    """Write an object key; 22023 for arrays, records and json."""
    if sql_type.element is not None or sql_type in (RECORD, JSON, JSONB):
        raise InvalidParameterValue("key value must be scalar, not array, composite, or json")
    text = json_writer(context, sql_type)(value)
    return text if text.startswith('"') else quote_json(text)


def is_container(sql_type: SqlType) -> bool:
    """Tell whether values nest: arrays and records."""
    return sql_type.element is not None or sql_type is RECORD
