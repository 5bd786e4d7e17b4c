"""CREATE SCHEMA with elements, and the options of CREATE and ALTER DATABASE."""

import pytest


def test_elements_see_the_new_schema_first(env):
    env.run("create table t1 (other int)")
    env.run(
        "create schema s create index on t1 (a) create view v as select a from t1"
        " create table t1 (a int, b int default nextval('sq')) create sequence sq"
    )
    assert [c.name for c in env.relation("v", "s").columns] == ["a"]
    assert [i.name for i in env.table("t1", "s").indexes] == ["t1_a_idx"]
    assert not env.table("t1").indexes
    assert env.search_path == ("$user", "public")


def test_elements_of_another_schema_are_refused(env):
    assert env.fail("create schema s create table public.t (a int)") == (
        "42P15",
        "CREATE specifies a schema (public) different from the one being created (s)",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("options", "sqlstate", "message"),
    [
        ("encoding 'nope'", "42704", "nope is not a valid encoding name"),
        ("encoding nope connection limit -5", "42704", "nope is not a valid encoding name"),
        ("encoding 99", "42704", "99 is not a valid encoding code"),
        ("encoding 5.5", "42704", "5.5 is not a valid encoding name"),
        ("encoding 'latin-1'", "22023", 'encoding "LATIN1" does not match locale "C.UTF-8"'),
        ("encoding 8", "22023", 'encoding "LATIN1" does not match locale "C.UTF-8"'),
        ("connection limit -5", "22023", "invalid connection limit: -5"),
        ("connection limit x", "42601", "connection_limit requires an integer value"),
        ("connection limit '7'", "42601", "connection_limit requires an integer value"),
        ("allow_connections x", "42601", "allow_connections requires a Boolean value"),
        ("is_template 7", "42601", "is_template requires a Boolean value"),
        ("tablespace nosuch", "42704", 'tablespace "nosuch" does not exist'),
        ("locale_provider nosuch", "42P17", "unrecognized locale provider: nosuch"),
        ("strategy nosuch", "22023", 'invalid create database strategy "nosuch"'),
        ("owner nosuch", "42704", 'role "nosuch" does not exist'),
        ("template nosuch", "3D000", 'template database "nosuch" does not exist'),
        ("nosuch 5", "42601", 'option "nosuch" not recognized'),
    ],
)
def test_options_of_create_database(env, options, sqlstate, message):
    assert env.fail(f"create database d {options}")[:2] == (sqlstate, message)
    assert env.overlay.snapshot.database("d") is None


@pytest.mark.parametrize("encoding", ["'UTF8'", "'utf-8'", "unicode", "6", "default"])
def test_databases_are_utf8(env, encoding):
    env.run(f"create database d encoding {encoding} connection limit 3 allow_connections off")
    database = env.overlay.snapshot.database("d")
    assert (database.connection_limit, database.allow_connections) == (3, False)
    env.run("alter database d allow_connections on connection limit -1")
    database = env.overlay.snapshot.database("d")
    assert (database.connection_limit, database.allow_connections) == (-1, True)
    assert env.fail("alter database d encoding 'UTF8'")[:2] == (
        "42601",
        'option "encoding" not recognized',
    )


def test_system_tables_have_an_owner(env):
    env.run("create role plain")
    system = ("42501", 'permission denied: "pg_class" is a system catalog')
    assert env.fail("drop table pg_class")[:2] == system
    env.user_id = env.overlay.snapshot.role("plain").id
    for statement in ("drop table pg_class", "alter table pg_class add x int"):
        assert env.fail(statement)[:2] == ("42501", "must be owner of table pg_class")


def test_views_must_not_make_tables(env):
    for query in ("select 1 into x", "select 1 into x union select 2"):
        assert env.fail(f"create view v as {query}")[:2] == (
            "0A000",
            "views must not contain SELECT INTO",
        )
    assert env.fail("create view v as select * from (select 1 into x) y")[0] == "42601"
