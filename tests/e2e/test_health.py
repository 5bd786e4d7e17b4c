"""Health, drain, metrics and debug over HTTP, on real nodes."""

import http.client
import json
import re
import signal
import threading
import time
import urllib.parse
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.node_process import NodeProcess, running
from tests.e2e.test_process import wait_until

ADMIN_TOKEN = "let me in"


def ask(
    node: NodeProcess, path: str, method: str = "GET", body: object = None, **headers: str
) -> tuple[int, Any]:
    """Return (status, JSON or text)."""
    address = urllib.parse.urlsplit(node.http_url)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(http.client.HTTPConnection(address.netloc, timeout=20)) as client:
        client.request(method, path, None if body is None else json.dumps(body), sent)
        response = client.getresponse()
        text = response.read().decode()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text


def test_a_node_by_itself_is_ready_and_says_so(node: NodeProcess) -> None:
    assert ask(node, "/healthz") == (200, {"status": "ok", "phase": "gateway_enable"})
    assert ask(node, "/health/live") == (200, {"status": "alive"})
    status, ready = ask(node, "/health/ready")
    assert (status, ready["status"], ready["reasons"]) == (200, "ready", [])
    assert ready["wal_lsn"] > 0
    status, health = ask(node, "/health")
    assert (status, health["status"], health["ready"]) == (200, "ok", True)
    status, cluster = ask(node, "/cluster/status")
    assert (status, cluster["lifecycle"]) == (200, "ready")
    assert re.fullmatch(r"[0-9a-f]+", cluster["cluster_id"])
    assert ask(node, "/cluster/status", X_Forwarded_For="10.0.0.1")[0] == 403


