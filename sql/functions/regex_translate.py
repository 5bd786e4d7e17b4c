"""PostgreSQL's regular expressions (POSIX advanced, extended and basic quoting) as Python patterns.

``compile_regex`` is cached. Capture groups keep their numbers. Differs from PostgreSQL: where
alternatives match different lengths the first one wins, not the longest; a non-greedy quantifier
makes only itself prefer the shortest match; a lookbehind must have a fixed width (0A000).

Source: PostgreSQL docs, "POSIX Regular Expressions", "Regular Expression Metasyntax".
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from sql.errors import FeatureNotSupported, InvalidParameterValue, InvalidRegularExpression

REPETITIONS_MAX: Final = 255
_CLASSES: Final = {
    "alnum": r"^\W_",
    "alpha": r"^\W\d_",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f-\x9f",
    "digit": r"\d",
    "graph": r"^\s\x00-\x1f\x7f-\x9f",
    "lower": "a-zß-öø-ÿа-яёα-ω",
    "print": r"^\x00-\x1f\x7f-\x9f",
    "punct": r"!-/:-@\[-`{-~¡-¿",
    "space": r"\s",
    "upper": "A-ZÀ-ÖØ-ÞА-ЯЁΑ-Ω",
    "xdigit": "0-9a-fA-F",
    "word": r"\w",
}
_ASCII_CLASSES: Final = {
    **_CLASSES,
    "cntrl": r"\x00-\x1f\x7f",
    "graph": r"^\s\x00-\x1f\x7f-\U0010ffff",
    "lower": "a-z",
    "print": r"^\x00-\x1f\x7f-\U0010ffff",
    "punct": r"!-/:-@\[-`{-~",
    "upper": "A-Z",
}
_SIMPLE_ESCAPES: Final = {
    "a": "\a", "b": "\b", "B": "\\", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",  # noqa: E501
}  # fmt: skip
_CONSTRAINTS: Final = {
    "A": r"\A", "Z": r"\Z", "m": r"\b(?=\w)", "M": r"\b(?<=\w)", "y": r"\b", "Y": r"\B",
}  # fmt: skip
_CLASS_ESCAPES: Final = frozenset("dswDSW")


@dataclass(frozen=True, slots=True)
class RegexFlags:
    """How a pattern reads: ``kind`` is a (advanced), e (extended).

    B (basic) or q (a literal string).
    """

    kind: str = "a"
    ignore_case: bool = False
    dot_excludes_newline: bool = False
    anchors_at_lines: bool = False
    expanded: bool = False
    ascii_only: bool = False
    """Only ASCII letters are letters or have a case: the C collation."""


DEFAULT_FLAGS: Final = RegexFlags()


def regex_error(reason: str) -> InvalidRegularExpression:
    """Return the 2201B error for a fault in a pattern."""
    return InvalidRegularExpression(f"invalid regular expression: {reason}")


def apply_flag(flags: RegexFlags, letter: str) -> RegexFlags | None:
    """Apply one option letter; None for an unknown one."""
    match letter:
        case "i":
            return replace(flags, ignore_case=True)
        case "c":
            return replace(flags, ignore_case=False)
        case "n" | "m":
            return replace(flags, dot_excludes_newline=True, anchors_at_lines=True)
        case "s":
            return replace(flags, dot_excludes_newline=False, anchors_at_lines=False)
        case "p":
            return replace(flags, dot_excludes_newline=True, anchors_at_lines=False)
        case "w":
            return replace(flags, dot_excludes_newline=False, anchors_at_lines=True)
        case "x":
            return replace(flags, expanded=True)
        case "t":
            return replace(flags, expanded=False)
        case "q":
            return replace(flags, kind="q")
        case "e":
            return replace(flags, kind="e")
        case "b":
            return replace(flags, kind="b")
        case _:
            pass
    return None


def parse_flags(text: str) -> tuple[RegexFlags, bool]:
    """Read a flags argument; return the flags and whether ``g`` was among them. Raises 22023."""
    flags, is_global = DEFAULT_FLAGS, False
    for letter in text:
        if letter == "g":
            is_global = True
            continue
        changed = apply_flag(flags, letter)
        if changed is None:
            raise InvalidParameterValue(f'invalid regular expression option: "{letter}"')
        flags = changed
    return flags, is_global


@lru_cache(maxsize=1024)
def compile_regex(pattern: str, flags: RegexFlags = DEFAULT_FLAGS) -> re.Pattern[str]:
    """Compile; 2201B for a pattern that PostgreSQL refuses."""
    if flags.kind != "q":
        pattern, flags = _read_prefix(pattern, flags)
    text = re.escape(pattern) if flags.kind == "q" else _Translator(pattern, flags).translate()
    try:
        options = re.IGNORECASE if flags.ignore_case else re.NOFLAG
        return re.compile(text, options | re.ASCII if flags.ascii_only else options)
    except re.error as error:
        if "look-behind" in str(error):
            raise FeatureNotSupported(
                "lookbehind constraints of variable width are not supported"
            ) from None
        raise regex_error("invalid regular expression") from None
    except (OverflowError, RecursionError):
        raise regex_error("regular expression is too complex") from None


def _read_prefix(pattern: str, flags: RegexFlags) -> tuple[str, RegexFlags]:
    if pattern.startswith("***="):
        return pattern[4:], replace(flags, kind="q")
    if pattern.startswith("***:"):
        pattern, flags = pattern[4:], replace(flags, kind="a")
    elif pattern.startswith("***"):
        raise regex_error("quantifier operand invalid")
    options = re.match(r"\(\?([a-z]+)\)", pattern) if flags.kind == "a" else None
    if options is None:
        return pattern, flags
    for letter in options[1]:
        changed = apply_flag(flags, letter)
        if changed is None:
            raise regex_error("invalid embedded option")
        flags = changed
    return pattern[options.end() :], flags


class _Translator:
    """One pass over a pattern, left to right, writing Python's spelling."""

    def __init__(self, pattern: str, flags: RegexFlags) -> None:
        self._pattern = pattern
        self._flags = flags
        self._at = 0
        self._groups = 0
        self._out: list[str] = []

    def translate(self) -> str:
        """Return the Python pattern."""
        self._branches(depth=0)
        if self._at < len(self._pattern):
            raise regex_error("parentheses () not balanced")
        return "".join(self._out)

    def _peek(self, length: int = 1) -> str:
        return self._pattern[self._at : self._at + length]

    def _branches(self, depth: int) -> None:
        """Read alternatives up to the closing parenthesis or the end."""
        quantifiable = False
        basic = self._flags.kind == "b"
        while self._at < len(self._pattern):
            char = self._pattern[self._at]
            if basic and char == "\\" and self._peek(2)[1:] in ("(", ")", "{"):
                char = self._peek(2)
            if char == (r"\)" if basic else ")"):
                if depth or self._flags.kind == "a":
                    return
                self._literal(")")
                quantifiable = True
                self._at += 1
                continue
            quantifiable = self._item(char, quantifiable=quantifiable, depth=depth)

    def _item(self, char: str, *, quantifiable: bool, depth: int) -> bool:
        """Translate one item; return whether a quantifier may follow."""
        basic = self._flags.kind == "b"
        if char == (r"\(" if basic else "("):
            return self._group(depth, len(char))
        if self._is_quantifier(char):
            if not quantifiable:
                if basic and char == "*":
                    self._at += 1
                    self._literal("*")
                    return True
                raise regex_error("quantifier operand invalid")
            self._quantifier(basic=basic)
            return False
        self._at += 1
        match char:
            case "|" if not basic:
                self._out.append("|")
                return False
            case ".":
                self._out.append("[^\\n]" if self._flags.dot_excludes_newline else "(?s:.)")
            case "^" if not basic or not quantifiable:
                self._out.append("(?m:^)" if self._flags.anchors_at_lines else r"\A")
                return False
            case "$" if not basic or self._at == len(self._pattern):
                self._out.append("(?m:$)" if self._flags.anchors_at_lines else r"\Z")
                return False
            case "[":
                return self._bracket()
            case "\\":
                return self._escape()
            case _ if self._flags.expanded and (char.isspace() or char == "#"):
                if char == "#":
                    end = self._pattern.find("\n", self._at)
                    self._at = len(self._pattern) if end < 0 else end
                return quantifiable
            case _:
                self._literal(char)
        return True

    def _literal(self, char: str) -> None:
        self._out.append(re.escape(char))

    def _is_quantifier(self, char: str) -> bool:
        if self._flags.kind == "b":
            return char in ("*", r"\{")
        if char == "{":
            # In advanced syntax a brace not followed by a digit is an ordinary character.
            return self._peek(2)[1:].isdigit() or self._flags.kind == "e"
        return char in ("*", "+", "?")

    def _group(self, depth: int, length: int) -> bool:
        opening = "("
        constraint = False
        self._at += length
        if self._flags.kind == "a" and self._peek() == "?":
            for prefix in ("?:", "?=", "?!", "?<=", "?<!", "?#"):
                if self._peek(len(prefix)) == prefix:
                    break
            else:
                raise regex_error("quantifier operand invalid")
            if prefix == "?#":
                end = self._pattern.find(")", self._at)
                if end < 0:
                    raise regex_error("parentheses () not balanced")
                self._at = end + 1
                return False
            opening += prefix
            constraint = prefix != "?:"
            self._at += len(prefix)
        else:
            self._groups += 1
        self._out.append(opening)
        self._branches(depth + 1)
        if self._at >= len(self._pattern):
            raise regex_error("parentheses () not balanced")
        self._at += length
        self._out.append(")")
        return not constraint

    def _quantifier(self, *, basic: bool) -> None:
        char = self._peek()
        if char in "{\\":
            match = re.compile(r"\\?\{(\d+)(,(\d*))?(\\?\})").match(self._pattern, self._at)
            if match is None:
                closed = "}" in self._pattern[self._at :]
                raise regex_error(
                    "invalid repetition count(s)" if closed else "braces {} not balanced"
                )
            low = int(match[1])
            high = int(match[3]) if match[3] else low if match[2] is None else REPETITIONS_MAX
            if low > high or high > REPETITIONS_MAX or low > REPETITIONS_MAX:
                raise regex_error("invalid repetition count(s)")
            self._at = match.end()
            unlimited = match[2] is not None and not match[3]
            self._out.append(f"{{{low},{'' if unlimited else high}}}")
        else:
            self._at += 1
            self._out.append(char)
        if not basic and self._flags.kind == "a" and self._peek() == "?":
            self._at += 1
            self._out.append("?")

    def _escape(self) -> bool:
        """Translate what follows a backslash."""
        char = self._peek()
        if not char:
            raise regex_error("invalid escape \\ sequence")
        if self._flags.kind != "a":
            self._at += 1
            self._literal(char)
            return True
        if char in _CONSTRAINTS:
            self._at += 1
            self._out.append(_CONSTRAINTS[char])
            return False
        if char in _CLASS_ESCAPES:
            self._at += 1
            self._out.append("\\" + char)
            return True
        if char in "123456789":
            reference = re.compile(r"\d+").match(self._pattern, self._at)
            assert reference is not None
            number = int(reference[0])
            if number < 10 or number <= self._groups:
                if number > self._groups:
                    raise regex_error("invalid backreference number")
                self._at = reference.end()
                self._out.append(f"(?:\\{number})")
                return True
        self._literal(self._character_escape())
        return True

    def _character_escape(self) -> str:
        """Read the escape of one character; stands after the backslash."""
        char = self._peek()
        if char in _SIMPLE_ESCAPES:
            self._at += 1
            return _SIMPLE_ESCAPES[char]
        match = re.compile(
            r"u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]+)|([0-7]{1,3})|c(.)", re.DOTALL
        ).match(self._pattern, self._at)
        if match is not None:
            self._at = match.end()
            if match[5]:
                return chr(ord(match[5]) & 0x1F)
            code = int(match[4], 8) if match[4] else int(match[1] or match[2] or match[3], 16)
            if code > 0x10FFFF:
                raise regex_error("invalid escape \\ sequence")
            return chr(code)
        if char.isalnum() or not char:
            raise regex_error("invalid escape \\ sequence")
        self._at += 1
        return char

    def _bracket(self) -> bool:
        """Translate a bracket expression; stands after ``[``."""
        for marker, constraint in (("[:<:]]", r"\b(?=\w)"), ("[:>:]]", r"\b(?<=\w)")):
            if self._peek(6) == marker:
                self._at += 6
                self._out.append(constraint)
                return False
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        parts: list[str] = []
        complements: list[str] = []
        first = True
        while first or self._peek() != "]":
            if self._at >= len(self._pattern):
                raise regex_error("brackets [] not balanced")
            first = False
            self._bracket_item(parts, complements)
        self._at += 1
        self._out.append(self._bracket_text(parts, complements, negated=negated))
        return True

    def _bracket_text(self, parts: list[str], complements: list[str], *, negated: bool) -> str:
        # A class that is itself a complement cannot stand inside brackets: it becomes an
        # alternative.
        choices = [f"[{''.join(parts)}]"] if parts else []
        choices += [f"[{complement}]" for complement in complements]
        if not negated:
            return choices[0] if len(choices) == 1 else f"(?:{'|'.join(choices)})"
        newline = r"\n" if self._flags.dot_excludes_newline else ""
        if len(choices) == 1 and parts:
            return f"[^{''.join(parts)}{newline}]"
        excluded = "|".join([*choices, newline] if newline else choices)
        return f"(?:(?!{excluded})(?s:.))"

    def _bracket_item(self, parts: list[str], complements: list[str]) -> None:
        if self._peek(2) == "[:":
            name = self._delimited(":")
            members = (_ASCII_CLASSES if self._flags.ascii_only else _CLASSES).get(name)
            if members is None:
                raise regex_error("invalid character class")
            (complements if members.startswith("^") else parts).append(members)
            return
        if self._peek() == "\\" and self._flags.kind == "a":
            letter = self._peek(2)[1:]
            if letter in ("d", "s", "w", "D", "S", "W"):
                self._at += 2
                parts.append("\\" + letter)
                return
        low = self._bracket_character()
        if self._peek() != "-" or self._peek(2) in ("-]", "-"):
            parts.append(_in_brackets(low))
            return
        self._at += 1
        high = self._bracket_character()
        if low > high:
            raise regex_error("invalid character range")
        parts.append(f"{_in_brackets(low)}-{_in_brackets(high)}")

    def _bracket_character(self) -> str:
        for delimiter in (".", "="):
            if self._peek(2) == "[" + delimiter:
                name = self._delimited(delimiter)
                if len(name) != 1:
                    raise regex_error("invalid collating element")
                return name
        if self._peek(2) == "[:":
            raise regex_error("invalid character range")
        char = self._peek()
        if not char:
            raise regex_error("brackets [] not balanced")
        self._at += 1
        if char == "\\" and self._flags.kind == "a":
            return self._character_escape()
        return char

    def _delimited(self, delimiter: str) -> str:
        end = self._pattern.find(delimiter + "]", self._at + 2)
        if end < 0:
            raise regex_error("brackets [] not balanced")
        name = self._pattern[self._at + 2 : end]
        self._at = end + 2
        return name


def _in_brackets(char: str) -> str:
    return "\\" + char if char in r"\]^-[&~|" else char
