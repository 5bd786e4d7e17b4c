"""DDL in transactions: one entry of the metadata log, nothing left of what is rolled back, no mixing.

What several sessions see of each other's DDL, and when they wait, is compared with PostgreSQL by
``tests/isolation/scripts/ddl_*``; a kill in the midst of COMMIT by ``tests/fault/test_kill_ddl.py``.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess, running
from tests.fault.writers import SEGMENT_BYTES, recovered, require_no_orphans

pytestmark = pytest.mark.timeout(120)

WAIT_SECONDS = 20.0
POLL_SECONDS = 0.01


def value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]


def schema_version(connection: psycopg.Connection) -> dict[str, int]:
    return {name: int(text) for name, text in connection.execute("SHOW SCHEMA VERSION")}


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(POLL_SECONDS)


class Waiting(threading.Thread):
    """A statement of another session that is to wait for somebody."""

    def __init__(self, node: NodeProcess, statement: str) -> None:
        super().__init__(daemon=True)
        self._connection = node.connect()
        self._statement = statement
        self.notices: list[str] = []
        self.error: psycopg.Error | None = None
        self._connection.add_notice_handler(lambda d: self.notices.append(d.message_primary or ""))
        self._process_id = self._connection.info.backend_pid

    def run(self) -> None:
        try:
            self._connection.execute(self._statement)
        except psycopg.Error as error:
            self.error = error

    def until_waiting(self, connection: psycopg.Connection) -> "Waiting":
        query = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = {self._process_id}"
        self.start()
        wait_until(lambda: value(connection, query) == 1)
        return self

    def outcome(self) -> str:
        """Wait for the end; returns its SQLSTATE, "" for success."""
        self.join(WAIT_SECONDS)
        assert not self.is_alive(), "it waits for ever"
        return "" if self.error is None else str(self.error.sqlstate)


# One COMMIT, one entry

STATEMENTS = (
    "CREATE TABLE a (id serial PRIMARY KEY, v int)",
    "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a)",
    "CREATE VIEW c AS SELECT id, v FROM a",
    "ALTER TABLE a ADD COLUMN n text DEFAULT 'none'",
    "INSERT INTO a (v) SELECT g FROM generate_series(1, 100) g",
    "INSERT INTO b VALUES (1, 1)",
)


def test_a_commit_is_one_entry_of_the_metadata_log(connection: psycopg.Connection) -> None:
    before = schema_version(connection)
    with connection.transaction():
        for statement in STATEMENTS:
            connection.execute(statement)
        assert schema_version(connection) == before, "nothing is proposed before COMMIT"
    after = schema_version(connection)
    assert after["catalog_changes"] == before["catalog_changes"] + 1
    assert after["schema_version"] > before["schema_version"]
    query = (
        "SELECT metadata_index, role_name, pid, client_addr, commands,"
        " committed_at BETWEEN now() - interval '1 minute' AND now() FROM nodedb_ddl_audit"
        f" WHERE metadata_index > {before['schema_version']}"
    )
    assert connection.execute(query).fetchall() == [
        (
            after["schema_version"],
            "nodedb",
            connection.info.backend_pid,
            "127.0.0.1",
            ["CREATE TABLE", "CREATE TABLE", "CREATE VIEW", "ALTER TABLE"],
            True,
        )
    ]
    assert value(connection, "SELECT count(*) FROM c") == 100


def test_the_audit_is_for_superusers(node: NodeProcess, connection: psycopg.Connection) -> None:
    connection.execute("DROP ROLE IF EXISTS clerk")
    connection.execute("CREATE ROLE clerk LOGIN")
    try:
        with (
            node.connect(user="clerk") as clerk,
            pytest.raises(errors.InsufficientPrivilege, match="view nodedb_ddl_audit"),
        ):
            clerk.execute("SELECT * FROM nodedb_ddl_audit")
    finally:
        connection.execute("DROP ROLE clerk")


def test_what_changes_nothing_proposes_nothing(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (a int)")
    before = schema_version(connection)
    connection.execute("CREATE TABLE IF NOT EXISTS t (b int)")
    connection.execute("DROP TABLE IF EXISTS nothing")
    with connection.transaction():
        connection.execute("CREATE TABLE u (a int)")
        connection.execute("DROP TABLE u")
    assert schema_version(connection)["catalog_changes"] == before["catalog_changes"]


# Rolled back, nothing remains

CHANGES = (
    "SELECT pg_advisory_xact_lock(77)",
    "SET LOCAL work_mem = '7MB'",
    "SET statement_timeout = 55555",
    "CREATE TABLE made (id serial PRIMARY KEY, v int UNIQUE)",
    "INSERT INTO made (v) SELECT g FROM generate_series(1, 50) g",
    "CREATE INDEX made_again ON made (v DESC)",
    "CREATE SCHEMA inside CREATE TABLE t (a int) CREATE VIEW w AS SELECT * FROM t",
    "CREATE SEQUENCE counted",
    "SELECT nextval('counted')",
    "CREATE ROLE somebody",
    "GRANT SELECT ON kept TO somebody",
    "CREATE TEMP TABLE passing AS SELECT 1 AS a",
    "ALTER TABLE kept ADD COLUMN more int DEFAULT 1, ALTER COLUMN v TYPE text",
    "CREATE INDEX kept_more ON kept (more)",
    "COMMENT ON TABLE kept IS 'changed'",
    "INSERT INTO kept (v) VALUES ('row')",
    "ALTER TABLE kept RENAME TO renamed",
    "TRUNCATE emptied RESTART IDENTITY",
    "INSERT INTO emptied (v) VALUES (1)",
    "ALTER SEQUENCE moved RESTART WITH 1000 INCREMENT BY 7",
    "SELECT nextval('moved')",
    "DROP TABLE gone CASCADE",
    "CREATE TABLE gone (other text)",
)
FINGERPRINT = (
    "SELECT relname, relkind, relnamespace::regnamespace::text, obj_description(oid), relacl::text"
    " FROM pg_class WHERE relnamespace::regnamespace::text NOT LIKE 'pg_%'"
    " AND relnamespace::regnamespace::text <> 'information_schema' ORDER BY 1, 2",
    "SELECT attrelid::regclass::text, attname, atttypid::regtype::text FROM pg_attribute"
    " WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)"
    " AND attnum > 0 ORDER BY 1, attnum",
    "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_%' ORDER BY 1",
    "SELECT rolname FROM pg_roles ORDER BY 1",
    "SELECT * FROM pg_sequence ORDER BY 1",
    "SELECT * FROM kept ORDER BY id",
    "SELECT * FROM emptied ORDER BY id",
    "SELECT * FROM gone",
    "SELECT last_value, is_called FROM moved",
    "SELECT locktype, mode FROM pg_locks WHERE locktype IN ('advisory', 'object', 'tuple')",
)


def create_kept(connection: psycopg.Connection) -> None:
    for statement in (
        "CREATE TABLE kept (id serial PRIMARY KEY, v int)",
        "INSERT INTO kept (v) VALUES (1), (2)",
        "CREATE TABLE emptied (id int GENERATED ALWAYS AS IDENTITY, v int)",
        "INSERT INTO emptied (v) VALUES (1), (2)",
        "CREATE SEQUENCE moved START 30",
        "CREATE TABLE gone (a int)",
        "INSERT INTO gone VALUES (1)",
        "CREATE TABLE contended (id int PRIMARY KEY, v int)",
        "INSERT INTO contended VALUES (1, 1)",
    ):
        connection.execute(statement)


def fingerprint(connection: psycopg.Connection) -> list[list[tuple]]:
    return [connection.execute(query).fetchall() for query in FINGERPRINT]


def _rolls_back(node: NodeProcess, session: psycopg.Connection) -> None:
    del node
    session.execute("ROLLBACK")


def _rolls_back_to(node: NodeProcess, session: psycopg.Connection) -> None:
    del node
    session.execute("ROLLBACK TO start")
    session.execute("COMMIT")


def _fails(node: NodeProcess, session: psycopg.Connection) -> None:
    del node
    with pytest.raises(errors.DivisionByZero):
        session.execute("SELECT 1 / 0")
    assert session.execute("COMMIT").statusmessage == "ROLLBACK"


def _fails_in_commit(node: NodeProcess, session: psycopg.Connection) -> None:
    del node
    session.execute("CREATE TABLE child (a int REFERENCES made DEFERRABLE INITIALLY DEFERRED)")
    session.execute("INSERT INTO child VALUES (12345)")
    with pytest.raises(errors.ForeignKeyViolation):
        session.execute("COMMIT")


def _loses_its_connection(node: NodeProcess, session: psycopg.Connection) -> None:
    del node
    session.pgconn.finish()


def _is_cancelled(node: NodeProcess, session: psycopg.Connection) -> None:
    with node.connect() as other:
        timer = threading.Timer(
            0.05, other.execute, (f"SELECT pg_cancel_backend({session.info.backend_pid})",)
        )
        timer.start()
        with pytest.raises(errors.QueryCanceled):
            session.execute("SELECT pg_sleep(20)")
        timer.join()
    session.execute("ROLLBACK")


def _is_terminated(node: NodeProcess, session: psycopg.Connection) -> None:
    with node.connect() as other:
        other.execute(f"SELECT pg_terminate_backend({session.info.backend_pid})")


def _times_out(node: NodeProcess, session: psycopg.Connection) -> None:
    del node
    session.execute("SET LOCAL statement_timeout = 20")
    with pytest.raises(errors.QueryCanceled):
        session.execute("SELECT pg_sleep(20)")
    session.execute("ROLLBACK")


def _cannot_be_serialized(node: NodeProcess, session: psycopg.Connection) -> None:
    with node.connect() as other:
        other.execute("UPDATE contended SET v = v + 1")
    with pytest.raises(errors.SerializationFailure):
        session.execute("UPDATE contended SET v = v + 1")
    session.execute("ROLLBACK")


ENDINGS = (
    _rolls_back,
    _rolls_back_to,
    _fails,
    _fails_in_commit,
    _loses_its_connection,
    _is_cancelled,
    _is_terminated,
    _times_out,
    _cannot_be_serialized,
)


def change_in_vain(
    node: NodeProcess, end: Callable[[NodeProcess, psycopg.Connection], None]
) -> None:
    """Change everything in a transaction that comes to nothing; nothing may remain."""
    with node.connect() as observer:
        before, version = fingerprint(observer), schema_version(observer)
        session = node.connect()
        settings = [value(session, f"SHOW {name}") for name in ("work_mem", "statement_timeout")]
        level = "REPEATABLE READ" if end is _cannot_be_serialized else "READ COMMITTED"
        session.execute(f"BEGIN ISOLATION LEVEL {level}")
        session.execute("SELECT 1 FROM kept")
        session.execute("SAVEPOINT start")
        for statement in CHANGES:
            session.execute(statement)
        assert value(session, "SELECT count(*) FROM made WHERE v > 40") == 10
        end(node, session)
        if not session.closed and end is not _is_terminated:
            assert [
                value(session, f"SHOW {name}") for name in ("work_mem", "statement_timeout")
            ] == settings
            session.close()
        # A connection that breaks is noticed a moment later.
        wait_until(lambda: value(observer, "SELECT count(*) FROM pg_stat_activity") == 1)
        assert fingerprint(observer) == before
        assert schema_version(observer)["catalog_changes"] == version["catalog_changes"]


@pytest.fixture(scope="module")
def own_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    store = tmp_path_factory.mktemp("in_vain") / "store"
    with running(store, "--wal-segment-bytes", str(SEGMENT_BYTES)) as node:
        with node.connect() as connection:
            create_kept(connection)
        yield node


@pytest.mark.parametrize("end", ENDINGS, ids=lambda end: end.__name__.strip("_"))
def test_nothing_remains_of_a_transaction_that(
    end: Callable[[NodeProcess, psycopg.Connection], None], own_node: NodeProcess
) -> None:
    change_in_vain(own_node, end)


def keys_of(store: Path) -> list[bytes]:
    with recovered(store) as (_, group):
        return [key for key, _ in group.rows.scan(b"\0", None, 1 << 30)]


def test_no_key_of_it_remains_in_the_store(store: Path) -> None:
    with running(store, "--wal-segment-bytes", str(SEGMENT_BYTES)) as node:
        with node.connect() as connection:
            create_kept(connection)
        node.stop()
        before = keys_of(store)
        node.start()
        for end in (_rolls_back, _fails, _loses_its_connection):
            change_in_vain(node, end)
        session = node.connect()
        session.execute("BEGIN")
        for statement in CHANGES:
            session.execute(statement)
        node.kill()
        require_no_orphans(store)
        assert keys_of(store) == before


# Two sessions, one name

NAMED = {
    "table": ("CREATE TABLE x (a int)", "42P07"),
    "view": ("CREATE VIEW x AS SELECT 1 AS a", "42P07"),
    "sequence": ("CREATE SEQUENCE x", "42P07"),
    "table as": ("CREATE TABLE x AS SELECT 1 AS a", "42P07"),
    "index": ("CREATE INDEX x ON o (id)", "42P07"),
    "rename": ("ALTER TABLE r RENAME TO x", "42P07"),
    "schema": ("CREATE SCHEMA x", "42P06"),
    "role": ("CREATE ROLE x", "42710"),
}


@pytest.mark.parametrize("second", [name for name in NAMED if name not in ("schema", "role")])
@pytest.mark.parametrize("first", ["table", "view", "sequence"])
def test_one_of_two_gets_the_name(first: str, second: str, node: NodeProcess) -> None:
    with node.connect() as connection:
        connection.execute("CREATE TABLE o (id int)")
        connection.execute("CREATE TABLE r (id int)")
        with connection.transaction():
            connection.execute(NAMED[first][0])
            waiting = Waiting(node, NAMED[second][0]).until_waiting(connection)
        assert waiting.outcome() == NAMED[second][1]
        assert value(connection, "SELECT count(*) FROM pg_class WHERE relname = 'x'") == 1


@pytest.mark.parametrize("kind", ["schema", "role"])
@pytest.mark.parametrize("is_committed", [True, False])
def test_one_of_two_gets_a_name_outside_of_schemas(
    kind: str, is_committed: bool, node: NodeProcess
) -> None:
    statement, sqlstate = NAMED[kind]
    with node.connect(autocommit=False) as connection:
        connection.execute(statement)
        with node.connect() as observer:
            waiting = Waiting(node, statement).until_waiting(observer)
        if is_committed:
            connection.commit()
        else:
            connection.rollback()
        try:
            assert waiting.outcome() == (sqlstate if is_committed else "")
        finally:
            connection.rollback()
            connection.execute(f"DROP {kind.upper()} x")
            connection.commit()


def test_if_not_exists_sees_what_it_has_waited_for(node: NodeProcess) -> None:
    with node.connect() as connection:
        with connection.transaction():
            connection.execute("CREATE TABLE x (a int)")
            waiting = Waiting(node, "CREATE TABLE IF NOT EXISTS x (b int)").until_waiting(
                connection
            )
        assert waiting.outcome() == ""
        assert waiting.notices == ['relation "x" already exists, skipping']


@pytest.mark.parametrize(
    ("statement", "query", "expected"),
    [
        (
            "GRANT SELECT ON t TO PUBLIC",
            "SELECT relacl::text FROM pg_class WHERE relname = 't'",
            "=r/",
        ),
        ("COMMENT ON TABLE t IS 'words'", "SELECT obj_description('t'::regclass)", "words"),
        ("COMMENT ON COLUMN t.a IS 'words'", "SELECT col_description('t'::regclass, 1)", "words"),
        ("ANALYZE t", "SELECT reltuples::text FROM pg_class WHERE relname = 't'", "1"),
    ],
)
def test_who_waits_for_an_alteration_keeps_it(
    statement: str, query: str, expected: str, node: NodeProcess
) -> None:
    """PostgreSQL reports ``tuple concurrently updated`` for some of these."""
    with node.connect() as connection:
        connection.execute("CREATE TABLE t (a int)")
        connection.execute("INSERT INTO t VALUES (1)")
        with connection.transaction():
            connection.execute("ALTER TABLE t ADD COLUMN n int DEFAULT 5")
            waiting = Waiting(node, statement).until_waiting(connection)
        assert waiting.outcome() == ""
        assert expected in str(value(connection, query))
        assert value(connection, "SELECT n FROM t") == 5


def test_a_deadlock_over_names_has_a_victim(node: NodeProcess) -> None:
    with node.connect() as connection:
        with connection.transaction():
            connection.execute("CREATE TABLE x (a int)")
            waiting = Waiting(node, "BEGIN; CREATE TABLE y (a int); CREATE TABLE x (b int)")
            waiting.until_waiting(connection)
            connection.execute("CREATE TABLE y (b int)")
        assert waiting.outcome() == "40P01"
        assert value(connection, "SELECT count(*) FROM pg_class WHERE relname IN ('x', 'y')") == 2


# Many sessions at once

SESSIONS = 50
TRANSACTIONS = 6
SHARED = 8


class Mixer(threading.Thread):
    """Creates and drops tables of its own, and some that everybody wants; notes what it commits."""

    def __init__(self, node: NodeProcess, number: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._number = number
        self._random = random.Random(seed)
        self.committed: set[str] = set()
        self.own: dict[str, str] = {}
        self.commit_count = 0
        self.refused: list[str] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            connection = self._node.connect(autocommit=False)
            for round_number in range(TRANSACTIONS):
                label = f"c_{self._number}_{round_number}"
                ending = self._random.choice(("commit", "commit", "rollback", "disconnect"))
                own = dict(self.own)
                try:
                    self._change(connection, label, own)
                    if ending == "commit":
                        connection.commit()
                except (
                    errors.DuplicateTable,
                    errors.UndefinedTable,
                    errors.DeadlockDetected,
                ) as error:
                    self.refused.append(str(error.sqlstate))
                    ending = "rollback"
                if ending == "commit":
                    self.committed.add(label)
                    self.own = own
                    self.commit_count += 1
                elif ending == "rollback":
                    connection.rollback()
                else:
                    connection.close()
                    connection = self._node.connect(autocommit=False)
        except Exception as error:  # noqa: BLE001  the test reports it
            self.failure = error

    def _change(self, connection: psycopg.Connection, label: str, own: dict[str, str]) -> None:
        names = [f"own_{self._number}_{self._random.randrange(2)}"]
        if self._random.random() < 0.5:
            names.append(f"shared_{self._random.randrange(SHARED)}")
        for name in names:
            if name in own or (name.startswith("shared") and self._random.random() < 0.4):
                connection.execute(f"DROP TABLE {name}")
                own.pop(name, None)
            if self._random.random() < 0.7:
                connection.execute(f"CREATE TABLE {name} (id serial PRIMARY KEY, label text)")
                connection.execute(f"ALTER TABLE {name} ADD COLUMN {label} int DEFAULT 1")
                connection.execute(f"INSERT INTO {name} (label) VALUES ('{label}')")
                connection.execute(f"CREATE INDEX ON {name} (label)")
                if name.startswith("own"):
                    own[name] = label
        connection.execute("INSERT INTO log VALUES (%s)", (label,))
        connection.execute(f"CREATE SEQUENCE IF NOT EXISTS seq_{self._number}")


def test_fifty_sessions_never_mix(node: NodeProcess) -> None:
    seed = int(os.environ.get("DDL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"DDL_SEED={seed}")
    chance = random.Random(seed)
    with node.connect() as connection:
        connection.execute("CREATE TABLE log (label text PRIMARY KEY)")
        before = schema_version(connection)
        mixers = [Mixer(node, number, chance.randrange(1 << 32)) for number in range(SESSIONS)]
        for mixer in mixers:
            mixer.start()
        for mixer in mixers:
            mixer.join(90)
            assert not mixer.is_alive(), "a session hangs"
            assert mixer.failure is None, mixer.failure
        committed = set().union(*(mixer.committed for mixer in mixers))
        refused = [sqlstate for mixer in mixers for sqlstate in mixer.refused]
        print(f"{len(committed)} committed, refused: {sorted(refused)}")
        assert len(committed) > SESSIONS
        assert {label for (label,) in connection.execute("SELECT label FROM log")} == committed
        _check_mixed(connection, mixers, committed)
        # A transaction that only notes itself has no DDL, so it is not in the audit.
        after = schema_version(connection)
        audited = value(
            connection,
            "SELECT count(*) FROM nodedb_ddl_audit"
            f" WHERE metadata_index > {before['schema_version']}",
        )
        changes = after["catalog_changes"] - before["catalog_changes"]
        assert audited == changes
        assert changes <= sum(mixer.commit_count for mixer in mixers)


def _check_mixed(connection: psycopg.Connection, mixers: list[Mixer], committed: set[str]) -> None:
    """Every table is wholly of one committed transaction: its column, its row, its index."""
    query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(own|shared)_'"
    names = {name for (name,) in connection.execute(query)}
    own = {name: label for mixer in mixers for name, label in mixer.own.items()}
    assert {name for name in names if name.startswith("own")} == set(own)
    for name in sorted(names):
        found = connection.execute(f"SELECT * FROM {name}")
        assert found.description is not None
        columns = [column.name for column in found.description]
        ((number, label, one),) = found.fetchall()
        assert (number, one) == (1, 1)
        assert columns == ["id", "label", label], name
        assert label in committed, name
        assert own.get(name, label) == label, name
        by_index = connection.execute(f"SELECT id FROM {name} WHERE label = '{label}'").fetchall()
        assert by_index == [(1,)]
        query = f"SELECT count(*) FROM pg_index WHERE indrelid = '{name}'::regclass"
        assert value(connection, query) == 2, name


# Savepoints


def test_a_thousand_savepoints_over_rows_and_ddl(connection: psycopg.Connection) -> None:
    with connection.transaction():
        for number in range(1000):
            connection.execute(f"SAVEPOINT s{number}")
            if number % 20 == 0:
                connection.execute(f"CREATE TABLE t{number} (a int)")
            connection.execute(f"INSERT INTO t{number // 20 * 20} VALUES ({number})")
        connection.execute("ROLLBACK TO s510")
        assert value(connection, "SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$'") == 26
        assert value(connection, "SELECT max(a) FROM t500") == 509
        connection.execute("RELEASE s100")
        with pytest.raises(errors.InvalidSavepointSpecification), connection.transaction():
            connection.execute("ROLLBACK TO s510")
        connection.execute("ROLLBACK TO s99")
        connection.execute("INSERT INTO t80 VALUES (-1)")
    assert value(connection, "SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$'") == 5
    assert value(connection, "SELECT min(a) FROM t80") == -1
    assert value(connection, "SELECT max(a) FROM t80") == 98