def test_metrics_are_owned_by_subsystems_and_keep_their_names(node: NodeProcess) -> None:
    with node.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES (1)")
    status, text = ask(node, "/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    expected = """nodedb_connections nodedb_statements nodedb_statement_errors nodedb_statement_seconds
        nodedb_transactions_committed nodedb_log_flushes nodedb_log_entries nodedb_engine_commits
        nodedb_plan_cache_hits nodedb_locks nodedb_group_keys nodedb_log_disk_bytes
        nodedb_log_durable_index nodedb_metrics_failures"""
    assert set(expected.split()) <= set(families)
    failures = families["nodedb_metrics_failures"].samples
    assert {sample.labels["subsystem"] for sample in failures} >= {"sql", "storage", "wal"}
    assert not [sample for sample in failures if sample.value]
    assert all(family.documentation for family in families.values())


def test_debug_and_faults_are_not_there_unless_asked_for(node: NodeProcess) -> None:
    for path in ("/debug/tasks", "/debug/raft/0", "/debug/fault"):
        assert ask(node, path)[0] == 404
    assert ask(node, "/debug/fault", "POST", {"disk_full": True})[0] == 404


def test_debug_shows_tasks_and_stacks(store: Path) -> None:
    with running(store, "--debug") as node:
        status, tasks = ask(node, "/debug/tasks")
        assert status == 200
        assert any("node.py:Node.run" in " ".join(task["stack"]) for task in tasks), tasks
        assert "thread MainThread" in ask(node, "/debug/stacks")[1]
        assert ask(node, "/debug/tasks", X_Forwarded_For="10.0.0.1")[0] == 403
        status, profile = ask(node, "/debug/profile?seconds=0.3")
        assert status == 200
        assert ";" in profile


def test_drain_over_http_lets_a_transaction_end_and_the_process_exits_0(store: Path) -> None:
    with running(store, "--drain-unready-seconds", "1") as node:
        with node.connect() as setup:
            setup.execute("CREATE TABLE t (id int PRIMARY KEY)")
        busy = node.connect(autocommit=False)
        busy.execute("INSERT INTO t VALUES (1)")
        idle = node.connect()
        status, body = ask(node, "/health/drain", "POST")
        assert (status, body["status"], body["phase"]) == (200, "draining", "unready")
        # Load balancers have a second to notice; meanwhile everything works, new clients included.
        assert ask(node, "/health/ready")[0] == 503
        assert ask(node, "/healthz")[1]["lifecycle"] == "draining"
        assert ask(node, "/health/live")[0] == 200
        node.connect().close()
        phases = []

        def is_finishing() -> bool:
            phases.append(ask(node, "/health/drain")[1]["status"])
            return phases[-1] == "transactions"

        wait_until(is_finishing, "the node finishes transactions")
        assert phases[0] == "unready"
        with pytest.raises(psycopg.OperationalError):
            node.connect()
        wait_until(lambda: ask(node, "/health/drain")[1]["connections"] == 1, "idle ones end")
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            idle.execute("SELECT 1")
        busy.execute("INSERT INTO t VALUES (2)")
        busy.commit()
        assert node.wait() == 0
        node.start()
        with node.connect() as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_who_may_drain(store: Path) -> None:
    node = NodeProcess(store)
    node.environment = {"NODEDB_HTTP_ADMIN_TOKEN": ADMIN_TOKEN}
    try:
        node.start()
        foreign = {"X_Forwarded_For": "10.0.0.1"}
        for headers in (
            foreign,
            foreign | {"Authorization": "Bearer wrong"},
            {"Origin": "http://127.0.0.1"},
        ):
            assert ask(node, "/health/drain", "POST", **headers)[0] == 403
        assert ask(node, "/healthz")[0] == 200
        granted = foreign | {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        assert ask(node, "/health/drain", "POST", **granted)[0] == 200
        assert node.wait() == 0
    finally:
        node.kill()


def test_an_idle_node_exits_within_a_second_after_sigterm(store: Path) -> None:
    with running(store) as node:
        started = time.monotonic()
        assert node.stop() == 0
        elapsed = time.monotonic() - started
        assert elapsed <= 1.0, elapsed


def test_a_second_sigterm_is_harmless(store: Path) -> None:
    with running(store) as node:
        with node.connect() as setup:
            setup.execute("CREATE TABLE t (id int PRIMARY KEY)")
        busy = node.connect(autocommit=False)
        busy.execute("INSERT INTO t VALUES (1)")
        for _ in range(3):
            node.signal(signal.SIGTERM)
        wait_until(lambda: ask(node, "/health/drain")[1]["draining"], "the node drains")
        node.signal(signal.SIGTERM)
        assert ask(node, "/health/drain", "POST")[0] == 200
        busy.commit()
        assert node.wait() == 0


def test_sigterm_in_a_query_does_not_hang(store: Path) -> None:
    with running(store, "--drain-seconds", "1") as node:
        sleeper = node.connect()
        sleeper.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with closing(node.connect()) as watcher:
            errors: list[psycopg.Error] = []

            def sleep() -> None:
                try:
                    sleeper.execute("SELECT pg_sleep(60)")
                except psycopg.Error as error:
                    errors.append(error)

            thread = threading.Thread(target=sleep, daemon=True)
            thread.start()
            wait_until(
                lambda: (
                    watcher.execute(
                        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' "
                        "AND state = 'active' AND pid <> pg_backend_pid()"
                    ).fetchone()
                    == (1,)
                ),
                "the query runs",
            )
        started = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - started < 5
        thread.join(10)
        assert errors
        assert "terminating connection" in str(errors[0])


def test_a_client_that_never_leaves_is_ended_when_the_time_is_over(store: Path) -> None:
    with running(store, "--drain-seconds", "1") as node:
        with node.connect() as setup:
            setup.execute("CREATE TABLE t (id int PRIMARY KEY)")
        forgotten = node.connect(autocommit=False)
        forgotten.execute("INSERT INTO t VALUES (1)")
        started = time.monotonic()
        assert node.stop() == 0
        assert 0.9 < time.monotonic() - started < 5
        with pytest.raises(psycopg.OperationalError):
            forgotten.commit()
        node.start()
        with node.connect() as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_clients_may_leave_by_themselves_first(store: Path) -> None:
    with running(store, "--drain-connections-seconds", "20") as node:
        idle = node.connect()
        assert ask(node, "/health/drain", "POST")[0] == 200
        wait_until(
            lambda: ask(node, "/health/drain")[1]["status"] == "connections", "no new clients"
        )
        assert idle.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            node.connect()
        started = time.monotonic()
        idle.close()
        assert node.wait() == 0
        assert time.monotonic() - started < 5
