"""LISTEN and NOTIFY over real connections.

The cases of ``CASES`` were answered by PostgreSQL 15 in the same way, word for word.
"""

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess

WAIT_SECONDS = 60.0
NOTIFIERS = 20
LISTENERS = 5
TRANSACTIONS_EACH = 15

# What the listener runs, what another session runs after it, and what the listener then has: a
# channel, a payload, and whether the notification is its own.
CASES = {
    "own, of the transaction that listens": (
        ["BEGIN", "LISTEN x", "NOTIFY x, '1'", "COMMIT"],
        [],
        [("x", "1", True)],
    ),
    "own, notified before listening": (
        ["BEGIN", "NOTIFY x, '1'", "LISTEN x", "COMMIT"],
        [],
        [("x", "1", True)],
    ),
    "listen rolled back": (["BEGIN", "LISTEN x", "ROLLBACK"], ["NOTIFY x"], []),
    "listen rolled back to a savepoint": (
        ["BEGIN", "SAVEPOINT s", "LISTEN x", "ROLLBACK TO s", "LISTEN y", "COMMIT"],
        ["NOTIFY x", "NOTIFY y"],
        [("y", "", False)],
    ),
    "listen, unlisten": (["BEGIN", "LISTEN x", "UNLISTEN x", "COMMIT"], ["NOTIFY x"], []),
    "unlisten all, listen": (
        ["LISTEN x", "BEGIN", "UNLISTEN *", "LISTEN y", "COMMIT"],
        ["NOTIFY x", "NOTIFY y"],
        [("y", "", False)],
    ),
    "unlisten rolled back": (
        ["LISTEN x", "BEGIN", "UNLISTEN *", "ROLLBACK"],
        ["NOTIFY x"],
        [("x", "", False)],
    ),
    "unlisten comes before the transaction's own": (
        ["LISTEN x", "BEGIN", "NOTIFY x, '1'", "UNLISTEN x", "COMMIT"],
        [],
        [],
    ),
    "listen twice": (["LISTEN x", "LISTEN x"], ["NOTIFY x"], [("x", "", False)]),
    "duplicates are folded": (
        ["LISTEN x"],
        ["BEGIN", *(f"NOTIFY x, '{p}'" for p in (1, 2, 1)), "NOTIFY x", "NOTIFY x, ''", "COMMIT"],
        [("x", "1", False), ("x", "2", False), ("x", "", False)],
    ),
    "not between transactions": (
        ["LISTEN x"],
        ["NOTIFY x, '1'", "NOTIFY x, '1'"],
        [("x", "1", False), ("x", "1", False)],
    ),
    "many of one statement": (
        ["LISTEN x"],
        ["SELECT pg_notify('x', (i % 3)::text) FROM generate_series(1, 7) i"],
        [("x", "1", False), ("x", "2", False), ("x", "0", False)],
    ),
    "rolled back": (["LISTEN x"], ["BEGIN", "NOTIFY x, '1'", "ROLLBACK"], []),
    "savepoints": (
        ["LISTEN x"],
        [
            *("BEGIN", "NOTIFY x, '1'", "SAVEPOINT s", "NOTIFY x, '2'", "NOTIFY x, '1'"),
            *("ROLLBACK TO s", "NOTIFY x, '3'", "SAVEPOINT t", "NOTIFY x, '4'", "RELEASE t"),
            *("NOTIFY x, '4'", "COMMIT"),
        ],
        [("x", "1", False), ("x", "3", False), ("x", "4", False)],
    ),
    "the first one is rolled back to a savepoint": (
        ["LISTEN x"],
        ["BEGIN", "SAVEPOINT s", "NOTIFY x, '1'", "ROLLBACK TO s", "NOTIFY x, '2'", "COMMIT"],
        [("x", "2", False)],
    ),
    "the only one is rolled back to a savepoint": (
        ["LISTEN x"],
        ["BEGIN", "SAVEPOINT s", "NOTIFY x, '1'", "ROLLBACK TO s", "COMMIT"],
        [],
    ),
    "several statements in one query": (
        ["LISTEN x; NOTIFY x, '1'; SELECT 1"],
        [],
        [("x", "1", True)],
    ),
    "in a read-only transaction": (
        ["LISTEN x"],
        ["BEGIN READ ONLY", "NOTIFY x, '1'", "SELECT pg_notify('x', '2')", "COMMIT"],
        [("x", "1", False), ("x", "2", False)],
    ),
    "after DISCARD ALL": (["LISTEN x", "DISCARD ALL"], ["NOTIFY x"], []),
    "names are folded unless quoted": (
        ["LISTEN Foo", 'LISTEN "Foo"'],
        ["NOTIFY FOO", 'NOTIFY "Foo"', "NOTIFY foo, E'a\\nb'"],
        [("foo", "", False), ("Foo", "", False), ("foo", "a\nb", False)],
    ),
    "names are cut at 63 bytes": (
        [f"LISTEN {'c' * 70}"],
        [f"NOTIFY {'c' * 66}", "SELECT pg_notify(repeat('c', 63), 'p')"],
        [("c" * 63, "", False), ("c" * 63, "p", False)],
    ),
}


