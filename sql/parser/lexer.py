"""Text to tokens by PostgreSQL 15's lexical rules.

One compiled expression finds the next token; what it cannot say (nested comments, escapes, the
operator rules) is done by hand after it. Tokens stand in four parallel lists: ``kinds``,
``values``, ``starts``, ``ends`` (character offsets). A kind is

* the key word itself in lower case, for an unquoted key word,
* ``IDENT``, ``ICONST`` (fits int4), ``FCONST``, ``SCONST``, ``BCONST``, ``PARAM``, ``OP``,
* the character or character pair itself for punctuation and the operators the grammar names,
* ``not_la``, ``nulls_la``, ``with_la`` where the following word decides (as in NOT IN, NULLS
  FIRST, WITH TIME), ``EOF`` at the end, ``ERROR`` (its value is the exception) where no token could
  be read.

A lexical error is a token, because PostgreSQL reads lazily: a syntax error to the left of a bad
literal wins. Source: PostgreSQL docs, "Lexical Structure".
"""

import re
from typing import Final

from sql.ast.keywords import KEYWORDS
from sql.errors import SqlError, SqlSyntaxError
from sql.parser.escapes import decode_escapes, decode_unicode, near

IDENTIFIER_BYTES_MAX: Final = 63
OPERATOR_BYTES_MAX: Final = 63
INT4_MAX: Final = 2**31 - 1
LOOKAHEAD: Final = 3
"""How far the grammar looks beyond the current token; as many EOF tokens pad the end."""

_HIGH = "\x80-\U0010ffff"
_TOKEN: Final = re.compile(
    rf"""(?:[ \t\n\r\f]+|--[^\r\n]*)*
    (?:([A-Za-z_{_HIGH}][A-Za-z0-9_${_HIGH}]*)                          # 1 word
    |([,()\[\];])                                                       # 2 always alone
    |((?:[0-9]+(?:\.(?!\.)[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)       # 3 number
    |('[^']*(?:''[^']*)*')                                              # 4 plain string
    |\$([0-9]+)                                                         # 5 parameter
    |(/\*)                                                              # 6 comment
    |((?:(?!--|/\*)[~!@#^&|`?+\-*/%<>=])+)                              # 7 operator
    |"([^"]*(?:""[^"]*)*)"                                              # 8 quoted identifier
    |(::|:=|\.\.|[.:])                                                  # 9
    |(\$(?:[A-Za-z_{_HIGH}][A-Za-z0-9_{_HIGH}]*)?\$)                    # 10 dollar quote
    |(.))?                                                              # 11 anything else
    """,
    re.VERBOSE | re.DOTALL,
)
_JUNK: Final = re.compile(rf"[A-Za-z_{_HIGH}][A-Za-z0-9_${_HIGH}]*")
_NUMBER_JUNK: Final = re.compile(rf"[eE][+-]|[A-Za-z_{_HIGH}][A-Za-z0-9_${_HIGH}]*")
_CONTINUED: Final = re.compile(
    r"(?:[ \t\f]|--[^\r\n]*)*[\r\n](?:[ \t\n\r\f]|--[^\r\n]*[\r\n])*'((?:[^']|'')*)('?)"
)
_CONTINUED_START: Final = re.compile(
    r"(?:[ \t\f]|--[^\r\n]*)*[\r\n](?:[ \t\n\r\f]|--[^\r\n]*[\r\n])*'"
)
_QUOTED: Final = re.compile(r"'([^']*(?:''[^']*)*)'")
_E_QUOTED: Final = re.compile(r"'([^'\\]*(?:(?:\\.|'')[^'\\]*)*)'", re.DOTALL)
_E_REST: Final = re.compile(r"([^'\\]*(?:(?:\\.|'')[^'\\]*)*)'", re.DOTALL)
_DOUBLE_QUOTED: Final = re.compile(r'"([^"]*(?:""[^"]*)*)"')
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_UPPER_TO_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

