"""A place in the token lists, and the small words of the grammar: names, lists, constants.

Every parser class derives from ``Cursor``. ``accept_*`` consume and return true or do nothing;
``expect_*`` and ``parse_*`` consume or raise the syntax error at the current token.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from sql.ast.ddl import DropBehavior
from sql.ast.keywords import COL_NAME, KEYWORDS, TYPE_FUNC_NAME, UNRESERVED
from sql.ast.query import QualifiedName
from sql.errors import FeatureNotSupported, SqlError, SqlSyntaxError, StatementTooComplex
from sql.parser.lexer import Tokens, syntax_error, tokenize
from sql.span import Span

NESTING_DEPTH_MAX: Final = 200
"""Levels an expression, query or operator chain may nest (54001 beyond). Later stages recurse over
the tree with up to three frames a level, and Python stops at 1000 frames."""

COL_ID: Final = UNRESERVED | COL_NAME | {"IDENT"}
TYPE_FUNCTION_NAME: Final = UNRESERVED | TYPE_FUNC_NAME | {"IDENT"}
NON_RESERVED: Final = UNRESERVED | COL_NAME | TYPE_FUNC_NAME | {"IDENT"}
COL_LABEL: Final = KEYWORDS | {"IDENT"}

Item = TypeVar("Item")


class Cursor:
    """The current token is ``kinds[pos]``; ``depth`` counts open nestings."""

    __slots__ = ("depth", "ends", "kinds", "pos", "starts", "text", "tokens", "values")

    def __init__(self, text: str) -> None:
        tokens = tokenize(text)
        self.tokens: Tokens = tokens
        self.text = text
        self.kinds = tokens.kinds
        self.values: list[str] = tokens.values  # type: ignore[assignment]  # no ERROR is consumed
        self.starts = tokens.starts
        self.ends = tokens.ends
        self.pos = 0
        self.depth = 0

    # --- errors ---

    def unexpected(self, index: int | None = None) -> SqlError:
        """Return the syntax error at token ``index`` (default: the current one)."""
        return syntax_error(self.tokens, self.pos if index is None else index)

    def error_at(self, message: str, index: int) -> SqlSyntaxError:
        """Return a 42601 with a text of its own, placed at a token."""
        return SqlSyntaxError(message, position=self.starts[index] + 1)

    def error_near(self, message: str, index: int) -> SqlSyntaxError:
        """Return a 42601 whose text ends in ``at or near "token"``."""
        shown = self.text[self.starts[index] : self.ends[index]]
        where = f'at or near "{shown}"' if shown else "at end of input"
        return self.error_at(f"{message} {where}", index)

    def not_supported(self, what: str, index: int) -> FeatureNotSupported:
        """Return the 0A000 for syntax PostgreSQL has and nodedb has not."""
        return FeatureNotSupported(f"{what} is not supported", position=self.starts[index] + 1)

    def not_supported_text(self, message: str, index: int) -> FeatureNotSupported:
        """Return a 0A000 with a text of its own, placed at a token."""
        return FeatureNotSupported(message, position=self.starts[index] + 1)

    def enter(self, levels: int = 1) -> None:
        """Open a nesting; the caller subtracts ``levels`` from ``depth`` when it is closed."""
        self.depth += levels
        if self.depth > NESTING_DEPTH_MAX:
            raise too_deep()

    # --- positions ---

    def span(self, start_index: int) -> Span:
        """Span from a token to the last consumed one."""
        return Span(self.starts[start_index], self.ends[self.pos - 1])

    def token_span(self, index: int) -> Span:
        """Span of one token."""
        return Span(self.starts[index], self.ends[index])

    # --- words ---

    def accept(self, kind: str) -> bool:
        """Consume the token if it is of this kind."""
        if self.kinds[self.pos] == kind:
            self.pos += 1
            return True
        return False

    def accept_all(self, *kinds: str) -> bool:
        """Consume the sequence of tokens if all of it is there."""
        pos = self.pos
        for kind in kinds:
            if self.kinds[pos] != kind:
                return False
            pos += 1
        self.pos = pos
        return True

    def accept_words(self, first: str, *rest: str) -> bool:
        """Consume ``first`` if it is there; then the rest must follow."""
        if self.kinds[self.pos] != first:
            return False
        self.pos += 1
        for kind in rest:
            self.expect(kind)
        return True

    def accept_any(self, kinds: Iterable[str]) -> str:
        """Consume one of the kinds and return it, else return ""."""
        kind = self.kinds[self.pos]
        if kind in kinds:
            self.pos += 1
            return kind
        return ""

    def expect(self, kind: str) -> None:
        """Consume a token of this kind."""
        if self.kinds[self.pos] != kind:
            raise self.unexpected()
        self.pos += 1

    def expect_all(self, *kinds: str) -> None:
        """Consume the whole sequence."""
        for kind in kinds:
            self.expect(kind)

    def expect_any(self, kinds: Iterable[str]) -> str:
        """Consume one of the kinds and return it."""
        kind = self.kinds[self.pos]
        if kind not in kinds:
            raise self.unexpected()
        self.pos += 1
        return kind

    def at_end(self) -> bool:
        """Tell whether the statement ends here."""
        return self.kinds[self.pos] in (";", "EOF")

    # --- names ---

    def parse_name(self) -> str:
        """ColId: a column's, table's or other object's name."""
        if self.kinds[self.pos] not in COL_ID:
            raise self.unexpected()
        self.pos += 1
        return self.values[self.pos - 1]

    def parse_label(self) -> str:
        """ColLabel: any word, reserved or not."""
        if self.kinds[self.pos].removesuffix("_la") not in COL_LABEL:
            raise self.unexpected()
        self.pos += 1
        return self.values[self.pos - 1]

    def parse_non_reserved(self) -> str:
        """NonReservedWord."""
        if self.kinds[self.pos] not in NON_RESERVED:
            raise self.unexpected()
        self.pos += 1
        return self.values[self.pos - 1]

    def parse_qualified_name(self) -> QualifiedName:
        """``[[catalog.]schema.]name``; more parts are 42601."""
        start = self.pos
        if self.kinds[start] not in COL_ID:
            raise self.unexpected()
        self.pos = start + 1
        if self.kinds[start + 1] != ".":
            if self.kinds[start + 1] == "[":
                raise self._bad_indirection(start)
            span = Span(self.starts[start], self.ends[start])
            return QualifiedName(self.values[start], span=span)
        parts = [self.values[start], *self._attributes(start)]
        return qualified(parts, self.span(start))

    def _attributes(self, start: int) -> list[str]:
        parts: list[str] = []
        while self.accept("."):
            if self.kinds[self.pos] == "*":
                self.pos += 1
                raise self._bad_indirection(start)
            parts.append(self.parse_label())
        if self.kinds[self.pos] == "[":
            raise self._bad_indirection(start)
        return parts

    def _bad_indirection(self, start: int) -> SqlSyntaxError:
        while not self.at_end() and self.kinds[self.pos] in (".", "*", "["):
            self.pos += 1
        return self.error_near("syntax error", max(start + 1, self.pos - 1))

    def parse_any_name(self) -> tuple[str, ...]:
        """any_name: ``name[.name ...]``."""
        parts = [self.parse_name()]
        while self.accept("."):
            parts.append(self.parse_label())
        return tuple(parts)

    def parse_name_list(self) -> tuple[str, ...]:
        """``name, ...``."""
        return self.parse_list(self.parse_name)

    def parse_paren_names(self) -> tuple[str, ...]:
        """``(name, ...)``."""
        self.expect("(")
        names = self.parse_name_list()
        self.expect(")")
        return names

    def parse_list(self, item: Callable[[], Item]) -> tuple[Item, ...]:
        """``item, ...``: at least one."""
        items = [item()]
        while self.kinds[self.pos] == ",":
            self.pos += 1
            items.append(item())
        return tuple(items)

    # --- constants and endings ---

    def parse_string(self) -> str:
        """Sconst."""
        if self.kinds[self.pos] != "SCONST":
            raise self.unexpected()
        self.pos += 1
        return self.values[self.pos - 1]

    def parse_integer(self) -> int:
        """Iconst: an unsigned number that fits int4."""
        if self.kinds[self.pos] != "ICONST":
            raise self.unexpected()
        self.pos += 1
        return int(self.values[self.pos - 1])

    def parse_signed_integer(self) -> int:
        """SignedIconst."""
        sign = self.accept_any("+-")
        value = self.parse_integer()
        return -value if sign == "-" else value

    def parse_number(self) -> int | float:
        """NumericOnly: a signed integer or a signed number with a point."""
        sign = -1 if self.accept_any("+-") == "-" else 1
        if self.kinds[self.pos] not in ("ICONST", "FCONST"):
            raise self.unexpected()
        self.pos += 1
        text = self.values[self.pos - 1]
        return sign * (int(text) if text.isdigit() else float(text))

    def accept_if_exists(self) -> bool:
        """``IF EXISTS``."""
        return self.accept_all("if", "exists")

    def accept_if_not_exists(self) -> bool:
        """``IF NOT EXISTS``."""
        if self.kinds[self.pos] != "if" or self.kinds[self.pos + 1] != "not":
            return False
        self.pos += 2
        self.expect("exists")
        return True

    def parse_behavior(self) -> DropBehavior:
        """``[CASCADE | RESTRICT]``."""
        return "cascade" if self.accept_any(("cascade", "restrict")) == "cascade" else "restrict"


def qualified(parts: list[str], span: Span) -> QualifiedName:
    """Make a QualifiedName of one to three parts; more is PostgreSQL's 42601."""
    if len(parts) == 1:
        return QualifiedName(parts[0], span=span)
    if len(parts) == 2:
        return QualifiedName(parts[1], parts[0], span=span)
    if len(parts) == 3:
        return QualifiedName(parts[2], parts[1], parts[0], span=span)
    raise SqlSyntaxError(
        f"improper qualified name (too many dotted names): {'.'.join(parts)}", span=span
    )


def too_deep() -> StatementTooComplex:
    """Return the 54001 of a statement that nests deeper than ``NESTING_DEPTH_MAX``."""
    return StatementTooComplex(
        "stack depth limit exceeded",
        hint=f"Expressions and queries may nest {NESTING_DEPTH_MAX} levels deep.",
    )
