"""Three replicators: quorum before acknowledgement, fates of entries, disks, restarts, snapshots.

The network, the disks and time are simulated, and nothing fails by chance (``small_cluster``). The
simulation's checkers watch each test too. Mistakes R1, R2, R3, R6 and R9 of BEHAVIOUR 16.1 are
named where a test would catch them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.raft.message import ConfChange, Configuration
from nodedb.kv.effects import RowWrites, encode_effects
from nodedb.kv.fault_points import Place
from nodedb.kv.group import APPLY_SLICE_ROWS
from nodedb.kv.replica import stored_configuration
from nodedb.kv.replicator import (
    DISK_RETRY_SECONDS,
    REPLICATED_ENTRY_BYTES_MAX,
    UNKNOWN_AFTER_SECONDS,
)
from sql.errors import ConfigurationLimitExceeded
from tests.lib.small_cluster import Killed, SmallCluster, row_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodedb.waiter import Waiter

GROUP = FIRST_DATA_GROUP


def propose(node: Any, number: int, payload: bytes = b"row", rows: Iterable[int] = ()) -> Waiter:
    """Write one row, or those of ``rows``, by an entry of the node's data group."""
    timestamp = max(node.group.last_timestamp, getattr(node, "newest", 0)) + 1
    node.newest = timestamp
    writes = [(0, row_key(n), payload) for n in rows or (number,)]
    effects = RowWrites(timestamp, number, writes)
    return node.replicator.propose(GROUP, encode_effects(effects), effects)


def fate(waiter: Waiter) -> str:
    if not waiter.done:
        return "waits"
    return "ok" if waiter.error is None else waiter.error.sqlstate


def value(node: Any, number: int) -> bytes | None:
    return node.group.newest(row_key(number))


# What an acknowledgement means


def test_an_entry_is_acknowledged_once_a_quorum_has_it_durably() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    cluster.isolate(2)
    cluster.isolate(3)
    waiter = propose(leader, 1)
    cluster.pass_time(0.3)
    assert leader.wal.durable_index(GROUP) == leader.core(GROUP).log.last_index()
    assert fate(waiter) == "waits"
    assert value(leader, 1) is None
    cluster.network.heal()
    cluster.wait_for(lambda: waiter.done)
    assert fate(waiter) == "ok"
    durable = [n for n in cluster.nodes.values() if n.wal.durable_index(GROUP) >= waiter._value]
    assert len(durable) >= 2


def test_a_follower_answers_after_its_flush_and_not_before() -> None:
    """R3: nothing that promises durability leaves before it."""
    cluster = SmallCluster()
    leader = cluster.elect(1)
    cluster.pass_time(1)
    cluster.isolate(3)
    follower = cluster.node(2)
    seen: list[tuple[str, int]] = []
    send = follower.send

    def watch(place: Place) -> None:
        if place is Place.FDATASYNC_AFTER:
            seen.append(("synced", follower.core(GROUP).log.last_index()))

    def note(node_id: int, messages: list[Any]) -> None:
        seen.extend(
            ("answered", message.index)
            for message in messages
            if type(message).__name__ == "AppendResponse" and message.group_id == GROUP
        )
        send(node_id, messages)

    follower.on_place, follower.send = watch, note
    waiter = propose(leader, 1)
    cluster.wait_for(lambda: waiter.done)
    index = waiter._value
    assert seen.index(("synced", index)) < seen.index(("answered", index))


def test_an_acknowledgement_names_what_has_matched() -> None:
    """R2: a stale tail of the follower's own is not counted."""
    cluster = SmallCluster()
    old = cluster.elect(1)
    cluster.isolate(1)
    stale = [propose(old, n) for n in range(100, 120)]
    cluster.pass_time(0.1)
    assert old.core(GROUP).log.last_index() > 20
    new = cluster.elect_among(2, 3)
    waiter = propose(new, 1)
    cluster.wait_for(lambda: waiter.done)
    assert old.core(GROUP).log.last_index() > new.core(GROUP).log.last_index()
    cluster.network.heal()
    cluster.pass_time(0.5)
    progress = new.core(GROUP).progress[1]
    assert progress.match_index <= new.core(GROUP).log.last_index()
    cluster.wait_for(lambda: all(w.done for w in stale))
    assert fate(stale[0]) == "40001"
    assert {fate(w) for w in stale} <= {"40001", "40003"}
    assert old.wal.last_index(GROUP) == new.wal.last_index(GROUP)


# Fates


