"""pg_stat_statements: what each statement text cost, by normalised text.

Bounded: the least called half goes when there are more than ``ENTRIES_MAX``, or when their texts
have more than ``TEXTS_LENGTH_MAX`` characters together. A long text is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.types.base import Row

ENTRIES_MAX: Final = 5000
TEXT_LENGTH_MAX: Final = 16 * 1024
TEXTS_LENGTH_MAX: Final = 4 * 1024 * 1024


class Entry:
    """One statement's counts. ``is_dropped``: it is counted no more, ask for another."""

    __slots__ = (
        "calls",
        "is_dropped",
        "max_ms",
        "min_ms",
        "rows",
        "sum_of_squares",
        "total_ms",
    )

    def __init__(self) -> None:
        self.is_dropped = False
        self.calls = 0
        self.rows = 0
        self.total_ms = 0.0
        self.min_ms = float("inf")
        self.max_ms = 0.0
        self.sum_of_squares = 0.0

    def add(self, milliseconds: float, row_count: int) -> None:
        """Add one execution."""
        self.calls += 1
        self.rows += row_count
        self.total_ms += milliseconds
        self.sum_of_squares += milliseconds * milliseconds
        if milliseconds < self.min_ms:  # noqa: PLR1730  min() and max() cost four times as much
            self.min_ms = milliseconds
        if milliseconds > self.max_ms:  # noqa: PLR1730
            self.max_ms = milliseconds


class StatementStatistics:
    """Counts per (role, database, text)."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, int, str], Entry] = {}
        self._texts_length = 0

    def record(self, session: Session, text: str, milliseconds: float, row_count: int = 0) -> None:
        """Add one execution."""
        self.entry(session, text).add(milliseconds, row_count)

    def entry(self, session: Session, text: str) -> Entry:
        """Return the counts of a text as this session runs it."""
        if len(text) > TEXT_LENGTH_MAX:
            text = text[:TEXT_LENGTH_MAX]
        key = (session.user_id, session.database_id, text)
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= ENTRIES_MAX or self._texts_length >= TEXTS_LENGTH_MAX:
                self._shrink()
            self._texts_length += len(text)
            entry = self._entries[key] = Entry()
        return entry

    def _shrink(self) -> None:
        ranked = sorted(self._entries.items(), key=lambda item: item[1].calls, reverse=True)
        self._entries = dict(ranked[: len(ranked) // 2])
        for _, entry in ranked[len(ranked) // 2 :]:
            entry.is_dropped = True
        self._texts_length = sum(len(text) for _, _, text in self._entries)

    def reset(self) -> None:
        """Forget everything."""
        for entry in self._entries.values():
            entry.is_dropped = True
        self._entries.clear()
        self._texts_length = 0

    def rows(self, session: Session) -> list[Row]:
        """Return the view's rows; other roles' texts are hidden from ordinary roles."""
        may_see_all = session.catalog().is_superuser
        result: list[Any] = []
        for (user_id, database_id, text), entry in self._entries.items():
            if not entry.calls:
                continue
            mean = entry.total_ms / entry.calls
            variance = max(entry.sum_of_squares / entry.calls - mean * mean, 0.0)
            visible = may_see_all or user_id == session.user_id
            result.append(
                (
                    user_id,
                    database_id,
                    crc32(text.encode()),
                    text if visible else "<insufficient privilege>",
                    entry.calls,
                    entry.total_ms,
                    entry.min_ms,
                    entry.max_ms,
                    mean,
                    variance**0.5,
                    entry.rows,
                )
            )
        return result
