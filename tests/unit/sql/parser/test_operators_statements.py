"""What operators write: SHOW ROUTING FOR TABLE, ALTER CLUSTER, ALTER NODE, SHOW in FROM."""

import pytest

from sql.ast.deparse import deparse_query
from sql.ast.query import Alias, JoinRef, QualifiedName, Select, TableRef
from sql.ast.utility import AlterCluster, ShowCluster, ShowVariable
from sql.errors import FeatureNotSupported, SqlError, SqlSyntaxError
from sql.parser.statements import parse_statements
from sql.span import Span


def parsed(text: str) -> object:
    (statement,) = parse_statements(text)
    return statement.statement


def test_a_routing_key_keeps_every_digit() -> None:
    text = "show routing for table s.\"T.x\" key (1, 'it''s', -2, null, true, false, -1.50, 9999999999)"
    assert parsed(text) == ShowCluster(
        "routing",
        (1, "it's", -2, None, True, False, "-1.50", "9999999999"),
        Span(0, len(text)),
        QualifiedName("T.x", "s", span=Span(23, 30)),
    )


@pytest.mark.parametrize(
    ("text", "node_id", "name", "values"),
    [
        ("ALTER CLUSTER SET replication_factor = 5", 0, "replication_factor", (5,)),
        ("alter cluster set node_dead_after to '10min';", 0, "node_dead_after", ("10min",)),
        ("ALTER CLUSTER SET require_join_token = on", 0, "require_join_token", ("on",)),
        ("ALTER CLUSTER SET a.b TO DEFAULT", 0, "a.b", ()),
        ("ALTER CLUSTER RESET heartbeat_interval", 0, "heartbeat_interval", None),
        ("ALTER CLUSTER RESET ALL", 0, "all", None),
        ("ALTER NODE 3 SET drain_lease_wait = '5s'", 3, "drain_lease_wait", ("5s",)),
        ("alter node 12 reset drain_lease_wait", 12, "drain_lease_wait", None),
        ("ALTER CLUSTER SET a = 1, 2", 0, "a", (1, 2)),
    ],
)
def test_alter_cluster_and_node(
    text: str, node_id: int, name: str, values: tuple[object, ...] | None
) -> None:
    statement = parsed(text)
    assert isinstance(statement, AlterCluster)
    assert (statement.node_id, statement.name, statement.values) == (node_id, name, values)
    if values is not None:
        assert text[statement.name_span.start :].startswith(name.split(".", 1)[0])


@pytest.mark.parametrize(
    ("text", "view", "alias"),
    [
        ("SELECT * FROM [SHOW RANGES]", "ranges", None),
        ("select * from [ show routing ] r", "routing", Alias("r")),
        (
            "select * from [show schema version] as v (p, q)",
            "schema_version",
            Alias("v", ("p", "q")),
        ),
        ("select * from [SHOW NODES] WHERE node_id = 1", "nodes", None),
        ("select * from [SHOW CLUSTER] LIMIT 1", "cluster", None),
        ("select * from [SHOW RAFT GROUPS] ORDER BY 1", "raft_groups", None),
        ("select * from [SHOW PEER HEALTH]", "peer_health", None),
    ],
)
def test_a_show_in_brackets_is_a_view(text: str, view: str, alias: Alias | None) -> None:
    statement = parsed(text)
    assert isinstance(statement, Select)
    (item,) = statement.from_items
    assert isinstance(item, TableRef)
    assert (item.name.schema, item.name.name, item.alias) == ("nodedb_internal", view, alias)
    assert text[item.span.start : item.span.end].startswith("[")


