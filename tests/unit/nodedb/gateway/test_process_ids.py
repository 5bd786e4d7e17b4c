"""Numbers of sessions that are unique in the cluster."""

from nodedb.gateway.process_ids import FIRST_NUMBER, NODES_MAX, NUMBER_BITS, ProcessIds, node_of


def test_small_on_a_node_by_itself() -> None:
    ids = ProcessIds(1)
    assert [ids.take(()) for _ in range(3)] == [1000, 1001, 1002]


def test_of_different_nodes() -> None:
    taken = {ProcessIds(node_id).take(()): node_id for node_id in range(1, NODES_MAX + 1)}
    assert len(taken) == NODES_MAX
    assert all(node_of(process_id) == node_id for process_id, node_id in taken.items())
    assert max(taken) < 1 << 31


def test_in_use_is_not_given_again() -> None:
    ids = ProcessIds(2)
    used = {ids.take(())}
    ids._next = (1 << NUMBER_BITS) - 1
    used.add(ids.take(used))
    third = ids.take(used)
    assert third not in used
    assert third & ((1 << NUMBER_BITS) - 1) == FIRST_NUMBER + 1
    assert node_of(third) == 2
