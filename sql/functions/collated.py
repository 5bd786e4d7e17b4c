"""What a collation changes in built-ins: character classes under C, and having none at all.

All collations order by code point, so comparisons are the same for all of them. Under C, POSIX and
ucs_basic only ASCII letters have a case or count as letters. Where two implicit collations are in
conflict there is no collation, and a function that would have needed one raises 42P22 when it runs.

Source: PostgreSQL docs, "Collation Support".
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from sql.errors import IndeterminateCollation
from sql.functions.patterns import like_matcher
from sql.functions.regex_translate import RegexFlags, compile_regex
from sql.functions.registry import Aggregate, Function, Operator
from sql.types.array import ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.catalog import NAME

DEFAULT: Final = "default"
C: Final = "C"
ASCII_COLLATIONS: Final = frozenset((C, "POSIX", "ucs_basic"))
COMPARISON: Final = "string comparison"
REGEX: Final = "regular expression"

_COMPARING: Final = frozenset(
    (
        "strpos",
        "position",
        "replace",
        "split_part",
        "string_to_array",
        "string_to_table",
        "starts_with",
        "array_position",
        "array_positions",
        "array_remove",
        "array_replace",
        "arraycontains",
        "arraycontained",
        "arrayoverlap",
        "width_bucket",
    )
)
_CASE_FUNCTIONS: Final = frozenset(("upper", "lower", "initcap"))
_ORDER_NAME: Final = re.compile(r"(?:text|bpchar|name|array)_?(?:eq|ne|lt|le|gt|ge)(?:text|name)?")
_IGNORING_CASE: Final = re.compile(r"(?:text|bpchar|name)icn?like")
_REGEX_NAME: Final = re.compile(r"(?:text|bpchar|name)(?:ic)?regex(?:eq|ne)|regexp_\w+")
_NON_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_WORD: Final = re.compile(r"[A-Za-z0-9]+")


def collatable(sql_type: SqlType) -> bool:
    """Tell whether values of a type have a collation."""
    return (sql_type.element or sql_type).category == "S"


def collation_of_type(sql_type: SqlType) -> str:
    """Return the collation that a collatable type has by itself."""
    return C if (sql_type.element or sql_type) is NAME else DEFAULT


def _needed_for(function: Function) -> str:
    """Return what a function needs a collation for, as the message says it; "" for nothing."""
    name = function.name
    if name in _CASE_FUNCTIONS:
        return f"{name}() function"
    if name in _COMPARING or _ORDER_NAME.fullmatch(name):
        return COMPARISON
    if _IGNORING_CASE.fullmatch(name):
        return "ILIKE"
    if _REGEX_NAME.fullmatch(name):
        return REGEX
    if name == "substring" and function.arg_types[1] is function.arg_types[0]:
        return REGEX
    return ""


def indeterminate(purpose: str) -> IndeterminateCollation:
    """Make the error (42P22) for a missing collation."""
    return IndeterminateCollation(
        f"could not determine which collation to use for {purpose}",
        hint="Use the COLLATE clause to set the collation explicitly.",
    )


@lru_cache(maxsize=512)
def without_collation(function: Function) -> Function:
    """Return the function for inputs whose collation is not determined."""
    purpose = _needed_for(function)
    if not purpose:
        return function
    compared = function.implementation
    by_elements = function.name.startswith("array_")

    def fail(*args: Datum, **keywords: Any) -> Any:
        if by_elements and _compares_no_elements(function.name, args):
            return compared(*args, **keywords)
        raise indeterminate(purpose)

    return replace(function, implementation=fail, needs_context=False, inline="")


def _compares_no_elements(name: str, args: tuple[Datum, ...]) -> bool:
    """Tell whether two arrays differ before their elements are looked at."""
    first, second = args[0], args[1]
    if not isinstance(first, ArrayValue) or not isinstance(second, ArrayValue):
        return False
    if name in ("array_eq", "array_ne") and first.dims != second.dims:
        return True
    return not first.elements or not second.elements


@lru_cache(maxsize=512)
def operator_without_collation(operator: Operator) -> Operator:
    """Return the operator for inputs whose collation is not determined: no index can serve it."""
    function = without_collation(operator.function)
    if function is operator.function:
        return operator
    return replace(operator, function=function, comparison="")


@lru_cache(maxsize=32)
def extreme_without_collation(aggregate: Aggregate) -> Aggregate:
    """Return max or min for such inputs: its second value is one too many."""
    if aggregate.name not in ("max", "min"):
        return aggregate

    def step(state: Datum, value: Datum) -> Datum:
        if state is not None:
            raise indeterminate(COMPARISON)
        return value

    def combine(left: Datum, right: Datum) -> Datum:
        return right if left is None else left if right is None else step(left, right)

    return replace(aggregate, step=step, combine=combine, code="")


def _first_of_one(*args: Datum) -> Datum:
    """Return the one argument that is not NULL; 42P22 when there are two to compare."""
    found = [argument for argument in args if argument is not None]
    if len(found) > 1:
        raise indeterminate(COMPARISON)
    return found[0] if found else None


@lru_cache(maxsize=32)
def extreme_function(kind: str, types: tuple[SqlType, ...]) -> Function:
    """Return greatest or least for inputs whose collation is not determined."""
    return Function(0, kind, types, types[0], _first_of_one, strict=False)


# --- the C collation ---


def _ascii_lower(value: str) -> str:
    return value.lower() if value.isascii() else _by_parts(value, str.lower)


def _ascii_upper(value: str) -> str:
    return value.upper() if value.isascii() else _by_parts(value, str.upper)


def _by_parts(value: str, change: Callable[[str], str]) -> str:
    """Change the ASCII parts of a string."""
    parts: list[str] = []
    end = 0
    for match in _NON_ASCII.finditer(value):
        parts += (change(value[end : match.start()]), match[0])
        end = match.end()
    parts.append(change(value[end:]))
    return "".join(parts)


def _ascii_initcap(value: str) -> str:
    return _WORD.sub(lambda match: match[0][0].upper() + match[0][1:].lower(), value)


def _ascii_ilike(value: str, pattern: str) -> bool:
    return bool(like_matcher(_ascii_lower(pattern))(_ascii_lower(value)))


_ASCII_FLAGS: Final = RegexFlags(ascii_only=True)
_ASCII_ANY_CASE: Final = RegexFlags(ascii_only=True, ignore_case=True)


def _ascii_regex(value: str, pattern: str) -> bool:
    return compile_regex(pattern, _ASCII_FLAGS).search(value) is not None


def _ascii_regex_any_case(value: str, pattern: str) -> bool:
    return compile_regex(pattern, _ASCII_ANY_CASE).search(value) is not None


def _negated(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, pattern: not test(value, pattern)


_ASCII_IMPLEMENTATIONS: Final[dict[str, Callable[..., Any]]] = {
    "lower": _ascii_lower,
    "upper": _ascii_upper,
    "initcap": _ascii_initcap,
}
for _prefix in ("text", "bpchar", "name"):
    for _positive, _negative, _test in (
        ("iclike", "icnlike", _ascii_ilike),
        ("regexeq", "regexne", _ascii_regex),
        ("icregexeq", "icregexne", _ascii_regex_any_case),
    ):
        _ASCII_IMPLEMENTATIONS[_prefix + _positive] = _test
        _ASCII_IMPLEMENTATIONS[_prefix + _negative] = _negated(_test)


@lru_cache(maxsize=128)
def under_c(function: Function) -> Function:
    """Return the function as it is under a collation that knows ASCII only."""
    implementation = _ASCII_IMPLEMENTATIONS.get(function.name)
    if implementation is None or function.arg_types[0].category != "S":
        return function
    return replace(function, implementation=implementation, inline="")


@lru_cache(maxsize=128)
def operator_under_c(operator: Operator) -> Operator:
    """Return the operator under such a collation."""
    function = under_c(operator.function)
    return operator if function is operator.function else replace(operator, function=function)


def shown_collation(name: str) -> str:
    """Return a collation's name as ``pg_collation_for`` shows it."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) is not None and name != DEFAULT
    return name if plain else f'"{name}"'
