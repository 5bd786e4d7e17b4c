"""Statements that run in one step answer like those that go the long way.

One session may take the short cut. The other has a statement_timeout, for which every step
declines. Both run the same random statements on tables of their own, from the same packets that
libpq sends for a prepared execution, or as simple queries.
"""

import random

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import ExecStatus, PGconn

from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(120)

TABLES = """
CREATE TABLE p (id int PRIMARY KEY, n int, t text);
CREATE TABLE q (id int PRIMARY KEY, u int UNIQUE, n int CHECK (n < 30));
CREATE TABLE h (a int NOT NULL, b text DEFAULT 'b');
CREATE TABLE w (a text, b bigint, v numeric(6, 2), PRIMARY KEY (a, b));
INSERT INTO p SELECT i, i, 'row ' || i FROM generate_series(1, 8) i;
INSERT INTO q SELECT i, i * 10, i FROM generate_series(1, 8) i;
"""
# Each with the kinds of its parameters: k a key, i an integer, t a text.
STATEMENTS = {
    "SELECT n, t FROM p WHERE id = $1": "k",
    "SELECT id, u FROM q WHERE id = $1 AND n > 4": "k",
    "SELECT v, b FROM w WHERE a = $1 AND b = $2": "tk",
    "UPDATE p SET n = n + $1 WHERE id = $2": "ik",
    "UPDATE p SET n = 10 / ($1 - 1), t = t || $2 WHERE id = $3": "ktk",
    "UPDATE q SET u = $1, n = n + 1 WHERE id = $2": "kk",
    "UPDATE p SET id = $1 WHERE id = $2 RETURNING id, n": "kk",
    "UPDATE w SET v = v * $1 WHERE a = $2 AND b = $3": "ktk",
    "INSERT INTO p VALUES ($1, $2, $3)": "kit",
    "INSERT INTO p VALUES ($1, 1, 'x') RETURNING 1 / ($1 - 3)": "k",
    "INSERT INTO q VALUES ($1, $2, $3) RETURNING u * 2": "kki",
    "INSERT INTO h VALUES ($1)": "k",
    "INSERT INTO w VALUES ($1, $2, 1.255)": "tk",
    "DELETE FROM p WHERE id = $1 RETURNING t": "k",
    "DELETE FROM q WHERE id = $1 AND n < 20": "k",
    "BEGIN": "",
    "COMMIT": "",
    "END": "",
    "ROLLBACK": "",
    "SAVEPOINT s": "",
    "ROLLBACK TO s": "",
    "SET LOCAL default_transaction_read_only = on": "",
    "SET TRANSACTION READ ONLY": "",
    "BEGIN ISOLATION LEVEL REPEATABLE READ": "",
    "BEGIN ISOLATION LEVEL SERIALIZABLE": "",
}
MEDDLING = (
    "UPDATE p SET n = n + 1 WHERE id = {}",
    "DELETE FROM p WHERE id = {}",
    "INSERT INTO p VALUES ({}, 0, 'meddled') ON CONFLICT DO NOTHING",
    "UPDATE q SET n = n - 1 WHERE id = {}",
)
WEIGHTS = [1 if text.startswith(("SET", "SAVE", "ROLLBACK TO")) else 4 for text in STATEMENTS]
ODD_VALUES = (None, b"", b"-1", b"99999999999", b" 4 ", b"+5", b"1_0", b"x", "\u00e9".encode())


def value(kind: str, random_: random.Random) -> bytes | None:
    if random_.random() < 0.08:
        return random_.choice(ODD_VALUES)
    if kind == "t":
        return random_.choice((b"a", b"b", "\u00fc".encode()))
    return str(random_.randrange(1, 10) if kind == "k" else random_.randrange(-50, 50)).encode()


def literal(parameter: bytes | None, kind: str) -> str:
    if parameter is None:
        return "NULL"
    text = parameter.decode()
    return text if kind != "t" and text.lstrip("-").isdigit() else f"'{text}'"


def outcome(connection: PGconn, text: str, parameters: list, *, simple: bool) -> tuple:
    """Return all that a client sees of one execution."""
    if simple:
        for number, kind in reversed(list(enumerate(STATEMENTS[text]))):
            text = text.replace(f"${number + 1}", literal(parameters[number], kind))
        result = connection.exec_(text.encode())
    else:
        name = str(list(STATEMENTS).index(text)).encode()
        result = connection.exec_prepared(name, parameters)
    values = [
        [result.get_value(row, column) for column in range(result.nfields)]
        for row in range(result.ntuples)
    ]
    names = [result.fname(column) for column in range(result.nfields)]
    error = result.error_message if result.status == ExecStatus.FATAL_ERROR else b""
    return result.command_status, names, values, error, connection.transaction_status