_KEYWORD_KINDS: Final = {word: word for word in KEYWORDS}
_LOOKBACK: Final = {
    "between": "not",
    "in": "not",
    "like": "not",
    "ilike": "not",
    "similar": "not",
    "first": "nulls",
    "last": "nulls",
    "time": "with",
    "ordinality": "with",
}
_ALONE: Final = frozenset("+-*/%^<>=")
_PAIRS: Final = {"<=": "<=", ">=": ">=", "<>": "<>", "!=": "<>", "=>": "=>"}
_MAY_END_IN_SIGN: Final = frozenset("~!@#^&|`?%")
_UESCAPE_INVALID: Final = frozenset("0123456789abcdefABCDEF+'\" \t\n\r\f\v")


class Tokens:
    """The tokens of one text, padded with ``EOF`` after the end or an ``ERROR``."""

    __slots__ = ("ends", "kinds", "starts", "text", "values")

    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.values: list[str | SqlError] = []
        self.starts: list[int] = []
        self.ends: list[int] = []


def tokenize(text: str) -> Tokens:
    """Read the whole text. Never raises: a lexical error becomes the last token, kind ``ERROR``."""
    tokens = Tokens(text)
    try:
        _scan(text, tokens)
    except SqlError as error:
        tokens.kinds.append("ERROR")
        tokens.values.append(error)
        tokens.starts.append(max(error.position - 1, 0))
        tokens.ends.append(len(text))
    for _ in range(LOOKAHEAD):
        tokens.kinds.append("EOF")
        tokens.values.append("")
        tokens.starts.append(len(text))
        tokens.ends.append(len(text))
    return tokens


def fold(word: str) -> str:
    """Fold ASCII letters to lower case, as PostgreSQL does with an unquoted identifier."""
    return word.lower() if word.isascii() else word.translate(_UPPER_TO_LOWER)


def truncate_identifier(name: str) -> str:
    """Cut a name to 63 bytes of UTF-8, never inside a character."""
    if len(name) <= IDENTIFIER_BYTES_MAX and name.isascii():
        return name
    return name.encode()[:IDENTIFIER_BYTES_MAX].decode(errors="ignore")


def _scan(text: str, tokens: Tokens) -> None:
    match_token = _TOKEN.match
    keyword_kinds = _KEYWORD_KINDS
    lookback = _LOOKBACK
    kinds, values, starts, ends = tokens.kinds, tokens.values, tokens.starts, tokens.ends
    position = 0
    while True:
        match = match_token(text, position)
        assert match is not None, "every alternative is optional"
        group = match.lastindex
        if group is None:
            kinds.append("EOF")
            values.append("")
            starts.append(len(text))
            ends.append(len(text))
            return
        start, position = match.span(group)
        if group == 1:
            word = match[1]
            if position - start == 1 and text[position : position + 1] in ("'", "&"):
                after = _prefixed(text, start, tokens)
                if after:
                    position = after
                    continue
            value = word.lower() if word.isascii() else fold(word)
            kind = keyword_kinds.get(value)
            if kind is None:
                kind = "IDENT"
                if position - start > 15:
                    value = truncate_identifier(value)
            elif kind in lookback and kinds and kinds[-1] == lookback[kind]:
                kinds[-1] += "_la"
        elif group == 2:
            kind = value = match[2]
        elif group == 3:
            kind, value, position = _number(text, start, position)
        else:
            position = _SLOW[group](text, match.start(group), position, tokens)
            continue
        kinds.append(kind)
        values.append(value)
        starts.append(start)
        ends.append(position)


def _number(text: str, start: int, end: int) -> tuple[str, str, int]:
    junk = _NUMBER_JUNK.match(text, end)
    if junk is not None:
        raise near("trailing junk after numeric literal", text, start, junk.end())
    value = text[start:end]
    if value.isdigit() and (end - start < 10 or int(value) <= INT4_MAX):
        return "ICONST", value, end
    return "FCONST", value, end


