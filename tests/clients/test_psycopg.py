"""psycopg 3: text and binary results, server-side binding, pipeline mode, COPY, cursors."""

import datetime
import decimal
import threading
import uuid

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.e2e.node_process import NodeProcess

VALUES = [
    ("bool", True),
    ("int2", -32768),
    ("int4", 2**31 - 1),
    ("int8", -(2**63)),
    ("float4", 1.5),
    ("float8", 0.1),
    ("numeric", decimal.Decimal("-12345678901234567890.000123")),
    ("text", "grün ☃ 𝄞"),
    ("bytea", bytes(range(256))),
    ("date", datetime.date(1969, 7, 20)),
    ("time", datetime.time(23, 59, 59, 999999)),
    ("timestamp", datetime.datetime(2024, 2, 29, 12, 30, 0, 123456)),
    ("timestamptz", datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)),
    ("interval", datetime.timedelta(days=3, seconds=5, microseconds=7)),
    ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("int4[]", [1, None, 3]),
    ("text[]", ["a", 'with "quotes"', None]),
]


def check_types(
    observer: psycopg.Connection, type_name: str, value: object, *, binary: bool
) -> None:
    observer.execute(f"CREATE TABLE v (x {type_name})")
    cursor = observer.cursor(binary=binary)
    cursor.execute("INSERT INTO v VALUES (%b)" if binary else "INSERT INTO v VALUES (%t)", (value,))
    assert cursor.execute("SELECT x FROM v").fetchall() == [(value,)]


def test_insert_and_select(observer: psycopg.Connection) -> None:
    observer.cursor().executemany("INSERT INTO item VALUES (%s, %s)", [(1, "one"), (2, "two")])
    assert observer.execute("SELECT name FROM item WHERE id = %s", (2,)).fetchall() == [("two",)]
    assert observer.execute("SELECT * FROM item ORDER BY id").fetchall() == [(1, "one"), (2, "two")]


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_types_in_text(observer: psycopg.Connection, type_name: str, value: object) -> None:
    check_types(observer, type_name, value, binary=False)


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_types_in_binary(observer: psycopg.Connection, type_name: str, value: object) -> None:
    check_types(observer, type_name, value, binary=True)


def test_json(observer: psycopg.Connection) -> None:
    value = {"a": [1, None, "x"], "b": {"c": 1.5}}
    assert observer.execute("SELECT %s::jsonb -> 'b' ->> 'c'", (Jsonb(value),)).fetchone() == (
        "1.5",
    )
    assert observer.execute("SELECT %s::jsonb", (Jsonb(value),)).fetchone() == (value,)


def test_transactions(node: NodeProcess) -> None:
    with node.connect(autocommit=False) as connection:
        with connection.transaction():
            connection.execute("INSERT INTO item VALUES (1, 'kept')")
            with connection.transaction() as inner:
                connection.execute("INSERT INTO item VALUES (2, 'undone')")
                raise psycopg.Rollback(inner)
        assert connection.execute("SELECT id FROM item").fetchall() == [(1,)]


def test_integrity_error_in_a_savepoint(node: NodeProcess) -> None:
    with node.connect(autocommit=False) as connection, connection.transaction():
        connection.execute("INSERT INTO item VALUES (1, 'one')")
        with pytest.raises(errors.UniqueViolation), connection.transaction():
            connection.execute("INSERT INTO item VALUES (1, 'again')")
        with pytest.raises(errors.NotNullViolation), connection.transaction():
            connection.execute("INSERT INTO item VALUES (2, NULL)")
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (1,)


def test_copy(observer: psycopg.Connection) -> None:
    with observer.cursor() as cursor:
        with cursor.copy("COPY item FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(1000):
                copy.write_row((i, f"name {i}"))
        with cursor.copy("COPY (SELECT * FROM item WHERE id < 2 ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == [(0, "name 0"), (1, "name 1")]


def test_cancel(observer: psycopg.Connection) -> None:
    timer = threading.Timer(0.3, observer.cancel_safe)
    timer.start()
    with pytest.raises(errors.QueryCanceled):
        observer.execute("SELECT pg_sleep(30)")
    timer.join()
    assert observer.execute("SELECT 1").fetchone() == (1,)


def test_prepared_statements(observer: psycopg.Connection) -> None:
    for i in range(20):
        row = observer.execute("SELECT %s::int + 1", (i,), prepare=True).fetchone()
        assert row == (i + 1,)
    assert observer.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (1,)


def test_pipeline(observer: psycopg.Connection) -> None:
    with observer.pipeline():
        cursors = [
            observer.execute("INSERT INTO item VALUES (%s, 'x') RETURNING id", (i,))
            for i in range(50)
        ]
        assert [cursor.fetchone() for cursor in cursors] == [(i,) for i in range(50)]


def test_errors_in_a_pipeline(observer: psycopg.Connection) -> None:
    with pytest.raises(errors.DivisionByZero):
        with observer.pipeline():
            observer.execute("INSERT INTO item VALUES (1, 'undone')")
            observer.execute("SELECT 1 / %s::int", (0,))
            observer.execute("INSERT INTO item VALUES (2, 'never')")
    assert observer.execute("SELECT count(*) FROM item").fetchone() == (0,)


def test_cursors(node: NodeProcess) -> None:
    with node.connect(autocommit=False) as connection:
        with connection.cursor("c", scrollable=True) as cursor:
            cursor.execute("SELECT i FROM generate_series(1, 2500) i")
            assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
            cursor.scroll(2000, mode="absolute")
            assert cursor.fetchone() == (2001,)


def test_notifications(node: NodeProcess, observer: psycopg.Connection) -> None:
    observer.execute("LISTEN news")
    with node.connect() as other:
        other.execute("NOTIFY news, 'hello'")
    assert [n.payload for n in observer.notifies(timeout=20, stop_after=1)] == ["hello"]


def test_errors(observer: psycopg.Connection) -> None:
    with pytest.raises(errors.UndefinedColumn) as caught:
        observer.execute("SELECT nothing FROM item")
    assert caught.value.diag.statement_position == "8"
    with pytest.raises(errors.UniqueViolation) as violated:
        observer.execute("INSERT INTO item VALUES (1, 'a'), (1, 'b')")
    assert violated.value.diag.table_name == "item"
    assert violated.value.diag.schema_name == "public"
    assert violated.value.diag.constraint_name == "item_pkey"
