"""Type modifiers: ``varchar(3)``, ``numeric(10,2)``, ``interval day to second(3)`` and their like.

A typmod is PostgreSQL's own encoding in one integer, -1 for none. ``apply_typmod`` is the length
coercion of assignment (``explicit`` false) and of casts (true).

Source: PostgreSQL docs, "Character Types", "Numeric Types", "Date/Time Types", "pg_attribute".
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from sql.errors import (
    InvalidParameterValue,
    NumericValueOutOfRange,
    SqlSyntaxError,
    StringDataRightTruncation,
)
from sql.types.array import ArrayValue
from sql.types.base import (
    NO_TYPMOD,
    TIMESTAMP_INFINITY,
    TIMESTAMP_MINUS_INFINITY,
    Datum,
    SqlType,
)
from sql.types.calendar import round_half_away
from sql.types.catalog import (
    BPCHAR,
    INT2VECTOR,
    INTERVAL,
    NUMERIC,
    OIDVECTOR,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    VARCHAR,
)
from sql.types.interval import (
    DAY_BIT,
    FULL_PRECISION,
    FULL_RANGE,
    HOUR_BIT,
    MINUTE_BIT,
    MONTH_BIT,
    SECOND_BIT,
    YEAR_BIT,
    apply_interval_typmod,
)
from sql.types.numeric import round_numeric

HEADER_BYTES: Final = 4
TEXT_LENGTH_MAX: Final = 10_485_760
NUMERIC_PRECISION_MAX: Final = 1000
NUMERIC_SCALE_MAX: Final = 1000
SECONDS_PRECISION_MAX: Final = 6

_TIME_BITS: Final = HOUR_BIT | MINUTE_BIT | SECOND_BIT
_INTERVAL_FIELDS: Final = {
    "year": YEAR_BIT,
    "month": MONTH_BIT,
    "day": DAY_BIT,
    "hour": HOUR_BIT,
    "minute": MINUTE_BIT,
    "second": SECOND_BIT,
    "year to month": YEAR_BIT | MONTH_BIT,
    "day to hour": DAY_BIT | HOUR_BIT,
    "day to minute": DAY_BIT | HOUR_BIT | MINUTE_BIT,
    "day to second": DAY_BIT | _TIME_BITS,
    "hour to minute": HOUR_BIT | MINUTE_BIT,
    "hour to second": _TIME_BITS,
    "minute to second": MINUTE_BIT | SECOND_BIT,
}
_INTERVAL_FIELD_NAMES: Final = {mask: name for name, mask in _INTERVAL_FIELDS.items()}


def typmod_in(sql_type: SqlType, modifiers: tuple[int, ...], fields: tuple[str, ...] = ()) -> int:
    """Encode a type's modifiers; of an array type, its element's.

    ``fields`` are interval's words, as ``("day", "to", "second")``. Raises 22023 for a bad
    modifier and 42601 for a type that takes none.
    """
    if sql_type.element is not None and sql_type not in (INT2VECTOR, OIDVECTOR):
        sql_type = sql_type.element
    if sql_type is INTERVAL:
        return _interval_typmod(modifiers, fields)
    if not modifiers:
        return NO_TYPMOD
    if sql_type is VARCHAR or sql_type is BPCHAR:
        return _length_typmod(modifiers, "varchar" if sql_type is VARCHAR else "char")
    if sql_type is NUMERIC:
        return _numeric_typmod(modifiers)
    if sql_type in _PRECISION_NAMES:
        return _precision_typmod(modifiers, _PRECISION_NAMES[sql_type])
    raise SqlSyntaxError(f'type modifier is not allowed for type "{sql_type.name}"')


def _length_typmod(modifiers: tuple[int, ...], name: str) -> int:
    if len(modifiers) != 1:
        raise InvalidParameterValue("invalid type modifier")
    length = modifiers[0]
    if length < 1:
        raise InvalidParameterValue(f"length for type {name} must be at least 1")
    if length > TEXT_LENGTH_MAX:
        raise InvalidParameterValue(f"length for type {name} cannot exceed {TEXT_LENGTH_MAX}")
    return length + HEADER_BYTES


def _numeric_typmod(modifiers: tuple[int, ...]) -> int:
    if len(modifiers) > 2:
        raise InvalidParameterValue("invalid NUMERIC type modifier")
    precision, scale = modifiers if len(modifiers) == 2 else (modifiers[0], 0)
    if not 1 <= precision <= NUMERIC_PRECISION_MAX:
        raise InvalidParameterValue(
            f"NUMERIC precision {precision} must be between 1 and {NUMERIC_PRECISION_MAX}"
        )
    if not -NUMERIC_SCALE_MAX <= scale <= NUMERIC_SCALE_MAX:
        raise InvalidParameterValue(
            f"NUMERIC scale {scale} must be between -{NUMERIC_SCALE_MAX} and {NUMERIC_SCALE_MAX}"
        )
    return numeric_typmod(precision, scale)


def numeric_typmod(precision: int, scale: int) -> int:
    """Encode what is known to be in range."""
    return (precision << 16 | scale & 0x7FF) + HEADER_BYTES


def numeric_precision_and_scale(typmod: int) -> tuple[int, int]:
    """Decode a numeric typmod; the scale may be negative."""
    packed = typmod - HEADER_BYTES
    return packed >> 16 & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024


_PRECISION_NAMES: Final = {
    TIME: ("TIME", ""),
    TIMETZ: ("TIME", " WITH TIME ZONE"),
    TIMESTAMP: ("TIMESTAMP", ""),
    TIMESTAMPTZ: ("TIMESTAMP", " WITH TIME ZONE"),
}


def _precision_typmod(modifiers: tuple[int, ...], names: tuple[str, str]) -> int:
    if len(modifiers) != 1:
        raise InvalidParameterValue("invalid type modifier")
    if modifiers[0] < 0:
        raise InvalidParameterValue(
            f"{names[0]}({modifiers[0]}){names[1]} precision must not be negative"
        )
    # More digits than can be kept are no error: PostgreSQL warns and keeps six.
    return min(modifiers[0], SECONDS_PRECISION_MAX)


def _interval_typmod(modifiers: tuple[int, ...], fields: tuple[str, ...]) -> int:
    words = " ".join(fields).lower().split()
    key = " ".join(words)
    if len(words) == 2:
        key = " to ".join(words)
    if not words:
        mask = FULL_RANGE
        if not modifiers:
            return NO_TYPMOD
    elif key in _INTERVAL_FIELDS:
        mask = _INTERVAL_FIELDS[key]
    else:
        raise InvalidParameterValue("invalid INTERVAL type modifier")
    if len(modifiers) > 1:
        raise InvalidParameterValue("invalid INTERVAL type modifier")
    precision = FULL_PRECISION
    if modifiers:
        if modifiers[0] < 0:
            raise InvalidParameterValue(f"INTERVAL({modifiers[0]}) precision must not be negative")
        precision = min(modifiers[0], SECONDS_PRECISION_MAX)
    return mask << 16 | precision


def format_type(sql_type: SqlType, typmod: int | None = None) -> str:
    """Name a type as ``pg_catalog.format_type`` does; ``None`` is SQL's NULL typmod."""
    element = sql_type.element
    if element is not None and sql_type not in (INT2VECTOR, OIDVECTOR):
        return format_type(element, typmod) + "[]"
    if typmod is None:
        return sql_type.display_name
    if typmod < 0:
        # ``character`` alone would mean character(1).
        return "bpchar" if sql_type is BPCHAR else sql_type.display_name
    if typmod <= HEADER_BYTES and sql_type in (VARCHAR, BPCHAR, NUMERIC):
        return sql_type.display_name
    if sql_type is VARCHAR or sql_type is BPCHAR:
        return f"{sql_type.display_name}({typmod - HEADER_BYTES})"
    if sql_type is NUMERIC:
        precision, scale = numeric_precision_and_scale(typmod)
        return f"numeric({precision},{scale})"
    if sql_type in _PRECISION_NAMES:
        head, _, tail = sql_type.display_name.partition(" ")
        return f"{head}({typmod}) {tail}"
    if sql_type is INTERVAL:
        return _interval_name(typmod)
    return sql_type.display_name


