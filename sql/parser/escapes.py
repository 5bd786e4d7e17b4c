"""Backslash escapes of E'...' strings and Unicode escapes of U&'...' and U&"...".

Both decoders take the raw body and the offset of its first character in the statement, for error
positions. Doubled quotes are undone here too. Source: PostgreSQL docs, "Lexical Structure".
"""

import re
from typing import Final

from sql.errors import CharacterNotInRepertoire, InvalidEscapeSequence, SqlError, SqlSyntaxError

_ESCAPE: Final = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})"
    r"|([uU][0-9A-Fa-f]*)|(.))|''",
    re.DOTALL,
)
_SINGLE: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HIGH_FIRST, _LOW_FIRST, _LOW_END = 0xD800, 0xDC00, 0xE000


def near(message: str, text: str, start: int, end: int) -> SqlSyntaxError:
    """Return the 42601 that quotes ``text[start:end]``, or says "at end of input"."""
    where = f'at or near "{text[start:end]}"' if start < len(text) else "at end of input"
    return SqlSyntaxError(f"{message} {where}", position=start + 1)


def invalid_bytes(raw: bytes) -> SqlError:
    """Return the 22021 for bytes that are not UTF-8 (or hold a zero byte)."""
    shown = " ".join(f"0x{byte:02x}" for byte in raw)
    return CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": {shown}')


def decode_escapes(text: str, start: int, end: int) -> str:
    r"""Decode ``text[start:end]``, the body of an E'...' string.

    Octal and hexadecimal escapes give bytes, which must be UTF-8 together with their surroundings
    (22021); ``\u`` gives a character,
    two of them a surrogate pair (42601), and must be complete (22025).
    """
    out = bytearray()
    position, high = start, 0
    has_bytes = False
    for match in _ESCAPE.finditer(text, start, end):
        at = match.start()
        if high and (at > position or match.lastindex not in (3, 4)):
            raise near(
                "invalid Unicode surrogate pair", text, position, at if at > position else at + 1
            )
        out += text[position:at].encode()
        position = match.end()
        kind = match.lastindex
        if kind in (3, 4):
            code = int(match[kind], 16)
            high = _put_code_point(out, code, high, (text, at, position))
        elif kind in (1, 2):
            has_bytes = True
            out.append(int(match[kind], 8 if kind == 1 else 16) & 0xFF)
        elif kind == 5:
            raise InvalidEscapeSequence(
                "invalid Unicode escape",
                position=at + 1,
                hint="Unicode escapes must be \\uXXXX or \\UXXXXXXXX.",
            )
        else:
            out += (_SINGLE.get(match[6], match[6]) if kind == 6 else "'").encode()
    if high:
        raise near("invalid Unicode surrogate pair", text, position, position + 1)
    out += text[position:end].encode()
    return _checked(bytes(out)) if has_bytes else out.decode()


def _put_code_point(out: bytearray, code: int, high: int, token: tuple[str, int, int]) -> int:
    """Append one escaped character, or return its high surrogate to be joined with the next."""
    is_low = _LOW_FIRST <= code < _LOW_END
    if bool(high) != is_low:
        raise near("invalid Unicode surrogate pair", *token)
    if is_low:
        code = ((high - _HIGH_FIRST) << 10) + (code - _LOW_FIRST) + 0x10000
    elif _HIGH_FIRST <= code < _LOW_FIRST:
        return code
    if not 0 < code <= 0x10FFFF:
        raise near("invalid Unicode escape value", *token)
    out += chr(code).encode()
    return 0


def _checked(raw: bytes) -> str:
    zero = raw.find(0)
    try:
        decoded = raw.decode()
    except UnicodeDecodeError as error:
        if 0 <= zero < error.start:
            raise invalid_bytes(b"\0") from None
        lead = raw[error.start]
        length = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        if lead >= 0xF8:
            length = 1
        raise invalid_bytes(raw[error.start : error.start + length]) from None
    if zero >= 0:
        raise invalid_bytes(b"\0")
    return decoded


def decode_unicode(body: str, start: int, escape: str) -> str:
    """Decode the body of U&'...' or U&"..." (quotes already undone) with ``escape`` as its escape.

    Raises 42601 for incomplete or impossible escapes, at their place counted from ``start``.
    """
    if escape not in body:
        return body
    out: list[str] = []
    index, high = 0, 0
    while index < len(body):
        character = body[index]
        if character != escape or body[index + 1 : index + 2] == escape:
            if high:
                raise SqlSyntaxError("invalid Unicode surrogate pair", position=start + index + 1)
            out.append(character)
            index += 2 if character == escape else 1
            continue
        long = body[index + 1 : index + 2] == "+"
        digits = body[index + 2 : index + 8] if long else body[index + 1 : index + 5]
        if len(digits) != (6 if long else 4) or not re.fullmatch("[0-9A-Fa-f]+", digits):
            raise SqlSyntaxError(
                "invalid Unicode escape",
                position=start + index + 1,
                hint="Unicode escapes must be \\XXXX or \\+XXXXXX.",
            )
        code = int(digits, 16)
        is_low = _LOW_FIRST <= code < _LOW_END
        if bool(high) != is_low:
            raise SqlSyntaxError("invalid Unicode surrogate pair", position=start + index + 1)
        if is_low:
            code = ((high - _HIGH_FIRST) << 10) + (code - _LOW_FIRST) + 0x10000
            high = 0
        elif _HIGH_FIRST <= code < _LOW_FIRST:
            high = code
        elif not 0 < code <= 0x10FFFF:
            raise SqlSyntaxError("invalid Unicode escape value", position=start + index + 1)
        if not high:
            out.append(chr(code))
        index += 8 if long else 5
    if high:
        raise SqlSyntaxError("invalid Unicode surrogate pair", position=start + index + 1)
    return "".join(out)
