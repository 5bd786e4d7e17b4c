"""Raft for one group as a pure state machine: no socket, disk, clock or global randomness.

**The driver's turn.** Feed what came (``step``, ``tick``, ``propose`` ...); flush the log if it
needs it; call ``on_flushed``, then ``ready``; send its messages, serve its reads, start its
snapshots, apply up to its commit index, call ``on_applied``. Many inputs may share one turn and one
flush. All times are one monotonic clock that goes on while the machine sleeps, read afresh for each
call.

**What must be durable before what.** Term and vote go to the log when they change, entries when
they are appended; both are durable after the driver's flush, and everything that promises them
leaves in ``ready``, after it. An acknowledgement is held back until ``durable_index`` reaches what
it names; a leader sends, and counts for itself, only what is durable. When the term changes,
messages of the old term that have not left are dropped, for the log may change before the flush.

**Safety** (Raft paper, figure 3), and where it is kept: one leader per term: one vote per term,
`_vote`. Leader append-only: `propose` and `_begin_leading` append behind the last entry, nothing
else of a leader writes. Log matching: `_on_append_request` takes entries behind a match only.
Leader completeness: `_on_vote_request` compares last entries, `_maybe_commit` counts entries of its
own term only. State machine safety follows. ``docs/raft_claims.md`` lists the paper's claims with
their tests and places.

**Authority.** A leader serves strong reads under a lease, else by ReadIndex: ``authority``.
A voter that heard a leader helps nobody else for the shortest election timeout, and for one longest
after its start (PROTOCOL rules 35 to 38).

**Membership.** One voter more or less at a time, in force from its append: ``configuration``. A
leader that is no voter any more steps down when that is committed.

**Quiescence.** A leader whose group did nothing for a while, and whose peers have everything, says
so in a last heartbeat; leader and followers then need no ticks and send nothing. Any message wakes
them, a proposal, a read, or ``wake``. A quiescent group's lease runs out; the first read takes a
round.

Layers, each a class on top of the one before: ``state``, ``authority``, ``replication``,
``election``, ``following``, and here the dispatch. Source: Ongaro, Ousterhout, "In Search of an
Understandable Consensus Algorithm" (2014, extended), cited as §n; Ongaro's thesis (2014).

Not done here, and what that costs: joint consensus (a group changes one member at a time);
witnesses; follower-side ReadIndex (the driver forwards reads); speculative append of what is not
durable at the leader (one flush more of latency, in exchange for a leader that can take proposals
back when its disk is full).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cluster.raft.following import Following
from cluster.raft.message import (
    NOBODY,
    AppendRequest,
    AppendResponse,
    Configuration,
    Heartbeat,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    Ready,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.progress import ProgressState
from cluster.raft.state import FOLLOWER, LEADER

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from cluster.raft.config import RaftConfig
    from cluster.raft.log import LogStore


class RaftCore(Following):
    """One replica of one group.

    ``configuration`` is that of ``applied_index``; changes in the log above it are found there. A
    replica that is the only voter is the leader when the constructor returns, its empty entry
    appended; all others follow, and neither vote nor campaign for one longest election timeout.
    """

    def __init__(
        self,
        *,
        config: RaftConfig,
        group_id: int,
        node_id: int,
        log: LogStore,
        configuration: Configuration,
        applied_index: int,
        random: Random,
        now: float,
    ) -> None:
        faults = config.faults()
        assert not faults, faults
        assert node_id != NOBODY
        super().__init__(
            config=config,
            group_id=group_id,
            node_id=node_id,
            log=log,
            configuration=configuration,
            applied_index=applied_index,
            random=random,
            now=now,
        )
        self._idle = Ready([], -1, [], [])
        if self._is_alone():
            self.campaign(now)

    @property
    def is_leader(self) -> bool:
        """Tell whether this replica takes proposals; another may have been elected meanwhile."""
        return self.role is LEADER

    # Inputs

    def tick(self, now: float) -> None:
        """Let time pass. A quiescent group needs no ticks, and one does nothing."""
        self._now = now
        if self.is_quiescent:
            return
        if self.role is LEADER:
            self._tick_leader(now)
        elif now >= self._election_deadline:
            if self._may_campaign():
                self.campaign(now)
            else:
                self.leader_id = NOBODY
                self._reset_election_deadline(now)

    def step(self, message: Message, now: float) -> None:
        """Take a message. One that is not for this replica, or makes no sense now, is dropped."""
        if message.recipient != self.node_id or message.group_id != self.group_id:
            return
        self._now = now
        kind = type(message)
        if self.is_quiescent and not self._is_expected_asleep(message):
            self._wake_for_message(message, now)
        term = message.term
        if term > self.term:
            if not self._take_newer_term(message, now):
                return
        elif term < self.term and kind is not PreVoteRequest:
            self._answer_older_term(message)
            return
        _HANDLERS[kind](self, message, now)

    def _take_newer_term(self, message: Message, now: float) -> bool:
        """Enter a message's newer term (§5.1); False if the message is dropped instead.

        A pre-vote changes no term. A vote request does only if we may vote at all: otherwise a
        replica that was cut off would depose a healthy leader (§6, thesis §4.2.3).
        """
        match message:
            case PreVoteRequest() | PreVoteResponse(is_granted=True):
                return True
            case VoteRequest() if not self._may_help_elect(now, is_forced=message.is_forced):
                return False
            case _:
                pass
        if self.role is LEADER:
            self._on_leadership_lost()
            self.role = FOLLOWER
        self._enter_term(message.term, NOBODY)
        self._become_follower(NOBODY, now)
        return True

    def _answer_older_term(self, message: Message) -> None:
        """Tell the leader or candidate of an older term that there is a newer one (§5.1)."""
        match message:
            case AppendRequest():
                self._refuse_append(message)
            case Heartbeat():
                self._answer_heartbeat(message.sender, message.round, is_awake=False)
            case VoteRequest():
                self._outbox.append(
                    VoteResponse(
                        self.group_id, self.node_id, message.sender, self.term, is_granted=False
                    )
                )
            case _:
                pass  # An answer to something of the past.

    def on_flushed(self, now: float) -> None:
        """Go on with what has become durable: the log's, up to its ``durable_index``.

        Called in every turn, before ``ready``, whether or not there was something to flush.
        """
        self._now = now
        if self.role is LEADER:
            self._after_flush(now)

    def on_applied(self, index: int) -> None:
        """Note that entries up to an index are in the state machine."""
        assert self.applied_index <= index <= self.commit_index, (index, self.commit_index)
        self.applied_index = index
        if self._history.changes:
            self._history.apply(index)

    def on_snapshot_matched(self, index: int, now: float) -> None:
        """Go on from a raft snapshot whose last entry is in the log: the log stays (§7).

        What is behind that entry may have been acknowledged, also while the snapshot was on its
        way. The leader is told, if one is known.
        """
        self._now = now
        if index > self.commit_index:
            self._commit_to(index)
        self.on_applied(index)
        if self.role is not LEADER and self.leader_id:
            self._acknowledge(index, 0)

    def on_snapshot_result(self, peer: int, index: int, *, ok: bool) -> None:
        """Go on with a peer after the driver has streamed a raft snapshot up to ``index``.

        ``ok``: the peer has said that it is installed. Otherwise it is tried again after the peer
        answers the next heartbeat.
        """
        progress = self.progress.get(peer)
        if progress is None or progress.state is not ProgressState.SNAPSHOT:
            return
        progress.become_probe(max(progress.match_index, index if ok else 0) + 1)
        progress.is_paused = not ok

    def on_peer_unreachable(self, peer: int) -> None:
        """Stop sending on to a peer that the transport has lost; what was in flight may be lost."""
        progress = self.progress.get(peer)
        if progress is not None and progress.state is ProgressState.REPLICATE:
            progress.become_probe(progress.match_index + 1)

    # Outputs

    @property
    def has_output(self) -> bool:
        """Tell whether ``ready`` would have anything but a commit index that was there before."""
        return bool(self._outbox or self._ack_is_due or self._read_states or self._snapshot_peers)

    def ready(self) -> Ready:
        """Hand out what is to be done now, once. Call it after the flush."""
        if self._ack_is_due:
            self._emit_acknowledgement()
        commit_index = self.commit_index
        if self.role is not LEADER:
            # What a follower knows to be committed it may not have flushed (PROTOCOL rule 61).
            commit_index = min(commit_index, self.log.durable_index())
        if not (self._outbox or self._read_states or self._snapshot_peers):
            idle = self._idle
            if idle.commit_index != commit_index:
                idle = self._idle = Ready([], commit_index, [], [])
            return idle
        ready = Ready(self._outbox, commit_index, self._read_states, self._snapshot_peers)
        self._outbox = []
        self._read_states = []
        self._snapshot_peers = []
        self._read_round = 0
        return ready

    # Waking up

    def _is_expected_asleep(self, message: Message) -> bool:
        """Tell whether a message may come to a sleeper without something having happened.

        At the leader, late answers from before it fell asleep, and what a replica asks that was
        removed and does not know it; at a follower, the leader's last heartbeat, sent again.
        """
        if self.role is LEADER and message.sender not in self.progress:
            return True
        if message.term != self.term:
            return False
        match message:
            case Heartbeat():
                return message.is_quiesce and message.sender == self.leader_id
            case HeartbeatResponse():
                return not message.is_awake and message.round < self._quiesce_round
            case AppendResponse():
                return message.is_matched
            case _:
                return False

    def _wake_for_message(self, message: Message, now: float) -> None:
        """Wake, and give a leader that is known the time to show itself before it is replaced."""
        if self.role is LEADER:
            self.wake(now)
        elif message.sender == self.leader_id:
            self.is_quiescent = False
        else:
            self.wake(now)
            self._leader_heard_at = now


_HANDLERS: Final[dict[type, Callable[[RaftCore, Any, float], None]]] = {
    PreVoteRequest: RaftCore._on_pre_vote_request,  # noqa: SLF001
    PreVoteResponse: RaftCore._on_pre_vote_response,  # noqa: SLF001
    VoteRequest: RaftCore._on_vote_request,  # noqa: SLF001
    VoteResponse: RaftCore._on_vote_response,  # noqa: SLF001
    AppendRequest: RaftCore._on_append_request,  # noqa: SLF001
    AppendResponse: RaftCore._on_append_response,  # noqa: SLF001
    Heartbeat: RaftCore._on_heartbeat,  # noqa: SLF001
    HeartbeatResponse: RaftCore._on_heartbeat_response,  # noqa: SLF001
    TimeoutNow: RaftCore._on_timeout_now,  # noqa: SLF001
}
