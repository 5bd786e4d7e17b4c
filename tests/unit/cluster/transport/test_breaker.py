"""The circuit breaker's life, on a clock of the test."""

import pytest

from cluster.transport.breaker import Breaker
from cluster.transport.config import TransportSettings
from cluster.transport.link import Link


def test_it_opens_after_five_failures_in_a_row() -> None:
    breaker = Breaker(5, 10.0)
    for _ in range(4):
        assert breaker.on_failure(0.0) is False
    assert breaker.state(0.0) == "closed"
    assert breaker.may_try(0.0)
    assert breaker.on_failure(0.0) is True
    assert breaker.state(0.0) == "OPEN"
    assert not breaker.may_try(9.99)


def test_a_success_begins_the_count_anew() -> None:
    breaker = Breaker(5, 10.0)
    for _ in range(20):
        for _ in range(4):
            breaker.on_failure(0.0)
        breaker.on_success()
    assert breaker.state(0.0) == "closed"
    assert breaker.failures == 0


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(5, 10.0)
    for _ in range(5):
        breaker.on_failure(at)
    return breaker


def test_half_open_lets_one_through_and_success_closes() -> None:
    breaker = opened()
    assert breaker.state(10.0) == "half-open"
    assert breaker.may_try(10.0)
    assert not breaker.may_try(10.0)
    breaker.on_success()
    assert breaker.state(10.0) == "closed"
    assert breaker.may_try(10.0)
    assert breaker.may_try(10.0)


def test_a_failed_trial_opens_it_again() -> None:
    breaker = opened()
    assert breaker.may_try(12.0)
    assert breaker.on_failure(13.0) is True
    assert breaker.state(22.9) == "OPEN"
    assert breaker.state(23.0) == "half-open"
    assert breaker.may_try(23.0)


def test_a_failure_while_open_extends_the_time() -> None:
    breaker = opened()
    breaker.on_failure(8.0)
    assert breaker.state(17.9) == "OPEN"
    assert breaker.state(18.0) == "half-open"


def test_a_trial_that_never_reports_does_not_block_for_ever() -> None:
    breaker = opened()
    assert breaker.may_try(10.0)
    assert not breaker.may_try(19.9)
    assert breaker.may_try(20.0)


def test_evidence_ends_the_waiting() -> None:
    breaker = opened()
    breaker.on_evidence(3.0)
    assert breaker.state(3.0) == "half-open"
    assert breaker.may_try(3.0)
    breaker.on_failure(3.0)
    assert breaker.state(3.0) == "OPEN"
    closed = Breaker(5, 10.0)
    closed.on_failure(0.0)
    closed.on_evidence(0.0)
    assert closed.state(0.0) == "closed"


def link() -> Link:
    return Link("127.0.0.1:9400", TransportSettings(is_insecure=True))


def test_the_back_off_doubles_up_to_its_cap() -> None:
    one = link()
    waits = []
    for _ in range(7):
        one.on_failed(0.0, "connection refused")
        waits.append(one.wait_seconds(0.0))
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert one.wait_seconds(0.7) == 1.0 - 0.7
    one.on_evidence(0.0)
    assert one.wait_seconds(0.0) == 0.0
    one.on_failed(0.0, "connection refused")
    assert one.wait_seconds(0.0) == 0.05


def test_a_connection_that_lived_is_dialled_again_at_once_one_that_flaps_is_not() -> None:
    one = link()
    one.on_connected(0.0, 2)
    one.on_lost(0.5, "gone")
    assert one.wait_seconds(0.5) == pytest.approx(0.05)
    one.on_connected(1.0, 2)
    one.on_lost(60.0, "gone")
    assert one.wait_seconds(60.0) == 0.0
    health = one.health(60.0)
    assert health.node_id == 2
    assert health.last_error == "gone"
    assert health.round_trip_ms is None
    assert not health.is_connected
