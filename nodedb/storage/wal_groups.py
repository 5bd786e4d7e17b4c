"""The write-ahead log's index in memory: what each group's log holds, and where on disk.

``GroupLog`` keeps for every entry that is not compacted its term, its place, and, while it is
young enough, its payload. Indexes run from ``base_index + 1`` to ``last_index``; the base is
the last entry that was compacted away (or the snapshot that replaced it). ``GroupReplay`` builds
one from the records found at start.
"""

from nodedb.storage.wal_format import ENTRY_HEADER_BYTES
from nodedb.storage.wal_segments import Batch

# Batch, offset of the record in the batch's payload, bytes of the entry's payload.
Place = tuple[Batch, int, int]
LogEntry = tuple[int, int, bytes]


class GroupLog:
    """One group's part of the log. ``durable_index``: entries up to it are on the disk."""

    __slots__ = (
        "base_batch",
        "base_index",
        "base_term",
        "cached_from",
        "durable_index",
        "hard_batch",
        "hard_state",
        "payloads",
        "places",
        "terms",
    )

    def __init__(self) -> None:
        self.base_index = 0
        self.base_term = 0
        self.base_batch: Batch | None = None
        self.hard_state: tuple[int, int, int] | None = None
        self.hard_batch: Batch | None = None
        self.terms: list[int] = []
        self.payloads: list[bytes | None] = []
        self.places: list[Place] = []
        # Payloads of entries below this index are not in memory.
        self.cached_from = 1
        self.durable_index = 0

    @property
    def last_index(self) -> int:
        """Index of the newest entry; the base when there is none."""
        return self.base_index + len(self.terms)

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry, of the base, or None outside of both."""
        position = index - self.base_index
        if position == 0:
            return self.base_term
        if 0 < position <= len(self.terms):
            return self.terms[position - 1]
        return None

    def drop_suffix(self, from_index: int) -> int:
        """Forget the entries from an index on; return the bytes of payload cached among them."""
        position = from_index - self.base_index - 1
        assert position >= 0, (from_index, self.base_index)
        freed = release_places(self.places[position:], self.payloads[position:])
        del self.terms[position:]
        del self.payloads[position:]
        del self.places[position:]
        self.durable_index = min(self.durable_index, from_index - 1)
        self.cached_from = min(self.cached_from, from_index)
        return freed

    def drop_prefix(self, upto_index: int, term: int) -> int:
        """Make ``upto_index`` the base; return the bytes of payload cached below."""
        count = upto_index - self.base_index
        freed = release_places(self.places[:count], self.payloads[:count])
        del self.terms[:count]
        del self.payloads[:count]
        del self.places[:count]
        self.base_index = upto_index
        self.base_term = term
        self.durable_index = max(self.durable_index, upto_index)
        self.cached_from = max(self.cached_from, upto_index + 1)
        return freed

    def evict(self, upto_index: int) -> int:
        """Drop payloads up to an index from memory, durable ones only; return their bytes."""
        end = min(upto_index, self.durable_index)
        freed = 0
        base = self.base_index + 1
        payloads = self.payloads
        for position in range(max(self.cached_from, base) - base, end - base + 1):
            payload = payloads[position]
            if payload is not None:
                freed += len(payload)
                payloads[position] = None
        self.cached_from = max(self.cached_from, end + 1)
        return freed


def release_places(places: list[Place], payloads: list[bytes | None]) -> int:
    """Take dead entries out of their segments' accounts; return the bytes that were cached."""
    for batch, _, length in places:
        size = ENTRY_HEADER_BYTES + length
        if batch.segment is None:
            batch.live_bytes -= size
        else:
            batch.segment.live_bytes -= size
    return sum(len(payload) for payload in payloads if payload is not None)


class GroupReplay:
    """Collects one group's records at start, in the order of the log.

    A copy may stand long after the entries that follow it, so entries are collected by index and
    only at the end must be without a gap.
    """

    __slots__ = (
        "_base",
        "_base_batch",
        "_base_term",
        "_entries",
        "_hard_batch",
        "_hard_state",
        "_last",
    )

    def __init__(self) -> None:
        self._base = 0
        self._base_term = 0
        self._base_batch: Batch | None = None
        self._hard_state: tuple[int, int, int] | None = None
        self._hard_batch: Batch | None = None
        self._entries: dict[int, tuple[int, Place]] = {}
        self._last = 0

    def on_entry(self, index: int, term: int, place: Place) -> None:
        """Replace what stands at the index and above (Raft paper §5.3)."""
        if index <= self._last:
            self.on_truncate(index)
        self._entries[index] = (term, place)
        self._last = index

    def on_copy(self, index: int, term: int, place: Place) -> None:
        """Take an entry that was written again; it replaces nothing but itself."""
        self._entries[index] = (term, place)
        self._last = max(self._last, index)

    def on_truncate(self, from_index: int) -> None:
        """Forget the entries from an index on."""
        if self._last - from_index < len(self._entries):
            for index in range(from_index, self._last + 1):
                self._entries.pop(index, None)
        else:
            kept = {index: entry for index, entry in self._entries.items() if index < from_index}
            self._entries = kept
        self._last = min(self._last, from_index - 1)

    def on_compact(self, index: int, term: int, batch: Batch) -> None:
        """Take a new base."""
        if index < self._base:
            return
        self._base = index
        self._base_term = term
        self._base_batch = batch
        self._last = max(self._last, index)

    def on_hard_state(self, state: tuple[int, int, int], batch: Batch) -> None:
        """Take a newer hard state."""
        self._hard_state = state
        self._hard_batch = batch

    def finish(self) -> GroupLog:
        """Return the group's log. Raises ValueError when an entry is missing."""
        log = GroupLog()
        log.base_index = self._base
        log.base_term = self._base_term
        log.base_batch = self._base_batch
        log.hard_state = self._hard_state
        log.hard_batch = self._hard_batch
        for index in range(self._base + 1, self._last + 1):
            found = self._entries.get(index)
            if found is None:
                message = f"entry {index} is missing"
                raise ValueError(message)
            term, place = found
            log.terms.append(term)
            log.places.append(place)
            segment = place[0].segment
            assert segment is not None
            segment.live_bytes += ENTRY_HEADER_BYTES + place[2]
        log.payloads = [None] * len(log.terms)
        log.durable_index = log.last_index
        log.cached_from = log.last_index + 1
        return log
