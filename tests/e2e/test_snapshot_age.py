"""Long readers: they see their snapshot until it is too old, and hold up no writer."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import IsolationLevel, errors

from tests.e2e.node_process import NodeProcess, running

pytestmark = pytest.mark.timeout(120)
ROWS = 5000
TOO_OLD = "snapshot too old"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that collects old versions at once and keeps snapshots for half a second."""
    store = tmp_path_factory.mktemp("hasty") / "store"
    with running(store, "--gc-ttl-seconds", "0", "--set", "max_snapshot_age=500ms") as node:
        yield node


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that collects old versions at once, but keeps snapshots."""
    with running(tmp_path_factory.mktemp("patient") / "store", "--gc-ttl-seconds", "0") as node:
        yield node


def fill(connection: psycopg.Connection) -> None:
    """Make the table anew."""
    connection.execute("DROP TABLE IF EXISTS t")
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int, u int)")
    connection.execute("CREATE INDEX t_u ON t (u)")
    connection.execute(f"INSERT INTO t SELECT i, 0, i FROM generate_series(1, {ROWS}) i")


@pytest.fixture
def writer(hasty: NodeProcess) -> Iterator[psycopg.Connection]:
    with hasty.connect() as connection:
        fill(connection)
        yield connection
    hasty.close_connections()


def reader(node: NodeProcess, level: IsolationLevel) -> psycopg.Connection:
    connection = node.connect(autocommit=False)
    connection.isolation_level = level
    return connection


def change(writer: psycopg.Connection) -> None:
    """Write over every row, remove some, and collect what is older."""
    writer.execute("SET statement_timeout = '30s'")  # Nobody may hold us up.
    writer.execute("UPDATE t SET v = v + 1")
    writer.execute("DELETE FROM t WHERE id > 4900 AND v > 1")
    writer.execute("VACUUM")


def outlive(since: float) -> None:
    """Wait until half a second has passed."""
    while time.monotonic() < since + 0.6:
        time.sleep(0.02)


STATEMENTS = {
    "scan": "SELECT sum(v), count(*) FROM t",
    "key": "SELECT v, 5000 FROM t WHERE id = 77",
    "gone": "SELECT v, 5000 FROM t WHERE id = 4999",
    "index": "SELECT sum(v), 5000 FROM t WHERE u BETWEEN 10 AND 20",
    "backward": "SELECT v, 5000 FROM t ORDER BY id DESC LIMIT 1",
    "join": "SELECT sum(a.v + b.v), count(*) FROM t a JOIN t b ON a.id = b.u",
}


LEVELS = [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]


@pytest.mark.parametrize("level", LEVELS)
def test_a_snapshot_stands_while_it_is_young(patient: NodeProcess, level: IsolationLevel) -> None:
    with patient.connect() as writer, reader(patient, level) as old:
        fill(writer)
        for query in STATEMENTS.values():
            assert old.execute(query).fetchone() == (0, ROWS)
        old.execute("DECLARE c CURSOR FOR SELECT v FROM t ORDER BY id")
        old.execute("FETCH 10 FROM c")
        for _ in range(2):
            change(writer)
            for query in STATEMENTS.values():
                assert old.execute(query).fetchone() == (0, ROWS)
        assert old.execute("FETCH ALL FROM c").fetchall() == [(0,)] * (ROWS - 10)


def test_an_open_cursor_of_read_committed_keeps_its_snapshot(patient: NodeProcess) -> None:
    with patient.connect() as writer, reader(patient, IsolationLevel.READ_COMMITTED) as old:
        fill(writer)
        old.execute("DECLARE c CURSOR FOR SELECT v FROM t ORDER BY id")
        old.execute("FETCH 10 FROM c")
        change(writer)
        assert old.execute("SELECT min(v) FROM t").fetchone() == (1,)
        change(writer)
        assert old.execute("FETCH ALL FROM c").fetchall() == [(0,)] * (ROWS - 10)


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_snapshot_that_is_too_old_is_an_error(
    hasty: NodeProcess, writer: psycopg.Connection, level: IsolationLevel, name: str
) -> None:
    query = STATEMENTS[name]
    with reader(hasty, level) as old:
        assert old.execute(query).fetchone() == (0, ROWS)
        outlive(time.monotonic())
        change(writer)
        with pytest.raises(errors.SnapshotTooOld) as caught:
            old.execute(query)
        assert caught.value.diag.sqlstate == "72000"
        assert caught.value.diag.message_primary == TOO_OLD
        old.rollback()
        # The next transaction has another snapshot.
        assert old.execute("SELECT min(v) FROM t").fetchone() == (1,)


def test_a_transaction_is_as_old_as_its_snapshot(
    hasty: NodeProcess, writer: psycopg.Connection
) -> None:
    with hasty.connect() as late:
        late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        outlive(time.monotonic())
        began = time.monotonic()
        assert late.execute("SELECT sum(v) FROM t").fetchone() == (0,)
        change(writer)
        is_surely_young = time.monotonic() < began + 0.3
        try:
            found = late.execute("SELECT sum(v) FROM t").fetchone()
        except errors.SnapshotTooOld:
            assert not is_surely_young
        else:
            assert found == (0,)


def test_amid_a_cursor(hasty: NodeProcess, writer: psycopg.Connection) -> None:
    """Whatever the level: the cursor's snapshot is what ages."""
    for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ):
        with reader(hasty, level) as old:
            old.execute("DECLARE c CURSOR FOR SELECT v FROM t ORDER BY id")
            first = old.execute("FETCH 10 FROM c").fetchall()
            outlive(time.monotonic())
            change(writer)
            with pytest.raises(errors.DatabaseError) as caught:
                old.execute(f"FETCH {ROWS} FROM c")
            assert caught.value.diag.sqlstate == "72000"
            assert len(set(first)) == 1