@pytest.fixture
def listener(node: NodeProcess) -> Iterator[psycopg.Connection]:
    with node.connect() as connection:
        yield connection


def received(connection: psycopg.Connection, *, until: str) -> list[tuple[str, str, bool]]:
    """Return what comes before the notification ``end`` with this payload."""
    found = []
    for notify in connection.notifies(timeout=WAIT_SECONDS):
        if (notify.channel, notify.payload) == ("end", until):
            return found
        own = notify.pid == connection.info.backend_pid
        found.append((notify.channel, notify.payload, own))
    raise AssertionError(f"no end after {found}")


@pytest.mark.parametrize("name", CASES)
def test_as_postgres(
    connection: psycopg.Connection, listener: psycopg.Connection, name: str
) -> None:
    own, others, expected = CASES[name]
    for statement in own:
        listener.execute(statement)
    for statement in others:
        connection.execute(statement)
    listener.execute('LISTEN "end"')
    connection.execute("NOTIFY \"end\", 'of case'")
    assert received(listener, until="of case") == expected


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT pg_notify('', 'x')", "channel name cannot be empty"),
        ("SELECT pg_notify(NULL, 'x')", "channel name cannot be empty"),
        ("SELECT pg_notify(repeat('c', 64), 'x')", "channel name too long"),
        ("SELECT pg_notify('x', repeat('y', 8000))", "payload string too long"),
        ("SELECT pg_notify('x', repeat('ü', 4000))", "payload string too long"),
        (f"NOTIFY x, '{'y' * 8000}'", "payload string too long"),
    ],
)
def test_limits(connection: psycopg.Connection, statement: str, message: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"^{message}$"):
        connection.execute(statement)
    connection.execute("SELECT pg_notify(repeat('c', 63), repeat('y', 7999)), pg_notify('x', NULL)")


def test_channels(connection: psycopg.Connection) -> None:
    def channels() -> list[str]:
        return [name for (name,) in connection.execute("SELECT pg_listening_channels()")]

    connection.execute("LISTEN a")
    connection.execute("BEGIN")
    connection.execute("LISTEN b")
    connection.execute("UNLISTEN a")
    assert channels() == ["a"]
    connection.execute("COMMIT")
    assert channels() == ["b"]
    connection.execute("UNLISTEN *")
    assert channels() == []
    assert connection.execute("SELECT pg_notification_queue_usage()").fetchone() == (0.0,)


