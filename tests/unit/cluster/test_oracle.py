"""The timestamp oracle and the metadata group's commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.metadata.command import (
    Batch,
    CatalogChange,
    Command,
    TimestampWindow,
    UnknownCommand,
    decode_command,
    encode_command,
)
from cluster.metadata.oracle import (
    COUNTER_BITS,
    COUNTER_MASK,
    LEAD_MS_MAX,
    WINDOW_MS,
    TimestampOracle,
    pack_timestamp,
    physical_ms,
)


@given(
    st.lists(
        st.tuples(
            st.integers(-(10**6), 10**13), st.integers(1, 10**6), st.booleans(), st.booleans()
        ),
        max_size=60,
    )
)
def test_timestamps_grow_and_stay_inside_the_durable_window_over_restarts(
    steps: list[tuple[int, int, bool, bool]],
) -> None:
    durable = pack_timestamp(1)
    oracle = TimestampOracle(durable)
    newest = 0
    for now_ms, count, is_durable, restart in steps:
        timestamp, until = oracle.allocate(now_ms, count)
        if until is not None:
            oracle.window_decided(until, is_durable=is_durable)
            if not is_durable:
                continue
            durable = max(durable, until)
        assert timestamp > newest
        newest = timestamp + count - 1
        assert newest < durable
        if restart:
            oracle = TimestampOracle(durable)


def test_a_clock_that_steps_back_is_carried_by_the_counter() -> None:
    oracle = TimestampOracle(0)
    first = oracle.allocate(1000).timestamp
    assert first == pack_timestamp(1000)
    assert oracle.allocate(500).timestamp == first + 1
    oracle.last = pack_timestamp(1000, COUNTER_MASK)
    assert oracle.allocate(1000).timestamp == pack_timestamp(1001)


def test_the_window_reaches_ahead_and_is_not_raised_for_every_timestamp() -> None:
    oracle = TimestampOracle(0)
    timestamp, until = oracle.allocate(1000)
    assert until == pack_timestamp(1000 + WINDOW_MS)
    assert physical_ms(timestamp) == 1000
    assert all(oracle.allocate(1000 + n).reserve_until is None for n in range(100))
    assert oracle.allocate(1000 + WINDOW_MS).reserve_until is not None


HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


@given(
    start_ms=st.integers(1, 1 << 41),
    steps=st.lists(
        st.tuples(
            # How the clock moved, how many timestamps the load takes before the asker comes.
            st.one_of(
                st.integers(0, 10_000),
                st.integers(-HOUR_MS, HOUR_MS),
                st.integers(-(1 << 41), 1 << 41),
            ),
            st.integers(0, 3_000 << COUNTER_BITS),
        ),
        max_size=40,
    ),
)
def test_who_waits_never_gets_more_than_the_lead_ahead_of_the_highest_clock(
    start_ms: int, steps: list[tuple[int, int]]
) -> None:
    oracle = TimestampOracle(pack_timestamp(start_ms))
    now_ms = highest_ms = start_ms
    newest = oracle.last
    for moved_ms, load in steps:
        now_ms += moved_ms
        highest_ms = max(highest_ms, now_ms)
        wait_ms = oracle.wait_ms(now_ms)
        if wait_ms:
            assert oracle.is_ahead
            # No longer than needed, and it is enough.
            assert oracle.wait_ms(now_ms + wait_ms - 1) > 0
            now_ms += wait_ms
            highest_ms = max(highest_ms, now_ms)
            assert oracle.wait_ms(now_ms) == 0
        timestamp = oracle.allocate(now_ms).timestamp
        assert timestamp > newest
        assert physical_ms(timestamp) < highest_ms + LEAD_MS_MAX
        newest = timestamp
        # What cannot wait (row ids) may go beyond; the next one who can makes up for it.
        if load:
            newest = oracle.allocate(now_ms, load).timestamp + load - 1


def test_a_clock_an_hour_back_stops_nobody() -> None:
    oracle = TimestampOracle(pack_timestamp(1))
    newest = oracle.allocate(NOW_MS).timestamp
    for second in range(3_600):
        now_ms = NOW_MS - HOUR_MS + second * 1000
        assert oracle.wait_ms(now_ms) == 0
        timestamp = oracle.allocate(now_ms, 10_000).timestamp
        assert newest < timestamp
        newest = timestamp + 9_999
    # 36 million timestamps in an hour, and it has counted on by no more than this.
    assert physical_ms(newest) - NOW_MS == 3_600 * 10_000 >> COUNTER_BITS


@pytest.mark.parametrize("moved_ms", [-HOUR_MS, 0, WINDOW_MS + 1, HOUR_MS])
def test_a_restart_goes_on_above_the_window_whatever_the_clock_says(moved_ms: int) -> None:
    before = TimestampOracle(pack_timestamp(1))
    until = before.allocate(NOW_MS).reserve_until
    assert until is not None
    before.window_decided(until, is_durable=True)
    newest = before.allocate(NOW_MS + WINDOW_MS - 1).timestamp
    after = TimestampOracle(until)
    now_ms = NOW_MS + moved_ms
    assert after.wait_ms(now_ms) == 0
    timestamp, raised = after.allocate(now_ms)
    assert timestamp > newest
    assert timestamp == max(until + 1, pack_timestamp(now_ms))
    assert raised is not None
    assert raised > timestamp


def test_too_far_ahead_waits_for_the_clock() -> None:
    oracle = TimestampOracle(pack_timestamp(1))
    oracle.allocate(NOW_MS)
    assert not oracle.is_ahead
    oracle.allocate(NOW_MS, LEAD_MS_MAX << COUNTER_BITS)
    assert oracle.is_ahead
    assert oracle.wait_ms(NOW_MS) == 1
    # A clock that has stepped back has to come back first.
    assert oracle.wait_ms(NOW_MS - HOUR_MS) == HOUR_MS + 1
    assert oracle.wait_ms(NOW_MS + 1) == 0
    assert not oracle.is_ahead


def test_a_clock_past_the_last_year_is_refused() -> None:
    oracle = TimestampOracle(pack_timestamp(1))
    oracle.allocate((1 << 46) - 1)
    with pytest.raises(AssertionError, match="4199"):
        oracle.allocate(1 << 46)


@pytest.mark.parametrize(
    "command",
    [
        TimestampWindow(1 << 62),
        CatalogChange(b"\0\xff"),
        Batch((CatalogChange(b"x"), TimestampWindow(5))),
    ],
)
def test_commands_survive_the_log(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize("payload", [b"", b"\x02\x90", b"\x01", b"\x01\xc1", b"\x01\x92\x7e\x01"])
def test_a_foreign_command_is_refused(payload: bytes) -> None:
    with pytest.raises(UnknownCommand):
        decode_command(payload)


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_refused(payload: bytes) -> None:
    try:
        decode_command(payload)
    except UnknownCommand:
        return
