"""Rows of SHOW on a cluster of three, seen by node 1 (the columns of BEHAVIOUR 4.5)."""

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.ids import VSHARD_COUNT
from cluster.metadata.command import Setting
from nodedb.catalog.metadata import MetadataState
from nodedb.catalog.virtual.cluster_views import INTERNAL_VIEWS
from nodedb.session import cluster_rows
from nodedb.storage.memory_engine import MemoryEngine
from sql.ast.utility import ShowCluster
from sql.errors import FeatureNotSupported, InsufficientPrivilege, SqlSyntaxError, UndefinedObject
from tests.lib.fake_cluster import FakeView, group_status, node_status


class TwoGroupsView(FakeView):
    """Vshards below 100 are in group 2, of which this node has no replica."""

    def group_of_vshard(self, vshard: int) -> int:
        return 2 if vshard < 100 else 1

    def replicas_of_group(self, group_id: int) -> tuple[int, ...]:
        return (2, 3) if group_id == 2 else (1, 2, 3)

    def leader_of_group(self, group_id: int) -> int:
        return 0 if group_id == 2 else 3


def session(view: FakeView, *, is_superuser: bool = True) -> Any:
    """What the rows ask of a session: its node's parts, and whether it is a superuser's."""
    metadata = MetadataState(MemoryEngine())
    group = SimpleNamespace(
        group_id=1, vshard_keys=list(range(VSHARD_COUNT)), vshard_bytes=[8] * VSHARD_COUNT
    )
    replicator = SimpleNamespace(applied_index=lambda _group_id: 12)
    transactions = SimpleNamespace(group=group, replicator=replicator)
    node = SimpleNamespace(cluster=view, metadata=metadata, transactions=transactions)
    return SimpleNamespace(node=node, catalog=lambda: SimpleNamespace(is_superuser=is_superuser))


def shown(what: str, *args: Any, view: FakeView | None = None) -> list[Any]:
    result = cluster_rows.show(session(view or FakeView()), ShowCluster(what, args))
    assert result.columns is not None
    rows = list(result.rows or ())
    assert all(len(row) == len(result.columns) for row in rows)
    return rows


def test_ranges_of_groups_that_live_elsewhere() -> None:
    rows = shown("ranges", view=TwoGroupsView())
    assert len(rows) == VSHARD_COUNT
    assert rows[99][:4] == (99, 2, 0, "2, 3")
    assert rows[99][7:] == (None, None), "nobody here counts another node's keys"
    assert rows[100] == (100, 1, 3, "1, 2, 3", None, None, None, 100, 8)


def test_routing_has_no_address_without_a_leader() -> None:
    rows = shown("routing", view=TwoGroupsView())
    assert rows[0] == (0, 2, 0, "")
    assert rows[1023] == (1023, 1, 3, "127.0.0.1:9403")


def test_nodes_and_who_was_refused() -> None:
    view = FakeView()
    view.node_list[2] = node_status(
        3, state="draining", liveness="dead", locality=("eu", "a"), last_error="connection refused"
    )
    view.refusal_list = [("10.0.0.9:9400", "node_id 2 already registered"), ("?", "wrong secret")]
    rows = shown("nodes", view=view)
    assert rows[0][:4] == (1, "127.0.0.1:9401", "active", "0, 1")
    assert rows[2][2] == "draining"
    assert (rows[2][4], rows[2][7], rows[2][9]) == ("dead", "eu,a", "connection refused")
    assert [(row[0], row[1], row[2], row[9]) for row in rows[3:]] == [
        (None, "10.0.0.9:9400", "refused", "node_id 2 already registered"),
        (None, "?", "refused", "wrong secret"),
    ]


def test_one_node() -> None:
    assert dict(shown("node", 3))["address"] == "127.0.0.1:9403"
    assert shown("node", "3") == shown("node", 3)
    for unknown in (0, 4, -1, 10**18):
        with pytest.raises(UndefinedObject, match="does not exist"):
            shown("node", unknown)
    for bad in ("x", "", "-1", "1.0", "٣", "1" * 30):
        with pytest.raises(SqlSyntaxError, match="node id must be a number"):
            shown("node", bad)


