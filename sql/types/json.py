"""JSON text: validation, trees, and ``jsonb``'s canonical form.

Trees: objects are ``JsonObject`` (pairs in order, duplicates kept) from ``parse_json`` and ``dict``
(last one wins, keys by length in bytes, then bytes) from ``jsonb_parse``; arrays are ``list``;
numbers are ``int`` or ``Decimal`` with their scale; ``true``, ``false`` and ``null`` are Python's.

Source: PostgreSQL docs, "JSON Types"; RFC 8259.
"""

import json as _json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from sql.errors import InvalidTextRepresentation, StatementTooComplex, UntranslatableCharacter
from sql.types.numeric import numeric_in, numeric_out

JsonTree = Any
NESTING_MAX: Final = 900


class JsonObject(tuple[tuple[str, JsonTree], ...]):
    """The pairs of an object as written."""

    __slots__ = ()


class _NotJson(Exception):
    """The quick scanner refused: read again slowly for the exact error."""


def _refuse_constant(_: str) -> JsonTree:
    raise _NotJson


def _number(text: str) -> int | Decimal:
    return int(text) if len(text) < 4000 and text != "-0" else numeric_in(text)


def _sorted_dict(pairs: list[tuple[str, JsonTree]]) -> dict[str, JsonTree]:
    if len(pairs) < 2:
        return dict(pairs)
    tree = dict(pairs)
    return {key: tree[key] for key in sorted(tree, key=_key_order)}


def _key_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode()
    return len(encoded), encoded


def _decoder(
    make_object: Callable[[list[tuple[str, JsonTree]]], JsonTree],
    make_float: Callable[[str], Decimal],
) -> Callable[[str], JsonTree]:
    return _json.JSONDecoder(
        object_pairs_hook=make_object,
        parse_int=_number,
        parse_float=make_float,
        parse_constant=_refuse_constant,
    ).decode


_decode_pairs: Final = _decoder(JsonObject, Decimal)
_decode_dict: Final = _decoder(_sorted_dict, numeric_in)
_CONTROL_ESCAPES: Final = {
    **{code: f"\\u{code:04x}" for code in range(32)},
    8: "\\b",
    9: "\\t",
    10: "\\n",
    12: "\\f",
    13: "\\r",
    34: '\\"',
    92: "\\\\",
}
_NEEDS_ESCAPE: Final = re.compile(r'[\x00-\x1f"\\]')


def validate_json(text: str) -> None:
    """Check ``json`` input. Raises 22P02 with the offending token in the detail, 54001."""
    parse_json(text)


def parse_json(text: str) -> JsonTree:
    """Read JSON, keeping order and duplicate keys. Escapes that ``jsonb`` refuses pass."""
    if "\\u" in text:
        return _Scanner(text, strict=False).read(JsonObject)
    try:
        return _decode_pairs(text)
    except (ValueError, _NotJson, RecursionError):
        return _Scanner(text, strict=False).read(JsonObject)


def check_escapes(text: str) -> None:
    """Raise what de-escaping valid JSON would: 22P02 for half a surrogate pair, 22P05."""
    if "\\u" in text:
        _Scanner(text, strict=True).read(JsonObject)


def jsonb_parse(text: str) -> JsonTree:
    r"""Read JSON as ``jsonb`` does. Raises 22P02, 22P05 for ``\u0000``, 22003, 54001."""
    if "\\u" in text:
        return _Scanner(text, strict=True).read(_sorted_dict)
    try:
        return _decode_dict(text)
    except (ValueError, _NotJson, RecursionError):
        return _Scanner(text, strict=True).read(_sorted_dict)


def jsonb_in(text: str) -> str:
    """Return the canonical text of ``jsonb`` input."""
    return jsonb_canonical(jsonb_parse(text))


def quote_json(text: str) -> str:
    """Write a JSON string literal with PostgreSQL's choice of escapes."""
    if _NEEDS_ESCAPE.search(text):
        text = text.translate(_CONTROL_ESCAPES)
    return f'"{text}"'


