"""A client of a node that does not lead sees what a client of the leader sees."""

import struct

import pytest
from forwarding_world import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Client,
    World,
    bind,
    copy_data,
    execute,
    message,
    parse,
    query,
)


def forwarded(client: Client) -> int:
    forwarding = client.server.manager.forwarding
    assert forwarding is not None
    return forwarding.batch_count


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 + 1",
        "SHOW search_path",
        "SHOW NODES",
        "SET work_mem = '8MB'",
        "RESET ALL",
        "SELECT relname FROM pg_class WHERE relname = 't'",
        "SELECT table_name FROM information_schema.tables LIMIT 1",
        "SELECT set_config('work_mem', '4MB', false)",
        "SELECT now(), random() < 2",
        "PREPARE p AS SELECT * FROM t; DEALLOCATE p",
        "BEGIN; SET LOCAL work_mem = '8MB'; SHOW work_mem; COMMIT",
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; ROLLBACK",
        "SELECT 1; SELECT 2; SHOW ALL",
        "",
        ";",
    ],
)
def test_served_without_a_leader(world: World, client: Client, text: str) -> None:
    world.lose(1)
    answers = client.run(text)
    assert answers[-1] == "Z I"
    assert not [answer for answer in answers if answer.startswith("E")]


@pytest.mark.parametrize(
    ("text", "sqlstate"), [("SELEC", "42601"), ("SELECT 1/0", "22012"), ("SHOW nope", "42704")]
)
def test_errors_found_without_a_leader(
    world: World, client: Client, text: str, sqlstate: str
) -> None:
    world.lose(1)
    (error, ready) = client.run(text)[-2:]
    assert (error.split()[2], ready) == (sqlstate, "Z I")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM t)",
        "SELECT 1; SELECT count(*) FROM t",
        "WITH w AS (INSERT INTO t VALUES (3, 'z') RETURNING a) SELECT a FROM w",
        "SELECT * FROM t FOR UPDATE",
        "EXPLAIN ANALYZE SELECT * FROM t",
        "EXPLAIN ANALYZE UPDATE t SET b = 'q'",
        "EXPLAIN SELECT * FROM t",
        "SELECT nextval('s')",
        "SELECT last_value FROM s",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_try_advisory_lock(1), pg_advisory_unlock(1)",
        "SELECT pg_notify('c', 'p')",
        "SELECT txid_current() > 0",
        "SELECT count(*) FROM pg_locks",
        "SELECT last_value FROM pg_sequences",
        "CREATE TABLE u (v int)",
        "TRUNCATE t",
        "LISTEN c",
        "NOTIFY c",
        "BEGIN; LOCK TABLE t; COMMIT",
        "BEGIN; SAVEPOINT s; COMMIT",
        "BEGIN; SELECT * FROM t; COMMIT",
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; COMMIT",
        "PREPARE p AS SELECT 1; EXECUTE p; SELECT nextval('s')",
        "COPY t TO STDOUT",
        "ANALYZE t",
        "DISCARD ALL",
    ],
)
def test_goes_to_the_leader(world: World, client: Client, text: str) -> None:
    world.client(1).run("CREATE SEQUENCE s")
    answers = client.run(text)
    assert not [answer for answer in answers if answer.startswith("E")]
    assert answers[-1] == "Z I"
    assert forwarded(client) == 1


def test_the_answers_are_those_of_the_leader(world: World, client: Client) -> None:
    there = world.client(1)
    for text in (
        "SELECT * FROM t ORDER BY a",
        "INSERT INTO t VALUES (1, 'q')",
        "SELECT a / 0 FROM t",
        "UPDATE t SET b = 'z' RETURNING *",
        "SELECT * FROM nowhere",
        "COMMIT",
        "SELECT a FROM t; SELECT b FROM t WHERE a = 1; SELECT 1 / 0; SELECT 2",
        "COPY t TO STDOUT",
    ):
        assert client.run(text) == there.run(text), text


