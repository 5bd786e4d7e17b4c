"""What is said of entries that were not applied, or whose fate nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodedb.errors import LeaderChanged
from sql import errors as sql_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodedb.errors import DiskFull
    from nodedb.waiter import Waiter


def refuse(waiters: Iterable[Waiter[int]], error: DiskFull) -> None:
    """Say that the disk had no room, so that surely nothing was written (53100)."""
    for waiter in waiters:
        waiter.set_error(
            sql_errors.DiskFull(
                "could not extend the write-ahead log: no space left on device",
                detail=str(error),
                hint="Check free disk space.",
            )
        )


def leave_unknown(lost: Iterable[Waiter[int]], reason: str) -> None:
    """Say of entries that may be in effect one day, or not, just that (40003)."""
    for waiter in lost:
        waiter.set_error(
            sql_errors.StatementCompletionUnknown(
                "could not determine whether the transaction was committed",
                detail=f"{reason[:1].upper()}{reason[1:]}.",
                hint="Look for its effects before running it again.",
            )
        )


def surely_not_applied(waiters: Iterable[Waiter[int]]) -> None:
    """Say that another entry stands where theirs was to be, or that nobody took it (40001)."""
    for waiter in waiters:
        waiter.set_error(LeaderChanged())


def too_long(byte_count: int, limit: int) -> sql_errors.ConfigurationLimitExceeded:
    """Return the error (53400) of what does not fit into an entry of the log."""
    return sql_errors.ConfigurationLimitExceeded(
        "transaction writes too much",
        detail=f"Its {byte_count} bytes do not fit into one log entry of {limit} bytes.",
        hint="Commit in smaller pieces.",
    )
