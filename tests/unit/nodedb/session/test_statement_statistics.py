"""What is kept of statement texts is bounded, in number and in length."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from nodedb.session.statement_statistics import (
    ENTRIES_MAX,
    TEXT_LENGTH_MAX,
    TEXTS_LENGTH_MAX,
    StatementStatistics,
)

if TYPE_CHECKING:
    from nodedb.session.session import Session


def make_session() -> Session:
    catalog = SimpleNamespace(is_superuser=True)
    return cast("Session", SimpleNamespace(user_id=10, database_id=5, catalog=lambda: catalog))


def texts(statistics: StatementStatistics) -> list[str]:
    return [str(row[3]) for row in statistics.rows(make_session())]


def test_the_most_called_stay() -> None:
    statistics, session = StatementStatistics(), make_session()
    for _ in range(3):
        statistics.record(session, "often", 1.0)
    for number in range(3 * ENTRIES_MAX):
        statistics.record(session, f"once {number}", 1.0)
        assert len(statistics._entries) <= ENTRIES_MAX
    assert "often" in texts(statistics)


def test_long_texts_are_cut_and_counted_together() -> None:
    statistics, session = StatementStatistics(), make_session()
    for number in range(1000):
        statistics.record(session, f"{number} " + "x" * 100_000, 1.0)
    kept = texts(statistics)
    assert max(map(len, kept)) == TEXT_LENGTH_MAX
    assert sum(map(len, kept)) <= TEXTS_LENGTH_MAX + TEXT_LENGTH_MAX
    assert len(kept) >= 100


def test_after_a_reset_there_is_room_again() -> None:
    statistics, session = StatementStatistics(), make_session()
    for number in range(200):
        statistics.record(session, f"{number} " + "x" * TEXT_LENGTH_MAX, 1.0)
    statistics.reset()
    statistics.record(session, "new", 1.0)
    assert texts(statistics) == ["new"]
    assert statistics._texts_length == 3