def test_rows_of_shows_are_joined() -> None:
    statement = parsed(
        "SELECT * FROM ([SHOW RANGES] r JOIN [SHOW NODES] n ON r.leaseholder = n.node_id), t"
    )
    assert isinstance(statement, Select)
    join, _ = statement.from_items
    assert isinstance(join, JoinRef)
    assert "nodedb_internal.ranges r" in deparse_query(statement)


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("ALTER CLUSTER", "syntax error at end of input", 14),
        ("ALTER CLUSTER x", 'syntax error at or near "x"', 15),
        ("ALTER CLUSTER SET", "syntax error at end of input", 18),
        ("ALTER CLUSTER SET a", "syntax error at end of input", 20),
        ("ALTER CLUSTER SET a = ", "syntax error at end of input", 23),
        ("ALTER CLUSTER SET a == 1", 'syntax error at or near "=="', 21),
        ("ALTER CLUSTER RESET", "syntax error at end of input", 20),
        ("ALTER CLUSTER RESET a b", 'syntax error at or near "b"', 23),
        ("ALTER NODE", "syntax error at end of input", 11),
        ("ALTER NODE SET a = 1", 'syntax error at or near "SET"', 12),
        ("ALTER NODE 'n1' SET a = 1", "syntax error at or near \"'n1'\"", 12),
        ("ALTER NODE -1 SET a = 1", 'syntax error at or near "-"', 12),
        ("ALTER NODE 1.5 SET a = 1", 'syntax error at or near "1.5"', 12),
        ("ALTER NODE 0 SET a = 1", "node_id must be above 0", 12),
        ("ALTER NODE 1 RENAME TO b", 'syntax error at or near "RENAME"', 14),
        ('ALTER "NODE" 1 SET a = 1', 'syntax error at or near ""NODE""', 7),
        ("SHOW NODE x", 'syntax error at or near "x"', 11),
        ("SHOW NODES 1", 'syntax error at or near "1"', 12),
        ("SHOW ROUTING FOR", "syntax error at end of input", 17),
        ("SHOW ROUTING FOR TABLE", "syntax error at end of input", 23),
        ("SHOW ROUTING FOR TABLE t", "syntax error at end of input", 25),
        ("SHOW ROUTING FOR TABLE t KEY", "syntax error at end of input", 29),
        ("SHOW ROUTING FOR TABLE t KEY ()", 'syntax error at or near ")"', 31),
        ("SHOW ROUTING FOR TABLE t KEY (1", "syntax error at end of input", 32),
        ("SHOW ROUTING FOR TABLE t KEY (1,)", 'syntax error at or near ")"', 33),
        ("SHOW ROUTING FOR TABLE t KEY (a)", 'syntax error at or near "a"', 31),
        ("SHOW ROUTING FOR TABLE t KEY (1 + 1)", 'syntax error at or near "+"', 33),
        ("SELECT * FROM []", 'syntax error at or near "]"', 16),
        ("SELECT * FROM [", "syntax error at end of input", 16),
        ("SELECT * FROM [SELECT 1]", 'syntax error at or near "SELECT"', 16),
        ("SELECT * FROM [SHOW]", 'syntax error at or near "]"', 20),
        ("SELECT * FROM [SHOW RANGES", "syntax error at end of input", 27),
        ("SELECT * FROM [SHOW RANGES;", 'syntax error at or near ";"', 27),
        ("SELECT * FROM [SHOW RANGES]]", 'syntax error at or near "]"', 28),
        ("SELECT [SHOW RANGES]", 'syntax error at or near "["', 8),
        ("INSERT INTO [SHOW RANGES] VALUES (1)", 'syntax error at or near "["', 13),
    ],
)
def test_syntax_errors_have_their_place(text: str, message: str, position: int) -> None:
    with pytest.raises(SqlSyntaxError) as caught:
        parse_statements(text)
    assert (caught.value.message, place(caught.value)) == (message, position)


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("SELECT * FROM [SHOW work_mem]", "SHOW WORK_MEM in FROM is not supported", 21),
        ("SELECT * FROM [SHOW NODE 2]", "SHOW NODE in FROM is not supported", 21),
        (
            "SELECT * FROM [SHOW ROUTING FOR TABLE t KEY (1)]",
            "SHOW ROUTING FOR in FROM is not supported",
            21,
        ),
        ("SELECT * FROM [SHOW RANGES x]", "SHOW RANGES X in FROM is not supported", 21),
        ("SELECT * FROM [SHOW RANGES 1]", "SHOW RANGES in FROM is not supported", 21),
    ],
)
def test_other_shows_are_no_row_sources(text: str, message: str, position: int) -> None:
    with pytest.raises(FeatureNotSupported) as caught:
        parse_statements(text)
    assert (caught.value.message, place(caught.value)) == (message, position)
    assert "RANGES, ROUTING" in caught.value.hint


def test_a_setting_called_node_is_still_a_setting() -> None:
    assert parsed("SHOW node") == ShowVariable("node", Span(0, 9))


def place(error: SqlError) -> int:
    return error.position or (error.span.start + 1 if error.span else 0)
