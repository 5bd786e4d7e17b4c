"""What a client notices when the leader is lost, or changes: as little as can be, and the truth."""

import pytest
from forwarding_world import COPY_DONE, SYNC, Client, World, bind, copy_data, execute, parse, query

CHANGED = "could not serialize access: the leader of the group has changed"
UNKNOWN = "could not determine whether the transaction was committed"
NOBODY = "the database system is not accepting connections"
FATAL = "E FATAL 57P01 terminating connection because its leader was lost"


def start(client: Client, text: str) -> None:
    """Send a query that will not be answered at once."""
    assert client.run(text) == []


def test_the_next_leader_serves_what_comes(world: World, client: Client) -> None:
    client.run("SELECT * FROM t")
    world.lose(1)
    world.elect(3)
    assert client.rows("SELECT a FROM t ORDER BY a") == ["1", "2"]
    assert client.run("INSERT INTO t VALUES (3, 'z')") == ["C INSERT 0 1", "Z I"]


def test_a_request_waits_for_the_election(world: World, client: Client) -> None:
    world.lose(1)
    start(client, "INSERT INTO t VALUES (3, 'z')")
    world.advance(5)
    assert client.take() == []
    world.elect(3)
    world.advance(0.1)
    assert client.take() == ["C INSERT 0 1", "Z I"]


def test_a_leader_that_does_not_serve_yet_is_asked_again(world: World, client: Client) -> None:
    world.elect(3)
    world.servers[2].leadership.may_serve = False
    start(client, "SELECT a FROM t WHERE a = 1")
    world.advance(3)
    assert client.take() == []
    world.servers[2].leadership.may_serve = True
    world.advance(1)
    assert client.take() == ["T", "D 1", "C SELECT 1", "Z I"]


@pytest.mark.parametrize(("timeout", "budget"), [("0", 10.0), ("60s", 10.0), ("3s", 3.0)])
def test_the_budget_is_spent(world: World, client: Client, timeout: str, budget: float) -> None:
    client.run(f"SET statement_timeout = '{timeout}'")
    world.lose(1)
    start(client, "INSERT INTO t VALUES (3, 'z')")
    world.advance(budget - 0.1)
    assert client.take() == []
    world.advance(0.2)
    assert client.take() == [f"E ERROR 57P03 {NOBODY}", "Z I"]
    assert client.rows("SELECT 1") == ["1"]


def test_the_budget_is_spent_in_a_block_that_had_done_nothing(world: World, client: Client) -> None:
    client.run("BEGIN")
    world.lose(1)
    start(client, "INSERT INTO t VALUES (3, 'z')")
    world.advance(10.1)
    assert client.take() == [f"E ERROR 57P03 {NOBODY}", "Z E"]
    assert client.run("ROLLBACK") == ["C ROLLBACK", "Z I"]


def test_the_budget_is_spent_in_an_extended_query(world: World, client: Client) -> None:
    world.lose(1)
    batch = parse("SELECT * FROM t") + bind() + execute()
    assert client.send(batch, SYNC, query("SELECT 5")) == []
    world.advance(10.1)
    assert client.take() == [
        f"E ERROR 57P03 {NOBODY}", "Z I", "T", "D 5", "C SELECT 1", "Z I",
    ]  # fmt: skip


def test_cancel_while_nobody_leads(world: World, client: Client) -> None:
    world.lose(1)
    start(client, "SELECT * FROM t")
    client.session.cancel()
    assert client.take() == ["E ERROR 57014 canceling statement due to user request", "Z I"]


def test_lost_amid_a_read(world: World, client: Client) -> None:
    start(client, "SELECT pg_sleep(5), a FROM t WHERE a = 1")
    world.lose(1)
    world.elect(3)
    world.advance(5.5)
    assert client.take() == ["T", "D ,1", "C SELECT 1", "Z I"]


def test_lost_amid_a_read_that_has_begun_to_answer(world: World, client: Client) -> None:
    world.client(1).run("INSERT INTO t SELECT n, repeat('w', 1000) FROM generate_series(3, 999) n")
    client.connection.write_paused()
    client.connection.receive(query("SELECT * FROM t UNION ALL SELECT 0, pg_sleep(5)::text"))
    world.run()
    world.lose(1)
    client.connection.write_resumed()
    world.elect(3)
    world.advance(1)
    answers = client.take()
    assert answers[0] == "T"
    assert answers[-2:] == [f"E ERROR 40001 {CHANGED}", "Z I"]


