"""pg_stat_statements: what each statement text cost, by normalised text.

Bounded: the least called half goes when there are more than ``ENTRIES_MAX``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.types.base import Row

ENTRIES_MAX: Final = 5000


class _Entry:
    __slots__ = ("calls", "max_ms", "min_ms", "rows", "sum_of_squares", "total_ms")

    def __init__(self) -> None:
        self.calls = 0
        self.rows = 0
        self.total_ms = 0.0
        self.min_ms = float("inf")
        self.max_ms = 0.0
        self.sum_of_squares = 0.0


class StatementStatistics:
    """Counts per (role, database, text)."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, int, str], _Entry] = {}

    def record(self, session: Session, text: str, milliseconds: float, row_count: int = 0) -> None:
        """Add one execution."""
        key = (session.user_id, session.database_id, text)
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= ENTRIES_MAX:
                self._shrink()
            entry = self._entries[key] = _Entry()
        entry.calls += 1
        entry.rows += row_count
        entry.total_ms += milliseconds
        entry.sum_of_squares += milliseconds * milliseconds
        entry.min_ms = min(entry.min_ms, milliseconds)
        entry.max_ms = max(entry.max_ms, milliseconds)

    def _shrink(self) -> None:
        ranked = sorted(self._entries.items(), key=lambda item: item[1].calls, reverse=True)
        self._entries = dict(ranked[: ENTRIES_MAX // 2])

    def reset(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def rows(self, session: Session) -> list[Row]:
        """Return the view's rows; other roles' texts are hidden from ordinary roles."""
        may_see_all = session.catalog().is_superuser
        result: list[Any] = []
        for (user_id, database_id, text), entry in self._entries.items():
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
