"""Batches that commit by themselves, sent again when the leader was lost: done once, whatever happens."""

from __future__ import annotations

import pytest
from forwarding_world import SYNC, Client, World, bind, execute, message, parse, query

from cluster.metadata.oracle import pack_timestamp
from nodedb.kv.completions import BYTES_MAX, KEPT_MS, Completion, CompletionTable
from nodedb.waiter import Interrupts
from sql.errors import SerializationFailure

UNKNOWN = "could not determine whether the transaction was committed"


def lose_behind(world: World, client: Client, *messages: bytes, next_leader: int = 3) -> list[str]:
    """Send what commits, lose the leader when it is in the log but not answered, elect another."""
    client.connection.receive(b"".join(messages))
    world.lose(1)
    world.elect(next_leader)
    world.advance(0.5)
    return client.take()


@pytest.mark.parametrize("next_leader", [2, 3])
def test_answered_from_the_record(world: World, client: Client, next_leader: int) -> None:
    answers = lose_behind(
        world, client, query("INSERT INTO t VALUES (3, 'z')"), next_leader=next_leader
    )
    assert answers == ["C INSERT 0 1", "Z I"]
    assert client.rows("SELECT count(*) FROM t") == ["3"]


@pytest.mark.parametrize("next_leader", [2, 3])
def test_rows_are_recorded_too(world: World, client: Client, next_leader: int) -> None:
    world.client(1).run("CREATE TABLE s (id serial PRIMARY KEY, v text)")
    # What it draws from the sequence is reserved already: else it would wait for that first.
    assert client.rows("INSERT INTO s (v) VALUES ('0') RETURNING id") == ["1"]
    batch = query("INSERT INTO s (v) VALUES ('a'), ('b') RETURNING id, v")
    answers = lose_behind(world, client, batch, next_leader=next_leader)
    assert answers == ["T", "D 2,a", "D 3,b", "C INSERT 0 2", "Z I"]
    assert client.rows("SELECT lastval(), currval('s_id_seq')") == ["3,3"]
    assert int(client.rows("INSERT INTO s (v) VALUES ('c') RETURNING id")[0]) > 3
    assert client.rows("SELECT count(*) FROM s") == ["4"]


@pytest.mark.parametrize("next_leader", [2, 3])
@pytest.mark.parametrize("warm_up", [0, 1, 5])
def test_prepared_statements(world: World, client: Client, next_leader: int, warm_up: int) -> None:
    def batch(value: int) -> bytes:
        describe = message("D", b"P\0")
        return bind(str(value), "v", statement="p") + describe + execute() + SYNC

    client.send(parse("INSERT INTO t VALUES ($1, $2) RETURNING a", "p"), SYNC)
    for number in range(warm_up):
        assert client.send(batch(10 + number)) == [
            "2",
            "T",
            f"D {10 + number}",
            "C INSERT 0 1",
            "Z I",
        ]
    answers = lose_behind(world, client, batch(3), next_leader=next_leader)
    assert answers == ["2", "T", "D 3", "C INSERT 0 1", "Z I"]
    assert client.rows("SELECT count(*) FROM t") == [str(3 + warm_up)]
    assert client.send(batch(4)) == ["2", "T", "D 4", "C INSERT 0 1", "Z I"]


@pytest.mark.parametrize("next_leader", [2, 3])
def test_a_statement_prepared_in_the_batch_is_kept(
    world: World, client: Client, next_leader: int
) -> None:
    batch = parse("UPDATE t SET b = $1 WHERE a = 1", "u") + bind("new", statement="u")
    answers = lose_behind(world, client, batch + execute() + SYNC, next_leader=next_leader)
    assert answers == ["1", "2", "C UPDATE 1", "Z I"]
    answers = client.send(bind("newer", statement="u") + execute() + SYNC)
    assert answers == ["2", "C UPDATE 1", "Z I"]
    assert client.rows("SELECT b FROM t WHERE a = 1") == ["newer"]


def test_a_pipeline_is_one_request(world: World, client: Client) -> None:
    batch = parse("INSERT INTO t VALUES ($1, 'p')", "i")
    for value in ("3", "4", "5"):
        batch += bind(value, statement="i") + execute()
    answers = lose_behind(world, client, batch + SYNC)
    assert answers == ["1", *["2", "C INSERT 0 1"] * 3, "Z I"]
    assert client.rows("SELECT count(*) FROM t") == ["5"]


