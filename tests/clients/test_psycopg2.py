"""psycopg2: the simple query protocol, literals in the text."""

import datetime
import decimal
import io
import threading
from collections.abc import Iterator

import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest

from tests.e2e.node_process import NodeProcess

VALUES = [
    ("bool", True),
    ("int4", -(2**31)),
    ("int8", 2**63 - 1),
    ("float8", 0.1),
    ("numeric", decimal.Decimal("-12345678901234567890.000123")),
    ("text", "grün ☃ 'quoted' \\ backslash"),
    ("date", datetime.date(1969, 7, 20)),
    ("timestamp", datetime.datetime(2024, 2, 29, 12, 30, 0, 123456)),
    ("interval", datetime.timedelta(days=3, seconds=5, microseconds=7)),
    ("int4[]", [1, None, 3]),
    ("text[]", ["a", 'with "quotes"', None]),
]


@pytest.fixture
def client(node: NodeProcess) -> Iterator["psycopg2.extensions.connection"]:
    connection = psycopg2.connect(node.dsn())
    yield connection
    connection.close()


def one(client, statement: str, parameters=()) -> tuple:
    with client.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()


def test_insert_and_select(client) -> None:
    with client.cursor() as cursor:
        psycopg2.extras.execute_values(
            cursor, "INSERT INTO item VALUES %s", [(1, "one"), (2, "two")]
        )
        assert cursor.rowcount == 2
        cursor.execute("SELECT * FROM item ORDER BY id DESC")
        assert cursor.fetchall() == [(2, "two"), (1, "one")]
    client.commit()


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_types_in_text(client, type_name: str, value: object) -> None:
    with client.cursor() as cursor:
        cursor.execute(f"CREATE TABLE v (x {type_name})")
        cursor.execute("INSERT INTO v VALUES (%s)", (value,))
        cursor.execute("SELECT x FROM v")
        assert cursor.fetchall() == [(value,)]


def test_transactions(client) -> None:
    with client, client.cursor() as cursor:
        cursor.execute("INSERT INTO item VALUES (1, 'kept')")
    with pytest.raises(ZeroDivisionError), client, client.cursor() as cursor:
        cursor.execute("INSERT INTO item VALUES (2, 'undone')")
        raise ZeroDivisionError
    assert one(client, "SELECT count(*) FROM item") == (1,)


def test_integrity_error_in_a_savepoint(client) -> None:
    with client.cursor() as cursor:
        cursor.execute("INSERT INTO item VALUES (1, 'one'); SAVEPOINT s")
        with pytest.raises(psycopg2.errors.UniqueViolation):
            cursor.execute("INSERT INTO item VALUES (1, 'again')")
        cursor.execute("ROLLBACK TO s")
        cursor.execute("INSERT INTO item VALUES (2, 'two')")
    client.commit()
    assert one(client, "SELECT count(*) FROM item") == (2,)


def test_copy(client) -> None:
    with client.cursor() as cursor:
        cursor.copy_expert("COPY item FROM STDIN (FORMAT csv)", io.StringIO("1,one\n2,two\n"))
        target = io.StringIO()
        cursor.copy_expert("COPY item TO STDOUT", target)
    assert target.getvalue() == "1\tone\n2\ttwo\n"


def test_cancel(client) -> None:
    timer = threading.Timer(0.3, client.cancel)
    timer.start()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        one(client, "SELECT pg_sleep(30)")
    timer.join()
    client.rollback()
    assert one(client, "SELECT 1") == (1,)


def test_cursors(client) -> None:
    with client.cursor("c") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT i FROM generate_series(1, 2500) i")
        assert [row[0] for row in cursor] == list(range(1, 2501))


def test_notifications(client, node: NodeProcess) -> None:
    client.autocommit = True
    with client.cursor() as cursor:
        cursor.execute("LISTEN news")
        with node.connect() as other:
            other.execute("NOTIFY news, 'hello'")
        cursor.execute("SELECT 1")
    client.poll()
    assert [n.payload for n in client.notifies] == ["hello"]


def test_errors(client) -> None:
    with pytest.raises(psycopg2.errors.UndefinedTable) as caught:
        one(client, "SELECT * FROM nowhere")
    assert caught.value.diag.statement_position == "15"
    client.rollback()
    with pytest.raises(psycopg2.errors.SyntaxError):
        one(client, "SELEC 1")
