"""The process: readiness, restarts, signals, ports, the store's lock, HTTP."""

import http.client
import json
import signal
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess, run_to_end, running


def http_get(node: NodeProcess, path: str) -> tuple[int, str]:
    """Return (status, body)."""
    address = urllib.parse.urlsplit(node.http_url)
    with closing(http.client.HTTPConnection(address.netloc, timeout=20)) as client:
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read().decode()


def test_health_endpoints_say_ready(node: NodeProcess) -> None:
    expected = '{"status": "ok", "phase": "gateway_enable"}'
    assert http_get(node, "/healthz") == (200, expected)
    assert http_get(node, "/health/ready")[0] == 200
    assert http_get(node, "/health/live")[0] == 200
    status, body = http_get(node, "/health")
    assert status == 200
    assert json.loads(body)["ready"] is True


def test_metrics_count_statements(node: NodeProcess, connection: psycopg.Connection) -> None:
    def statements() -> float:
        status, body = http_get(node, "/metrics")
        assert status == 200
        lines = [line for line in body.splitlines() if line.startswith("nodedb_statements_total ")]
        assert len(lines) == 1, body
        return float(lines[0].split()[1])

    before = statements()
    for _ in range(10):
        connection.execute("SELECT 1")
    assert statements() >= before + 10


def test_what_was_committed_survives_a_clean_restart(store: Path) -> None:
    with running(store) as node:
        with node.connect() as connection:
            connection.execute("CREATE TABLE kept (id int PRIMARY KEY, name text UNIQUE)")
            connection.execute("INSERT INTO kept VALUES (1, 'one'), (2, 'two')")
            connection.execute("DELETE FROM kept WHERE id = 2")
        assert node.stop() == 0
        node.start()
        with node.connect() as connection:
            assert connection.execute("SELECT * FROM kept").fetchall() == [(1, "one")]
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO kept VALUES (3, 'one')")


def test_what_was_acknowledged_survives_kill(store: Path) -> None:
    with running(store) as node:
        with node.connect() as connection:
            connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
            connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
        node.kill()
        node.start()
        with node.connect() as connection:
            assert connection.execute("SELECT count(*), sum(id) FROM kept").fetchone() == (
                1000,
                500500,
            )


def test_sigterm_drains_and_exits_0(store: Path) -> None:
    with running(store) as node:
        idle = node.connect()
        assert idle.execute("SELECT 1").fetchone() == (1,)
        assert node.stop() == 0
        with pytest.raises(psycopg.OperationalError) as caught:
            idle.execute("SELECT 1")
        assert caught.value.sqlstate in ("57P01", None)
        assert "terminating connection due to administrator command" in str(caught.value)


def test_drain_lets_an_open_transaction_end(store: Path) -> None:
    with running(store) as node:
        with node.connect() as setup:
            setup.execute("CREATE TABLE t (id int PRIMARY KEY)")
        busy = node.connect(autocommit=False)
        busy.execute("INSERT INTO t VALUES (1)")
        node.signal(signal.SIGTERM)
        wait_until(lambda: not accepts(node), "the node stops accepting connections")
        busy.execute("INSERT INTO t VALUES (2)")
        busy.commit()
        assert node.wait() == 0
        node.start()
        with node.connect() as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_second_process_on_the_same_store_is_refused(store: Path) -> None:
    with running(store) as node:
        other = NodeProcess(store, "--insecure")
        done = run_to_end(other.command()[1:])
        assert done.returncode == 1
        assert "another process" in done.stderr
        assert "Traceback" not in done.stderr
        with node.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("name", ["sql", "http"])
