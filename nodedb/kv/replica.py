"""One group's replica on this node: its core, its part of the log, its state machine.

``ReplicaLog`` is the node-wide log as the Raft core wants to see it: one group's entries, appended
in memory, durable with the turn's flush.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from cluster.raft.message import Configuration, Entry, HardState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cluster.raft.core import RaftCore
    from nodedb.storage.engine import Engine, Space
    from nodedb.storage.wal import Wal
    from nodedb.waiter import Waiter

CONFIGURATION_KEY: Final = b"raft-configuration"
CONF_CHANGE: Final = 0xFF
"""First byte of an entry that changes the group's configuration."""
_configuration_decoder: Final = msgspec.msgpack.Decoder(Configuration)


class StateMachine(Protocol):
    """What a group's entries are applied to."""

    def decode(self, payload: bytes) -> Any:
        """Read an entry as it stands in the log."""

    def apply(self, value: Any, index: int) -> Iterator[int] | None:
        """Apply a decoded entry: the proposer's own value, or what ``decode`` made of it.

        A long one is handed back in slices that are still to be run, each yielding the bytes it
        wrote: the entry takes effect when they end, all of it at once for every reader. Applying
        it a second time, after any of its slices, must do no harm.
        """

    def save(self) -> None:
        """Write what is kept in memory into the engine's open transaction, before it commits."""


class Proposed(NamedTuple):
    """An entry of this node's own that is in the log and not applied yet."""

    at: int
    term: int
    value: Any
    waiter: Waiter[int]
    byte_count: int


class Replica:
    """What the replicator keeps of a group."""

    __slots__ = (
        "applied_index",
        "aside",
        "core",
        "group_id",
        "is_installing",
        "log",
        "machine",
        "meta",
        "proposed",
        "reads",
        "was_leader",
    )

    def __init__(
        self, group_id: int, machine: StateMachine, core: RaftCore, log: ReplicaLog, meta: Space
    ) -> None:
        self.group_id = group_id
        self.machine = machine
        self.core = core
        self.log = log
        self.meta = meta
        self.applied_index = core.applied_index
        self.proposed: deque[Proposed] = deque()
        """Ascending by index, one at each."""
        self.aside: list[Proposed] = []
        """From earlier times as the leader, at indexes at which there are others in ``proposed``.

        Any of the two may be in effect one day, until an entry at the index is committed.
        """
        self.reads: list[tuple[int, Waiter[bool]]] = []
        """Confirmed reads, and the index that must be applied before they are served."""
        self.was_leader = core.is_leader
        self.is_installing = False
        """Its state is about to be replaced by a snapshot: nothing is applied meanwhile."""

    def set_aside(self, first: int, last: int = sys.maxsize) -> None:
        """Move what is proposed at [first, last] out of the way."""
        self.aside += [entry for entry in self.proposed if first <= entry.at <= last]
        self.proposed = deque(e for e in self.proposed if not first <= e.at <= last)

    def take_proposed(self, last_term: int = sys.maxsize) -> list[Waiter[int]]:
        """Forget what was proposed up to a term; returns who waits for it."""
        every = (*self.aside, *self.proposed)
        self.aside = [entry for entry in self.aside if entry.term > last_term]
        self.proposed = deque(entry for entry in self.proposed if entry.term > last_term)
        return [entry.waiter for entry in every if entry.term <= last_term]


class ReplicaLog:
    """One group's view of the node-wide log. Implements ``cluster.raft``'s LogStore."""

    __slots__ = ("_group_id", "_wal")

    def __init__(self, wal: Wal, group_id: int) -> None:
        self._wal = wal
        self._group_id = group_id

    def hard_state(self) -> HardState:
        """Return the newest hard state, zeros when there is none."""
        state = self._wal.hard_state(self._group_id)
        return HardState(0, 0, 0) if state is None else HardState(*state)

    def set_hard_state(self, state: HardState) -> None:
        """Record it; durable after the flush."""
        self._wal.set_hard_state(self._group_id, state.term, state.voted_for, state.commit_index)

    def first_index(self) -> int:
        """Return the index of the oldest entry that is, or would be next, in the log."""
        return self._wal.first_index(self._group_id)

    def last_index(self) -> int:
        """Return the index of the newest entry, durable or not."""
        return self._wal.last_index(self._group_id)

    def durable_index(self) -> int:
        """Return the index up to which the log is fsynced."""
        return self._wal.durable_index(self._group_id)

    def term_at(self, index: int) -> int | None:
        """Return an entry's term; None when it is compacted or not there yet."""
        return self._wal.term_at(self._group_id, index)

    def entries(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        """Return the entries of [lo, hi), at least one and then up to ``bytes_max`` of payload."""
        return self._wal.entries(self._group_id, lo, hi, bytes_max)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, replacing what stands at their indexes and above."""
        self._wal.append_entries(self._group_id, entries)


def meta_space(engine: Engine, group_id: int) -> Space:
    """Return the space in which a group keeps what is not rows."""
    return engine.space(f"group{group_id}.meta" if group_id else "metadata.state")


def stored_configuration(engine: Engine, group_id: int) -> Configuration | None:
    """Return the configuration as of the engine's applied index, None for a group never started."""
    saved = meta_space(engine, group_id).get(CONFIGURATION_KEY)
    return None if saved is None else _configuration_decoder.decode(saved)
