"""Real transports on loopback, certificates for them, and peers that misbehave."""

import asyncio
import datetime
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from cluster.transport import frame as f
from cluster.transport.api import Peer
from cluster.transport.config import LocalIdentity, TlsFiles, TransportSettings
from cluster.transport.driver import TcpTransport
from cluster.transport.faults import FaultPolicy
from cluster.transport.handshake import Handshake, Hello
from nodedb.certificates import create_ca, create_node

SECRET = b"the secret of the test's cluster"
MESSAGE, ECHO, SINK = 1, 3, 1
NOW = datetime.datetime.now(datetime.UTC)


def make_certificates(directory: Path, hosts: tuple[str, ...] = ("127.0.0.1",)) -> TlsFiles:
    """Make an authority, if there is none beside it, and one node's certificate."""
    authority = directory.parent / f"{directory.name.split('-')[0]}-ca"
    if not authority.exists():
        create_ca(authority, NOW, days=10, overwrite=False)
    create_node(directory, authority, hosts, NOW, days=5, overwrite=True)
    return TlsFiles(
        certificate=str(directory / "node.crt"),
        key=str(directory / "node.key"),
        authority=str(directory / "ca.crt"),
    )


class Node:
    """One transport with an echo call, a message recorder and a stream that counts."""

    def __init__(
        self,
        node_id: int,
        *,
        tls: TlsFiles | None = None,
        cluster_id: str = "c1",
        incarnation: int = 1,
        admit: Callable[[Peer], str] = lambda _peer: "",
        **settings: Any,
    ) -> None:
        self.faults = FaultPolicy(random.Random(node_id))
        self.identity = LocalIdentity(node_id, cluster_id, "", incarnation)
        values: dict[str, Any] = {
            "secret": SECRET,
            "is_insecure": tls is None,
            "rpc_timeout_seconds": 2.0,
            "ping_interval_seconds": 0.1,
        }
        made = TransportSettings(tls=tls, **(values | settings))
        self.transport = TcpTransport(self.identity, made, faults=self.faults, admit=admit)
        self.heard: list[tuple[int, bytes]] = []
        self.peers: list[Peer] = []
        self.lost: list[str] = []
        self.hold: asyncio.Event = asyncio.Event()
        self.transport.on_message(MESSAGE, self._on_message)
        self.transport.on_call(ECHO, self._echo)
        self.transport.on_call(4, self._hang)
        self.transport.on_stream(SINK, self._count)
        self.transport.on_peer_lost(self.lost.append)

    @property
    def address(self) -> str:
        return self.identity.address

    def _on_message(self, peer: Peer, payload: bytes) -> None:
        self.heard.append((peer.node_id, payload))
        self.peers.append(peer)

    async def _echo(self, peer: Peer, payload: bytes) -> bytes:
        self.peers.append(peer)
        return payload

    async def _hang(self, _peer: Peer, _payload: bytes) -> bytes:
        await self.hold.wait()
        return b""

    async def _count(self, _peer: Peer, payload: bytes, stream: Any) -> None:
        total = 0
        while (chunk := await stream.receive()) is not None:
            total += len(chunk)
            await stream.send(b"%d" % total)
        await stream.send(payload + b" done")

    async def start(self, port: int = 0) -> "Node":
        await self.transport.start("127.0.0.1", port)
        return self

    async def call(
        self, other: "Node | str", payload: bytes = b"hi", seconds: float = 5.0
    ) -> bytes:
        address = other if isinstance(other, str) else other.address
        return await self.transport.call(address, ECHO, payload, seconds)


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """Start nodes, and close them whatever happens."""
    try:
        for node in nodes:
            await node.start()
        yield
    finally:
        for node in nodes:
            await node.transport.close()


async def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until a condition holds; returns its value."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):  # noqa: ASYNC110  any condition at all
            await asyncio.sleep(0.002)
    return value


class RawPeer:
    """A peer by hand: a plain socket, frames as one likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.decoder = f.FrameDecoder()
        self.frames: list[f.Frame] = []
        self.sequence = 0

    @classmethod
    async def connect(cls, address: str, **options: Any) -> "RawPeer":
        host, port = address.rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port), **options))

    def say(self, frame_type: int, payload: bytes = b"", **fields: int) -> bytes:
        self.sequence += 1
        data = f.encode_frame(1, frame_type, self.sequence, payload, **fields)
        self.writer.write(data)
        return data

    async def hear(self) -> f.Frame | None:
        """Return the next frame, None at the end of the connection."""
        while not self.frames:
            try:
                data = await asyncio.wait_for(self.reader.read(65_536), 10)
            except ConnectionError:
                return None
            if not data:
                return None
            self.frames += self.decoder.feed(data)
            assert not self.decoder.error, self.decoder.error
        return self.frames.pop(0)

    async def shake_hands(self, secret: bytes = SECRET, **changes: Any) -> None:
        """Get in as a dialler, on a plain connection."""
        handshake = Handshake(
            hello=make_hello(**changes),
            is_dialler=True,
            secret=secret,
            binding=b"",
            spki_pin="",
            check=lambda _peer, _hello: "",
            admit=lambda _peer: "",
        )
        step = handshake.start()
        while True:
            for frame_type, payload in step.frames:
                self.say(frame_type, payload)
            if step.is_established:
                self.decoder.establish(1)
                return
            frame = await self.hear()
            assert frame is not None
            step = handshake.on_frame(frame[0], frame[4])

    async def close(self) -> None:
        self.writer.close()


def make_hello(**changes: Any) -> Hello:
    values: dict[str, Any] = {
        "node_id": 77,
        "cluster_id": "c1",
        "address": "127.0.0.1:1",
        "incarnation": 1,
        "version_min": 1,
        "version_max": 1,
        "nonce": bytes(32),
        "target": "",
    }
    return Hello(**(values | changes))


def encode(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def client_context(tls: TlsFiles, *, with_certificate: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.authority)
    if with_certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    return context