def test_a_cursor_with_hold_has_its_rows(hasty: NodeProcess, writer: psycopg.Connection) -> None:
    with reader(hasty, IsolationLevel.REPEATABLE_READ) as old:
        old.execute("DECLARE c CURSOR WITH HOLD FOR SELECT v FROM t ORDER BY id")
        old.commit()
        outlive(time.monotonic())
        change(writer)
        assert old.execute("FETCH ALL FROM c").fetchall() == [(0,)] * ROWS


def test_read_committed_never_gets_it(hasty: NodeProcess, writer: psycopg.Connection) -> None:
    """Not between statements, nor amid one that takes longer than a snapshot may be old."""
    with reader(hasty, IsolationLevel.READ_COMMITTED) as old:
        for number in range(3):
            assert old.execute("SELECT min(v) FROM t").fetchone() == (number,)
            assert old.execute("SELECT v FROM t WHERE id = 1").fetchone() == (number,)
            outlive(time.monotonic())
            change(writer)
        with hasty.connect() as slow:
            long_query = (
                "SELECT count(*), min(v), max(v) FROM (SELECT v, "
                "pg_sleep(CASE WHEN id % 1000 = 0 THEN 0.3 ELSE 0 END) FROM t OFFSET 0) s"
            )
            slow.pgconn.send_query(long_query.encode())
            while slow.pgconn.flush():
                pass
            began = time.monotonic()
            for _ in range(3):
                outlive(began)
                change(writer)
                began = time.monotonic() - 0.3
            answer = slow.pgconn.get_result()
            assert answer is not None
            assert answer.error_message == b"", answer.error_message
            assert answer.get_value(0, 1) == answer.get_value(0, 2) == b"3"
            while slow.pgconn.get_result() is not None:
                pass


def test_a_reader_does_not_hold_up_writers(hasty: NodeProcess, writer: psycopg.Connection) -> None:
    with reader(hasty, IsolationLevel.SERIALIZABLE) as old:
        old.execute("SELECT sum(v) FROM t")
        with hasty.connect() as other:
            other.execute("SET lock_timeout = '1ms'")
            other.execute("UPDATE t SET v = 7")
            other.execute("DELETE FROM t WHERE id < 10")
            other.execute("INSERT INTO t VALUES (1, 1, 1)")


def test_the_setting(hasty: NodeProcess, node: NodeProcess) -> None:
    with hasty.connect() as connection, node.connect() as plain:
        assert connection.execute("SHOW max_snapshot_age").fetchone() == ("500ms",)
        assert plain.execute("SHOW max_snapshot_age").fetchone() == ("1h",)
        with pytest.raises(errors.CantChangeRuntimeParam):
            plain.execute("SET max_snapshot_age = '1s'")
        assert plain.execute(
            "SELECT setting, unit, context FROM pg_settings WHERE name = 'max_snapshot_age'"
        ).fetchone() == ("3600000", "ms", "sighup")