def test_a_port_in_use_is_named(store: Path, name: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        other = NodeProcess(store, f"--{name}-addr", f"127.0.0.1:{port}")
        done = run_to_end(other.command()[1:])
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_faults_of_the_settings_are_reported_at_once() -> None:
    done = run_to_end(["start", "--sql-addr", "nowhere", "--max-connections", "many"])
    assert done.returncode == 2
    assert "--store is required" in done.stderr
    assert "--sql-addr" in done.stderr
    assert "--max-connections" in done.stderr


def test_too_many_connections_are_refused(store: Path) -> None:
    with running(store, "--max-connections", "2") as node, node.connect(), node.connect() as second:
        with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
            node.connect()
        second.close()
        wait_until(lambda: accepts(node), "a place becomes free")


def test_a_vanished_client_lets_go_of_its_locks(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    connection.execute("INSERT INTO t VALUES (1, 0)")
    gone = node.connect(autocommit=False)
    gone.execute("UPDATE t SET v = 1 WHERE id = 1")
    socket.socket(fileno=gone.fileno()).close()
    connection.execute("SET lock_timeout = '20s'")
    connection.execute("UPDATE t SET v = v + 10 WHERE id = 1")
    assert connection.execute("SELECT v FROM t").fetchone() == (10,)


def test_a_client_that_vanishes_amid_its_wait_leaves_no_lock(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    """As in PostgreSQL, its statement may still run later, but holds nothing afterwards."""
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    connection.execute("INSERT INTO t VALUES (1, 0)")
    with holding(node, "UPDATE t SET v = 1 WHERE id = 1"):
        waiting = node.connect()
        with background(lambda: waiting.execute("UPDATE t SET v = 100 WHERE id = 1")):
            wait_until(lambda: is_waiting(connection, 1), "the second client waits for the row")
            socket.socket(fileno=waiting.fileno()).shutdown(socket.SHUT_RDWR)
    connection.execute("SET lock_timeout = '20s'")
    connection.execute("UPDATE t SET v = v + 10 WHERE id = 1")
    assert connection.execute("SELECT v FROM t").fetchone() in ((10,), (110,))


# Helpers


def wait_until(condition, what: str, seconds: float = 20.0) -> None:
    """Poll a condition; fails when it does not become true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


def accepts(node: NodeProcess) -> bool:
    """Tell whether a new client gets in."""
    try:
        node.connect().close()
    except psycopg.OperationalError:
        return False
    return True


def is_waiting(connection: psycopg.Connection, count: int) -> bool:
    """Tell whether so many lock requests are queued."""
    found = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return found is not None and found[0] >= count


@contextmanager
def holding(node: NodeProcess, statement: str) -> Iterator[psycopg.Connection]:
    """Hold what a statement locks, in a transaction that is rolled back at the end."""
    with node.connect(autocommit=False) as holder:
        holder.execute(statement)
        yield holder
        holder.rollback()


@contextmanager
def background(action) -> Iterator[None]:
    """Run an action in a thread; its error does not matter, but it must end with the block."""

    def run() -> None:
        with suppress(psycopg.Error):
            action()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive(), "the background statement is still running"


def test_sighup_reads_settings_again(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "nodedb.toml"
    path.write_text('set = ["work_mem=1MB"]\n')
    with running(store, "--config", str(path)) as node:
        assert shown(node, "work_mem") == "1MB"
        path.write_text('set = ["work_mem=2MB", "DateStyle=German"]\nmax_connections = 7\n')
        node.signal(signal.SIGHUP)
        wait_for_log(node, "max_connections needs a restart")
        assert shown(node, "work_mem") == "2MB"
        assert shown(node, "DateStyle") == "German, DMY"
        path.write_text('set = ["work_mem=much"]\n')
        node.signal(signal.SIGHUP)
        wait_for_log(node, "reload of settings failed")
        assert shown(node, "work_mem") == "2MB"


def shown(node: NodeProcess, name: str) -> str:
    """Return a variable of a new session."""
    with node.connect() as connection:
        row = connection.execute(f"SHOW {name}").fetchone()
        assert row is not None
        return str(row[0])


def wait_for_log(node: NodeProcess, text: str) -> None:
    """Wait until the node has logged a text."""
    deadline = time.monotonic() + 10
    while text not in node.log():
        assert time.monotonic() < deadline, node.log()
        time.sleep(0.02)
