"""The path of every write: log entry, durable, committed by its group, applied, acknowledged.

All groups of a node share one log and one flush per turn of the loop. ``propose`` queues an entry;
at the end of the turn what was proposed, and what the peers' messages appended, is flushed
together, and only then do the groups' cores (``cluster.multiraft``) say what may be sent, what is
committed and applied, and who may be told (PROTOCOL rules 21, 62). On a node that is a group's only
voter durable means committed, so all of it happens in the turn.

A waiter belongs to (term, index): it gives the index once that very entry is applied here. It fails
with 40001 when another entry was applied in its place, with 40003 when nobody can tell (rule 23),
with 53100 when the disk was full and surely nothing was written. Any other failure of the log or
the engine stops the node: ``on_fatal``.

The engine commits what was applied every ``COMMIT_INTERVAL_SECONDS`` or ``COMMIT_BYTES``; then the
log below the commit before that one is compacted and recycled (rules 57, 61), as far as no other
replica is likely to need it. What was applied in part is never committed: the engine is abandoned,
and the next start applies it again from the log. Long entries are another matter
(``_begin_slices``): the engine commits amid them, their index with the last one.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from cluster.errors import NotLeader, TransferInProgress
from cluster.multiraft.core import MultiRaft
from cluster.raft.config import RaftConfig
from cluster.raft.core import RaftCore
from cluster.raft.message import Configuration
from nodedb.errors import DiskFull, MapFull, StorageError
from nodedb.kv.fates import leave_unknown, refuse, surely_not_applied, too_long
from nodedb.kv.fault_points import PassPlace, Place, pass_none
from nodedb.kv.log_room import LogRoom
from nodedb.kv.outside import Nobody, Outside
from nodedb.kv.replay import REPLAY_BYTES, replay
from nodedb.kv.replica import (
    CONF_CHANGE,
    CONFIGURATION_KEY,
    Proposed,
    Replica,
    ReplicaLog,
    StateMachine,
    meta_space,
    stored_configuration,
)
from nodedb.storage.snapshot_install import settle_log
from nodedb.storage.wal_format import ENTRY_BYTES_MAX
from nodedb.waiter import Waiter
from sql import errors as sql_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cluster.multiraft.message import Beat
    from cluster.raft.message import ConfChange, Message
    from nodedb.storage.engine import Engine
    from nodedb.storage.wal import Wal

_LOGGER: Final = logging.getLogger("nodedb.replicator")
COMMIT_INTERVAL_SECONDS: Final = 0.5
"""Rarer commits cost less, for hot pages are written once each, but stop the loop for longer."""
COMMIT_BYTES: Final = 4 * 1024 * 1024
DISK_RETRY_SECONDS: Final = 0.2
UNKNOWN_AFTER_SECONDS: Final = 5.0
"""How long after losing leadership an entry may wait for its fate before that is unknown."""
REPLICATED_ENTRY_BYTES_MAX: Final = 48 * 1024 * 1024
"""An entry that goes to peers must fit into a frame of the transport, with room to spare."""


class Timer(Protocol):
    """A call that has been scheduled."""

    def cancel(self) -> None:
        """Forget it; harmless afterwards."""


class Schedule(Protocol):
    """The two services of an event loop that the replicator needs."""

    def soon(self, callback: Callable[[], None]) -> None:
        """Call at the end of this turn."""

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call after a delay, unless cancelled."""


class _Proposal(NamedTuple):
    group_id: int
    payload: bytes
    value: Any
    waiter: Waiter[int]


def _no_time() -> float:
    """Return the time of a node without peers, to which it means nothing."""
    return 0.0