def test_what_another_leaders_entry_replaced_is_surely_not_applied() -> None:
    """R9: the waiter knows its term; the other entry at the index is not its own."""
    cluster = SmallCluster()
    old = cluster.elect(1)
    cluster.isolate(1)
    lost = propose(old, 1, b"old")
    new = cluster.elect_among(2, 3)
    kept = [propose(new, n, b"new") for n in range(2, 6)]
    cluster.wait_for(lambda: all(w.done for w in kept))
    assert fate(lost) == "waits"
    cluster.network.heal()
    cluster.wait_for(lambda: lost.done)
    assert fate(lost) == "40001"
    assert [fate(w) for w in kept] == ["ok"] * 4
    cluster.wait_for(lambda: value(old, 5) == b"new")
    assert value(old, 1) is None


def test_what_a_new_leader_took_over_is_acknowledged_by_the_old_one() -> None:
    """The entry survives its leader: the waiter hears so, for it is that very entry."""
    cluster = SmallCluster()
    old = cluster.elect(1)
    waiter = propose(old, 1)
    cluster.pass_time(0.0)  # Flushed, and on its way to both.
    cluster.network.cut |= {(2, 1), (3, 1)}
    cluster.pass_time(0.01)
    assert fate(waiter) == "waits"
    cluster.isolate(1)
    new = cluster.elect_among(2, 3)
    assert value(new, 1) == b"row"
    cluster.network.heal()
    cluster.wait_for(lambda: waiter.done)
    assert fate(waiter) == "ok"


def test_a_fate_that_stays_unknown_is_said_to_be_after_a_bound() -> None:
    cluster = SmallCluster()
    old = cluster.elect(1)
    cluster.isolate(1)
    waiter = propose(old, 1)
    cluster.wait_for(lambda: not old.core(GROUP).is_leader)
    cluster.pass_time(UNKNOWN_AFTER_SECONDS - 0.5)
    assert fate(waiter) == "waits"
    cluster.pass_time(1)
    assert fate(waiter) == "40003"
    assert not old.replicator.replicas[GROUP].proposed


def test_proposals_of_two_times_as_the_leader_at_the_same_indexes() -> None:
    """Node 1 proposes, loses its tail but not the memory of it, leads again, proposes again.

    The first ones are settled by what is committed at their indexes, and stand in nobody's way.
    """
    cluster = SmallCluster()
    first = cluster.elect(1)
    cluster.isolate(1)
    early = [propose(first, n, b"early") for n in range(100, 130)]
    cluster.pass_time(0.05)
    second = cluster.elect_among(2, 3)
    cluster.network.heal()
    cluster.wait_for(lambda: first.core(GROUP).leader_id == second.node_id)
    cluster.wait_for(lambda: first.core(GROUP).log.last_index() < 30)
    assert {fate(w) for w in early} >= {"waits"}
    cluster.wait_for(lambda: _hand_over(cluster, second, 1))
    late = [propose(first, n, b"late") for n in range(200, 260)]
    cluster.wait_for(lambda: all(w.done for w in late), 3)
    assert {fate(w) for w in late} == {"ok"}
    assert {fate(w) for w in early} == {"40001"}
    assert value(first, 229) == b"late"
    assert value(first, 100) is None


def _hand_over(cluster: SmallCluster, leader: Any, target: int) -> bool:
    if leader.core(GROUP).is_leader:
        leader.replicator.transfer_leadership(GROUP, target)
    return cluster.node(target).core(GROUP).is_leader


def test_giving_up_on_old_proposals_leaves_the_new_ones_alone() -> None:
    cluster = SmallCluster()
    first = cluster.elect(1)
    cluster.isolate(1)
    early = propose(first, 1, b"early")
    cluster.wait_for(lambda: not first.core(GROUP).is_leader)
    given_up_at = cluster.time.now + UNKNOWN_AFTER_SECONDS
    cluster.network.heal()
    cluster.wait_for(lambda: early.done)
    leader = next(n for n in cluster.nodes.values() if n.core(GROUP).is_leader)
    if leader is not first:
        cluster.wait_for(lambda: _hand_over(cluster, leader, 1), 2)
    cluster.pass_time(given_up_at - 0.5 - cluster.time.now)
    cluster.isolate(1)
    late = propose(first, 2, b"late")
    cluster.pass_time(1)
    assert cluster.time.now > given_up_at
    assert fate(late) == "waits"


def test_proposals_during_a_transfer_are_refused_and_harm_nobody() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    cluster.isolate(2)
    waiter = propose(leader, 1)
    cluster.pass_time(0.0)
    leader.replicator.transfer_leadership(GROUP, 2)
    refused = propose(leader, 2)
    cluster.wait_for(lambda: refused.done and waiter.done)
    assert fate(refused) == "40001"
    assert fate(waiter) == "ok"
    assert leader.fatal is None


