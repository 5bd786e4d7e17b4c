"""Messages on the wire: any comes back, and garbage is refused with a reason."""

import contextlib
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.message import (
    WIRE_VERSION,
    AppendRequest,
    AppendResponse,
    BadMessage,
    ConfChange,
    ConfChangeKind,
    Configuration,
    EntryId,
    Heartbeat,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    decode_conf_change,
    decode_message,
    decode_messages,
    encode_conf_change,
    encode_message,
    encode_messages,
)

COUNT = st.integers(0, 2**62)
FLAG = st.booleans()


@st.composite
def appends(draw: st.DrawFn) -> AppendRequest:
    term = draw(COUNT)
    prev_index = draw(st.integers(0, 2**61))
    payloads = draw(st.lists(st.binary(max_size=20), max_size=5))
    entries = [
        (prev_index + 1 + at, draw(st.integers(0, term)), payload)
        for at, payload in enumerate(payloads)
    ]
    return AppendRequest(
        draw(COUNT), draw(COUNT), draw(COUNT), term, prev_index, draw(COUNT), draw(COUNT),
        draw(COUNT), entries,
    )  # fmt: skip


MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(PreVoteRequest, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT),
    st.builds(PreVoteResponse, COUNT, COUNT, COUNT, COUNT, FLAG),
    st.builds(VoteRequest, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, FLAG),
    st.builds(VoteResponse, COUNT, COUNT, COUNT, COUNT, FLAG),
    appends(),
    st.builds(AppendResponse, COUNT, COUNT, COUNT, COUNT, COUNT, FLAG, COUNT, COUNT, COUNT),
    st.builds(Heartbeat, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, FLAG),
    st.builds(HeartbeatResponse, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, FLAG),
    st.builds(TimeoutNow, COUNT, COUNT, COUNT, COUNT),
)


@given(MESSAGES)
def test_a_message_comes_back(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.lists(MESSAGES, max_size=5))
def test_a_batch_comes_back(messages: list[Message]) -> None:
    assert decode_messages(encode_messages(messages)) == messages


@given(st.binary(max_size=60))
def test_garbage_is_refused(data: bytes) -> None:
    for decode in (decode_message, decode_messages):
        with contextlib.suppress(BadMessage):
            decode(data)


@given(MESSAGES, st.data())
def test_a_damaged_message_is_refused_or_another_message(
    message: Message, data: st.DataObject
) -> None:
    encoded = bytearray(encode_message(message))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    for damaged in (bytes(encoded), bytes(encoded[:cut])):
        with contextlib.suppress(BadMessage):
            assert isinstance(decode_message(damaged), typing.get_args(Message))


def test_another_version_is_named() -> None:
    data = bytes((WIRE_VERSION + 1,)) + encode_message(TimeoutNow(1, 2, 3, 4))[1:]
    with pytest.raises(BadMessage, match="wire version 2, this node speaks 1"):
        decode_message(data)
    with pytest.raises(BadMessage, match="wire version none"):
        decode_messages(b"")


@pytest.mark.parametrize(
    "entries",
    [
        [(7, 1, b"")],
        [(5, 1, b"")],
        [(6, 1, b""), (6, 1, b"")],
        [(6, 1, b""), (8, 1, b"")],
        [(6, 9, b"")],
    ],
)
def test_entries_that_do_not_follow_are_refused(entries: list[tuple[int, int, bytes]]) -> None:
    message = AppendRequest(1, 2, 3, 4, 5, 1, 0, 1, entries)
    with pytest.raises(BadMessage, match="was due"):
        decode_message(encode_message(message))
    with pytest.raises(BadMessage, match="was due"):
        decode_messages(encode_messages([message]))


def test_numbers_out_of_range_are_refused() -> None:
    for number in (-1, 2**62 + 1):
        with pytest.raises(BadMessage):
            decode_message(encode_message(TimeoutNow(1, 2, 3, number)))


def test_entry_ids_are_ordered_by_term_then_index() -> None:
    assert EntryId(1, 9) < EntryId(2, 1) < EntryId(2, 2)


@pytest.mark.parametrize("kind", typing.get_args(ConfChangeKind))
def test_a_membership_change_comes_back(kind: ConfChangeKind) -> None:
    change = ConfChange(kind, 3, Configuration((1, 2), (3,)))
    payload = encode_conf_change(change)
    assert payload[0] == 0xFF
    assert decode_conf_change(payload) == change


@pytest.mark.parametrize("payload", [b"", b"x", b"\x00\xff"])
def test_other_payloads_are_no_membership_changes(payload: bytes) -> None:
    assert decode_conf_change(payload) is None


@pytest.mark.parametrize("payload", [b"\xff", b"\xff\x00", b"\xff\x92\xa3abc\x01"])
def test_a_membership_change_that_cannot_be_read_stops_the_replica(payload: bytes) -> None:
    with pytest.raises(AssertionError, match="membership change"):
        decode_conf_change(payload)
