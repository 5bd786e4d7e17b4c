"""Cuts what is typed into statements: at semicolons outside quotes, comments and parentheses.

The client needs no more of SQL's grammar than psql does. Source: PostgreSQL documentation,
"Lexical Structure" and "psql".
"""

from __future__ import annotations

import re
from typing import Final

# What can hide a semicolon begins with one of these.
_SPECIAL: Final = re.compile(r"""'|"|--|/\*|\$(?:[A-Za-z_\x80-\U0010ffff][\w]*)?\$|[();]""")
_COMMENT_MARK: Final = re.compile(r"/\*|\*/")
_ESCAPE_PREFIX: Final = re.compile(r"(?:^|[^\w$])[eE]$")


class Splitter:
    """Takes lines, gives statements. What is left over is a statement still being typed."""

    def __init__(self) -> None:
        self._text = ""

    @property
    def pending(self) -> str:
        """What has been fed and not been ended by a semicolon yet."""
        return self._text.strip()

    def clear(self) -> None:
        """Forget what is pending."""
        self._text = ""

    def feed(self, text: str) -> list[str]:
        """Add text; returns the statements that it ends, without their semicolons."""
        self._text += text
        statements = []
        start = 0
        while (end := find_end(self._text, start)) is not None:
            statement = self._text[start:end].strip()
            if not is_blank(statement):
                statements.append(statement)
            start = end + 1
        self._text = self._text[start:]
        if is_blank(self._text) and not _has_open_comment(self._text):
            self._text = ""
        return statements


def find_end(text: str, start: int = 0) -> int | None:
    """Return where the semicolon is that ends the statement at ``start``; None: not ended yet."""
    depth = 0
    position = start
    while (found := _SPECIAL.search(text, position)) is not None:
        mark = found[0]
        if mark == ";" and depth == 0:
            return found.start()
        following = _skip(text, found)
        if following is None:
            return None
        depth = max(depth + {"(": 1, ")": -1}.get(mark, 0), 0)
        position = following
    return None


def _skip(text: str, found: re.Match[str]) -> int | None:
    """Return where the thing that begins here ends; None if its end is not there yet."""
    mark, start, after = found[0], found.start(), found.end()
    if mark == "'":
        has_escapes = _ESCAPE_PREFIX.search(text[max(start - 2, 0) : start]) is not None
        return _string_end(text, after, has_escapes=has_escapes)
    if mark == '"':
        return _after(text.find('"', after), 1)
    if mark == "--":
        return _after(text.find("\n", after), 1)
    if mark == "/*":
        return _comment_end(text, after)
    if mark.startswith("$"):
        if start and (text[start - 1].isalnum() or text[start - 1] in "_$"):
            return start + 1  # a dollar within a name begins no quote
        return _after(text.find(mark, after), len(mark))
    return after


def _after(position: int, length: int) -> int | None:
    return None if position < 0 else position + length


def _string_end(text: str, position: int, *, has_escapes: bool) -> int | None:
    while position < len(text):
        if has_escapes and text[position] == "\\":
            position += 2
        elif text[position] == "'":
            return position + 1  # of two in a row, the second begins the string's other half
        else:
            position += 1
    return None


def _comment_end(text: str, position: int) -> int | None:
    depth = 1
    while depth:
        found = _COMMENT_MARK.search(text, position)
        if found is None:
            return None
        depth += 1 if found[0] == "/*" else -1
        position = found.end()
    return position


def is_blank(text: str) -> bool:
    """Tell whether there is nothing but white space and comments."""
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        found = _SPECIAL.match(text, position)
        if found is None or found[0] not in {"--", "/*"}:
            return False
        following = _skip(text, found)
        if following is None:
            return True
        position = following
    return True


def _has_open_comment(text: str) -> bool:
    return text.rfind("/*") >= 0 and find_end(text + ";") is None
