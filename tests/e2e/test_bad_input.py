"""What a broken or hostile client sends earns PostgreSQL's SQLSTATE and disturbs nobody else."""

import concurrent.futures
import contextlib
import socket
import struct
from collections.abc import Iterator
from random import Random

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess
from tests.fuzz.messages import MessageGenerator
from tests.fuzz.stream_bytes import BytesGenerator
from tests.fuzz.target import Target
from tests.fuzz.wire import exchange, fields, frame, frames, query, sqlstates, startup

SEED = 20240131


@pytest.fixture
def target(node: NodeProcess) -> Target:
    return Target(node)


@contextlib.contextmanager
def bystander(node: NodeProcess) -> Iterator[None]:
    """Keep a connection with an open transaction through the block; it must still work after it."""
    with node.connect(autocommit=False) as connection:
        connection.execute("CREATE TABLE bystander (v int)")
        connection.execute("INSERT INTO bystander VALUES (1)")
        yield
        assert connection.execute("SELECT v FROM bystander").fetchone() == (1,)
        connection.rollback()


def test_random_bytes(target: Target) -> None:
    rng = Random(SEED)
    with bystander(target.node):
        for _ in range(100):
            exchange(target.address, [rng.randbytes(rng.randrange(1, 3000))])
            exchange(target.address, [BytesGenerator(rng).stream()])
    target.check()


def test_messages_in_any_order(target: Target) -> None:
    rng = Random(SEED)
    with bystander(target.node):
        for _ in range(100):
            answer = exchange(target.address, MessageGenerator(rng).conversation())
            assert "XX000" not in sqlstates(answer), f"seed {SEED}"
    target.check()


@pytest.mark.parametrize("length", [0, 3, 7, 10_001, 2**31 - 1, -1])
def test_startup_packet_of_a_bad_length(target: Target, length: int) -> None:
    packet = struct.pack("!iI", length, 196608) + b"user\0nodedb\0\0"
    with bystander(target.node):
        answer = exchange(target.address, [packet])
    assert sqlstates(answer) == ["08P01"]
    assert fields(frames(answer)[0][1])["M"] == "invalid length of startup packet"
    target.check()


@pytest.mark.parametrize("count", [1, 5, 8, 20])
def test_truncated_startup_packet(target: Target, count: int) -> None:
    assert exchange(target.address, [startup()[:count]]) == b""
    target.check()


@pytest.mark.parametrize(
    ("message", "sqlstate"),
    [
        pytest.param(frame("Q", b"select 1", length=3), "08P01", id="length below the least"),
        pytest.param(frame("Q", b"select 1", length=-5), "08P01", id="negative length"),
        pytest.param(frame("S", b"", length=2**31 - 1), "08P01", id="oversized Sync"),
        pytest.param(frame("Q", b"x", length=2**31 - 1), "54000", id="oversized Query"),
        pytest.param(frame("!", b""), "08P01", id="unknown type"),
        pytest.param(frame("p", b"secret\0"), "08P01", id="password after authentication"),
    ],
)
def test_what_loses_the_framing_ends_the_connection(
    target: Target, message: bytes, sqlstate: str
) -> None:
    with bystander(target.node):
        answer = exchange(target.address, [startup(), message, query("select 1")])
    errors = [fields(body) for tag, body in frames(answer) if tag == "E"]
    assert [(error["S"], error["C"]) for error in errors] == [("FATAL", sqlstate)]
    assert "D" not in [tag for tag, _ in frames(answer)]
    target.check()


@pytest.mark.parametrize(
    ("message", "sqlstate"),
    [
        pytest.param(frame("Q", b"select 1"), "08P01", id="no terminator"),
        pytest.param(frame("Q", b"select 1\0\0"), "08P01", id="two terminators"),
        pytest.param(frame("Q", b"select '\xff'\0"), "22021", id="invalid UTF-8 in Query"),
        pytest.param(frame("Q", b"select '\xed\xa0\x80'\0"), "22021", id="surrogate in UTF-8"),
        pytest.param(frame("F", bytes(10)), "0A000", id="FunctionCall"),
    ],
)
def test_a_bad_simple_message_fails_alone(target: Target, message: bytes, sqlstate: str) -> None:
    answer = exchange(target.address, [startup(), message, query("select 1")])
    assert sqlstates(answer) == [sqlstate]
    assert [tag for tag, _ in frames(answer)][-4:] == ["T", "D", "C", "Z"]
    target.check()


