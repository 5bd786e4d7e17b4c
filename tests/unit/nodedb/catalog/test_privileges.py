"""Roles, GRANT and REVOKE, ownership, and what SessionCatalog makes of them."""

import pytest

from sql.errors import InsufficientPrivilege


def become(env, name):
    env.user_id = env.overlay.snapshot.role(name).id


def test_public_schema_is_closed_for_others(env):
    env.run("create role r")
    become(env, "r")
    assert env.fail("create table t(a int)")[:2] == ("42501", "permission denied for schema public")


def test_select_needs_a_grant(env):
    env.run("create table t(a int, b int); create role r")
    table = env.table("t")
    become(env, "r")
    with pytest.raises(InsufficientPrivilege, match="permission denied for table t"):
        env.catalog.check_privilege(table, "r")
    env.user_id = 10
    env.run("grant select on t to r")
    become(env, "r")
    env.catalog.check_privilege(env.table("t"), "r")
    assert not env.catalog.has_privilege(env.table("t"), "aw")


def test_privileges_come_through_membership_only_with_inherit(env):
    env.run("create table t(a int); create role g; grant select on t to g")
    env.run("create role yes in role g; create role no noinherit in role g")
    become(env, "yes")
    assert env.catalog.has_privilege(env.table("t"), "r")
    become(env, "no")
    assert not env.catalog.has_privilege(env.table("t"), "r")


def test_column_privileges(env):
    env.run("create table t(a int, b int); create role r; grant select (a), update (b) on t to r")
    become(env, "r")
    table = env.table("t")
    env.catalog.check_column_privileges(table, "r", (0,))
    with pytest.raises(InsufficientPrivilege):
        env.catalog.check_column_privileges(table, "r", (0, 1))
    env.catalog.check_column_privileges(table, "r", ())


def test_grant_option_and_dependent_revoke(env):
    env.run("create table t(a int); create role a; create role b")
    env.run("grant select on t to a with grant option")
    become(env, "a")
    env.run("grant select on t to b")
    env.user_id = 10
    assert env.fail("revoke select on t from a")[:2] == ("2BP01", "dependent privileges exist")
    env.run("revoke select on t from a cascade")
    become(env, "b")
    assert not env.catalog.has_privilege(env.table("t"), "r")


def test_owner_only(env):
    env.run("create table t(a int); create role r")
    become(env, "r")
    assert env.fail("drop table t")[:2] == ("42501", "must be owner of table t")
    assert env.fail("alter table t add b int")[:2] == ("42501", "must be owner of table t")


def test_default_privileges_apply_to_new_objects(env):
    env.run("create role r; alter default privileges in schema public grant select on tables to r")
    env.run("create table t(a int)")
    become(env, "r")
    assert env.catalog.has_privilege(env.table("t"), "r")


def test_membership_cycles_are_refused(env):
    env.run("create role a; create role b; grant a to b")
    assert env.fail("grant b to a")[:2] == ("0LP01", 'role "b" is a member of role "a"')


def test_drop_role_lists_what_mentions_it(env):
    env.run("create table t(a int); create role r; grant select on t to r")
    env.run("grant create on schema public to r")
    assert env.fail("drop role r")[2] == "privileges for schema public\nprivileges for table t"
    env.run("drop owned by r; drop role r")
    assert env.overlay.snapshot.role("r") is None


def test_reassign_owned(env):
    env.run("create role a; create role b; create schema s authorization a")
    env.run("create table s.t(x serial); alter table s.t owner to a; reassign owned by a to b")
    b = env.overlay.snapshot.role("b").id
    assert env.table("t", "s").owner == b
    assert env.relation("t_x_seq", "s").owner == b


def test_passwords(env):
    env.run("create role a password 'secret'")
    assert env.overlay.snapshot.role("a").scram_secret == "SCRAM-SHA-256$hashed:secret"
    ready = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"
    env.run(f"alter role a password '{ready}'")
    assert env.overlay.snapshot.role("a").scram_secret == ready
    env.run("alter role a password null")
    assert env.overlay.snapshot.role("a").scram_secret == ""


def test_search_path_names_user_schema_first(env):
    env.run("create schema nodedb; create table t(a int); create table public.t(a int)")
    assert env.table("t", "nodedb") is not None
    assert env.catalog.creation_schema_id() == env.catalog.schema_id("nodedb")
    assert env.catalog.search_path_ids()[0] == 11


def test_settings_of_roles_and_databases(env):
    env.run("create role r; alter role r set work_mem = '1MB'")
    env.run("alter database nodedb set search_path = a, b")
    assert env.overlay.snapshot.role("r").settings == ((0, "work_mem", "1MB"),)
    assert env.overlay.snapshot.database("nodedb").settings == (("search_path", "a, b"),)
    env.run("alter role r reset all")
    assert env.overlay.snapshot.role("r").settings == ()