def test_a_batch_of_the_extended_protocol(client: Client) -> None:
    batch = parse("SELECT b FROM t WHERE a = $1") + bind("2") + execute() + SYNC
    for _ in range(3):
        assert client.send(batch) == ["1", "2", "D y", "C SELECT 1", "Z I"]
    assert forwarded(client) == 3


def test_a_statement_prepared_here_runs_there(client: Client) -> None:
    assert client.send(parse("SELECT b FROM t WHERE a = $1", "p"), SYNC) == ["1", "Z I"]
    assert forwarded(client) == 0
    for _ in range(3):
        answers = client.send(bind("1", statement="p") + execute() + SYNC)
        assert answers == ["2", "D x", "C SELECT 1", "Z I"]
    assert client.rows("SELECT name, parameter_types FROM pg_prepared_statements") == [
        "p,{integer}"
    ]


def test_batches_in_one_piece_are_answered_in_order(client: Client) -> None:
    first = parse("SELECT a FROM t WHERE a = 1") + bind() + execute() + SYNC
    answers = client.send(first, query("SELECT 7"), query("SELECT b FROM t WHERE a = 2"), first)
    assert [each for each in answers if each[0] in "DZ"] == [
        "D 1", "Z I", "D 7", "Z I", "D y", "Z I", "D 1", "Z I",
    ]  # fmt: skip


def test_an_error_skips_to_sync(client: Client) -> None:
    bad = parse("SELECT a / 0 FROM t") + bind() + execute()
    rest = parse("SELECT 1") + bind() + execute() + query("SELECT 2") + SYNC
    assert client.send(bad, rest) == [
        "1", "2", "E ERROR 22012 division by zero", "Z I",
    ]  # fmt: skip
    assert client.run("SELECT 3")[1] == "D 3"


def test_a_batch_that_comes_in_pieces(client: Client) -> None:
    batch = parse("SELECT b FROM t") + bind() + execute() + SYNC
    for end in range(1, len(batch)):
        assert client.send(batch[:end]) == []
        assert client.send(batch[end:])[-2:] == ["C SELECT 2", "Z I"], end


def test_flush_in_the_middle(client: Client) -> None:
    assert client.send(parse("SELECT a FROM t ORDER BY a") + FLUSH) == ["1"]
    assert client.send(bind() + execute(limit=1) + FLUSH) == ["2", "D 1", "s"]
    assert client.send(execute() + SYNC) == ["D 2", "C SELECT 1", "Z I"]


def test_a_block(world: World, client: Client) -> None:
    assert client.run("BEGIN ISOLATION LEVEL REPEATABLE READ") == ["C BEGIN", "Z T"]
    assert client.run("SET LOCAL work_mem = '9MB'")[-1] == "Z T"
    assert forwarded(client) == 0
    assert client.run("UPDATE t SET b = 'z' WHERE a = 1") == ["C UPDATE 1", "Z T"]
    assert client.rows("SHOW transaction_isolation") == ["repeatable read"]
    assert client.rows("SHOW work_mem") == ["9MB"]
    assert world.client(3).rows("SELECT b FROM t WHERE a = 1") == ["x"]
    assert client.run("SAVEPOINT s")[-1] == "Z T"
    assert client.run("SELECT 1 / 0") == ["E ERROR 22012 division by zero", "Z E"]
    assert client.run("SELECT 1")[0].startswith("E ERROR 25P02")
    assert client.run("ROLLBACK TO s")[-1] == "Z T"
    assert client.run("COMMIT") == ["C COMMIT", "Z I"]
    assert client.rows("SHOW work_mem") != ["9MB"]
    assert world.client(3).rows("SELECT b FROM t WHERE a = 1") == ["z"]


def test_a_failed_block_before_anything_was_forwarded(client: Client) -> None:
    client.run("BEGIN")
    assert client.run("SELECT 1 / 0")[-1] == "Z E"
    assert client.run("SELECT * FROM t")[0].startswith("E ERROR 25P02")
    assert client.run("COMMIT") == ["C ROLLBACK", "Z I"]
    assert forwarded(client) == 0