def meddle(meddler: psycopg.Connection, random_: random.Random) -> None:
    """Change the same row in both schemas from outside, unless a session has it locked."""
    text = random_.choice(MEDDLING).format(random_.randrange(1, 10))
    try:
        with meddler.transaction():
            for schema in ("short", "long"):
                meddler.execute(f"SET LOCAL search_path = {schema}")
                meddler.execute(text)
    except errors.LockNotAvailable:
        return


@pytest.mark.parametrize("seed", range(8))
def test_both_ways_give_the_same_answers(node: NodeProcess, seed: int) -> None:
    random_ = random.Random(seed)
    sessions = []
    for name in ("short", "long"):
        session = node.connect()
        session.execute(f"CREATE SCHEMA {name}")
        session.execute(f"SET search_path = {name}")
        session.execute(TABLES)
        for number, text in enumerate(STATEMENTS):
            prepared = session.pgconn.prepare(str(number).encode(), text.encode())
            assert prepared.status == ExecStatus.COMMAND_OK, (text, prepared.error_message)
        sessions.append(session)
    sessions[1].execute("SET statement_timeout = '1h'")
    meddler = node.connect()
    meddler.execute("SET lock_timeout = '1ms'")
    for _ in range(600):
        if random_.random() < 0.15:
            meddle(meddler, random_)
        text = random_.choices(list(STATEMENTS), WEIGHTS)[0]
        parameters = [value(kind, random_) for kind in STATEMENTS[text]]
        simple = random_.random() < 0.4
        got, expected = [
            outcome(session.pgconn, text, parameters, simple=simple) for session in sessions
        ]
        assert got == expected, f"seed {seed}: {text} {parameters}, simple: {simple}"
    for session in sessions:
        session.pgconn.exec_(b"ROLLBACK")
    for table in ("p", "q", "h", "w"):
        contents = [
            session.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for session in sessions
        ]
        assert contents[0] == contents[1], f"seed {seed}: {table}"
    for session in sessions:
        session.close()
    with node.connect() as session:
        session.execute("DROP SCHEMA short, long CASCADE")


def test_a_step_that_meets_a_lock_waits_for_it(node: NodeProcess) -> None:
    with node.connect() as holder, node.connect() as waiter, node.connect() as watcher:
        holder.execute("CREATE TABLE c (id int PRIMARY KEY, n int)")
        holder.execute("INSERT INTO c VALUES (1, 0)")
        waiter.pgconn.prepare(b"add", b"UPDATE c SET n = n + $1 WHERE id = $2")
        for _ in range(3):  # the short cut is known then
            assert waiter.pgconn.exec_prepared(b"add", [b"1", b"1"]).command_status == b"UPDATE 1"
        holder.execute("BEGIN")
        holder.execute("UPDATE c SET n = 100 WHERE id = 1")
        waiter.pgconn.send_query_prepared(b"add", [b"1", b"1"])
        waiter.pgconn.flush()
        while not watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            pass
        holder.execute("COMMIT")
        result = waiter.pgconn.get_result()
        assert result is not None
        assert result.command_status == b"UPDATE 1"
        assert waiter.pgconn.get_result() is None
        assert watcher.execute("SELECT n FROM c").fetchone() == (101,)


def test_a_statement_closed_and_prepared_anew_is_the_new_one(node: NodeProcess) -> None:
    with node.connect() as session:
        session.execute("CREATE TABLE c (id int PRIMARY KEY, n int)")
        session.execute("INSERT INTO c VALUES (1, 7)")
        for text, answer in ((b"SELECT n FROM c WHERE id = $1", b"7"), (b"SELECT $1::int", b"1")):
            session.pgconn.prepare(b"s", text)
            for _ in range(3):
                assert session.pgconn.exec_prepared(b"s", [b"1"]).get_value(0, 0) == answer
            session.execute("DEALLOCATE s")
            assert b"26000" in (
                session.pgconn.exec_prepared(b"s", [b"1"]).error_field(ord("C")) or b""
            )


def test_a_step_follows_the_catalog_and_the_role(node: NodeProcess) -> None:
    with node.connect() as session, node.connect() as other:
        session.execute("CREATE TABLE c (id int PRIMARY KEY, n int)")
        session.execute("INSERT INTO c VALUES (1, 7)")
        session.pgconn.prepare(b"s", b"SELECT n FROM c WHERE id = $1")

        def ask() -> tuple:
            result = session.pgconn.exec_prepared(b"s", [b"1"])
            if result.status == ExecStatus.FATAL_ERROR:
                return (result.error_field(ord("C")),)
            return (result.get_value(0, 0),)

        assert [ask() for _ in range(3)] == [(b"7",)] * 3
        other.execute("ALTER TABLE c ADD CHECK (n < 10)")
        other.execute("UPDATE c SET n = 8")
        assert [ask() for _ in range(3)] == [(b"8",)] * 3
        other.execute("CREATE ROLE step_reader")
        other.execute("GRANT USAGE ON SCHEMA public TO step_reader")
        session.execute("SET ROLE step_reader")
        assert [ask() for _ in range(2)] == [(b"42501",)] * 2
        session.execute("RESET ROLE")
        assert ask() == (b"8",)
        other.execute("DROP TABLE c")
        assert ask() == (b"42P01",)
        other.execute("REVOKE USAGE ON SCHEMA public FROM step_reader")
        other.execute("DROP ROLE step_reader")