def _put(tokens: Tokens, kind: str, value: str, start: int, end: int) -> int:
    tokens.kinds.append(kind)
    tokens.values.append(value)
    tokens.starts.append(start)
    tokens.ends.append(end)
    return end


def _plain_string(text: str, start: int, end: int, tokens: Tokens) -> int:
    value = text[start + 1 : end - 1]
    while True:
        match = _CONTINUED.match(text, end)
        if match is None:
            break
        if not match[2]:
            raise near("unterminated quoted string", text, start, len(text))
        value += match[1]
        end = match.end()
    if "'" in value:
        value = value.replace("''", "'")
    return _put(tokens, "SCONST", value, start, end)


def _parameter(text: str, start: int, end: int, tokens: Tokens) -> int:
    junk = _JUNK.match(text, end)
    if junk is not None:
        raise near("trailing junk after parameter", text, start - 1, junk.end())
    return _put(tokens, "PARAM", text[start:end], start - 1, end)


def _comment(text: str, start: int, end: int, _tokens: Tokens) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, end)
        if edge is None:
            raise near("unterminated /* comment", text, start, len(text))
        depth += 1 if edge[0] == "/*" else -1
        end = edge.end()
    return end


def _operator(text: str, start: int, end: int, tokens: Tokens) -> int:
    name = text[start:end]
    if len(name) == 1:
        return _put(tokens, name if name in _ALONE else "OP", name, start, end)
    if name[-1] in "+-" and _MAY_END_IN_SIGN.isdisjoint(name[:-1]):
        name = name[0] + name[1:].rstrip("+-")
        end = start + len(name)
    if name in _ALONE:
        return _put(tokens, name, name, start, end)
    kind = _PAIRS.get(name)
    if kind is not None:
        return _put(tokens, kind, kind, start, end)
    if len(name) > OPERATOR_BYTES_MAX:
        raise near("operator too long", text, start, end)
    return _put(tokens, "OP", name, start, end)


def _quoted_identifier(text: str, start: int, end: int, tokens: Tokens) -> int:
    name = text[start:end]
    if not name:
        raise near("zero-length delimited identifier", text, start - 1, end + 1)
    name = truncate_identifier(name.replace('""', '"'))
    _put(tokens, "IDENT", name, start - 1, end + 1)
    return end + 1


def _punctuation(text: str, start: int, end: int, tokens: Tokens) -> int:
    kind = text[start:end]
    return _put(tokens, kind, kind, start, end)


def _dollar_quote(text: str, start: int, end: int, tokens: Tokens) -> int:
    tag = text[start:end]
    close = text.find(tag, end)
    if close < 0:
        raise near("unterminated dollar-quoted string", text, start, len(text))
    return _put(tokens, "SCONST", text[end:close], start, close + len(tag))


def _other(text: str, start: int, end: int, tokens: Tokens) -> int:
    """Refuse a quote that never closes; take any other character as a token of its own."""
    if text[start] == "'":
        raise near("unterminated quoted string", text, start, len(text))
    if text[start] == '"':
        raise near("unterminated quoted identifier", text, start, len(text))
    return _put(tokens, text[start:end], text[start:end], start, end)


_SLOW: Final = {
    4: _plain_string,
    5: _parameter,
    6: _comment,
    7: _operator,
    8: _quoted_identifier,
    9: _punctuation,
    10: _dollar_quote,
    11: _other,
}


def _prefixed(text: str, start: int, tokens: Tokens) -> int:
    """Read E'..', B'..', X'..', N'..', U&'..' or U&".." at ``start``; 0 when it is none of them."""
    letter = text[start].lower()
    if text[start + 1] == "&":
        quote = text[start + 2 : start + 3]
        if letter != "u" or quote not in ("'", '"'):
            return 0
        return _unicode_quoted(text, start, quote, tokens)
    if letter == "e":
        return _escape_string(text, start, tokens)
    if letter in "bx":
        return _bit_string(text, start, letter, tokens)
    if letter == "n":
        # N'..' is the type name NCHAR followed by an ordinary string.
        return _put(tokens, "nchar", "nchar", start, start + 1)
    return 0