def test_variables_set_there_are_known_here_and_reported_once(client: Client) -> None:
    text = "SET application_name = 'a'; SELECT a FROM t WHERE a = 1; SET timezone = 'Asia/Tokyo'"
    answers = client.run(text)
    assert [a for a in answers if a[0] == "S"] == ["S application_name=a", "S TimeZone=Asia/Tokyo"]
    assert client.rows("SHOW timezone") == ["Asia/Tokyo"]
    assert client.run("SELECT 1") == ["T", "D 1", "C SELECT 1", "Z I"]
    assert client.run("SET application_name = 'b'")[1:] == ["S application_name=b", "Z I"]
    there = "SELECT current_setting('application_name') FROM t WHERE a = 1"
    assert client.rows(there) == ["b"]


def test_variables_of_a_block_that_is_rolled_back(client: Client) -> None:
    client.run("SET application_name = 'before'")
    client.run("BEGIN")
    client.run("SET application_name = 'within'")
    client.run("INSERT INTO t VALUES (5, 'five')")
    assert client.rows("SHOW application_name") == ["within"]
    client.run("ROLLBACK")
    assert client.rows("SHOW application_name") == ["before"]
    assert client.rows("SELECT current_setting('application_name') FROM t LIMIT 1") == ["before"]


def test_roles(world: World, client: Client) -> None:
    world.client(1).run("CREATE ROLE r; GRANT SELECT ON t TO r")
    client.run("SET ROLE r")
    assert client.rows("SELECT current_user FROM t LIMIT 1") == ["r"]
    assert client.run("INSERT INTO t VALUES (3, 'z')")[0].startswith("E ERROR 42501")
    client.run("RESET ROLE")
    assert client.run("INSERT INTO t VALUES (3, 'z')")[0] == "C INSERT 0 1"


def test_sequences(world: World, client: Client) -> None:
    client.run("CREATE SEQUENCE s")
    assert client.rows("SELECT nextval('s')") == ["1"]
    world.elect(3)
    assert client.rows("SELECT currval('s'), lastval()") == ["1,1"]


def test_statements_prepared_there(world: World, client: Client) -> None:
    client.run("PREPARE one (int) AS SELECT b FROM t WHERE a = $1; SELECT a FROM t WHERE a = 1")
    client.send(parse("SELECT count(*) FROM t", "two") + bind(statement="two") + execute() + SYNC)
    world.elect(3)
    assert client.rows("EXECUTE one (2)") == ["y"]
    assert client.send(bind(statement="two") + execute() + SYNC)[1] == "D 2"
    world.elect(2)
    assert client.rows("EXECUTE one (1)") == ["x"]
    assert client.send(bind(statement="two") + execute() + SYNC)[1] == "D 2"
    client.run("DEALLOCATE ALL")
    world.elect(1)
    assert client.run("EXECUTE one (1)")[0].startswith("E ERROR 26000")


def test_the_unnamed_statement(client: Client) -> None:
    client.send(parse("SELECT b FROM t WHERE a = $1") + bind("1") + execute() + SYNC)
    assert client.send(bind("2") + execute() + SYNC) == ["2", "D y", "C SELECT 1", "Z I"]


def test_copy_in(client: Client) -> None:
    assert client.run("COPY t FROM STDIN") == ["G"]
    assert client.send(copy_data("3\tthree\n4\tfo"), copy_data("ur\n")) == []
    assert client.send(COPY_DONE) == ["C COPY 2", "Z I"]
    assert client.rows("SELECT b FROM t WHERE a = 4") == ["four"]


def test_copy_in_of_the_extended_protocol(client: Client) -> None:
    # libpq sends a Sync with its Execute, before it knows of the COPY.
    assert client.send(parse("COPY t FROM STDIN") + bind() + execute() + SYNC)[-1] == "G"
    client.send(copy_data("3\tthree\n"))
    assert client.send(COPY_DONE + SYNC) == ["C COPY 1", "Z I"]
    assert client.run("SELECT 1")[-1] == "Z I"


