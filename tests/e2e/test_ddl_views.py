"""Views over tables that change, and how psql shows them."""

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess

DEFINITION = """\
 SELECT a.x,
    b.y,
    c.z::text AS z
   FROM a
     JOIN b ON b.y > a.x
     LEFT JOIN c ON c.z = a.x AND c.z > 0
  WHERE a.x > 0 AND (EXISTS ( SELECT 1
           FROM c c2
          WHERE c2.z < b.y));"""


@pytest.fixture
def tables(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("CREATE TABLE a (x int); CREATE TABLE b (y int); CREATE TABLE c (z int)")
    for table, value in (("a", 1), ("b", 2), ("c", 1)):
        connection.execute(f"INSERT INTO {table} VALUES ({value})")
    connection.execute(
        "CREATE VIEW v AS SELECT x, y, z::text"
        " FROM a JOIN b ON y > x LEFT JOIN c ON z = x AND z > 0"
        " WHERE x > 0 AND EXISTS (SELECT 1 FROM c c2 WHERE c2.z < y)"
    )
    return connection


def test_columns_added_later_do_not_make_names_ambiguous(tables: psycopg.Connection) -> None:
    tables.execute("ALTER TABLE b ADD x int; ALTER TABLE c ADD y int")
    assert tables.execute("SELECT * FROM v").fetchall() == [(1, 2, "1")]


def test_definition(tables: psycopg.Connection) -> None:
    shown = tables.execute("SELECT pg_get_viewdef('v'::regclass, true)").fetchone()
    assert shown == (DEFINITION,)
    tables.execute("SET search_path = pg_catalog")
    shown = tables.execute("SELECT pg_get_viewdef('public.v'::regclass, true)").fetchone()
    assert "FROM public.a" in shown[0]


def test_a_definition_makes_the_same_view(tables: psycopg.Connection) -> None:
    [text] = tables.execute("SELECT pg_get_viewdef('v'::regclass)").fetchone()
    tables.execute(f"CREATE VIEW again AS {text}")
    both = [tables.execute(f"SELECT * FROM {name}").fetchall() for name in ("v", "again")]
    assert both[0] == both[1] == [(1, 2, "1")]


def test_views_follow_renames(tables: psycopg.Connection) -> None:
    tables.execute("ALTER TABLE a RENAME TO aa; ALTER TABLE aa RENAME COLUMN x TO xx")
    assert tables.execute("SELECT x FROM v").fetchall() == [(1,)]


def test_dependencies_are_refused_or_dropped(tables: psycopg.Connection) -> None:
    tables.execute("CREATE VIEW over AS SELECT x + 1 AS more FROM v")
    with pytest.raises(errors.DependentObjectsStillExist):
        tables.execute("DROP VIEW v")
    with pytest.raises(errors.DependentObjectsStillExist):
        tables.execute("ALTER TABLE a DROP COLUMN x")
    tables.execute("DROP VIEW v CASCADE")
    with pytest.raises(errors.UndefinedTable):
        tables.execute("SELECT * FROM over")


@pytest.mark.usefixtures("needs_psql", "tables")
def test_psql_shows_the_view(node: NodeProcess) -> None:
    shown = node.psql("-c", r"\sv v").stdout
    assert shown == "CREATE OR REPLACE VIEW public.v AS\n" + DEFINITION.removesuffix(";") + "\n"
