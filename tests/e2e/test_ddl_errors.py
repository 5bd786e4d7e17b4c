"""What PostgreSQL says about faulty DDL and maintenance commands, and where it points to."""

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def db(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, v text, f text)")
    connection.execute("CREATE TABLE p (id int PRIMARY KEY, v int UNIQUE)")
    connection.execute("CREATE INDEX t_n ON t (n)")
    return connection


def failure(connection: psycopg.Connection, text: str) -> tuple[str | None, str, int]:
    """Return the SQLSTATE, message and position (0: none) of a statement's error."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(text)
    diagnostics = caught.value.diag
    position = diagnostics.statement_position
    return diagnostics.sqlstate, diagnostics.message_primary or "", int(position or 0)


@pytest.mark.parametrize(
    ("text", "sqlstate", "position"),
    [
        ("ALTER TABLE t ADD x int DEFAULT 'a'", "22P02", 0),
        ("ALTER TABLE t ADD x int CHECK (nosuch > 1)", "42703", 0),
        ("ALTER TABLE t ADD x nosuch", "42704", 21),
        ('ALTER TABLE t ADD x int COLLATE "C"', "42804", 25),
        ("ALTER TABLE t ADD x int NULL NOT NULL", "42601", 30),
        ("ALTER TABLE t ADD x serial DEFAULT 1", "42601", 0),
        ("ALTER TABLE t ALTER n SET DEFAULT 'x'", "22P02", 0),
        ("ALTER TABLE t ALTER n TYPE nosuch", "42704", 0),
        ("ALTER TABLE t ALTER n TYPE int USING nosuch", "42703", 38),
        ("ALTER TABLE t ALTER n TYPE int USING 'x'", "22P02", 0),
        ("ALTER TABLE t ADD CHECK (nosuch > 1)", "42703", 0),
        ("ALTER TABLE t ADD UNIQUE (nosuch)", "42703", 0),
        ("ALTER TABLE t ADD UNIQUE (n, n)", "42701", 19),
        ('CREATE TABLE x (a int COLLATE "C")', "42804", 23),
        ('CREATE TABLE x (a text COLLATE "nosuch")', "42704", 24),
        ("CREATE TABLE x (a serial DEFAULT 1)", "42601", 0),
        ("CREATE TABLE x (a serial NULL)", "42601", 0),
        ("CREATE TABLE x (a int DEFAULT 'a')", "22P02", 31),
        ("CREATE TABLE x (a int, UNIQUE (nosuch))", "42703", 24),
    ],
)
def test_where_errors_point_to(
    db: psycopg.Connection, text: str, sqlstate: str, position: int
) -> None:
    found = failure(db, text)
    assert (found[0], found[2]) == (sqlstate, position), found


@pytest.mark.parametrize(
    ("text", "sqlstate", "message"),
    [
        (
            "CREATE TABLE x (a int REFERENCES p (id, v))",
            "42830",
            'there is no unique constraint matching given keys for referenced table "p"',
        ),
        (
            "CREATE TABLE x (a int REFERENCES p ON DELETE SET NULL (b))",
            "42703",
            'column "b" referenced in foreign key constraint does not exist',
        ),
        (
            "ALTER TABLE t ALTER v ADD GENERATED ALWAYS AS IDENTITY",
            "22023",
            "identity column type must be smallint, integer, or bigint",
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT x PRIMARY KEY (nosuch)",
            "42P16",
            'multiple primary keys for table "t" are not allowed',
        ),
        ("SELECT nextval(5)", "XX000", "could not open relation with OID 5"),
        ("SELECT * FROM t_n", "42809", '"t_n" is an index'),
        ("INSERT INTO t_n VALUES (1)", "42809", '"t_n" is an index'),
        ("TRUNCATE t_n", "42809", '"t_n" is not a table'),
        ("CREATE TABLE x (a int REFERENCES t_n)", "42809", '"t_n" is an index'),
        ("CREATE TABLE x (LIKE t_n)", "42809", 'relation "t_n" is invalid in LIKE clause'),
        (
            "CREATE INDEX ON t (v int4_ops)",
            "42804",
            'operator class "int4_ops" does not accept data type text',
        ),
        (
            "CREATE INDEX ON t (n nosuch_ops)",
            "42704",
            'operator class "nosuch_ops" does not exist for access method "btree"',
        ),
        ("ANALYZE nosuch", "42P01", 'relation "nosuch" does not exist'),
        ("ANALYZE t (nosuch)", "42703", 'column "nosuch" of relation "t" does not exist'),
        ("ANALYZE t (n, n)", "42701", 'column "n" of relation "t" appears more than once'),
        ("ANALYZE (nosuch) t", "42601", 'unrecognized ANALYZE option "nosuch"'),
        ("VACUUM (nosuch) t", "42601", 'unrecognized VACUUM option "nosuch"'),
        ("VACUUM (full maybe) t", "42601", "full requires a Boolean value"),
        (
            "VACUUM (parallel -1) t",
            "42601",
            "parallel workers for vacuum must be between 0 and 1024",
        ),
        ("VACUUM (full, parallel 2) t", "0A000", "VACUUM FULL cannot be performed in parallel"),
        (
            "VACUUM t (n)",
            "0A000",
            "ANALYZE option must be specified when a column list is provided",
        ),
    ],
)
def test_what_errors_say(db: psycopg.Connection, text: str, sqlstate: str, message: str) -> None:
    assert failure(db, text)[:2] == (sqlstate, message)


def test_index_definitions_show_collations_and_operator_classes(node: NodeProcess) -> None:
    with node.connect() as db:
        db.execute('CREATE TABLE c (t text COLLATE "C", v varchar, n int)')
        for keys, shown in (
            ('t COLLATE "C"', "t"),
            ('t COLLATE "POSIX" DESC', 't COLLATE "POSIX" DESC'),
            ('t COLLATE "default"', 't COLLATE "default"'),
            ("v text_ops, n int4_ops", "v, n"),
            ("v varchar_ops, v text_pattern_ops", "v varchar_ops, v text_pattern_ops"),
            ("(t || 'x') COLLATE \"POSIX\"", "((t || 'x'::text)) COLLATE \"POSIX\""),
        ):
            db.execute(f"CREATE INDEX i ON c ({keys})")
            assert db.execute(
                "SELECT indexdef FROM pg_indexes WHERE indexname = 'i'"
            ).fetchone() == (f"CREATE INDEX i ON public.c USING btree ({shown})",)
            db.execute("DROP INDEX i")


def test_pg_sequences_shows_the_last_value(db: psycopg.Connection) -> None:
    db.execute("CREATE SEQUENCE s START 5")
    query = "SELECT last_value FROM pg_sequences WHERE sequencename = 's'"
    assert db.execute(query).fetchall() == [(None,)]
    db.execute("SELECT nextval('s'), nextval('s')")
    assert db.execute(query).fetchall() == [(6,)]