# Disks that are full


def fill_disk(node: Any) -> None:
    """Leave the log no room but what its segments have."""
    node.disk.quota = 0


def use_up(cluster: SmallCluster, leader: Any, full: Any) -> None:
    """Write until the full disk is met."""
    for number in range(1000, 1400):
        waiter = propose(leader, number, bytes(3000))
        cluster.wait_for(lambda w=waiter: w.done)
        if full is leader and fate(waiter) == "53100":
            return
        if full is not leader and full.wal.needs_flush:
            return
    raise AssertionError("the disk was never full")


def test_a_leader_with_a_full_disk_refuses_and_goes_on_leading() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    fill_disk(leader)
    use_up(cluster, leader, leader)
    term = leader.core(GROUP).term
    cluster.pass_time(5)
    assert leader.core(GROUP).is_leader
    assert leader.core(GROUP).term == term
    assert leader.leadership.may_serve
    leader.disk.quota = 1 << 30
    waiter = propose(leader, 1)
    cluster.wait_for(lambda: waiter.done)
    assert fate(waiter) == "ok"
    assert leader.fatal is None


def test_a_follower_with_a_full_disk_keeps_silent_until_there_is_room() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    follower = cluster.node(2)
    fill_disk(follower)
    use_up(cluster, leader, follower)
    matched = leader.core(GROUP).progress[2].match_index
    waiter = propose(leader, 1)
    cluster.wait_for(lambda: waiter.done)  # By the other one.
    events = cluster.time.event_count
    cluster.pass_time(10)
    per_second = (cluster.time.event_count - events) / 10
    # Ticks, heartbeats and one attempt per DISK_RETRY_SECONDS: no avalanche of attempts.
    assert per_second < 3 * 40 + 200 + 2 / DISK_RETRY_SECONDS
    assert leader.core(GROUP).progress[2].match_index == matched
    assert follower.fatal is None
    follower.disk.quota = 1 << 30
    cluster.wait_for(lambda: value(follower, 1) == b"row")


def test_a_full_disk_takes_back_the_turns_own_proposals_only() -> None:
    """Those of an earlier time as the leader are still to be told what became of them."""
    cluster = SmallCluster()
    old = cluster.elect(1)
    cluster.isolate(1)
    early = [propose(old, n) for n in range(10, 20)]
    cluster.pass_time(0.1)
    cluster.elect_among(2, 3)
    cluster.network.heal()
    cluster.wait_for(lambda: old.wal.last_index(GROUP) < early_index(early, old))
    fill_disk(old)
    refused = propose(old, 1, bytes(100_000))
    cluster.pass_time(0.01)
    assert refused.done
    cluster.pass_time(UNKNOWN_AFTER_SECONDS + 1)
    assert all(w.done for w in early)


def early_index(early: list[Waiter], node: Any) -> int:
    replica = node.replicator.replicas[GROUP]
    return max((p.at for p in (*replica.proposed, *replica.aside)), default=1 << 30)


# Restarts


@pytest.mark.parametrize("place", [p for p in Place if p.phase in ("log_write", "fdatasync")])
@pytest.mark.parametrize("victim", [1, 2])
def test_nothing_acknowledged_is_lost_at_any_place_of_a_flush(place: Place, victim: int) -> None:
    """R1: term, vote and log are there again after the restart."""
    crash_and_compare(place, victim)


@pytest.mark.parametrize(
    "place",
    [
        place
        for place in Place
        if place.phase in ("apply", "engine_commit", "segment_recycle")
        # A node this small uses its segments again and removes none.
        and place not in (Place.RECYCLE_BEFORE_REMOVE, Place.RECYCLE_AFTER_REMOVE)
    ],
)
def test_nothing_acknowledged_is_lost_at_any_place_of_applying(place: Place) -> None:
    crash_and_compare(place, 1)


