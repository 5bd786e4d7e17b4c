"""Roles and databases: privileges, settings that new sessions start with, who may connect."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess


@pytest.fixture
def alice(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The owner's connection, beside a role alice without any privilege."""
    connection.execute("CREATE ROLE alice LOGIN")
    connection.execute("GRANT USAGE ON SCHEMA public TO alice")
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, a int)")
    connection.execute("INSERT INTO t VALUES (1, 2)")
    try:
        yield connection
    finally:
        connection.execute("RESET ROLE")
        connection.execute("DROP OWNED BY alice CASCADE")
        connection.execute("DROP ROLE alice")


def test_a_role_needs_privileges(alice: psycopg.Connection) -> None:
    alice.execute("CREATE SCHEMA other CREATE TABLE x (i int)")
    alice.execute("SET ROLE alice")
    for statement in (
        "SELECT * FROM t",
        "INSERT INTO t VALUES (2)",
        "TRUNCATE t",
        "CREATE TABLE u (a int)",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            alice.execute(statement)
    with pytest.raises(errors.InsufficientPrivilege) as caught:
        alice.execute("SELECT * FROM other.x")
    assert caught.value.diag.message_primary == "permission denied for schema other"
    assert caught.value.diag.statement_position == "15"
    alice.execute("RESET ROLE")
    alice.execute("GRANT SELECT ON t TO alice")
    alice.execute("SET ROLE alice")
    assert alice.execute("SELECT * FROM t").fetchall() == [(1, 2)]
    alice.execute("RESET ROLE")
    alice.execute("DROP SCHEMA other CASCADE")


def test_settings_of_roles_and_databases(node: NodeProcess, alice: psycopg.Connection) -> None:
    alice.execute("ALTER ROLE alice SET WORK_MEM = '5MB'")
    alice.execute("""ALTER ROLE alice SET search_path = a, "B c", public""")
    alice.execute("ALTER DATABASE nodedb SET timezone = 'Asia/Tokyo'")
    try:
        with node.connect(user="alice") as connection:
            shown = [
                connection.execute(f"SHOW {name}").fetchone()[0]
                for name in ("work_mem", "search_path", "timezone")
            ]
            assert shown == ["5MB", 'a, "B c", public', "Asia/Tokyo"]
    finally:
        alice.execute("ALTER DATABASE nodedb RESET timezone")
    [stored] = alice.execute(
        "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'alice'::regrole"
    ).fetchone()
    assert stored == ["work_mem=5MB", 'search_path=a, "B c", public']


def test_connecting_needs_the_privilege(node: NodeProcess, alice: psycopg.Connection) -> None:
    alice.execute("CREATE DATABASE elsewhere")
    try:
        with node.connect(dbname="elsewhere", user="alice") as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("elsewhere",)
        alice.execute("REVOKE CONNECT ON DATABASE elsewhere FROM public")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            node.connect(dbname="elsewhere", user="alice")
        alice.execute("ALTER DATABASE elsewhere ALLOW_CONNECTIONS false")
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            node.connect(dbname="elsewhere")
    finally:
        alice.execute("DROP DATABASE elsewhere")


def test_databases_do_not_share_tables(node: NodeProcess, connection: psycopg.Connection) -> None:
    connection.execute("CREATE DATABASE apart")
    with node.connect(dbname="apart") as other:
        other.execute("CREATE TABLE only_there (a int)")
    with pytest.raises(errors.UndefinedTable):
        connection.execute("SELECT * FROM only_there")
    connection.execute("DROP DATABASE apart")
    with pytest.raises(psycopg.OperationalError, match='database "apart" does not exist'):
        node.connect(dbname="apart")
