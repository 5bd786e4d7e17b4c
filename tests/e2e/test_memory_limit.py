"""``query_memory_limit``: what needs four times as much fails with 53200, the process stays
within the limit plus a fifth.

The resident anonymous memory of the node is sampled while the statement runs, and compared with
what a node holds that has run something of everything and is idle. One node for the module, so that
what statements do not give back adds up, and a test that bounds that; but then a statement may also
use what an earlier one left. So the slow selection repeats each in a process of its own.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess, running
from tests.fuzz.target import resident_bytes
from tests.fuzz.wire import exchange, frame, query, sqlstates, startup

MIB = 1 << 20
LIMIT_BYTES = 32 * MIB
ALLOWED_BYTES = LIMIT_BYTES + LIMIT_BYTES // 5
SAMPLE_SECONDS = 0.005
# md5 texts of 32 characters: a row of one takes about 150 bytes in memory, so this is four times
# the limit.
ROWS = 4 * LIMIT_BYTES // 150
SOURCE = f"generate_series(1, {ROWS}) g (n)"
ANSWER_SECONDS = 2.0
SESSIONS = 100
FLAGS = ("--set", f"query_memory_limit={LIMIT_BYTES // MIB}MB")

STATEMENTS = {
    "sort": f"SELECT md5(n::text) FROM {SOURCE} ORDER BY 1",
    "top rows of a sort": f"SELECT md5(n::text) FROM {SOURCE} ORDER BY 1 OFFSET {ROWS - 1}",
    "hash join": f"SELECT count(*) FROM {SOURCE}"
    f" JOIN (SELECT m, md5(m::text) t FROM generate_series(1, {ROWS}) h (m)) h"
    " ON n = m WHERE length(t) = 32",
    "nested loop join": "SELECT count(*) FROM generate_series(1, 2) a,"
    f" (SELECT md5(n::text) t FROM {SOURCE}) b"
    " WHERE t > a::text",
    "hash aggregate": f"SELECT md5(n::text), count(*) FROM {SOURCE} GROUP BY 1",
    "count distinct": f"SELECT count(DISTINCT md5(n::text)) FROM {SOURCE}",
    "array_agg": f"SELECT array_agg(md5(n::text)) FROM {SOURCE}",
    "string_agg": f"SELECT string_agg(repeat(md5(n::text), 3), ',') FROM {SOURCE}",
    "jsonb_agg": f"SELECT jsonb_agg(md5(n::text)) FROM {SOURCE}",
    "ordered aggregate": f"SELECT string_agg(md5(n::text), ',' ORDER BY n DESC) FROM {SOURCE}",
    "array of a sub-query": f"SELECT array_length(ARRAY(SELECT md5(n::text) FROM {SOURCE}), 1)",
    "IN sub-query": f"SELECT count(*) FROM generate_series(1, 10) a"
    f" WHERE a::text NOT IN (SELECT md5(n::text) FROM {SOURCE})",
    "DISTINCT": f"SELECT DISTINCT md5(n::text) FROM {SOURCE}",
    "UNION": f"SELECT md5(n::text) FROM {SOURCE} UNION SELECT 'x'",
    "EXCEPT": f"SELECT 'x' EXCEPT SELECT md5(n::text) FROM {SOURCE}",
    "INTERSECT": f"SELECT md5(n::text) FROM {SOURCE} INTERSECT SELECT md5(n::text) FROM {SOURCE}",
    "window": f"SELECT md5(n::text), count(*) OVER () FROM {SOURCE}",
    "materialized CTE": f"WITH q AS MATERIALIZED (SELECT md5(n::text) t FROM {SOURCE})"
    " SELECT count(*) FROM q a, q b WHERE a.t = b.t",
    "recursive CTE": "WITH RECURSIVE q (n, t) AS (SELECT 1, md5('')"
    " UNION SELECT n + 1, md5(n::text) FROM q"
    f" WHERE n < {ROWS}) SELECT count(*) FROM q",
    "FETCH of a cursor WITH HOLD": "DECLARE c CURSOR WITH HOLD FOR"
    f" SELECT array_agg(md5(n::text)) FROM {SOURCE}; FETCH ALL FROM c",
    "one long value": f"SELECT length(repeat('x', {4 * LIMIT_BYTES}))",
    "a long value made of pieces": f"SELECT length(lpad('x', {4 * LIMIT_BYTES}) || 'y')",
    "a long array": f"SELECT array_length(array_fill(1, ARRAY[{LIMIT_BYTES}]), 1)",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running(tmp_path_factory.mktemp("memory") / "store", *FLAGS) as node:
        yield node


@pytest.fixture(scope="module")
def warm(node: NodeProcess) -> int:
    """Return the memory of a node that has run something of everything."""
    return warmed_up(node)


def warmed_up(node: NodeProcess) -> int:
    """Run something of everything; return the memory then."""
    with node.connect() as connection:
        for statement in STATEMENTS.values():
            small = (
                statement.replace(str(ROWS), "10")
                .replace(str(4 * LIMIT_BYTES), "10")
                .replace(str(LIMIT_BYTES), "10")
            )
            with contextlib.suppress(psycopg.Error):
                connection.execute(small)
        connection.execute("CLOSE ALL")
    return resident_bytes(node.process_id)


@pytest.fixture
def baseline(node: NodeProcess, warm: int) -> int:
    """Return the memory of the node before the test."""
    return resident_bytes(node.process_id)


class Watch:
    """Samples the node's memory in a thread; ``peak`` is the highest seen."""

    def __init__(self, process_id: int) -> None:
        self.peak = 0
        self._process_id = process_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.peak = max(self.peak, resident_bytes(self._process_id))
            time.sleep(SAMPLE_SECONDS)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def check_peak(peak: int, baseline: int) -> None:
    grown = peak - baseline
    assert grown <= ALLOWED_BYTES, (
        f"{grown / MIB:.0f} MiB more than the baseline, allowed {ALLOWED_BYTES / MIB:.0f}"
    )


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_of_four_times_the_limit(node: NodeProcess, baseline: int, name: str) -> None:
    check_statement(node, baseline, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATEMENTS)
