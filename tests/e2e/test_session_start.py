"""Starts that fail: one clear line, status 1; and the HTTP port's answers of a ready node."""

import json
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess, run_to_end

pytestmark = pytest.mark.timeout(60)


def start(store: Path, *more: str) -> tuple[int, str]:
    anywhere = (
        "--sql-addr",
        "127.0.0.1:0",
        "--http-addr",
        "127.0.0.1:0",
        "--rpc-addr",
        "127.0.0.1:0",
    )
    done = run_to_end(["start", "--store", str(store), "--insecure", *anywhere, *more])
    return done.returncode, done.stderr.splitlines()[-1]


def test_a_port_in_use(shared_node: NodeProcess, store: Path) -> None:
    status, line = start(store, "--sql-addr", f"127.0.0.1:{shared_node.port}")
    assert status == 1
    assert (
        line
        == f"nodedb: could not listen on 127.0.0.1:{shared_node.port} (sql): Address already in use"
    )
    port = int(shared_node.http_url.rpartition(":")[2])
    status, line = start(store, "--http-addr", f"127.0.0.1:{port}")
    assert status == 1
    assert line == f"nodedb: could not listen on 127.0.0.1:{port} (http): Address already in use"


def test_a_store_in_use(shared_node: NodeProcess) -> None:
    status, line = start(shared_node.store)
    assert status == 1
    assert line.startswith("nodedb: another process has the store open")


def test_a_fault_plan_must_make_sense(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.e2e.node_process._environment",
        lambda: {"NODEDB_FAULT_KILL": "nowhere:1", "PATH": "/usr/bin:/bin"},
    )
    status, line = start(store, "--fault-injection")
    assert status == 1
    assert line.startswith("nodedb: NODEDB_FAULT_KILL=nowhere:1: expected <name>:<nth>")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/healthz", "ok"), ("/health/ready", "ready"), ("/health/live", "alive"), ("/health", "ok")],
)
def test_health(shared_node: NodeProcess, path: str, status: str) -> None:
    with urllib.request.urlopen(shared_node.http_url + path, timeout=10) as answer:
        assert answer.status == 200
        assert json.load(answer)["status"] == status


def test_metrics(shared_node: NodeProcess) -> None:
    with urllib.request.urlopen(shared_node.http_url + "/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for name in (
        "nodedb_connections",
        "nodedb_statements_total",
        "nodedb_statement_seconds_bucket",
    ):
        assert f"\n{name}" in text
