"""Positions in a statement's text."""

import msgspec


class Span(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Half-open range ``[start, end)`` of 0-based character offsets into the statement's text.

    The wire protocol counts characters from 1: ``position`` is what ErrorResponse field P wants.
    """

    start: int
    end: int

    @property
    def position(self) -> int:
        """1-based character position of the first character."""
        return self.start + 1

    def to(self, other: "Span") -> "Span":
        """Return the span from this one's start to the other's end."""
        return Span(self.start, other.end)


NO_SPAN = Span(-1, -1)
