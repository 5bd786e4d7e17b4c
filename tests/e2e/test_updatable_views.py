"""Writing through views: check options, defaults, views over views; recorded from PostgreSQL."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors


@pytest.fixture
def views(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL DEFAULT 5, b text);"
        "CREATE VIEW v1 AS SELECT id, a, b AS bb, a * 2 AS twice FROM t WHERE a < 100;"
        "CREATE VIEW v2 AS SELECT id AS i, a AS aa, bb, twice FROM v1 WHERE id > 0"
        " WITH LOCAL CHECK OPTION;"
        "CREATE VIEW v3 AS SELECT i, aa FROM v2 WHERE aa > 1 WITH CASCADED CHECK OPTION;"
        "CREATE VIEW v4 AS SELECT * FROM v3 x (p, q) WHERE p < 50"
    )
    return connection


@pytest.mark.parametrize(
    ("statement", "view", "row"),
    [
        ("INSERT INTO v2 (i, aa) VALUES (-1, 10)", "v2", "(-1, 10, null)"),
        ("INSERT INTO v3 VALUES (3, 200)", "v1", "(3, 200, null)"),
        ("INSERT INTO v3 VALUES (3, 1)", "v3", "(3, 1, null)"),
        ("INSERT INTO v3 VALUES (3, NULL)", "", ""),
        ("INSERT INTO v4 VALUES (3, 20), (-4, 3)", "v2", "(-4, 3, null)"),
        ("UPDATE v4 SET q = 0 WHERE p = 7", "v3", "(7, 0, null)"),
        (
            "INSERT INTO v4 VALUES (7, 9) ON CONFLICT (p) DO UPDATE SET q = v4.q + 90",
            "v1",
            "(7, 100, null)",
        ),
    ],
)
def test_check_option(views: psycopg.Connection, statement: str, view: str, row: str) -> None:
    views.execute("INSERT INTO v4 VALUES (7, 10)")
    expected = errors.WithCheckOptionViolation if view else errors.NotNullViolation
    with pytest.raises(expected) as caught:
        views.execute(statement)
    if view:
        assert caught.value.diag.message_primary == (
            f'new row violates check option for view "{view}"'
        )
        assert caught.value.diag.message_detail == f"Failing row contains {row}."
    assert views.execute("SELECT * FROM t").fetchall() == [(7, 10, None)]


def test_local_leaves_the_views_below_alone(views: psycopg.Connection) -> None:
    views.execute("INSERT INTO v2 (i, aa) VALUES (1, 200)")
    views.execute("INSERT INTO v4 VALUES (60, 20)")
    assert views.execute("SELECT id, a FROM t ORDER BY id").fetchall() == [(1, 200), (60, 20)]
    assert views.execute("DELETE FROM v4").rowcount == 0


def test_a_duplicate_key_is_met_before_the_check_option(views: psycopg.Connection) -> None:
    views.execute("INSERT INTO v2 (i, aa) VALUES (1, 2)")
    with pytest.raises(errors.UniqueViolation):
        views.execute("INSERT INTO v2 (i, aa) VALUES (1, 2), (-9, 1)")
    with pytest.raises(errors.WithCheckOptionViolation):
        views.execute("INSERT INTO v2 (i, aa) VALUES (-9, 1), (1, 2)")


def test_a_sub_query_in_the_check(views: psycopg.Connection) -> None:
    views.execute("INSERT INTO t VALUES (99, 1), (98, 1000)")
    views.execute(
        "CREATE VIEW w WITH (check_option = local) AS"
        " SELECT id, a FROM t WHERE EXISTS (SELECT 1 FROM v2 WHERE i = a)"
    )
    views.execute("INSERT INTO w VALUES (100, 99)")
    with pytest.raises(errors.WithCheckOptionViolation):
        views.execute("INSERT INTO w VALUES (101, 98)")


def test_defaults_of_views_win(views: psycopg.Connection) -> None:
    views.execute(
        "ALTER VIEW v4 ALTER COLUMN q SET DEFAULT 33; ALTER TABLE v2 ALTER aa SET DEFAULT 44"
    )
    rows = views.execute("INSERT INTO v4 (p) VALUES (11), (12) RETURNING q").fetchall()
    rows += views.execute("INSERT INTO v4 VALUES (13, DEFAULT), (14, 7) RETURNING q").fetchall()
    rows += views.execute("UPDATE v4 SET q = DEFAULT WHERE p = 14 RETURNING q").fetchall()
    rows += views.execute("INSERT INTO v3 (i) VALUES (21) RETURNING aa").fetchall()
    views.execute("ALTER VIEW v4 ALTER COLUMN q DROP DEFAULT")
    rows += views.execute("INSERT INTO v4 (p) VALUES (23) RETURNING q").fetchall()
    rows += views.execute("INSERT INTO v1 (id) VALUES (24) RETURNING a").fetchall()
    assert [value for [value] in rows] == [33, 33, 33, 7, 33, 44, 44, 5]
    shown = views.execute(
        "SELECT table_name, column_name, column_default FROM information_schema.columns"
        " WHERE table_name IN ('v2', 'v4') AND column_default IS NOT NULL"
    )
    assert shown.fetchall() == [("v2", "aa", "44")]


def test_a_default_goes_with_its_sequence(views: psycopg.Connection) -> None:
    views.execute("CREATE SEQUENCE sq; ALTER VIEW v4 ALTER COLUMN p SET DEFAULT nextval('sq')")
    assert views.execute("INSERT INTO v4 (q) VALUES (22) RETURNING p").fetchone() == (1,)
    with pytest.raises(errors.DependentObjectsStillExist) as caught:
        views.execute("DROP SEQUENCE sq")
    detail = "default value for column p of view v4 depends on sequence sq"
    assert caught.value.diag.message_detail == detail
    views.execute("DROP SEQUENCE sq CASCADE")
    with pytest.raises(errors.NotNullViolation):
        views.execute("INSERT INTO v4 (q) VALUES (22)")


def test_expressions_are_read_only(views: psycopg.Connection) -> None:
    for statement, message in (
        ("UPDATE v2 SET twice = 3", 'cannot update column "twice" of view "v1"'),
        ("INSERT INTO v2 VALUES (1, 2, 'x', 4)", 'cannot insert into column "twice" of view "v1"'),
        ("INSERT INTO v2 (twice) VALUES (1)", 'cannot insert into column "twice" of view "v1"'),
    ):
        with pytest.raises(errors.FeatureNotSupported, match=message):
            views.execute(statement)
    views.execute("INSERT INTO v2 VALUES (1, 2, 'x')")
    assert views.execute("SELECT * FROM v2").fetchall() == [(1, 2, "x", 4)]


def test_what_cannot_have_a_check_option(views: psycopg.Connection) -> None:
    views.execute("CREATE VIEW counted AS SELECT count(*) AS c FROM t")
    for statement, hint in (
        ("CREATE VIEW w AS SELECT DISTINCT a FROM t WITH CHECK OPTION", "DISTINCT"),
        ("CREATE VIEW w WITH (check_option = local) AS SELECT a + 1 AS x FROM t", "no updatable"),
        ("ALTER VIEW counted SET (check_option = local)", "aggregate"),
    ):
        with pytest.raises(errors.FeatureNotSupported) as caught:
            views.execute(statement)
        assert caught.value.diag.message_primary == (
            "WITH CHECK OPTION is supported only on automatically updatable views"
        )
        assert hint in caught.value.diag.message_hint
    with pytest.raises(errors.InvalidParameterValue, match="check_option"):
        views.execute("ALTER VIEW v4 SET (check_option = maybe)")


def test_the_check_option_can_be_changed(views: psycopg.Connection) -> None:
    views.execute("ALTER VIEW v4 SET (check_option = local)")
    with pytest.raises(errors.WithCheckOptionViolation, match='view "v4"'):
        views.execute("INSERT INTO v4 VALUES (80, 2)")
    shown = "SELECT check_option FROM information_schema.views WHERE table_name = 'v4'"
    assert views.execute(shown).fetchone() == ("LOCAL",)
    views.execute("ALTER VIEW v4 RESET (check_option)")
    views.execute("INSERT INTO v4 VALUES (80, 2)")
    assert views.execute(shown).fetchone() == ("NONE",)


def test_views_over_what_is_read_only(views: psycopg.Connection) -> None:
    views.execute(
        "CREATE VIEW counted AS SELECT count(*) AS c FROM t; CREATE VIEW over AS SELECT c FROM counted"
    )
    for statement in ("INSERT INTO over VALUES (1)", "UPDATE over SET c = 1", "DELETE FROM over"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match='view "counted"'):
            views.execute(statement)
    shown = views.execute(
        "SELECT table_name, is_updatable FROM information_schema.views"
        " WHERE table_name IN ('counted', 'over', 'v4') ORDER BY 1"
    )
    assert shown.fetchall() == [("counted", "NO"), ("over", "NO"), ("v4", "YES")]
    found = views.execute(
        "SELECT pg_relation_is_updatable('v2', false), pg_relation_is_updatable('over', false),"
        " pg_column_is_updatable('v2', 4::int2, false), pg_column_is_updatable('v2', 1::int2, false)"
    )
    assert found.fetchone() == (28, 0, False, True)


def test_each_owner_needs_the_privileges(views: psycopg.Connection) -> None:
    views.execute(
        "CREATE ROLE of_views; ALTER VIEW v3 OWNER TO of_views; GRANT ALL ON v3 TO of_views"
    )
    with pytest.raises(errors.InsufficientPrivilege, match="v2"):
        views.execute("INSERT INTO v3 VALUES (1, 2)")
    views.execute("GRANT ALL ON v2 TO of_views")
    views.execute("INSERT INTO v3 VALUES (1, 2)")
    views.execute("DROP OWNED BY of_views CASCADE; DROP ROLE of_views")


def test_definitions_show_names_and_types(views: psycopg.Connection) -> None:
    views.execute(
        "CREATE VIEW d (x, y) AS SELECT id, 'k' FROM t WHERE a > 1.5 AND b LIKE 'a%';"
        "CREATE VIEW n (c, d) AS VALUES (1, 2); ALTER VIEW d RENAME y TO z"
    )
    shown = "SELECT pg_get_viewdef('d', true), pg_get_viewdef('n', true)"
    assert views.execute(shown).fetchone() == (
        " SELECT t.id AS x,\n    'k'::text AS z\n   FROM t\n"
        "  WHERE t.a::numeric > 1.5 AND t.b ~~ 'a%'::text;",
        ' SELECT "*VALUES*".column1 AS c,\n    "*VALUES*".column2 AS d\n'
        '   FROM ( VALUES (1, 2)) "*VALUES*";',
    )


@pytest.fixture
def secret(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    connection.execute(
        "CREATE ROLE view_owner; CREATE ROLE view_reader;"
        "GRANT USAGE, CREATE ON SCHEMA public TO view_owner, view_reader;"
        "CREATE TABLE secret (x int, y int); INSERT INTO secret VALUES (1, 2);"
        "SET ROLE view_owner; CREATE VIEW leak AS SELECT * FROM secret;"
        "CREATE VIEW invoked WITH (security_invoker) AS SELECT x FROM secret;"
        "GRANT SELECT ON leak, invoked TO view_reader; RESET ROLE"
    )
    yield connection
    connection.execute("RESET ROLE; DROP OWNED BY view_owner, view_reader CASCADE")
    connection.execute("DROP ROLE view_owner, view_reader")


def may_read(connection: psycopg.Connection, role: str, query: str) -> bool:
    """Whether a role may run a query; what it may not is always reading the table."""
    refused = ""
    connection.execute(f"SET ROLE {role}")
    try:
        connection.execute(query)
    except errors.InsufficientPrivilege as error:
        refused = str(error.diag.message_primary)
    connection.execute("RESET ROLE")
    assert refused in {"", "permission denied for table secret"}
    return not refused


def test_a_view_gives_no_more_than_its_owner_has(secret: psycopg.Connection) -> None:
    both = [(role, "SELECT * FROM leak") for role in ("view_owner", "view_reader")]
    assert [may_read(secret, *who) for who in both] == [False, False]
    secret.execute("GRANT SELECT (x) ON secret TO view_owner")
    assert [may_read(secret, *who) for who in both] == [False, False]
    secret.execute("GRANT SELECT ON secret TO view_owner")
    assert [may_read(secret, *who) for who in both] == [True, True]
    secret.execute("REVOKE SELECT ON secret FROM view_owner")
    assert [may_read(secret, *who) for who in both] == [False, False]


def test_a_security_invoker_view_asks_the_reader(secret: psycopg.Connection) -> None:
    secret.execute("GRANT SELECT (x) ON secret TO view_owner")
    assert may_read(secret, "view_owner", "SELECT * FROM invoked")
    assert not may_read(secret, "view_reader", "SELECT * FROM invoked")
    secret.execute("CREATE VIEW over AS SELECT * FROM invoked; GRANT SELECT ON over TO view_reader")
    assert not may_read(secret, "view_reader", "SELECT * FROM over")
    secret.execute("GRANT SELECT ON secret TO view_reader")
    assert may_read(secret, "view_reader", "SELECT * FROM over")


def test_locking_through_a_view_needs_update(secret: psycopg.Connection) -> None:
    secret.execute("GRANT SELECT, UPDATE ON secret TO view_owner; SET ROLE view_reader")
    with pytest.raises(errors.InsufficientPrivilege, match="view leak"):
        secret.execute("SELECT * FROM leak FOR UPDATE")
    secret.execute("RESET ROLE; GRANT UPDATE ON leak TO view_reader; SET ROLE view_reader")
    assert secret.execute("SELECT * FROM leak FOR UPDATE").fetchall() == [(1, 2)]
