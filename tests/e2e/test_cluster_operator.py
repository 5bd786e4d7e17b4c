"""What an operator and Kubernetes see of three nodes: status, readiness, drain, metrics, tokens."""

import json
import re
import threading
import time
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.conftest import make_secrets
from tests.e2e.cluster_process import ClusterProcess, query, running_cluster, wait_for
from tests.e2e.node_process import NodeProcess, run_to_end
from tests.e2e.test_health import ask

READY_AGAIN_SECONDS = 15.0


def is_ready(node: NodeProcess) -> bool:
    return ask(node, "/health/ready")[0] == 200


def is_settled(node: NodeProcess) -> bool:
    """Tell whether a node sees three active nodes and a quorum.

    A lease that is renewed late on a busy machine is no quorum for a moment.
    """
    status = ask(node, "/cluster/status")[1]
    return status["quorum"] and [one["state"] for one in status["nodes"]] == ["active"] * 3


def metrics_of(node: NodeProcess) -> dict[tuple[str, str], float]:
    """Return (name, value of the only or first label) -> value."""
    status, text = ask(node, "/metrics")
    assert status == 200
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        wait_for(lambda: all(map(is_settled, cluster.nodes)), READY_AGAIN_SECONDS, "active nodes")
        yield cluster


def test_every_node_tells_the_same_of_the_cluster(cluster: ClusterProcess) -> None:
    wait_for(lambda: all(map(is_settled, cluster.nodes)), READY_AGAIN_SECONDS, "a quorum")
    statuses = [ask(node, "/cluster/status")[1] for node in cluster.nodes]
    assert len({status["cluster_id"] for status in statuses}) == 1
    assert sorted(status["node_id"] for status in statuses) == sorted(cluster.node_ids())
    for status in statuses:
        assert len(status["nodes"]) == 3
        assert {node["rpc_address"] for node in status["nodes"]} == set(cluster.rpc)
        assert {group["group_id"] for group in status["groups"]} >= {0, 1}
        assert len(status["peers"]) == 2
        assert {subsystem["name"] for subsystem in status["subsystems"]} >= {"transport", "swim"}
    wait_for(
        lambda: all(
            peer["round_trip_ms"] is not None and peer["circuit"] == "closed"
            for node in cluster.nodes
            for peer in ask(node, "/cluster/status")[1]["peers"]
        ),
        READY_AGAIN_SECONDS,
        "round-trip times of all peers",
    )


def test_status_and_info_by_command(cluster: ClusterProcess) -> None:
    node = cluster.nodes[1]
    url = f"postgresql://nodedb@{node.host}:{node.port}/nodedb"
    done = run_to_end(["node", "status", "--format", "json", "--url", url])
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert len(status["nodes"]) == 3
    assert len(status["peers"]) == 2
    table = run_to_end(["node", "status", "--url", node.http_url])
    assert table.returncode == 0, table.stderr
    assert all(address in table.stdout for address in cluster.rpc)
    info = json.loads(
        run_to_end(["node", "info", "--format", "json", "--url", node.http_url]).stdout
    )
    assert info["rpc_address"] == cluster.rpc[1]
    assert info["cluster_id"] == ask(node, "/cluster/status")[1]["cluster_id"]


def test_metrics_of_the_cluster(cluster: ClusterProcess) -> None:
    found = [metrics_of(node) for node in cluster.nodes]
    for group in ("0", "1"):
        leaders = [one["nodedb_raft_is_leader", group] for one in found]
        assert sum(leaders) == 1, leaders
        assert all(one["nodedb_raft_voters", group] == 3 for one in found)
    for one in found:
        assert one["nodedb_cluster_members", "active"] == 3
        assert one["nodedb_quorum", ""] in (0, 1)
        assert not [
            name for name in one if name[0] == "nodedb_metrics_failures_total" and one[name]
        ]