def test_in_a_process_that_never_held_more(tmp_path: Path, name: str) -> None:
    with running(tmp_path / "store", *FLAGS) as node:
        check_statement(node, warmed_up(node), name)


def check_statement(node: NodeProcess, baseline: int, name: str) -> None:
    with node.connect() as connection:
        with Watch(node.process_id) as watch, pytest.raises(psycopg.Error) as caught:
            connection.execute(STATEMENTS[name])
        assert caught.value.sqlstate == "53200", caught.value
        assert connection.execute("SELECT 1").fetchone() == (1,)
    check_peak(watch.peak, baseline)


def test_a_portal_that_returns_a_huge_count(node: NodeProcess, baseline: int) -> None:
    """A row limit beyond the result: rows pass through, or are refused, but do not pile up."""
    text = f"select md5(n::text) from {SOURCE}"
    pieces = [
        startup(),
        frame("P", b"\0" + text.encode() + b"\0\0\0"),
        frame("B", bytes(8)),
        frame("E", b"\0\x7f\xff\xff\xff"),
        frame("S"),
    ]
    with Watch(node.process_id) as watch:
        answer = exchange((node.host, node.port), pieces, seconds=120)
    assert sqlstates(answer) in ([], ["53200"])
    check_peak(watch.peak, baseline)


def test_a_cursor_with_hold(node: NodeProcess, baseline: int) -> None:
    """Whether its rows are kept or made when they are fetched: never beyond the limit."""
    with node.connect() as connection, Watch(node.process_id) as watch:
        with contextlib.suppress(psycopg.errors.OutOfMemory):
            connection.execute(f"DECLARE h CURSOR WITH HOLD FOR SELECT md5(n::text) FROM {SOURCE}")
            for _ in range(3):
                assert len(connection.execute("FETCH 1000 FROM h").fetchall()) == 1000
            connection.execute("MOVE FORWARD 100000 IN h")
        assert connection.execute("SELECT 1").fetchone() == (1,)
    check_peak(watch.peak, baseline)


def test_a_client_that_does_not_read(node: NodeProcess, baseline: int) -> None:
    """128 MiB of answer that nobody takes stay where they are made, not in the node's buffers."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(4):
            client = stack.enter_context(
                contextlib.closing(socket.create_connection((node.host, node.port)))
            )
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(
                startup() + query("select repeat('x', 100000) from generate_series(1, 1300)")
            )
            clients.append(client)
        with Watch(node.process_id) as watch, node.connect() as connection:
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                assert connection.execute("SELECT 1").fetchone() == (1,)
        check_peak(watch.peak, baseline)


def test_the_limit_can_be_lowered_for_one_session(node: NodeProcess) -> None:
    with node.connect() as connection:
        connection.execute("SET query_memory_limit = '1MB'")
        with pytest.raises(psycopg.errors.OutOfMemory):
            connection.execute(
                "SELECT md5(n::text) FROM generate_series(1, 30000) g (n) ORDER BY 1"
            )
        connection.execute("RESET query_memory_limit")
        connection.execute("SELECT md5(n::text) FROM generate_series(1, 30000) g (n) ORDER BY 1")


def test_a_failed_statement_in_a_block_leaves_its_locks_to_the_block(node: NodeProcess) -> None:
    with node.connect(autocommit=False) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (v int)")
        connection.execute("SAVEPOINT s")
        with pytest.raises(psycopg.errors.OutOfMemory):
            connection.execute(STATEMENTS["sort"])
        connection.execute("ROLLBACK TO SAVEPOINT s")
        connection.execute("INSERT INTO kept VALUES (1)")
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)
        connection.rollback()


def test_memory_is_given_back(node: NodeProcess, warm: int) -> None:
    """After all the above the node holds no more than one statement may: slack, no leak."""
    check_peak(resident_bytes(node.process_id), warm)


def test_a_hundred_sessions_go_on(node: NodeProcess) -> None:
    """While one session fails again and again, a hundred others answer within a bounded time."""
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(node.connect()) for _ in range(SESSIONS)]
        for other in others:
            other.execute("SELECT 1")
        baseline = resident_bytes(node.process_id)
        watch = stack.enter_context(Watch(node.process_id))
        with background(lambda: fail_repeatedly(node)) as is_running:
            slowest = 0.0
            while is_running():
                for other in others:
                    start = time.monotonic()
                    assert other.execute("SELECT 1").fetchone() == (1,)
                    slowest = max(slowest, time.monotonic() - start)
        assert slowest < ANSWER_SECONDS, f"an answer took {slowest:.2f} s"
    check_peak(watch.peak, baseline)


def fail_repeatedly(node: NodeProcess) -> None:
    with node.connect() as connection:
        for name in ("sort", "hash aggregate", "hash join", "materialized CTE"):
            with contextlib.suppress(psycopg.errors.OutOfMemory):
                connection.execute(STATEMENTS[name])


@contextlib.contextmanager
def background(action: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Run an action in a thread; yields what tells whether it still runs."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    yield thread.is_alive
    thread.join(60)
    assert not thread.is_alive()
