"""Literals out of a statement's text, so that texts that differ in them only share a cached plan.

``SELECT a FROM t WHERE k = 12`` becomes ``SELECT a FROM t WHERE k = $1`` and ``(("int4", "12"),)``.
A literal's type is part of the statement's meaning, hence the cache key must be the text *and* the
kinds: ``(text, *kinds)``. Kinds: int4, int8 and numeric have that type; a string is ``unknown``, as
the constant was. A minus sign stays in the text.

Conservative: the answer is None (plan the text as it is) for all but one SELECT, INSERT, UPDATE or
DELETE, for comments, parameters, escape or dollar-quoted strings, and wherever a literal's value
shapes the plan or its types: ORDER BY and GROUP BY, type modifiers, typed constants, patterns,
intervals, clauses whose grammar wants a constant. Positions in errors of the new text are not those
of the old one: on an error the caller parses the original again.

One regex pass cuts the literals out; the verdict on what remains is memoised, because it is the
same for every statement of one shape.
"""

import re
from functools import lru_cache
from typing import Final, Literal

from sql.parser.lexer import tokenize
from sql.parser.type_names import SPECIAL_TYPES

LiteralKind = Literal["int4", "int8", "numeric", "string"]

LITERALS_MAX: Final = 64
"""More literals than this come from bulk loads, each with a shape of its own."""
TEXT_CHARACTERS_MAX: Final = 4096
VERDICTS_MAX: Final = 1024

_CUT: Final = re.compile(
    r"""('[^']*(?:''[^']*)*'|"[^"]*(?:""[^"]*)*"
    |(?<![A-Za-z0-9_$.\x80-\U0010ffff])(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)""",
    re.VERBOSE,
)
_MARKERS: Final = tuple(f"${number}" for number in range(1, LITERALS_MAX + 2))
_VERBS: Final = frozenset(("select", "insert", "update", "delete"))
_MAY_PRECEDE: Final = frozenset(
    (
        "=",
        "<",
        ">",
        "<=",
        ">=",
        "<>",
        "+",
        "-",
        "*",
        "/",
        "%",
        "(",
        ",",
        "OP",
        "and",
        "or",
        "not",
        "where",
        "select",
        "when",
        "then",
        "else",
        "between",
        "limit",
        "offset",
        "on",
        "having",
    )
)
_FORBIDDEN: Final = frozenset(
    (
        "interval",
        "extract",
        "overlay",
        "position",
        "trim",
        "substring",
        "normalize",
        "like",
        "ilike",
        "similar",
        "escape",
        "rows",
        "range",
        "groups",
        "fetch",
        "within",
        "grouping",
        "rollup",
        "cube",
        "tablesample",
        "with",
        "with_la",
        "collate",
        "array",
        "row",
        "ERROR",
        "SCONST",
        "ICONST",
        "FCONST",
        "BCONST",
        "[",
        "xmlparse",
    )
)
_CLOCKS: Final = frozenset(("current_time", "current_timestamp", "localtime", "localtimestamp"))
_ENDS_SORTING: Final = frozenset(("limit", "offset", "having", "returning"))
# With its minus sign, a literal of just this size is of the smaller type.
_EDGES: Final = frozenset(("2147483648", "9223372036854775808"))


def normalize_literals(text: str) -> tuple[str, tuple[tuple[LiteralKind, str], ...]] | None:
    """Replace the literals by ``$1``, ``$2``...; None when that could change the meaning.

    Each literal is (kind, value): digits as written, or the string with its quotes undone. A
    trailing semicolon is dropped.
    """
    if "$" in text or len(text) > TEXT_CHARACTERS_MAX:
        return None
    parts = _CUT.split(text)
    literals: list[tuple[LiteralKind, str]] = []
    for index in range(1, len(parts), 2):
        literal = parts[index]
        first = literal[0]
        if first == "'":
            value = literal[1:-1]
            literals.append(("string", value.replace("''", "'") if "'" in value else value))
        elif first == '"':
            continue
        elif len(literal) < 10 and literal.isdigit():
            literals.append(("int4", literal))
        else:
            if literal in _EDGES:
                return None
            literals.append((_number_kind(literal), literal))
        if len(literals) > LITERALS_MAX:
            return None
        parts[index] = _MARKERS[len(literals) - 1]
    shape = _shape("".join(parts))
    return None if shape is None else (shape, tuple(literals))


def _number_kind(text: str) -> LiteralKind:
    if not text.isdigit():
        return "numeric"
    value = int(text)
    return "int4" if value < 2**31 else "int8" if value < 2**63 else "numeric"


@lru_cache(maxsize=VERDICTS_MAX)
def _shape(text: str) -> str | None:
    """Return the text without its semicolon if every parameter in it may stand for its literal."""
    if "--" in text or "/*" in text or "&$" in text:
        # The last may have been U&'x'.
        return None
    tokens = tokenize(text)
    kinds = tokens.kinds
    if text.count("$") != kinds.count("PARAM"):
        # A literal stood against a word, as in E'x': the marker became part of the word.
        return None
    end = kinds.index("EOF")
    if end and kinds[end - 1] == ";":
        end -= 1
    if kinds[0] not in _VERBS or ";" in kinds[:end] or not _FORBIDDEN.isdisjoint(kinds):
        return None
    if kinds[0] == "select" and "into" in kinds:
        return None
    is_sorting = False
    openers: list[int] = []
    for index in range(end):
        kind = kinds[index]
        if kind == "(":
            openers.append(index)
        elif kind == ")" and openers:
            openers.pop()
        elif kind == "by":
            is_sorting = True
        elif kind in _ENDS_SORTING:
            is_sorting = False
        elif kind == "PARAM" and (
            is_sorting
            or kinds[index - 1] not in _MAY_PRECEDE
            or kinds[index + 1] == "."
            or (openers and not _may_hold_literals(kinds, openers[-1]))
        ):
            return None
    return text[: tokens.ends[end - 1]]


def _may_hold_literals(kinds: list[str], opener: int) -> bool:
    """Tell arguments and value lists from type modifiers, precisions and DISTINCT ON."""
    before = kinds[opener - 1]
    if before in SPECIAL_TYPES or before in _CLOCKS:
        return False
    if before == "on" and kinds[opener - 2] == "distinct":
        return False
    name = opener - 1
    while kinds[name - 1] == ".":
        name -= 2
    return kinds[name - 1] not in ("::", "as")
