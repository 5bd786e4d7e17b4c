"""``nodedb demo`` and ``nodedb node`` with real nodes."""

import json
import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import NODEDB, NodeProcess, run_to_end, running

READY_SECONDS = 90.0


class DemoProcess:
    """A running demo, with its standard input held open."""

    def __init__(self, *flags: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NODEDB_")}
        self.process = subprocess.Popen(
            [NODEDB, "demo", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self.text = ""

    def wait_ready(self) -> list[str]:
        """Return the printed URLs."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + READY_SECONDS
        while "ready;" not in self.text:
            left = max(deadline - time.monotonic(), 0)
            readable, _, _ = select.select([self.process.stdout], [], [], left)
            chunk = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            assert chunk, f"the demo is not ready:\n{self.text}"
            self.text += chunk.decode()
        return re.findall(r"^postgresql://\S+$", self.text, re.M)

    def wait_end(self) -> int:
        return self.process.wait(60)

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def refuses(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return True
    return False


@pytest.mark.parametrize("count", [1, 3])
def test_a_demo_serves_and_leaves_nothing_behind(count: int) -> None:
    demo = DemoProcess("--nodes", str(count))
    try:
        urls = demo.wait_ready()
        assert len(urls) == count
        with psycopg.connect(urls[0], autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
            connection.execute("INSERT INTO t VALUES (1)")
        with psycopg.connect(urls[-1], autocommit=True) as connection:
            assert connection.execute("SELECT id FROM t").fetchall() == [(1,)]
        found = re.search(r"^logs and data: (.+)$", demo.text, re.M)
        assert found is not None
        assert Path(found[1]).is_dir()
        demo.process.send_signal(signal.SIGTERM)
        assert demo.wait_end() == 0
        assert not Path(found[1]).exists()
        assert all(refuses(url) for url in urls)
    finally:
        demo.close()


def test_a_kept_demo_goes_on_with_its_data(tmp_path: Path) -> None:
    for expected in ([], [(1,)]):
        demo = DemoProcess("--nodes", "1", "--dir", str(tmp_path / "data"))
        try:
            (url,) = demo.wait_ready()
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY)")
                assert connection.execute("SELECT id FROM t").fetchall() == expected
                connection.execute("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING")
            # The end of its input ends the demo.
            assert demo.process.stdin is not None
            demo.process.stdin.close()
            assert demo.wait_end() == 0
        finally:
            demo.close()


def test_node_status_and_info(node: NodeProcess) -> None:
    sql_url = f"postgresql://nodedb@{node.host}:{node.port}/nodedb"
    done = run_to_end(["node", "status", "--format", "json", "--url", sql_url])
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert [entry["node_id"] for entry in status["nodes"]] == ["1"]
    assert {entry["group_id"] for entry in status["groups"]} == {"0", "1"}
    assert status["cluster"]["vshards"] == "1024"
    table = run_to_end(["node", "status", "--url", sql_url])
    assert table.returncode == 0
    assert " node_id |" in table.stdout
    by_http = run_to_end(["node", "info", "--format", "json", "--url", node.http_url])
    info = json.loads(by_http.stdout)
    assert info["node_id"] == 1
    by_store = run_to_end(["node", "info", "--format", "json", "--store", str(node.store)])
    assert json.loads(by_store.stdout)["cluster_id"] == info["cluster_id"]


def test_node_drain_waits_and_the_node_exits_0(store: Path) -> None:
    with running(store) as node:
        with node.connect() as setup:
            setup.execute("CREATE TABLE t (id int PRIMARY KEY)")
        busy = node.connect(autocommit=False)
        busy.execute("INSERT INTO t VALUES (1)")
        late = run_to_end(["node", "drain", "--url", node.http_url, "--timeout", "0.5"])
        assert late.returncode == 1
        assert "is not drained after 0.5 s (transactions, 1 connections)" in late.stderr
        busy.commit()
        assert node.wait() == 0
        node.start()
        done = run_to_end(["node", "drain", "--url", node.http_url])
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(f"{node.http_url}: drained\n")
        assert node.wait() == 0
