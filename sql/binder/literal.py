"""Reading unknown literals at bind time, as far as their value does not depend on the session.

Plans are cached, so what ``DateStyle``, ``TimeZone``, the clock or a role decides stays a cast of
text that execution evaluates: dates and times not in full ISO form, words such as 'now', names of
roles and schemas. Those of functions, operators, types and relations are resolved here.

Source: PostgreSQL docs, "Constants of Other Types", "Object Identifier Types".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sql.ast.query import QualifiedName
from sql.binder.bound import BoundExpr, CastExpr, Const
from sql.errors import InvalidDatetimeFormat, InvalidName, SqlError
from sql.functions.reg import RegResolver
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.catalog import (
    DATE,
    REGCLASS,
    REGNAMESPACE,
    REGOPER,
    REGOPERATOR,
    REGPROC,
    REGPROCEDURE,
    REGROLE,
    REGTYPE,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
)
from sql.types.io import FormatContext, text_input

if TYPE_CHECKING:
    from sql.catalog.catalog import Catalog

_ISO_DATE: Final = re.compile(r"\s*\d{4}-\d\d?-\d\d?\s*")
_ISO_TIME: Final = re.compile(r"\s*\d\d?:\d\d(:\d\d(\.\d+)?)?\s*")
_ISO_TIMESTAMP: Final = re.compile(r"\s*\d{4}-\d\d?-\d\d?([ T]\d\d?:\d\d(:\d\d(\.\d+)?)?)?\s*")
_ISO_ZONED: Final = re.compile(
    r"\s*\d{4}-\d\d?-\d\d?[ T]\d\d?:\d\d(:\d\d(\.\d+)?)?\s*(Z|[+-]\d\d?(:?\d\d)?)\s*"
)
_ISO_TIME_ZONED: Final = re.compile(r"\s*\d\d?:\d\d(:\d\d(\.\d+)?)?\s*(Z|[+-]\d\d?(:?\d\d)?)\s*")
_FIXED_FORMS: Final = {
    DATE: _ISO_DATE,
    TIME: _ISO_TIME,
    TIMESTAMP: _ISO_TIMESTAMP,
    TIMESTAMPTZ: _ISO_ZONED,
    TIMETZ: _ISO_TIME_ZONED,
}
_BUILT_IN_NAMES: Final = frozenset((REGPROC, REGPROCEDURE, REGOPER, REGOPERATOR, REGTYPE))
_SESSION_TYPES: Final = frozenset(
    (REGPROC, REGPROCEDURE, REGOPER, REGOPERATOR, REGTYPE, REGROLE, REGNAMESPACE, REGCLASS)
)


def _checking(date_style: str) -> FormatContext:
    context = FormatContext()
    context.now = 0
    context.date_style = date_style
    return context


_CHECKING: Final = tuple(_checking(f"ISO, {order}") for order in ("MDY", "DMY", "YMD"))
_NAME_PART: Final = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s".]+))\s*')


def read_literal(
    catalog: Catalog, literal: Const, target: SqlType, typmod: int = NO_TYPMOD
) -> BoundExpr:
    """Read a literal's text as a value of ``target``. Raises the type's input errors.

    Without place.
    """
    text = literal.value
    assert isinstance(text, str)
    form = _FIXED_FORMS.get(target)
    if form is not None:
        if form.fullmatch(text) is None:
            _check_date(text, target)
            return _at_execution(literal, target, typmod)
    elif target is REGCLASS:
        return _read_regclass(catalog, literal)
    elif target in _BUILT_IN_NAMES:
        return Const(RegResolver(catalog).input(target, text), target, typmod, literal.span)
    elif target in (REGROLE, REGNAMESPACE):
        RegResolver(catalog).input(target, text)  # Fails here, where the place is known.
        return _at_execution(literal, target, typmod)
    elif target in _SESSION_TYPES or (
        target.element is not None
        and (target.element in _FIXED_FORMS or target.element in _SESSION_TYPES)
    ):
        return _at_execution(literal, target, typmod)
    return Const(text_input(target)(text, typmod), target, typmod, literal.span)


def _check_date(text: str, target: SqlType) -> None:
    """Report syntax that no setting makes right.

    Everything else waits for the session's settings.
    """
    first: SqlError | None = None
    for context in _CHECKING:
        try:
            text_input(target, context)(text, NO_TYPMOD)
        except InvalidDatetimeFormat:
            raise
        except SqlError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise first


def _at_execution(literal: Const, target: SqlType, typmod: int) -> CastExpr:
    operand = Const(literal.value, TEXT, NO_TYPMOD, literal.span)
    return CastExpr(operand, target, "text", typmod=typmod, explicit=False, span=literal.span)


def split_name(text: str) -> list[str]:
    """Split ``schema."Table"`` into folded parts. Raises InvalidName (42602)."""
    parts: list[str] = []
    position = 0
    while True:
        match = _NAME_PART.match(text, position)
        if match is None:
            raise InvalidName("invalid name syntax")
        quoted, plain = match.groups()
        parts.append(plain.lower() if quoted is None else quoted.replace('""', '"'))
        position = match.end()
        if position == len(text):
            return parts
        if text[position] != ".":
            raise InvalidName("invalid name syntax")
        position += 1


def _read_regclass(catalog: Catalog, literal: Const) -> Const:
    from sql.binder.from_clause import relation_oid  # noqa: PLC0415

    text: str = literal.value
    if text == "-":
        return Const(0, REGCLASS, NO_TYPMOD, literal.span)
    if text.isdigit():
        return Const(int(text), REGCLASS, NO_TYPMOD, literal.span)
    parts = split_name(text)
    if len(parts) > 3:
        raise InvalidName(f"improper qualified name (too many dotted names): {text}")
    schema, database = (*parts[-2::-1], "", "")[:2]
    relation = catalog.find_relation(QualifiedName(parts[-1], schema, database))
    if relation is None:
        # Indexes are no relations to a query, but have OIDs: pg_class knows them.
        return Const(RegResolver(catalog).relation_id(text), REGCLASS, NO_TYPMOD, literal.span)
    return Const(relation_oid(relation), REGCLASS, NO_TYPMOD, literal.span)
