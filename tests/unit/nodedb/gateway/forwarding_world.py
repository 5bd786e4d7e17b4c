"""Gateways and executors in one process, with a clock and a leadership that do what a test says.

All nodes of a ``World`` share one data group, as if replication took no time; each has sessions,
locks names and listeners of its own. Losing a node breaks its streams, which rolls back what its
executors had open. A client speaks the protocol and gets its answers as short texts::

    client.run("SELECT 1")          ["T", "D 1", "C SELECT 1", "Z I"]
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, cast

from cluster.ids import METADATA_GROUP
from cluster.metadata.command import CatalogChange, encode_command
from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.virtual import virtual_tables
from nodedb.gateway.loopback import Loopback
from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.connection import Connection
from nodedb.pgwire.errors import FatalError
from nodedb.pgwire.executor import ExecutorHost
from nodedb.pgwire.handshake import Door
from nodedb.session.manager import SessionManager
from nodedb.waiter import Waiter
from tests.unit.nodedb.txn.simulation import SimulatedNode

if TYPE_CHECKING:
    from cluster.transport.api import Peer, Stream, Transport
    from sql.errors import SqlError

SYNC = b"S\0\0\0\x04"
FLUSH = b"H\0\0\0\x04"
COPY_DONE = b"c\0\0\0\x04"


class ScriptedLeadership:
    """Says what the test has set, and tells whoever asked to be told of changes."""

    def __init__(self, *, may_serve: bool = False, leader_address: str | None = None) -> None:
        self.may_serve = may_serve
        self.tenure = int(may_serve)
        self.leader_address = leader_address
        self.may_serve_stale = True
        self._waiters: list[Waiter[None]] = []

    def changed(self) -> Waiter[None]:
        waiter: Waiter[None] = Waiter()
        self._waiters.append(waiter)
        return waiter

    def change(self, leader_address: str | None, *, may_serve: bool = False) -> None:
        self.leader_address = leader_address
        self.may_serve = may_serve
        self.tenure = int(may_serve)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.set_result(None)


class Server:
    """One node: its sessions, and its executors under ``address``."""

    def __init__(self, world: World, node_id: int, leadership: ScriptedLeadership) -> None:
        self.address = f"node{node_id}"
        self.leadership = leadership
        self.settings = PgWireSettings()
        node = world.node
        self.manager = SessionManager(
            transactions=node.transactions,
            metadata=node.metadata,
            virtual_tables=virtual_tables(),
            schedule=node.schedule,
            clock=node.schedule,
            make_scram_secret=lambda text: text,
            collect_garbage=_nothing,
            defaults={},
            node_id=node_id,
            rpc_address=self.address,
            connections_max=100,
        )
        self.manager.forward_by(leadership, cast("Transport", world.network))
        self.manager.front_end = self
        self.executors = ExecutorHost(self.manager, self.settings)
        self.clients: dict[int, Client] = {}
        self.is_frozen = False
        self._thaw: list[Waiter[None]] = []
        world.network.serve(self.address, self._serve)

    async def _serve(self, peer: Peer, payload: bytes, stream: Stream) -> None:
        await self.executors.serve(peer, payload, FreezableStream(self, stream))

    def freeze(self) -> None:
        """Say nothing and hear nothing from now on, as a process that was stopped."""
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False
        waiters, self._thaw = self._thaw, []
        for waiter in waiters:
            waiter.set_result(None)

    async def wait_for_thaw(self) -> None:
        while self.is_frozen:
            waiter: Waiter[None] = Waiter()
            self._thaw.append(waiter)
            await waiter

    # nodedb.session.manager.FrontEnd

    def deliver_asynchronous(self, process_id: int) -> None:
        self.clients[process_id].connection.deliver_asynchronous()

    def terminate(self, process_id: int, error: SqlError) -> bool:
        self.clients[process_id].connection.terminate(FatalError(error))
        return True

    def client_waits(self) -> dict[int, str]:
        return {}


class FreezableStream:
    """An executor's end of a stream, which stands still while its node is frozen."""

    def __init__(self, server: Server, stream: Stream) -> None:
        self._server = server
        self._stream = stream

    async def send(self, chunk: bytes) -> None:
        await self._server.wait_for_thaw()
        await self._stream.send(chunk)

    async def receive(self) -> bytes | None:
        chunk = await self._stream.receive()
        await self._server.wait_for_thaw()
        return chunk

    def finish(self) -> None:
        self._stream.finish()

    def abort(self, reason: str) -> None:
        self._stream.abort(reason)


