"""Where does the time of a prepared point read go?

A node runs inside this process and one connection is fed bytes without a socket, so nothing but
the statement's own work is measured. Then the functions of each stage are timed alone, on the
very values that this statement hands them. The sum of the stages against the whole says how much
of it they explain; the rest is session and connection: finding the plan, portal, result,
dispatch. What the kernel adds per round trip is shown beside it, by a socket pair and messages of
the same size.

Usage: ``python -m bench.stages [--count 20000]``
"""

import argparse
import asyncio
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nodedb.config import NodeConfig
from nodedb.config.node_config import Address
from nodedb.node import LoopSchedule, Node
from nodedb.pgwire.codec import FrontendDecoder
from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.connection import Connection
from nodedb.pgwire.rows import row_encoder
from nodedb.session.session import Session
from nodedb.txn.table_codec import codec_of

ROWS = 20_000
REPEATS = 5
TEXT = "SELECT abalance FROM pgbench_accounts WHERE aid = $1"
SETUP = (
    "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))",
    f"INSERT INTO pgbench_accounts SELECT i, 1, 0, '' FROM generate_series(1, {ROWS}) i",
)


class Output:
    """A ConnectionIo that only remembers what was written last."""

    def __init__(self) -> None:
        self.last = b""

    def write(self, data: bytes) -> None:
        self.last = bytes(data)

    def pause_input(self) -> None:
        pass

    def resume_input(self) -> None:
        pass

    def close(self) -> None:
        pass


def message(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("!i", len(body) + 4) + body


def parse_message(text: str) -> bytes:
    return message(b"P", b"s\0" + text.encode() + b"\0" + struct.pack("!h", 0)) + message(b"S", b"")


def execute_messages(key: int) -> bytes:
    """Return Bind, Describe, Execute, Sync as pgbench -M prepared sends them."""
    value = str(key).encode()
    counts = struct.pack("!hhi", 0, 1, len(value))
    bind = b"\0s\0" + counts + value + struct.pack("!h", 0)
    return (
        message(b"B", bind)
        + message(b"D", b"P\0")
        + message(b"E", b"\0" + struct.pack("!i", 0))
        + message(b"S", b"")
    )


@dataclass
class Stage:
    """One stage: what it is called, and one run of it."""

    name: str
    run: Callable[[], object]


def microseconds(run: Callable[[], object], count: int) -> float:
    """Return the median time of one call over several repeats."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter_ns()
        for _ in range(count):
            run()
        times.append((time.perf_counter_ns() - started) / count / 1000)
    return statistics.median(times)


async def connect(node: Node) -> tuple[Connection, Output, Session]:
    """Open a session of the superuser without start-up and socket."""
    session = node.sessions.open_session(
        user="nodedb", database="nodedb", parameters={}, peer="stages:0", tls=False
    )

    async def handshake(connection: Connection) -> Session:
        connection.start_messages(1 << 20)
        return session

    output = Output()
    connection = Connection(output, PgWireSettings(), handshake, lambda: None)
    connection.start()
    return connection, output, session


async def ask(connection: Connection, output: Output, data: bytes) -> bytes:
    """Send messages and wait until ReadyForQuery."""
    output.last = b""
    connection.receive(data)
    while not output.last.endswith(b"I"):  # noqa: ASYNC110  the answer arrives in some turn
        await asyncio.sleep(0)
    assert b"SERROR" not in output.last, output.last
    return output.last


def stages_of(node: Node, session: Session, request: bytes, answer: bytes) -> list[Stage]:
    """Return the stages with the values that the statement really passes between them."""
    prepared = session.prepared["s"]
    assert prepared.plan is not None
    point = prepared.plan.plan.point
    assert point is not None, "no point plan: nothing to compare"
    columns = prepared.columns
    assert columns is not None
    table_codec = codec_of(point.table)
    formats = session.settings.format
    context = session.point_context
    key = table_codec.rows.key((7,))
    payload = node.group.newest(key)
    assert payload is not None
    row = table_codec.decode(payload)
    rows = (point.project(row, context),)
    encode = row_encoder(columns, (0,) * len(columns), formats)
    decoder = FrontendDecoder()
    output = bytearray()

    def decode_messages() -> None:
        decoder.feed(request)
        while decoder.next_message() is not None:
            pass

    def encode_rows() -> None:
        output.clear()
        encode(rows, output)

    assert answer.count(b"D") >= 1
    return [
        Stage("decode messages", decode_messages),
        Stage("decode parameters", lambda: prepared.decode((b"7",), (), formats)),
        Stage("plan lookup", lambda: session.plan_key() == prepared.plan_key),
        Stage("key: evaluate", lambda: point.make_key(context)),
        Stage("key: encode", lambda: table_codec.rows.key((7,))),
        Stage("engine get", lambda: node.group.newest(key)),
        Stage("row: decode", lambda: table_codec.decode(payload)),
        Stage("row: project", lambda: point.project(row, context)),
        Stage("row: encode", encode_rows),
    ]


def kernel_microseconds(request: bytes, answer: bytes, count: int) -> float:
    """Return what one receive and one send of these sizes cost on a socket pair."""
    client, server = socket.socketpair()
    with client, server:

        def round_trip() -> None:
            client.send(request)
            server.recv(65536)
            server.send(answer)
            client.recv(65536)

        # Two of the four calls are the client's.
        return microseconds(round_trip, count) / 2


async def measure(folder: Path, count: int) -> None:
    """Run the node, measure, print the table."""
    free = Address("127.0.0.1", 0)
    config = NodeConfig(
        store=folder / "store", sql_addr=free, http_addr=free, rpc_addr=free, insecure=True
    )
    node = Node(config)
    await node._start(LoopSchedule(asyncio.get_running_loop()))
    connection, output, session = await connect(node)
    for statement in SETUP:
        await ask(connection, output, message(b"Q", statement.encode() + b"\0"))
    await ask(connection, output, parse_message(TEXT))
    request = execute_messages(7)
    answer = await ask(connection, output, request)
    for _ in range(2000):
        connection.receive(request)
    whole = microseconds(lambda: connection.receive(request), count)
    stages = [
        (stage.name, microseconds(stage.run, count))
        for stage in stages_of(node, session, request, answer)
    ]
    explained = sum(spent for _, spent in stages)
    for name, spent in [
        *stages,
        ("session, connection", whole - explained),
        ("whole statement", whole),
    ]:
        print(f"{name:<24} {spent:>7.2f} us  {spent / whole:>5.0%}")
    print(f"{'kernel, per statement':<24} {kernel_microseconds(request, answer, count):>7.2f} us")
    node._closers.clear()
    await node.sql.close()
    await node.http.close()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000, help="calls per repeat")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stages-") as folder:
        asyncio.run(measure(Path(folder), arguments.count))


if __name__ == "__main__":
    main()