def crash_and_compare(place: Place, victim: int) -> None:
    cluster = SmallCluster(kept_entries=5, segment_bytes=1 << 14)
    leader = cluster.elect(1)
    node = cluster.node(victim)
    left = [3]

    def die(passed: Place) -> None:
        if passed is place:
            left[0] -= 1
            if not left[0]:
                raise Killed

    node.on_place = die
    waiters: dict[int, Waiter] = {}
    number = 0
    while node.is_running and number < 400:
        number += 1
        if leader.core(GROUP).is_leader:
            waiters[number] = propose(leader, number, b"%d" % number)
        cluster.pass_time(0.05)
    assert not node.is_running, f"{place} was never passed"
    node.on_place = None
    before = (node.disk, node.node_id)
    cluster.pass_time(1)
    node.start()
    assert (node.disk, node.node_id) == before
    serving = cluster.server()
    cluster.wait_for(lambda: serving.leadership.may_serve)
    last = propose(serving, 999)
    cluster.wait_for(lambda: last.done)
    cluster.wait_for(lambda: all(value(n, 999) for n in cluster.nodes.values()))
    for number, waiter in waiters.items():
        held = {value(n, number) for n in cluster.nodes.values()}
        assert len(held) == 1, (number, held)
        if fate(waiter) == "ok":
            assert held == {b"%d" % number}
        if fate(waiter) == "40001":
            assert held == {None}


def test_a_vote_is_not_given_twice_in_a_term() -> None:
    """R1."""
    cluster = SmallCluster()
    cluster.elect(1)
    term = cluster.node(3).core(GROUP).term
    voted = cluster.node(3).core(GROUP).voted_for
    cluster.stop(cluster.node(3))
    cluster.node(3).start()
    core = cluster.node(3).core(GROUP)
    assert (core.term, core.voted_for) == (term, voted)


# Long entries


def test_a_follower_applies_a_long_entry_in_slices_and_others_behind_it() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    follower = cluster.node(2)
    count = 3 * APPLY_SLICE_ROWS
    long = propose(leader, 1, b"x", rows=range(count))
    behind = propose(leader, count + 1, b"behind")
    seen: set[tuple[bool, bool]] = set()

    def watch(place: Place) -> None:
        if place is Place.APPLY_ENTRY:
            seen.add((value(follower, 0) is not None, value(follower, count + 1) is not None))

    follower.on_place = watch
    cluster.wait_for(lambda: long.done and behind.done)
    cluster.wait_for(lambda: value(follower, count + 1) == b"behind")
    assert (False, False) in seen, "no slice was seen"
    assert (False, True) not in seen
    assert value(follower, count - 1) == b"x"
    assert follower.replicator.applied_index(GROUP) == leader.replicator.applied_index(GROUP)


def test_an_entry_that_no_frame_carries_is_refused() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    with pytest.raises(ConfigurationLimitExceeded):
        propose(leader, 1, bytes(REPLICATED_ENTRY_BYTES_MAX + 1))


# Compaction and snapshots


def test_compaction_keeps_what_a_peer_a_little_behind_needs() -> None:
    cluster = SmallCluster(kept_entries=50)
    leader = cluster.elect(1)
    cluster.stop(cluster.node(3))
    write(cluster, leader, 30)
    cluster.node(3).start()
    cluster.wait_for(lambda: value(cluster.node(3), 30) == b"row")
    assert cluster.snapshots.installed_count == 0
    assert leader.wal.first_index(GROUP) <= 30


def test_a_replica_that_is_far_behind_gets_a_snapshot_with_its_rows() -> None:
    """R6: the log is compacted, and the snapshot carries the state."""
    cluster = SmallCluster(kept_entries=5)
    leader = cluster.elect(1)
    cluster.stop(cluster.node(3))
    for last in (58, 59, 60, 61):
        # Each engine commit lets go of what the one before it held.
        write(cluster, leader, last, start=1 if last == 58 else last)
        cluster.pass_time(1)
    assert leader.wal.first_index(GROUP) > 40
    late = cluster.node(3)
    late.start()
    cluster.wait_for(lambda: value(late, 61) == b"row")
    assert cluster.snapshots.installed_count >= 1
    assert [value(late, n) for n in range(1, 62)] == [b"row"] * 61
    assert late.wal.first_index(GROUP) > 40


def write(cluster: SmallCluster, leader: Any, last: int, *, start: int = 1) -> None:
    for number in range(start, last + 1):
        waiter = propose(leader, number)
        cluster.wait_for(lambda w=waiter: w.done)
        assert fate(waiter) == "ok"


def install(node: Any, index: int, term: int) -> None:
    """Do to a replica what the installing of a snapshot of (index, term) does."""
    node.replicator.begin_install(GROUP)
    node.engine.set_applied(GROUP, index, term)
    node.engine._applied_changed.discard(GROUP)
    node.engine._is_dirty = True
    node.engine._commit(beyond_log=GROUP)
    node.engine._durable = node.engine._committed
    node.replicator.finish_install(GROUP, index, term)