def jsonb_canonical(tree: JsonTree) -> str:
    """Write a tree as ``jsonb`` prints it: sorted keys, ``", "`` and ``": "``."""
    match tree:
        case None:
            return "null"
        case True:
            return "true"
        case False:
            return "false"
        case str():
            return quote_json(tree)
        case int():
            return str(tree)
        case Decimal():
            return numeric_out(tree)
        case JsonObject():
            return _object_text(_sorted_dict(list(tree)))
        case dict():
            return _object_text(_sorted_dict(list(tree.items())))
        case list() | tuple():
            return "[" + ", ".join([jsonb_canonical(item) for item in tree]) + "]"
        case _:
            raise AssertionError(f"not a JSON tree: {tree!r}")


def _object_text(tree: dict[str, JsonTree]) -> str:
    return (
        "{" + ", ".join([f"{quote_json(key)}: {jsonb_canonical(tree[key])}" for key in tree]) + "}"
    )


def jsonb_order(text: str) -> tuple[Any, ...]:
    """Return a key that sorts canonical ``jsonb`` as PostgreSQL does.

    Object > array > boolean > number > string > null; containers by number of members, then by
    members. A scalar counts as an array of one, so the empty array is below every scalar.
    """
    tree = jsonb_parse(text)
    if isinstance(tree, list | dict):
        return _tree_order(tree)
    return (16, 1, 0, _tree_order(tree))


def _tree_order(tree: JsonTree) -> tuple[Any, ...]:
    match tree:
        case None:
            return (0,)
        case str():
            return (1, tree)
        case bool():
            return (3, tree)
        case int() | Decimal():
            return (2, tree)
        case list():
            return (16, len(tree), 1, *map(_tree_order, tree))
        case _:
            pairs: list[Any] = []
            for key, value in tree.items():
                pairs += (key, _tree_order(value))
            return (17, len(tree), *pairs)


_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SPACES: Final = re.compile(r"[ \t\n\r]*")
_WORD: Final = re.compile(r"[0-9A-Za-z_\x80-\U0010ffff]+")
_NUMBER_TAIL: Final = re.compile(
    r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]*)?[0-9A-Za-z_\x80-\U0010ffff]*"
)
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_SIMPLE_ESCAPES: Final = {
    '"': '"',
    "\\": "\\",
    "/": "/",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}
_CONSTANTS: Final = {"true": True, "false": False, "null": None}