def test_several_copies_in_one_query(client: Client) -> None:
    assert client.run("COPY t FROM STDIN; COPY t FROM STDIN; SELECT a FROM t") == ["G"]
    assert client.send(copy_data("3\tq\n"), COPY_DONE) == ["C COPY 1", "G"]
    answers = client.send(copy_data("4\tq\n"), COPY_DONE)
    assert answers[0] == "C COPY 1"
    assert answers[-2:] == ["C SELECT 4", "Z I"]


def test_copy_in_that_fails(client: Client) -> None:
    assert client.run("COPY t FROM STDIN") == ["G"]
    answers = client.send(copy_data("no number\tx\n"), copy_data("5\tfive\n"), COPY_DONE)
    assert [answer[:15] for answer in answers] == ["E ERROR 22P02 i", "Z I"]
    assert client.rows("SELECT a FROM t ORDER BY a") == ["1", "2"]
    assert client.run("COPY t FROM STDIN") == ["G"]
    failed = client.send(message("f", b"enough\0"))
    assert failed == ["E ERROR 57014 COPY from stdin failed: enough", "Z I"]


def test_copy_out(client: Client) -> None:
    assert client.run("COPY t TO STDOUT") == ["H", "d 1\tx", "d 2\ty", "c", "C COPY 2", "Z I"]


def test_a_large_result_waits_for_its_client(world: World, client: Client) -> None:
    world.client(1).run("INSERT INTO t SELECT n, repeat('w', 1000) FROM generate_series(3, 5000) n")
    client.connection.write_paused()
    client.connection.receive(query("SELECT * FROM t"))
    world.advance(1)
    taken = sum(map(len, client._written))
    assert taken < 1 << 20
    executor = world.servers[0].manager.executors[client.process_id]
    assert executor.is_running
    world.advance(10)  # A client that does not read is no dead leader.
    client.connection.write_resumed()
    world.advance(1)
    answers = client.take()
    assert len([a for a in answers if a[0] == "D"]) == 5000
    assert answers[-2:] == ["C SELECT 5000", "Z I"]


def test_much_copy_data_waits_for_its_lock(world: World, client: Client) -> None:
    holder = world.client(1)
    holder.run("BEGIN")
    holder.run("INSERT INTO t VALUES (3, 'mine')")
    client.run("COPY t FROM STDIN")
    for start in range(3, 3003, 10):
        rows = "".join(f"{n}\t{'w' * 1000}\n" for n in range(start, start + 10))
        client.send(copy_data(rows))
    world.advance(10)  # Longer than silence may last: the executor still answers.
    assert client.take() == []
    holder.run("ROLLBACK")
    world.advance(1)
    assert client.send(COPY_DONE) == ["C COPY 3000", "Z I"]


def test_cancel(world: World, client: Client) -> None:
    holder = world.client(1)
    holder.run("BEGIN; UPDATE t SET b = 'mine' WHERE a = 1")
    assert client.run("UPDATE t SET b = 'mine too' WHERE a = 1") == []
    client.server.manager.cancel(client.process_id, client.session.secret_key + 1)
    world.run()
    assert client.take() == []
    client.server.manager.cancel(client.process_id, client.session.secret_key)
    world.run()
    assert client.take() == ["E ERROR 57014 canceling statement due to user request", "Z I"]
    assert client.run("SELECT 1")[-1] == "Z I"


def test_statement_timeout(world: World, client: Client) -> None:
    client.run("SET statement_timeout = '2s'")
    holder = world.client(1)
    holder.run("BEGIN; UPDATE t SET b = 'mine' WHERE a = 1")
    client.run("UPDATE t SET b = 'mine too' WHERE a = 1")
    world.advance(1.9)
    assert client.take() == []
    world.advance(0.2)
    assert client.take() == ["E ERROR 57014 canceling statement due to statement timeout", "Z I"]