def test_a_commit_refused_by_a_unique_index_amid_a_block(node: NodeProcess) -> None:
    """The error belongs to the statement, and the block is failed until it ends."""
    with node.connect() as session:
        session.execute("CREATE TABLE c (id int PRIMARY KEY)")
        session.pgconn.prepare(b"i", b"INSERT INTO c VALUES ($1)")
        for key in (b"1", b"2", b"3"):
            session.pgconn.exec_prepared(b"i", [key])
        session.execute("BEGIN")
        result = session.pgconn.exec_prepared(b"i", [b"3"])
        assert result.error_field(ord("C")) == b"23505"
        with pytest.raises(errors.InFailedSqlTransaction):
            session.execute("SELECT 1")
        assert session.pgconn.exec_(b"COMMIT").command_status == b"ROLLBACK"
        assert session.execute("SELECT count(*) FROM c").fetchone() == (3,)


def waits(watcher: psycopg.Connection) -> bool:
    return bool(watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())


@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_read_waits_for_an_exclusive_table_lock(
    node: NodeProcess, is_known: bool, simple: bool
) -> None:
    with node.connect() as holder, node.connect() as reader, node.connect() as watcher:
        holder.execute("CREATE TABLE c (id int PRIMARY KEY, n int)")
        holder.execute("INSERT INTO c VALUES (1, 7)")
        reader.pgconn.prepare(b"get", b"SELECT n FROM c WHERE id = $1")

        def send() -> None:
            if simple:
                reader.pgconn.send_query(b"SELECT n FROM c WHERE id = 1")
            else:
                reader.pgconn.send_query_prepared(b"get", [b"1"])
            reader.pgconn.flush()

        def answer() -> bytes | None:
            result = reader.pgconn.get_result()
            assert result is not None
            assert reader.pgconn.get_result() is None
            return result.get_value(0, 0)

        for _ in range(3 if is_known else 0):
            send()
            assert answer() == b"7"
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE c IN ACCESS EXCLUSIVE MODE")
        holder.execute("UPDATE c SET n = 8")
        send()
        while not waits(watcher):
            pass
        holder.execute("COMMIT")
        assert answer() == b"8"


def test_a_read_in_a_block_keeps_its_table_from_being_dropped(node: NodeProcess) -> None:
    with node.connect() as reader, node.connect() as dropper:
        reader.execute("CREATE TABLE c (id int PRIMARY KEY)")
        reader.pgconn.prepare(b"get", b"SELECT id FROM c WHERE id = $1")
        for _ in range(3):
            reader.pgconn.exec_prepared(b"get", [b"1"])
        reader.execute("BEGIN")
        reader.pgconn.exec_prepared(b"get", [b"1"])
        dropper.execute("SET lock_timeout = '50ms'")
        with pytest.raises(errors.LockNotAvailable):
            dropper.execute("DROP TABLE c")
        reader.execute("COMMIT")
        dropper.execute("DROP TABLE c")


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [("INSERT INTO c VALUES ($1, 7)", b"3"), ("UPDATE c SET n = 7 WHERE id = $1", b"2")],
)
def test_a_write_that_waited_for_its_table_sees_the_new_index(
    node: NodeProcess, text: str, wanted: bytes, is_known: bool
) -> None:
    """Planned before CREATE INDEX, executed after it: the index must have the row."""
    with node.connect() as builder, node.connect() as writer, node.connect() as watcher:
        builder.execute("CREATE TABLE c (id int PRIMARY KEY, n int)")
        builder.execute("INSERT INTO c VALUES (1, 1), (2, 2)")
        writer.pgconn.prepare(b"w", text.encode())
        for key in (b"101", b"102", b"103") if is_known else ():
            writer.pgconn.exec_prepared(b"w", [key])
        builder.execute("DELETE FROM c WHERE id > 100")
        builder.execute("BEGIN")
        builder.execute("CREATE UNIQUE INDEX c_n ON c (n)")
        builder.execute("INSERT INTO c VALUES (9, 7)")
        writer.pgconn.send_query_prepared(b"w", [wanted])
        writer.pgconn.flush()
        while not waits(watcher):
            pass
        builder.execute("COMMIT")
        result = writer.pgconn.get_result()
        assert result is not None
        assert writer.pgconn.get_result() is None
        assert result.error_field(ord("C")) == b"23505"
        assert result.error_field(ord("n")) == b"c_n"
        assert watcher.execute("SELECT id FROM c WHERE n = 7").fetchall() == [(9,)]
