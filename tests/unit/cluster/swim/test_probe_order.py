"""The shuffled round robin."""

from random import Random

from cluster.ids import NodeId
from cluster.swim.probe_order import ProbeOrder

CANDIDATES = [NodeId(node_id) for node_id in range(2, 12)]


def test_each_exactly_once_per_time_around_in_changing_order() -> None:
    order = ProbeOrder(Random(1))
    rounds = []
    for _ in range(20):
        rounds.append([order.next_target(CANDIDATES, lambda _: True) for _ in CANDIDATES])
        assert sorted(rounds[-1]) == CANDIDATES
    assert len({tuple(targets) for targets in rounds}) > 15


def test_no_candidate_no_target() -> None:
    order = ProbeOrder(Random(1))
    assert order.next_target([], lambda _: True) is None
    assert order.next_target(CANDIDATES, lambda _: False) is None


def test_who_is_no_candidate_any_more_is_passed_over() -> None:
    order = ProbeOrder(Random(3))
    order.next_target(CANDIDATES, lambda _: True)
    targets = [order.next_target(CANDIDATES, lambda node_id: node_id % 2 == 0) for _ in range(20)]
    assert {int(target or 0) for target in targets} == {2, 4, 6, 8, 10}


def test_a_new_member_is_taken_into_this_time_around_once() -> None:
    places = set()
    for seed in range(60):
        order = ProbeOrder(Random(seed))
        first = order.next_target(CANDIDATES, lambda _: True)
        order.add(NodeId(99))
        order.add(NodeId(99))
        rest = [order.next_target(CANDIDATES, lambda _: True) for _ in range(10)]
        assert sorted([first, *rest]) == [*CANDIDATES, 99], f"seed {seed}"
        places.add(rest.index(NodeId(99)))
    assert len(places) > 6, "always at the same place"