def test_the_cluster_as_a_follower_sees_it() -> None:
    view = FakeView(quorum=False)
    view.group_list[1] = group_status(1, role="follower", leader_id=2)
    view.node_list[1] = node_status(2, state="learner")
    found = dict(shown("cluster", view=view))
    assert found["nodes_total"] == "3"
    assert found["nodes_active"] == "2"
    assert found["topology_version"] == "7"
    assert (found["groups_leading"], found["groups_following"]) == ("1", "1")
    assert (found["vshards"], found["raft_groups"]) == ("1024", "2")
    assert (found["quorum"], found["cluster_id"]) == ("no", "c0ffee")


def test_raft_groups_and_one_of_them() -> None:
    view = TwoGroupsView()
    view.group_list.append(group_status(3, voters=(1,), learners=(2,), match_indexes=()))
    rows = shown("raft groups", view=view)
    assert [row[0] for row in rows] == [0, 1, 3]
    assert rows[1][:8] == (1, "leader", 1, 3, 40, 40, 3, 924)
    assert rows[2][6:9] == (1, 0, 1)
    found = dict(shown("raft group", 1, view=view))
    assert found["vshards"] == "100..1023 (924 total)"
    assert (found["members"], found["member_count"]) == ("1, 2, 3", "3")
    assert (found["match_index_of_node_2"], found["match_index_of_node_3"]) == ("42", "30")
    assert dict(shown("raft group", 3, view=view))["vshards"] == "(0 total)"
    with pytest.raises(UndefinedObject, match="raft group 2 does not exist on this node"):
        shown("raft group", 2, view=view)
    with pytest.raises(SqlSyntaxError, match="raft group id must be a number"):
        shown("raft group", "one")


def test_peer_health() -> None:
    assert shown("peer health") == [
        (2, "127.0.0.1:9402", "active", "closed", 0, 0.25, ""),
        (3, "127.0.0.1:9403", "active", "OPEN", 5, None, "connection refused"),
    ]


def test_settings_of_cluster_and_nodes() -> None:
    made = session(FakeView())
    made.node.metadata.apply(Setting(0, "drain_lease_wait", "7s"), 1)
    made.node.metadata.apply(Setting(2, "drain_lease_wait", "9s"), 2)
    rows = [row for row in cluster_rows.view_rows(made, "settings") if row[1] == "drain_lease_wait"]
    assert [row[:4] for row in rows] == [
        (None, "drain_lease_wait", "7s", "5s"),
        (2, "drain_lease_wait", "9s", "5s"),
    ]


def test_who_may_look() -> None:
    clerk = session(FakeView(), is_superuser=False)
    for view in INTERNAL_VIEWS:
        if view in ("routing", "schema_version", "settings"):
            assert cluster_rows.view_rows(clerk, view)
        else:
            with pytest.raises(InsufficientPrivilege, match="must be superuser"):
                cluster_rows.view_rows(clerk, view)
    for what, args in (("node", (99,)), ("node", ("x",)), ("raft group", (99,))):
        with pytest.raises(InsufficientPrivilege, match="must be superuser"):
            cluster_rows.show(clerk, ShowCluster(what, args))


def test_views_have_as_many_values_as_columns() -> None:
    made = session(FakeView())
    for view, columns in INTERNAL_VIEWS.items():
        for row in cluster_rows.view_rows(made, view):
            assert len(row) == len(columns), view


@pytest.mark.parametrize("what", ["migrations", "connections"])
def test_what_is_not_there_yet(what: str) -> None:
    assert cluster_rows.columns(ShowCluster(what)) is None
    with pytest.raises(FeatureNotSupported, match=f"SHOW {what.upper()} is not supported yet"):
        shown(what)
