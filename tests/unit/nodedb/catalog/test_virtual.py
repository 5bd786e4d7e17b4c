"""System tables: shapes, and rows about user objects."""

import pytest

from nodedb.catalog.virtual import virtual_tables
from sql.errors import InsufficientPrivilege
from sql.functions.implementation import FUNCTIONS


class Session:
    def system_rows(self, view):
        return []


class Context:
    session = Session()
    transaction_timestamp = statement_timestamp = 0

    def __init__(self, env):
        self.catalog = env.catalog

    def clock(self):
        return 0


def rows(env, name, schema="pg_catalog"):
    table = virtual_tables().by_name[{"pg_catalog": 11, "information_schema": 13200}[schema], name]
    names = [column for column, _ in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows(Context(env))]


@pytest.fixture
def filled(env):
    env.run(
        "create table p(id int primary key); comment on table p is 'parents';"
        "create table c(a serial, p int references p on delete set null, b varchar(5) default 'x',"
        " check (a > 0), unique (p, b)); create view v as select id from p;"
        "create unique index ci on c (lower(b)) where a > 1"
    )
    return env


def test_every_table_gives_rows_of_its_shape(filled):
    context = Context(filled)
    for table in virtual_tables().by_oid.values():
        for row in table.rows(context):
            assert len(row) == len(table.columns), table.name


def test_pg_class_has_every_relation_once(filled):
    found = rows(filled, "pg_class")
    assert len({r["oid"] for r in found}) == len(found)
    kinds = {r["relname"]: r["relkind"] for r in found}
    names = ("p", "p_pkey", "c", "c_a_seq", "ci", "v", "pg_class")
    assert [kinds[name] for name in names] == ["r", "i", "r", "S", "i", "v", "r"]


def test_pg_attribute_numbers_and_types(filled):
    table = filled.table("c")
    found = [
        (r["attname"], r["attnum"], r["atttypid"], r["atttypmod"], r["attnotnull"])
        for r in rows(filled, "pg_attribute")
        if r["attrelid"] == table.id and r["attnum"] > 0
    ]
    assert found == [("a", 1, 23, -1, True), ("p", 2, 23, -1, False), ("b", 3, 1043, 9, False)]


def test_defaults_show_sequences_by_name(filled):
    table = filled.table("c")
    texts = [r["adbin"] for r in rows(filled, "pg_attrdef") if r["adrelid"] == table.id]
    show = FUNCTIONS["pg_get_expr(pg_node_tree,oid)"].function
    assert show(Context(filled), texts[0], table.id) == "nextval('c_a_seq'::regclass)"
    filled.search_path = ()
    assert show(Context(filled), texts[0], table.id) == "nextval('public.c_a_seq'::regclass)"


def test_pg_constraint(filled):
    found = {r["conname"]: r for r in rows(filled, "pg_constraint")}
    assert {n: r["contype"] for n, r in found.items()} == {
        "p_pkey": "p",
        "c_a_check": "c",
        "c_p_b_key": "u",
        "c_p_fkey": "f",
    }
    assert found["c_p_fkey"]["confdeltype"] == "n"
    assert found["c_p_fkey"]["conkey"].elements == (2,)


def test_pg_index_describes_expressions_and_predicates(filled):
    index = next(i for i in filled.table("c").indexes if i.name == "ci")
    found = next(r for r in rows(filled, "pg_index") if r["indexrelid"] == index.id)
    assert found["indkey"].elements == (0,)
    assert "lower" in found["indexprs"]
    assert found["indpred"] is not None
    assert found["indclass"].elements[0] != 0


def test_information_schema(filled):
    tables = {r["table_name"]: r for r in rows(filled, "tables", "information_schema")}
    assert tables["p"]["table_type"] == "BASE TABLE"
    assert tables["v"]["table_type"] == "VIEW"
    columns = [r for r in rows(filled, "columns", "information_schema") if r["table_name"] == "c"]
    assert [(r["column_name"], r["data_type"], r["character_maximum_length"]) for r in columns] == [
        ("a", "integer", None),
        ("p", "integer", None),
        ("b", "character varying", 5),
    ]
    usage = rows(filled, "referential_constraints", "information_schema")
    assert [(r["constraint_name"], r["delete_rule"]) for r in usage] == [("c_p_fkey", "SET NULL")]


def test_information_schema_hides_what_a_role_may_not_see(filled):
    filled.run("create role r; grant select on p to r")
    filled.user_id = filled.overlay.snapshot.role("r").id
    names = {r["table_name"] for r in rows(filled, "tables", "information_schema")}
    assert "p" in names
    assert "c" not in names


def test_secrets_are_for_superusers(filled):
    filled.run("create role r password 'x'")
    secret = {r["rolname"]: r["rolpassword"] for r in rows(filled, "pg_authid")}["r"]
    assert secret.startswith("SCRAM-SHA-256$")
    assert {r["rolpassword"] for r in rows(filled, "pg_roles")} == {"********"}
    filled.user_id = filled.overlay.snapshot.role("r").id
    with pytest.raises(InsufficientPrivilege, match="permission denied for table pg_authid"):
        rows(filled, "pg_authid")


def test_comments(filled):
    found = {(r["objoid"], r["objsubid"]): r["description"] for r in rows(filled, "pg_description")}
    assert found[filled.table("p").id, 0] == "parents"
