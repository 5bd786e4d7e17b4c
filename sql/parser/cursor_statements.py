"""DECLARE, FETCH, MOVE and CLOSE.

Source: PostgreSQL docs, "DECLARE", "FETCH", "MOVE", "CLOSE".
"""

from typing import Literal

from sql.ast.utility import CloseCursor, DeclareCursor, Fetch, Statement
from sql.parser.dml import DmlParser


class CursorStatementParser(DmlParser):
    """Statements about cursors."""

    __slots__ = ()

    def parse_declare(self) -> DeclareCursor:
        """DECLARE CURSOR."""
        start = self.pos
        self.pos += 1
        name = self.parse_name()
        hold = False
        options: set[str] = set()
        while self.kinds[self.pos] != "cursor":
            word = self.expect_any(("binary", "insensitive", "asensitive", "scroll", "no"))
            if word == "no":
                self.expect("scroll")
                word = "no scroll"
            options.add(word)
        scroll = True if "scroll" in options else False if "no scroll" in options else None
        conflict = ""
        for pair in (("scroll", "no scroll"), ("asensitive", "insensitive")):
            if not conflict and options.issuperset(pair):
                conflict = " and ".join(word.upper() for word in pair)
        self.pos += 1
        if self.kinds[self.pos] in ("with", "without"):
            hold = self.kinds[self.pos] == "with"
            self.pos += 1
            self.expect("hold")
        self.expect("for")
        query = self.parse_query()
        return DeclareCursor(
            name, query, "binary" in options, scroll, hold, conflict, self.span(start)
        )

    def parse_fetch(self) -> Statement:
        """FETCH and MOVE."""
        start = self.pos
        self.pos += 1
        direction, count = self._fetch_direction()
        name = self.parse_name()
        return Fetch(name, direction, count, self.kinds[start] == "move", self.span(start))

    def _fetch_direction(
        self,
    ) -> tuple[Literal["forward", "backward", "absolute", "relative"], int | None]:
        kind, following = self.kinds[self.pos], self.kinds[self.pos + 1]
        is_word = following not in (";", "EOF")
        count: int | None = 1
        if kind in ("ICONST", "+", "-"):
            return "forward", self._cursor_count(self.parse_signed_integer())
        if kind == "all":
            self.pos += 1
            return "forward", self._cursor_count(None)
        if not is_word and kind not in ("from", "in"):
            return "forward", 1
        if kind in ("next", "prior", "first", "last"):
            self.pos += 1
            self.accept_any(("from", "in"))
            if kind == "next":
                return "forward", 1
            if kind == "prior":
                return "backward", 1
            return "absolute", 1 if kind == "first" else -1
        if kind in ("absolute", "relative"):
            self.pos += 1
            count = self._cursor_count(self.parse_signed_integer())
            return ("absolute" if kind == "absolute" else "relative"), count
        if kind in ("forward", "backward"):
            self.pos += 1
            if self.accept("all"):
                count = None
            elif self.kinds[self.pos] in ("ICONST", "+", "-"):
                count = self.parse_signed_integer()
            return ("forward" if kind == "forward" else "backward"), self._cursor_count(count)
        return "forward", self._cursor_count(1)

    def _cursor_count(self, count: int | None) -> int | None:
        self.accept_any(("from", "in"))
        return count

    def parse_close(self) -> Statement:
        """CLOSE."""
        start = self.pos
        self.pos += 1
        name = "" if self.accept("all") else self.parse_name()
        return CloseCursor(name, self.span(start))
