"""Membership changes as pure functions, and their history in the log."""

import pytest
from raft_store import MemoryLogStore

from cluster.errors import ConfChangeRefused
from cluster.raft.configuration import ConfigurationHistory, apply_change, quorum_size
from cluster.raft.message import ConfChange, Configuration, Entry, encode_conf_change

START = Configuration((1, 2, 3), (4,))


@pytest.mark.parametrize(
    ("change", "voters", "learners"),
    [
        (ConfChange("add_learner", 5), (1, 2, 3), (4, 5)),
        (ConfChange("promote", 4), (1, 2, 3, 4), ()),
        (ConfChange("add_voter", 5), (1, 2, 3, 5), (4,)),
        (ConfChange("add_voter", 4), (1, 2, 3, 4), ()),
        (ConfChange("demote", 2), (1, 3), (2, 4)),
        (ConfChange("remove", 2), (1, 3), (4,)),
        (ConfChange("remove", 4), (1, 2, 3), ()),
    ],
)
def test_changes(change: ConfChange, voters: tuple[int, ...], learners: tuple[int, ...]) -> None:
    assert apply_change(START, change) == Configuration(voters, learners)


def test_a_refused_change_says_why() -> None:
    with pytest.raises(ConfChangeRefused, match="node 9 is not a learner of the group"):
        apply_change(START, ConfChange("promote", 9))


def test_quorums() -> None:
    assert [quorum_size(count) for count in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]


def change_entry(index: int, result: Configuration) -> Entry:
    return (index, 1, encode_conf_change(ConfChange("remove", 9, result)))


def test_the_history_follows_the_log() -> None:
    history = ConfigurationHistory(START)
    first, second = Configuration((1, 2)), Configuration((1, 2, 5))
    assert history.append([(4, 1, b"x"), change_entry(5, first), (6, 1, b"")])
    assert history.append([change_entry(9, second)])
    assert not history.append([(10, 1, b"x")])
    assert (history.in_force, history.before_last_change) == (second, first)
    assert history.last_change_index == 9
    assert history.since(0) == [START, first, second]
    assert history.since(5) == history.since(8) == [first, second]
    assert history.since(9) == [second]
    assert not history.truncate(10)
    assert history.truncate(9)
    assert (history.in_force, history.before_last_change) == (first, START)
    history.apply(4)
    assert history.applied == START
    history.apply(5)
    assert (history.applied, history.last_change_index) == (first, 0)
    history.reset(second)
    assert history.in_force == second


def test_a_start_scans_the_log_above_what_is_applied() -> None:
    log = MemoryLogStore()
    first, second = Configuration((1, 2)), Configuration((1, 2, 5))
    log.append([(1, 1, b""), change_entry(2, first), (3, 1, b"x"), change_entry(4, second)])
    for applied_index, applied, expected in ((0, START, 2), (2, first, 1), (4, second, 0)):
        history = ConfigurationHistory(applied)
        history.scan(log, applied_index)
        assert history.in_force == second
        assert len(history.changes) == expected


def test_a_change_without_its_result_stops_the_replica() -> None:
    history = ConfigurationHistory(START)
    with pytest.raises(AssertionError, match="entry 3 names no configuration"):
        history.append([(3, 1, encode_conf_change(ConfChange("remove", 2)))])