class _Scanner:
    """A slow, exact reader: it knows PostgreSQL's error for every fault.

    ``strict`` is ``jsonb``'s reading, which must turn escapes into characters.
    """

    def __init__(self, text: str, *, strict: bool) -> None:
        self._text = text
        self._strict = strict
        self._at = 0
        self._depth = 0

    def read(self, make_object: Callable[[list[tuple[str, JsonTree]]], JsonTree]) -> JsonTree:
        """Read the whole text as one value."""
        self._make_object = make_object
        tree = self._value(None)
        self._space()
        if self._at < len(self._text):
            raise self._expected("end of input")
        return tree

    def _space(self) -> None:
        match = _SPACES.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _peek(self) -> str:
        self._space()
        return self._text[self._at : self._at + 1]

    def _value(self, instead: str | None) -> JsonTree:
        """Read a value; ``instead`` names what else may stand here, for the error's detail."""
        char = self._peek()
        if char == "{":
            return self._nested(self._object)
        if char == "[":
            return self._nested(self._array)
        if char == '"':
            return self._string()
        if char.isascii() and (char.isdigit() or char == "-"):
            return self._read_number()
        word = _WORD.match(self._text, self._at)
        if word is not None and word.group() in _CONSTANTS:
            self._at = word.end()
            return _CONSTANTS[word.group()]
        raise self._expected(instead or "JSON value")

    def _nested(self, read: Callable[[], JsonTree]) -> JsonTree:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise StatementTooComplex("stack depth limit exceeded")
        try:
            return read()
        except RecursionError:
            raise StatementTooComplex("stack depth limit exceeded") from None
        finally:
            self._depth -= 1

    def _object(self) -> JsonTree:
        self._at += 1
        pairs: list[tuple[str, JsonTree]] = []
        if self._peek() == "}":
            self._at += 1
            return self._make_object(pairs)
        while True:
            if self._peek() != '"':
                raise self._expected("string" if pairs else 'string or "}"')
            key = self._string()
            if self._peek() != ":":
                raise self._expected('":"')
            self._at += 1
            pairs.append((key, self._value(None)))
            char = self._peek()
            if char not in (",", "}"):
                raise self._expected('"," or "}"')
            self._at += 1
            if char == "}":
                return self._make_object(pairs)

    def _array(self) -> JsonTree:
        self._at += 1
        items: list[JsonTree] = []
        if self._peek() == "]":
            self._at += 1
            return items
        while True:
            items.append(self._value(None))
            char = self._peek()
            if char not in (",", "]"):
                raise self._expected('"," or "]"')
            self._at += 1
            if char == "]":
                return items

    def _read_number(self) -> JsonTree:
        match = _JSON_NUMBER.match(self._text, self._at)
        tail = _NUMBER_TAIL.match(self._text, self._at)
        assert tail is not None
        if match is None or match.end() != tail.end():
            raise self._token_error(tail.group())
        self._at = match.end()
        text = match.group()
        if text.lstrip("-").isdigit():
            return _number(text)
        return numeric_in(text) if self._strict else Decimal(text)

    def _string(self) -> str:
        text, start = self._text, self._at
        at = start + 1
        parts: list[str] = []
        while True:
            match = _PLAIN.match(text, at)
            assert match is not None
            parts.append(match.group())
            at = match.end()
            char = text[at : at + 1]
            if char == '"':
                self._at = at + 1
                return "".join(parts)
            if char == "":
                raise self._token_error(text[start:])
            if char != "\\":
                raise self._fault(f"Character with value 0x{ord(char):02x} must be escaped.")
            piece, at = self._escape(at)
            parts.append(piece)

    def _escape(self, at: int) -> tuple[str, int]:
        """Read the escape at the backslash ``at``; return its text and where it ends."""
        letter = self._text[at + 1 : at + 2]
        if letter == "":
            raise self._token_error(self._text[self._at :])
        if letter in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[letter], at + 2
        if letter != "u":
            raise self._fault(f'Escape sequence "\\{letter}" is invalid.')
        code = self._hex(at)
        if not self._strict and (code == 0 or 0xD800 <= code < 0xE000):
            return self._text[at : at + 6], at + 6
        if code == 0:
            raise UntranslatableCharacter(
                "unsupported Unicode escape sequence",
                detail="\\u0000 cannot be converted to text.",
            )
        if 0xDC00 <= code < 0xE000:
            raise self._fault("Unicode low surrogate must follow a high surrogate.")
        if code < 0xD800 or code >= 0xE000:
            return chr(code), at + 6
        if self._text[at + 6 : at + 8] != "\\u":
            raise self._fault("Unicode low surrogate must follow a high surrogate.")
        low = self._hex(at + 6)
        if 0xD800 <= low < 0xDC00:
            raise self._fault("Unicode high surrogate must not follow a high surrogate.")
        if not 0xDC00 <= low < 0xE000:
            raise self._fault("Unicode low surrogate must follow a high surrogate.")
        return chr(0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF)), at + 12

    def _hex(self, at: int) -> int:
        digits = self._text[at + 2 : at + 6]
        if re.fullmatch("[0-9a-fA-F]{4}", digits) is None:
            raise self._fault('"\\u" must be followed by four hexadecimal digits.')
        return int(digits, 16)

    def _fault(self, detail: str) -> InvalidTextRepresentation:
        return InvalidTextRepresentation("invalid input syntax for type json", detail=detail)

    def _token_error(self, token: str) -> InvalidTextRepresentation:
        return self._fault(f'Token "{token}" is invalid.')

    def _expected(self, what: str) -> InvalidTextRepresentation:
        """Return the error for the token here, or for the end of the text."""
        char = self._peek()
        if char == "":
            return self._fault("The input string ended unexpectedly.")
        if char in "{}[],:":
            token = char
        elif char == '"':
            start = self._at
            self._string()
            token = self._text[start : self._at]
        elif char.isascii() and (char.isdigit() or char == "-"):
            start = self._at
            self._read_number()
            token = self._text[start : self._at]
        else:
            word = _WORD.match(self._text, self._at)
            if word is None:
                return self._token_error(char)
            token = word.group()
            if token not in _CONSTANTS:
                return self._token_error(token)
        return self._fault(f'Expected {what}, but found "{token}".')
