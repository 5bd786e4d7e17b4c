"""Elections: pre-vote, vote, and who may start one.

A replica that hears from no leader first asks whether it would be elected (pre-vote, thesis §9.6),
which changes nothing at anybody; so one that was cut off does not disturb the others with a high
term when it comes back (BEHAVIOUR 16.1 R5). Whoever has heard a leader within the shortest election
timeout answers neither pre-vote nor vote (§6, last paragraph): the leader's lease stands on that.
Only a leader may lift it, by TimeoutNow, and it has no lease from then on.

Votes are kept as the set of voters that granted; those who are no voters in the configuration of
the candidate do not count. A replica votes even if it takes itself for a learner, or the candidate
for a stranger: it may not have heard yet that it was promoted, and nobody could be elected without
it (thesis §4.2, "servers process requests without consulting their configuration").
"""

from cluster.raft.message import (
    NOBODY,
    EntryId,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from cluster.raft.replication import Replication
from cluster.raft.state import CANDIDATE, LEADER, PRE_CANDIDATE


class Election(Replication):
    """Candidates and voters. Invariant: at most one vote in a term, durable before it leaves."""

    _granted: set[int]
    _refused: set[int]

    # Campaigning

    def campaign(self, now: float) -> None:
        """Start an election, by pre-vote, unless this replica leads, or has promised not to.

        It would vote for itself, so the promises bind it like any voter (``_may_help_elect``).
        Learners and removed replicas never campaign.
        """
        self._now = now
        if self.role is LEADER or not self._may_campaign():
            return
        if not (self._is_alone() or self._may_help_elect(now, is_forced=False)):
            return
        self.role = PRE_CANDIDATE
        self.leader_id = NOBODY
        self.is_quiescent = False
        self._reset_election_deadline(now)
        self._granted = {self.node_id}
        self._refused = set()
        if self._has_won():
            self._become_candidate(now, is_forced=False)
            return
        last = self._last_entry()
        for peer in self._quorum_members():
            if peer != self.node_id:
                self._outbox.append(
                    PreVoteRequest(
                        self.group_id, self.node_id, peer, self.term + 1, last.index, last.term
                    )
                )

    def _become_candidate(self, now: float, *, is_forced: bool) -> None:
        """Begin a new term with a vote for oneself, and ask the others (§5.2)."""
        if self.role is LEADER:
            self._on_leadership_lost()
        self.role = CANDIDATE
        self.leader_id = NOBODY
        self.is_quiescent = False
        self._enter_term(self.term + 1, self.node_id)
        self._reset_election_deadline(now)
        self._granted = {self.node_id}
        self._refused = set()
        if self._has_won():
            self._become_leader(now)
            return
        last = self._last_entry()
        for peer in self._quorum_members():
            if peer != self.node_id:
                self._outbox.append(
                    VoteRequest(
                        self.group_id,
                        self.node_id,
                        peer,
                        self.term,
                        last.index,
                        last.term,
                        is_forced,
                    )
                )

    def _become_leader(self, now: float) -> None:
        """Take up leadership of the term; the first appends leave after the flush (§5.2)."""
        assert self.role is CANDIDATE
        self.role = LEADER
        self.leader_id = self.node_id
        self._begin_leading(now)

    def _has_won(self) -> bool:
        """Tell whether a quorum of the voters has granted."""
        return len(self._granted.intersection(self._quorum_members())) >= self._quorum

    def _has_lost(self) -> bool:
        """Tell whether so many have refused that no quorum is left."""
        members = self._quorum_members()
        return len(members) - len(self._refused.intersection(members)) < self._quorum

    def _last_entry(self) -> EntryId:
        index = self.log.last_index()
        term = self.log.term_at(index)
        assert term is not None
        return EntryId(term, index)

    # Voting

    def _may_help_elect(self, now: float, *, is_forced: bool) -> bool:
        """Tell whether no promise forbids to help another become leader.

        The promises: those given before a restart, which nobody remembers (PROTOCOL rule 36), and
        that to a leader that was heard within the shortest election timeout (rule 37). A leader
        gives way to nobody who does not show it a higher term.
        """
        if now < self._silent_until:
            return False
        if is_forced:
            return True
        if self.role is LEADER:
            return False
        heard_seconds_ago = now - self._leader_heard_at
        return heard_seconds_ago >= self.config.election_timeout_seconds_min

    def _on_pre_vote_request(self, request: PreVoteRequest, now: float) -> None:
        """Answer whether the sender would get the vote; nothing changes here."""
        if not self._may_help_elect(now, is_forced=False):
            return
        is_granted = (
            request.term > self.term
            and EntryId(request.last_term, request.last_index) >= self._last_entry()
        )
        self._outbox.append(
            PreVoteResponse(
                self.group_id,
                self.node_id,
                request.sender,
                request.term if is_granted else self.term,
                is_granted,
            )
        )

    def _on_vote_request(self, request: VoteRequest, now: float) -> None:
        """Vote for the first who asks in a term and whose log is at least ours (§5.2, §5.4.1)."""
        assert request.term == self.term
        if not self._may_help_elect(now, is_forced=request.is_forced):
            return
        is_granted = (
            self.voted_for in (NOBODY, request.sender)
            # The leader of this term is known: nobody else may win it.
            and self.leader_id in (NOBODY, request.sender)
            and EntryId(request.last_term, request.last_index) >= self._last_entry()
        )
        if is_granted:
            if self.voted_for == NOBODY:
                self._vote(request.sender)
            self._reset_election_deadline(now)
        self._outbox.append(
            VoteResponse(self.group_id, self.node_id, request.sender, self.term, is_granted)
        )

    def _on_pre_vote_response(self, response: PreVoteResponse, now: float) -> None:
        if self.role is not PRE_CANDIDATE:
            return
        if response.is_granted and response.term != self.term + 1:
            return  # For an earlier pre-vote.
        self._count(response)
        if self._has_won():
            self._become_candidate(now, is_forced=False)
        elif self._has_lost():
            self._become_follower(NOBODY, now)

    def _on_vote_response(self, response: VoteResponse, now: float) -> None:
        if self.role is not CANDIDATE:
            return
        assert response.term == self.term
        self._count(response)
        if self._has_won():
            self._become_leader(now)
        elif self._has_lost():
            self._become_follower(NOBODY, now)

    def _count(self, response: PreVoteResponse | VoteResponse) -> None:
        """Note an answer once, however often it comes."""
        if response.is_granted:
            self._granted.add(response.sender)
        else:
            self._refused.add(response.sender)

    # Being asked to campaign

    def _on_timeout_now(self, message: TimeoutNow, now: float) -> None:
        """Campaign at once, without pre-vote: the leader wants it (thesis §3.10)."""
        if self.role is LEADER or not self._is_voter or now < self._silent_until:
            return
        assert message.term == self.term
        self._become_candidate(now, is_forced=True)

    # Time

    def _tick_leader(self, now: float) -> None:
        """Show that this leader lives; see whether it still is one."""
        if self.transferring_to and now >= self._transfer_deadline:
            self._give_transfer_up(now)
            return
        if not self._has_active_quorum(now):
            self._become_follower(NOBODY, now)
            return
        if now >= self._next_heartbeat_at:
            self._next_heartbeat_at = now + self.config.heartbeat_seconds
            self._begin_round(now)
            for peer, progress in self.progress.items():
                progress.checked_round = self._round
                progress.checked_index = progress.next_index - 1
                self._send_heartbeat(peer, self._round)
        self._maybe_quiesce(now)

    def _give_transfer_up(self, now: float) -> None:
        """Take proposals again; if TimeoutNow has left, in a new term (PROTOCOL rule 35)."""
        self.transferring_to = NOBODY
        if not self._timeout_now_is_sent:
            return
        if self._may_campaign():
            self._become_candidate(now, is_forced=True)
        else:
            self._become_follower(NOBODY, now)
