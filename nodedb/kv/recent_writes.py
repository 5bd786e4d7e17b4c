"""Validation of reads, the leaseholder's half of SERIALIZABLE.

A transaction that read at its snapshot and commits at a later timestamp is serializable at that
timestamp if nothing it read has been written in between: no key, and nothing in a range, gaps
included, so that rows it would have found but were not there yet (phantoms) count too. Every
serializable transaction that writes is validated so, in the turn of the loop in which its entry is
proposed; the order of commits is then the order of their timestamps, also in real time. One that
only reads is serializable at its snapshot and needs no validation.

``ReadSet`` is what a transaction has read; ``RecentWrites`` what was written since the oldest
snapshot that may still be validated. Writes are noted when they are *proposed*: the next
transaction may be validated before they are applied (PROTOCOL rules 1, 2). One whose entry is then
refused leaves its keys here for a while, which may cost somebody a retry and nothing else.

The structure is born empty and forgets: below its ``floor`` it knows nothing, and a transaction
whose snapshot is older is refused (rule 14).

Not done here: validation in a group this node does not lead, and holds from prepare to decision.
Source: Kung and Robinson 1981, "On Optimistic Methods for Concurrency Control", section 3
(backward validation).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Final

from nodedb.kv.keys import TIMESTAMP_MAX

if TYPE_CHECKING:
    from collections.abc import Collection

READ_KEYS_MAX: Final = 16_384
"""So many single keys are kept; then each index's keys become one range from first to last."""
READ_RANGES_MAX: Final = 4_096
"""So many ranges are kept; then each index's ranges become one."""
RECENT_KEYS_MAX: Final = 1_000_000
"""So many written keys are kept; then the oldest commits are forgotten."""
_PREFIX_BYTES: Final = 6
Range = tuple[bytes, bytes]
"""Half open: [start, end)."""
_Commit = tuple[int, "Collection[bytes]", "Collection[Range]"]
"""What one commit wrote: (timestamp, keys, spans), spans where the keys are too many to keep."""


class ReadSet:
    """The keys and ranges a transaction has read, absent ones and gaps included.

    It may cover more than was read, never less.
    """

    __slots__ = ("_ends", "_is_sorted", "_ranges", "_starts", "keys")

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self._ranges: list[Range] = []
        self._is_sorted = True
        self._starts: list[bytes] = []
        self._ends: list[bytes] = []

    def add_key(self, key: bytes) -> None:
        """Add one key, there or not."""
        self.keys.add(key)
        if len(self.keys) > READ_KEYS_MAX:
            self._widen_keys()

    def add_range(self, start: bytes, end: bytes) -> None:
        """Add [start, end); the batches of one scan follow each other and become one range."""
        if start >= end:
            return
        ranges = self._ranges
        self._is_sorted = False
        if ranges:
            last_start, last_end = ranges[-1]
            if last_end == start:
                ranges[-1] = (last_start, end)
                return
            if last_start == end:
                ranges[-1] = (start, last_end)
                return
            if last_start <= start and end <= last_end:
                return
        ranges.append((start, end))
        if len(ranges) > READ_RANGES_MAX:
            self._widen_ranges()

    def __bool__(self) -> bool:
        """Tell whether anything was read."""
        return bool(self.keys or self._ranges)

    def find(self, written: Collection[bytes]) -> bytes | None:
        """Return a written key that was read, None when there is none."""
        keys = self.keys
        if not self._ranges:
            return next((key for key in written if key in keys), None)
        covers = self.covers
        return next((key for key in written if key in keys or covers(key)), None)

    def covers(self, key: bytes) -> bool:
        """Tell whether a key lies in a range that was read."""
        if not self._is_sorted:
            self._sort()
        at = bisect_right(self._starts, key) - 1
        return at >= 0 and key < self._ends[at]

    def overlaps(self, first: bytes, last: bytes) -> bool:
        """Tell whether any key of [first, last] was read."""
        if any(first <= key <= last for key in self.keys):
            return True
        if not self._is_sorted:
            self._sort()
        at = bisect_right(self._starts, last) - 1
        return at >= 0 and first < self._ends[at]

    def _sort(self) -> None:
        """Put the ranges in order, those that touch joined."""
        joined: list[Range] = []
        for start, end in sorted(self._ranges):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        self._ranges = joined
        self._starts = [start for start, _ in joined]
        self._ends = [end for _, end in joined]
        self._is_sorted = True

    def _widen_keys(self) -> None:
        spans: dict[bytes, Range] = {}
        for key in self.keys:
            prefix = key[:_PREFIX_BYTES]
            first, last = spans.get(prefix, (key, key))
            spans[prefix] = min(first, key), max(last, key)
        self.keys = set()
        for first, last in spans.values():
            self.add_range(first, last + b"\0")

    def _widen_ranges(self) -> None:
        self._sort()
        spans: dict[bytes, Range] = {}
        for start, end in self._ranges:
            prefix = start[:_PREFIX_BYTES]
            first, last = spans.get(prefix, (start, end))
            spans[prefix] = min(first, start), max(last, end)
        self._ranges = list(spans.values())
        self._is_sorted = False