def test_a_commit_that_fails_notifies_nobody(
    connection: psycopg.Connection, listener: psycopg.Connection
) -> None:
    listener.execute("LISTEN x")
    listener.execute('LISTEN "end"')
    connection.execute("CREATE TABLE t (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
        connection.execute("NOTIFY x, 'never'")
        connection.execute("INSERT INTO t VALUES (1), (1)")
    with connection.transaction():
        connection.execute("NOTIFY x, 'with rows'")
        connection.execute("INSERT INTO t VALUES (1)")
    connection.execute('NOTIFY "end"')
    assert received(listener, until="") == [("x", "with rows", False)]


def test_a_listener_sees_what_it_is_told_of(node: NodeProcess) -> None:
    """Whoever reads upon a notification finds the rows that were committed with it."""
    with node.connect() as listener, node.connect() as connection:
        connection.execute("CREATE TABLE t (id int)")
        listener.execute("LISTEN x")
        for i in range(50):
            with connection.transaction():
                connection.execute("INSERT INTO t VALUES (%s)", [i])
                connection.execute("SELECT pg_notify('x', %s)", [str(i)])
            (notify,) = listener.notifies(timeout=WAIT_SECONDS, stop_after=1)
            assert notify.payload == str(i)
            assert listener.execute("SELECT max(id) FROM t").fetchone() == (i,)


def test_a_listener_in_a_transaction_hears_after_it(
    connection: psycopg.Connection, listener: psycopg.Connection
) -> None:
    heard: list[str] = []
    listener.add_notify_handler(lambda notify: heard.append(notify.payload))
    listener.execute("LISTEN x")
    for end in ("COMMIT", "ROLLBACK"):
        listener.execute("BEGIN")
        connection.execute(f"NOTIFY x, 'before {end}'")
        listener.execute("SELECT 1")
        listener.execute("SAVEPOINT s")
        with pytest.raises(psycopg.errors.DivisionByZero):
            listener.execute("SELECT 1 / 0")
        listener.execute("ROLLBACK TO s")
        usage = connection.execute("SELECT pg_notification_queue_usage() > 0").fetchone()
        assert (heard, usage) == ([], (True,))
        listener.execute(end)
        assert heard == [f"before {end}"]
        heard.clear()


def test_databases_are_separate(node: NodeProcess, listener: psycopg.Connection) -> None:
    listener.execute("LISTEN x")
    listener.execute('LISTEN "end"')
    with node.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS deaf")
        connection.execute("CREATE DATABASE deaf")
        with node.connect(dbname="deaf") as stranger:
            stranger.execute("NOTIFY x, 'from elsewhere'")
        connection.execute("NOTIFY x, 'from here'")
        connection.execute('NOTIFY "end"')
    assert received(listener, until="") == [("x", "from here", False)]


def test_everybody_hears_in_the_order_of_commits(node: NodeProcess) -> None:
    """20 sessions notify at once; those that share a counter's row commit in the counter's order."""
    seed = int(os.environ.get("NOTIFICATIONS_SEED", "0")) or random.SystemRandom().randrange(
        1 << 32
    )
    print(f"repeat with NOTIFICATIONS_SEED={seed}")
    with node.connect() as connection:
        connection.execute("CREATE TABLE counter (id int PRIMARY KEY, n int)")
        connection.execute("INSERT INTO counter SELECT i, 0 FROM generate_series(0, 3) i")
        listeners = [node.connect() for _ in range(LISTENERS)]
        for listener in listeners:
            listener.execute("LISTEN news")
            listener.execute('LISTEN "end"')
        with ThreadPoolExecutor(NOTIFIERS) as pool:
            works = [
                pool.submit(_notify, node, random.Random(seed + i), i) for i in range(NOTIFIERS)
            ]
            committed = [payload for work in works for payload in work.result(WAIT_SECONDS)]
        counters = dict(connection.execute("SELECT id, n FROM counter").fetchall())
        connection.execute('NOTIFY "end"')
    heard = [[p for _, p, _ in received(listener, until="")] for listener in listeners]
    assert all(one == heard[0] for one in heard[1:])
    assert sorted(heard[0]) == sorted(committed)
    for counter, count in counters.items():
        parts = [p.split() for p in heard[0] if p.startswith(f"{counter} ")]
        # Two notifications of each transaction, one after the other.
        numbers = [(int(n), part) for _, n, _, part in parts]
        assert numbers == [(n, part) for n in range(1, count + 1) for part in ("a", "b")]


def _notify(node: NodeProcess, chance: random.Random, number: int) -> list[str]:
    """Count up and notify of it, some of it rolled back; return what was committed."""
    committed = []
    with node.connect() as connection:
        for i in range(TRANSACTIONS_EACH):
            kind = chance.choice(["plain", "plain", "rolled back", "savepoint", "no rows"])
            counter = chance.randrange(4)
            connection.execute("BEGIN")
            if kind == "no rows":
                payloads = [f"none {number} {i}"]
            else:
                (n,) = connection.execute(
                    "UPDATE counter SET n = n + 1 WHERE id = %s RETURNING n", [counter]
                ).fetchone()
                payloads = [f"{counter} {n} {number} {part}" for part in ("a", "b")]
            for payload in payloads:
                if kind == "savepoint":
                    connection.execute("SAVEPOINT s")
                    connection.execute("SELECT pg_notify('news', %s)", [payload + " undone"])
                    connection.execute("ROLLBACK TO s")
                connection.execute("SELECT pg_notify('news', %s)", [payload])
            if kind == "rolled back":
                connection.execute("ROLLBACK")
            else:
                connection.execute("COMMIT")
                committed += payloads
    return committed


def _fill(connection: psycopg.Connection, round_number: int) -> None:
    """Send 2,000 notifications of 8 kB each."""
    connection.execute(
        "SELECT count(pg_notify('x', rpad(%s::text || ' ' || i, 7999, '.')))"
        " FROM generate_series(1, 2000) i",
        [round_number],
    )


def _fill_up(connection: psycopg.Connection) -> int:
    """Notify until there is no room; return how many rounds there was."""
    rounds = 0
    full = "^too many notifications in the NOTIFY queue$"
    with pytest.raises(psycopg.errors.ProgramLimitExceeded, match=full):
        while rounds < 100:
            _fill(connection, rounds)
            rounds += 1
    return rounds


def _stuck_in_a_transaction(listener: psycopg.Connection) -> None:
    listener.execute("BEGIN")


def _not_reading(_listener: psycopg.Connection) -> None:
    pass


@pytest.mark.parametrize("stick", [_stuck_in_a_transaction, _not_reading])
def test_a_listener_that_does_not_listen_is_bounded(
    node: NodeProcess,
    connection: psycopg.Connection,
    stick: Callable[[psycopg.Connection], None],
) -> None:
    with node.connect() as listener:
        listener.execute("LISTEN x")
        stick(listener)
        rounds = _fill_up(connection)
        assert rounds >= 4
        (usage,) = connection.execute("SELECT pg_notification_queue_usage()").fetchone()
        assert 0.7 < usage <= 1
        # Others are served, and so is it once it goes on.
        connection.execute("NOTIFY y, 'nobody listens'")
        listener.execute("COMMIT")
        found = list(listener.notifies(timeout=WAIT_SECONDS, stop_after=2000 * rounds))
        numbers = [notify.payload.rstrip(".") for notify in found]
        assert numbers == [f"{r} {i}" for r in range(rounds) for i in range(1, 2001)]
        assert connection.execute("SELECT pg_notification_queue_usage()").fetchone() == (0.0,)
        _fill(connection, 100)


def test_a_listener_that_vanishes_leaves_nothing(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    listener = node.connect()
    listener.execute("LISTEN x")
    listener.execute("BEGIN")
    _fill(connection, 1)
    assert connection.execute("SELECT pg_notification_queue_usage() > 0.2").fetchone() == (True,)
    listener.close()
    tick = threading.Event()
    for _ in range(600):
        usage = connection.execute("SELECT pg_notification_queue_usage()").fetchone()
        if usage == (0.0,):
            break
        tick.wait(0.1)
    assert usage == (0.0,)
    _fill(connection, 2)
