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
    COUNTER_MASK,
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


@pytest.mark.parametrize("payload", [b"", b"\x02\x90", b"\x01", b"\x01\xc1", b"\x01\x92\x09\x01"])
def test_a_foreign_command_is_refused(payload: bytes) -> None:
    with pytest.raises(UnknownCommand):
        decode_command(payload)


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_refused(payload: bytes) -> None:
    try:
        decode_command(payload)
    except UnknownCommand:
        return