def test_several_statements_of_a_query(world: World, client: Client) -> None:
    batch = query("INSERT INTO t VALUES (3, 'z'); UPDATE t SET b = 'q' WHERE a = 3")
    assert lose_behind(world, client, batch) == ["C INSERT 0 1", "C UPDATE 1", "Z I"]
    assert client.rows("SELECT b FROM t WHERE a = 3") == ["q"]


def test_many_rows(world: World, client: Client) -> None:
    batch = query("INSERT INTO t SELECT n, 'many' FROM generate_series(3, 20000) n")
    client.connection.receive(batch)
    world.run()
    assert client.take() == ["C INSERT 0 19998", "Z I"]
    client.connection.receive(query("UPDATE t SET b = b || '!' WHERE a > 2"))
    world.lose(1)
    world.elect(3)
    world.advance(0.5)
    assert client.take() == ["C UPDATE 19998", "Z I"]
    assert client.rows("SELECT count(*) FROM t WHERE b = 'many!'") == ["19998"]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("CREATE TABLE made (v int PRIMARY KEY)", "CREATE TABLE"),
        ("CREATE TABLE made AS SELECT * FROM t", "SELECT 2"),
        ("ALTER TABLE t ADD COLUMN c int", "ALTER TABLE"),
        ("TRUNCATE t", "TRUNCATE TABLE"),
        ("DROP TABLE t", "DROP TABLE"),
    ],
)
def test_definitions(world: World, client: Client, text: str, tag: str) -> None:
    assert lose_behind(world, client, query(text)) == [f"C {tag}", "Z I"]


def test_not_committed_is_executed(world: World, client: Client) -> None:
    holder = world.client(1)
    holder.run("BEGIN; UPDATE t SET b = 'held' WHERE a = 1")
    client.connection.receive(query("UPDATE t SET b = b || '+' WHERE a = 1"))
    world.run()
    world.lose(1)
    holder.run("ROLLBACK")
    world.elect(3)
    world.advance(0.5)
    assert client.take() == ["C UPDATE 1", "Z I"]
    assert client.rows("SELECT b FROM t WHERE a = 1") == ["x+"]


def test_an_error_is_found_again(world: World, client: Client) -> None:
    world.client(1).run(
        "ALTER TABLE t ADD CONSTRAINT once UNIQUE (b) DEFERRABLE INITIALLY DEFERRED"
    )
    answers = client.run("INSERT INTO t VALUES (3, 'x')")
    assert [answer[:13] for answer in answers] == ["E ERROR 23505", "Z I"]
    answers = lose_behind(world, client, query("INSERT INTO t VALUES (3, 'x')"))
    assert [answer[:13] for answer in answers] == ["E ERROR 23505", "Z I"]
    assert client.rows("SELECT count(*) FROM t") == ["2"]


def test_an_earlier_run_that_wakes_up_late_does_nothing(world: World, client: Client) -> None:
    client.connection.receive(query("INSERT INTO t SELECT 3, pg_sleep(1)::text"))
    world.run()
    world.servers[0].freeze()
    world.advance(2)
    world.elect(3)
    world.advance(4)
    assert client.take() == ["C INSERT 0 1", "Z I"]
    world.servers[0].thaw()
    world.advance(3)
    assert client.rows("SELECT count(*) FROM t") == ["3"]


def test_a_silent_leader_is_left_when_another_one_leads(world: World, client: Client) -> None:
    client.connection.receive(query("INSERT INTO t SELECT 3, pg_sleep(0.2)::text"))
    world.run()
    world.servers[0].freeze()
    world.advance(0.5)
    world.elect(3)
    world.advance(1.5)
    assert client.take() == ["C INSERT 0 1", "Z I"]


def test_the_same_leader_is_asked_again_while_the_first_run_goes_on(
    world: World, client: Client
) -> None:
    """The gateway took it for lost; it leads all the time and has not heard of that."""
    client.connection.receive(query("INSERT INTO t SELECT 3, pg_sleep(6)::text"))
    world.run()
    world.servers[0].freeze()
    world.advance(5)
    world.servers[0].thaw()
    world.advance(8)
    assert client.take() == ["C INSERT 0 1", "Z I"]
    assert client.rows("SELECT count(*) FROM t") == ["3"]


