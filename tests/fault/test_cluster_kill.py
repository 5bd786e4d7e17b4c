"""Leaders killed with -9 under load: nothing acknowledged is lost, and clients hardly notice."""

from __future__ import annotations

import random
import statistics
import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.e2e.cluster_process import ClusterProcess, query, running_cluster, wait_for
from tests.fault.cluster_load import ALLOWED_IN_BLOCKS, Load

if TYPE_CHECKING:
    from pathlib import Path

MEDIAN_SECONDS_MAX = 3.0
SLOWEST_SECONDS_MAX = 6.0


def kill_leader(cluster: ClusterProcess, load: Load) -> float:
    """Kill whoever leads the data; returns the seconds to the next acknowledged write."""
    leader = cluster.leader(1)
    moment = time.monotonic()
    leader.kill()
    seconds = wait_for(lambda: load.first_write_after(moment), 30, "acknowledged write")
    leader.start()
    wait_for(lambda: is_whole(cluster), 30, "three nodes in step")
    assert isinstance(seconds, float)
    return seconds


def is_whole(cluster: ClusterProcess) -> bool:
    """Tell whether the leader of the data sees all replicas close behind it."""
    try:
        rows = query(cluster.leader(1), "SHOW RAFT GROUP 1")
    except (psycopg.Error, AssertionError):
        return False
    group = dict(rows)
    peers = group.get("match_indexes", "")
    return bool(peers) or len(cluster.running()) == len(cluster.nodes)


def check(cluster: ClusterProcess, load: Load) -> None:
    """Compare what clients were told with what every node has."""
    assert load.surprises == [], load.surprises[:5]
    for node in cluster.nodes:
        rows = query(node, "SELECT id, n FROM load")
        found = {row[0] for row in rows}
        assert all(row[1] == 1 for row in rows)
        assert not load.acknowledged - found
        assert not found - load.acknowledged - load.unknown


def run_kills(directory: Path, rounds: int, seed: int) -> list[float]:
    chance = random.Random(seed)
    print(f"seed {seed}")
    times = []
    with running_cluster(directory) as cluster:
        query(cluster.nodes[0], "CREATE TABLE load (id int PRIMARY KEY, n int)")
        load = Load(cluster).start()
        try:
            wait_for(lambda: len(load.acknowledged) > 20, 30, "a first load")
            for _ in range(rounds):
                time.sleep(chance.uniform(0.2, 1.0))  # a moment at random, not a wait
                times.append(kill_leader(cluster, load))
        finally:
            load.stop()
        times.sort()
        p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
        print(
            f"{rounds} kills: median {statistics.median(times):.2f} s, p95 {p95:.2f} s, "
            f"slowest {times[-1]:.2f} s; {len(load.acknowledged)} writes, {load.read_count} reads; "
            f"errors {dict(load.errors)}"
        )
        print("distribution:", " ".join(f"{seconds:.2f}" for seconds in times))
        check(cluster, load)
    return times


def test_a_killed_leader_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    run_kills(tmp_path, 1, random.randrange(1 << 30))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_killed_leaders(tmp_path: Path) -> None:
    times = run_kills(tmp_path, 50, random.randrange(1 << 30))
    assert statistics.median(times) < MEDIAN_SECONDS_MAX
    assert times[int(len(times) * 0.95)] < MEDIAN_SECONDS_MAX
    assert times[-1] < SLOWEST_SECONDS_MAX


@pytest.mark.timeout(600)
def test_a_leader_killed_amid_two_hundred_ddl_blocks(tmp_path: Path) -> None:
    """Every acknowledged block is on all nodes, and no half one anywhere."""
    outcomes: dict[int, str] = {}
    numbers = iter(range(200))
    lock = threading.Lock()
    with running_cluster(tmp_path) as cluster:

        def run(client: int) -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                outcomes[number] = run_block(cluster, client, number)

        threads = [threading.Thread(target=run, args=(client,)) for client in range(16)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(outcomes) > 40, 120, "some blocks")
        victim = cluster.leader(1)
        victim.kill()
        for thread in threads:
            thread.join()
        victim.start()
        acknowledged = {number for number, outcome in outcomes.items() if outcome == "ok"}
        print(f"{len(acknowledged)} of 200 blocks acknowledged")
        assert len(outcomes) == 200
        assert set(outcomes.values()) <= {"ok", "lost", "no connection", *ALLOWED_IN_BLOCKS}
        wait_for(lambda: len(shapes(cluster)) == 1, 30, "the same catalog everywhere")
        (shape,) = shapes(cluster)
        halves = {number for number in range(200) if parts_of(number, shape) not in (0, 3)}
        assert halves == set()
        assert acknowledged <= {number for number in range(200) if parts_of(number, shape) == 3}
        for number in range(200):
            if parts_of(number, shape) == 3:
                assert query(cluster.nodes[0], f"SELECT v FROM blk_{number}_a") == [(number,)]


def run_block(cluster: ClusterProcess, client: int, number: int) -> str:
    """Run a block of five statements; returns ok, a SQLSTATE, or lost."""
    nodes = cluster.nodes[client % 3 :] + cluster.nodes[: client % 3]
    try:
        with psycopg.connect(cluster.dsn(nodes), autocommit=True) as connection:
            try:
                connection.execute("BEGIN")
                connection.execute(f"CREATE TABLE blk_{number}_a (v int PRIMARY KEY)")
                connection.execute(f"CREATE TABLE blk_{number}_b (v int)")
                connection.execute(f"INSERT INTO blk_{number}_a VALUES ({number})")
                connection.execute(f"CREATE VIEW blk_{number}_c AS SELECT * FROM blk_{number}_a")
                connection.execute("COMMIT")
            except psycopg.Error as error:
                return error.sqlstate or "lost"
            return "ok"
    except psycopg.OperationalError:
        return "no connection"


def shapes(cluster: ClusterProcess) -> set[frozenset[str]]:
    """Return the names on each node; one member when all agree."""
    text = "SELECT relname FROM pg_class WHERE relname LIKE 'blk\\_%' AND relkind IN ('r', 'v')"
    return {frozenset(row[0] for row in query(node, text)) for node in cluster.nodes}


def parts_of(number: int, shape: frozenset[str]) -> int:
    return sum(f"blk_{number}_{part}" in shape for part in "abc")