def test_lost_amid_a_write(world: World, client: Client) -> None:
    start(client, "INSERT INTO t SELECT 3, pg_sleep(5)::text")
    world.lose(1)
    world.elect(3)
    world.advance(5.5)
    assert client.take() == ["C INSERT 0 1", "Z I"]
    assert client.rows("SELECT count(*) FROM t") == ["3"]


def test_lost_before_the_answer_of_a_commit(world: World, client: Client) -> None:
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    client.connection.receive(query("COMMIT"))  # On its way to the log when the node is lost.
    world.lose(1)
    assert client.take() == [f"E ERROR 40003 {UNKNOWN}", "Z I"]
    world.elect(3)
    assert client.rows("SELECT count(*) FROM t") == ["3"]


def test_lost_before_the_answer_of_a_prepared_commit(world: World, client: Client) -> None:
    client.send(parse("COMMIT", "c"), SYNC)
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    client.connection.receive(bind(statement="c") + execute() + SYNC)
    world.lose(1)
    assert client.take() == [f"E ERROR 40003 {UNKNOWN}", "Z I"]


def test_lost_amid_a_block(world: World, client: Client) -> None:
    client.run("BEGIN")
    client.run("INSERT INTO t VALUES (3, 'z')")
    start(client, "SELECT pg_sleep(5)")
    world.lose(1)
    assert client.take() == [f"E ERROR 40001 {CHANGED}", "Z E"]
    world.elect(3)
    assert client.run("SELECT 1")[0].startswith("E ERROR 25P02")
    assert client.run("COMMIT") == ["C ROLLBACK", "Z I"]
    assert client.rows("SELECT count(*) FROM t") == ["2"]


def test_lost_between_two_statements_of_a_block(world: World, client: Client) -> None:
    client.run("BEGIN")
    client.run("INSERT INTO t VALUES (3, 'z')")
    world.lose(1)
    world.elect(3)
    assert client.take() == []
    assert client.run("SELECT * FROM t") == [f"E ERROR 40001 {CHANGED}", "Z E"]
    assert client.run("ROLLBACK") == ["C ROLLBACK", "Z I"]


def test_a_block_that_is_lost_does_not_commit_in_silence(world: World, client: Client) -> None:
    client.run("BEGIN")
    client.run("INSERT INTO t VALUES (3, 'z')")
    world.lose(1)
    world.elect(3)
    assert client.run("COMMIT") == [f"E ERROR 40001 {CHANGED}", "Z I"]
    assert client.rows("SELECT count(*) FROM t") == ["2"]


def test_a_block_that_is_lost_rolls_back_in_silence(world: World, client: Client) -> None:
    client.run("SET application_name = 'a'; BEGIN; SET application_name = 'b'; SELECT * FROM t")
    world.lose(1)
    assert client.run("ROLLBACK") == ["C ROLLBACK", "Z I"]
    world.elect(3)
    assert client.run("INSERT INTO t VALUES (3, 'z')") == ["C INSERT 0 1", "Z I"]


def test_a_failed_block_that_is_lost_is_just_failed(world: World, client: Client) -> None:
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    client.run("SELECT a / 0 FROM t")
    world.lose(1)
    assert client.run("SELECT 1")[0].startswith("E ERROR 25P02")
    assert client.run("COMMIT") == ["C ROLLBACK", "Z I"]


def test_a_block_begun_in_the_batch_that_is_lost(world: World, client: Client) -> None:
    start(client, "BEGIN; INSERT INTO t VALUES (3, 'z'); SELECT pg_sleep(5)")
    world.lose(1)
    assert client.take() == [f"E ERROR 40001 {CHANGED}", "Z E"]
    assert client.run("ROLLBACK") == ["C ROLLBACK", "Z I"]


def test_settings_of_a_block_that_is_lost_go_back(world: World, client: Client) -> None:
    client.run("SET application_name = 'before'")
    client.run("BEGIN")
    client.run("SET application_name = 'within'")
    client.run("SELECT * FROM t")
    world.lose(1)
    assert client.run("SELECT 1")[-1] == "Z E"
    client.run("ROLLBACK")
    assert client.rows("SHOW application_name") == ["before"]


def test_settings_of_a_block_chained_behind_another_stay(world: World, client: Client) -> None:
    client.run("BEGIN")
    client.run("SET application_name = 'kept'")
    client.run("SELECT * FROM t")
    client.run("COMMIT AND CHAIN")
    client.run("SET application_name = 'lost'")
    client.run("SELECT * FROM t")
    world.lose(1)
    assert client.run("SELECT 1")[-1] == "Z E"
    client.run("ROLLBACK")
    assert client.rows("SHOW application_name") == ["kept"]


