"""The options of COPY: checked as PostgreSQL checks them, in its order, with its errors.

Source: PostgreSQL docs, "COPY" (Parameters).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from nodedb.session.copy_format import CopyOptions
from sql.errors import (
    DuplicateColumn,
    FeatureNotSupported,
    InvalidColumnReference,
    InvalidParameterValue,
    SqlSyntaxError,
    UndefinedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sql.ast import utility as u

_FORMATS: Final = ("text", "csv", "binary")
_BOOLEANS: Final = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
_KNOWN: Final = frozenset(
    ("format", "delimiter", "null", "header", "quote", "escape", "encoding", "freeze",
     "force_quote", "force_not_null", "force_null")
)  # fmt: skip
_TEXT_DELIMITERS_REFUSED: Final = "\\.abcdefghijklmnopqrstuvwxyz0123456789"
_FORCE_DIRECTIONS: Final = {
    "force_quote": "COPY TO",
    "force_not_null": "COPY FROM",
    "force_null": "COPY FROM",
}


@dataclasses.dataclass(frozen=True, slots=True)
class ParsedOptions:
    """The options of one COPY; ``format`` is text, csv or binary."""

    format: str
    options: CopyOptions
    freeze: bool = False


def parse_options(
    statement: u.Copy, names: Sequence[str], relation: str, known_names: Sequence[str] | None = None
) -> ParsedOptions:
    """Check the options for data of the columns ``names``; ``known_names`` are all of the table's.

    Errors: 42601, 22023, 0A000, 42703, 42P10, 42701.
    """
    given = _given(statement)
    kind = _format(statement, given)
    is_csv = kind == "csv"
    freeze = _boolean(given, "freeze")
    is_header, is_match = _header(statement, given)
    if kind == "binary":
        for name in ("delimiter", "null"):
            if name in given:
                raise SqlSyntaxError(f"cannot specify {name.upper()} in BINARY mode")
        if is_header:
            raise FeatureNotSupported("cannot specify HEADER in BINARY mode")
    delimiter = _one_byte(given, "delimiter", "," if is_csv else "\t")
    if delimiter in "\r\n":
        raise InvalidParameterValue("COPY delimiter cannot be newline or carriage return")
    null = str(given.get("null", "" if is_csv else "\\N"))
    if "\r" in null or "\n" in null:
        raise InvalidParameterValue(
            "COPY null representation cannot use newline or carriage return"
        )
    if not is_csv and delimiter in _TEXT_DELIMITERS_REFUSED:
        raise InvalidParameterValue(f'COPY delimiter cannot be "{delimiter}"')
    quote = _csv_character(given, "quote", '"', is_csv=is_csv)
    if is_csv and delimiter == quote:
        raise InvalidParameterValue("COPY delimiter and quote must be different")
    escape = _csv_character(given, "escape", quote, is_csv=is_csv)
    _check_forces(statement, is_csv=is_csv)
    if delimiter in null:
        raise FeatureNotSupported("COPY delimiter must not appear in the NULL specification")
    if is_csv and quote in null:
        raise FeatureNotSupported("CSV quote character must not appear in the NULL specification")
    forced = _forced(statement, names, relation, known_names or names)
    options = CopyOptions(
        column_names=tuple(names),
        relation=relation,
        delimiter=delimiter,
        null=null,
        header=is_header,
        header_match=is_match,
        quote=quote,
        escape=escape,
        force_quote=forced.get("force_quote", frozenset()),
        force_not_null=forced.get("force_not_null", frozenset()),
        force_null=forced.get("force_null", frozenset()),
    )
    return ParsedOptions(kind, options, freeze)


def _given(statement: u.Copy) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for option in statement.options:
        if option.name not in _KNOWN:
            raise SqlSyntaxError(f'option "{option.name}" not recognized', span=option.span)
        if option.name in given:
            raise SqlSyntaxError("conflicting or redundant options", span=option.span)
        given[option.name] = option.value
        if option.name == "encoding":
            name = str(option.value).lower().replace("-", "").replace("_", "")
            if name not in ("utf8", "unicode"):
                if name in ("latin1", "sqlascii", "win1252", "iso88591", "eucjp", "sjis", "latin9"):
                    raise FeatureNotSupported(f'COPY encoding "{option.value}" is not supported')
                raise InvalidParameterValue(
                    'argument to option "encoding" must be a valid encoding name', span=option.span
                )
    return given


def _format(statement: u.Copy, given: dict[str, Any]) -> str:
    kind = str(given.get("format", "text"))
    if kind not in _FORMATS:
        span = next(option.span for option in statement.options if option.name == "format")
        raise InvalidParameterValue(f'COPY format "{kind}" not recognized', span=span)
    return kind


def _boolean(given: dict[str, Any], name: str) -> bool:
    if name not in given:
        return False
    value = given[name]
    text = "true" if value is None else str(value).lower()
    if text not in _BOOLEANS:
        raise SqlSyntaxError(f"{name} requires a Boolean value")
    return _BOOLEANS[text]


def _header(statement: u.Copy, given: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether there is a header, and whether it must match."""
    if str(given.get("header", "")).lower() == "match":
        if not statement.is_from:
            raise FeatureNotSupported('cannot use "match" with HEADER in COPY TO')
        return True, True
    try:
        return _boolean(given, "header"), False
    except SqlSyntaxError:
        raise SqlSyntaxError('header requires a Boolean value or "match"') from None


def _one_byte(given: dict[str, Any], name: str, default: str) -> str:
    value = str(given.get(name, default))
    if len(value.encode()) != 1:
        raise FeatureNotSupported(f"COPY {name} must be a single one-byte character")
    return value


def _csv_character(given: dict[str, Any], name: str, default: str, *, is_csv: bool) -> str:
    if not is_csv and name in given:
        raise FeatureNotSupported(f"COPY {name} available only in CSV mode")
    return _one_byte(given, name, default)


def _check_forces(statement: u.Copy, *, is_csv: bool) -> None:
    lists = dict(statement.column_options)
    for key, direction in _FORCE_DIRECTIONS.items():
        if key not in lists:
            continue
        shown = key.replace("_", " ")
        if lists[key] == ("*",) and key != "force_quote":
            raise InvalidParameterValue(
                f'argument to option "{key}" must be a list of column names'
            )
        if not is_csv:
            raise FeatureNotSupported(f"COPY {shown} available only in CSV mode")
        if (direction == "COPY FROM") != statement.is_from:
            raise FeatureNotSupported(f"COPY {shown} only available using {direction}")


def _forced(
    statement: u.Copy, names: Sequence[str], relation: str, known_names: Sequence[str]
) -> dict[str, frozenset[int]]:
    """Turn the FORCE lists into positions."""
    positions = {name: position for position, name in enumerate(names)}
    forced: dict[str, frozenset[int]] = {}
    for key, wanted in statement.column_options:
        if wanted == ("*",):
            forced[key] = frozenset(positions.values())
            continue
        for number, name in enumerate(wanted):
            if name not in known_names:
                of_relation = f' of relation "{relation}"' if relation else ""
                raise UndefinedColumn(f'column "{name}"{of_relation} does not exist')
            if name in wanted[:number]:
                raise DuplicateColumn(f'column "{name}" specified more than once')
            if name not in positions:
                raise InvalidColumnReference(
                    f'{key.upper()} column "{name}" not referenced by COPY'
                )
        forced[key] = frozenset(positions[name] for name in wanted)
    return forced
