"""What the core needs of a log, and the search for where two logs part.

The log is appended in memory at once; it becomes durable with the driver's flush, and only then may
anything leave that depends on it (PROTOCOL rule 62). Indexes begin at 1; the *base* is the entry
before ``first_index``: the last one that was compacted away, or a raft snapshot's, or (0, term 0).
"""

from collections.abc import Sequence
from typing import Protocol

from cluster.raft.message import Entry, HardState


class LogStore(Protocol):
    """One group's log. Whoever implements it keeps no promise but durability to ``flush``."""

    def hard_state(self) -> HardState:
        """Return the newest hard state, flushed or not; (0, 0, 0) at first."""

    def set_hard_state(self, state: HardState) -> None:
        """Replace it; durable after the next flush."""

    def first_index(self) -> int:
        """Return the index of the oldest entry that is (or would be next) in the log."""

    def last_index(self) -> int:
        """Return the index of the newest entry, flushed or not; the base's when there is none."""

    def durable_index(self) -> int:
        """Return up to where the log is durable."""

    def term_at(self, index: int) -> int | None:
        """Return an entry's term, also the base's; None when compacted or not there yet."""

    def entries(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        """Return the entries of [lo, hi): at least one, and then up to ``bytes_max`` of payload."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Append; an index at or below the last one replaces it and everything above."""


def last_match_candidate(log: LogStore, index: int, term: int) -> tuple[int, int]:
    """Return (index, term) of the newest entry at or below ``index`` of at most ``term``.

    Neither log can match the other's ``(index, term)`` above that entry, because terms never fall
    along a log: so a whole term is skipped per exchange, not an entry (§5.3, last paragraphs). Both
    sides use it: the follower on the leader's ``prev``, the leader on the follower's answer. The
    base is the end of the search: what is compacted is committed, so it matches.
    """
    index = min(index, log.last_index())
    base = log.first_index() - 1
    while index > base:
        found = log.term_at(index)
        assert found is not None, (index, base)
        if found <= term:
            return index, found
        index -= 1
    return index, log.term_at(index) or 0
