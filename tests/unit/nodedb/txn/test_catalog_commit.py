"""Rows and a catalog change in a cluster: two groups, one decision (PROTOCOL rules 20, 21, 55).

The same commit is cut at each place between its prepare and its finish, by the death of the leader,
by the loss of its lead, by a full disk; another node takes over by ``DataLeadership``. Then rows
and catalog are there on every node, or neither is; and what the client was told is true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.command import CatalogChange, Fence, encode_command
from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.changes import Author, CatalogOverlay
from nodedb.kv.effects import FinishPrepared, PreparedRows, encode_effects
from nodedb.kv.group import APPLY_SLICE_ROWS
from nodedb.txn.manager import DECISIONS_MAX, LONG_ROWS
from nodedb.waiter import Interrupts
from sql.catalog.descriptor import Column, Table
from sql.errors import SerializationFailure, SqlError
from tests.lib.small_cluster import Killed, SmallCluster, Task, row_key
from tests.simulation.node import SEGMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = 20_000
FEW = 3


def table(number: int) -> Table:
    column = Column(name="id", type_oid=20, position=0, number=1, not_null=True)
    return Table(
        id=number,
        name=f"t{number}",
        schema_id=2200,
        storage_id=number,
        columns=(column,),
        clustering_key=(0,),
    )


def change_of(node: Any, number: int) -> Callable[[], bytes]:
    """Return what makes the change of the newest catalog: a table more."""

    def encode() -> bytes:
        overlay = CatalogOverlay(node.metadata.catalog)
        if not node.metadata.catalog.schema_version:
            for descriptor in bootstrap_catalog().puts:
                overlay.put(descriptor)
        overlay.put(table(number))
        change = overlay.changes(Author("somebody", 7, "192.0.2.1", 5))
        assert change is not None
        return change.encode()

    return encode


def begin(node: Any, number: int = TABLE, row_count: int = FEW) -> Task:
    """Begin to commit a new table with rows at a node."""
    transaction = node.manager.begin(1, Interrupts())
    for row in range(row_count):
        transaction.put(row_key(row, number), b"row", 0)

    async def commit() -> int:
        await node.manager.prepare_commit(transaction)
        if node.manager.timestamps.is_ahead:
            await node.manager.timestamps.ready(Interrupts())
        return await node.manager.commit(transaction, change_of(node, number))

    return Task(commit())


def facts(node: Any, number: int = TABLE, row_count: int = FEW) -> tuple[bool, bool, int]:
    """Return whether table and rows are there, and what is left prepared."""
    newest = [node.group.newest(row_key(row, number)) for row in range(row_count)]
    assert len(set(newest)) == 1, "half of the rows"
    has_table = node.metadata.catalog.table(number) is not None
    return has_table, newest[0] is not None, len(node.group.prepared)


def settle(cluster: SmallCluster) -> tuple[bool, bool, int]:
    """Heal, wait until all are equal and somebody serves; return what all agree on."""
    cluster.network.heal()
    for node in cluster.nodes.values():
        node.on_place = None
        node.disk.quota = 1 << 30
        if not node.is_running:
            node.start()
    cluster.server()
    cluster.wait_for(lambda: _applied(cluster), 30)
    found = {facts(node) for node in cluster.nodes.values()}
    assert len(found) == 1, found
    has_table, has_rows, prepared = found.pop()
    assert has_table == has_rows, "half of it"
    assert prepared == 0
    return has_table, has_rows, prepared


def _applied(cluster: SmallCluster) -> bool:
    return all(
        len({n.core(g).commit_index for n in cluster.nodes.values()}) == 1
        and len({n.replicator.applied_index(g) for n in cluster.nodes.values()}) == 1
        for g in cluster.groups
    )


def check(cluster: SmallCluster, task: Task, *, was_alive: bool) -> bool:
    """Settle; whatever the client was told is so. Returns whether it is committed."""
    is_committed, _, _ = settle(cluster)
    if task.outcome == "ok":
        assert is_committed
    elif task.outcome in ("40001", "53100"):
        assert not is_committed
    else:
        assert task.outcome == "40003" or not was_alive, task.outcome
    return is_committed


def started() -> tuple[SmallCluster, Any]:
    cluster = SmallCluster()
    return cluster, cluster.elect(1)


# In order


def test_rows_and_catalog_are_committed_together() -> None:
    cluster, leader = started()
    task = begin(leader)
    cluster.wait_for(lambda: task.done)
    assert task.outcome == "ok"
    assert task.value > 0
    assert facts(leader) == (True, True, 0)
    assert leader.leadership.may_serve
    assert settle(cluster) == (True, True, 0)


def test_long_transactions_too() -> None:
    cluster, leader = started()
    task = begin(leader, row_count=LONG_ROWS + APPLY_SLICE_ROWS)
    cluster.wait_for(lambda: task.done, 60)
    assert task.outcome == "ok"
    assert facts(leader, row_count=LONG_ROWS + APPLY_SLICE_ROWS) == (True, True, 0)


def test_nobody_is_served_between_the_decision_and_the_rows() -> None:
    cluster, leader = started()
    seen: set[tuple[bool, bool, bool]] = set()

    def watch(_: object) -> None:
        has_table, has_rows, _prepared = facts(leader)
        seen.add((has_table, has_rows, leader.leadership.may_serve))

    leader.on_place = watch
    task = begin(leader)
    while not task.done:
        watch(None)
        cluster.pass_time(0.0005)
    watch(None)
    assert (True, True, True) in seen
    assert any(has_table and not has_rows for has_table, has_rows, _ in seen), "too coarse"
    assert not any(serves for has_table, has_rows, serves in seen if has_table != has_rows)


def test_a_change_that_cannot_be_made_drops_the_rows() -> None:
    cluster, leader = started()
    transaction = leader.manager.begin(1, Interrupts())
    transaction.put(row_key(1), b"row", 0)

    def refuse() -> bytes:
        raise SerializationFailure("somebody else has changed it")

    task = Task(leader.manager.commit(transaction, refuse))
    cluster.wait_for(lambda: task.done)
    assert task.outcome == "40001"
    cluster.wait_for(lambda: not leader.group.prepared)
    assert leader.group.newest(row_key(1)) is None
    assert leader.manager.finishing_count == 0
    assert leader.leadership.may_serve


def test_decisions_are_forgotten_once_their_rows_are_there() -> None:
    """Rule 20: not before; but they are not kept for ever either."""
    cluster, leader = started()
    kept: list[int] = []
    for number in range(DECISIONS_MAX + 2):
        task = begin(leader, TABLE + number, 1)
        cluster.wait_for(lambda t=task: t.done)
        assert task.outcome == "ok"
        kept.append(len(leader.metadata.cluster.decisions))
    assert max(kept) <= DECISIONS_MAX
    cluster.wait_for(lambda: len(leader.metadata.cluster.decisions) <= 2)
    new = cluster.elect(2)
    cluster.wait_for(lambda: not new.metadata.cluster.decisions)


# The leader dies


PLACES_MAX = 200


def passings() -> int:
    """Count the places that the leader passes from the prepare to the client's answer."""
    cluster, leader = started()
    cluster.pass_time(1)
    count = [0]

    def watch(_: object) -> None:
        count[0] += 1

    leader.on_place = watch
    task = begin(leader)
    cluster.wait_for(lambda: task.done)
    assert 20 < count[0] < PLACES_MAX
    return count[0]


