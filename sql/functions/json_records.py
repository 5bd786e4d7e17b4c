"""JSON as rows: ``json_to_record``, ``json_populate_record`` and their kin.

What the columns are is not in the signature but in the call: the binder gives it to
``record_reader``, which makes the function for one call. The registered ones serve for resolution
only and tell that the row type is not known.

Source: PostgreSQL docs, "JSON Processing Functions".
"""

from collections.abc import Callable, Iterator
from typing import Final

from sql.errors import (
    FeatureNotSupported,
    InvalidParameterValue,
    InvalidTextRepresentation,
)
from sql.functions.context import ExecutionContext
from sql.functions.implementation import register
from sql.functions.json_functions import as_text, items, json_kind, members
from sql.functions.registry import Function
from sql.types.array import ArrayValue
from sql.types.base import Datum, Row, SqlType
from sql.types.catalog import JSON, JSONB, RECORD
from sql.types.io import text_input
from sql.types.json import check_escapes, jsonb_in
from sql.types.record import RecordValue
from sql.types.typmod import apply_typmod

RecordColumn = tuple[str, SqlType, int]
"""(name, type, typmod)."""

RECORD_READERS: Final = frozenset(
    f"{kind}_{what}{suffix}"
    for kind in ("json", "jsonb")
    for what in ("to_record", "populate_record")
    for suffix in ("", "set")
)


def from_json(
    context: ExecutionContext, text: str | None, sql_type: SqlType, typmod: int, key: str
) -> Datum:
    """Read a JSON value as a type; 22P02 and the type's own errors. ``key`` is for hints."""
    if text is None:
        return None
    text = text.strip(" \t\n\r")
    if text == "null":
        return None
    if sql_type is JSON:
        return text
    if sql_type is JSONB:
        return jsonb_in(text)
    if sql_type.element is not None and text[0] != '"':
        return _array(context, text, sql_type.element, typmod, key)
    value = as_text(text)
    assert value is not None
    datum = text_input(sql_type, context.format)(value, typmod)
    return datum if typmod < 0 else apply_typmod(sql_type, datum, typmod, explicit=False)


def _array(
    context: ExecutionContext, text: str, element: SqlType, typmod: int, key: str
) -> ArrayValue:
    if text[0] != "[":
        raise InvalidTextRepresentation(
            "expected JSON array", hint=f'See the value of key "{key}".'
        )
    dims: list[int] = []
    values: list[Datum] = []

    def read(part: str, depth: int) -> None:
        entries = list(items(part))
        if depth == len(dims):
            dims.append(len(entries))
        elif dims[depth] != len(entries):
            raise InvalidTextRepresentation(
                "malformed JSON array",
                detail="Multidimensional arrays must have sub-arrays with matching dimensions.",
            )
        for entry in entries:
            nested = json_kind(entry) == "[" and element not in (JSON, JSONB)
            if nested:
                read(entry, depth + 1)
            elif depth + 1 < len(dims):
                raise InvalidTextRepresentation(
                    "expected JSON array", hint=f'See the array element {{}} of key "{key}".'
                )
            else:
                values.append(from_json(context, entry, element, typmod, key))

    read(text, 0)
    return ArrayValue(tuple(values), tuple(dims)) if values else ArrayValue(())


def _check_object(text: str) -> None:
    kind = json_kind(text)
    if kind != "{":
        what = "an array" if kind == "[" else "a scalar"
        raise InvalidParameterValue(f"cannot call populate_composite on {what}")


def _objects(text: str, function: str) -> Iterator[str]:
    kind = json_kind(text)
    if kind != "[":
        if function.startswith("jsonb"):
            what = "a non-array"
        else:
            what = "an object" if kind == "{" else "a scalar"
        raise InvalidParameterValue(f"cannot call {function} on {what}")
    for item in items(text):
        if json_kind(item) != "{":
            raise InvalidParameterValue(f"argument of {function} must be an array of objects")
        yield item


def _row_reader(
    columns: tuple[RecordColumn, ...],
) -> Callable[[ExecutionContext, str, Row | None], RecordValue]:
    types = tuple(sql_type for _, sql_type, _ in columns)
    names = tuple(name for name, _, _ in columns)

    def read(context: ExecutionContext, text: str, base: Row | None) -> RecordValue:
        found = dict(members(text))
        old = base or (None,) * len(columns)
        values = [
            from_json(context, found[name], sql_type, typmod, name) if name in found else before
            for (name, sql_type, typmod), before in zip(columns, old, strict=True)
        ]
        return RecordValue(values, types, names)

    return read


def record_reader(function: Function, columns: tuple[RecordColumn, ...]) -> Function:
    """Return ``function`` for the columns of one call. 22P02 and 22023 when it runs."""
    has_base = "populate" in function.name
    name = function.name
    read = _row_reader(columns)
    empty = RecordValue((None,) * len(columns), tuple(t for _, t, _ in columns))

    def one(context: ExecutionContext, *args: Datum) -> RecordValue:
        base, text = args[:2] if has_base else (None, args[0])
        if text is None:
            return empty if base is None else RecordValue(base, empty.types)
        check_escapes(text)
        _check_object(text)
        return read(context, text, base)

    def many(context: ExecutionContext, *args: Datum) -> Iterator[RecordValue]:
        base, text = args[:2] if has_base else (None, args[0])
        if text is not None:
            check_escapes(text)
            for item in _objects(text, name):
                yield read(context, item, base)

    return Function(
        function.oid,
        name,
        function.arg_types,
        RECORD,
        many if function.returns_set else one,
        strict=False,
        volatility="stable",
        needs_context=True,
        returns_set=function.returns_set,
        columns=tuple((n, t) for n, t, _ in columns),
    )


def _unknown_row(name: str) -> Callable[..., Datum]:
    def refuse(*_: Datum) -> Datum:
        raise FeatureNotSupported(
            f"could not determine row type for result of {name}",
            hint="Provide a non-null record argument, or call the function in the FROM clause "
            "using a column definition list.",
        )

    return refuse


for _kind in ("json", "jsonb"):
    for _suffix in ("", "set"):
        _name = f"{_kind}_to_record{_suffix}"
        register(f"{_name}({_kind})", _unknown_row(_name))
        _name = f"{_kind}_populate_record{_suffix}"
        _rest = ",bool" if _kind == "json" else ""
        register(f"{_name}(anyelement,{_kind}{_rest})", _unknown_row(_name))
