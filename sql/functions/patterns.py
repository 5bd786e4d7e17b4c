"""LIKE, SIMILAR TO and regular expression operators and functions.

Source: PostgreSQL docs, "Pattern Matching".
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from sql.errors import InvalidEscapeSequence, InvalidParameterValue
from sql.functions.implementation import implements, register
from sql.functions.regex_translate import RegexFlags, compile_regex, parse_flags
from sql.functions.strings import lower
from sql.types.array import ArrayValue

_WILDCARD: Final = re.compile(r"[%_\\]")


@lru_cache(maxsize=1024)
def like_matcher(pattern: str) -> Callable[[str], Any]:
    """Return a test for a LIKE pattern with backslash as its escape; 22025 for a bad one."""
    body = pattern.strip("%")
    if pattern and not _WILDCARD.search(body):
        leading, trailing = pattern.startswith("%"), pattern.endswith("%")
        if not body:
            return lambda _value: True
        if leading and trailing:
            return lambda value: body in value
        if leading:
            return lambda value: value.endswith(body)
        return (lambda value: value.startswith(body)) if trailing else body.__eq__
    return _like_regex(pattern)


def _like_regex(pattern: str) -> Callable[[str], Any]:
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "%":
            parts.append(".*")
        elif char == "_":
            parts.append(".")
        elif char == "\\":
            if at == len(pattern):
                return _unfinished_escape("".join(parts))
            parts.append(re.escape(pattern[at]))
            at += 1
        else:
            parts.append(re.escape(char))
    return re.compile("".join(parts), re.DOTALL).fullmatch


def _unfinished_escape(prefix: str) -> Callable[[str], bool]:
    """Return the test for a pattern ending in its escape: an error once a value gets that far."""
    reaches_end = re.compile(prefix + ".", re.DOTALL).match

    def match(value: str) -> bool:
        if reaches_end(value):
            raise InvalidEscapeSequence("LIKE pattern must not end with escape character")
        return False

    return match


def like(value: str, pattern: str) -> bool:
    """LIKE."""
    return bool(like_matcher(pattern)(value))


def ilike(value: str, pattern: str) -> bool:
    """ILIKE."""
    return bool(like_matcher(lower(pattern))(lower(value)))


def _bytes_like(value: bytes, pattern: bytes) -> bool:
    return like(value.decode("latin-1"), pattern.decode("latin-1"))


def _negated(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, pattern: not test(value, pattern)


def regex_matches(value: str, pattern: str) -> bool:
    """``~``."""
    return compile_regex(pattern).search(value) is not None


_IGNORE_CASE: Final = RegexFlags(ignore_case=True)


def regex_matches_any_case(value: str, pattern: str) -> bool:
    """``~*``."""
    return compile_regex(pattern, _IGNORE_CASE).search(value) is not None


def _register_operators() -> None:
    for prefix in ("text", "bpchar", "name"):
        arguments = f"({prefix},text)"
        for suffix, test in (
            ("like", like),
            ("iclike", ilike),
            ("regexeq", regex_matches),
            ("icregexeq", regex_matches_any_case),
        ):
            negative = suffix.replace("like", "nlike").replace("regexeq", "regexne")
            register(f"{prefix}{suffix}{arguments}", test)
            register(f"{prefix}{negative}{arguments}", _negated(test))
    for name in ("like", "bytealike"):
        register(f"{name}(bytea,bytea)", _bytes_like)
    for name in ("notlike", "byteanlike"):
        register(f"{name}(bytea,bytea)", _negated(_bytes_like))
    for argument in ("text", "name"):
        register(f"like({argument},text)", like)
        register(f"notlike({argument},text)", _negated(like))


def _escape_character(escape: str) -> str:
    if len(escape) > 1:
        raise InvalidEscapeSequence(
            "invalid escape string", hint="Escape string must be empty or one character."
        )
    return escape


@implements("like_escape(text,text)")
def like_escape(pattern: str, escape: str) -> str:
    """Rewrite a pattern with another escape character to use backslash."""
    escape = _escape_character(escape)
    if escape == "\\":
        return pattern
    if not escape:
        return pattern.replace("\\", "\\\\")
    parts: list[str] = []
    after_escape = False
    for char in pattern:
        if char == escape and not after_escape:
            parts.append("\\")
            after_escape = True
        else:
            # A backslash is an ordinary character now, unless the escape made it so already.
            parts.append("\\\\" if char == "\\" and not after_escape else char)
            after_escape = False
    return "".join(parts)


@implements("like_escape(bytea,bytea)")
def _bytes_like_escape(pattern: bytes, escape: bytes) -> bytes:
    return like_escape(pattern.decode("latin-1"), escape.decode("latin-1")).encode("latin-1")


@implements("similar_to_escape(text,text)", "similar_to_escape(text)")
def similar_to_escape(pattern: str, escape: str = "\\") -> str:
    """Rewrite a SIMILAR TO pattern as a regular expression."""
    escape = _escape_character(escape)
    parts = ["^(?:"]
    after_escape = in_class = False
    quotes = 0
    for char in pattern:
        if after_escape:
            if char == '"' and not in_class:
                parts.append(_separator(quotes))
                quotes += 1
            else:
                parts.append("\\" + char)
            after_escape = False
        elif escape and char == escape:
            after_escape = True
        elif in_class:
            parts.append("\\\\" if char == "\\" else char)
            in_class = char != "]"
        else:
            in_class = char == "["
            parts.append(_SIMILAR.get(char, char))
    parts.append(")$")
    return "".join(parts)


_SIMILAR: Final = {
    "%": ".*",
    "_": ".",
    "(": "(?:",
    "\\": "\\\\",
    ".": "\\.",
    "^": "\\^",
    "$": "\\$",
}


def _separator(quotes: int) -> str:
    if quotes == 0:
        return "){1,1}?("
    if quotes == 1:
        return "){1,1}(?:"
    raise InvalidParameterValue(
        "SQL regular expression may not contain more than two escape-double-quote separators"
    )


@implements("similar_escape(text,text)")
def _similar_escape(pattern: str | None, escape: str | None) -> str | None:
    if pattern is None:
        return None
    return similar_to_escape(pattern, "\\" if escape is None else escape)


@implements("substring(text,text)")
def _substring_regex(value: str, pattern: str) -> str | None:
    match = compile_regex(pattern).search(value)
    if match is None:
        return None
    return match[1] if match.re.groups else match[0]


@implements("substring(text,text,text)")
def _substring_similar(value: str, pattern: str, escape: str) -> str | None:
    return _substring_regex(value, similar_to_escape(pattern, escape))


def _without_global(flags: str, function: str, hint: str = "") -> RegexFlags:
    parsed, is_global = parse_flags(flags)
    if is_global:
        raise InvalidParameterValue(f'{function}() does not support the "global" option', hint=hint)
    return parsed


def _groups(match: re.Match[str]) -> ArrayValue:
    return ArrayValue(match.groups() if match.re.groups else (match[0],))


@implements("regexp_match(text,text)", "regexp_match(text,text,text)")
def _regexp_match(value: str, pattern: str, flags: str = "") -> ArrayValue | None:
    parsed = _without_global(flags, "regexp_match", "Use the regexp_matches function instead.")
    match = compile_regex(pattern, parsed).search(value)
    return None if match is None else _groups(match)


@implements("regexp_matches(text,text)", "regexp_matches(text,text,text)")
def _regexp_matches(value: str, pattern: str, flags: str = "") -> list[ArrayValue]:
    parsed, is_global = parse_flags(flags)
    matches = compile_regex(pattern, parsed).finditer(value)
    if is_global:
        return [_groups(match) for match in matches]
    first = next(matches, None)
    return [] if first is None else [_groups(first)]


@implements("regexp_like(text,text)", "regexp_like(text,text,text)")
def _regexp_like(value: str, pattern: str, flags: str = "") -> bool:
    return compile_regex(pattern, _without_global(flags, "regexp_like")).search(value) is not None


@lru_cache(maxsize=256)
def _replacement(template: str) -> Callable[[re.Match[str]], str]:
    r"""Return the function behind ``\1`` and ``\&`` in a replacement text."""
    if "\\" not in template:
        return lambda _match: template
    pieces = re.split(r"\\(\d|&|\\)", template)

    def expand(match: re.Match[str]) -> str:
        parts = [pieces[0]]
        for index in range(1, len(pieces), 2):
            reference = pieces[index]
            if reference == "\\":
                parts.append("\\")
            elif reference in "0&":
                parts.append(match[0] if reference == "&" else "\\0")
            elif int(reference) <= match.re.groups:
                parts.append(match[int(reference)] or "")
            parts.append(pieces[index + 1])
        return "".join(parts)

    return expand


@implements("regexp_replace(text,text,text)", "regexp_replace(text,text,text,text)")
def _regexp_replace(value: str, pattern: str, template: str, flags: str = "") -> str:
    if flags[:1].isdigit():
        raise InvalidParameterValue(
            f'invalid regular expression option: "{flags[0]}"',
            hint=(
                "If you meant to use regexp_replace() with a start parameter, "
                "cast the fourth argument to integer explicitly."
            ),
        )
    parsed, is_global = parse_flags(flags)
    count = 0 if is_global else 1
    return compile_regex(pattern, parsed).sub(_replacement(template), value, count=count)


def _positive(value: int, name: str, *, zero: bool = False) -> int:
    if value < (0 if zero else 1):
        raise InvalidParameterValue(f'invalid value for parameter "{name}": {value}')
    return value


@implements(
    "regexp_replace(text,text,text,int4)",
    "regexp_replace(text,text,text,int4,int4)",
    "regexp_replace(text,text,text,int4,int4,text)",
)
def _regexp_replace_from(
    value: str, pattern: str, template: str, start: int, nth: int = 1, flags: str = ""
) -> str:
    _positive(start, "start")
    _positive(nth, "n", zero=True)
    parsed, _ = parse_flags(flags)
    expand = _replacement(template)
    parts: list[str] = []
    end = 0
    for number, match in enumerate(_from(value, pattern, start, parsed), 1):
        if nth in (0, number):
            parts += (value[end : match.start()], expand(match))
            end = match.end()
            if nth:
                break
    parts.append(value[end:])
    return "".join(parts)


def _from(value: str, pattern: str, start: int, flags: RegexFlags) -> Iterator[re.Match[str]]:
    if start > len(value) + 1:
        return iter(())
    return compile_regex(pattern, flags).finditer(value, start - 1)


@implements(
    "regexp_count(text,text)", "regexp_count(text,text,int4)", "regexp_count(text,text,int4,text)"
)
def _regexp_count(value: str, pattern: str, start: int = 1, flags: str = "") -> int:
    _positive(start, "start")
    parsed = _without_global(flags, "regexp_count")
    return sum(1 for _ in _from(value, pattern, start, parsed))


def _nth(value: str, pattern: str, start: int, nth: int, flags: RegexFlags) -> re.Match[str] | None:
    for number, match in enumerate(_from(value, pattern, start, flags), 1):
        if number == nth:
            return match
    return None


@implements(
    "regexp_instr(text,text)",
    "regexp_instr(text,text,int4)",
    "regexp_instr(text,text,int4,int4)",
    "regexp_instr(text,text,int4,int4,int4)",
    "regexp_instr(text,text,int4,int4,int4,text)",
    "regexp_instr(text,text,int4,int4,int4,text,int4)",
)
def _regexp_instr(
    value: str,
    pattern: str,
    start: int = 1,
    nth: int = 1,
    end_option: int = 0,
    flags: str = "",
    group: int = 0,
) -> int:
    _positive(start, "start")
    _positive(nth, "n")
    if end_option not in (0, 1):
        raise InvalidParameterValue(f'invalid value for parameter "endoption": {end_option}')
    parsed = _without_global(flags, "regexp_instr")
    _positive(group, "subexpr", zero=True)
    match = _nth(value, pattern, start, nth, parsed)
    if match is None or group > match.re.groups or match.start(group) < 0:
        return 0
    return (match.end(group) if end_option else match.start(group)) + 1


@implements(
    "regexp_substr(text,text)",
    "regexp_substr(text,text,int4)",
    "regexp_substr(text,text,int4,int4)",
    "regexp_substr(text,text,int4,int4,text)",
    "regexp_substr(text,text,int4,int4,text,int4)",
)
def _regexp_substr(
    value: str, pattern: str, start: int = 1, nth: int = 1, flags: str = "", group: int = 0
) -> str | None:
    _positive(start, "start")
    _positive(nth, "n")
    parsed = _without_global(flags, "regexp_substr")
    _positive(group, "subexpr", zero=True)
    match = _nth(value, pattern, start, nth, parsed)
    return None if match is None or group > match.re.groups else match[group]


def _split(value: str, pattern: str, flags: RegexFlags) -> list[str]:
    """Split; an empty match at either end or right after the previous one separates nothing."""
    parts: list[str] = []
    end = previous_end = 0
    for match in compile_regex(pattern, flags).finditer(value):
        if match.start() < len(value) and match.end() > previous_end:
            parts.append(value[end : match.start()])
            end = match.end()
        previous_end = match.end()
    parts.append(value[end:])
    return parts


@implements("regexp_split_to_array(text,text)", "regexp_split_to_array(text,text,text)")
def _split_to_array(value: str, pattern: str, flags: str = "") -> ArrayValue:
    return ArrayValue(
        tuple(_split(value, pattern, _without_global(flags, "regexp_split_to_array")))
    )


@implements("regexp_split_to_table(text,text)", "regexp_split_to_table(text,text,text)")
def _split_to_table(value: str, pattern: str, flags: str = "") -> list[str]:
    return _split(value, pattern, _without_global(flags, "regexp_split_to_table"))


_register_operators()
