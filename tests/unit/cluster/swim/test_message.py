"""Wire version 1: golden bytes of every message, and what is no message."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.swim.address import format_address, is_address, parse_address
from cluster.swim.member import INCARNATION_MAX, MemberState
from cluster.swim.message import (
    ADDRESS_LENGTH_MAX,
    PIGGYBACK_RECEIVED_MAX,
    Ack,
    MemberUpdate,
    Message,
    Nack,
    NackReason,
    Ping,
    PingReq,
    UndecodableMessage,
    decode_message,
    encode_message,
)

A = MemberUpdate(1, "a:1", MemberState.ALIVE, 2, 3)
B = MemberUpdate(300, "b:2", MemberState.SUSPECT, INCARNATION_MAX, 1, 7)
A_HEX = "96 01 a3 613a31 00 02 03 00"
B_HEX = "96 cd012c a3 623a32 01 cf ffffffffffffffff 01 07"

GOLDEN: list[tuple[Message, str]] = [
    (Ping(9, A), f"94 01 09 {A_HEX} 90"),
    (Ping(9, A, (B,)), f"94 01 09 {A_HEX} 91 {B_HEX}"),
    (PingReq(9, A, 300, "b:2", (B,)), f"96 02 09 {A_HEX} cd012c a3623a32 91 {B_HEX}"),
    (Ack(9, A, 1, (B,)), f"95 03 09 {A_HEX} 01 91 {B_HEX}"),
    (Nack(9, A, NackReason.STALE_BOOT, 17), f"96 04 09 {A_HEX} 03 11 90"),
]


@pytest.mark.parametrize(("message", "expected"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden_bytes(message: Message, expected: str) -> None:
    body = bytes.fromhex(expected.replace(" ", ""))
    assert encode_message(message) == body
    assert decode_message(body) == message


def test_numbers_of_states_and_reasons_are_part_of_the_wire() -> None:
    assert [(state.name, state.value) for state in MemberState] == [
        ("ALIVE", 0),
        ("SUSPECT", 1),
        ("DEAD", 2),
        ("LEFT", 3),
    ]
    assert [(reason.name, reason.value) for reason in NackReason] == [
        ("TARGET_UNREACHABLE", 0),
        ("TARGET_DEAD", 1),
        ("RATE_LIMITED", 2),
        ("STALE_BOOT", 3),
    ]


def test_a_field_of_a_later_version_is_ignored() -> None:
    message = msgspec.msgpack.decode(encode_message(Ping(9, A, (B,))))
    message.append("new")
    message[3][0].append("also new")
    assert decode_message(msgspec.msgpack.encode(message)) == Ping(9, A, (B,))


def raw(**changed: object) -> bytes:
    fields = {"node_id": 1, "address": "a:1", "state": 0, "incarnation": 0, "boot": 0} | changed
    return msgspec.msgpack.encode([1, 9, list(fields.values()), []])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 20,
        b"\x94\x05\x01\x02\x03",
        msgspec.msgpack.encode({"type": 1}),
        msgspec.msgpack.encode([1, -1, [1, "a:1", 0, 0, 0], []]),
        msgspec.msgpack.encode([1, 9, [1, "a:1", 0, 0, 0], [[1]]]),
        raw(node_id=0),
        raw(node_id=-5),
        raw(node_id=2**63),
        raw(node_id="1"),
        raw(address="a"),
        raw(address="a" * ADDRESS_LENGTH_MAX + ":1"),
        raw(state=4),
        raw(incarnation=-1),
        raw(boot=2**63),
        encode_message(Ping(9, A, (B,) * (PIGGYBACK_RECEIVED_MAX + 1))),
        encode_message(Ping(9, A, (B,)))[:-1],
        encode_message(Ping(9, A)) + b"\x00",
        b"\x91" * 5000,
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(UndecodableMessage):
        decode_message(body)


def test_raw_is_a_message_unless_changed() -> None:
    assert isinstance(decode_message(raw()), Ping)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    try:
        decode_message(body)
    except UndecodableMessage:
        return


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:9400", ("127.0.0.1", 9400)),
        ("node-1.cluster.example:1", ("node-1.cluster.example", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_addresses(text: str, parts: tuple[str, int]) -> None:
    assert parse_address(text) == parts
    assert format_address(*parts) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:1x", "::1:9400", "[a]:1", "[]:1",
     "a b:1", "u@a:1", "http://a:1", "a:1\n", "ä:1", "a:²", "a:000001", "[::1]", "[:::]:1"],
)  # fmt: skip
def test_no_addresses(text: str) -> None:
    assert not is_address(text)
    with pytest.raises(ValueError, match="no address"):
        parse_address(text)
