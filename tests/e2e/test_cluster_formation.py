"""Three nodes from clean stores become one cluster, whatever the order and the time between them."""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.cluster_process import ClusterProcess, http, query, running_cluster, wait_for
from tests.e2e.node_process import NodeFailed, run_to_end

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = list(itertools.permutations(range(3)))
READY_AFTER_LAST_SECONDS = 10.0
SLOW_MACHINE_SECONDS = 30.0
"""What a test that runs beside others allows; the figure is printed."""


def cluster_ids(cluster: ClusterProcess) -> set[str]:
    return {dict(query(node, "SHOW CLUSTER"))["cluster_id"] for node in cluster.nodes}


def voters(cluster: ClusterProcess) -> bool:
    for node in cluster.nodes:
        rows = query(node, "SELECT group_id, members FROM [SHOW RAFT GROUPS]")
        if [row[1] for row in rows] != [len(cluster.nodes)] * 2:
            return False
    return True


def form(directory: Path, order: tuple[int, ...], seed: int, pause_max: float) -> float:
    """Start three nodes; returns the seconds from the last start to the last ready line."""
    chance = random.Random(seed)
    pauses = [chance.uniform(0, pause_max) for _ in range(2)]
    print(f"order {order}, pauses {pauses[0]:.1f} {pauses[1]:.1f}, seed {seed}")
    cluster = ClusterProcess(directory, 3)
    try:
        began = time.monotonic()
        cluster.start(order, pauses)
        seconds = time.monotonic() - began - sum(pauses)
        assert len(cluster_ids(cluster)) == 1
        assert sorted(cluster.node_ids()) == [1, 2, 3]
        wait_for(lambda: voters(cluster), 20, "three voters in both groups")
        query(cluster.nodes[2], "CREATE TABLE t (a int)")
        query(cluster.nodes[1], "INSERT INTO t VALUES (1)")
        for node in cluster.nodes:
            assert query(node, "SELECT a FROM t") == [(1,)]
        return seconds
    except BaseException:
        print(cluster.logs())
        raise
    finally:
        cluster.close()


def test_three_nodes_at_once_form_one_cluster(tmp_path: Path) -> None:
    seconds = form(tmp_path, (0, 1, 2), 1, 0.0)
    print(f"ready {seconds:.1f} s after the last start")
    assert seconds < SLOW_MACHINE_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_any_order_and_any_pauses(tmp_path: Path, order: tuple[int, ...]) -> None:
    seconds = form(tmp_path, order, random.randrange(1 << 30), 10.0)
    print(f"ready {seconds:.1f} s after the last start")
    assert seconds < READY_AFTER_LAST_SECONDS


@pytest.mark.slow
def test_five_at_once_have_one_cluster_id(tmp_path: Path) -> None:
    cluster = ClusterProcess(tmp_path, 5)
    cluster.rpc.sort()
    for node in cluster.nodes:
        node.flags[node.flags.index("--join") + 1] = ",".join(cluster.rpc)
    try:
        cluster.start()
        assert len(cluster_ids(cluster)) == 1
        assert sorted(cluster.node_ids()) == [1, 2, 3, 4, 5]
    finally:
        cluster.close()


def test_a_restarted_cluster_is_the_same_one(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        query(cluster.nodes[0], "CREATE TABLE kept (a int)")
        query(cluster.nodes[1], "INSERT INTO kept SELECT generate_series(1, 500)")
        before = cluster_ids(cluster)
        ids = cluster.node_ids()
        for node in cluster.nodes:
            node.kill()
        cluster.start((2, 0, 1))
        assert cluster_ids(cluster) == before
        assert cluster.node_ids() == ids
        for node in cluster.nodes:
            assert query(node, "SELECT count(*) FROM kept") == [(500,)]


def test_health_tells_the_truth_about_the_quorum(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        node = cluster.nodes[0]
        wait_for(lambda: http(node, "/health/ready")[0] == 200, 20, "readiness")
        cluster.nodes[1].kill()
        cluster.nodes[2].kill()
        wait_for(lambda: http(node, "/health/ready")[0] == 503, 20, "loss of the quorum")
        assert http(node, "/health/live")[0] == 200
        assert http(node, "/healthz")[0] == 200
        cluster.nodes[1].start()
        wait_for(lambda: http(node, "/health/ready")[0] == 200, 20, "the quorum again")


def test_a_lost_disk_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        lost = cluster.nodes[2]
        lost.kill()
        import shutil

        shutil.rmtree(lost.store)
        with pytest.raises(NodeFailed, match="is a member with another store"):
            lost.start()
        told = wait_for(
            lambda: [
                row
                for node in cluster.nodes[:2]
                for row in http(node, "/cluster/status")[1]["refusals"]
            ],
            10,
            "a refusal",
        )
        assert any("another store" in str(row) for row in told)


def test_a_malformed_seed_stops_the_start(tmp_path: Path) -> None:
    done = run_to_end(
        ["start", "--store", str(tmp_path / "s"), "--insecure", "--join", "localhost:x,a:1"]
    )
    assert done.returncode == 2
    assert "localhost:x" in done.stderr


def test_a_seed_list_in_which_nobody_answers_ends_with_a_sentence_per_seed(tmp_path: Path) -> None:
    done = run_to_end(
        [
            *("start", "--store", str(tmp_path / "s"), "--insecure"),
            *("--sql-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"),
            *("--rpc-addr", "127.0.0.1:0", "--join", "127.0.0.1:1,127.0.0.1:2"),
            *("--join-budget-seconds", "2"),
        ]
    )
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "127.0.0.1:2" in done.stderr
