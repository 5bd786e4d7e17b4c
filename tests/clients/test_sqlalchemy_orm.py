"""SQLAlchemy's ORM over psycopg and over asyncpg: transactions, locks, versions, reflection, DDL.

A test takes ``orm``, which runs a function with a session; over asyncpg it runs in the event loop
by ``run_sync``, as SQLAlchemy's documentation does it.
"""

import asyncio
import datetime
import enum
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, ClassVar

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import orm as o
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tests.e2e.node_process import NodeProcess

WAIT_SECONDS = 60.0


class Base(o.DeclarativeBase):
    type_annotation_map: ClassVar = {dict[str, Any]: pg.JSONB, list[str]: pg.ARRAY(sa.Text)}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


membership = sa.Table(
    "membership",
    Base.metadata,
    sa.Column("author_id", sa.ForeignKey("author.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("circle_id", sa.ForeignKey("circle.id", ondelete="CASCADE"), primary_key=True),
)


class Circle(Base):
    __tablename__ = "circle"
    id: o.Mapped[int] = o.mapped_column(primary_key=True)
    name: o.Mapped[str] = o.mapped_column(unique=True)


class Author(Base):
    __tablename__ = "author"
    id: o.Mapped[int] = o.mapped_column(primary_key=True)
    name: o.Mapped[str] = o.mapped_column(sa.String(50), unique=True)
    colour: o.Mapped[Colour | None] = o.mapped_column(
        sa.Enum(Colour, native_enum=False, create_constraint=True)
    )
    born: o.Mapped[datetime.date | None]
    added: o.Mapped[datetime.datetime] = o.mapped_column(
        sa.DateTime(timezone=True), server_default=sa.func.now()
    )
    extra: o.Mapped[dict[str, Any]] = o.mapped_column(server_default="{}")
    labels: o.Mapped[list[str]] = o.mapped_column(default=list)
    books: o.Mapped[list["Book"]] = o.relationship(
        back_populates="author", cascade="all, delete-orphan", order_by="Book.id"
    )
    circles: o.Mapped[list[Circle]] = o.relationship(secondary=membership, backref="members")


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (
        sa.UniqueConstraint("author_id", "title", name="book_title_once"),
        sa.CheckConstraint("price >= 0", name="book_price_sign"),
        sa.Index("book_cheap", "price", postgresql_where=sa.text("price < 10")),
        sa.Index("book_lower_title", sa.text("lower(title)")),
        sa.Index("book_newest", sa.text("id DESC"), postgresql_include=["title"]),
        {"comment": "what an author wrote"},
    )
    id: o.Mapped[int] = o.mapped_column(
        sa.BigInteger, sa.Identity(always=True, start=100, increment=2), primary_key=True
    )
    author_id: o.Mapped[int] = o.mapped_column(
        sa.ForeignKey("author.id", name="book_author", ondelete="CASCADE", deferrable=True)
    )
    title: o.Mapped[str] = o.mapped_column(sa.String(80), comment="on the cover")
    price: o.Mapped[Decimal] = o.mapped_column(sa.Numeric(10, 2), default=0)
    with_tax: o.Mapped[Decimal] = o.mapped_column(
        sa.Numeric(10, 2), sa.Computed("price * 1.2", persisted=True)
    )
    author: o.Mapped[Author] = o.relationship(back_populates="books")


class Document(Base):
    __tablename__ = "document"
    id: o.Mapped[int] = o.mapped_column(primary_key=True)
    kind: o.Mapped[str]
    text: o.Mapped[str]
    version: o.Mapped[int] = o.mapped_column()
    __mapper_args__: ClassVar = {
        "version_id_col": version,
        "polymorphic_on": "kind",
        "polymorphic_identity": "document",
    }


class Letter(Document):
    __tablename__ = "letter"
    id: o.Mapped[int] = o.mapped_column(sa.ForeignKey("document.id"), primary_key=True)
    recipient: o.Mapped[str]
    __mapper_args__: ClassVar = {"polymorphic_identity": "letter"}


class Orm:
    """Sessions over one driver."""

    def __init__(self, node: NodeProcess, driver: str) -> None:
        self.driver = driver
        option = "ssl" if driver == "asyncpg" else "sslmode"
        self.url = f"postgresql+{driver}://nodedb@{node.host}:{node.port}/nodedb?{option}=disable"

    def run(
        self, body: Callable[[o.Session], Any], *, twophase: bool = False, **options: Any
    ) -> Any:
        """Run ``body`` with a session of an engine with these options."""
        if self.driver == "psycopg":
            engine = sa.create_engine(self.url, **options)
            try:
                with o.Session(engine, twophase=twophase) as session:
                    return body(session)
            finally:
                engine.dispose()

        async def main() -> Any:
            engine = create_async_engine(self.url, **options)
            try:
                async with AsyncSession(engine, twophase=twophase) as session:
                    return await session.run_sync(body)
            finally:
                await engine.dispose()

        return asyncio.run(asyncio.wait_for(main(), WAIT_SECONDS))

    def elsewhere(self, body: Callable[[o.Session], Any]) -> Any:
        """Run ``body`` in another connection, while ours keeps its transaction open."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self.run, body).result(WAIT_SECONDS)


@pytest.fixture(params=["psycopg", "asyncpg"])
def orm(node: NodeProcess, request: pytest.FixtureRequest) -> Iterator[Orm]:
    made = Orm(node, request.param)
    made.run(lambda session: (Base.metadata.create_all(session.connection()), session.commit()))
    return made


def sqlstate(error: DBAPIError) -> str:
    return error.orig.sqlstate


def add(name: str, **values: Any) -> Callable[[o.Session], int]:
    """Return a body that adds an author and returns its id."""

    def body(session: o.Session) -> int:
        author = Author(name=name, **values)
        session.add(author)
        session.commit()
        return author.id

    return body


def names(session: o.Session) -> list[str]:
    return list(session.scalars(sa.select(Author.name).order_by(Author.name)))


def test_transactions(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        with session.begin():
            session.add(Author(name="kept"))
        with pytest.raises(ZeroDivisionError), session.begin():
            session.add(Author(name="undone"))
            session.flush()
            assert names(session) == ["kept", "undone"]
            raise ZeroDivisionError
        assert names(session) == ["kept"]
        session.rollback()
        session.add(Author(name="later"))
        session.rollback()
        assert names(session) == ["kept"]

    orm.run(body)


def test_integrity_error_in_a_savepoint(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        with session.begin():
            first = Author(name="one")
            session.add(first)
            refused = []
            for name in ("one", "two", "one", "three"):
                try:
                    with session.begin_nested():
                        session.add(Author(name=name))
                except IntegrityError as error:
                    refused.append((name, sqlstate(error)))
            assert refused == [("one", "23505")] * 2
            with session.begin_nested() as outer:
                session.add(Author(name="four"))
                with session.begin_nested():
                    session.add(Author(name="five"))
                outer.rollback()
            with pytest.raises(IntegrityError) as caught, session.begin_nested():
                session.add(Book(author_id=first.id, title="x", price=-1))
            assert "book_price_sign" in str(caught.value)
        assert names(session) == ["one", "three", "two"]

    orm.run(body)


def test_an_error_spoils_the_transaction(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        session.add_all([Author(name="same"), Author(name="same")])
        with pytest.raises(IntegrityError):
            session.commit()
        with pytest.raises(sa.exc.PendingRollbackError):
            names(session)
        session.rollback()
        assert names(session) == []

    orm.run(body)


def test_row_locks(orm: Orm) -> None:
    orm.run(add("a"))
    orm.run(add("b"))
    orm.run(lambda s: (s.add(Book(author_id=1, title="t")), s.commit()))

    def locked(**options: Any) -> Callable[[o.Session], Any]:
        def body(session: o.Session) -> Any:
            query = sa.select(Author).order_by(Author.name).with_for_update(**options)
            try:
                return [author.name for author in session.scalars(query)]
            except DBAPIError as error:
                return sqlstate(error)

        return body

    def body(session: o.Session) -> None:
        assert session.get(Author, 1, with_for_update=True).name == "a"
        assert orm.elsewhere(locked(nowait=True)) == "55P03"
        assert orm.elsewhere(locked(nowait=True, read=True)) == "55P03"
        assert orm.elsewhere(locked(nowait=True, key_share=True, read=True)) == "55P03"
        assert orm.elsewhere(locked(skip_locked=True)) == ["b"]
        session.rollback()
        session.scalars(sa.select(Author).with_for_update(key_share=True)).all()
        assert orm.elsewhere(locked(nowait=True, key_share=True, read=True)) == ["a", "b"]
        assert orm.elsewhere(locked(nowait=True, read=True)) == "55P03"
        session.rollback()
        joined = sa.select(Book).join(Author).options(o.contains_eager(Book.author))
        assert session.scalars(joined.with_for_update(of=Book)).one().author.name == "a"
        assert orm.elsewhere(locked(nowait=True)) == ["a", "b"]
        session.rollback()
        author = session.get(Author, 2)
        session.refresh(author, with_for_update={"nowait": True})
        assert orm.elsewhere(locked(skip_locked=True)) == ["a"]

    orm.run(body)


def test_waiting_for_a_row_lock(orm: Orm) -> None:
    orm.run(add("a", extra={"n": 0}))
    waiting = threading.Event()

    def second(session: o.Session) -> dict[str, Any]:
        waiting.set()
        return session.get(Author, 1, with_for_update=True).extra

    def body(session: o.Session) -> None:
        author = session.get(Author, 1, with_for_update=True)
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(orm.run, second)
            assert waiting.wait(WAIT_SECONDS)
            author.extra = {"n": 1}
            session.commit()
            assert found.result(WAIT_SECONDS) == {"n": 1}

    orm.run(body)


def test_optimistic_locking(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        session.add_all([Document(text="old"), Letter(text="dear", recipient="r")])
        session.commit()
        document = session.get(Document, 1)
        assert document.version == 1

        def change(other: o.Session) -> int:
            found = other.get(Document, 1)
            found.text = "newer"
            other.commit()
            return found.version

        assert orm.elsewhere(change) == 2
        document.text = "mine"
        with pytest.raises(o.exc.StaleDataError):
            session.commit()
        session.rollback()
        document.text = "mine"
        session.commit()
        assert document.version == 3
        letter = session.scalars(sa.select(Letter)).one()
        letter.recipient = "s"
        letter.text = "hello"
        session.commit()
        assert [d.kind for d in session.scalars(sa.select(Document).order_by(Document.id))] == [
            "document",
            "letter",
        ]

    orm.run(body)


def test_isolation_levels(orm: Orm) -> None:
    orm.run(add("a"))

    def rename(name: str) -> Callable[[o.Session], None]:
        def body(session: o.Session) -> None:
            session.get(Author, 1).name = name
            session.commit()

        return body

    def level_of(session: o.Session) -> str:
        return session.connection().get_isolation_level()

    def conflicting(session: o.Session) -> None:
        assert session.scalar(sa.select(Author.name)) == "a"
        orm.elsewhere(rename("b"))
        assert session.scalar(sa.select(Author.name)) == "a"
        with pytest.raises(DBAPIError) as caught:
            rename("c")(session)
        assert sqlstate(caught.value) == "40001"
        if orm.driver == "psycopg":
            assert isinstance(caught.value, OperationalError)
        session.rollback()
        rename("a")(session)

    for level in ("REPEATABLE READ", "SERIALIZABLE"):
        assert orm.run(level_of, isolation_level=level) == level
        orm.run(conflicting, isolation_level=level)

    def per_connection(session: o.Session) -> None:
        options = {"isolation_level": "SERIALIZABLE", "postgresql_readonly": True}
        connection = session.connection(execution_options=options)
        assert connection.get_isolation_level() == "SERIALIZABLE"
        with pytest.raises(DBAPIError) as caught:
            session.execute(sa.update(Author).values(name="x"))
        assert sqlstate(caught.value) == "25006"
        session.rollback()
        assert level_of(session) == "READ COMMITTED"
        session.rollback()
        connection = session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        connection.execute(sa.update(Author).values(name="at once"))
        session.rollback()
        assert names(session) == ["at once"]

    orm.run(per_connection)


def test_reflection(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        connection = session.connection()
        connection.execute(sa.text("CREATE VIEW cheap AS SELECT id FROM book WHERE price < 10"))
        connection.execute(sa.text("CREATE SCHEMA other"))
        connection.execute(
            sa.text("CREATE TABLE other.note (book bigint REFERENCES public.book, n serial)")
        )
        reflected = sa.MetaData()
        reflected.reflect(connection, views=True)
        reflected.reflect(connection, schema="other")
        assert set(reflected.tables) == {
            *("author", "book", "circle", "document", "item", "letter", "membership"),
            *("cheap", "other.note"),
        }
        book = reflected.tables["book"]
        assert (book.comment, book.c.title.comment) == ("what an author wrote", "on the cover")
        assert (book.c.id.identity.start, book.c.id.identity.increment) == (100, 2)
        assert book.c.id.identity.always
        assert book.c.with_tax.computed.persisted
        (key,) = book.foreign_key_constraints
        assert (key.name, key.ondelete, key.deferrable) == ("book_author", "CASCADE", True)
        inspector = sa.inspect(connection)
        assert inspector.get_check_constraints("book") == [
            {"name": "book_price_sign", "sqltext": "price >= 0::numeric", "comment": None}
        ]
        assert [c["column_names"] for c in inspector.get_unique_constraints("book")] == [
            ["author_id", "title"]
        ]
        indexes = {index["name"]: index for index in inspector.get_indexes("book")}
        assert indexes["book_cheap"]["dialect_options"]["postgresql_where"] == (
            "(price < (10)::numeric)"
        )
        assert indexes["book_lower_title"]["expressions"] == ["lower(title::text)"]
        assert indexes["book_newest"]["column_sorting"] == {"id": ("desc",)}
        assert indexes["book_newest"]["dialect_options"]["postgresql_include"] == ["title"]
        assert "'RED'" in inspector.get_check_constraints("author")[0]["sqltext"]
        author = reflected.tables["author"]
        assert isinstance(author.c.labels.type, pg.ARRAY)
        assert isinstance(author.c.extra.type, pg.JSONB)
        assert str(author.c.added.server_default.arg) == "now()"
        assert sorted(inspector.get_sequence_names()) == [
            *("author_id_seq", "book_id_seq", "circle_id_seq", "document_id_seq"),
        ]
        assert reflected.tables["other.note"].foreign_keys
        # What was reflected makes the same tables again.
        connection.execute(sa.text("DROP SCHEMA other CASCADE"))
        connection.execute(sa.text("DROP VIEW cheap"))
        reflected.remove(reflected.tables["other.note"])
        reflected.remove(reflected.tables["cheap"])
        reflected.drop_all(connection)
        reflected.create_all(connection)
        again = sa.MetaData()
        again.reflect(connection)
        assert set(again.tables) == set(reflected.tables)

    orm.run(body)


def test_automap(orm: Orm) -> None:
    from sqlalchemy.ext.automap import automap_base

    orm.run(add("a"))

    def body(session: o.Session) -> None:
        mapped = automap_base()
        mapped.prepare(autoload_with=session.connection())
        session.add(mapped.classes.book(author_id=1, title="t", price=1))
        session.flush()
        author = session.get(mapped.classes.author, 1)
        assert [book.title for book in author.book_collection] == ["t"]

    orm.run(body)


def test_ddl_rolled_back(orm: Orm) -> None:
    """As a migration tool does it: tables, columns, constraints and rows in one transaction."""
    orm.run(add("a"))

    def body(session: o.Session) -> None:
        def state() -> tuple[Any, ...]:
            inspector = sa.inspect(session.connection())
            return (
                sorted(inspector.get_table_names()),
                [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns("book")],
                sorted(index["name"] for index in inspector.get_indexes("book")),
                inspector.get_foreign_keys("book"),
            )

        before = state()
        more = sa.MetaData()
        sa.Table("version", more, sa.Column("number", sa.String(32), primary_key=True))
        for statement in (
            "ALTER TABLE book ADD COLUMN pages integer DEFAULT 1 NOT NULL",
            "ALTER TABLE book ALTER COLUMN title TYPE text",
            "ALTER TABLE book ALTER COLUMN price DROP NOT NULL",
            "CREATE INDEX book_pages ON book (pages)",
            "ALTER TABLE book RENAME COLUMN pages TO leaves",
            "ALTER TABLE book DROP CONSTRAINT book_author",
            "INSERT INTO book (author_id, title, price, leaves) VALUES (7, 'no author', 1, 2)",
        ):
            session.execute(sa.text(statement))
        more.create_all(session.connection())
        session.execute(sa.text("INSERT INTO version VALUES ('abc')"))
        assert "leaves" in [name for name, _, _ in state()[1]]
        session.rollback()
        assert state() == before
        assert session.scalar(sa.select(sa.func.count()).select_from(Book)) == 0

    orm.run(body)


def test_upsert(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        insert = pg.insert(Author).values([{"name": "a", "labels": ["1"]}, {"name": "b"}])
        upsert = insert.on_conflict_do_update(
            index_elements=[Author.name],
            set_={"labels": Author.labels + insert.excluded.labels},
            where=Author.name != "b",
        ).returning(Author)
        made = session.scalars(upsert, execution_options={"populate_existing": True})
        assert [author.name for author in made] == ["a", "b"]
        assert [author.labels for author in session.scalars(upsert)] == [["1", "1"]]
        nothing = pg.insert(Author).values(name="a").on_conflict_do_nothing()
        assert session.execute(nothing.returning(Author.id)).all() == []

    orm.run(body)


def test_many_rows_with_returning(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        authors = [Author(name=f"n{i}") for i in range(2500)]
        session.add_all(authors)
        session.flush()
        assert [author.id for author in authors] == list(range(1, 2501))
        rows = session.scalars(
            sa.insert(Book).returning(Book, sort_by_parameter_order=True),
            [{"author_id": a.id, "title": a.name, "price": a.id} for a in authors],
        ).all()
        assert [(row.id, row.title, row.with_tax) for row in rows[:2]] == [
            (100, "n0", Decimal("1.20")),
            (102, "n1", Decimal("2.40")),
        ]
        assert [row.id for row in rows] == list(range(100, 5100, 2))
        session.execute(sa.update(Author), [{"id": a.id, "labels": ["x"]} for a in authors])
        changed = sa.update(Book).where(Book.price > 2490).values(price=Book.price + 1)
        assert len(session.scalars(changed.returning(Book.id)).all()) == 10
        deleted = session.execute(sa.delete(Author).where(Author.id > 5))
        assert deleted.rowcount == 2495
        assert session.scalar(sa.select(sa.func.count()).select_from(Book)) == 5

    orm.run(body)


def test_cursors(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        session.execute(sa.insert(Author), [{"name": f"n{i:04}"} for i in range(2000)])
        session.commit()
        query = sa.select(Author).order_by(Author.name).execution_options(yield_per=300)
        seen = 0
        for part in session.scalars(query).partitions():
            seen += len(part)
            assert part[-1].name == f"n{seen - 1:04}"
        assert seen == 2000
        if orm.driver == "psycopg":
            streamed = session.execute(query, execution_options={"stream_results": True})
            assert streamed.fetchmany(2)[1][0].name == "n0001"
            assert session.scalar(sa.text("SELECT count(*) FROM pg_cursors")) == 1
            streamed.close()

    orm.run(body)


def test_relationships(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        ada = Author(name="ada", books=[Book(title="one"), Book(title="two")])
        ada.circles = [Circle(name="c1"), Circle(name="c2")]
        session.add(ada)
        session.commit()
        for option in (o.joinedload, o.selectinload, o.subqueryload):
            session.expunge_all()
            query = sa.select(Author).options(option(Author.books), option(Author.circles))
            found = session.scalars(query).unique().one()
            assert [book.title for book in found.books] == ["one", "two"]
            assert sorted(circle.name for circle in found.circles) == ["c1", "c2"]
        ada = session.scalars(sa.select(Author)).one()
        ada.books.pop(0)
        ada.circles.pop()
        session.commit()
        assert session.scalars(sa.select(Book.title)).all() == ["two"]
        assert session.scalar(sa.select(sa.func.count()).select_from(membership)) == 1
        merged = session.merge(Author(id=ada.id, name="lovelace", colour=Colour.BLUE))
        session.commit()
        assert (merged is ada, merged.colour, merged.extra) == (True, Colour.BLUE, {})
        session.delete(ada)
        session.commit()
        assert session.scalar(sa.select(sa.func.count()).select_from(Book)) == 0

    orm.run(body)


def test_queries(orm: Orm) -> None:
    def body(session: o.Session) -> None:
        session.add_all(
            Author(
                name=name,
                extra={"rank": i, "deep": {"list": [1, {"x": name}]}},
                labels=[name[0], "all"],
                born=datetime.date(1900 + i, 1, 1),
                books=[Book(title=f"{name} {n}", price=10 * n) for n in range(i)],
            )
            for i, name in enumerate(("ada", "bob", "cyd", "dan"))
        )
        session.flush()
        ranked = sa.select(
            Book.title,
            sa.func.row_number().over(partition_by=Book.author_id, order_by=Book.price.desc()),
        ).subquery()
        best = sa.select(ranked.c.title).where(ranked.c[1] == 1).order_by(ranked.c.title)
        assert session.scalars(best).all() == ["bob 0", "cyd 1", "dan 2"]
        totals = (
            sa.select(Author.name, sa.func.coalesce(sa.func.sum(Book.price), 0))
            .outerjoin(Book)
            .group_by(Author.id)
            .having(sa.func.count(Book.id) != 1)
            .order_by(Author.name)
        )
        assert session.execute(totals).all() == [("ada", 0), ("cyd", 10), ("dan", 30)]
        assert session.scalars(
            sa.select(Author.name).where(Author.extra["deep"]["list"][1]["x"].astext == "bob")
        ).all() == ["bob"]
        assert session.scalars(
            sa.select(Author.name).where(
                Author.labels.contains(["c"]), Author.extra["rank"].as_integer() > 1
            )
        ).all() == ["cyd"]
        assert session.scalars(
            sa.select(Author.name).where(Author.born.in_([datetime.date(1901, 1, 1)]))
        ).all() == ["bob"]
        numbers = sa.select(sa.literal(1).label("n")).cte("numbers", recursive=True)
        numbers = numbers.union_all(sa.select(numbers.c.n + 1).where(numbers.c.n < 5))
        assert session.scalar(sa.select(sa.func.sum(numbers.c.n))) == 15
        newest = (
            sa.select(Book.title)
            .where(Book.author_id == Author.id)
            .order_by(Book.id.desc())
            .limit(1)
            .lateral("newest")
        )
        rows = sa.select(Author.name, newest.c.title).join(newest, sa.true()).order_by(Author.name)
        assert session.execute(rows).all()[-1] == ("dan", "dan 2")
        without = sa.select(Author.name).where(~Author.books.any(Book.price >= 0))
        assert session.scalars(without).all() == ["ada"]
        array = sa.select(sa.func.array_agg(pg.aggregate_order_by(Book.title, Book.id.desc())))
        assert session.scalar(array)[0] == "dan 2"
        moved = sa.update(Book).where(Book.author_id == Author.id, Author.name == "dan")
        assert (
            session.execute(
                moved.values(price=1), execution_options={"synchronize_session": "fetch"}
            ).rowcount
            == 3
        )

    orm.run(body)


def test_two_phase_is_refused(node: NodeProcess) -> None:
    """Over psycopg only: SQLAlchemy has no two-phase transactions over asyncpg."""
    orm = Orm(node, "psycopg")
    orm.run(lambda session: (Base.metadata.create_all(session.connection()), session.commit()))

    def body(session: o.Session) -> None:
        session.add(Author(name="a"))
        session.flush()
        # SQLAlchemy then asks to roll back what was never prepared, and reports that.
        with pytest.raises(ProgrammingError) as caught:
            session.prepare()
        refused = caught.value.__context__.__context__
        assert isinstance(refused, psycopg.NotSupportedError)
        assert "prepared transactions are disabled" in str(refused)
        session.invalidate()

    orm.run(body, twophase=True)
    assert orm.run(names) == []


def test_lost_connections(orm: Orm, node: NodeProcess) -> None:
    orm.run(add("a"))

    def body(session: o.Session) -> None:
        process_id = session.scalar(sa.select(sa.func.pg_backend_pid()))
        with node.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [process_id])
        with pytest.raises(DBAPIError) as caught:
            names(session)
        assert caught.value.connection_invalidated
        session.rollback()
        assert names(session) == ["a"]

    orm.run(body, pool_pre_ping=True)