def test_lost_amid_a_copy(world: World, client: Client) -> None:
    client.run("COPY t FROM STDIN")
    client.send(copy_data("3\tthree\n"))
    world.lose(1)
    assert client.take() == [f"E ERROR 40003 {UNKNOWN}", "Z I"]
    # The rest of what the client sends is no protocol violation.
    assert client.send(copy_data("4\tfour\n"), COPY_DONE) == []
    world.elect(3)
    assert client.rows("SELECT count(*) FROM t") == ["2"]


def test_lost_amid_a_copy_in_a_block(world: World, client: Client) -> None:
    client.run("BEGIN; INSERT INTO t VALUES (9, 'nine')")
    client.run("COPY t FROM STDIN")
    client.send(copy_data("3\tthree\n"))
    world.lose(1)
    assert client.take() == [f"E ERROR 40001 {CHANGED}", "Z E"]


def test_lost_amid_a_copy_out(world: World, client: Client) -> None:
    world.client(1).run("INSERT INTO t SELECT n, repeat('w', 1000) FROM generate_series(3, 9999) n")
    client.connection.write_paused()
    client.connection.receive(query("COPY t TO STDOUT"))
    world.run()
    world.lose(1)
    client.connection.write_resumed()
    world.run()
    assert client.take()[-2:] == [f"E ERROR 40001 {CHANGED}", "Z I"]


def test_a_leader_that_is_silent_before_a_batch(world: World, client: Client) -> None:
    client.run("SELECT * FROM t")
    world.advance(1)
    world.servers[0].freeze()
    start(client, "INSERT INTO t VALUES (3, 'z')")
    world.advance(9.9)
    assert client.take() == []
    world.advance(1)
    assert client.take() == [f"E ERROR 57P03 {NOBODY}", "Z I"]
    world.servers[0].thaw()
    world.run()
    assert world.client(1).rows("SELECT count(*) FROM t") == ["2"]


def test_a_leader_that_falls_silent_amid_a_read(world: World, client: Client) -> None:
    start(client, "SELECT pg_sleep(2), a FROM t WHERE a = 1")
    world.servers[0].freeze()
    world.advance(3)
    world.elect(3)
    world.advance(5)
    assert client.take() == ["T", "D ,1", "C SELECT 1", "Z I"]


def test_a_leader_that_falls_silent_amid_a_write(world: World, client: Client) -> None:
    start(client, "INSERT INTO t SELECT 3, pg_sleep(1)::text")
    world.servers[0].freeze()
    world.advance(9)
    assert client.take() == []
    world.advance(5)
    assert client.take() == [f"E ERROR 40003 {UNKNOWN}", "Z I"]


def test_a_slow_leader_is_not_a_silent_one(world: World, client: Client) -> None:
    start(client, "SELECT pg_sleep(60), a FROM t WHERE a = 1")
    world.advance(61)
    assert client.take() == ["T", "D ,1", "C SELECT 1", "Z I"]


def test_notifications_go_on_at_the_next_leader(world: World, client: Client) -> None:
    client.run("LISTEN c")
    world.lose(1)
    world.advance(2)
    world.elect(3)
    world.advance(1)
    world.client(3).run("NOTIFY c, 'still here'")
    assert client.take() == ["A c still here"]
    world.elect(2)
    world.client(2).run("NOTIFY c, 'at home'")
    assert client.take() == ["A c at home"]
    world.elect(3)
    world.advance(1)
    world.client(3).run("NOTIFY c, 'and away'")
    assert client.take() == ["A c and away"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT pg_advisory_lock(7)", "advisory locks"),
        ("CREATE TEMPORARY TABLE tt (v int)", "temporary tables"),
        ("BEGIN; DECLARE k CURSOR WITH HOLD FOR SELECT * FROM t; COMMIT", "WITH HOLD"),
    ],
)
@pytest.mark.parametrize("how", ["idle", "busy", "elected", "home"])
def test_sessions_that_cannot_move(
    world: World, client: Client, text: str, why: str, how: str
) -> None:
    client.run(text)
    assert client.run("SHOW search_path")[-1] == "Z I"
    if how == "busy":
        start(client, "SELECT pg_sleep(5), * FROM t")
        world.lose(1)
    elif how == "idle":
        world.lose(1)
    else:
        world.elect(2 if how == "home" else 3)
    world.run()
    assert client.take() == [FATAL]
    assert client.is_closed
    assert why


