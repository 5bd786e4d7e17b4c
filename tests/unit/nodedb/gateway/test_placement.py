"""Where statements may run: what is not known to be harmless goes to the leader."""

import pytest
from forwarding_world import World

from nodedb.gateway.placement import _HARMLESS, _NUMBERS_TRANSACTION, _READS_LEADER, Placement
from sql.functions.builtin import REGISTRY

HERE, ROWS, LEADER, EFFECTS = Placement


@pytest.mark.parametrize(
    ("text", "placement"),
    [
        ("SELECT 1", HERE),
        ("SELECT upper('a'), now(), current_user", HERE),
        ("SELECT * FROM generate_series(1, 3)", HERE),
        ("SELECT * FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace", HERE),
        ("SELECT * FROM information_schema.columns", HERE),
        ("SELECT * FROM pg_stat_activity", HERE),
        ("SELECT 't'::regclass", HERE),
        ("VALUES (1), (2)", HERE),
        ("SELECT * FROM t", ROWS),
        ("SELECT (SELECT max(a) FROM t)", ROWS),
        ("SELECT 1 UNION SELECT a FROM t", ROWS),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT a FROM t, r) SELECT * FROM r", ROWS),
        ("SELECT * FROM v", ROWS),
        ("SELECT a FROM t ORDER BY random()", ROWS),
        ("SELECT count(*) FILTER (WHERE a > 1) OVER () FROM t", ROWS),
        ("SELECT currval('s')", LEADER),
        ("SELECT * FROM s", LEADER),
        ("SELECT * FROM pg_locks", LEADER),
        ("SELECT pg_blocking_pids(1)", LEADER),
        ("EXPLAIN UPDATE t SET b = ''", LEADER),
        ("COPY (SELECT 1) TO STDOUT", LEADER),
        ("UNLISTEN *", LEADER),
        ("SELECT nextval('s')", EFFECTS),
        ("SELECT CASE WHEN false THEN nextval('s') END", EFFECTS),
        ("SELECT a FROM t ORDER BY nextval('s')", EFFECTS),
        ("SELECT * FROM t LIMIT (SELECT nextval('s'))", EFFECTS),
        ("SELECT * FROM nextval('s')", EFFECTS),
        ("SELECT count(nextval('s'))", EFFECTS),
        ("SELECT 1 WHERE pg_try_advisory_lock(1)", EFFECTS),
        ("SELECT * FROM w", EFFECTS),
        ("SELECT pg_notify('a', 'b')", EFFECTS),
        ("SELECT txid_current()", EFFECTS),
        ("SELECT * FROM t FOR KEY SHARE", EFFECTS),
        ("SELECT * FROM (SELECT * FROM t FOR UPDATE) x", EFFECTS),
        ("WITH x AS (DELETE FROM t RETURNING a) SELECT 1", EFFECTS),
        ("INSERT INTO t VALUES (5, '')", EFFECTS),
        ("EXPLAIN ANALYZE DELETE FROM t", EFFECTS),
        ("EXPLAIN (ANALYZE) SELECT * FROM t", LEADER),
        ("COPY t FROM STDIN", EFFECTS),
        ("CREATE TABLE x (v int)", EFFECTS),
        ("VACUUM", EFFECTS),
        ("DECLARE c CURSOR FOR SELECT 1", EFFECTS),
        ("FETCH c", EFFECTS),
        ("CLOSE ALL", EFFECTS),
        ("DISCARD ALL", EFFECTS),
        ("DISCARD PLANS", HERE),
        ("EXECUTE one", HERE),
        ("EXECUTE rows", ROWS),
        ("EXECUTE args (nextval('s'))", EFFECTS),
        ("EXECUTE args (1)", ROWS),
        ("DO 'x'", EFFECTS),
    ],
)
def test_placement(world: World, text: str, placement: Placement) -> None:
    client = world.client(1)
    client.run("CREATE SEQUENCE s; CREATE VIEW v AS SELECT a FROM t")
    client.run("CREATE VIEW w AS SELECT nextval('s') AS n")
    client.run("PREPARE one AS SELECT 1; PREPARE rows AS SELECT a FROM t")
    client.run("PREPARE args (int) AS SELECT a FROM t WHERE a = $1")
    placed = client.session.place_text(text)
    assert [each.placement for each in placed] == [placement]


def test_functions_in_the_lists_exist() -> None:
    """A name that is written wrong would be forwarded, or worse, not."""
    for name in _HARMLESS | _READS_LEADER | _NUMBERS_TRANSACTION:
        assert REGISTRY.functions[name], name


def test_every_volatile_function_was_thought_of() -> None:
    """A new one goes to the leader until somebody says that it need not."""
    known = _HARMLESS | _READS_LEADER | _NUMBERS_TRANSACTION
    with_effects = {
        function.name
        for functions in REGISTRY.functions.values()
        for function in functions
        if function.volatility == "volatile" and function.name not in known
    }
    assert with_effects == {
        "nextval",
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_advisory_unlock",
        "pg_advisory_unlock_all",
        "pg_advisory_unlock_shared",
        "pg_advisory_xact_lock",
        "pg_advisory_xact_lock_shared",
        "pg_cancel_backend",
        "pg_notify",
        "pg_reload_conf",
        "pg_stat_reset",
        "pg_terminate_backend",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "pg_try_advisory_xact_lock",
        "pg_try_advisory_xact_lock_shared",
        "pg_xact_commit_timestamp",
        "setval",
    }
