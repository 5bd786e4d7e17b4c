"""Membership, one step at a time: any majorities of two configurations in a row share a voter."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raft_store import MemoryLogStore

from cluster.errors import ConfChangeRefused
from cluster.raft.configuration import ConfigurationHistory, apply_change, quorum_size
from cluster.raft.message import ConfChange, Configuration, Entry, encode_conf_change

NODES = st.integers(1, 7)
CHANGES = st.builds(
    ConfChange, st.sampled_from(["add_learner", "promote", "add_voter", "demote", "remove"]), NODES
)


def majorities(configuration: Configuration) -> list[set[int]]:
    size = quorum_size(len(configuration.voters))
    return [set(chosen) for chosen in itertools.combinations(configuration.voters, size)]


@given(st.sets(NODES, min_size=1), st.lists(CHANGES, max_size=25))
def test_majorities_of_neighbours_meet(voters: set[int], changes: list[ConfChange]) -> None:
    configuration = Configuration(tuple(sorted(voters)))
    for change in changes:
        try:
            following = apply_change(configuration, change)
        except ConfChangeRefused:
            continue
        assert following != configuration
        assert following.voters
        assert list(following.voters) == sorted(set(following.voters))
        assert list(following.learners) == sorted(set(following.learners))
        assert not set(following.voters) & set(following.learners)
        assert len(set(following.voters) ^ set(configuration.voters)) <= 1
        for one in majorities(configuration):
            for other in majorities(following):
                assert one & other, (configuration, change, following)
        configuration = following


def test_two_steps_at_once_would_not_do() -> None:
    """Why one at a time: majorities of configurations two steps apart may have nothing in common."""
    start = Configuration((1, 2, 3))
    one = apply_change(start, ConfChange("add_voter", 4))
    two = apply_change(one, ConfChange("add_voter", 5))
    assert any(not (a & b) for a in majorities(start) for b in majorities(two))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), CHANGES),
        st.tuples(st.just("plain"), st.none()),
        st.tuples(st.just("truncate"), st.integers(1, 6)),
        st.tuples(st.just("apply"), st.integers(1, 4)),
    ),
    max_size=40,
)


@given(STEPS)
def test_the_history_equals_a_scan_of_the_log(steps: list[tuple[str, object]]) -> None:
    """Whatever was appended, truncated and applied: a restart would find the same."""
    log = MemoryLogStore()
    start = Configuration((1, 2, 3))
    history = ConfigurationHistory(start)
    applied_index = 0
    for kind, value in steps:
        last_index = log.last_index()
        match kind:
            case "append":
                assert isinstance(value, ConfChange)
                try:
                    result = apply_change(history.in_force, value)
                except ConfChangeRefused:
                    continue
                payload = encode_conf_change(ConfChange(value.kind, value.node_id, result))
                entries: list[Entry] = [(last_index + 1, 1, payload)]
                log.append(entries)
                history.append(entries)
            case "plain":
                entries = [(last_index + 1, 1, b"x")]
                log.append(entries)
                assert not history.append(entries)
            case "truncate":
                assert isinstance(value, int)
                index = max(applied_index + 1, last_index - value)
                if index <= last_index:
                    log.append([(index, 1, b"other")])
                    history.truncate(index)
            case "apply":
                assert isinstance(value, int)
                applied_index = min(last_index, applied_index + value)
                history.apply(applied_index)
        scanned = ConfigurationHistory(history.applied)
        scanned.scan(log, applied_index)
        assert scanned.changes == history.changes
        assert scanned.in_force == history.in_force


@pytest.mark.parametrize("kind", ["promote", "demote", "remove", "add_learner", "add_voter"])
def test_a_change_is_not_done_twice(kind: str) -> None:
    """R7: the second of two equal changes is refused."""
    start = Configuration((1, 2, 3), (4,))
    node_id = {"promote": 4, "demote": 3, "remove": 3, "add_learner": 5, "add_voter": 5}[kind]
    change = ConfChange(kind, node_id)  # type: ignore[arg-type]
    with pytest.raises(ConfChangeRefused):
        apply_change(apply_change(start, change), change)
