"""psql's descriptions of a table with everything, as PostgreSQL 15 prints them."""

import pytest

from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.usefixtures("needs_psql")

SCHEMA = """
CREATE TABLE parent (id int PRIMARY KEY, code text NOT NULL UNIQUE, v int DEFAULT 3);
CREATE TABLE t (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(30) NOT NULL DEFAULT 'x',
    n numeric(10,2) CHECK (n > 0),
    g int GENERATED ALWAYS AS (pid * 2 + 1) STORED,
    pid int REFERENCES parent ON DELETE CASCADE,
    CONSTRAINT named CHECK (name <> '' AND name IN ('x', 'y'))
);
CREATE INDEX t_lower ON t (lower(name));
CREATE INDEX t_some ON t (n DESC NULLS LAST) WHERE n > 10;
CREATE TABLE child (t bigint REFERENCES t DEFERRABLE);
"""
IN_LIST = "(ARRAY['x'::character varying, 'y'::character varying]::text[])"
DESCRIPTION = f"""\
 id     | bigint                |           | not null | generated always as identity
 name   | character varying(30) |           | not null | 'x'::character varying
 n      | numeric(10,2)         |           |          |
 g      | integer               |           |          | generated always as (pid * 2 + 1) stored
 pid    | integer               |           |          |
Indexes:
    "t_pkey" PRIMARY KEY, btree (id)
    "t_lower" btree (lower(name::text))
    "t_some" btree (n DESC NULLS LAST) WHERE n > 10::numeric
Check constraints:
    "named" CHECK (name::text <> ''::text AND (name::text = ANY {IN_LIST}))
    "t_n_check" CHECK (n > 0::numeric)
Foreign-key constraints:
    "t_pid_fkey" FOREIGN KEY (pid) REFERENCES parent(id) ON DELETE CASCADE
Referenced by:
    TABLE "child" CONSTRAINT "child_t_fkey" FOREIGN KEY (t) REFERENCES t(id) DEFERRABLE
"""


@pytest.fixture
def described(node: NodeProcess) -> NodeProcess:
    node.psql("-q", script=SCHEMA)
    return node


def test_a_table_with_everything(described: NodeProcess) -> None:
    lines = described.psql("-c", r"\d t").stdout.strip("\n").splitlines()
    # After the title, the column names and their rule; blanks at line ends do not count.
    assert [line.rstrip() for line in lines[3:]] == DESCRIPTION.splitlines()


@pytest.mark.parametrize(
    "command",
    [
        r"\d", r"\d+ t", r"\d t_some", r"\d+ child", r"\dt+", r"\di+", r"\ds+", r"\dv", r"\dm",
        r"\dn+", r"\dp", r"\ddp", r"\dd", r"\du+", r"\dg", r"\l+", r"\df lower", r"\df+ abs",
        r"\dT+ int4", r"\da sum", r"\do =", r"\dC int4", r"\dc", r"\dD", r"\db+", r"\dx", r"\dy",
        r"\dL", r"\drds", r"\dRp", r"\dRs", r"\dF", r"\des", r"\dew", r"\det", r"\dE", r"\dO",
        r"\dA", r"\dAc btree", r"\dAf btree", r"\dP", r"\dX", r"\dconfig work_mem", r"\conninfo",
        r"\d pg_class", r"\d pg_stat_statements",
    ],
)  # fmt: skip
def test_every_description_works(described: NodeProcess, command: str) -> None:
    done = described.psql("-c", command, check=False)
    assert "ERROR" not in done.stderr, done.stderr


def test_statement_statistics_are_a_table(described: NodeProcess) -> None:
    described.psql("-c", "SELECT 1 AS counted")
    query = "SELECT calls > 0, mean_exec_time >= min_exec_time FROM pg_stat_statements LIMIT 1"
    assert described.psql("-Atc", query).stdout == "t|t\n"


def test_privilege_lists_explode(described: NodeProcess) -> None:
    query = "SELECT privilege_type FROM aclexplode(acldefault('S', 10)), pg_roles LIMIT 0"
    assert described.psql("-Atc", query).stdout == ""
    query = "SELECT grantee, privilege_type, is_grantable FROM aclexplode(acldefault('d', 10))"
    assert described.psql("-Atc", query).stdout.splitlines() == [
        "0|TEMPORARY|f", "0|CONNECT|f", "10|CREATE|f", "10|TEMPORARY|f", "10|CONNECT|f"
    ]  # fmt: skip
