"""SQLAlchemy's core over asyncpg: DDL, reflection, transactions, typed columns."""

import asyncio
import datetime
import decimal
import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tests.e2e.node_process import NodeProcess

metadata = sa.MetaData()
author = sa.Table(
    "author",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(50), nullable=False, unique=True),
)
book = sa.Table(
    "book",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("author_id", sa.ForeignKey("author.id", ondelete="CASCADE"), index=True),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("published", sa.DateTime(timezone=True)),
    sa.Column("tags", postgresql.ARRAY(sa.Text)),
    sa.Column("extra", postgresql.JSONB),
    sa.Column("key", sa.Uuid),
)


def run(node: NodeProcess, work) -> None:
    async def main() -> None:
        url = f"postgresql+asyncpg://nodedb@{node.host}:{node.port}/nodedb?ssl=disable"
        engine = create_async_engine(url)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(metadata.create_all)
                await connection.commit()
                await work(connection)
        finally:
            await engine.dispose()

    asyncio.run(asyncio.wait_for(main(), 90))


def test_insert_and_select(node: NodeProcess) -> None:
    async def work(connection: AsyncConnection) -> None:
        inserted = await connection.execute(
            author.insert().values(name="Ada").returning(author.c.id)
        )
        author_id = inserted.scalar_one()
        assert author_id == 1
        await connection.execute(
            book.insert(), [{"author_id": author_id, "price": p} for p in (1, 2, 3)]
        )
        total = (
            sa.select(author.c.name, sa.func.sum(book.c.price)).join(book).group_by(author.c.name)
        )
        assert (await connection.execute(total)).all() == [("Ada", decimal.Decimal("6.00"))]
        page = sa.select(book.c.id).order_by(book.c.id.desc()).limit(2).offset(1)
        assert (await connection.execute(page)).scalars().all() == [2, 1]
        await connection.commit()

    run(node, work)


def test_types_in_binary(node: NodeProcess) -> None:
    row = {
        "price": decimal.Decimal("12.34"),
        "published": datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC),
        "tags": ["a", "b"],
        "extra": {"a": [1, None, "x"]},
        "key": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    }

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(book.insert().values(**row))
        found = (await connection.execute(sa.select(book))).mappings().one()
        assert {name: found[name] for name in row} == row
        has_tag = sa.select(sa.func.count()).where(book.c.tags.contains(["a"]))
        assert (await connection.execute(has_tag)).scalar_one() == 1

    run(node, work)


def test_transactions(node: NodeProcess) -> None:
    async def work(connection: AsyncConnection) -> None:
        async with connection.begin():
            await connection.execute(author.insert().values(name="kept"))
        async with connection.begin() as transaction:
            await connection.execute(author.insert().values(name="undone"))
            await transaction.rollback()
        names = (await connection.execute(sa.select(author.c.name))).scalars().all()
        assert names == ["kept"]

    run(node, work)


def test_integrity_error_in_a_savepoint(node: NodeProcess) -> None:
    async def work(connection: AsyncConnection) -> None:
        async with connection.begin():
            await connection.execute(author.insert().values(name="one"))
            with pytest.raises(IntegrityError):
                async with connection.begin_nested():
                    await connection.execute(author.insert().values(name="one"))
            with pytest.raises(IntegrityError):
                async with connection.begin_nested():
                    await connection.execute(book.insert().values(author_id=999))
            await connection.execute(author.insert().values(name="two"))
        count = await connection.execute(sa.select(sa.func.count()).select_from(author))
        assert count.scalar_one() == 2

    run(node, work)


def test_cursors(node: NodeProcess) -> None:
    async def work(connection: AsyncConnection) -> None:
        rows = await connection.stream(sa.text("SELECT i FROM generate_series(1, 2500) i"))
        assert [row.i async for row in rows] == list(range(1, 2501))

    run(node, work)


def test_errors(node: NodeProcess) -> None:
    async def work(connection: AsyncConnection) -> None:
        with pytest.raises(ProgrammingError, match='relation "nowhere" does not exist'):
            await connection.execute(sa.text("SELECT * FROM nowhere"))
        await connection.rollback()
        assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1

    run(node, work)


def test_reflection(node: NodeProcess) -> None:
    async def work(connection: AsyncConnection) -> None:
        reflected = sa.MetaData()
        await connection.run_sync(reflected.reflect)
        table = reflected.tables["book"]
        assert [column.name for column in table.primary_key] == ["id"]
        assert isinstance(table.c.price.type, sa.Numeric)
        assert table.c.price.type.scale == 2
        assert {key.target_fullname for key in table.foreign_keys} == {"author.id"}
        assert {index.name for index in table.indexes} == {"ix_book_author_id"}
        await connection.run_sync(metadata.drop_all)
        names = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        assert names == ["item"]

    run(node, work)


def test_upsert(node: NodeProcess) -> None:
    async def work(connection: AsyncConnection) -> None:
        insert = postgresql.insert(author).values(id=1, name="old")
        for name in ("first", "second"):
            upsert = insert.on_conflict_do_update(index_elements=["id"], set_={"name": name})
            await connection.execute(upsert)
        assert (await connection.execute(sa.select(author.c.name))).scalar_one() == "second"

    run(node, work)
