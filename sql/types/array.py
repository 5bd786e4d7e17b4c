"""Array values: how they look in memory, and their text form.

``ArrayValue.elements`` is flat in row-major order; an empty array has no dimensions at all.
Element text is read and written by the callers' functions: this module knows braces, quotes,
``NULL`` and bounds only.

Source: PostgreSQL docs, "Arrays", "Array Input and Output Syntax".
"""

import re
from collections.abc import Callable
from typing import Final

from sql.errors import ArraySubscriptError, InvalidTextRepresentation, ProgramLimitExceeded
from sql.types.base import Datum

DIMENSIONS_MAX: Final = 6
ELEMENTS_MAX: Final = 134_217_727
_SPACE: Final = " \t\n\r\f\v"


class ArrayValue:
    """One array. Immutable by convention; equal when elements, dims and lower bounds are."""

    __slots__ = ("dims", "elements", "lower_bounds")

    def __init__(
        self,
        elements: tuple[Datum, ...],
        dims: tuple[int, ...] | None = None,
        lower_bounds: tuple[int, ...] | None = None,
    ) -> None:
        """Without ``dims``: one dimension from 1, or none when there are no elements."""
        if dims is None:
            dims = (len(elements),) if elements else ()
        self.elements = elements
        self.dims = dims
        self.lower_bounds = lower_bounds if lower_bounds is not None else (1,) * len(dims)

    def __eq__(self, other: object) -> bool:
        """Compare elements and shape."""
        if not isinstance(other, ArrayValue):
            return NotImplemented
        return (
            self.elements == other.elements
            and self.dims == other.dims
            and self.lower_bounds == other.lower_bounds
        )

    def __hash__(self) -> int:
        """Hash what equality compares."""
        return hash((self.elements, self.dims))

    def __repr__(self) -> str:
        """Show elements, sizes and bounds."""
        return f"ArrayValue({self.elements!r}, {self.dims!r}, {self.lower_bounds!r})"

    def __len__(self) -> int:
        """Return the number of elements in all dimensions."""
        return len(self.elements)


EMPTY_ARRAY: Final = ArrayValue(())

_BOUNDS: Final = re.compile(r"[ \t\n\r\f\v]*\[([+-]?\d{1,10})(?::([+-]?\d{1,10}))?\]", re.ASCII)
_NEEDS_QUOTES: Final = re.compile(r'[{}",\\ \t\n\r\f\v]')


def array_out(value: ArrayValue, element_out: Callable[[Datum], str], delimiter: str = ",") -> str:
    """Write ``{1,NULL,"a b"}``, with ``[2:3]=`` in front when a lower bound is not 1."""
    if not value.dims:
        return "{}"
    texts = [
        "NULL" if element is None else quote_element(element_out(element), delimiter)
        for element in value.elements
    ]
    for size in reversed(value.dims):
        texts = [
            "{" + delimiter.join(texts[at : at + size]) + "}" for at in range(0, len(texts), size)
        ]
    prefix = ""
    if any(bound != 1 for bound in value.lower_bounds):
        prefix = (
            "".join(
                f"[{low}:{low + size - 1}]"
                for low, size in zip(value.lower_bounds, value.dims, strict=True)
            )
            + "="
        )
    return prefix + texts[0]


def quote_element(text: str, delimiter: str = ",") -> str:
    """Quote one element's text if the array syntax needs it."""
    if text and not _NEEDS_QUOTES.search(text) and delimiter not in text and text.upper() != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def array_in(text: str, element_in: Callable[[str], Datum], delimiter: str = ",") -> ArrayValue:
    """Read an array literal. Raises 22P02, 2202E, 54000, and whatever ``element_in`` raises."""
    bounds, at = _read_bounds(text)
    items, dims = _Reader(text[at:], delimiter).read()
    if bounds:
        _check_bounds(text, bounds, dims)
    elements = tuple(None if item is None else element_in(item) for item in items)
    if not elements:
        return EMPTY_ARRAY
    return ArrayValue(elements, dims, tuple(low for low, _ in bounds) if bounds else None)


def _malformed(text: str, detail: str) -> InvalidTextRepresentation:
    return InvalidTextRepresentation(f'malformed array literal: "{text}"', detail=detail)


def _read_bounds(text: str) -> tuple[list[tuple[int, int]], int]:
    """Return the ``[low:high]`` list and where the braces start."""
    bounds: list[tuple[int, int]] = []
    at = 0
    while True:
        while at < len(text) and text[at] in _SPACE:
            at += 1
        if at >= len(text) or text[at] != "[":
            break
        match = _BOUNDS.match(text, at)
        if match is None:
            if not re.match(r"\[[+-]?\d", text[at:]):
                raise _malformed(text, '"[" must introduce explicitly-specified array dimensions.')
            if re.match(r"\[[+-]?\d+:(?![+-]?\d)", text[at:]):
                raise _malformed(text, "Missing array dimension value.")
            raise _malformed(text, 'Missing "]" after array dimensions.')
        if len(bounds) >= DIMENSIONS_MAX:
            raise too_many_dimensions(len(bounds) + 1)
        low, high = match.groups()
        pair = (int(low), int(high)) if high is not None else (1, int(low))
        if pair[1] < pair[0]:
            raise ArraySubscriptError("upper bound cannot be less than lower bound")
        bounds.append(pair)
        at = match.end()
    if bounds:
        if text[at : at + 1] != "=":
            raise _malformed(text, 'Missing "=" after array dimensions.')
        at += 1
        while at < len(text) and text[at] in _SPACE:
            at += 1
        if text[at : at + 1] != "{":
            raise _malformed(text, 'Array contents must start with "{".')
    elif text[at : at + 1] != "{":
        raise _malformed(text, 'Array value must start with "{" or dimension information.')
    return bounds, at


