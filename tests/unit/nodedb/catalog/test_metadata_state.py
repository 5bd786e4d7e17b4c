"""The metadata group's state on a node: live effect (M2), outcomes, restarts, snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from cluster.metadata.command import (
    Batch,
    CatalogChange,
    Command,
    Fence,
    GroupReplicas,
    NodeJoin,
    PromoteToActive,
    SetGroups,
    Setting,
    StartDecommission,
    TimestampWindow,
    encode_command,
)
from cluster.metadata.data import DamagedState
from cluster.metadata.outcome import APPLIED, Refused
from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.changes import CatalogChange as Change
from nodedb.catalog.metadata import OUTCOMES_MAX, MetadataState
from nodedb.storage.memory_engine import MemoryEngine
from sql.catalog.descriptor import Schema

if TYPE_CHECKING:
    from cluster.metadata.state import ClusterState
    from nodedb.storage.engine import Engine


def schema(number: int) -> CatalogChange:
    made = Schema(id=20_000 + number, name=f"s{number}", owner=10, version=1, database_id=5)
    return CatalogChange(Change(puts=(made,), next_id=20_001 + number).encode())


FOUNDING: tuple[Command, ...] = (
    CatalogChange(bootstrap_catalog("").encode()),
    Batch(
        (
            NodeJoin(1, "s1", "h:1"),
            PromoteToActive(1),
            NodeJoin(2, "s2", "h:2"),
            SetGroups((GroupReplicas(1, (1, 2)),)),
        )
    ),
)


def founded(engine: Engine) -> MetadataState:
    state = MetadataState(engine)
    for index, command in enumerate(FOUNDING, 1):
        state.apply(command, index)
    return state


def test_a_committed_change_takes_effect_on_the_running_node() -> None:
    """M2: in the reference system committed topology changes did nothing to running nodes."""
    state = founded(MemoryEngine())
    seen: list[tuple[int, str]] = []

    def on_change(cluster: ClusterState) -> None:
        seen.append((cluster.topology_version, cluster.nodes[2].state))

    state.on_cluster_change.append(on_change)
    state.apply_payload(encode_command(PromoteToActive(2)), 3)
    assert seen == [(3, "active")]
    state.apply(Setting(0, "a", "b"), 4)
    assert seen == [(3, "active"), (3, "active")]
    state.apply(Setting(0, "a", "b"), 4)
    assert len(seen) == 2, "an entry applies once"


def test_members_of_a_batch_reach_catalog_and_cluster_alike() -> None:
    state = founded(MemoryEngine())
    catalogs: list[int] = []
    state.on_catalog_change.append(lambda catalog: catalogs.append(catalog.schema_version))
    state.apply(Batch((schema(1), Batch((PromoteToActive(2), schema(2))), TimestampWindow(9))), 3)
    assert catalogs == [3, 3]
    assert state.catalog.schema(5, "s1") is not None
    assert state.catalog.schema(5, "s2") is not None
    assert state.cluster.nodes[2].state == "active"
    assert state.timestamp_window == 9
    assert [record.index for record in state.audit.records()] == [1, 3, 3]


def test_a_refused_entry_changes_no_catalog_and_its_reason_is_known() -> None:
    state = founded(MemoryEngine())
    state.apply(Fence(7, 1), 3)
    catalog = state.catalog
    late = schema(1)
    state.apply(CatalogChange(late.payload, 6), 4)
    state.apply(Batch((schema(2), StartDecommission(9))), 5)
    assert state.catalog is catalog
    assert state.change_count == 1
    assert "term 6" in state.refusal(4)
    assert state.refusal(5) == "node 9 does not exist"
    assert isinstance(state.outcome(5), Refused)
    assert (state.outcome(3), state.refusal(3)) == (APPLIED, "")
    assert (state.outcome(99), state.refusal(99)) == (None, "")


def test_a_decided_transaction_changes_the_catalog_once() -> None:
    state = founded(MemoryEngine())
    change = CatalogChange(schema(1).payload, 0, 700)
    state.apply(change, 3)
    state.apply(change, 4)
    assert state.change_count == 2
    assert state.catalog.schema_version == 3
    assert state.cluster.decisions == {700: 3}


def test_outcomes_are_kept_for_the_newest_entries() -> None:
    state = founded(MemoryEngine())
    for index in range(3, OUTCOMES_MAX + 10):
        state.apply(TimestampWindow(index), index)
    assert state.outcome(9) is None
    assert state.outcome(10) == APPLIED
    assert state.outcome(OUTCOMES_MAX + 9) == APPLIED


def test_everything_comes_back_after_a_start() -> None:
    engine = MemoryEngine()
    state = founded(engine)
    state.apply(schema(1), 3)
    state.save()
    again = MetadataState(engine)
    assert again.cluster.digest() == state.cluster.digest()
    assert again.catalog.schema(5, "s1") == state.catalog.schema(5, "s1") is not None
    assert again.catalog.schema_version == 3
    # The log is replayed from before: nothing happens twice.
    for index, command in enumerate((*FOUNDING, schema(1)), 1):
        again.apply_payload(encode_command(command), index)
    assert again.change_count == 2
    assert again.cluster.digest() == state.cluster.digest()
    assert len(list(again.audit.records())) == 2


def test_what_was_not_saved_comes_back_from_the_log() -> None:
    engine = MemoryEngine()
    state = founded(engine)
    state.save()
    state.apply(PromoteToActive(2), 3)
    again = MetadataState(engine)
    assert again.cluster.nodes[2].state == "learner"
    again.apply_payload(encode_command(PromoteToActive(2)), 3)
    assert again.cluster.digest() == state.cluster.digest()


def test_a_store_from_before_there_were_clusters_opens() -> None:
    engine = MemoryEngine()
    state = MetadataState(engine)
    state._apply_catalog(bootstrap_catalog("").encode(), 4)
    engine.space("metadata.state").put(
        b"metadata-state", msgspec.msgpack.encode([4, state.catalog.next_id, 1 << 60])
    )
    opened = MetadataState(engine)
    assert opened.timestamp_window == 1 << 60
    assert opened.catalog.schema_version == 4
    assert opened.cluster.nodes == {}
    opened.apply(TimestampWindow(5), 5)
    assert opened.timestamp_window == 1 << 60


def test_a_snapshot_replaces_everything_and_the_node_hears_of_it() -> None:
    """The receiver had another catalog, and members that the sender has removed since."""
    engine = MemoryEngine()
    state = founded(engine)
    state.apply(schema(7), 3)
    catalogs: list[int] = []
    clusters: list[ClusterState] = []
    state.on_catalog_change.append(lambda catalog: catalogs.append(catalog.schema_version))
    state.on_cluster_change.append(clusters.append)
    sender_engine = MemoryEngine()
    sender = founded(sender_engine)
    for number in range(1, 4):
        sender.apply(schema(number), 10 + number)
    sender.apply(PromoteToActive(2), 20)
    sender.save()
    for name in sender_engine.space_names():
        assert name.startswith("metadata."), f"the snapshot does not carry {name}"
        engine.space(name).clear()
        engine.space(name).put_many(sender_engine.space(name).scan(b"\0", None, 10_000))
    state.reload()
    assert catalogs == [13]
    assert clusters == [state.cluster]
    assert state.cluster.digest() == sender.cluster.digest()
    assert state.catalog.schema(5, "s7") is None
    assert state.catalog.schema(5, "s3") is not None
    assert state.change_count == sender.change_count == 4
    assert state.outcome(3) is None
    assert [r.index for r in state.audit.records()] == [r.index for r in sender.audit.records()]
    state.apply(schema(9), 21)
    sender.apply(schema(9), 21)
    state.save()
    assert MetadataState(engine).cluster.digest() == sender.cluster.digest()
    assert [r.index for r in state.audit.records()] == [r.index for r in sender.audit.records()]


def test_an_empty_snapshot_leaves_nothing() -> None:
    engine = MemoryEngine()
    state = founded(engine)
    state.save()
    for name in engine.space_names():
        engine.space(name).clear()
    state.reload()
    assert state.cluster.digest() == MetadataState(MemoryEngine()).cluster.digest()
    assert state.catalog.role("nodedb") is None
    assert state.change_count == 0


def test_damaged_state_stops_the_start() -> None:
    engine = MemoryEngine()
    founded(engine).save()
    engine.space("metadata.state").put(b"cluster-state", b"\x01garbage")
    with pytest.raises(DamagedState):
        MetadataState(engine)