def _interval_name(typmod: int) -> str:
    mask, precision = typmod >> 16 & FULL_RANGE, typmod & FULL_PRECISION
    fields = "" if mask == FULL_RANGE else " " + _INTERVAL_FIELD_NAMES.get(mask, "")
    return "interval" + fields + (f"({precision})" if precision != FULL_PRECISION else "")


def apply_typmod(sql_type: SqlType, datum: Datum, typmod: int, explicit: bool) -> Datum:  # noqa: FBT001 - a fixed interface
    """Fit a value into its type's modifier. Raises 22001, 22003. NULL stays NULL."""
    if typmod < 0 or datum is None:
        return datum
    if isinstance(datum, ArrayValue):
        element = sql_type.element
        if element is None or element not in _APPLY:
            return datum
        return ArrayValue(
            tuple(apply_typmod(element, item, typmod, explicit) for item in datum.elements),
            datum.dims,
            datum.lower_bounds,
        )
    apply = _APPLY.get(sql_type)
    return datum if apply is None else apply(datum, typmod, explicit)


def _apply_varchar(value: str, typmod: int, explicit: bool) -> str:  # noqa: FBT001 - table entry
    length = typmod - HEADER_BYTES
    if len(value) <= length:
        return value
    if not explicit and value[length:].strip(" "):
        raise StringDataRightTruncation(f"value too long for type character varying({length})")
    return value[:length]