def test_a_session_that_is_pinned_no_more_moves(world: World, client: Client) -> None:
    client.run("SELECT pg_advisory_lock(7)")
    client.run("SELECT pg_advisory_unlock(7)")
    world.elect(3)
    assert client.rows("SELECT count(*) FROM t") == ["2"]


# At the node that leads.


def test_the_next_statement_goes_to_the_next_leader(world: World) -> None:
    client = world.client(1)
    client.run("SET application_name = 'a'")
    client.send(parse("SELECT b FROM t WHERE a = $1", "p"), SYNC)
    for _ in range(3):
        client.send(bind("1", statement="p") + execute() + SYNC)
    world.node.transactions.end_tenure()
    world.elect(3)
    assert client.rows("SELECT current_setting('application_name') FROM t LIMIT 1") == ["a"]
    answers = client.send(bind("2", statement="p") + execute() + SYNC)
    assert answers == ["2", "D y", "C SELECT 1", "Z I"]


def test_a_block_of_an_old_tenure(world: World) -> None:
    client, other = world.client(1), world.client(1)
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    other.run("BEGIN; INSERT INTO t VALUES (4, 'z')")
    world.node.transactions.end_tenure()
    world.elect(3)
    assert client.run("SELECT * FROM t") == [f"E ERROR 40001 {CHANGED}", "Z E"]
    assert client.run("ROLLBACK") == ["C ROLLBACK", "Z I"]
    assert other.run("COMMIT") == [f"E ERROR 40001 {CHANGED}", "Z I"]
    for each in (client, other):
        assert each.rows("SELECT count(*) FROM t") == ["2"]


def test_a_block_that_has_done_nothing_goes_on(world: World) -> None:
    client = world.client(1)
    client.run("BEGIN ISOLATION LEVEL SERIALIZABLE")
    world.node.transactions.end_tenure()
    world.elect(3)
    assert client.run("INSERT INTO t VALUES (3, 'z')") == ["C INSERT 0 1", "Z T"]
    assert client.run("COMMIT") == ["C COMMIT", "Z I"]


def test_a_statement_that_waits_goes_on_at_the_next_leader(world: World) -> None:
    holder, client = world.client(1), world.client(1)
    holder.run("BEGIN; UPDATE t SET b = 'mine' WHERE a = 1")
    start(client, "UPDATE t SET b = 'moved' WHERE a = 1")
    world.servers[0].leadership.change("node3")
    world.servers[2].leadership.change(None, may_serve=True)
    world.node.transactions.end_tenure()
    world.advance(1)
    assert client.take() == ["C UPDATE 1", "Z I"]
    assert world.client(3).rows("SELECT b FROM t WHERE a = 1") == ["moved"]


def test_an_extended_batch_that_waits_goes_on_at_the_next_leader(world: World) -> None:
    holder, client = world.client(1), world.client(1)
    holder.run("BEGIN; UPDATE t SET b = 'mine' WHERE a = 1")
    batch = parse("UPDATE t SET b = $1 WHERE a = 1", "u") + bind("moved", statement="u")
    assert client.send(batch + execute() + SYNC) == []
    world.servers[0].leadership.change("node3")
    world.servers[2].leadership.change(None, may_serve=True)
    world.node.transactions.end_tenure()
    world.advance(1)
    assert client.take() == ["1", "2", "C UPDATE 1", "Z I"]
    assert client.send(bind("again", statement="u") + execute() + SYNC)[1] == "C UPDATE 1"


def test_an_executor_refuses_what_has_lost_its_leader(world: World, client: Client) -> None:
    holder = world.client(1)
    holder.run("BEGIN; UPDATE t SET b = 'mine' WHERE a = 1")
    start(client, "UPDATE t SET b = 'moved' WHERE a = 1")
    world.servers[0].leadership.change("node3")
    world.servers[2].leadership.change(None, may_serve=True)
    world.gateway.leadership.change("node3")
    world.node.transactions.end_tenure()
    world.advance(1)
    assert client.take() == ["C UPDATE 1", "Z I"]


