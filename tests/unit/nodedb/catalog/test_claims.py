"""Which locks a change of the catalog takes: names, descriptors, and what must stay."""

import random

import pytest
from msgspec.structs import replace

from nodedb.catalog.changes import CatalogOverlay
from nodedb.catalog.claims import Claim, claims, object_resource
from nodedb.kv.locks import (
    ACCESS_EXCLUSIVE,
    ACCESS_SHARE,
    SHARE_UPDATE_EXCLUSIVE,
    CatalogResource,
)
from sql.catalog.descriptor import AclItem, Role, Schema


def changed_by(env, text):
    """Return the claims of a script."""
    mark = env.overlay.mark()
    env.run(text)
    return claims(env.overlay.changed_since(mark))


def name(text, schema_id=2200):
    return Claim(CatalogResource("relation", schema_id, text), ACCESS_EXCLUSIVE)


def committed(env):
    """Let what the environment has so far be what is committed."""
    env.overlay = CatalogOverlay(env.overlay.snapshot)
    return env


def test_a_new_table_takes_the_names_of_all_that_comes_with_it(env):
    found = changed_by(env, "create table t (id serial primary key, v int unique)")
    catalog = [claim for claim in found if isinstance(claim.resource, CatalogResource)]
    assert {claim for claim in catalog if claim.resource.kind == "relation"} == {
        name("t"),
        name("t_pkey"),
        name("t_v_key"),
        name("t_id_seq"),
    }
    assert Claim(object_resource(2200), ACCESS_SHARE) in found, "its schema must stay"
    new_ids = {t.id for t in env.overlay.snapshot.all(type(env.table("t")))}
    assert not any(c.resource.number in new_ids for c in catalog if c.resource.kind == "object")


def test_a_change_locks_the_descriptor_and_only_new_names(env):
    env.run("create table t (a int)")
    table = committed(env).table("t")
    assert changed_by(env, "alter table t add column b int") == [
        Claim(object_resource(table.id), SHARE_UPDATE_EXCLUSIVE)
    ]
    assert name("u") in changed_by(env, "alter table t rename to u")


def test_what_is_dropped_is_locked_against_who_needs_it(env):
    env.run("create schema s")
    schema = committed(env).overlay.snapshot.schema(5, "s")
    assert changed_by(env, "drop schema s") == [Claim(object_resource(schema.id), ACCESS_EXCLUSIVE)]


def test_a_view_locks_what_it_reads(env):
    env.run("create table t (a int)")
    table = committed(env).table("t")
    assert Claim(table.id, ACCESS_SHARE) in changed_by(env, "create view w as select a from t")


def test_a_default_locks_the_sequence_it_draws_from(env):
    env.run("create sequence q; create table t (a int)")
    sequence = committed(env).relation("q")
    found = changed_by(env, "alter table t alter column a set default nextval('q')")
    assert Claim(sequence.id, ACCESS_SHARE) in found


def test_privileges_lock_their_roles(env):
    env.run("create role r; create table t (a int)")
    role = committed(env).overlay.snapshot.role("r")
    found = changed_by(env, "grant select on t to r")
    assert Claim(object_resource(role.id), ACCESS_SHARE) in found
    assert changed_by(committed(env), "revoke select on t from r") == [
        Claim(object_resource(env.table("t").id), SHARE_UPDATE_EXCLUSIVE)
    ], "what is taken away needs nothing"


def test_a_role_locks_the_roles_it_is_a_member_of():
    role = Role(id=20_000, name="r", member_of=((20_001, False),))
    assert Claim(object_resource(20_001), ACCESS_SHARE) in claims([(None, role)])


@pytest.mark.parametrize("seed", range(5))
def test_all_sessions_lock_in_one_order(seed):
    items = [
        (None, Schema(id=20_000 + n, name=f"s{n}", database_id=5, owner=30_000 + n))
        for n in range(20)
    ]
    expected = claims(items)
    random.Random(seed).shuffle(items)
    assert claims(items) == expected


def test_built_in_roles_are_not_locked():
    schema = Schema(id=20_000, name="s", database_id=5, acl=(AclItem(0, 10, "U"),))
    assert {claim.resource for claim in claims([(None, schema)])} == {
        CatalogResource("schema", 5, "s"),
        object_resource(5),
    }
    assert claims([(schema, replace(schema, comment="x"))]) == [
        Claim(object_resource(20_000), SHARE_UPDATE_EXCLUSIVE)
    ]
