"""Open breakers recover without user traffic (BEHAVIOUR 7.3): core, driver, and a real transport."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from cluster.reachability import (
    InvalidReachabilitySetting,
    ReachabilityCore,
    ReachabilitySettings,
)
from cluster.reachability.driver import ReachabilityDriver
from cluster.transport.config import LocalIdentity, TransportSettings
from cluster.transport.driver import TcpTransport

PING = 3


class Health(NamedTuple):
    address: str
    circuit: str


def peers(*states: str) -> list[Health]:
    return [Health(f"10.0.0.{number}:1", state) for number, state in enumerate(states, 1)]


def addresses(*numbers: int) -> list[str]:
    return [f"10.0.0.{number}:1" for number in numbers]


# Core


def test_defaults() -> None:
    settings = ReachabilitySettings()
    settings.validate()
    assert settings.interval_seconds == 30.0


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (ReachabilitySettings(interval_seconds=0), "interval_seconds"),
        (ReachabilitySettings(interval_seconds=math.nan), "interval_seconds"),
        (ReachabilitySettings(interval_seconds=math.inf), "interval_seconds"),
        (ReachabilitySettings(probe_timeout_seconds=0), "probe_timeout_seconds"),
        (ReachabilitySettings(peers_per_tick_max=0), "peers_per_tick_max"),
    ],
)
def test_bad_settings_are_named(settings: ReachabilitySettings, name: str) -> None:
    with pytest.raises(InvalidReachabilitySetting) as caught:
        ReachabilityCore(settings, 0.0)
    assert caught.value.setting == name


def test_the_first_tick_is_skipped() -> None:
    core = ReachabilityCore(ReachabilitySettings(), 100.0)
    assert core.tick(peers("OPEN"), 100.0) == []
    assert core.tick(peers("OPEN"), 129.9) == []
    assert core.tick(peers("OPEN"), 130.0) == addresses(1)
    assert core.next_tick_at == 160.0


def test_every_breaker_that_is_not_closed_is_tried() -> None:
    """Half-open too: that is what an open one reads as once its cool-down is over."""
    core = ReachabilityCore(ReachabilitySettings(), 0.0)
    assert core.tick(peers("closed", "OPEN", "half-open", "closed"), 30.0) == addresses(2, 3)


def test_missed_ticks_are_not_made_up_for() -> None:
    core = ReachabilityCore(ReachabilitySettings(), 0.0)
    assert core.tick(peers("OPEN"), 3000.0) == addresses(1)
    core.on_result(addresses(1)[0], is_answered=False)
    assert core.tick(peers("OPEN"), 3001.0) == []
    assert core.next_tick_at == 3030.0


def test_a_peer_is_not_probed_twice_at_once() -> None:
    core = ReachabilityCore(ReachabilitySettings(), 0.0)
    assert core.tick(peers("OPEN", "OPEN"), 30.0) == addresses(1, 2)
    core.on_result(addresses(2)[0], is_answered=False)
    assert core.tick(peers("OPEN", "OPEN"), 60.0) == addresses(2)


def test_the_cap_leaves_nobody_out_for_ever() -> None:
    core = ReachabilityCore(ReachabilitySettings(peers_per_tick_max=2), 0.0)
    dead = peers(*["OPEN"] * 5)
    probed: list[list[str]] = []
    for tick in range(1, 6):
        probed.append(core.tick(dead, tick * 30.0))
        for address in probed[-1]:
            core.on_result(address, is_answered=False)
    assert probed == [
        addresses(1, 2),
        addresses(3, 4),
        addresses(5, 1),
        addresses(2, 3),
        addresses(4, 1),
    ]
    assert core.counters.deferred == 5 * 3
    assert core.counters.failed == core.counters.probes == 10


def test_probes_under_way_count_against_the_cap() -> None:
    core = ReachabilityCore(ReachabilitySettings(peers_per_tick_max=2), 0.0)
    dead = peers(*["OPEN"] * 5)
    assert core.tick(dead, 30.0) == addresses(1, 2)
    assert core.tick(dead, 60.0) == []
    core.on_result(addresses(1)[0], is_answered=True)
    assert core.tick(dead, 90.0) == addresses(3)
    assert core.counters.answered == 1


def test_what_recovered_is_forgotten() -> None:
    core = ReachabilityCore(ReachabilitySettings(peers_per_tick_max=1), 0.0)
    core.tick(peers("OPEN", "OPEN"), 30.0)
    core.on_result(addresses(1)[0], is_answered=True)
    assert core.tick(peers("closed", "OPEN"), 60.0) == addresses(2)
    core.on_result(addresses(2)[0], is_answered=False)
    assert core.tick(peers("OPEN", "OPEN"), 90.0) == addresses(1)


# Driver


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, "waited in vain"
        await asyncio.sleep(0.005)


def test_probes_run_in_parallel_and_are_given_up() -> None:
    async def body() -> None:
        running: list[str] = []
        most = 0

        async def hang(address: str) -> None:
            nonlocal most
            running.append(address)
            most = max(most, len(running))
            try:
                await asyncio.Event().wait()
            finally:
                running.remove(address)

        settings = ReachabilitySettings(
            interval_seconds=0.05, probe_timeout_seconds=0.08, peers_per_tick_max=3
        )
        driver = ReachabilityDriver(settings, lambda: peers(*["OPEN"] * 9), hang)
        driver.start()
        await until(lambda: driver.counters.failed >= 9)
        assert most == 3
        await driver.close()
        assert running == []
        await driver.close()

    asyncio.run(body(), debug=True)


def test_a_probe_that_raises_ends_nothing() -> None:
    async def body() -> None:
        async def refuse(address: str) -> None:
            if address.startswith("10.0.0.1:"):
                raise OSError("refused")

        settings = ReachabilitySettings(interval_seconds=0.02)
        driver = ReachabilityDriver(settings, lambda: peers("OPEN", "OPEN"), refuse)
        driver.start()
        await until(lambda: driver.counters.failed >= 2 and driver.counters.answered >= 2)
        await driver.close()

    asyncio.run(body(), debug=True)


def test_a_fault_in_health_is_reported() -> None:
    async def body() -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what))

        def broken() -> list[Health]:
            raise RuntimeError("no health")

        async def probe(_address: str) -> None:
            raise AssertionError("nobody to probe")

        driver = ReachabilityDriver(ReachabilitySettings(interval_seconds=0.02), broken, probe)
        driver.start()
        await until(lambda: bool(reported))
        assert "no health" in str(reported[0]["exception"])
        await driver.close()

    asyncio.run(body())


def test_closing_before_start_is_harmless() -> None:
    async def body() -> None:
        async def probe(_address: str) -> None:
            return None

        await ReachabilityDriver(ReachabilitySettings(), list, probe).close()

    asyncio.run(body())


# With the transport


async def listen(port: int = 0, node_id: int = 1) -> tuple[TcpTransport, int]:
    settings = TransportSettings(
        is_insecure=True,
        rpc_timeout_seconds=0.5,
        breaker_failures_max=2,
        breaker_open_seconds=0.1,
    )
    identity = LocalIdentity(node_id=node_id, cluster_id="c")
    transport = TcpTransport(identity, settings)

    async def answer(_peer: object, payload: bytes) -> bytes:
        return payload

    transport.on_call(PING, answer)
    return transport, await transport.start("127.0.0.1", port)


def test_a_breaker_closes_by_itself_and_that_of_a_dead_peer_stays_open() -> None:
    async def body() -> None:
        client, _ = await listen(node_id=1)
        server, port = await listen(node_id=2)
        dead_server, dead_port = await listen(node_id=3)
        alive, dead = f"127.0.0.1:{port}", f"127.0.0.1:{dead_port}"
        for address in (alive, dead):
            assert await client.call(address, PING, b"x", 1.0) == b"x"
        await server.close()
        await dead_server.close()

        def circuit(address: str) -> str:
            return {peer.address: peer.circuit for peer in client.health()}[address]

        async def open_breakers() -> None:
            while "closed" in (circuit(alive), circuit(dead)):
                for address in (alive, dead):
                    await asyncio.gather(
                        client.call(address, PING, b"x", 0.2), return_exceptions=True
                    )
                await asyncio.sleep(0.01)

        await asyncio.wait_for(open_breakers(), 10.0)
        server, _ = await listen(port, node_id=2)
        driver = ReachabilityDriver(
            ReachabilitySettings(interval_seconds=0.3, probe_timeout_seconds=1.0),
            client.health,
            lambda address: client.call(address, PING, b"", 0.5),
        )
        driver.start()
        # No call of ours from here on.
        await until(lambda: circuit(alive) == "closed", 5.0)
        await until(lambda: driver.counters.failed >= 2, 5.0)
        assert circuit(dead) != "closed"
        await driver.close()
        for transport in (client, server):
            await transport.close()

    asyncio.run(body())
