"""A group's log in memory, with a disk that loses what was not flushed. A ``LogStore`` of the core.

``flush`` makes everything durable at once, as one batch of the node's log does; ``crash`` goes back
to what was. ``compact`` and ``reset`` are the driver's. Shared with the simulation.
"""

from collections.abc import Sequence

from cluster.raft.message import Entry, HardState


class MemoryLogStore:
    """Invariant: the entries of ``_entries`` follow ``_base_index`` without a gap."""

    def __init__(self) -> None:
        self._hard_state = HardState(0, 0, 0)
        self._base_index = 0
        self._base_term = 0
        self._entries: list[Entry] = []
        self._durable_index = 0
        self._durable = (self._hard_state, 0, 0)
        self._durable_entries: list[Entry] = []
        # Positions of ``_durable_entries`` below it are those of ``_entries``.
        self._same_count = 0
        self.flush_count = 0

    # LogStore

    def hard_state(self) -> HardState:
        return self._hard_state

    def set_hard_state(self, state: HardState) -> None:
        assert state.term >= self._hard_state.term, (state, self._hard_state)
        self._hard_state = state

    def first_index(self) -> int:
        return self._base_index + 1

    def last_index(self) -> int:
        return self._base_index + len(self._entries)

    def durable_index(self) -> int:
        return self._durable_index

    def term_at(self, index: int) -> int | None:
        position = index - self._base_index
        if position == 0:
            return self._base_term
        if 0 < position <= len(self._entries):
            return self._entries[position - 1][1]
        return None

    def entries(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        assert self._base_index < lo <= hi <= self.last_index() + 1, (lo, hi, self._base_index)
        result: list[Entry] = []
        total = 0
        for position in range(lo - self._base_index - 1, hi - self._base_index - 1):
            total += len(self._entries[position][2])
            if total > bytes_max and result:
                break
            result.append(self._entries[position])
        return result

    def append(self, entries: Sequence[Entry]) -> None:
        first = entries[0][0]
        assert self._base_index < first <= self.last_index() + 1, (first, self.last_index())
        assert [entry[0] for entry in entries] == list(range(first, first + len(entries)))
        self._drop_suffix(first)
        self._entries.extend(entries)

    # The driver's side

    @property
    def needs_flush(self) -> bool:
        return (
            self._durable != (self._hard_state, self._base_index, self._base_term)
            or self._same_count != len(self._entries)
            or len(self._durable_entries) != len(self._entries)
        )

    def flush(self) -> None:
        """Make all that was appended durable."""
        self.flush_count += 1
        del self._durable_entries[self._same_count :]
        self._durable_entries.extend(self._entries[self._same_count :])
        self._same_count = len(self._entries)
        self._durable = (self._hard_state, self._base_index, self._base_term)
        self._durable_index = self.last_index()

    def crash(self) -> None:
        """Lose what was not flushed: the power failed."""
        self._hard_state, self._base_index, self._base_term = self._durable
        self._entries = list(self._durable_entries)
        self._same_count = len(self._entries)
        self._durable_index = self.last_index()

    def discard_after(self, index: int) -> None:
        """Take back proposals that were not flushed, as on a full disk."""
        assert index >= self._durable_index
        self._drop_suffix(index + 1)

    def compact(self, upto_index: int) -> None:
        """Forget the entries up to an index; rides along with the next flush."""
        if upto_index <= self._base_index:
            return
        assert upto_index <= self._durable_index
        term = self.term_at(upto_index)
        assert term is not None
        del self._entries[: upto_index - self._base_index]
        self._base_index, self._base_term = upto_index, term
        self._same_count = 0

    def reset(self, index: int, term: int) -> None:
        """Replace the whole log by a raft snapshot's base; durable at once."""
        self._entries = []
        self._base_index, self._base_term = index, term
        self._same_count = 0
        self.flush()

    def all_entries(self) -> list[Entry]:
        """Return a copy of what is in the log."""
        return list(self._entries)

    def durable_entries(self) -> list[Entry]:
        """Return a copy of what a crash would leave."""
        return list(self._durable_entries)

    def _drop_suffix(self, from_index: int) -> None:
        position = from_index - self._base_index - 1
        del self._entries[position:]
        self._same_count = min(self._same_count, position)
        self._durable_index = min(self._durable_index, from_index - 1)