def test_a_drained_leader_hands_over_and_clients_of_the_others_go_on(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        leader = cluster.leader()
        others = [node for node in cluster.nodes if node is not leader]
        query(leader, "CREATE TABLE t (id int PRIMARY KEY)")
        pauses: list[float] = []
        errors: list[str] = []
        stop = threading.Event()

        def write() -> None:
            with psycopg.connect(others[0].dsn(), autocommit=True) as connection:
                number = 0
                while not stop.is_set():
                    started = time.monotonic()
                    try:
                        connection.execute("INSERT INTO t VALUES (%s)", (number,))
                    except psycopg.Error as error:
                        errors.append(f"{error.sqlstate} {error}")
                    pauses.append(time.monotonic() - started)
                    number += 1

        writer = threading.Thread(target=write)
        writer.start()
        wait_for(lambda: len(pauses) > 20, 20, "writes")
        drained = run_to_end(["node", "drain", "--url", leader.http_url])
        assert drained.returncode == 0, drained.stderr
        assert leader.wait() == 0
        count = len(pauses)
        wait_for(lambda: len(pauses) > count + 20, 20, "writes after the drain")
        stop.set()
        writer.join(20)
        assert not errors, errors[:3]
        # Handed over, not lost: no election timeout was waited for.
        assert max(pauses) < 2.0, sorted(pauses)[-3:]
        assert all(is_ready(node) for node in others)
        leader.start()
        wait_for(lambda: is_ready(leader), READY_AGAIN_SECONDS, "the drained node ready again")
        assert query(leader, "SELECT count(*) FROM t") == [(len(pauses),)]


def test_a_minority_is_alive_but_not_ready(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        survivor, *dead = cluster.nodes
        for node in dead:
            node.kill()
        wait_for(lambda: not is_ready(survivor), READY_AGAIN_SECONDS, "the minority not ready")
        status, body = ask(survivor, "/health/ready")
        assert (status, body["status"], body["quorum"]) == (503, "not_ready", False)
        assert body["reasons"]
        assert ask(survivor, "/health/live")[0] == 200
        assert ask(survivor, "/healthz")[0] == 200
        command = run_to_end(["node", "ready", "--url", survivor.http_url])
        assert command.returncode == 1
        assert "is not ready: " in command.stderr
        # It can still be stopped in order: there is nobody to hand anything to.
        started = time.monotonic()
        assert survivor.stop() == 0
        assert time.monotonic() - started < 10
        for node in cluster.nodes:
            node._process = None
        cluster.start()
        wait_for(lambda: all(map(is_ready, cluster.nodes)), READY_AGAIN_SECONDS, "readiness")


def test_tokens_are_made_by_any_node_and_different_each_time(tmp_path: Path) -> None:
    make_secrets(tmp_path / "authority", tmp_path / "node")
    trust = ("--certs-dir", str(tmp_path / "node"))
    secret = ("--cluster-secret-file", str(tmp_path / "node" / "cluster-secret"))
    cluster = ClusterProcess(tmp_path, 3, *trust, *secret)
    for node in cluster.nodes:
        node.flags.remove("--insecure")
    try:
        cluster.start()
        tokens = set()
        for node in cluster.nodes:
            done = run_to_end(["token", "create", "--ttl", "5m", "--url", node.http_url])
            assert done.returncode == 0, done.stderr
            assert re.fullmatch(r"[0-9a-f]{96}\n", done.stdout)
            tokens.add(done.stdout)
        assert len(tokens) == 3
        info = ask(cluster.nodes[0], "/cluster/info")[1]
        store = ["node", "info", "--format", "json", "--store", str(cluster.nodes[0].store)]
        by_store = json.loads(run_to_end([*store, *secret]).stdout)
        assert by_store["secret_hash"] == info["secret_hash"]
        assert by_store["cluster_id"] == info["cluster_id"]
    finally:
        print(cluster.logs())
        cluster.close()


def is_fast_asleep(cluster: ClusterProcess) -> bool:
    """Tell whether all groups are quiet, for so long that no leader has a lease any more."""
    groups = [ask(node, f"/debug/raft/{group}")[1] for node in cluster.nodes for group in (0, 1)]
    leases = [group["lease_seconds_left"] for group in groups if group["role"] == "leader"]
    return all(group["is_quiescent"] for group in groups) and not any(leases)


def test_a_cluster_that_has_fallen_asleep_wakes_up_for_whoever_asks(tmp_path: Path) -> None:
    with running_cluster(tmp_path, 3, "--debug") as cluster:
        query(cluster.nodes[0], "CREATE TABLE t (id int PRIMARY KEY)")
        for number, node in enumerate(cluster.nodes):
            wait_for(lambda: is_fast_asleep(cluster), 30, "idle groups without leases")
            assert is_ready(node)
            started = time.monotonic()
            query(node, "INSERT INTO t VALUES (%s)", number)
            assert time.monotonic() - started < 3
        assert query(cluster.nodes[0], "SELECT count(*) FROM t") == [(3,)]