class Replicator:
    """Orders, persists, replicates and applies the entries of all groups of a node."""

    core_type: type[RaftCore] = RaftCore

    def __init__(
        self,
        wal: Wal,
        engine: Engine,
        schedule: Schedule,
        on_fatal: Callable[[StorageError], None],
        pass_place: PassPlace = pass_none,
        *,
        node_id: int = 1,
        config: RaftConfig | None = None,
        now: Callable[[], float] = _no_time,
        seed: int = 0,
        outside: Outside | None = None,
    ) -> None:
        """``now`` is a fresh boot-time clock in seconds (PROTOCOL rule 37).

        ``seed`` chooses the election timeouts: all groups of a node draw the same ones, so that one
        node tends to win them all after its predecessor. ``pass_place`` is for crash tests: called
        at places of ``nodedb.kv.fault_points``.
        """
        self.node_id = node_id
        self.config = config or RaftConfig()
        self.now = now
        self._seed = seed
        self._outside: Outside = outside or Nobody()
        self._has_peers = outside is not None
        self._entry_bytes_max = REPLICATED_ENTRY_BYTES_MAX if outside else ENTRY_BYTES_MAX
        self._has_peers_side = outside is not None
        self._pass = pass_place
        self._wal = wal
        self._engine = engine
        self._schedule = schedule
        self._on_fatal = on_fatal
        self.raft = MultiRaft(node_id, self.config, now())
        self.replicas: dict[int, Replica] = {}
        self._pending: list[_Proposal] = []
        self._is_turn_due = False
        self._is_retry_due = False
        self._committed: deque[tuple[Replica, int]] = deque()
        """What is to be applied, up to which index; behind the entry that is amid its slices."""
        self._slices: Iterator[int] | None = None
        self._sliced: tuple[Replica, int, Waiter[int] | None] | None = None
        """The entry that is being applied in slices: its group, index, and who waits for it."""
        self._uncommitted_bytes = 0
        self._commit_is_scheduled = False
        self._stopped = False
        self._is_saved = True
        self._reads: dict[int, Waiter[bool]] = {}
        self._read_number = 0
        self.log_room = LogRoom(wal, engine)
        self.flush_count = 0
        self.entry_count = 0
        self.commit_count = 0
        self.flushed_bytes = 0
        engine.before_commit(self.save)

    # Groups

    def start_group(
        self,
        group_id: int,
        machine: StateMachine,
        configuration: Configuration | None = None,
    ) -> None:
        """Start this node's replica of a group from what the engine and the log have of it.

        ``configuration`` is that of a replica that is new here; the default is this node alone. A
        group's only voter applies its whole log at once, another what it knows to be committed.
        """
        settle_log(self._wal, self._engine, group_id)
        stored = stored_configuration(self._engine, group_id)
        if stored is None:
            stored = configuration or Configuration((self.node_id,), ())
            encoded = msgspec.msgpack.encode(stored)
            meta_space(self._engine, group_id).put(CONFIGURATION_KEY, encoded)
            self._is_saved = False
        applied_index, _ = self._engine.applied(group_id)
        if stored.voters == (self.node_id,):
            try:
                applied_index, byte_count = replay(
                    self._wal, self._engine, group_id, machine, self._pass
                )
            except BaseException:
                self._engine.abandon()
                raise
            self._uncommitted_bytes += byte_count
        log = ReplicaLog(self._wal, group_id)
        core = self.core_type(
            config=self.config,
            group_id=group_id,
            node_id=self.node_id,
            log=log,
            configuration=stored_configuration(self._engine, group_id) or stored,
            applied_index=applied_index,
            random=Random(self._seed),
            now=self.now(),
        )
        meta = meta_space(self._engine, group_id)
        self.replicas[group_id] = Replica(group_id, machine, core, log, meta)
        self.raft.add(core)
        self._is_saved = False

    def reconfigure(self, config: RaftConfig) -> None:
        """Go on with other timeouts: each replica's next deadline is made of them."""
        self.config = config
        self.raft.reconfigure(config)

    def applied_index(self, group_id: int) -> int:
        """Return the index of the last applied entry."""
        return self.replicas[group_id].applied_index

    def term(self, group_id: int) -> int:
        """Return the group's current term."""
        return self.replicas[group_id].core.term

    # Proposals

    def ensure_room(self, byte_count: int) -> None:
        """Refuse (53100) a statement that needs space when a reserve of it is touched."""
        try:
            self._engine.ensure_room(byte_count)
        except (DiskFull, MapFull) as error:
            raise sql_errors.DiskFull(
                "could not extend the store: no space left",
                detail=str(error),
                hint="Free disk space; reading, DELETE, TRUNCATE and DROP still work.",
            ) from error

    def propose(self, group_id: int, payload: bytes, value: Any) -> Waiter[int]:
        """Queue an entry for this turn's flush; the waiter gives its index once it is applied.

        ``value`` is what ``payload`` encodes. The waiter fails as the module says. Raises
        ConfigurationLimitExceeded (53400) for what does not fit into one entry of the log.
        """
        self.check_size(payload)
        waiter: Waiter[int] = Waiter()
        if not self._is_turn_due:
            self._is_turn_due = True
            self._schedule.soon(self.flush)
        self._pending.append(_Proposal(group_id, payload, value, waiter))
        return waiter

    def check_size(self, payload: bytes) -> None:
        """Raise ConfigurationLimitExceeded (53400) for what does not fit into one entry."""
        if len(payload) > self._entry_bytes_max:
            raise too_long(len(payload), self._entry_bytes_max)

    def in_flight(self, group_id: int) -> list[Any]:
        """Return what is proposed and not yet in effect, in order, without what is amid slices."""
        replica = self.replicas[group_id]
        values = [proposed.value for proposed in replica.proposed]
        values += [p.value for p in self._pending if p.group_id == group_id]
        return values

    # Peers. Nothing of this is called on a node by itself.

    def receive(self, messages: list[Message]) -> None:
        """Take a peer's messages; their effects are flushed at the end of this turn."""
        if self._stopped:
            return
        now = self.now()
        try:
            for message in messages:
                self.raft.step(message, now)
        except Exception as error:  # noqa: BLE001  the end of the node, not of the peer's connection
            self._stop_for(error, "a message could not be taken")
        self._take_turn()

    def receive_beat(self, beat: Beat) -> None:
        """Take a peer's sign of life."""
        if self._stopped:
            return
        self.raft.on_beat(beat, self.now())
        if self.raft.has_work:
            self._take_turn()

    def tick(self) -> None:
        """Let time pass for the groups' cores."""
        if self._stopped:
            return
        raft = self.raft
        try:
            beats = raft.tick(self.now())
        except Exception as error:  # noqa: BLE001  the end of the node
            self._stop_for(error, "time could not pass")
            return
        for node_id, beat in beats:
            self._outside.send_beat(node_id, beat)
        if raft.has_work or self._wal.needs_flush:
            self.flush()
        else:
            if raft.has_awake:
                self._note_roles()
            self._outside.on_turn()

    def read_index(self, group_id: int) -> Waiter[bool]:
        """Have a quorum confirm that this node leads; False if it does not.

        Done once everything that was acknowledged before is applied here.
        """
        waiter: Waiter[bool] = Waiter()
        core = self.raft.touch(group_id)
        if not core.is_leader or self._stopped:
            waiter.set_result(False)
            return waiter
        self._read_number += 1
        self._reads[self._read_number] = waiter
        core.read_index(self._read_number, self.now())
        self._take_turn()
        return waiter

    def propose_conf_change(self, group_id: int, change: ConfChange) -> None:
        """Begin a change of a group's members. Raises NotLeader, ConfChangeInFlight."""
        self.raft.touch(group_id).propose_conf_change(change)
        self._take_turn()

    def transfer_leadership(self, group_id: int, target: int) -> None:
        """Ask a peer to take over a group that this node leads."""
        self.raft.touch(group_id).transfer_leadership(target, self.now())
        self._take_turn()

    def on_peer_unreachable(self, node_id: int) -> None:
        """Note that messages to a peer were lost."""
        for group_id, replica in self.replicas.items():
            if replica.core.is_leader:
                self.raft.touch(group_id).on_peer_unreachable(node_id)
        self._take_turn()

    def on_node_suspected(self, node_id: int) -> None:
        """Wake the quiescent groups that a node leads which is said to be gone."""
        self.raft.on_node_lost(node_id, self.now())
        if self.raft.has_work:
            self._take_turn()

    def on_snapshot_result(self, group_id: int, node_id: int, index: int, *, ok: bool) -> None:
        """Note the end of ``Outside.send_snapshot``."""
        self.raft.touch(group_id).on_snapshot_result(node_id, index, ok=ok)
        self._take_turn()

    def is_amid_entry(self, group_id: int) -> bool:
        """Tell whether one of the group's entries is being applied in slices."""
        return self._sliced is not None and self._sliced[0].group_id == group_id

    def begin_install(self, group_id: int) -> None:
        """Stop applying to a group whose state is about to be replaced by a snapshot.

        Not amid an entry, nor while another snapshot is being installed.
        """
        assert not self.is_amid_entry(group_id)
        replica = self.replicas[group_id]
        assert not replica.is_installing
        replica.is_installing = True
        self._committed = deque(item for item in self._committed if item[0] is not replica)

    def cancel_install(self, group_id: int) -> None:
        """Go on with the state there is: the snapshot could not be loaded."""
        replica = self.replicas[group_id]
        replica.is_installing = False
        self.raft.touch(group_id)
        self._take_turn()

    def finish_install(self, group_id: int, index: int, term: int) -> None:
        """Go on with a group whose state the engine has replaced, durably, by a snapshot's.

        A log that holds the snapshot's last entry stays: what is behind it may have been
        acknowledged while the snapshot was on its way (Raft paper, figure 13, step 6). Any other is
        reset, and what this node had proposed to the group and not seen applied has an unknown
        fate.
        """
        replica = self.replicas[group_id]
        replica.is_installing = False
        replica.applied_index = index
        configuration = stored_configuration(self._engine, group_id)
        assert configuration is not None, "a snapshot carries the configuration"
        core = self.raft.touch(group_id)
        lost: list[Waiter[int]] = []
        done: list[tuple[Waiter[int], int]] = []
        overwritten: list[Waiter[int]] = []
        try:
            if self._wal.term_at(group_id, index) == term:
                core.on_snapshot_matched(index, self.now())
                replica.set_aside(0, index)
                self._settle_aside(replica, done, overwritten)
            else:
                self._wal.reset(group_id, index, term)
                lost = replica.take_proposed()
                core.on_snapshot_installed(index, term, configuration, self.now())
        except Exception as error:  # noqa: BLE001  the end of the node
            self._stop_for(error, "the log could not follow a snapshot")
        self._take_turn()
        for waiter, applied_index in done:
            waiter.set_result(applied_index)
        surely_not_applied(overwritten)
        leave_unknown(lost, "a snapshot has replaced the log that it was in")

    def _take_turn(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            self._schedule.soon(self.flush)

    # A turn

    def flush(self) -> None:
        """Make everything appended durable, send, apply in order, and wake those who wait."""
        self._is_turn_due = False
        proposals = self._pending
        if self._stopped or not (proposals or self.raft.has_work or self._wal.needs_flush):
            return
        if proposals:
            self._pending = []
        wal = self._wal
        full: DiskFull | None = None
        refused: list[Waiter[int]] = []
        try:
            mark = wal.mark()
            try:
                refused = self._append(proposals)
                byte_count = wal.pending_bytes
                wal.flush()
            except DiskFull as error:
                wal.discard(mark)
                full = error
                byte_count = 0
        except StorageError as error:
            self._fail(error, [p.waiter for p in proposals])
            return
        except Exception as error:
            # What became of the entries is unknown, so nothing may follow them.
            failure = StorageError(f"the log could not be written: {error!r}")
            self._fail(failure, [p.waiter for p in proposals])
            raise
        if full is not None:
            self._take_back(proposals, full)
            return
        if byte_count:
            self.flushed_bytes += byte_count
            self.flush_count += 1
            self.entry_count += len(proposals)
        self._finish_turn()
        if refused:
            surely_not_applied(refused)

    def _append(self, proposals: list[_Proposal]) -> list[Waiter[int]]:
        """Put proposals into the log; returns who proposed to a group that takes none here."""
        refused: list[Waiter[int]] = []
        propose = self.raft.propose
        for group_id, payload, value, waiter in proposals:
            try:
                term, index = propose(group_id, payload)
            except (NotLeader, TransferInProgress):
                refused.append(waiter)
                continue
            replica = self.replicas[group_id]
            if replica.proposed and replica.proposed[-1].at >= index:
                # From an earlier time as the leader; others have truncated the log since.
                replica.set_aside(index)
            replica.proposed.append(Proposed(index, term, value, waiter, len(payload)))
        return refused

    def _take_back(self, proposals: list[_Proposal], error: DiskFull) -> None:
        """Refuse proposals that the disk has no room for; nothing of them is in the log.

        What peers' messages appended stays pending, unanswered, until there is room.
        """
        refused = {id(proposal.waiter) for proposal in proposals}
        for replica in self.replicas.values():
            proposed = replica.proposed
            if proposed and id(proposed[-1].waiter) in refused:
                while proposed and id(proposed[-1].waiter) in refused:
                    proposed.pop()
                replica.core.on_proposals_discarded()
        if not self._wal.needs_flush:
            self._finish_turn()
        else:
            if not self._is_retry_due:
                self._is_retry_due = True
                self._schedule.later(DISK_RETRY_SECONDS, self._retry)
            self._tell_peers_side()
        refuse([proposal.waiter for proposal in proposals], error)

    def _retry(self) -> None:
        self._is_retry_due = False
        self._take_turn()

    def _finish_turn(self) -> None:
        """Carry out what the cores make of a turn whose log is durable."""
        replicas = self.replicas
        try:
            turn = self.raft.after_flush(self.now())
        except Exception as error:  # noqa: BLE001  the end of the node
            self._stop_for(error, "the groups could not go on")
            return
        for node_id, messages in turn.outbox.items():
            self._outside.send(node_id, messages)
        for group_id, node_id in turn.snapshots:
            self._outside.send_snapshot(group_id, node_id)
        for group_id, context, index in turn.read_states:
            waiter = self._reads.pop(context)
            if index < 0:
                waiter.set_result(False)
            else:
                replicas[group_id].reads.append((index, waiter))
        if turn.committed:
            # Rows before the catalog: a definition never shows before rows that came with it.
            turn.committed.sort(reverse=True)  # The metadata group's id is 0.
            for group_id, index in turn.committed:
                if not replicas[group_id].is_installing:
                    self._committed.append((replicas[group_id], index))
        if self._committed and self._slices is None:
            self._apply_committed([])
        self._tell_peers_side()

    def _tell_peers_side(self) -> None:
        if self._has_peers and not self._stopped:
            self._note_roles()
            self._outside.on_turn()

    def _note_roles(self) -> None:
        """Serve confirmed reads, and limit the wait of what was proposed by a leader that was."""
        for replica in self.replicas.values():
            if replica.reads:
                ready = [w for index, w in replica.reads if index <= replica.applied_index]
                replica.reads = [r for r in replica.reads if r[0] > replica.applied_index]
                for waiter in ready:
                    waiter.set_result(True)
            is_leader = replica.core.is_leader
            if replica.was_leader and not is_leader and replica.proposed:
                self._limit_wait(replica, replica.proposed[-1].term)
            replica.was_leader = is_leader

    def _limit_wait(self, replica: Replica, last_term: int) -> None:
        def give_up() -> None:
            lost = replica.take_proposed(last_term)
            leave_unknown(lost, "this node has lost the lead of its group meanwhile")

        self._schedule.later(UNKNOWN_AFTER_SECONDS, give_up)

    # Applying

    def _apply_committed(self, done: list[tuple[Waiter[int], int]]) -> None:
        """Apply what is committed, in order, until a long entry's slices begin; then wake.

        ``done`` are those who wait for what was applied just before.
        """
        self._is_saved = False
        self._pass(Place.APPLY_BEGIN)
        overwritten: list[Waiter[int]] = []
        queue = self._committed
        try:
            while queue and self._slices is None:
                replica, upto = queue[0]
                self._apply_replica(replica, upto, done, overwritten)
                if self._slices is None:
                    queue.popleft()
        except Exception as error:
            if self._fail_apply(error, [*(waiter for waiter, _ in done), *overwritten]):
                return
            raise
        self._pass(Place.APPLY_END)
        self._commit_soon()
        for waiter, index in done:
            waiter.set_result(index)
        surely_not_applied(overwritten)

    def _apply_replica(
        self,
        replica: Replica,
        upto: int,
        done: list[tuple[Waiter[int], int]],
        overwritten: list[Waiter[int]],
    ) -> None:
        """Apply one group's entries up to an index, or to the first that comes in slices."""
        group_id, machine, proposed = replica.group_id, replica.machine, replica.proposed
        term_at = self._wal.term_at
        index = replica.applied_index
        while index < upto:
            index += 1
            if proposed and proposed[0].at == index:
                _, proposed_term, value, waiter, byte_count = proposed[0]
                if proposed_term == term_at(group_id, index):
                    slices = machine.apply(value, index)
                    if slices is not None:
                        self._begin_slices(slices, replica, index)
                        return
                    proposed.popleft()
                    replica.applied_index = index
                    self._uncommitted_bytes += byte_count
                    done.append((waiter, index))
                    self._pass(Place.APPLY_ENTRY)
                    continue
                # Rule 23: another leader's committed entry stands where ours was.
                overwritten.append(proposed.popleft().waiter)
            limit = min(upto, proposed[0].at - 1) if proposed else upto
            for at, _, payload in self._wal.entries(group_id, index, limit + 1, REPLAY_BYTES):
                if self._apply_foreign(replica, at, payload):
                    return
            index = replica.applied_index
        applied = replica.applied_index
        term = term_at(group_id, applied)
        assert term is not None, (group_id, applied)
        self._engine.set_applied(group_id, applied, term)
        replica.core.on_applied(applied)
        if replica.aside:
            self._settle_aside(replica, done, overwritten)

    def _settle_aside(
        self,
        replica: Replica,
        done: list[tuple[Waiter[int], int]],
        overwritten: list[Waiter[int]],
    ) -> None:
        """Find what became of proposals from earlier times as the leader (rule 23)."""
        applied, term_at = replica.applied_index, self._wal.term_at
        for entry in replica.aside:
            if entry.at <= applied:
                if term_at(replica.group_id, entry.at) == entry.term:
                    done.append((entry.waiter, entry.at))
                else:
                    overwritten.append(entry.waiter)
        replica.aside = [entry for entry in replica.aside if entry.at > applied]

    def _apply_foreign(self, replica: Replica, index: int, payload: bytes) -> bool:
        """Apply an entry as it stands in the log; True when it goes on in slices."""
        if payload and payload[0] != CONF_CHANGE:
            slices = replica.machine.apply(replica.machine.decode(payload), index)
            if slices is not None:
                self._begin_slices(slices, replica, index)
                return True
        replica.applied_index = index
        self._uncommitted_bytes += len(payload) + 1
        if payload and payload[0] == CONF_CHANGE:
            replica.core.on_applied(index)
            encoded = msgspec.msgpack.encode(replica.core.applied_configuration)
            replica.meta.put(CONFIGURATION_KEY, encoded)
        elif payload:
            self._pass(Place.APPLY_ENTRY)
        return False

    def _fail_apply(self, error: Exception, lost: list[Waiter[int]]) -> bool:
        """Stop after an entry was applied in part; True for a failure of the engine.

        It stays so: nothing may be served, or committed, on top of that. ``lost`` are those whose
        entries were settled in the same turn and who were not told.
        """
        self._engine.abandon()
        if isinstance(error, StorageError):
            self._fail(error, lost)
            return True
        self._fail(StorageError(f"an entry of the log could not be applied: {error!r}"), lost)
        return False

    # Long entries: a slice in each turn of the loop. Whatever is committed meanwhile waits behind
    # them, because entries take effect in the log's order. The engine may commit between slices:
    # after a crash the entry is applied once more, over what is there of it.

    def _begin_slices(self, slices: Iterator[int], replica: Replica, index: int) -> None:
        """Have an entry applied in the turns to come."""
        before = self._wal.term_at(replica.group_id, index - 1)
        if index > 1 and before is not None:
            self._engine.set_applied(replica.group_id, index - 1, before)
        waiter = None
        if replica.proposed and replica.proposed[0].at == index:
            # Its value goes slice by slice, and is no longer in flight for anybody else.
            waiter = replica.proposed.popleft().waiter
        self._slices = slices
        self._sliced = replica, index, waiter
        self._schedule.soon(self._go_on)

    def _go_on(self) -> None:
        """Apply one more slice; after the last one all that waited behind it."""
        if self._slices is None or self._sliced is None or self._stopped:
            return
        self._is_saved = False
        try:
            byte_count = next(self._slices, None)
        except Exception as error:
            if self._fail_apply(error, [] if self._sliced[2] is None else [self._sliced[2]]):
                return
            raise
        if byte_count is not None:
            self._uncommitted_bytes += byte_count
            self._pass(Place.APPLY_ENTRY)
            self._commit_soon()
            self._schedule.soon(self._go_on)
            return
        replica, index, waiter = self._sliced
        self._slices = self._sliced = None
        replica.applied_index = index
        term = self._wal.term_at(replica.group_id, index)
        assert term is not None, (replica.group_id, index)
        self._engine.set_applied(replica.group_id, index, term)
        replica.core.on_applied(index)
        self._apply_committed([] if waiter is None else [(waiter, index)])
        self._tell_peers_side()

    # The engine's commits

    def _commit_soon(self) -> None:
        if self._uncommitted_bytes >= COMMIT_BYTES:
            self.commit()
        elif not self._commit_is_scheduled:
            self._commit_is_scheduled = True
            self._schedule.later(COMMIT_INTERVAL_SECONDS, self._on_commit_timer)

    def note_local_change(self, byte_count: int) -> None:
        """Note that the engine was changed without an entry (garbage collected).

        Have it committed like the rest.
        """
        self._is_saved = False
        self._uncommitted_bytes += byte_count
        self._commit_soon()

    def _on_commit_timer(self) -> None:
        self._commit_is_scheduled = False
        if self._uncommitted_bytes and not self._stopped:
            self.commit()

    def commit(self) -> None:
        """Commit the engine with each group's applied index, then let go of log nobody needs."""
        if self._stopped:
            return
        try:
            self._pass(Place.COMMIT_BEGIN)
            self._engine.commit()
            self._uncommitted_bytes = 0
            self.commit_count += 1
            self._pass(Place.COMMIT_END)
            self.log_room.compact(self.replicas.values())
            self._pass(Place.RECYCLE_BEGIN)
            # On a full disk the oldest segment cannot be rewritten: nothing changes, the log stays
            # long until there is room.
            with contextlib.suppress(DiskFull):
                self._wal.recycle()
        except StorageError as error:
            self._fail(error)
        except Exception as error:
            self._engine.abandon()
            self._fail(StorageError(f"the engine could not be committed: {error!r}"))
            raise

    def save(self) -> None:
        """Put the machines' small state beside their rows; the engine calls it before a commit."""
        if not self._is_saved:
            for replica in self.replicas.values():
                replica.machine.save()
            self._is_saved = True
            self._pass(Place.COMMIT_SAVED)

    # The end

    def _stop_for(self, error: Exception, trouble: str) -> None:
        """Stop the node: the cores or the log behind them have failed, their state is in doubt."""
        if isinstance(error, StorageError):
            self._fail(error)
        else:
            _LOGGER.error("%s", trouble, exc_info=error)
            self._fail(StorageError(f"{trouble}: {error!r}"))

    def _fail(self, error: StorageError, more: Sequence[Waiter[int]] = ()) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._on_fatal(error)
        lost = [waiter for replica in self.replicas.values() for waiter in replica.take_proposed()]
        reads = list(self._reads.values())
        self._reads.clear()
        for replica in self.replicas.values():
            reads += [waiter for _, waiter in replica.reads]
            replica.reads.clear()
        # Completed twice is ignored: some are in both.
        if self._sliced is not None and self._sliced[2] is not None:
            lost.append(self._sliced[2])
        leave_unknown([*lost, *more], f"it may be in the write-ahead log: {error}")
        for read in reads:
            read.set_result(False)

    def close(self) -> None:
        """Flush, apply and commit what is pending; the log and engine are closed by their owner.

        After a failure of the log nothing more is flushed, but closing the engine still commits
        what it has applied.
        """
        if not self._stopped:
            self.flush()
            while self._slices is not None and not self._stopped:
                self._go_on()
            self.commit()
        self._stopped = True