def _check_bounds(text: str, bounds: list[tuple[int, int]], dims: tuple[int, ...]) -> None:
    if len(bounds) != len(dims) or any(
        high - low + 1 != size for (low, high), size in zip(bounds, dims, strict=True)
    ):
        raise _malformed(text, "Specified array dimensions do not match array contents.")


def too_many_dimensions(count: int) -> ProgramLimitExceeded:
    """Return 54000 for an array of more than six dimensions."""
    return ProgramLimitExceeded(
        f"number of array dimensions ({count}) exceeds the maximum allowed ({DIMENSIONS_MAX})"
    )


class _Reader:
    """Reads the braces part of one literal in one pass.

    ``_state`` is what was read last: ``start``, ``{``, ``}``, ``item``, or a delimiter behind a
    brace (``},``) or an item (``item,``); it decides what may follow.
    """

    def __init__(self, text: str, delimiter: str) -> None:
        self._text = text
        self._at = 0
        self._delimiter = delimiter
        self._items: list[str | None] = []
        self._sizes: list[int | None] = []
        self._counts: list[int] = []
        self._leaf_depth = 0
        self._state = "start"

    def read(self) -> tuple[list[str | None], tuple[int, ...]]:
        """Return flat element texts (None: NULL) and the dimensions."""
        while self._counts or self._state == "start":
            self._skip_space()
            char = self._text[self._at : self._at + 1]
            if char == "":
                raise _malformed(self._text, "Unexpected end of input.")
            if char == "{":
                self._enter()
            elif char == "}":
                self._leave()
            elif char == self._delimiter:
                if self._state not in ("item", "}"):
                    raise self._unexpected(char)
                self._at += 1
                self._state += ","
            else:
                self._element()
        self._skip_space()
        if self._at < len(self._text):
            raise _malformed(self._text, "Junk after closing right brace.")
        return self._items, tuple(size or 0 for size in self._sizes) if self._items else ()

    def _skip_space(self) -> None:
        text, at = self._text, self._at
        while at < len(text) and text[at] in _SPACE:
            at += 1
        self._at = at

    def _unexpected(self, char: str) -> InvalidTextRepresentation:
        return _malformed(self._text, f'Unexpected "{char}" character.')

    def _ragged(self) -> InvalidTextRepresentation:
        return _malformed(
            self._text, "Multidimensional arrays must have sub-arrays with matching dimensions."
        )

    def _enter(self) -> None:
        if self._state not in ("start", "{", "},"):
            raise self._unexpected("{")
        counts = self._counts
        if counts:
            counts[-1] += 1
        counts.append(0)
        if len(counts) > DIMENSIONS_MAX:
            raise too_many_dimensions(len(counts))
        if self._leaf_depth and len(counts) > self._leaf_depth:
            raise self._ragged()
        if len(counts) > len(self._sizes):
            self._sizes.append(None)
        self._at += 1
        self._state = "{"

    def _leave(self) -> None:
        counts = self._counts
        if self._state not in ("item", "}") and not (self._state == "{" and len(counts) == 1):
            raise self._unexpected("}")
        count = counts.pop()
        depth = len(counts)
        if self._sizes[depth] is None:
            self._sizes[depth] = count
        elif self._sizes[depth] != count:
            raise self._ragged()
        self._at += 1
        self._state = "}"

    def _element(self) -> None:
        if self._state not in ("{", "item,"):
            raise _malformed(self._text, "Unexpected array element.")
        depth = len(self._counts)
        if self._leaf_depth == 0:
            self._leaf_depth = depth
        if depth != self._leaf_depth or depth != len(self._sizes):
            raise self._ragged()
        self._counts[-1] += 1
        self._items.append(self._read_item())
        self._state = "item"

    def _read_item(self) -> str | None:
        text, at = self._text, self._at
        if text[at] == '"':
            return self._read_quoted()
        parts: list[str] = []
        quoted_until = 0
        while at < len(text) and text[at] not in ("{", "}", self._delimiter):
            if text[at] == '"':
                self._at = at
                raise _malformed(text, "Unexpected array element.")
            if text[at] == "\\":
                at += 1
                if at >= len(text):
                    raise _malformed(text, "Unexpected end of input.")
                quoted_until = len(parts) + 1
            parts.append(text[at])
            at += 1
        if at >= len(text):
            raise _malformed(text, "Unexpected end of input.")
        if text[at] == "{":
            self._at = at
            raise self._unexpected("{")
        while len(parts) > quoted_until and parts[-1] in _SPACE:
            parts.pop()
        self._at = at
        item = "".join(parts)
        return None if quoted_until == 0 and item.upper() == "NULL" else item

    def _read_quoted(self) -> str:
        text, at = self._text, self._at + 1
        parts: list[str] = []
        while at < len(text) and text[at] != '"':
            if text[at] == "\\":
                at += 1
            parts.append(text[at : at + 1])
            at += 1
        if at >= len(text):
            raise _malformed(text, "Unexpected end of input.")
        self._at = at + 1
        return "".join(parts)
