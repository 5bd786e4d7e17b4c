"""asyncpg: binary formats everywhere, prepared statements, COPY, cancellation by task."""

import asyncio
import datetime
import decimal
import io
import uuid

import asyncpg
import pytest

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
    ("varchar(10)", "short"),
    ("bytea", bytes(range(256))),
    ("date", datetime.date(1969, 7, 20)),
    ("time", datetime.time(23, 59, 59, 999999)),
    ("timestamp", datetime.datetime(2024, 2, 29, 12, 30, 0, 123456)),
    ("timestamptz", datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)),
    ("interval", datetime.timedelta(days=3, seconds=5, microseconds=7)),
    ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("jsonb", '{"a": [1, null, "x"]}'),
    ("int4[]", [1, None, 3]),
    ("text[]", ["a", 'with "quotes"', None]),
]


def run(node: NodeProcess, work) -> None:
    """Run ``work(connection)`` on a fresh connection and event loop."""

    async def main() -> None:
        connection = await connect(node)
        try:
            await work(connection)
        finally:
            await connection.close(timeout=10)

    asyncio.run(asyncio.wait_for(main(), 60))


async def connect(node: NodeProcess) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=node.host, port=node.port, user="nodedb", database="nodedb", ssl=False, timeout=20
    )


def test_insert_and_select(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        assert (
            await connection.execute("INSERT INTO item VALUES ($1, $2)", 1, "one") == "INSERT 0 1"
        )
        await connection.executemany("INSERT INTO item VALUES ($1, $2)", [(2, "two"), (3, "three")])
        rows = await connection.fetch("SELECT id, name FROM item WHERE id > $1 ORDER BY id", 1)
        assert [tuple(row) for row in rows] == [(2, "two"), (3, "three")]
        assert (
            await connection.fetchval("UPDATE item SET name = 'x' WHERE id = 1 RETURNING name")
            == "x"
        )

    run(node, work)


@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_types_in_binary(node: NodeProcess, type_name: str, value: object) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(f"CREATE TABLE v (x {type_name})")
        await connection.execute("INSERT INTO v VALUES ($1), (NULL)", value)
        rows = await connection.fetch("SELECT x FROM v")
        assert [row["x"] for row in rows] == [value, None]

    run(node, work)


def test_transactions(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO item VALUES (1, 'kept')")
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO item VALUES (2, 'undone')")
                    raise ZeroDivisionError
        assert await connection.fetchval("SELECT count(*) FROM item") == 1

    run(node, work)


def test_integrity_error_in_a_savepoint(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO item VALUES (1, 'one')")
            with pytest.raises(asyncpg.UniqueViolationError) as caught:
                async with connection.transaction():
                    await connection.execute("INSERT INTO item VALUES (1, 'again')")
            assert caught.value.constraint_name == "item_pkey"
            await connection.execute("INSERT INTO item VALUES (2, 'two')")
        assert (
            await connection.fetchval("SELECT string_agg(name, ',' ORDER BY id) FROM item")
            == "one,two"
        )

    run(node, work)


def test_copy(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        records = [(i, f"name {i}") for i in range(1000)]
        assert await connection.copy_records_to_table("item", records=records) == "COPY 1000"
        target = io.BytesIO()
        done = await connection.copy_from_query(
            "SELECT * FROM item WHERE id < $1 ORDER BY id", 2, output=target, format="csv"
        )
        assert done == "COPY 2"
        assert target.getvalue() == b"0,name 0\n1,name 1\n"

    run(node, work)


def test_cancel(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetch("SELECT pg_sleep(30)", timeout=0.2)
        assert await connection.fetchval("SELECT 1") == 1

    run(node, work)


def test_prepared_statements(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        statement = await connection.prepare("SELECT $1::int + $2::int AS sum")
        assert [p.name for p in statement.get_parameters()] == ["int4", "int4"]
        assert [a.name for a in statement.get_attributes()] == ["sum"]
        assert [await statement.fetchval(i, 1) for i in range(20)] == list(range(1, 21))

    run(node, work)


def test_cursors(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            cursor = connection.cursor(
                "SELECT i FROM generate_series(1, 2500) i ORDER BY i", prefetch=100
            )
            assert [row["i"] async for row in cursor] == list(range(1, 2501))

    run(node, work)


def test_notifications(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        received: asyncio.Queue[str] = asyncio.Queue()
        await connection.add_listener("news", lambda *arguments: received.put_nowait(arguments[3]))
        other = await connect(node)
        await other.execute("NOTIFY news, 'hello'")
        assert await asyncio.wait_for(received.get(), 20) == "hello"
        await other.close(timeout=10)

    run(node, work)


def test_errors(node: NodeProcess) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        with pytest.raises(asyncpg.UndefinedTableError) as caught:
            await connection.fetch("SELECT * FROM nowhere")
        assert caught.value.position == "15"
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("SELECT 1 / $1::int", 0)
        assert await connection.fetchval("SELECT 1") == 1

    run(node, work)


def test_pool(node: NodeProcess) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(
            host=node.host,
            port=node.port,
            user="nodedb",
            database="nodedb",
            ssl=False,
            min_size=2,
            max_size=4,
        ) as pool:
            await asyncio.gather(
                *(pool.execute("INSERT INTO item VALUES ($1, $2)", i, str(i)) for i in range(40))
            )
            assert await pool.fetchval("SELECT count(*) FROM item") == 40

    asyncio.run(asyncio.wait_for(main(), 60))