def test_a_leader_that_dies_anywhere_leaves_all_or_nothing() -> None:
    committed = set()
    for nth in range(1, passings() + 1):
        cluster, leader = started()
        cluster.pass_time(1)
        left = [nth]

        def die(_: object, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Killed

        leader.on_place = die
        task = begin(leader)
        cluster.wait_for(lambda n=leader, t=task: not n.is_running or t.done)
        other = cluster.elect_among(2, 3) if not leader.is_running else leader
        assert other.leadership.may_serve
        assert facts(other)[:2] in {(True, True), (False, False)}, nth
        committed.add(check(cluster, task, was_alive=leader.is_running))
    assert committed == {True, False}


@pytest.mark.parametrize("steps", range(0, 60, 3))
def test_a_leader_that_is_cut_off_anywhere_leaves_all_or_nothing(steps: int) -> None:
    """And what its client hears, if it hears anything, is true."""
    cluster, leader = started()
    cluster.pass_time(1)
    task = begin(leader)
    cluster.pass_time(steps * 0.0002)
    cluster.isolate(1)
    new = cluster.elect_among(2, 3)
    assert facts(new)[:2] in {(True, True), (False, False)}
    cluster.pass_time(8)
    assert task.done, "the client must hear something"
    check(cluster, task, was_alive=True)


@pytest.mark.parametrize("group_id", [METADATA_GROUP, FIRST_DATA_GROUP])
@pytest.mark.parametrize("steps", range(0, 40, 4))
def test_the_lead_of_either_group_is_lost_on_the_way(group_id: int, steps: int) -> None:
    cluster, leader = started()
    cluster.pass_time(1)
    task = begin(leader)
    cluster.pass_time(steps * 0.0002)
    leader.replicator.transfer_leadership(group_id, 2)
    cluster.wait_for(lambda: task.done)
    check(cluster, task, was_alive=True)


def test_a_transfer_that_comes_to_nothing_does_not_lose_the_decided_rows() -> None:
    """The finish is refused while the transfer lasts; the tenure goes on, and so does the finish."""
    cluster, leader = started()
    cluster.pass_time(1)
    cluster.isolate(2)
    task = begin(leader)
    cluster.wait_for(lambda: facts(leader)[0] or task.done)
    leader.replicator.transfer_leadership(FIRST_DATA_GROUP, 2)
    cluster.pass_time(0.3)
    if leader.leadership.may_serve:
        assert facts(leader)[0] == facts(leader)[1]
    cluster.wait_for(lambda: task.done, 30)
    assert task.outcome == "ok"
    assert settle(cluster) == (True, True, 0)


# Fences


def test_what_a_deposed_leader_decides_is_refused() -> None:
    cluster, leader = started()
    tenure = leader.manager.tenure
    fence = Fence(tenure + 1, 2)
    waiter = leader.replicator.propose(METADATA_GROUP, encode_command(fence), fence)
    cluster.wait_for(lambda: waiter.done)
    task = begin(leader)
    cluster.wait_for(lambda: task.done)
    assert task.outcome == "40001"
    cluster.wait_for(lambda: not leader.group.prepared)
    assert facts(leader) == (False, False, 0)


def test_a_catalog_change_without_rows_is_refused_too() -> None:
    cluster, leader = started()
    fence = Fence(leader.manager.tenure + 1, 2)
    waiter = leader.replicator.propose(METADATA_GROUP, encode_command(fence), fence)
    cluster.wait_for(lambda: waiter.done)
    transaction = leader.manager.begin(1, Interrupts())
    task = Task(leader.manager.commit(transaction, change_of(leader, TABLE)))
    cluster.wait_for(lambda: task.done)
    assert task.outcome == "40001"
    assert leader.metadata.catalog.table(TABLE) is None


def test_a_decision_that_is_repeated_changes_nothing() -> None:
    cluster, leader = started()
    change = CatalogChange(change_of(leader, TABLE)(), leader.manager.fence, 77)
    for _ in range(2):
        waiter = leader.replicator.propose(METADATA_GROUP, encode_command(change), change)
        cluster.wait_for(lambda w=waiter: w.done)
    assert leader.metadata.change_count == 1


# Disks


@pytest.mark.parametrize("wave", range(6))
def test_a_disk_that_is_full_in_between(wave: int) -> None:
    """Decided rows wait for room, with a timestamp of their own time; others are refused."""
    cluster, leader = started()
    cluster.pass_time(1)
    fill_to_the_brim(cluster, leader)
    leader.disk.quota = 1 << 30
    task = begin(leader, row_count=FEW)
    cluster.pass_time(wave * 0.0015)
    leader.disk.quota = 0
    fill_to_the_brim(cluster, leader)
    cluster.pass_time(2)
    leader.disk.quota = 1 << 30
    cluster.wait_for(lambda: task.done)
    check(cluster, task, was_alive=True)
    assert leader.manager.finishing_count == 0


def propose(node: Any, effects: Any) -> Any:
    return node.replicator.propose(FIRST_DATA_GROUP, encode_effects(effects), effects)


def fill_to_the_brim(cluster: SmallCluster, leader: Any) -> None:
    """Write with a full disk until that is met."""
    leader.disk.quota = 0
    for _ in range(60):
        filler = PreparedRows(1 << 60, (bytes(3000),))
        waiters = [propose(leader, effects) for effects in (filler, FinishPrepared(1 << 60, 0))]
        cluster.wait_for(lambda w=waiters: all(x.done for x in w))
        if any(isinstance(w.error, SqlError) for w in waiters):
            return
    raise AssertionError("the disk was never full")


def test_rows_finished_late_get_a_timestamp_of_that_moment() -> None:
    """Another transaction commits while the finish waits for room: timestamps grow all the same."""
    cluster, leader = started()
    cluster.pass_time(1)
    filler: list[Any] = []

    def fill(_: object) -> None:
        if facts(leader)[0] and not filler:
            # It is flushed with the finish, and no segment has so much room.
            leader.disk.quota = 0
            filler.append(propose(leader, PreparedRows(1 << 60, (bytes(SEGMENT_BYTES),))))

    leader.on_place = fill
    task = begin(leader)
    cluster.wait_for(lambda: filler and filler[0].done)
    assert filler[0].error.sqlstate == "53100"
    assert facts(leader) == (True, False, 1)
    leader.disk.quota = 1 << 30
    other = leader.manager.begin(2, Interrupts())
    other.put(row_key(99), b"meanwhile", 0)
    commit = Task(leader.manager.commit(other))
    cluster.wait_for(lambda: commit.done)
    assert commit.outcome == "ok"
    assert not task.done
    cluster.wait_for(lambda: task.done)
    assert task.outcome == "ok"
    meanwhile, _ = leader.group.newest_version(row_key(99))
    finished, _ = leader.group.newest_version(row_key(0))
    assert finished > meanwhile
    assert settle(cluster) == (True, True, 0)


# Serializable


def test_a_serializable_reader_notices_rows_that_came_with_a_table() -> None:
    """Write skew between rows with DDL, prepared first, and rows alone."""
    cluster, leader = started()
    reader = leader.manager.begin(2, Interrupts())
    reader.is_snapshot = reader.is_validated = True
    assert leader.manager.read_key(reader, row_key(0)) is None
    reader.put(row_key(50), b"because row 0 is absent", 0)
    task = begin(leader)
    cluster.wait_for(lambda: task.done)
    assert task.outcome == "ok"
    second = Task(leader.manager.commit(reader))
    cluster.wait_for(lambda: second.done)
    assert second.outcome == "40001"


@pytest.mark.parametrize("steps", range(0, 40, 2))
def test_a_serializable_commit_at_any_moment_of_the_other_is_one_or_the_other(steps: int) -> None:
    """Each has read what the other writes: at most one of them commits on the old state."""
    cluster, leader = started()
    cluster.pass_time(1)
    first, second = (leader.manager.begin(n, Interrupts()) for n in (1, 2))
    for transaction, reads, writes in ((first, 50, 0), (second, 0, 50)):
        transaction.is_snapshot = transaction.is_validated = True
        assert leader.manager.read_key(transaction, row_key(reads)) is None
        transaction.put(row_key(writes), b"the other is absent", 0)
    one = Task(leader.manager.commit(first, change_of(leader, TABLE)))
    cluster.pass_time(steps * 0.0002)
    two = Task(leader.manager.commit(second))
    cluster.wait_for(lambda: one.done and two.done)
    assert sorted((one.outcome, two.outcome)) in (["40001", "ok"], ["40001", "40001"])