@pytest.mark.parametrize(
    ("messages", "sqlstate"),
    [
        pytest.param([frame("E", b"none\0\0\0\0\0")], "34000", id="Execute without Bind"),
        pytest.param([frame("B", b"\0none\0" + bytes(6))], "26000", id="Bind without Parse"),
        pytest.param([frame("D", b"Pnone\0")], "34000", id="Describe without Bind"),
        pytest.param([frame("D", b"Xnone\0")], "08P01", id="Describe of nothing known"),
        pytest.param([frame("P", b"\0select 1\0\0\5")], "08P01", id="Parse cut short"),
        pytest.param(
            [frame("P", b"\0select $1\0\0\0"), frame("B", bytes(8))],
            "08P01",
            id="too few parameters",
        ),
        pytest.param([frame("P", b"\0select '\xc3'\0\0\0")], "22021", id="invalid UTF-8 in Parse"),
        pytest.param(
            [frame("P", b"\0select $1::text\0\0\0"), frame("B", b"\0\0\0\0\0\1\0\0\0\1\xff\0\0")],
            "22021",
            id="invalid UTF-8 in a parameter",
        ),
    ],
)
def test_a_bad_extended_message_skips_to_sync(
    target: Target, messages: list[bytes], sqlstate: str
) -> None:
    """Everything up to the Sync is discarded, with one error and one ReadyForQuery."""
    skipped = [frame("P", b"s\0select 1\0\0\0"), frame("D", b"Ss\0")]
    tail = [frame("S"), query("select 1")]
    answer = exchange(target.address, [startup(), *messages, *skipped, *tail])
    assert sqlstates(answer) == [sqlstate]
    tags = [tag for tag, _ in frames(answer)]
    assert tags[tags.index("E") :] == ["E", "Z", "T", "D", "C", "Z"]
    target.check()


@pytest.mark.parametrize(
    "nesting", ["(", "NOT (", "- (", "(SELECT ", "CASE WHEN true THEN ", "abs("]
)
def test_ten_thousand_levels_of_nesting(target: Target, nesting: str) -> None:
    closing = {"(SELECT ": ")", "CASE WHEN true THEN ": " END"}.get(nesting, ")")
    value = "true" if nesting == "NOT (" else "1"
    text = "SELECT " + nesting * 10_000 + value + closing * 10_000
    with bystander(target.node), target.node.connect() as connection:
        with pytest.raises(psycopg.errors.StatementTooComplex) as caught:
            connection.execute(text)
        assert caught.value.sqlstate == "54001"
        assert connection.execute("SELECT 1").fetchone() == (1,)
    target.check()


@pytest.mark.parametrize("operator", [" + ", " OR ", " || "])
def test_ten_thousand_operators_in_a_row(target: Target, operator: str) -> None:
    """A long chain is no deep one to a client: an answer or 54001, as in PostgreSQL, no crash."""
    item = {" OR ": "false", " || ": "'a'"}.get(operator, "1")
    with bystander(target.node), target.node.connect() as connection:
        with contextlib.suppress(psycopg.errors.StatementTooComplex):
            row = connection.execute("SELECT " + operator.join([item] * 10_000)).fetchone()
            assert row is not None
    target.check()


def test_a_query_of_100_megabytes(target: Target) -> None:
    text = "SELECT length('" + "x" * 100_000_000 + "')"
    with bystander(target.node), target.node.connect() as connection:
        refused = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.OutOfMemory)
        with contextlib.suppress(*refused):
            assert connection.execute(text).fetchone() == (100_000_000,)
        connection.execute("SELECT 1")
        with target.node.connect() as other:
            assert other.execute("SELECT 1").fetchone() == (1,)


def test_many_statements_in_one_query(target: Target) -> None:
    with bystander(target.node), target.node.connect() as connection:
        connection.execute("SELECT 1;" * 20_000)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    target.check()


@pytest.mark.parametrize("ending", ["half close", "reset", "CopyFail", "Query"])
def test_copy_that_stops_half_way(target: Target, ending: str) -> None:
    node = target.node
    with node.connect() as connection:
        connection.execute("CREATE TABLE copied (id int PRIMARY KEY, v text)")
    opening = [startup(), query("copy copied from stdin"), frame("d", b"1\tone\n2\tt")]
    if ending == "reset":
        client = socket.create_connection(target.address)
        client.sendall(b"".join(opening))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    else:
        last = {"CopyFail": [frame("f", b"enough\0")], "Query": [query("select 1")]}.get(ending, [])
        states = sqlstates(exchange(target.address, opening + last))
        expected = {"CopyFail": ["57014"], "Query": ["08P01", "08P01"], "half close": []}
        assert states == expected[ending]
    target.check()
    with node.connect() as connection:
        connection.execute("SET lock_timeout = '10s'")
        assert connection.execute("SELECT count(*) FROM copied").fetchone() == (0,)
        connection.execute("DROP TABLE copied")


def test_a_hundred_clients_that_say_nothing(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(contextlib.closing(socket.create_connection(target.address)))
        with target.node.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    target.check()


def test_bad_clients_at_once(target: Target) -> None:
    """Eight broken clients beside one that works; the working one sees nothing of them."""

    def hostile(seed: int) -> None:
        rng = Random(seed)
        for _ in range(25):
            exchange(target.address, [BytesGenerator(rng).stream()])

    with concurrent.futures.ThreadPoolExecutor(8) as pool, target.node.connect() as connection:
        running = [pool.submit(hostile, SEED + number) for number in range(8)]
        while not all(each.done() for each in running):
            assert connection.execute("SELECT 1").fetchone() == (1,)
        for each in running:
            each.result()
    target.check()
