"""What was read, what was written since, and what is forgotten in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodedb.kv import recent_writes
from nodedb.kv.recent_writes import ReadSet, RecentWrites

PREFIX = b"index1"
KEYS = st.integers(0, 30).map(lambda n: PREFIX + bytes((n,)))
RANGES = st.tuples(KEYS, KEYS)


def reads_of(keys: list[bytes], ranges: list[tuple[bytes, bytes]]) -> ReadSet:
    reads = ReadSet()
    for key in keys:
        reads.add_key(key)
    for start, end in ranges:
        reads.add_range(start, end)
    return reads


@given(st.lists(KEYS, max_size=4), st.lists(RANGES, max_size=6), st.lists(KEYS, max_size=6))
def test_a_read_set_finds_what_lies_in_it_and_nothing_else(
    keys: list[bytes], ranges: list[tuple[bytes, bytes]], others: list[bytes]
) -> None:
    reads = reads_of(keys, ranges)

    def is_read(key: bytes) -> bool:
        return key in keys or any(start <= key < end for start, end in ranges)

    expected = [key for key in others if is_read(key)]
    assert reads.find(others) == (expected[0] if expected else None)
    assert bool(reads) == bool(keys or any(start < end for start, end in ranges))
    for first in others:
        for last in others:
            if first <= last:
                inside = [PREFIX + bytes((n,)) for n in range(first[-1], last[-1] + 1)]
                assert reads.overlaps(first, last) == any(map(is_read, inside))


@given(st.lists(KEYS, min_size=1, max_size=40), st.lists(RANGES, max_size=40), KEYS)
def test_a_read_set_that_has_grown_too_large_covers_more_and_never_less(
    keys: list[bytes], ranges: list[tuple[bytes, bytes]], other: bytes
) -> None:
    exact = reads_of(keys, ranges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent_writes, "READ_KEYS_MAX", 3)
        patch.setattr(recent_writes, "READ_RANGES_MAX", 2)
        coarse = reads_of(keys, ranges)
    assert len(coarse.keys) <= 3
    if exact.find([other]) is not None:
        assert coarse.find([other]) == other
    assert coarse.find([b"index2\x05"]) is None


def test_the_batches_of_a_scan_are_one_range() -> None:
    forward, backward = ReadSet(), ReadSet()
    for n in range(9):
        forward.add_range(PREFIX + bytes((n,)), PREFIX + bytes((n + 1,)))
        backward.add_range(PREFIX + bytes((9 - n,)), PREFIX + bytes((10 - n,)))
    assert forward._ranges == [(PREFIX + b"\x00", PREFIX + b"\x09")]
    assert backward._ranges == [(PREFIX + b"\x01", PREFIX + b"\x0a")]


def test_only_what_was_written_above_the_snapshot_counts() -> None:
    recent = RecentWrites()
    reads = reads_of([b"index1a"], [])
    recent.watch(1, snapshot=10)
    recent.note(11, [b"index1a"])
    recent.watch(2, snapshot=11)
    recent.note(12, [b"index1b"])
    assert recent.conflict(reads, 10) == b"index1a"
    assert recent.conflict(reads, 10, until=10) is None
    assert recent.conflict(reads, 11) is None


def test_a_bulk_commit_is_known_by_its_spans() -> None:
    recent = RecentWrites()
    recent.watch(1, snapshot=10)
    recent.note(11, (), [(b"index1c", b"index1f")])
    assert recent.conflict(reads_of([], [(b"index1a", b"index1d")]), 10) == b"index1c"
    assert recent.conflict(reads_of([b"index1f"], []), 10) == b"index1c"
    assert recent.conflict(reads_of([b"index1b"], [(b"index1g", b"index1z")]), 10) is None


def test_nothing_is_kept_that_nobody_can_be_validated_against() -> None:
    recent = RecentWrites()
    assert not recent.is_watched
    recent.watch(1, snapshot=99)
    for timestamp in range(100, 150):
        recent.note(timestamp, [b"k"])
    recent.watch(2, snapshot=149)
    assert len(recent) == 50
    recent.unwatch(1)
    recent.note(150, [b"k"])
    assert len(recent) == 1
    recent.unwatch(2)
    assert len(recent) == 0
    assert not recent.is_watched


def test_who_reads_below_what_is_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_writes, "RECENT_KEYS_MAX", 10)
    recent = RecentWrites()
    recent.watch(1, snapshot=10)
    reads = reads_of([b"index1z"], [])
    for timestamp in range(11, 21):
        recent.note(timestamp, [b"index1a"])
    assert recent.conflict(reads, 10) is None
    recent.note(21, [b"index1b"])
    assert recent.conflict(reads, 10) == b""
    assert recent.conflict(reads, 11) is None
