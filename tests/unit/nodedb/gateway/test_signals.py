"""Cancelling and ending sessions of other nodes: two worlds, and a transport of one call."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import pytest
from forwarding_world import Client, Server, World

from cluster.transport.api import Peer, PeerUnavailable, RemoteError, Transport
from nodedb.gateway.process_ids import node_of
from nodedb.gateway.signals import Signal, Signals
from nodedb.session.backends import deliver_signal
from tests.unit.nodedb.txn.simulation import Task

_PEER = Peer(1, "c", "node1", 1, 1)


class Calls:
    """Calls from any node to any other."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Peer, bytes], Awaitable[bytes]]] = {}
        self.answers: list[bytes] = []

    def end(self, address: str) -> "End":
        return End(self, address)


class End:
    def __init__(self, calls: Calls, address: str) -> None:
        self._calls = calls
        self._address = address

    def on_call(self, _method: int, handler: Callable[[Peer, bytes], Awaitable[bytes]]) -> None:
        self._calls.handlers[self._address] = handler

    async def call(self, address: str, _method: int, payload: bytes, _timeout: float) -> bytes:
        if address not in self._calls.handlers:
            raise PeerUnavailable("gone")
        answer = await self._calls.handlers[address](_PEER, payload)
        self._calls.answers.append(answer)
        return answer


@pytest.fixture
def calls(world: World) -> Calls:
    calls = Calls()
    addresses = {number: server.address for number, server in enumerate(world.servers, 1)}
    for server in world.servers:
        connect(calls, server, addresses)
    return calls


def connect(calls: Calls, server: Server, addresses: dict[int, str]) -> None:
    manager = server.manager

    def deliver(signal: Signal) -> bool:
        return deliver_signal(manager, signal)

    transport = cast("Transport", calls.end(server.address))
    manager.signal_elsewhere = Signals(transport, addresses.get, deliver).send


def test_a_cancel_request_that_reaches_another_node(
    world: World, client: Client, calls: Calls
) -> None:
    client.run("SELECT pg_sleep(60), * FROM t")
    other = world.servers[2].manager
    other.cancel(client.process_id, client.session.secret_key ^ 1)
    world.run()
    assert client.take() == []
    other.cancel(client.process_id, client.session.secret_key)
    world.run()
    assert client.take()[0].startswith("E ERROR 57014")
    assert len(calls.answers) == 2


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_functions_reach_sessions_of_any_node(world: World, calls: Calls, function: str) -> None:
    asking, asked = world.client(3), world.client(2)
    asked.run("SELECT pg_sleep(60)")  # Needs no leader: there is no executor for it.
    assert node_of(asked.process_id) == 2
    assert asking.rows(f"SELECT {function}({asked.process_id})") == ["t"]
    world.run()
    (answer, *_) = asked.take()
    assert answer.split()[2] == ("57014" if "cancel" in function else "57P01")
    assert calls.answers == [b"\1"]


def test_the_node_of_the_session_checks_who_asks(world: World, calls: Calls) -> None:
    world.client(1).run("CREATE ROLE nobody LOGIN; CREATE ROLE friend LOGIN")
    asked, asking = world.client(2), world.client(3, user="nobody", database="nodedb")
    assert asking.rows(f"SELECT pg_terminate_backend({asked.process_id})") == ["t"]
    assert calls.answers == [b"\0"]
    assert not asked.is_closed


def test_nobody_there(world: World, calls: Calls) -> None:
    client = world.client(3)
    for process_id in (7 << 22, (1 << 22) + 999):
        answers = client.run(f"SELECT pg_cancel_backend({process_id})")
        assert len([answer for answer in answers if answer.startswith("D")]) == 1
    assert client.rows("SELECT pg_cancel_backend(-5)") == ["f"]
    assert calls.answers == [b"\0"]


def test_a_signal_that_is_none(world: World, calls: Calls) -> None:
    handler: Any = calls.handlers["node2"]
    for payload in (b"", b"\xc1", msgspec.msgpack.encode([1, "rm", 0, 0])):
        with pytest.raises(RemoteError):
            Task(handler(_PEER, payload)).result()
    assert world.client(2).run("SELECT 1")[-1] == "Z I"
