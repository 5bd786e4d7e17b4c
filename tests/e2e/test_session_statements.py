"""COPY, time limits, statistics and prepared statements as clients see them."""

import io
import time

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(60)


def copy_in(connection: psycopg.Connection, statement: str, data: str) -> int:
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(data.encode())
        return cursor.rowcount


def copy_out(connection: psycopg.Connection, statement: str) -> bytes:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return b"".join(bytes(part) for part in copy)


@pytest.fixture
def table(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute(
        "CREATE TABLE c (id int PRIMARY KEY, v varchar(5) DEFAULT 'dflt', w numeric(5, 2) CHECK (w > 0), "
        "g int GENERATED ALWAYS AS (id * 2) STORED, n int GENERATED ALWAYS AS IDENTITY)"
    )
    return connection


def test_copy_fills_defaults_identity_and_generated_columns(table: psycopg.Connection) -> None:
    assert copy_in(table, "COPY c (id, w) FROM STDIN", "1\t1.5\n2\t\\N\n") == 2
    assert copy_in(table, "COPY c FROM STDIN", "3\tx\t2\t77\n") == 1
    found = table.execute("SELECT id, v, w::text, g, n FROM c ORDER BY id").fetchall()
    assert found == [(1, "dflt", "1.50", 2, 1), (2, "dflt", None, 4, 2), (3, "x", "2.00", 6, 77)]


def test_copy_where_filters_completed_rows(table: psycopg.Connection) -> None:
    statement = "COPY c (id, w) FROM STDIN WHERE id > 1 AND v = 'dflt'"
    assert copy_in(table, statement, "1\t1\n2\t1\n3\t1\n") == 2
    assert table.execute("SELECT id FROM c ORDER BY id").fetchall() == [(2,), (3,)]
    for where, error in (
        ("g > 1", errors.InvalidColumnReference),
        ("id", errors.DatatypeMismatch),
        ("sum(id) > 1", errors.GroupingError),
        ("(SELECT true)", errors.FeatureNotSupported),
    ):
        with pytest.raises(error):
            copy_in(table, f"COPY c (id) FROM STDIN WHERE {where}", "")


@pytest.mark.parametrize(
    ("data", "state", "where"),
    [
        ("1\ta\t1\nx\tb\t1\n", "22P02", 'COPY c, line 2, column id: "x"'),
        ("1\ttoo long\t1\n", "22001", 'COPY c, line 1, column v: "too long"'),
        ("1\ta\t12345\n", "22003", 'COPY c, line 1, column w: "12345"'),
        ("1\ta\t1\n2\tb\t-1\n3\tc\t1\n", "23514", 'COPY c, line 2: "2\tb\t-1"'),
        ("1\ta\t1\n1\tb\t1\n", "23505", "COPY c, line 2"),
        ("\\N\ta\t1\n", "23502", 'COPY c, line 1: "\\N\ta\t1"'),
        ("1\ta\n", "22P04", 'COPY c, line 1: "1\ta"'),
        ("1\ta\\\nb\t1\n2\tb\\tb\tx\n", "22P02", 'COPY c, line 2, column w: "x"'),
    ],
)
def test_copy_names_the_line_at_fault(
    table: psycopg.Connection, data: str, state: str, where: str
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        copy_in(table, "COPY c (id, v, w) FROM STDIN", data)
    assert (caught.value.diag.sqlstate, caught.value.diag.context) == (state, where)
    assert table.execute("SELECT count(*) FROM c").fetchone() == (0,)


def test_copy_checks_foreign_keys_when_all_rows_are_in(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree)")
    assert copy_in(connection, "COPY tree FROM STDIN", "2\t1\n1\t\\N\n") == 2
    with pytest.raises(errors.ForeignKeyViolation) as caught:
        copy_in(connection, "COPY tree FROM STDIN", "3\t99\n4\t\\N\n")
    assert caught.value.diag.message_detail == 'Key (parent)=(99) is not present in table "tree".'
    assert connection.execute("SELECT count(*) FROM tree").fetchone() == (2,)


def test_copy_evaluates_sequences_for_each_row(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE s (id bigserial PRIMARY KEY, v text)")
    copy_in(connection, "COPY s (v) FROM STDIN", "".join(f"v{n}\n" for n in range(3000)))
    assert connection.execute("SELECT min(id), max(id), count(*) FROM s").fetchone() == (
        1,
        3000,
        3000,
    )


def test_copy_out_escapes_only_what_needs_it(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE o (id int PRIMARY KEY, v text, b bool, d numeric)")
    connection.execute(
        "INSERT INTO o VALUES (1, E'a\\tb\\\\', true, 1.5), (2, NULL, NULL, NULL), (-3, 'plain', false, 0)"
    )
    text = copy_out(connection, "COPY (SELECT * FROM o ORDER BY id) TO STDOUT")
    assert text == b"-3\tplain\tf\t0\n1\ta\\tb\\\\\tt\t1.5\n2\t\\N\t\\N\t\\N\n"
    csv = copy_out(
        connection,
        "COPY (SELECT * FROM o ORDER BY id) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE (v))",
    )
    assert csv == b'id,v,b,d\n-3,"plain",f,0\n1,"a\tb\\",t,1.5\n2,,,\n'


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_a_large_copy_comes_back_the_same(connection: psycopg.Connection, form: str) -> None:
    connection.execute("CREATE TABLE a (id int PRIMARY KEY, v text, f float8, n numeric)")
    connection.execute(
        "INSERT INTO a SELECT g, CASE WHEN g % 7 = 0 THEN NULL ELSE E'x\\n\\t\"' || g END, g / 3.0, g FROM generate_series(1, 5000) g"
    )
    connection.execute("CREATE TABLE b (id int PRIMARY KEY, v text, f float8, n numeric)")
    data = io.BytesIO(copy_out(connection, f"COPY a TO STDOUT (FORMAT {form})"))
    with connection.cursor() as cursor, cursor.copy(f"COPY b FROM STDIN (FORMAT {form})") as copy:
        while part := data.read(1777):
            copy.write(part)
    difference = "SELECT count(*) FROM (TABLE a EXCEPT TABLE b) d"
    assert connection.execute(difference).fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM b").fetchone() == (5000,)


def test_a_time_limit_counts_for_each_statement(connection: psycopg.Connection) -> None:
    connection.execute("SET statement_timeout = '400ms'")
    connection.execute("SELECT pg_sleep(0.3); SELECT pg_sleep(0.3)")
    with pytest.raises(errors.QueryCanceled, match="due to statement timeout"):
        connection.execute("SELECT 1; SELECT pg_sleep(30)")
    connection.execute("SET statement_timeout = 0")
    connection.execute("SELECT pg_sleep(0.6)")


def test_an_active_session_is_not_idle(node: NodeProcess, connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    connection.execute("SET idle_session_timeout = '1s'")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        connection.execute("SELECT id FROM t WHERE id = 1", prepare=True)
        connection.execute("SELECT pg_sleep(0.2)")
    with node.connect() as other:
        other.execute("SELECT pg_sleep(1.5)")
    with pytest.raises(psycopg.OperationalError, match="idle-session timeout"):
        connection.execute("SELECT 1")


def test_statements_are_counted_with_their_rows(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE counted (id int PRIMARY KEY)")
    connection.execute("INSERT INTO counted SELECT generate_series(1, 7)")
    for _ in range(3):
        connection.execute("SELECT id FROM counted")
    connection.execute("SELECT 41 AS apart; SELECT 42 AS together")
    query = "SELECT calls, rows FROM pg_stat_statements WHERE query = %s"
    assert connection.execute(query, ("SELECT id FROM counted",)).fetchone() == (3, 21)
    assert connection.execute(query, ("SELECT 41 AS apart",)).fetchone() == (1, 1)


def test_sets_outside_a_block_survive_a_later_error(connection: psycopg.Connection) -> None:
    connection.execute("SET work_mem = '7MB'")
    connection.execute("SELECT set_config('my.own', 'kept', false)")
    with pytest.raises(errors.DivisionByZero):
        connection.execute("SELECT 1/0")
    with pytest.raises(errors.DivisionByZero):
        connection.execute("SET work_mem = '8MB'; SELECT 1/0")
    assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
    assert connection.execute("SHOW my.own").fetchone() == ("kept",)


def test_a_start_up_packet_sets_only_what_its_role_may(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    connection.execute("DROP ROLE IF EXISTS clerk")
    connection.execute("CREATE ROLE clerk LOGIN")
    with node.connect(user="clerk", options="-c work_mem=9MB -c DateStyle=german") as clerk:
        assert clerk.execute("SHOW work_mem").fetchone() == ("9MB",)
        assert clerk.execute("SHOW datestyle").fetchone() == ("German, DMY",)
    for options, message in (
        ("-c nosuch=1", 'unrecognized configuration parameter "nosuch"'),
        (
            "-c max_connections=5",
            'parameter "max_connections" cannot be changed without restarting the server',
        ),
        ("-c is_superuser=on", 'parameter "is_superuser" cannot be changed'),
        ("-c log_statement=all", 'permission denied to set parameter "log_statement"'),
        ("-c role=nodedb", 'permission denied to set role "nodedb"'),
    ):
        with pytest.raises(psycopg.OperationalError) as caught:
            node.connect(user="clerk", options=options)
        assert message in str(caught.value)
    with node.connect(options="-c role=clerk") as demoted:
        assert demoted.execute("SELECT current_user, session_user").fetchone() == (
            "clerk",
            "nodedb",
        )
        demoted.execute("RESET ROLE")
        assert demoted.execute("SELECT current_user").fetchone() == ("clerk",)
        demoted.execute("SET ROLE NONE")
        assert demoted.execute("SELECT current_user").fetchone() == ("nodedb",)
    connection.execute("DROP ROLE clerk")
