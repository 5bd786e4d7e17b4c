"""At most two versions of a descriptor in use; a dead node's lease blocks nobody for long (M5)."""

import random

import pytest

from cluster.metadata.leases import (
    ATTEMPTS_MAX,
    MAY_PUBLISH,
    RETRY_DELAYS_SECONDS,
    HeldLease,
    LeaseTable,
    NodeLease,
    WaitFor,
    decide,
)


def test_everybody_has_applied_the_last_change() -> None:
    observed = [NodeLease(1, 40, 9.0), NodeLease(2, 41, 9.0), NodeLease(3, 50, 9.0)]
    assert decide(observed, 40, 1.0) == MAY_PUBLISH


def test_nodes_behind_are_named_and_the_last_lease_says_until_when() -> None:
    observed = [NodeLease(3, 39, 7.5), NodeLease(1, 40, 99.0), NodeLease(2, 0, 9.0)]
    assert decide(observed, 40, 1.0) == WaitFor((2, 3), 9.0)


def test_a_lease_that_ends_now_blocks_nobody() -> None:
    dead = [NodeLease(2, 0, 9.0)]
    assert decide(dead, 40, 8.999) == WaitFor((2,), 9.0)
    assert decide(dead, 40, 9.0) == MAY_PUBLISH


def test_nobody_at_all_may_be_waited_for() -> None:
    assert decide([], 40, 0.0) == MAY_PUBLISH


def test_a_dead_node_blocks_for_one_duration_and_no_longer() -> None:
    table = LeaseTable(6.0)
    for node_id in (1, 2, 3):
        table.renew(node_id, 10, 0.0)
    # Node 3 dies at 1 s. Entry 20 is applied by the others, who go on renewing.
    for second in range(1, 6):
        table.renew(1, 20, second)
        table.renew(2, 20, second)
        assert table.decide(20, second) == WaitFor((3,), 6.0)
    assert table.decide(20, 6.0) == MAY_PUBLISH


def test_a_new_leader_assumes_the_worst_for_one_duration() -> None:
    table = LeaseTable(6.0)
    table.take_over([1, 2, 3], 0, 100.0)
    assert table.decide(5, 100.0) == WaitFor((1, 2, 3), 106.0)
    table.observe_applied(1, 5)
    table.renew(2, 7, 101.0)
    assert table.decide(5, 102.0) == WaitFor((3,), 106.0)
    assert table.decide(5, 106.0) == MAY_PUBLISH


def test_what_was_heard_before_leading_is_forgotten() -> None:
    table = LeaseTable(6.0)
    table.renew(1, 90, 0.0)
    table.step_down()
    assert table.leases() == []
    table.take_over([1], 0, 1.0)
    assert table.leases() == [NodeLease(1, 0, 7.0)]


def test_a_late_renewal_takes_nothing_back() -> None:
    table = LeaseTable(6.0)
    table.renew(1, 90, 5.0)
    table.renew(1, 80, 4.0)
    table.observe_applied(1, 70)
    table.observe_applied(2, 70)
    assert table.leases() == [NodeLease(1, 90, 11.0)]


def test_who_slept_through_two_versions_catches_up_first() -> None:
    """Version 2 (entry 20) was published, then 3, without node 3, which knows only entry 10."""
    table = LeaseTable(6.0)
    assert table.renew(3, 10, 0.0)
    assert table.decide(20, 6.0) == MAY_PUBLISH
    assert not table.renew(3, 19, 6.5)
    assert table.decide(20, 6.5) == MAY_PUBLISH, "a refused renewal is no lease"
    assert table.renew(3, 20, 7.0)
    table.step_down()
    table.take_over([3], 30, 10.0)
    assert not table.renew(3, 29, 10.0)


def test_a_node_that_gives_its_lease_up_is_not_waited_for() -> None:
    table = LeaseTable(6.0)
    table.take_over([1, 2], 0, 0.0)
    table.release(2)
    table.release(9)
    assert table.decide(5, 0.0) == WaitFor((1,), 6.0)


def test_a_node_stops_before_the_leader_forgets_it() -> None:
    """Whatever the delays and the clocks' offsets, for rates less than the margin apart."""
    for seed in range(300):
        chance = random.Random(seed)
        node_offset = chance.uniform(-1e6, 1e6)
        node_rate = chance.uniform(0.976, 1.024)
        table, held = LeaseTable(9.0), HeldLease(9.0)
        table.take_over([], 0, 0.0)
        now = 0.0
        for _ in range(30):
            sent = now * node_rate + node_offset
            held.on_sent(sent)
            now += chance.expovariate(2.0)  # The renewal travels.
            table.renew(7, 1, now)
            now += chance.expovariate(2.0)  # So does the answer.
            if chance.random() < 0.7:
                held.on_confirmed(sent)
            now += chance.uniform(0.0, 12.0)
            if held.may_use(now * node_rate + node_offset):
                assert table.decide(2, now) == WaitFor((7,), table.leases()[0].expires_at), seed


def test_a_node_renews_in_time_and_never_uses_what_was_not_confirmed() -> None:
    held = HeldLease(9.0)
    assert held.is_due(0.0)
    assert not held.may_use(0.0)
    held.on_sent(0.0)
    assert not held.is_due(2.9)
    assert not held.may_use(1.0)
    held.on_confirmed(0.0)
    assert held.may_use(8.5)
    assert not held.may_use(8.56)
    assert held.is_due(3.0)
    held.on_released()
    assert not held.may_use(1.0)


def test_the_retries_of_a_statement_take_750_ms() -> None:
    assert ATTEMPTS_MAX == 5
    assert sum(RETRY_DELAYS_SECONDS) == pytest.approx(0.75)
