"""After many connections, statements, cancels and failures the node is as empty as before."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess, running
from tests.fuzz.target import Target
from tests.fuzz.wire import exchange, frame, frames, query, sqlstates, startup

MIB = 1 << 20
# Caches of plans, parsed texts and statistics fill up to their bounds; a leak goes on.
GROWTH_BYTES = 48 * MIB
pytestmark = pytest.mark.timeout(900)
COUNTS = [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.slow)]
TERMINATE = frame("X")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running(tmp_path_factory.mktemp("leaks") / "store") as node:
        yield node


@pytest.fixture
def target(node: NodeProcess) -> Target:
    with node.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS fuzz_t")
        connection.execute("CREATE TABLE fuzz_t (id int PRIMARY KEY, v text)")
        connection.execute("INSERT INTO fuzz_t SELECT n, 'v' FROM generate_series(1, 100) n")
    return Target(node)


@contextlib.contextmanager
def nothing_left(target: Target) -> Iterator[None]:
    """Check that the block leaves no session, lock, transaction, traceback or memory behind."""
    yield
    target.check(growth_bytes=GROWTH_BYTES)


@pytest.mark.parametrize("factor", COUNTS)
def test_connections(target: Target, factor: int) -> None:
    """10,000 in the long run: ended by Terminate, by closing, by a reset, amid their startup."""
    with nothing_left(target):
        for number in range(1000 * factor):
            kind = number % 4
            if kind == 3:
                _reset(target, [startup(), query("begin"), query("select 1")])
                continue
            pieces = {
                0: [startup(), query("select 1"), TERMINATE],
                1: [startup()],
                2: [startup()[:20]],
            }[kind]
            exchange(target.address, pieces)


def _reset(target: Target, pieces: list[bytes]) -> None:
    client = socket.create_connection(target.address)
    client.sendall(b"".join(pieces))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("factor", COUNTS)
def test_statements(target: Target, factor: int) -> None:
    """100,000 statements in the long run, half of them with a text never seen before."""
    per_connection = 500
    with nothing_left(target):
        for round_number in range(20 * factor):
            texts = []
            for number in range(per_connection // 2):
                serial = round_number * per_connection + number
                texts.append(query(f"select v as c{serial} from fuzz_t where id = {serial % 100}"))
                texts.append(
                    query(f"update fuzz_t set v = '{serial}' where id = {serial % 100 + 1}")
                )
            answer = exchange(target.address, [startup(), *texts, TERMINATE])
            assert sqlstates(answer) == []
            assert [tag for tag, _ in frames(answer)].count("Z") == per_connection + 1


@pytest.mark.parametrize("factor", COUNTS)
def test_prepared_statements_and_portals(target: Target, factor: int) -> None:
    """Named statements, suspended portals and cursors of clients that just leave."""
    with nothing_left(target):
        for number in range(200 * factor):
            text = f"select * from fuzz_t, generate_series(1, 1000) as g{number}".encode()
            pieces = [
                startup(),
                query("begin"),
                query("declare c cursor for select * from fuzz_t"),
                query("fetch 3 from c"),
            ]
            for name in (b"a", b"b"):
                pieces += [
                    frame("P", name + b"\0" + text + b"\0\0\0"),
                    frame("B", name + b"\0" + name + b"\0" + bytes(6)),
                    frame("E", name + b"\0\0\0\0\7"),
                ]
            answer = exchange(target.address, [*pieces, frame("S")])
            assert sqlstates(answer) == []
            assert [tag for tag, _ in frames(answer)].count("s") == 2


@pytest.mark.parametrize("factor", COUNTS)
def test_failed_transactions(target: Target, factor: int) -> None:
    """Transactions that fail midway, with savepoints and temporary tables, some never ended."""
    texts = [
        "begin", "create temp table tt (a int)", "insert into tt values (1)", "savepoint s",
        "update fuzz_t set v = 'x' where id = 1", "select 1/0",
        "rollback to savepoint s", "select * from missing",
    ]  # fmt: skip
    with nothing_left(target):
        for number in range(200 * factor):
            ending = [query("rollback")] if number % 2 else []
            answer = exchange(target.address, [startup(), *map(query, texts), *ending])
            assert sqlstates(answer) == ["22012", "42P01"]


@pytest.mark.parametrize("factor", COUNTS)
def test_cancelled_statements(target: Target, factor: int) -> None:
    """Cancelled by statement_timeout amid work, amid a sleep and amid a wait for a lock."""
    with nothing_left(target), target.node.connect(autocommit=False) as holder:
        holder.execute("UPDATE fuzz_t SET v = 'held' WHERE id = 7")
        with target.node.connect() as connection:
            connection.execute("SET statement_timeout = '5ms'")
            for _ in range(50 * factor):
                for text in (
                    "SELECT count(*) FROM generate_series(1, 10000000)",
                    "SELECT pg_sleep(10)",
                    "UPDATE fuzz_t SET v = 'waits' WHERE id = 7",
                ):
                    with pytest.raises(psycopg.errors.QueryCanceled):
                        connection.execute(text)
        holder.rollback()


@pytest.mark.parametrize("factor", COUNTS)
def test_cancel_requests(target: Target, factor: int) -> None:
    """CancelRequest packets, with the right key and with wrong ones."""
    with nothing_left(target), target.node.connect() as connection:
        for _ in range(30 * factor):
            with sleeping(connection) as outcome:
                for key in (0, 1, 2**31):
                    packet = struct.pack("!IIII", 16, 80877102, connection.info.backend_pid, key)
                    assert exchange(target.address, [packet]) == b""
                assert outcome.thread.is_alive(), "cancelled by a wrong key"
                while outcome.thread.is_alive():
                    connection.cancel_safe(timeout=10)
                    outcome.thread.join(0.02)
            assert outcome.sqlstate == "57014"


class Outcome:
    """How a statement in a thread ended."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.sqlstate: str | None = ""
        self._action = action
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._action()
        except psycopg.Error as error:
            self.sqlstate = error.sqlstate


@contextlib.contextmanager
def sleeping(connection: psycopg.Connection) -> Iterator[Outcome]:
    """Run a long sleep in a thread, ended by the block."""
    outcome = Outcome(lambda: connection.execute("SELECT pg_sleep(30)"))
    yield outcome
    outcome.thread.join(40)
    assert not outcome.thread.is_alive()
