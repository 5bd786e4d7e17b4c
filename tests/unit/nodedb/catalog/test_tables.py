"""CREATE, ALTER and DROP TABLE: descriptors, made-up names, errors, and the work asked of rows."""

import pytest

from sql.types.catalog import INT8, TEXT


def test_columns_primary_key_and_constraint_names(env):
    env.run(
        "create table t(a int primary key, b int check (b > 0), c serial, d text unique,"
        " check (a < b), unique (a, b))"
    )
    table = env.table("t")
    assert [c.name for c in table.visible_columns] == ["a", "b", "c", "d"]
    assert table.clustering_key == (0,)
    assert table.primary_name == "t_pkey"
    assert [i.name for i in table.indexes] == ["t_d_key", "t_a_b_key"]
    assert [c.name for c in table.checks] == ["t_b_check", "t_check"]
    sequence = env.relation("t_c_seq")
    assert sequence.owned_by == (table.id, 2)
    assert table.columns[2].sequence_id == sequence.id
    assert table.columns[2].not_null


def test_a_table_without_primary_key_has_a_hidden_rowid(env):
    env.run("create table t(a int)")
    table = env.table("t")
    assert table.columns[table.clustering_key[0]].hidden
    assert [c.name for c in table.visible_columns] == ["a"]


def test_long_names_are_cut_to_63_bytes(env):
    name = "t" * 60
    env.run(f"create table {name}(abcdefghij int unique)")
    assert env.table(name).indexes[0].name == "t" * 48 + "_abcdefghij_key"


def test_made_up_names_count_up(env):
    env.run("create table t(a int); create index on t(a); create index on t(a)")
    env.run("create index on t(lower(a::text), (a + 1)); create index t_a_idx2 on t(a)")
    env.run("create index on t(a)")
    names = [i.name for i in env.table("t").indexes]
    assert names == ["t_a_idx", "t_a_idx1", "t_lower_expr_idx", "t_a_idx2", "t_a_idx3"]


def test_if_not_exists_sends_a_notice(env):
    env.run("create table t(a int); create table if not exists t(b int)")
    assert env.notices == [("NOTICE", "42P07", 'relation "t" already exists, skipping', "")]


@pytest.mark.parametrize(
    ("statement", "sqlstate", "message"),
    [
        ("create table t(a int)", "42P07", 'relation "t" already exists'),
        ("create table nos.x(a int)", "3F000", 'schema "nos" does not exist'),
        ("create table x(a foo)", "42704", 'type "foo" does not exist'),
        ("create table x(a int, a text)", "42701", 'column "a" specified more than once'),
        (
            "create table x(a int, primary key (z))",
            "42703",
            'column "z" named in key does not exist',
        ),
        (
            "create table x(a int primary key, b int primary key)",
            "42P16",
            'multiple primary keys for table "x" are not allowed',
        ),
        ("create table x(a int) with (foo = 1)", "22023", 'unrecognized parameter "foo"'),
        (
            "create table x(a int references t(b))",
            "42830",
            'there is no unique constraint matching given keys for referenced table "t"',
        ),
        (
            "create table x(a text references t)",
            "42804",
            'foreign key constraint "x_a_fkey" cannot be implemented',
        ),
        ("alter table t add column a int", "42701", 'column "a" of relation "t" already exists'),
        ("alter table t drop column z", "42703", 'column "z" of relation "t" does not exist'),
        ("alter table t alter column a drop not null", "42P16", 'column "a" is in a primary key'),
        (
            "alter table t alter column c type int",
            "42804",
            'column "c" cannot be cast automatically to type integer',
        ),
    ],
)
def test_errors_are_postgresqls(env, statement, sqlstate, message):
    env.run("create table t(a int primary key, b int, c text)")
    assert env.fail(statement)[:2] == (sqlstate, message)


def test_distribute_by_must_lead_the_primary_key(env):
    env.run("create table t(a int, b int, primary key (a, b)) with (distribute_by = 'a')")
    assert env.table("t").distribute_by == (0,)
    sqlstate, message, *_ = env.fail(
        "create table u(a int, b int, primary key (a, b)) with (distribute_by = 'b')"
    )
    assert sqlstate == "42P16"
    assert "leading columns" in message


def test_foreign_keys_link_both_tables(env):
    env.run(
        "create table p(id int primary key); create table c(p int references p on delete cascade)"
    )
    parent, child = env.table("p"), env.table("c")
    key = child.foreign_keys[0]
    assert (key.name, key.on_delete, key.referenced_index_id) == ("c_p_fkey", "cascade", 1)
    assert parent.referenced_by == (child.id,)
    env.run("alter table c drop constraint c_p_fkey")
    assert env.table("p").referenced_by == ()


def test_drop_without_and_with_cascade(env):
    env.run("create table p(id int primary key); create table c(p int references p)")
    env.run("create view v as select * from p; create view w as select * from v")
    sqlstate, message, detail, hint = env.fail("drop table p")
    assert (sqlstate, hint) == ("2BP01", "Use DROP ... CASCADE to drop the dependent objects too.")
    assert message == "cannot drop table p because other objects depend on it"
    assert detail.split("\n") == [
        "constraint c_p_fkey on table c depends on table p",
        "view v depends on table p",
        "view w depends on view v",
    ]
    env.run("drop table p cascade")
    assert env.notices[-1][2] == "drop cascades to 3 other objects"
    assert env.relation("v") is None
    assert env.relation("w") is None
    assert env.table("c").foreign_keys == ()


