"""The bytes of version 1, and what else a decoder meets."""

from __future__ import annotations

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.membership.message import (
    STATE_CODES,
    STATE_NAMES,
    Greet,
    GreetReply,
    JoinRequest,
    JoinResponse,
    MalformedMessage,
    MemberGroup,
    MemberNode,
    Message,
    Ping,
    Pong,
    TopologyPush,
    decode_message,
    encode_message,
    leader_redirect,
    parse_leader_redirect,
)

NODE = MemberNode(
    2, "b:2", 1, (0, 1), 1, "b:3", "b:4", ("zone=a",), "voter", "s2", 5, b"\x01\x02", 2
)
GOLDEN: list[tuple[Message, str]] = [
    (
        Greet("c1", 1, "member", "a:1", 3, "s1", ""),
        "019801a2633101a66d656d626572a3613a3103a27331a0",
    ),
    (
        GreetReply("", 0, "empty", "a:1", 3, "s1", "a:1"),
        "019802a000a5656d707479a3613a3103a27331a3613a31",
    ),
    (
        JoinRequest(
            0,
            "b:2",
            1,
            "",
            "s2",
            1,
            "b:3",
            "b:4",
            ("zone=a",),
            "replica",
            "spiffe://x",
            b"\xff",
            "ab",
        ),
        "019f0300a3623a3201a0a2733201a3623a33a3623a3491a67a6f6e653d61a77265706c696361aa7370696666"
        "653a2f2f78c401ffa2616201",
    ),
    (
        JoinResponse(
            success=True,
            cluster_id="c1",
            nodes=(NODE,),
            vshard_to_group=(1, 1),
            groups=(MemberGroup(0, 1, (1,), (2,)),),
            node_id=2,
            topology_version=9,
            routing_version=8,
        ),
        "019b04c3a0a26331919d02a3623a320192000101a3623a33a3623a3491a67a6f6e653d61a5766f746572a273"
        "3205c402010202920101919400019101910202"
        "0908c2",
    ),
    (Ping(1, 7), "0193050107"),
    (Pong(2, 7), "0193060207"),
    (
        TopologyPush("c1", 9, (NODE,)),
        "019407a2633109919d02a3623a320192000101a3623a33a3623a3491a67a6f6e653d61a5766f746572a27332"
        "05c402010202",
    ),
]


@pytest.mark.parametrize(("message", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden_bytes(message: Message, golden: str) -> None:
    assert encode_message(message).hex() == golden
    assert decode_message(bytes.fromhex(golden), type(message)) == message


def test_every_message_has_its_golden_bytes() -> None:
    assert {type(message) for message, _ in GOLDEN} == set(Message.__args__)  # type: ignore[attr-defined]


def test_a_second_reader_agrees() -> None:
    """MessagePack as written by msgspec, read by the msgpack package."""
    payload = encode_message(GOLDEN[0][0])
    assert msgpack.unpackb(payload[1:]) == [1, "c1", 1, "member", "a:1", 3, "s1", ""]


def test_a_newer_peer_may_say_more() -> None:
    payload = b"\x01" + msgpack.packb([5, 1, 7, "something new"])
    assert decode_message(payload, Ping) == Ping(1, 7)


def test_an_older_peer_may_say_less() -> None:
    payload = b"\x01" + msgpack.packb([3, 0, "b:2", 1, "", "s2", 1])
    assert decode_message(payload, JoinRequest) == JoinRequest(0, "b:2", 1, "", "s2", 1)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"", "an empty message"),
        (b"\x02\x93\x05\x01\x07", "version 2; this node speaks 1"),
        (b"\x00", "version 0"),
        (b"\x01", "malformed"),
        (b"\x01\xc1", "malformed"),
        (b"\x01\x93\x63\x01\x07", "malformed"),
        (b"\x01\x93\x05\x01\xa1x", "malformed"),
        (b"\x01\x93\x05\x01\xff\xff", "malformed"),
        (b"\x01\x93\x06\x01\x07", "Pong where Ping belongs"),
        (b"\x01" + b"\x91" * 100_000, "malformed"),
    ],
)
def test_what_is_no_message(payload: bytes, error: str) -> None:
    with pytest.raises(MalformedMessage, match=error):
        decode_message(payload, Ping)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_malformed_and_nothing_else(data: bytes) -> None:
    for payload in (data, b"\x01" + data, b"\x01\x98\x01" + data):
        for kind in (Greet, JoinRequest, TopologyPush):
            try:
                decode_message(payload, kind)
            except MalformedMessage:
                continue


@settings(deadline=None)
@given(st.data())
def test_a_changed_byte_is_read_or_malformed(data: st.DataObject) -> None:
    message, golden = data.draw(st.sampled_from(GOLDEN))
    payload = bytearray.fromhex(golden)
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decode_message(bytes(payload), type(message))
    except MalformedMessage:
        return


def test_redirects() -> None:
    assert leader_redirect("10.0.0.1:9400") == "not leader; retry at 10.0.0.1:9400"
    assert parse_leader_redirect("not leader; retry at 10.0.0.1:9400") == "10.0.0.1:9400"
    assert parse_leader_redirect("not leader; retry at  127.0.0.1:65535 ") == "127.0.0.1:65535"
    for error in (
        "",
        "node_id 2 already registered with different address 10.0.0.2:9400 (request: b:1)",
        "conf change commit timeout on group 0",
        "not leader; retry at notanaddress",
        "not leader; retry at ",
        "not leader; retry at 10.0.0.1",
        "not leader; retry at 0.0.0.0:9400",
        "Not leader; retry at 10.0.0.1:9400",
    ):
        assert parse_leader_redirect(error) is None, error


def test_state_codes_are_the_references() -> None:
    assert STATE_NAMES == {
        0: "joining",
        1: "active",
        2: "draining",
        3: "decommissioned",
        4: "learner",
    }
    assert {STATE_NAMES[code] for code in STATE_CODES.values()} == set(STATE_CODES)


def test_messages_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Ping(1, 2).node_id = 3  # type: ignore[misc]
    assert msgspec.structs.replace(Ping(1, 2), node_id=3) == Ping(3, 2)
