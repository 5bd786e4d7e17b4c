"""The operators' SQL on one node: a cluster of one answers everything."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess

Rows = list[tuple[object, ...]]


@pytest.fixture
def clerk(node: NodeProcess) -> Iterator[psycopg.Connection]:
    """A connection of somebody who is no superuser."""
    with node.connect() as admin:
        admin.execute("DROP ROLE IF EXISTS show_clerk")
        admin.execute("CREATE ROLE show_clerk LOGIN")
    with node.connect(user="show_clerk") as connection:
        yield connection


def names(cursor: psycopg.Cursor) -> list[str]:
    assert cursor.description is not None
    return [column.name for column in cursor.description]


def types(cursor: psycopg.Cursor) -> list[int]:
    assert cursor.description is not None
    return [column.type_code for column in cursor.description]


def properties(connection: psycopg.Connection, statement: str) -> dict[str, str]:
    cursor = connection.execute(statement)
    assert names(cursor) == ["property", "value"]
    return dict(cursor.fetchall())  # type: ignore[arg-type]


def test_show_ranges(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (a int PRIMARY KEY)")
    cursor = connection.execute("SHOW RANGES")
    assert names(cursor)[:7] == [
        "vshard_id",
        "group_id",
        "leaseholder",
        "replicas",
        "qps",
        "p99_latency_ms",
        "requests_total",
    ]
    assert types(cursor)[:7] == [20, 20, 20, 25, 701, 701, 20]
    rows = cursor.fetchall()
    assert [row[0] for row in rows] == list(range(1024))
    assert {row[1:4] for row in rows} == {(1, 1, "1")}
    before = sum(row[7] for row in rows)
    connection.execute("INSERT INTO t SELECT generate_series(1, 5000)")
    rows = connection.execute("SHOW RANGES").fetchall()
    assert sum(row[7] for row in rows) - before >= 5000
    assert all(row[7] for row in rows if row[0] < 50), "5000 rows leave no vshard empty"


def test_show_routing(connection: psycopg.Connection) -> None:
    cursor = connection.execute("SHOW ROUTING")
    assert names(cursor) == ["vshard_id", "group_id", "leaseholder_node_id", "leaseholder_addr"]
    rows = cursor.fetchall()
    assert len(rows) == 1024
    ((_, _, node_id, address),) = connection.execute(
        "SELECT 0, 0, node_id, address FROM [SHOW NODES]"
    ).fetchall()
    assert {row[1:] for row in rows} == {(1, node_id, address)}


def test_a_row_is_where_its_key_says(connection: psycopg.Connection) -> None:
    """The vshard that counts one key more is the one that SHOW ROUTING names."""
    connection.execute(
        "CREATE TABLE t (a int, b numeric(20, 3), c char(4), d timestamptz, e bool,"
        " PRIMARY KEY (a, b, c, d, e))"
    )
    keys = [
        ("-7, 12345678901234567.125, 'ab', '2024-02-29 12:00+00', true"),
        ("2147483647, 0, '', '-infinity', false"),
        ("0, '-0.500', 'wxyz', '1999-01-01', 'yes'"),
    ]
    for key in keys:
        before = key_counts(connection)
        connection.execute(f"INSERT INTO t VALUES ({key})")
        after = key_counts(connection)
        ((vshard, group, leader, address),) = connection.execute(
            f"SHOW ROUTING FOR TABLE t KEY ({key})"
        ).fetchall()
        assert [v for v in range(1024) if after[v] != before[v]] == [vshard], key
        assert (group, leader) == (1, 1)
        assert address


def key_counts(connection: psycopg.Connection) -> list[int]:
    rows = connection.execute("SELECT keys FROM [SHOW RANGES] ORDER BY vshard_id").fetchall()
    return [row[0] for row in rows]


def test_routing_of_a_table_distributed_by_a_prefix(connection: psycopg.Connection) -> None:
    connection.execute(
        "CREATE TABLE t (tenant int, id text, PRIMARY KEY (tenant, id))"
        " WITH (distribute_by = 'tenant')"
    )
    by_prefix = connection.execute("SHOW ROUTING FOR TABLE t KEY (5)").fetchall()
    by_key = connection.execute("SHOW ROUTING FOR TABLE public.t KEY (5, 'x')").fetchall()
    assert by_prefix == by_key
    before = key_counts(connection)
    connection.execute("INSERT INTO t VALUES (5, 'y')")
    after = key_counts(connection)
    assert [v for v in range(1024) if after[v] != before[v]] == [by_prefix[0][0]]


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("SHOW ROUTING FOR TABLE no_such KEY (1)", errors.UndefinedTable, '"no_such"'),
        ("SHOW ROUTING FOR TABLE v KEY (1)", errors.WrongObjectType, "not a table"),
        ("SHOW ROUTING FOR TABLE pg_class KEY (1)", errors.WrongObjectType, "not a table"),
        (
            "SHOW ROUTING FOR TABLE bare KEY (1)",
            errors.ObjectNotInPrerequisiteState,
            "no primary key",
        ),
        (
            "SHOW ROUTING FOR TABLE t KEY (1)",
            errors.InvalidParameterValue,
            r'key of table "t" is \(a, b\), not 1 values',
        ),
        ("SHOW ROUTING FOR TABLE t KEY (1, 'x', 2)", errors.InvalidParameterValue, "not 3 values"),
        ("SHOW ROUTING FOR TABLE t KEY (1, NULL)", errors.NullValueNotAllowed, 'column "b"'),
        ("SHOW ROUTING FOR TABLE t KEY ('x', 'y')", errors.InvalidTextRepresentation, '"x"'),
        ("SHOW ROUTING FOR TABLE t KEY (1.5, 'y')", errors.InvalidTextRepresentation, '"1.5"'),
        (
            "SHOW ROUTING FOR TABLE t KEY (99999999999, 'y')",
            errors.NumericValueOutOfRange,
            "out of range",
        ),
        ("SHOW NODE 7", errors.UndefinedObject, "node 7 does not exist"),
        ("SHOW NODE 'seven'", errors.SyntaxError, "must be a number"),
        ("SHOW NODE ''", errors.SyntaxError, "must be a number"),
        ("SHOW RAFT GROUP 9", errors.UndefinedObject, "raft group 9"),
        ("SHOW RAFT GROUP 'x'", errors.SyntaxError, "must be a number"),
        ("SHOW MIGRATIONS", errors.FeatureNotSupported, "MIGRATIONS"),
        ("SELECT * FROM nodedb_internal.no_such", errors.UndefinedTable, "no_such"),
        ("SELECT no_such FROM [SHOW RANGES]", errors.UndefinedColumn, "no_such"),
        ("INSERT INTO nodedb_internal.nodes VALUES (1)", errors.Error, "nodes"),
        ("CREATE TABLE nodedb_internal.x ()", errors.InsufficientPrivilege, "nodedb_internal"),
        ("CREATE SCHEMA nodedb_internal", errors.DuplicateSchema, "nodedb_internal"),
        ("DROP SCHEMA nodedb_internal", errors.Error, "nodedb_internal"),
        ("DROP VIEW nodedb_internal.nodes", errors.Error, "nodes"),
    ],
)
def test_bad_input(
    connection: psycopg.Connection, statement: str, error: type[errors.Error], message: str
) -> None:
    connection.execute("CREATE TABLE t (a int, b text, PRIMARY KEY (a, b))")
    connection.execute("CREATE TABLE bare (a int)")
    connection.execute("CREATE VIEW v AS SELECT 1 AS a")
    with pytest.raises(error, match=message):
        connection.execute(statement)
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_wrong_name_is_pointed_at(connection: psycopg.Connection) -> None:
    with pytest.raises(errors.UndefinedTable) as caught:
        connection.execute("SHOW ROUTING FOR TABLE no_such KEY (1)")
    assert caught.value.diag.statement_position == "24"
    with pytest.raises(errors.UndefinedObject) as unknown:
        connection.execute("ALTER CLUSTER SET no_such = 1")
    assert unknown.value.diag.statement_position == "19"


def test_show_schema_version_follows_ddl(connection: psycopg.Connection) -> None:
    before = properties(connection, "SHOW SCHEMA VERSION")
    connection.execute("CREATE TABLE t (a int)")
    after = properties(connection, "SHOW SCHEMA VERSION")
    assert int(after["schema_version"]) > int(before["schema_version"])
    assert int(after["metadata_applied_index"]) >= int(after["schema_version"])
    assert int(after["catalog_changes"]) == int(before["catalog_changes"]) + 1
    assert after["node_id"] == "1"


def test_show_nodes_and_one_of_them(connection: psycopg.Connection) -> None:
    cursor = connection.execute("SHOW NODES")
    assert names(cursor)[:4] == ["node_id", "address", "state", "raft_groups"]
    ((node_id, address, state, groups, *_),) = cursor.fetchall()
    assert (node_id, state, groups) == (1, "active", "0, 1")
    found = properties(connection, "SHOW NODE 1")
    assert found == properties(connection, "SHOW NODE '1'")
    assert (found["node_id"], found["address"], found["state"]) == ("1", address, "active")
    assert found["raft_groups"] == "0, 1"


def test_show_cluster(connection: psycopg.Connection) -> None:
    found = properties(connection, "SHOW CLUSTER")
    assert found["nodes_total"] == found["nodes_active"] == "1"
    assert found["vshards"] == "1024"
    assert (found["raft_groups"], found["groups_leading"]) == ("2", "2")
    assert found["groups_following"] == "0"
    assert found["topology_version"].isdigit()


def test_show_raft_groups(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (a int)")
    cursor = connection.execute("SHOW RAFT GROUPS")
    assert names(cursor)[:8] == [
        "group_id",
        "role",
        "leader_id",
        "term",
        "commit_index",
        "last_applied",
        "members",
        "vshards",
    ]
    rows = cursor.fetchall()
    assert [(row[0], row[1], row[2], row[6], row[7]) for row in rows] == [
        (0, "leader", 1, 1, 0),
        (1, "leader", 1, 1, 1024),
    ]
    before = rows[1][5]
    connection.execute("INSERT INTO t VALUES (1)")
    group = properties(connection, "SHOW RAFT GROUP 1")
    assert int(group["last_applied"]) > before
    assert group["vshards"] == "0..1023 (1024 total)"
    assert (group["members"], group["member_count"]) == ("1", "1")
    assert properties(connection, "SHOW RAFT GROUP 0")["vshards"] == "(0 total)"


def test_show_peer_health(connection: psycopg.Connection) -> None:
    cursor = connection.execute("SHOW PEER HEALTH")
    assert names(cursor)[:5] == ["node_id", "address", "node_state", "circuit", "failures"]
    assert cursor.fetchall() == []


def test_rows_of_shows_are_filtered_joined_and_aliased(connection: psycopg.Connection) -> None:
    assert connection.execute(
        "SELECT vshard_id FROM [SHOW RANGES] WHERE vshard_id % 512 = 3 ORDER BY 1"
    ).fetchall() == [(3,), (515,)]
    assert connection.execute(
        "SELECT count(*), min(n.state) FROM [SHOW RANGES] AS r (v)"
        " JOIN [SHOW NODES] n ON n.node_id = r.leaseholder"
    ).fetchall() == [(1024, "active")]
    assert (
        connection.execute(
            "SELECT ranges.vshard_id FROM [SHOW RANGES] LEFT JOIN nodedb_internal.routing USING"
            " (vshard_id) WHERE routing.leaseholder_addr IS NULL"
        ).fetchall()
        == []
    )
    connection.execute(
        "CREATE VIEW by_group AS SELECT group_id, count(*) FROM [SHOW RANGES] GROUP BY 1"
    )
    assert connection.execute("SELECT * FROM by_group").fetchall() == [(1, 1024)]
    ((definition,),) = connection.execute("SELECT pg_get_viewdef('by_group'::regclass)").fetchall()
    assert "nodedb_internal.ranges" in definition
    assert connection.execute(
        "SELECT value FROM [SHOW SCHEMA VERSION] WHERE property = %s", ("node_id",)
    ).fetchall() == [("1",)]


def test_the_views_are_found_along_the_search_path(connection: psycopg.Connection) -> None:
    connection.execute("SET search_path = nodedb_internal")
    assert connection.execute("SELECT node_id FROM nodes").fetchall() == [(1,)]
    assert connection.execute("SELECT 'nodes'::regclass::text").fetchall() == [("nodes",)]
    with pytest.raises(errors.InsufficientPrivilege, match="denied"):
        connection.execute("CREATE TABLE mine (a int)")


def test_a_prepared_statement_shows_what_is_true_now(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (a int PRIMARY KEY)")
    connection.execute("PREPARE count_keys AS SELECT sum(keys)::int FROM [SHOW RANGES]")
    ((before,),) = connection.execute("EXECUTE count_keys").fetchall()
    connection.execute("INSERT INTO t SELECT generate_series(1, 10)")
    assert connection.execute("EXECUTE count_keys").fetchall() == [(before + 10,)]


@pytest.mark.parametrize(
    "view",
    ["ranges", "routing", "nodes", "cluster", "raft_groups", "peer_health", "schema_version"],
)
def test_a_view_is_its_show(connection: psycopg.Connection, view: str) -> None:
    shown = connection.execute(f"SHOW {view.replace('_', ' ')}")
    viewed = connection.execute(f"SELECT * FROM nodedb_internal.{view}")
    assert names(shown) == names(viewed)
    assert types(shown) == types(viewed)
    assert shown.fetchall() == viewed.fetchall()


@pytest.mark.parametrize(
    "what",
    ["RANGES", "NODES", "NODE 1", "CLUSTER", "RAFT GROUPS", "RAFT GROUP 1", "PEER HEALTH"],
)
def test_shows_of_superusers(clerk: psycopg.Connection, what: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege, match="must be superuser to execute SHOW"):
        clerk.execute(f"SHOW {what}")
    if what[-1] != "1":
        with pytest.raises(errors.InsufficientPrivilege, match="must be superuser"):
            clerk.execute(f"SELECT * FROM [SHOW {what}]")


def test_shows_of_everybody(clerk: psycopg.Connection) -> None:
    assert len(clerk.execute("SHOW ROUTING").fetchall()) == 1024
    assert properties(clerk, "SHOW SCHEMA VERSION")["node_id"] == "1"
    assert clerk.execute("SELECT count(*) > 5 FROM nodedb_internal.settings").fetchall() == [
        (True,)
    ]
    for statement in ("ALTER CLUSTER SET replication_factor = 3", "ALTER NODE 1 RESET ALL"):
        with pytest.raises(
            errors.InsufficientPrivilege, match="must be superuser to execute ALTER"
        ):
            clerk.execute(statement)


def test_the_views_stay_out_of_other_tools_way(connection: psycopg.Connection) -> None:
    for query in (
        "SELECT nspname FROM pg_namespace WHERE nspname = 'nodedb_internal'",
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'nodedb_internal'",
        "SELECT viewname FROM pg_views WHERE schemaname = 'nodedb_internal'",
        "SELECT relname FROM pg_class WHERE relname = 'raft_groups'",
    ):
        assert connection.execute(query).fetchall() == [], query


# Settings


def setting(connection: psycopg.Connection, name: str, node_id: int | None = None) -> object:
    rows = connection.execute(
        "SELECT value FROM nodedb_internal.settings WHERE name = %s"
        " AND node_id IS NOT DISTINCT FROM %s::int8",
        (name, node_id),
    ).fetchall()
    return rows[0][0] if rows else None


def test_alter_cluster(connection: psycopg.Connection) -> None:
    assert setting(connection, "replication_factor") == "3"
    cursor = connection.execute("ALTER CLUSTER SET replication_factor = 5")
    assert cursor.statusmessage == "ALTER CLUSTER"
    assert setting(connection, "replication_factor") == "5"
    connection.execute("ALTER CLUSTER SET Node_Dead_After TO '90s'")
    assert setting(connection, "node_dead_after") == "90s"
    connection.execute("ALTER CLUSTER SET node_dead_after = 120000")
    assert setting(connection, "node_dead_after") == "2min"
    connection.execute("ALTER CLUSTER SET require_join_token = true")
    assert setting(connection, "require_join_token") == "on"
    connection.execute("ALTER CLUSTER SET node_dead_after TO DEFAULT")
    assert setting(connection, "node_dead_after") == "5min"
    connection.execute("ALTER CLUSTER RESET ALL")
    assert setting(connection, "replication_factor") == "3"
    assert setting(connection, "require_join_token") == "off"


def test_alter_node(connection: psycopg.Connection) -> None:
    cursor = connection.execute("ALTER NODE 1 SET drain_lease_wait = '1500ms'")
    assert cursor.statusmessage == "ALTER NODE"
    assert setting(connection, "drain_lease_wait", 1) == "1500ms"
    assert setting(connection, "drain_lease_wait") == "5s"
    connection.execute("ALTER NODE 1 RESET drain_lease_wait")
    assert setting(connection, "drain_lease_wait", 1) is None


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("ALTER CLUSTER SET no_such = 1", errors.UndefinedObject, 'setting "no_such"'),
        ("ALTER CLUSTER RESET no_such", errors.UndefinedObject, 'setting "no_such"'),
        ("ALTER CLUSTER SET work_mem = '1MB'", errors.UndefinedObject, "work_mem"),
        ("ALTER CLUSTER SET replication_factor = 0", errors.InvalidParameterValue, r"1 \.\. 7"),
        ("ALTER CLUSTER SET replication_factor = 2.5", errors.InvalidParameterValue, '"2.5"'),
        ("ALTER CLUSTER SET replication_factor = many", errors.InvalidParameterValue, '"many"'),
        ("ALTER CLUSTER SET replication_factor = 1, 2", errors.InvalidParameterValue, "one arg"),
        ("ALTER CLUSTER SET require_join_token = maybe", errors.InvalidParameterValue, "Boolean"),
        ("ALTER CLUSTER SET node_dead_after = '5 weeks'", errors.InvalidParameterValue, "weeks"),
        ("ALTER CLUSTER SET node_dead_after = '1s'", errors.InvalidParameterValue, "10s .. 30d"),
        ("ALTER CLUSTER SET node_dead_after = -1", errors.InvalidParameterValue, '"-1"'),
        (
            "ALTER CLUSTER SET heartbeat_interval = '500ms'",
            errors.InvalidParameterValue,
            "do not go together",
        ),
        (
            "ALTER CLUSTER SET election_timeout_max = '700ms'",
            errors.InvalidParameterValue,
            "do not go together",
        ),
        ("ALTER CLUSTER SET num_groups = 8", errors.CantChangeRuntimeParam, "num_groups"),
        (
            "ALTER CLUSTER SET election_timeout_min = '1s'",
            errors.CantChangeRuntimeParam,
            "election_timeout_min",
        ),
        ("ALTER CLUSTER RESET num_groups", errors.CantChangeRuntimeParam, "num_groups"),
        ("ALTER NODE 9 SET drain_lease_wait = '1s'", errors.UndefinedObject, "node 9 does not"),
        ("ALTER NODE 1 SET replication_factor = 1", errors.InvalidParameterValue, "not a node"),
        ("ALTER NODE 1 SET no_such = 1", errors.UndefinedObject, "no_such"),
        ("ALTER CLUSTER ADD NODE 3", errors.SyntaxError, "ADD"),
    ],
)
def test_bad_settings_change_nothing(
    connection: psycopg.Connection, statement: str, error: type[errors.Error], message: str
) -> None:
    before = connection.execute("SELECT * FROM nodedb_internal.settings").fetchall()
    with pytest.raises(error, match=message):
        connection.execute(statement)
    assert connection.execute("SELECT * FROM nodedb_internal.settings").fetchall() == before


def test_settings_are_no_part_of_a_transaction(node: NodeProcess) -> None:
    with node.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(errors.ActiveSqlTransaction, match="ALTER CLUSTER cannot run inside"):
            connection.execute("ALTER CLUSTER SET replication_factor = 5")
    with node.connect() as connection:
        with pytest.raises(errors.ActiveSqlTransaction, match="ALTER NODE cannot run inside"):
            connection.execute("SELECT 1; ALTER NODE 1 SET drain_lease_wait = '1s'")
        assert setting(connection, "drain_lease_wait", 1) is None
