"""SWIM as a pure state machine: who is alive, found out by probing, told to all by gossip.

Guarantees. A member that stops answering becomes SUSPECT at everyone that can still be reached,
and DEAD ``SwimSettings.suspicion_seconds`` later unless it refutes. A member that answers, directly
or through a helper, does not stay SUSPECT. A member that is DEAD by mistake, because the network
was cut, comes back when the cut is healed. A member that restarts comes back at once.

Left to the driver: sockets, authentication (``envelope``), the clock, carrying out what ``ready``
returns. Left to others: who may be a member at all (``cluster.membership``), and leader election,
which does not depend on anything here.

**Probing.** Once per interval the next member of a shuffled round robin is sent a Ping. Without an
Ack within the time-out, ``indirect_probes`` helpers are asked by PingReq; without an Ack within one
more time-out the member is accused. There is one probe at a time.

**Lifeguard** (Dadgar, Phillips, Currey 2018), all three parts:

* LHA-Probe: interval and time-out are multiplied by our own health score plus one. It rises when a
  probe fails (by the number of Nacks that helpers owed us and did not send; by one without
  helpers) and when we have to refute; it falls with every probe that is answered.
* LHA-Suspicion: see ``suspicion``.
* Buddy system: a message to a member that we hold for suspect, dead or of an older life carries
  that record first, so that it can refute.

**What goes beyond the papers**, because each is a failure that they leave open:

* Holders of a suspicion ping the suspect several times per interval, with the suspicion in it.
  Under 30 % loss a refutation that travels by chance alone comes too late too often.
* One DEAD member in turn is pinged per interval, with its death in it. Otherwise two halves of a
  healed partition, each holding the other for dead, would never speak again.
* A boot number, see ``member``: restarting and leaving in order do not burn the node's id.
* A seed whose id is unknown is no member: it is pinged until somebody answers there, and can
  neither die nor be gossiped.
* Whoever has just become known by its own Ping is told the whole table, and speaks to the first
  members that it hears of at once.
* Time in which this process did not run does not count (``tick``). A node that was stopped for a
  minute would otherwise wake up with every suspicion expired and declare its members dead.

**Source**: Das, Gupta, Motivala 2002 (SWIM), sections 3 and 4.

**Not done here, and what that costs.** Full tables are not exchanged over a stream (push_pull): a
member whose every update is lost everywhere would stay unknown until somebody pings it, and each
member that knows it does so in every round. Clocks of the nodes are never compared.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from cluster.ids import NodeId
from cluster.swim.address import is_number, parse_address
from cluster.swim.awareness import Awareness
from cluster.swim.config import SwimSettings
from cluster.swim.counters import SwimCounters
from cluster.swim.envelope import UNKNOWN_NODE
from cluster.swim.in_flight import InFlight, LeavePing, OwnProbe, Relay, SeedPing
from cluster.swim.member import Member, MemberState, MergeOutcome, StateChange
from cluster.swim.message import (
    Ack,
    MemberUpdate,
    Message,
    Nack,
    NackReason,
    Ping,
    PingReq,
    update_of,
)
from cluster.swim.probe_order import ProbeOrder
from cluster.swim.table import MemberTable, addresses_of

if TYPE_CHECKING:
    from random import Random

SEEDS_MAX: Final = 1024
SEED_PING_INTERVALS: Final = 10  # a seed's Ack may come this late
INTRODUCTIONS_MAX: Final = 16  # messages that tell a newcomer the table
NACK_SHARE: Final = 0.8  # of the time-out: a helper's Nack arrives before the prober gives up
STALE_ANSWERS_MAX: Final = 4096


class Outgoing(NamedTuple):
    """A message to send. ``recipient`` is 0 where nobody is known to be at that address."""

    destination: str
    recipient: NodeId
    message: Message


class Ready(NamedTuple):
    """Effects in the order in which they are wanted: news to subscribers, messages to send."""

    changes: list[StateChange]
    outgoing: list[Outgoing]


class SwimCore:
    """One node's view of the members. Times are seconds of one monotonic clock, given as ``now``.

    ``source`` is where a datagram came from, as text; only answers go there. It is never stored as
    a member's address.
    """

    def __init__(
        self, *, settings: SwimSettings, local: Member, random: "Random", now: float
    ) -> None:
        settings.validate()
        parse_address(local.address)
        assert local.node_id > 0, "the node has to know its id before it can be a member"
        self.counters = SwimCounters()
        self.awareness = Awareness(settings.awareness_max)
        self.settings = settings
        self.table = MemberTable(
            settings=settings,
            local=local._replace(state=MemberState.ALIVE, incarnation=settings.incarnation_initial),
            awareness=self.awareness,
            counters=self.counters,
        )
        self._random = random
        self._order = ProbeOrder(random)
        self._in_flight = InFlight()
        self._probe: OwnProbe | None = None
        self._next_round_at = now + settings.probe_interval_seconds
        self._next_outreach_at = now + settings.probe_interval_seconds
        self._seeds: dict[str, None] = {}
        self._last_dead = UNKNOWN_NODE
        self._announcements_left = settings.announce_fanout
        self._stale_answerable_at: dict[NodeId, float] = {}
        self._leave_pending: set[NodeId] = set()
        self._outgoing: list[Outgoing] = []

    # State

    @property
    def local(self) -> Member:
        """This node's own record."""
        return self.table.local

    def members(self) -> list[Member]:
        """Return all known members, this node included, in the order of their ids."""
        return sorted((self.table.local, *self.table.members.values()))

    def member(self, node_id: NodeId) -> Member | None:
        """Return one member; None if it is unknown."""
        if node_id == self.local.node_id:
            return self.local
        return self.table.members.get(node_id)

    def unknown_seeds(self) -> list[str]:
        """Return the addresses at which nobody has answered yet."""
        return list(self._seeds)

    @property
    def is_leave_known(self) -> bool:
        """Tell whether every member that was told of our leaving has acknowledged it."""
        return not self._leave_pending

    @property
    def next_wakeup(self) -> float:
        """When ``tick`` has something to do, if nothing comes in before."""
        if self.local.state is MemberState.LEFT:
            return float("inf")
        due = [self._next_outreach_at]
        due.append(self._probe.deadline if self._probe else self._next_round_at)
        due += [relay.nack_at for relay in self._in_flight.relays()]
        for suspicion in self.table.suspicions.values():
            due += (suspicion.deadline, suspicion.next_ping_at)
        return min(due)

    # Inputs

    def join_addresses(self, addresses: Iterable[str], now: float) -> None:
        """Look for members at these addresses, at once and until somebody answers there.

        Our own address and those of members that are alive are skipped. Raises ValueError for text
        that is no address; nothing is joined then.
        """
        texts = list(addresses)
        for text in texts:
            parse_address(text)
        known = addresses_of(self.table.members.values()) | {self.local.address}
        for text in texts:
            if text not in known and len(self._seeds) < SEEDS_MAX:
                self._seeds[text] = None
        self._next_outreach_at = min(self._next_outreach_at, now)

    def restart_timers(self, now: float) -> None:
        """Begin now: the first round comes one interval later. For a node that starts later."""
        self._next_round_at = now + self.settings.probe_interval_seconds
        is_seeded = bool(self._seeds)
        self._next_outreach_at = now if is_seeded else self._next_round_at

    def tick(self, now: float) -> None:
        """Do what is due: end a probe, begin the next, expire suspicions, tell suspects.

        If that was due longer ago than a probe's time-out, then this process did not run in
        between. Answers that came meanwhile are still unread, so all timers are moved on by it.
        """
        self._notice_pause(now)
        if self.local.state is MemberState.LEFT:
            return
        self.table.expire_suspicions(now)
        self._send_due_nacks(now)
        if self._probe is not None and self._probe.deadline <= now:
            self._on_probe_deadline(self._probe, now)
        if self._probe is None and self._next_round_at <= now:
            self._start_round(now)
        if self._next_outreach_at <= now:
            self._reach_out(now)
        self._tell_suspects(now)

    def on_message(self, message: Message, source: str, now: float) -> None:
        """Take an authentic message. What it carries is merged before it is answered."""
        self._notice_pause(now)
        if message.sender.node_id == self.local.node_id:
            self._on_own_message(message)
            return
        sender = NodeId(message.sender.node_id)
        known = self.table.members.get(sender)
        is_newcomer = known is None or known.boot < message.sender.boot
        local = self.local
        self._merge(message.sender, now)
        for update in message.piggyback:
            if self._merge(update, now) is MergeOutcome.INSERT:
                self._announce(NodeId(update.node_id))
        if self.local.rank() > local.rank() and not isinstance(message, Ping):
            self._ping(source, sender, 0)  # an Ack would have carried the refutation
        match message:
            case Ping():
                self._on_ping(message, source, is_newcomer=is_newcomer)
            case PingReq():
                self._on_ping_req(message, source, now)
            case Ack():
                self._on_ack(message, now)
            case Nack():
                self._on_nack(message, source, now)

    def on_stale_message(
        self, message: Message, *, known_boot: int, source: str, now: float
    ) -> None:
        """Take a message that is authentic, but sent in an earlier boot or seen before.

        Its content counts for nothing. A Ping is answered by a Nack that names the boot to exceed,
        once per interval: the sender may have lost its count, and would not be heard again for
        long. If it was recorded and sent again by somebody else, the Nack answers nothing that its
        sender still asks, and does nothing.
        """
        sender = NodeId(message.sender.node_id)
        if not isinstance(message, Ping) or now < self._stale_answerable_at.get(sender, now):
            return
        if len(self._stale_answerable_at) >= STALE_ANSWERS_MAX:
            self._stale_answerable_at.clear()
        self._stale_answerable_at[sender] = now + self.settings.probe_interval_seconds
        member = self.member(sender)
        known = max(known_boot, member.boot if member else 0)
        nack = Nack(
            message.probe_id,
            update_of(self.local),
            NackReason.STALE_BOOT,
            known,
            self._piggyback_for(sender),
        )
        self._outgoing.append(Outgoing(source, sender, nack))

    def leave(self, now: float) -> None:
        """Announce that this node leaves in order. Called again, tell those who did not answer."""
        if self.local.state is not MemberState.LEFT:
            self.table.leave()
            self._probe = None
            reachable = self.table.ids_of(MemberState.ALIVE, MemberState.SUSPECT)
            count = min(len(reachable), self.settings.announce_fanout)
            self._leave_pending = set(self._random.sample(reachable, count))
        for node_id in sorted(self._leave_pending):
            self._in_flight.discard_expired(now)
            probe_id = self._in_flight.add(
                LeavePing(node_id, now + self.settings.probe_interval_seconds)
            )
            if probe_id is not None:
                self._ping(self.table.members[node_id].address, node_id, probe_id)

    def forget(self, node_id: NodeId, now: float) -> None:
        """Drop a member that has been removed from the cluster for good."""
        self.table.forget(node_id)
        self._leave_pending.discard(node_id)
        if self._probe is not None and self._probe.target == node_id:
            self._end_probe(now)

    def ready(self) -> Ready:
        """Drain what has to be carried out now."""
        ready = Ready(self.table.changes, self._outgoing)
        self.table.changes, self._outgoing = [], []
        return ready

    # Time

    def _notice_pause(self, now: float) -> None:
        late = now - self.next_wakeup
        if late <= self.settings.probe_timeout_seconds:
            return
        self.counters.pauses += 1
        self.awareness.worsen()
        # One more time-out, so that what came meanwhile is read before anybody is judged.
        shift = late + self.settings.probe_timeout_seconds
        self.table.shift(shift)
        self._in_flight.shift(shift)
        self._next_round_at += shift
        self._next_outreach_at += shift

    def _start_round(self, now: float) -> None:
        self._in_flight.discard_expired(now)
        self._next_round_at = now + self.awareness.scale(self.settings.probe_interval_seconds)
        candidates = self.table.ids_of(MemberState.ALIVE, MemberState.SUSPECT)
        target = self._order.next_target(candidates, self._is_probed)
        if target is None:
            return
        member = self.table.members[target]
        probe = OwnProbe(
            target,
            target_life=(member.boot, member.incarnation),
            deadline=now + self._probe_timeout,
            expires_at=now + 4 * self._probe_timeout,
        )
        probe_id = self._in_flight.add(probe)
        if probe_id is None:
            return
        self._probe = probe
        self.counters.probes += 1
        self._ping(member.address, target, probe_id)
        if target in self.table.suspicions:
            self.table.suspicions[target].pinged(now)

    @property
    def _probe_timeout(self) -> float:
        return self.awareness.scale(self.settings.probe_timeout_seconds)

    def _is_probed(self, node_id: NodeId) -> bool:
        member = self.table.members.get(node_id)
        return member is not None and member.state <= MemberState.SUSPECT

    def _on_probe_deadline(self, probe: OwnProbe, now: float) -> None:
        """Ask helpers after the direct time-out; accuse the member after the indirect one."""
        if not self._is_probed(probe.target):
            self._end_probe(now)
            return
        if not probe.is_indirect:
            self.counters.probe_timeouts += 1
            helpers = [
                node_id
                for node_id in self.table.ids_of(MemberState.ALIVE)
                if node_id != probe.target
            ]
            if helpers:
                self._ask_helpers(probe, helpers, now)
                return
        member = self.table.members[probe.target]
        if (member.boot, member.incarnation) > probe.target_life:
            # It has refuted since the probe began: whatever became of our Ping, it is alive.
            self._end_probe(now)
            return
        self.counters.probe_failures += 1
        # Helpers that are well send a Nack for a target that is not. Those that did not come say
        # something about us.
        self.awareness.worsen(probe.helpers_asked - len(probe.nacks) if probe.helpers_asked else 1)
        self.table.suspect(probe.target, now)
        self._end_probe(now)

    def _ask_helpers(self, probe: OwnProbe, helpers: list[NodeId], now: float) -> None:
        chosen = self._random.sample(helpers, min(len(helpers), self.settings.indirect_probes))
        probe.is_indirect = True
        probe.helpers_asked = len(chosen)
        probe.deadline = now + self._probe_timeout
        target = self.table.members[probe.target]
        for helper in chosen:
            request = PingReq(
                probe.probe_id,
                update_of(self.local),
                target.node_id,
                target.address,
                self._piggyback_for(helper),
            )
            self._outgoing.append(Outgoing(self.table.members[helper].address, helper, request))

    def _end_probe(self, now: float) -> None:
        """Make room for the next round; one that was due meanwhile is due now, not missed."""
        self._probe = None
        self._next_round_at = max(self._next_round_at, now)

    def _send_due_nacks(self, now: float) -> None:
        for relay in self._in_flight.relays():
            if relay.nack_at <= now:
                relay.nack_at = float("inf")
                self._nack(relay.source, relay.origin, relay.origin_probe_id)

    def _reach_out(self, now: float) -> None:
        """Ping what is no member yet, or none any more: seeds, and one dead member in turn."""
        self._next_outreach_at = now + self.settings.probe_interval_seconds
        known = addresses_of(self.table.members.values())
        for address in [address for address in self._seeds if address in known]:
            del self._seeds[address]
        for address in list(self._seeds)[: self.settings.unknown_pings]:
            del self._seeds[address]  # to the end of the line
            self._seeds[address] = None
            patience = SEED_PING_INTERVALS * self.settings.probe_interval_seconds
            probe_id = self._in_flight.add(SeedPing(address, now + patience))
            if probe_id is not None:
                self._ping(address, UNKNOWN_NODE, probe_id)
        dead = self.table.ids_of(MemberState.DEAD)
        if dead:
            later = [node_id for node_id in dead if node_id > self._last_dead]
            self._last_dead = (later or dead)[0]
            self._ping(self.table.members[self._last_dead].address, self._last_dead, 0)

    def _tell_suspects(self, now: float) -> None:
        for node_id in sorted(self.table.suspicions):
            suspicion = self.table.suspicions[node_id]
            if suspicion.next_ping_at <= now:
                suspicion.pinged(now)
                self._ping(self.table.members[node_id].address, node_id, 0)

    # Messages

    def _merge(self, update: MemberUpdate, now: float) -> MergeOutcome:
        outcome = self.table.merge(update, now)
        if outcome is MergeOutcome.INSERT:
            self._order.add(NodeId(update.node_id))
        return outcome

    def _announce(self, node_id: NodeId) -> None:
        """Speak to one of the first members that we hear of, instead of waiting to be heard of."""
        member = self.table.members.get(node_id)
        if self._announcements_left and member is not None and member.is_reachable:
            self._announcements_left -= 1
            self._ping(member.address, node_id, 0)

    def _on_own_message(self, message: Message) -> None:
        """Tell our own Ping, come back from a seed that is ourselves, from a node with our id."""
        if message.sender.address != self.local.address or message.sender.boot > self.local.boot:
            self.table.note_conflict(message.sender.address)
            return
        entry = self._in_flight.pop(message.probe_id)
        # A name may stand for all nodes, this one among them, and lead to another next time.
        if isinstance(entry, SeedPing) and is_number(parse_address(entry.address)[0]):
            self._seeds.pop(entry.address, None)

    def _on_ping(self, ping: Ping, source: str, *, is_newcomer: bool) -> None:
        self.counters.pings_received += 1
        sender = NodeId(ping.sender.node_id)
        self._ack(source, sender, ping.probe_id, self.local.node_id)
        if is_newcomer and ping.sender.state is MemberState.ALIVE:
            for updates in self._introductions(sender):
                local = update_of(self.local)
                introduction = Ack(0, local, self.local.node_id, updates)
                self._outgoing.append(Outgoing(source, sender, introduction))

    def _introductions(self, newcomer: NodeId) -> Iterator[tuple[MemberUpdate, ...]]:
        """Yield the table in portions of one message, those that are alive first."""
        others = [member for member in self.table.members.values() if member.node_id != newcomer]
        others.sort(key=lambda member: (member.state, member.node_id))
        size = self.settings.piggyback_max
        for start in range(0, min(len(others), INTRODUCTIONS_MAX * size), size):
            yield tuple(update_of(member) for member in others[start : start + size])

    def _on_ping_req(self, request: PingReq, source: str, now: float) -> None:
        """Ping the target on the sender's behalf, under a probe id of our own."""
        self.counters.ping_reqs_received += 1
        origin = NodeId(request.sender.node_id)
        target = NodeId(request.target)
        if target == self.local.node_id:
            self._ack(source, origin, request.probe_id, target)
            return
        member = self.table.members.get(target)
        if member is not None and member.state >= MemberState.DEAD:
            self._nack(source, origin, request.probe_id, NackReason.TARGET_DEAD)
            return
        probe_id = self._in_flight.add(
            Relay(
                target=target,
                origin=origin,
                source=source,
                origin_probe_id=request.probe_id,
                nack_at=now + NACK_SHARE * self.settings.probe_timeout_seconds,
                expires_at=now + 2 * self.settings.probe_interval_seconds,
            )
        )
        if probe_id is None:
            self._nack(source, origin, request.probe_id, NackReason.RATE_LIMITED)
            return
        self._ping(member.address if member else request.target_address, target, probe_id)

    def _on_ack(self, ack: Ack, now: float) -> None:
        entry = self._in_flight.get(ack.probe_id)
        sender = NodeId(ack.sender.node_id)
        match entry:
            case OwnProbe() if ack.target == entry.target:
                self._in_flight.pop(ack.probe_id)
                if entry is self._probe:
                    self.counters.acks += 1
                    self.counters.indirect_acks += sender != entry.target
                    self.awareness.improve()
                    self._end_probe(now)
            case Relay() if ack.target == sender == entry.target:
                self._in_flight.pop(ack.probe_id)
                self._ack(entry.source, entry.origin, entry.origin_probe_id, entry.target)
            case SeedPing():
                self._in_flight.pop(ack.probe_id)
                self._seeds.pop(entry.address, None)
            case LeavePing() if sender == entry.target:
                self._in_flight.pop(ack.probe_id)
                self._leave_pending.discard(sender)
            case _:
                pass  # late, a courtesy, or an answer to something else: its updates were merged

    def _on_nack(self, nack: Nack, source: str, now: float) -> None:
        self.counters.nacks_received += 1
        entry = self._in_flight.get(nack.probe_id)
        sender = NodeId(nack.sender.node_id)
        if nack.reason is not NackReason.STALE_BOOT:
            if isinstance(entry, OwnProbe):
                entry.nacks.add(sender)
            return
        # Only in answer to a Ping that is still on its way: an old Nack makes us do nothing.
        is_asked = isinstance(entry, SeedPing) or (
            isinstance(entry, OwnProbe) and entry.target == sender
        )
        if not is_asked:
            return
        self._in_flight.pop(nack.probe_id)
        if entry is self._probe:
            self._end_probe(now)
        self.table.raise_boot_above(nack.known_boot)
        self._ping(source, sender, 0)

    def _piggyback_for(
        self, recipient: NodeId, about: NodeId = UNKNOWN_NODE
    ) -> tuple[MemberUpdate, ...]:
        """Return the updates for one message.

        First what we hold against the recipient, if anything (Lifeguard, buddy system), then what
        we know of ``about``.
        """
        first = []
        held = self.table.members.get(recipient)
        is_reached = held is not None and held.is_reachable
        if not is_reached:
            first.append(self.table.update_about(recipient))
        if about not in (UNKNOWN_NODE, self.local.node_id):
            first.append(self.table.update_about(about))
        return self.table.dissemination.take(
            self.table.live_count,
            tuple(update for update in first if update is not None),
            is_counted=is_reached,
        )

    def _ping(self, address: str, recipient: NodeId, probe_id: int) -> None:
        ping = Ping(probe_id, update_of(self.local), self._piggyback_for(recipient))
        self._outgoing.append(Outgoing(address, recipient, ping))

    def _ack(self, source: str, recipient: NodeId, probe_id: int, target: NodeId) -> None:
        piggyback = self._piggyback_for(recipient, about=target)
        ack = Ack(probe_id, update_of(self.local), target, piggyback)
        self._outgoing.append(Outgoing(source, recipient, ack))

    def _nack(
        self,
        source: str,
        recipient: NodeId,
        probe_id: int,
        reason: NackReason = NackReason.TARGET_UNREACHABLE,
    ) -> None:
        piggyback = self._piggyback_for(recipient)
        nack = Nack(probe_id, update_of(self.local), reason, piggyback=piggyback)
        self._outgoing.append(Outgoing(source, recipient, nack))