def test_two_runs_that_commit_at_once_are_one(world: World) -> None:
    manager = world.node.transactions
    interrupts = Interrupts()
    first, second = manager.begin(1, interrupts), manager.begin(2, interrupts)
    for key, transaction in ((b"k1", first), (b"k2", second)):
        transaction.put(key, b"row", 0)
        transaction.completion = Completion(7, 1, b"answer")
    waiter = manager.commit_rows(first)
    assert manager.is_under_way(7, 1)
    with pytest.raises(SerializationFailure):
        manager.commit_rows(second)
    assert manager.is_under_way(7, 1)
    world.run()
    assert waiter is not None
    assert waiter.done
    manager.end_commit(first, waiter.error)
    assert not manager.is_under_way(7, 1)
    assert world.node.group.completions.find(7, 1) == b"answer"
    assert world.node.group.newest(b"k2") is None


def test_what_is_recorded_does_not_reach_back(world: World, client: Client) -> None:
    client.connection.receive(query("INSERT INTO t VALUES (3, 'z')"))
    world.lose(1)
    # As if the next leader had been given a snapshot meanwhile.
    world.node.group.completions.reset(world.node.group.last_timestamp + 1)
    world.elect(3)
    world.advance(0.5)
    assert client.take() == [f"E ERROR 40003 {UNKNOWN}", "Z I"]
    assert client.rows("SELECT count(*) FROM t") == ["3"]


def test_a_refused_request_was_not_executed(world: World, client: Client) -> None:
    world.servers[0].leadership.may_serve = False
    client.connection.receive(query("INSERT INTO t VALUES (3, 'z')"))
    world.advance(10.5)
    assert client.take() == [
        "E ERROR 57P03 the database system is not accepting connections", "Z I",
    ]  # fmt: skip


def test_the_budget_is_spent_behind_a_commit(world: World, client: Client) -> None:
    client.connection.receive(query("INSERT INTO t VALUES (3, 'z')"))
    world.lose(1)
    world.advance(10.5)
    assert client.take() == [f"E ERROR 40003 {UNKNOWN}", "Z I"]


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t SELECT 3, pg_notify('c', 'once')::text",
        "INSERT INTO t VALUES (3, 'z'); SET application_name = 'x'",
    ],
)
def test_what_is_no_request(world: World, client: Client, text: str) -> None:
    assert lose_behind(world, client, query(text)) == [f"E ERROR 40003 {UNKNOWN}", "Z I"]


def test_a_long_answer_is_not_recorded(world: World, client: Client) -> None:
    text = "INSERT INTO t SELECT n, repeat('w', 700) FROM generate_series(3, 99) n RETURNING b"
    answers = lose_behind(world, client, query(text))
    assert answers[-2:] == [f"E ERROR 40003 {UNKNOWN}", "Z I"]


# The table.


def test_records_are_kept_for_a_while() -> None:
    table = CompletionTable()
    table.reset(pack_timestamp(1000))
    assert table.covers(pack_timestamp(1000))
    assert not table.covers(pack_timestamp(999))
    table.add(Completion(1, 1, b"a"), pack_timestamp(2000))
    table.add(Completion(1, 2, b"b"), pack_timestamp(3000))
    assert table.find(1, 1) == b"a"
    assert table.find(2, 1) is None
    table.add(Completion(1, 3, b"c"), pack_timestamp(2500 + KEPT_MS))
    assert (table.find(1, 1), table.find(1, 2), table.find(1, 3)) == (None, b"b", b"c")
    assert not table.covers(pack_timestamp(1999))
    assert table.covers(pack_timestamp(2000))


def test_records_take_a_bounded_room() -> None:
    table = CompletionTable()
    for number in range(100):
        table.add(Completion(1, number, bytes(BYTES_MAX // 10)), pack_timestamp(1000 + number))
    assert len(table) == 9
    assert table.find(1, 99) is not None
    assert not table.covers(pack_timestamp(1000))