def _bit_string(text: str, start: int, letter: str, tokens: Tokens) -> int:
    body = re.compile("[^']*").match(text, start + 2)
    assert body is not None, "a star always matches"
    value, end = body[0], body.end() + 1
    while end <= len(text):
        more = _CONTINUED_START.match(text, end)
        if more is None:
            return _put(tokens, "BCONST", letter + value, start, end)
        close = text.find("'", more.end())
        if close < 0:
            break
        value, end = value + text[more.end() : close], close + 1
    kind = "bit string literal" if letter == "b" else "hexadecimal string literal"
    raise near(f"unterminated {kind}", text, start, len(text))


def _escape_string(text: str, start: int, tokens: Tokens) -> int:
    match = _E_QUOTED.match(text, start + 1)
    if match is None:
        raise near("unterminated quoted string", text, start, len(text))
    value, end = "", 0
    while True:
        value += decode_escapes(text, *match.span(1))
        end = match.end()
        more = _CONTINUED_START.match(text, end)
        if more is None:
            return _put(tokens, "SCONST", value, start, end)
        match = _E_REST.match(text, more.end())
        if match is None:
            raise near("unterminated quoted string", text, start, len(text))


def _unicode_quoted(text: str, start: int, quote: str, tokens: Tokens) -> int:
    is_name = quote == '"'
    match = (_DOUBLE_QUOTED if is_name else _QUOTED).match(text, start + 2)
    if match is None:
        what = "quoted identifier" if is_name else "quoted string"
        raise near(f"unterminated {what}", text, start, len(text))
    body, end = match[1], match.end()
    while not is_name and (more := _CONTINUED.match(text, end)) is not None:
        if not more[2]:
            raise near("unterminated quoted string", text, start, len(text))
        body, end = body + more[1], more.end()
    body = body.replace(quote * 2, quote)
    if is_name and not body:
        raise near("zero-length delimited identifier", text, start, end)
    escape, end = _uescape(text, end)
    value = decode_unicode(body, start + 3, escape)
    if is_name:
        return _put(tokens, "IDENT", truncate_identifier(value), start, end)
    return _put(tokens, "SCONST", value, start, end)


def _uescape(text: str, end: int) -> tuple[str, int]:
    """Read an optional ``UESCAPE 'c'`` after ``end``; returns the escape and the new end."""
    ahead = _TOKEN.match(text, end)
    assert ahead is not None, "every alternative is optional"
    if ahead.lastindex != 1 or ahead[1].lower() != "uescape":
        return "\\", end
    operand = _TOKEN.match(text, ahead.end())
    assert operand is not None, "every alternative is optional"
    if operand.lastindex is None:
        raise near(
            "UESCAPE must be followed by a simple string literal", text, len(text), len(text)
        )
    at, stop = operand.span(operand.lastindex)
    if operand.lastindex != 4:
        raise near("UESCAPE must be followed by a simple string literal", text, at, stop)
    escape = text[at + 1 : stop - 1].replace("''", "'")
    if len(escape) != 1 or escape in _UESCAPE_INVALID:
        raise near("invalid Unicode escape character", text, at, stop)
    return escape, stop


def syntax_error(tokens: Tokens, index: int) -> SqlError:
    """Return the error of an unexpected token, or the token's own lexical error."""
    kind = tokens.kinds[index]
    if kind == "ERROR":
        error = tokens.values[index]
        assert isinstance(error, SqlError), "an ERROR token holds its exception"
        return error
    start = tokens.starts[index]
    if kind == "EOF":
        return SqlSyntaxError("syntax error at end of input", position=start + 1)
    return near("syntax error", tokens.text, start, tokens.ends[index])