def test_dropping_a_table_drops_its_sequences_and_storage(env):
    env.run("create table t(a serial)")
    storage = env.table("t").storage_id
    env.run("drop table t")
    assert env.relation("t_a_seq") is None
    assert ("clear", storage) in env.calls
    assert env.overlay.changes() is None


def test_constant_default_needs_no_rewrite(env):
    env.run("create table t(a int)")
    env.run("alter table t add column b int default 3")
    assert env.table("t").column_by_name["b"].missing_value == b"value"
    assert not env.calls


def test_volatile_default_rewrites(env):
    env.run("create table t(a int)")
    storage = env.table("t").storage_id
    env.volatile_defaults = True
    env.run("alter table t add column b float8 default random()")
    assert env.table("t").storage_id != storage
    assert env.calls == [("rewrite", "t", []), ("clear", storage)]


def test_type_change_rewrites_only_when_values_change(env):
    env.run("create table t(a int, b varchar(3))")
    env.run("alter table t alter column b type text")
    assert env.calls == []
    assert env.table("t").column_by_name["b"].type is TEXT
    env.run("alter table t alter column a type bigint")
    assert env.calls[0] == ("rewrite", "t", [0])
    assert env.table("t").column_by_name["a"].type is INT8


def test_a_primary_key_added_later_takes_the_place_of_the_hidden_one(env):
    env.run("create table t(a int)")
    storage = env.table("t").storage_id
    env.run("alter table t add primary key (a)")
    table = env.table("t")
    assert (table.primary_name, table.clustering_key) == ("t_pkey", (0,))
    assert table.column_by_name["a"].not_null
    assert env.calls == [("rewrite", "t", []), ("clear", storage), ("not null", "a")]


def test_a_unique_index_can_become_the_primary_key(env):
    env.run("create table t(a int); create unique index i on t(a)")
    env.run("alter table t add constraint pk primary key using index i")
    index = env.table("t").indexes[0]
    assert (index.name, index.primary, index.constraint) == ("pk", True, True)
    assert ("not null", "a") in env.calls


def test_dropping_the_clustering_key_moves_the_rows(env):
    env.run("create table t(a int primary key, b int); alter table t drop constraint t_pkey")
    table = env.table("t")
    assert table.columns[table.clustering_key[0]].hidden
    assert env.calls[0] == ("rewrite", "t", [])


def test_passes_are_ordered_like_postgresqls(env):
    env.run("create table t(a int)")
    env.run("alter table t add check (b > 0), add column b int, drop column a")
    table = env.table("t")
    assert [c.name for c in table.visible_columns] == ["b"]
    assert table.checks[0].name == "t_b_check"


def test_not_valid_and_validate(env):
    env.run("create table t(a int); alter table t add constraint k check (a > 0) not valid")
    assert env.calls == []
    env.run("alter table t validate constraint k")
    assert env.calls == [("check", "k")]
    assert env.table("t").checks[0].validated


def test_rename_column_reaches_expressions_and_views(env):
    env.run("create table t(a int check (a > 0), g int generated always as (a * 2) stored)")
    env.run("create view v as select a from t; alter table t rename column a to z")
    env.run("alter table t add check (z < 100); alter table t rename to u")
    table = env.table("u")
    assert str(table.checks[0].expression).count("'z'") == 1
    view = env.relation("v")
    assert view.query.from_items[0].alias.columns[0] == "a"
    assert [c.name for c in view.columns] == ["a"]


def test_like_copies_what_is_included(env):
    env.run("create table s(a int default 3 primary key, b text check (b <> ''))")
    env.run("create table t(like s including defaults including constraints)")
    table = env.table("t")
    assert table.column_by_name["a"].default is not None
    assert table.primary_name == ""
    assert [c.name for c in table.checks] == ["s_b_check"]
    env.run("create table u(like s including all)")
    assert env.table("u").primary_name == "u_pkey"


def test_temporary_tables_live_in_their_own_schema(env):
    env.run("create table t(a int); create temp table t(b int)")
    assert env.table("t", "pg_temp_77").temporary_session == 77
    env.run("drop table t")
    assert env.relation("t", "pg_temp_77") is None
    assert env.relation("t") is not None


def test_create_table_as_and_truncate(env):
    env.run("create table s(a int)")
    assert env.run("create table t as select a, 1 as b from s") == ["SELECT 3"]
    assert [c.name for c in env.table("t").visible_columns] == ["a", "b"]
    storage = env.table("t").storage_id
    env.run("truncate t")
    assert env.table("t").storage_id != storage


def test_renamed_sequence_keeps_its_default(env):
    env.run("create table t(a serial); alter sequence t_a_seq rename to q")
    sqlstate, _, detail, _ = env.fail("drop sequence q")
    assert sqlstate == "2BP01"
    assert detail == "default value for column a of table t depends on sequence q"


def test_transaction_leaves_nothing_behind_after_rollback(env):
    mark = env.overlay.mark()
    env.run("create table t(a serial primary key); create schema s; create role r")
    env.overlay.rollback(mark)
    assert env.overlay.changes() is None
