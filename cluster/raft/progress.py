"""What a leader knows of a peer, and how much it may send to it.

    probe ──(answer matches)──> replicate ──(refused, unreachable, lost)──> probe
      │                             │
      └──(needs what is compacted)──┴──> snapshot ──(result or acknowledgement)──> probe

*Probe*: one append, then wait for its answer or for the next heartbeat. *Replicate*: send on, up to
the window, without waiting. *Snapshot*: send nothing; the driver streams a raft snapshot.

The window counts entries and bytes that left and were not acknowledged. ``match_index`` is durable
at the peer; ``next_index`` is what is sent next; always ``match_index < next_index``.
"""

import enum
import math
from collections import deque


class ProgressState(enum.StrEnum):
    """How a peer is sent entries."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One peer. Invariant: ``inflight_bytes`` is the sum over ``_inflight``."""

    def __init__(self, next_index: int, heard_at: float) -> None:
        self.state = ProgressState.PROBE
        self.match_index = 0
        self.next_index = next_index
        self.commit_sent = 0
        """The highest commit index that the peer has been told."""
        self.is_paused = False
        """Probing: the probe has left and is not answered."""
        self.probe_round = 0
        """The round of the last probe, to tell its refusal from an older one."""
        self.lost_round = 0
        """Answers to earlier rounds come from before the peer lost its log."""
        self.checked_round = 0
        self.checked_index = 0
        """When the heartbeat of that round left, appends up to that index had left before it."""
        self.heard_at = heard_at
        """When the last message came; what check-quorum looks at."""
        self.acked_round = 0
        """The newest round that the peer has answered."""
        self.round_min = 0
        """Answers to earlier rounds do not count: it was no voter then (PROTOCOL rule 38)."""
        self.inflight_bytes = 0
        self._inflight: deque[tuple[int, int]] = deque()

    def become_probe(self, next_index: int) -> None:
        """Ask with one append from ``next_index`` on."""
        assert next_index > self.match_index
        self.state = ProgressState.PROBE
        self.next_index = next_index
        self.is_paused = False
        self._forget_inflight()

    def become_replicate(self) -> None:
        """Send on from what has matched."""
        self.state = ProgressState.REPLICATE
        self.next_index = self.match_index + 1
        self.is_paused = False
        self._forget_inflight()

    def become_snapshot(self) -> None:
        """Send nothing until a raft snapshot is there."""
        self.state = ProgressState.SNAPSHOT
        self.next_index = self.match_index + 1
        self.is_paused = False
        self._forget_inflight()

    def on_sent(self, last_index: int, byte_count: int) -> None:
        """Note that entries up to an index have left."""
        assert last_index >= self.next_index
        self.next_index = last_index + 1
        self._inflight.append((last_index, byte_count))
        self.inflight_bytes += byte_count

    def on_matched(self, index: int) -> bool:
        """Note what the peer holds durably; True if that is news."""
        if index <= self.match_index:
            return False
        self.match_index = index
        if self.next_index <= index:
            self.next_index = index + 1
        inflight = self._inflight
        while inflight and inflight[0][0] <= index:
            self.inflight_bytes -= inflight.popleft()[1]
        return True

    def on_lost_log(self, next_index: int, current_round: int) -> None:
        """Take back what the peer had acknowledged: it has lost it, with its disk."""
        self.lost_round = current_round
        self.match_index = 0
        self.commit_sent = 0
        self.become_probe(next_index)

    def _forget_inflight(self) -> None:
        self._inflight.clear()
        self.inflight_bytes = 0


def newest_reached_by_quorum(values: list[float], quorum: int) -> float:
    """Return the greatest value that at least ``quorum`` of the values reach; -inf if too few.

    ``values`` has one element per voter and is sorted in place.
    """
    if len(values) < quorum:
        return -math.inf
    values.sort()
    return values[-quorum]
