"""pg8000: pure Python, unnamed statements, text formats."""

import datetime
import decimal
import io
import uuid
from collections.abc import Iterator

import pg8000.dbapi
import pg8000.native
import pytest

from tests.e2e.node_process import NodeProcess

VALUES = [
    ("bool", True),
    ("int4", -(2**31)),
    ("int8", 2**63 - 1),
    ("float8", 0.1),
    ("numeric", decimal.Decimal("-12345678901234567890.000123")),
    ("text", "grün ☃"),
    ("bytea", bytes(range(256))),
    ("date", datetime.date(1969, 7, 20)),
    ("timestamp", datetime.datetime(2024, 2, 29, 12, 30, 0, 123456)),
    ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("int4[]", [1, None, 3]),
]


@pytest.fixture
def client(node: NodeProcess) -> Iterator[pg8000.dbapi.Connection]:
    connection = pg8000.dbapi.connect(
        user="nodedb", host=node.host, port=node.port, database="nodedb", timeout=60
    )
    yield connection
    connection.close()


def run(client: pg8000.dbapi.Connection, statement: str, parameters: tuple = ()) -> list:
    cursor = client.cursor()
    cursor.execute(statement, parameters)
    return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def test_insert_and_select(client) -> None:
    client.cursor().executemany("INSERT INTO item VALUES (%s, %s)", [(1, "one"), (2, "two")])
    assert run(client, "SELECT * FROM item WHERE name = %s", ("two",)) == [(2, "two")]
    client.commit()


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_types_in_text(client, type_name: str, value: object) -> None:
    run(client, f"CREATE TABLE v (x {type_name})")
    run(client, "INSERT INTO v VALUES (%s)", (value,))
    assert run(client, "SELECT x FROM v") == [(value,)]


def test_transactions(client) -> None:
    run(client, "INSERT INTO item VALUES (1, 'kept')")
    client.commit()
    run(client, "INSERT INTO item VALUES (2, 'undone')")
    client.rollback()
    assert run(client, "SELECT id FROM item") == [(1,)]


def test_integrity_error_in_a_savepoint(client) -> None:
    run(client, "INSERT INTO item VALUES (1, 'one')")
    run(client, "SAVEPOINT s")
    with pytest.raises(pg8000.dbapi.DatabaseError) as caught:
        run(client, "INSERT INTO item VALUES (1, 'again')")
    assert caught.value.args[0]["C"] == "23505"
    run(client, "ROLLBACK TO s")
    run(client, "INSERT INTO item VALUES (2, 'two')")
    client.commit()
    assert run(client, "SELECT count(*) FROM item") == [(2,)]


def test_copy(client) -> None:
    cursor = client.cursor()
    cursor.execute("COPY item FROM STDIN (FORMAT csv)", stream=io.BytesIO(b"1,one\n2,two\n"))
    target = io.BytesIO()
    cursor.execute("COPY item TO STDOUT", stream=target)
    assert target.getvalue() == b"1\tone\n2\ttwo\n"


def test_prepared_statements(node: NodeProcess) -> None:
    client = pg8000.native.Connection(
        "nodedb", host=node.host, port=node.port, database="nodedb", timeout=60
    )
    statement = client.prepare("SELECT :a::int + 1")
    assert [statement.run(a=i) for i in range(5)] == [[[i + 1]] for i in range(5)]
    statement.close()
    client.close()


def test_errors(client) -> None:
    with pytest.raises(pg8000.dbapi.DatabaseError) as caught:
        run(client, "SELECT * FROM nowhere")
    assert caught.value.args[0]["C"] == "42P01"
    assert caught.value.args[0]["P"] == "15"
    client.rollback()
    assert run(client, "SELECT 1") == [(1,)]