class RecentWrites:
    """What the latest commits of a group have written, oldest first.

    Kept while anybody who may have to be validated runs, between ``watch`` and ``unwatch``;
    otherwise the group's commits pass by unnoticed.
    """

    def __init__(self) -> None:
        self.floor = 0
        self.is_watched = False
        """Whether commits are to be noted."""
        self._watchers: dict[int, int] = {}
        self._commits: deque[_Commit] = deque()
        self._key_count = 0

    def watch(self, transaction_id: int, snapshot: int) -> None:
        """Keep what is written above ``snapshot``, the newest applied state, for a transaction.

        If nobody has watched before, the caller notes the commits that are on their way.
        """
        if not self._watchers:
            self.floor = snapshot
            self.is_watched = True
        self._watchers[transaction_id] = snapshot

    def unwatch(self, transaction_id: int) -> None:
        """Forget a transaction that is over, and all of it after the last."""
        self._watchers.pop(transaction_id, None)
        if not self._watchers:
            self.is_watched = False
            self._commits.clear()
            self._key_count = 0

    def note(self, timestamp: int, keys: Collection[bytes], spans: Collection[Range] = ()) -> None:
        """Take down what a commit, just proposed, writes.

        Of a bulk commit it is the ``spans``: the first and last key that it writes in each index.
        """
        commits = self._commits
        assert not commits or timestamp > commits[-1][0], "timestamps grow"
        # Snapshots are taken in the order in which transactions begin to watch.
        oldest = next(iter(self._watchers.values()))
        while commits and commits[0][0] <= oldest:
            self._forget_first()
        commits.append((timestamp, keys, spans))
        self._key_count += len(keys)
        while self._key_count > RECENT_KEYS_MAX and len(commits) > 1:
            self._forget_first()

    def conflict(self, reads: ReadSet, snapshot: int, until: int = TIMESTAMP_MAX) -> bytes | None:
        """Return a key that was read at ``snapshot`` and has been written since, None if none was.

        ``until`` leaves out what was committed later than that. b"" when it is not known any
        more: the same to the transaction, which has to be retried.
        """
        if snapshot < self.floor:
            return b""
        for timestamp, keys, spans in reversed(self._commits):
            if timestamp <= snapshot:
                break
            if timestamp > until:
                continue
            found = reads.find(keys)
            if found is not None:
                return found
            for first, last in spans:
                if reads.overlaps(first, last):
                    return first
        return None

    def __len__(self) -> int:
        """Return the number of commits that are kept."""
        return len(self._commits)

    def _forget_first(self) -> None:
        self.floor, keys, _ = self._commits.popleft()
        self._key_count -= len(keys)