def _apply_bpchar(value: str, typmod: int, explicit: bool) -> str:  # noqa: FBT001 - table entry
    length = typmod - HEADER_BYTES
    if len(value) <= length:
        return value.ljust(length)
    if not explicit and value[length:].strip(" "):
        raise StringDataRightTruncation(f"value too long for type character({length})")
    return value[:length]


def _apply_numeric(value: Decimal, typmod: int, _: bool) -> Decimal:  # noqa: FBT001 - table entry
    precision, scale = numeric_precision_and_scale(typmod)
    if not value.is_finite():
        if value.is_nan():
            return value
        raise NumericValueOutOfRange(
            "numeric field overflow",
            detail=f"A field with precision {precision}, scale {scale} cannot hold an infinite"
            " value.",
        )
    rounded = round_numeric(value, scale)
    whole_digits = precision - scale
    if rounded and rounded.adjusted() >= whole_digits:
        limit = f"10^{whole_digits}" if whole_digits else "1"
        raise NumericValueOutOfRange(
            "numeric field overflow",
            detail=f"A field with precision {precision}, scale {scale} must round to an absolute"
            f" value less than {limit}.",
        )
    return rounded


def _apply_seconds(value: int, typmod: int, _: bool) -> int:  # noqa: FBT001 - table entry
    if typmod >= SECONDS_PRECISION_MAX:
        return value
    if value in (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY):
        return value
    return round_half_away(value, 10 ** (SECONDS_PRECISION_MAX - typmod))


def _apply_timetz(value: tuple[int, int], typmod: int, explicit: bool) -> tuple[int, int]:  # noqa: FBT001
    return _apply_seconds(value[0], typmod, explicit), value[1]


def _apply_interval(
    value: tuple[int, int, int],
    typmod: int,
    _: bool,  # noqa: FBT001 - table entry
) -> tuple[int, int, int]:
    return apply_interval_typmod(value, typmod)


_APPLY: Final[dict[SqlType, Callable[[Datum, int, bool], Datum]]] = {
    VARCHAR: _apply_varchar,
    BPCHAR: _apply_bpchar,
    NUMERIC: _apply_numeric,
    TIME: _apply_seconds,
    TIMETZ: _apply_timetz,
    TIMESTAMP: _apply_seconds,
    TIMESTAMPTZ: _apply_seconds,
    INTERVAL: _apply_interval,
}
