"""A peer's progress as its leader knows it, and the search for where two logs part."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raft_cluster import plant
from raft_store import MemoryLogStore

from cluster.raft.log import last_match_candidate
from cluster.raft.progress import Progress, ProgressState, newest_reached_by_quorum


def test_the_window_of_a_peer() -> None:
    progress = Progress(5, 0.0)
    assert progress.state is ProgressState.PROBE
    progress.on_matched(4)
    progress.become_replicate()
    progress.on_sent(6, 200)
    progress.on_sent(9, 300)
    assert (progress.next_index, progress.inflight_bytes) == (10, 500)
    assert progress.on_matched(6)
    assert progress.inflight_bytes == 300
    assert not progress.on_matched(5)
    progress.become_probe(progress.match_index + 1)
    assert (progress.next_index, progress.inflight_bytes) == (7, 0)
    progress.become_snapshot()
    assert progress.state is ProgressState.SNAPSHOT
    progress.on_lost_log(1, 3)
    assert (progress.match_index, progress.next_index, progress.lost_round) == (0, 1, 3)


def test_next_is_always_above_match() -> None:
    progress = Progress(5, 0.0)
    progress.on_matched(9)
    assert progress.next_index == 10
    with pytest.raises(AssertionError):
        progress.become_probe(9)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.data())
def test_what_a_quorum_reaches(values: list[int], data: st.DataObject) -> None:
    quorum = data.draw(st.integers(1, len(values)))
    found = newest_reached_by_quorum([float(value) for value in values], quorum)
    assert sum(value >= found for value in values) >= quorum
    assert sum(value > found for value in values) < quorum


def test_too_few_reach_nothing() -> None:
    assert newest_reached_by_quorum([5.0], 2) == -math.inf


def log_of(terms: list[int]) -> MemoryLogStore:
    store = MemoryLogStore()
    plant(store, terms)
    return store


TERMS = st.lists(st.integers(1, 5), max_size=14).map(sorted)


@given(TERMS, TERMS)
def test_the_search_never_skips_where_the_logs_part(one: list[int], other: list[int]) -> None:
    """Logs whose common part is where their terms agree: the exchange ends exactly there."""
    leader, follower = log_of(one), log_of(other)
    part = 0
    while part < min(len(one), len(other)) and one[part] == other[part]:
        part += 1
    prev_index = leader.last_index()
    exchanges = 0
    while follower.term_at(prev_index) != leader.term_at(prev_index):
        term = leader.term_at(prev_index)
        assert term is not None
        hint = last_match_candidate(follower, prev_index - 1, term)
        found, _ = last_match_candidate(leader, min(hint[0], prev_index - 1), hint[1])
        assert found < prev_index
        prev_index = found
        exchanges += 1
    assert prev_index >= part
    assert exchanges <= 2 * len(set(one) | set(other)) + 1


def test_the_search_ends_at_the_base() -> None:
    store = log_of([1, 1, 3, 3])
    store.compact(2)
    assert last_match_candidate(store, 4, 2) == (2, 1)
    assert last_match_candidate(store, 9, 3) == (4, 3)
    assert last_match_candidate(store, 1, 3) == (1, 0)