def test_a_snapshot_makes_the_fate_of_what_was_proposed_unknown() -> None:
    cluster = SmallCluster()
    old = cluster.elect(1)
    cluster.isolate(1)
    waiter = propose(old, 1)
    cluster.wait_for(lambda: not old.core(GROUP).is_leader)
    install(old, 500, old.core(GROUP).term + 5)
    assert fate(waiter) == "40003"
    assert old.replicator.applied_index(GROUP) == 500
    cluster.pass_time(0.05)
    assert old.wal.first_index(GROUP) == 501


def test_a_snapshot_does_not_cut_off_what_was_acknowledged_behind_it() -> None:
    """The log went on while the snapshot was on its way (Raft paper, figure 13, step 6)."""
    cluster = SmallCluster()
    leader = cluster.elect(1)
    write(cluster, leader, 20)
    follower = cluster.node(2)
    cluster.wait_for(lambda: follower.wal.durable_index(GROUP) >= 20)
    applied, last = follower.replicator.applied_index(GROUP), follower.wal.last_index(GROUP)
    waiter = propose(leader, 21)
    cluster.wait_for(lambda: follower.wal.durable_index(GROUP) > last)
    index = applied + 1
    follower.replicator.replicas[GROUP].applied_index = applied
    if follower.replicator.applied_index(GROUP) < index:
        install(follower, index, follower.wal.term_at(GROUP, index))
    assert follower.wal.last_index(GROUP) == last + 1
    cluster.wait_for(lambda: waiter.done)
    more = propose(leader, 22)
    cluster.wait_for(lambda: more.done)
    cluster.wait_for(lambda: value(follower, 22) == b"row")
    assert cluster.snapshots.installed_count == 0


def test_nothing_is_applied_while_a_snapshot_is_installed() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    write(cluster, leader, 3)
    follower = cluster.node(2)
    cluster.wait_for(lambda: value(follower, 3) == b"row")
    follower.replicator.begin_install(GROUP)
    write(cluster, leader, 6, start=4)
    cluster.pass_time(1)
    assert value(follower, 4) is None
    assert not follower.leadership.may_serve_stale
    follower.replicator.cancel_install(GROUP)
    cluster.wait_for(lambda: value(follower, 6) == b"row")


# Members


def test_changes_of_the_members_are_kept_with_the_engine() -> None:
    cluster = SmallCluster(has_spare=True)
    leader = cluster.elect(1)
    leader.replicator.propose_conf_change(GROUP, ConfChange("add_learner", 4))
    cluster.wait_for(lambda: not leader.core(GROUP).conf_change_in_flight)
    waiter = propose(leader, 1)
    cluster.wait_for(lambda: waiter.done)
    cluster.wait_for(lambda: value(cluster.node(4), 1) == b"row")
    leader.replicator.propose_conf_change(GROUP, ConfChange("promote", 4))
    cluster.wait_for(lambda: leader.core(GROUP).applied_configuration.voters == (1, 2, 3, 4))
    cluster.pass_time(2)
    wanted = Configuration((1, 2, 3, 4), ())
    for node in cluster.nodes.values():
        assert stored_configuration(node.engine, GROUP) == wanted
        cluster.stop(node)
    for node in cluster.nodes.values():
        node.start()
        assert node.core(GROUP).configuration == wanted
        assert node.core(METADATA_GROUP).configuration == Configuration((1, 2, 3), ())
    cluster.server()


# Reads


def test_a_confirmed_read_needs_a_quorum() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    read = leader.replicator.read_index(GROUP)
    cluster.wait_for(lambda: read.done)
    assert read._value is True
    cluster.isolate(1)
    read = leader.replicator.read_index(GROUP)
    cluster.wait_for(lambda: read.done)
    assert read._value is False


def test_a_node_that_has_failed_leaves_nobody_waiting_for_a_read() -> None:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    cluster.isolate(1)
    read = leader.replicator.read_index(GROUP)
    waiter = propose(leader, 1)
    cluster.pass_time(0.01)
    leader.disk.fail_next["fdatasync"] = 5
    failed: list[Any] = []
    cluster.on_fatal = failed.append  # type: ignore[method-assign]
    last = propose(leader, 2)
    cluster.pass_time(0.01)
    assert failed
    assert read.done
    assert read._value is False
    assert fate(waiter) == fate(last) == "40003"


def test_an_only_voters_reads_are_answered() -> None:
    cluster = SmallCluster(1)
    node = cluster.server()
    read = node.replicator.read_index(GROUP)
    cluster.wait_for(lambda: read.done)
    assert read._value is True