def test_what_has_drawn_from_a_sequence_is_not_repeated(world: World, client: Client) -> None:
    world.client(1).run("CREATE SEQUENCE s START 7")
    start(client, "INSERT INTO t SELECT nextval('s'), pg_sleep(60)::text")
    world.servers[0].leadership.change("node3")
    world.servers[2].leadership.change(None, may_serve=True)
    world.gateway.leadership.change("node3")
    world.node.transactions.end_tenure()
    world.advance(1)
    assert client.take() == [f"E ERROR 40001 {CHANGED}", "Z I"]


def test_a_lease_that_lapses_for_a_moment(world: World) -> None:
    client = world.client(1)
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    leadership = world.servers[0].leadership
    leadership.may_serve = False
    start(client, "SELECT count(*) FROM t")
    world.advance(0.3)
    assert client.take() == []
    leadership.change(None, may_serve=True)
    world.advance(0.1)
    assert client.take() == ["T", "D 3", "C SELECT 1", "Z T"]


def test_a_step_declines_without_a_lease(world: World) -> None:
    client = world.client(1)
    for _ in range(3):
        assert client.rows("SELECT b FROM t WHERE a = 1") == ["x"]
    world.servers[0].leadership.may_serve = False
    start(client, "SELECT b FROM t WHERE a = 1")
    start(client, "SELECT b FROM t WHERE a = 2")
    world.advance(10.1)
    assert client.take() == [f"E ERROR 57P03 {NOBODY}", "Z I"]


@pytest.mark.parametrize(
    "text", ["SELECT pg_advisory_lock(7)", "CREATE TEMPORARY TABLE tt (v int)"]
)
@pytest.mark.parametrize("is_idle", [True, False])
def test_sessions_of_the_leader_that_cannot_move(world: World, text: str, *, is_idle: bool) -> None:
    client = world.client(1)
    client.run(text)
    world.node.transactions.end_tenure()
    if is_idle:
        world.elect(3)
    else:
        world.servers[0].leadership.may_serve = False
        world.servers[0].leadership.tenure = 0
        client.connection.receive(query("SELECT 1"))
    world.run()
    assert client.take() == [FATAL]
    assert client.is_closed


# Stale reads.


def test_stale_reads_need_no_leader(world: World, client: Client) -> None:
    client.run("SET nodedb.read_consistency = 'eventual'")
    world.lose(1)
    assert client.rows("SELECT a FROM t ORDER BY a") == ["1", "2"]
    batch = parse("SELECT b FROM t WHERE a = $1") + bind("2") + execute() + SYNC
    for _ in range(3):
        assert client.send(batch)[2] == "D y"


@pytest.mark.parametrize(
    ("level", "text"),
    [
        ("strong", "SELECT * FROM t"),
        ("bounded_staleness:5", "SELECT * FROM t"),
        ("eventual", "SELECT * FROM t; SELECT * FROM t"),
        ("eventual", "SELECT * FROM t FOR SHARE"),
        ("eventual", "SELECT nextval('t_s') FROM t"),
        ("eventual", "UPDATE t SET b = 'q'"),
        ("eventual", "BEGIN; SELECT * FROM t"),
    ],
)
def test_what_is_no_stale_read(world: World, client: Client, level: str, text: str) -> None:
    world.client(1).run("CREATE SEQUENCE t_s")
    client.run(f"SET default_read_consistency = '{level}'")
    world.lose(1)
    start(client, text)
    world.advance(10.1)
    assert client.take()[0] == f"E ERROR 57P03 {NOBODY}"


def test_stale_reads_show_no_less_than_the_session_has_seen(world: World, client: Client) -> None:
    client.run("SET nodedb.read_consistency = 'eventual'")
    client.run("INSERT INTO t VALUES (3, 'z')")
    assert client.session.seen_timestamp == world.node.group.last_timestamp
    world.lose(1)
    assert client.rows("SELECT count(*) FROM t") == ["3"]
    client.session.seen_timestamp += 1  # As if the replica had not applied it yet.
    start(client, "SELECT count(*) FROM t")


def test_a_replica_that_may_not_serve_serves_nothing(world: World, client: Client) -> None:
    client.run("SET nodedb.read_consistency = 'eventual'")
    world.lose(1)
    client.server.leadership.may_serve_stale = False
    start(client, "SELECT count(*) FROM t")


@pytest.mark.parametrize("value", ["inf", "bounded_staleness:0", "bounded_staleness:5sss", ""])
@pytest.mark.parametrize("name", ["nodedb.read_consistency", "default_read_consistency"])
def test_values_of_the_read_consistency(client: Client, name: str, value: str) -> None:
    assert client.run(f"SET {name} = '{value}'")[0].startswith("E ERROR 22023")