class World:
    """Three nodes; the first leads, as far as the second, the gateway, knows."""

    def __init__(self) -> None:
        self.node = SimulatedNode()
        command = CatalogChange(bootstrap_catalog("").encode())
        self.node.replicator.propose(METADATA_GROUP, encode_command(command), command)
        self.node.schedule.run()
        self.network = Loopback()
        self.servers = [
            Server(self, 1, ScriptedLeadership(may_serve=True)),
            Server(self, 2, ScriptedLeadership(leader_address="node1")),
            Server(self, 3, ScriptedLeadership(leader_address="node1")),
        ]

    @property
    def gateway(self) -> Server:
        return self.servers[1]

    def client(self, number: int = 2, **parameters: str) -> Client:
        """Connect to a node, the gateway unless told otherwise."""
        return Client(self, self.servers[number - 1], parameters)

    def run(self) -> None:
        self.node.schedule.run()

    def advance(self, seconds: float) -> None:
        """Let time pass in steps that no timer notices."""
        for _ in range(round(seconds / 0.01)):
            self.node.schedule.advance(0.01)

    def lose(self, number: int) -> None:
        """Lose a node with all that its executors had open."""
        server = self.servers[number - 1]
        server.leadership.change(None)
        self.network.lose(server.address)
        self.run()

    def elect(self, number: int) -> None:
        """Have a node lead, and all of them know."""
        for server in self.servers:
            is_leader = server is self.servers[number - 1]
            server.leadership.change(None if is_leader else f"node{number}", may_serve=is_leader)
        self.run()


class Client:
    """One connection; see the module for its answers."""

    def __init__(self, world: World, server: Server, parameters: dict[str, str]) -> None:
        self.world = world
        self.server = server
        self.is_closed = False
        self._written: list[bytes] = []
        self._buffer = b""
        door = Door(
            factory=server.manager,
            peer="192.0.2.1:4711",
            is_trusted=True,
            nonce="nonce",
            mock_secret=b"mock",
            channel_binding=b"",
            start_tls=None,
            admit=lambda: None,
            on_startup=lambda: None,
            on_authenticated=lambda: None,
        )
        self.connection = Connection(self, server.settings, door.open, lambda: None)
        self.connection.start()
        body = struct.pack("!i", 196608)
        for name, value in {"user": "nodedb", "database": "nodedb", **parameters}.items():
            body += name.encode() + b"\0" + value.encode() + b"\0"
        self.connection.receive(struct.pack("!i", len(body) + 5) + body + b"\0")
        self.take()
        self.session: Any = self.connection.session
        self.process_id: int = self.session.process_id
        server.clients[self.process_id] = self

    def send(self, *messages: bytes) -> list[str]:
        """Send, let everything happen that needs no time, and return what was answered."""
        self.connection.receive(b"".join(messages))
        self.world.run()
        return self.take()

    def run(self, text: str) -> list[str]:
        return self.send(query(text))

    def rows(self, text: str) -> list[str]:
        """Run a query and return its rows."""
        return [answer[2:] for answer in self.run(text) if answer.startswith("D ")]

    def leave(self) -> None:
        """Vanish."""
        self.connection.lost()
        self.world.run()

    def take(self) -> list[str]:
        """Return what has been answered since."""
        self._buffer += b"".join(self._written)
        self._written.clear()
        answers = []
        while len(self._buffer) >= 5:
            end = 1 + int.from_bytes(self._buffer[1:5], "big")
            assert end <= len(self._buffer), "cut message"
            answers.append(_shown(chr(self._buffer[0]), self._buffer[5:end]))
            self._buffer = self._buffer[end:]
        return answers

    # nodedb.pgwire.io.ConnectionIo

    def write(self, data: bytes) -> None:
        self._written.append(data)

    def pause_input(self) -> None:
        """Nothing: what is sent is sent."""

    def resume_input(self) -> None:
        """As above."""

    def close(self) -> None:
        self.is_closed = True


async def _nothing() -> None:
    pass


def _shown(tag: str, body: bytes) -> str:
    if tag in "CZ":
        return f"{tag} {body.rstrip(bytes(1)).decode()}"
    if tag in "EN":
        fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
        return f"{tag} {fields[b'S']} {fields[b'C']} {fields[b'M']}"
    if tag == "A":
        channel, payload = body[4:].decode().split("\0")[:2]
        return f"A {channel} {payload}"
    if tag == "S":
        name, value = body.decode().split("\0")[:2]
        return f"S {name}={value}"
    if tag == "D":
        return f"D {','.join(_values(body))}"
    if tag == "d":
        return f"d {body.decode(errors='replace')}".rstrip()
    return tag


def _values(body: bytes) -> list[str]:
    values = []
    offset = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[offset : offset + 4], "big", signed=True)
        offset += 4
        values.append(
            "NULL" if length < 0 else body[offset : offset + length].decode(errors="replace")
        )
        offset += max(length, 0)
    return values


def message(tag: str, body: bytes = b"") -> bytes:
    return tag.encode() + struct.pack("!i", len(body) + 4) + body


def query(text: str) -> bytes:
    return message("Q", text.encode() + b"\0")


def parse(text: str, name: str = "") -> bytes:
    return message("P", name.encode() + b"\0" + text.encode() + b"\0\0\0")


def bind(*values: str, statement: str = "", portal: str = "") -> bytes:
    body = portal.encode() + b"\0" + statement.encode() + b"\0" + struct.pack("!hh", 0, len(values))
    for value in values:
        body += struct.pack("!i", len(value.encode())) + value.encode()
    return message("B", body + struct.pack("!h", 0))


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message("E", portal.encode() + b"\0" + struct.pack("!i", limit))


def copy_data(text: str) -> bytes:
    return message("d", text.encode())
