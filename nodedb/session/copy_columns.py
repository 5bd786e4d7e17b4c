"""How COPY reads a column of text fields: all of a chunk's at once where they are plain.

Plain fields are found by one look at the joined column; any other field, NULLs, blanks and faults
included, sends the whole column the ordinary way, field by field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sql.types.base import Datum
from sql.types.catalog import BPCHAR, INT2, INT4, INT8, NUMERIC, TEXT, VARCHAR
from sql.types.typmod import HEADER_BYTES, numeric_precision_and_scale

if TYPE_CHECKING:
    from sql.catalog.descriptor import Column

_INTEGER_LIMITS: Final = {INT2.oid: 2**15 - 1, INT4.oid: 2**31 - 1, INT8.oid: 2**63 - 1}
_PLAIN_DIGITS_MAX: Final = 1000

FieldInput = Callable[[Any], Datum]
ColumnInput = Callable[[Sequence[Any]], Sequence[Datum]]


def column_input(column: Column | None, field: FieldInput) -> ColumnInput:
    """Return what converts a whole column; None reads fields of the binary format."""

    def convert(values: Sequence[Any]) -> Sequence[Datum]:
        return [None if value is None else field(value) for value in values]

    if column is None:
        return convert
    oid, typmod = column.type.oid, column.typmod
    if oid in (TEXT.oid, VARCHAR.oid) and typmod < 0:
        return lambda values: values
    if oid in _INTEGER_LIMITS:
        return _integers(convert, _INTEGER_LIMITS[oid])
    if oid == BPCHAR.oid and typmod >= 0:
        return _padded(convert, typmod - HEADER_BYTES)
    if oid == NUMERIC.oid:
        return _numerics(convert, typmod)
    return convert


def _integers(convert: ColumnInput, limit: int) -> ColumnInput:
    """Read plain digits at the speed of ``int``."""

    def read(values: Sequence[str | None]) -> Sequence[Datum]:
        try:
            digits = "".join(values)  # type: ignore[arg-type]  # None raises TypeError, which is the point
        except TypeError:
            return convert(values)
        if digits.isascii() and digits.isdigit() and "" not in values:
            numbers = list(map(int, values))  # type: ignore[arg-type]  # no None got here
            if max(numbers) <= limit:
                return numbers
        return convert(values)

    return read


def _padded(convert: ColumnInput, length: int) -> ColumnInput:
    """Pad texts that fit."""

    def read(values: Sequence[str | None]) -> Sequence[Datum]:
        if None in values or max(map(len, values)) > length:  # type: ignore[arg-type]  # no None
            return convert(values)
        return [value.ljust(length) for value in values]  # type: ignore[union-attr]  # no None

    return read


def _numerics(convert: ColumnInput, typmod: int) -> ColumnInput:
    """Read decimals that have the column's scale already, so that there is nothing to round."""
    plain = _plain_numeric(typmod)
    if plain is None:
        return convert
    all_plain = re.compile(f"(?>{plain}\n)++").fullmatch

    def read(values: Sequence[str | None]) -> Sequence[Datum]:
        try:
            joined = "\n".join(values) + "\n"  # type: ignore[arg-type]  # None raises TypeError
        except TypeError:
            return convert(values)
        # Zero has no sign; a field may hold a newline of its own.
        if "-0" in joined or joined.count("\n") != len(values) or not all_plain(joined):
            return convert(values)
        return list(map(Decimal, values))  # type: ignore[arg-type]  # no None got here

    return read


def _plain_numeric(typmod: int) -> str | None:
    """Return the pattern of what a column takes without rounding, None for odd scales."""
    if typmod < 0:
        digits = f"{{1,{_PLAIN_DIGITS_MAX}}}"
        return f"-?[0-9]{digits}(?:\\.[0-9]{digits})?"
    precision, scale = numeric_precision_and_scale(typmod)
    if not 0 <= scale < precision:
        return None
    whole = f"-?[0-9]{{1,{precision - scale}}}"
    return f"{whole}\\.[0-9]{{{scale}}}" if scale else whole
