"""The replicas of one node as one pure state machine: what each group's core does, per turn.

Inputs are messages, ticks and proposals; after the log was flushed ``after_flush`` gathers what
all groups have to send, by peer, and what may be applied. Groups in which nothing happened cost
nothing there, and quiescent groups cost nothing per tick.

**Quiescence.** A quiescent group exchanges no messages. In its place the node that leads such
groups says to each peer of them that it lives, once per heartbeat interval (``Beat``), unless it
has told it something else meanwhile. A follower that does not hear from the leader's node for the
longest election timeout wakes its groups, and they elect. A beat carries a digest of the groups it
speaks for: when the peer's own list differs for ``DISAGREEMENTS_MAX`` beats in a row (the leader
has lost one of them to a third node and this one has not heard of it), the peer wakes its groups.
No lease lives on beats: the first read of a quiescent group wakes it and asks a quorum (PROTOCOL
rule 43).

Left to the driver: the log, the clock, the transport, applying.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from cluster.multiraft.message import Beat, digest_of
from cluster.raft.config import RaftConfig
from cluster.raft.core import RaftCore
from cluster.raft.message import EntryId, Message

DISAGREEMENTS_MAX: Final = 3


class Turn(NamedTuple):
    """What follows from one turn; everything it promises is durable."""

    outbox: dict[int, list[Message]]
    """Messages by node."""
    committed: list[tuple[int, int]]
    """(group, commit index) of groups in which something may be applied."""
    read_states: list[tuple[int, int, int]]
    """(group, context, index): a read may be served once the index is applied; -1 refuses it."""
    snapshots: list[tuple[int, int]]
    """(group, node) that needs a snapshot."""


class MultiRaft:
    """All cores of a node. Invariant: a group is awake, or asleep, or needs neither tick nor beat.

    ``unknown_count`` counts messages for groups that have no replica here.
    """

    def __init__(self, node_id: int, config: RaftConfig, now: float) -> None:
        self.node_id = node_id
        self.cores: dict[int, RaftCore] = {}
        self.unknown_count = 0
        self._config = config
        self._awake: dict[int, RaftCore] = {}
        self._asleep: dict[int, RaftCore] = {}
        self._asleep_under: dict[int, tuple[int, int]] = {}
        """(term, leader) with which a group fell asleep."""
        self._dirty: dict[int, RaftCore] = {}
        self._heard: dict[int, float] = {}
        self._said: dict[int, float] = {}
        self._disagreements: dict[int, int] = {}
        self._watched = now
        self._digests: dict[tuple[int, bool], int] = {}
        """By peer, and whether the groups are led here; emptied when a group wakes or sleeps."""

    # Replicas

    def add(self, core: RaftCore) -> None:
        """Take a replica; its first turn follows."""
        assert core.group_id not in self.cores, core.group_id
        self.cores[core.group_id] = core
        self._dirty[core.group_id] = core
        self._place(core)

    def remove(self, group_id: int) -> None:
        """Forget a replica."""
        for cores in (self.cores, self._dirty, self._awake, self._asleep):
            cores.pop(group_id, None)
        self._asleep_under.pop(group_id, None)
        self._digests.clear()

    def reconfigure(self, config: RaftConfig) -> None:
        """Go on with other settings."""
        self._config = config
        for core in self.cores.values():
            core.config = config

    def touch(self, group_id: int) -> RaftCore:
        """Return a replica's core to be given something: its group takes part in this turn."""
        core = self.cores[group_id]
        self._dirty[group_id] = core
        return core

    @property
    def has_work(self) -> bool:
        """Tell whether anything happened since the last turn."""
        return bool(self._dirty)

    @property
    def has_awake(self) -> bool:
        """Tell whether time matters to any group."""
        return bool(self._awake)

    # Inputs

    def propose(self, group_id: int, payload: bytes) -> EntryId:
        """Append an entry. Raises NotLeader."""
        core = self.cores[group_id]
        self._dirty[group_id] = core
        return core.propose(payload)

    def step(self, message: Message, now: float) -> None:
        """Take a message of a peer."""
        self._heard[message.sender] = now
        core = self.cores.get(message.group_id)
        if core is None:
            self.unknown_count += 1
            return
        self._dirty[message.group_id] = core
        core.step(message, now)

    def tick(self, now: float) -> list[tuple[int, Beat]]:
        """Let time pass for the groups that are awake; returns the beats to send, by node."""
        for group_id, core in self._awake.items():
            term = core.term
            core.tick(now)
            # A tick in which nothing was due costs the group no turn.
            if core.has_output or core.is_quiescent or core.term != term:
                self._dirty[group_id] = core
        if not self._asleep or now - self._watched < self._config.heartbeat_ms / 1000:
            return []
        self._watched = now
        self._wake_orphans(now)
        return self._beats(now)

    def on_beat(self, beat: Beat, now: float) -> None:
        """Take a peer's sign of life."""
        peer = beat.sender
        self._heard[peer] = now
        if beat.digest == self._digest(peer, led_here=False):
            self._disagreements.pop(peer, None)
            return
        count = self._disagreements.get(peer, 0) + 1
        self._disagreements[peer] = count
        if count >= DISAGREEMENTS_MAX:
            del self._disagreements[peer]
            self._wake([core for core in self._asleep.values() if core.leader_id == peer], now)

    def on_node_lost(self, node_id: int, now: float) -> None:
        """Wake the groups that a node leads, which others say is gone or unreachable."""
        self._wake([core for core in self._asleep.values() if core.leader_id == node_id], now)

    # Output

    def after_flush(self, now: float) -> Turn:
        """Gather what follows from the turn, now that all that was appended is durable."""
        turn = Turn({}, [], [], [])
        dirty, self._dirty = self._dirty, {}
        for group_id, core in dirty.items():
            core.on_flushed(now)
            ready = core.ready()
            for message in ready.messages:
                turn.outbox.setdefault(message.recipient, []).append(message)
            if ready.commit_index > core.applied_index:
                turn.committed.append((group_id, ready.commit_index))
            if ready.read_states:
                turn.read_states.extend((group_id, *state) for state in ready.read_states)
            if ready.snapshot_peers:
                turn.snapshots.extend((group_id, peer) for peer in ready.snapshot_peers)
            self._place(core)
        for peer in turn.outbox:
            self._said[peer] = now
        return turn

    # Inside

    def _place(self, core: RaftCore) -> None:
        """Note whether a group is awake, asleep, or alone and in need of nothing."""
        group_id = core.group_id
        configuration = core.configuration
        is_alone = core.is_leader and not configuration.learners and len(configuration.voters) == 1
        if core.is_quiescent and not is_alone:
            under = core.term, core.leader_id
            # Between two turns a group may have woken up and fallen asleep under another leader.
            if group_id not in self._asleep or self._asleep_under[group_id] != under:
                self._awake.pop(group_id, None)
                self._asleep[group_id] = core
                self._asleep_under[group_id] = under
                self._digests.clear()
            return
        if self._asleep.pop(group_id, None) is not None:
            self._digests.clear()
        if is_alone:
            self._awake.pop(group_id, None)
        else:
            self._awake[group_id] = core

    def _wake(self, cores: Iterable[RaftCore], now: float) -> None:
        for core in cores:
            core.wake(now)
            self._dirty[core.group_id] = core
            self._place(core)

    def _wake_orphans(self, now: float) -> None:
        """Wake the groups whose leader's node has been silent for the longest election timeout."""
        limit = now - self._config.election_timeout_ms_max / 1000
        self._wake(
            [
                core
                for core in self._asleep.values()
                if not core.is_leader and self._heard.setdefault(core.leader_id, now) < limit
            ],
            now,
        )

    def _beats(self, now: float) -> list[tuple[int, Beat]]:
        """Return a beat for each peer of the sleeping groups led here that has heard nothing."""
        limit = now - self._config.heartbeat_ms / 1000
        peers = {
            peer
            for core in self._asleep.values()
            if core.is_leader
            for peer in (*core.configuration.voters, *core.configuration.learners)
        }
        peers.discard(self.node_id)
        beats = []
        for peer in sorted(peers):
            if self._said.get(peer, 0.0) <= limit:
                self._said[peer] = now
                beats.append((peer, Beat(self.node_id, self._digest(peer, led_here=True))))
        return beats

    def _digest(self, peer: int, *, led_here: bool) -> int:
        """Return the digest of the sleeping groups shared with a peer and led by one of the two."""
        found = self._digests.get((peer, led_here))
        if found is None:
            leader = self.node_id if led_here else peer
            found = self._digests[peer, led_here] = digest_of(
                (core.group_id, core.term)
                for core in self._asleep.values()
                if core.leader_id == leader
                and (
                    not led_here or peer in core.configuration.voters + core.configuration.learners
                )
            )
        return found
