"""Records: a tuple of datums that knows its fields' types, so that it can be written.

Source: PostgreSQL docs, "Composite Types", "Composite Type Input and Output Syntax".
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from sql.types.base import Datum, SqlType

_NEEDS_QUOTES: Final = re.compile(r'["\\(), \t\n\r\f\v]')


class RecordValue(tuple[Datum, ...]):
    """Field values; ``types`` has the type of each and ``names`` their names, if known."""

    names: tuple[str, ...]
    types: tuple[SqlType, ...]

    def __new__(
        cls, values: Iterable[Datum], types: tuple[SqlType, ...], names: tuple[str, ...] = ()
    ) -> "RecordValue":
        """Join values and types, which are of equal length."""
        self = super().__new__(cls, values)
        assert len(self) == len(types)
        self.types = types
        self.names = names
        return self


def record_out(values: tuple[Datum, ...], writers: list[Callable[[Datum], str]]) -> str:
    """Write ``(a,"b c",)``; a NULL field is empty."""
    fields = []
    for value, write in zip(values, writers, strict=True):
        if value is None:
            fields.append("")
            continue
        text = write(value)
        if not text or _NEEDS_QUOTES.search(text):
            text = '"' + text.replace("\\", "\\\\").replace('"', '""') + '"'
        fields.append(text)
    return "(" + ",".join(fields) + ")"