def test_statement_timeout_counts_from_when_the_client_asked(world: World, client: Client) -> None:
    client.run("SET statement_timeout = '2s'")
    world.lose(1)
    client.connection.receive(query("SELECT pg_sleep(10), * FROM t"))
    world.advance(1)
    world.elect(3)
    world.advance(0.95)
    assert client.take() == []
    world.advance(0.6)
    assert client.take()[-2:] == [
        "E ERROR 57014 canceling statement due to statement timeout", "Z I",
    ]  # fmt: skip


def test_termination(world: World, client: Client) -> None:
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    other = world.client(1)
    assert other.rows(f"SELECT pg_terminate_backend({client.process_id})") == ["t"]
    world.run()
    assert client.take() == [
        "E FATAL 57P01 terminating connection due to administrator command",
    ]  # fmt: skip
    assert client.is_closed
    assert other.rows("SELECT count(*) FROM t") == ["2"]


def test_idle_in_transaction_timeout(world: World, client: Client) -> None:
    client.run("SET idle_in_transaction_session_timeout = '1s'")
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    world.advance(1.1)
    assert client.take()[0].startswith("E FATAL 25P03")
    assert client.is_closed


def test_idle_session_timeout(world: World, client: Client) -> None:
    client.run("SET idle_session_timeout = '1s'")
    client.run("SELECT * FROM t")
    world.advance(0.9)
    assert client.take() == []
    world.advance(0.2)
    assert client.take()[0].startswith("E FATAL 57P05")


def test_a_client_that_vanishes_amid_a_block(world: World, client: Client) -> None:
    client.run("BEGIN; UPDATE t SET b = 'mine' WHERE a = 1")
    other = world.client(3)
    assert other.run("UPDATE t SET b = 'other' WHERE a = 1") == []
    client.leave()
    assert other.take() == ["C UPDATE 1", "Z I"]
    assert not world.servers[0].manager.executors.get(client.process_id)


def test_a_client_that_vanishes_amid_a_statement(world: World, client: Client) -> None:
    holder = world.client(1)
    holder.run("BEGIN; UPDATE t SET b = 'mine' WHERE a = 1")
    client.run("UPDATE t SET b = 'never' WHERE a = 1")
    client.leave()
    holder.run("COMMIT")
    assert world.client(1).rows("SELECT b FROM t WHERE a = 1") == ["mine"]


def test_notifications_reach_an_idle_client(world: World, client: Client) -> None:
    client.run("LISTEN c")
    assert client.rows("SELECT * FROM pg_listening_channels()") == ["c"]
    world.client(1).run("NOTIFY c, 'one'")
    assert client.take() == ["A c one"]
    world.client(3).run("NOTIFY c, 'two'; NOTIFY c, 'three'")
    assert client.take() == ["A c two", "A c three"]


def test_notifications_wait_for_the_end_of_a_block(world: World, client: Client) -> None:
    client.run("LISTEN c")
    client.run("BEGIN")
    world.client(1).run("NOTIFY c, 'one'")
    assert client.take() == []
    assert "A c one" in client.run("COMMIT")
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    world.client(1).run("NOTIFY c, 'two'")
    assert client.take() == []
    assert "A c two" in client.run("COMMIT")


def test_a_catalog_change_is_known_here_when_it_is_acknowledged(client: Client) -> None:
    client.run("CREATE TABLE fresh (v int)")
    assert client.rows("SELECT count(*) FROM pg_class WHERE relname = 'fresh'") == ["1"]


def test_process_ids_tell_the_node(world: World) -> None:
    assert world.client(1).process_id < 1 << 22
    assert world.client(2).process_id >> 22 == 1
    assert struct.pack("!i", world.client(3).process_id)


def test_activity_shows_each_client_once(world: World, client: Client) -> None:
    client.run("BEGIN; INSERT INTO t VALUES (3, 'z')")
    shown = "SELECT state FROM pg_stat_activity WHERE pid = "
    assert world.client(1).rows(f"{shown}{client.process_id}") == ["idle in transaction"]
    assert world.client(2).rows(f"{shown}{client.process_id}") == ["idle in transaction"]
