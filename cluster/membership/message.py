"""What nodes say to each other about membership: greeting, join, ping, topology.

Shape on the wire: ``version:1 | MessagePack of the tagged struct``, an array that begins with its
tag. A newer release may add members at the end, which are skipped here; another version byte, or
anything that does not read as its type, is a ``MalformedMessage`` and changes nothing. The bytes
are fixed by ``tests/unit/cluster/membership/test_message.py``.

``JoinRequest`` and ``JoinResponse`` have the fields of the reference (BEHAVIOUR 5.3) and what this
system needs beside them: client addresses, locality, role, store, incarnation, key pin, token.
"""

from __future__ import annotations

from typing import Final, Literal, TypeVar, Union

import msgspec

from cluster.membership.address import MalformedAddress, parse_advertised

MESSAGE_VERSION: Final = 1
LEADER_REDIRECT_PREFIX: Final = "not leader; retry at "

StoreState = Literal["empty", "member"]

# Node states as they travel; the names are those of the metadata group.
STATE_JOINING: Final = 0
STATE_CODES: Final = {"active": 1, "draining": 2, "decommissioned": 3, "learner": 4}
STATE_NAMES: Final = {
    STATE_JOINING: "joining",
    **{code: name for name, code in STATE_CODES.items()},
}


class MalformedMessage(Exception):
    """Bytes that are no message of ours, or of a version that this node does not speak."""


class Greeting(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who a node is and what its store holds; said in both directions.

    ``cluster_id`` is "" and ``node_id`` may be 0 while the store is empty. ``bootstrapper`` is the
    seed that this node waits for to found a cluster, "" when it has none: its vote, which stays
    the same from its first use until the process ends. ``incarnation`` rises with each start.
    """

    cluster_id: str
    node_id: int
    store: StoreState
    address: str
    incarnation: int
    store_id: str
    bootstrapper: str = ""


class Greet(Greeting, frozen=True, gc=False, array_like=True, tag=1):
    """The request. It is news as much as a question."""


class GreetReply(Greeting, frozen=True, gc=False, array_like=True, tag=2):
    """The answer."""


class JoinRequest(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """A node asks to be a member. ``node_id`` 0: the leader chooses.

    ``cluster_id`` is not empty when the store was bound to a cluster already and the join was cut
    short. ``token`` is a one-time token in hex, "" without one.
    """

    node_id: int
    address: str
    wire_version: int
    cluster_id: str
    store_id: str
    incarnation: int
    sql_address: str = ""
    http_address: str = ""
    locality: tuple[str, ...] = ()
    role: str = "voter"
    spiffe_id: str = ""
    spki_pin: bytes = b""
    token: str = ""
    wire_version_min: int = 1


class MemberNode(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A member as others need to know it; ``state`` is a code of ``STATE_NAMES``."""

    node_id: int
    address: str
    state: int
    raft_groups: tuple[int, ...]
    wire_version: int
    sql_address: str = ""
    http_address: str = ""
    locality: tuple[str, ...] = ()
    role: str = "voter"
    store_id: str = ""
    incarnation: int = 0
    spki_pin: bytes = b""
    join_order: int = 0


class MemberGroup(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A group's replicas; ``leader`` 0: unknown. ``members`` are its voters."""

    group_id: int
    leader: int
    members: tuple[int, ...]
    learners: tuple[int, ...]


class JoinResponse(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """The answer to a join.

    With ``success``: the node's id and the whole state, ``vshard_to_group`` with one group per
    vshard. Otherwise ``error`` says why, and ``is_final`` that asking again is of no use.
    ``topology_version`` and ``routing_version`` are metadata indexes.
    """

    success: bool
    error: str = ""
    cluster_id: str = ""
    nodes: tuple[MemberNode, ...] = ()
    vshard_to_group: tuple[int, ...] = ()
    groups: tuple[MemberGroup, ...] = ()
    node_id: int = 0
    topology_version: int = 0
    routing_version: int = 0
    is_final: bool = False


class Ping(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """Ask whether a member is there, and which topology it knows."""

    node_id: int
    topology_version: int


class Pong(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """The answer to a ping, and to a topology that was pushed."""

    node_id: int
    topology_version: int


class TopologyPush(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    """The nodes as of a metadata index, for a member that is behind."""

    cluster_id: str
    version: int
    nodes: tuple[MemberNode, ...]


Message = Union[Greet, GreetReply, JoinRequest, JoinResponse, Ping, Pong, TopologyPush]
_Wanted = TypeVar("_Wanted", Greet, GreetReply, JoinRequest, JoinResponse, Ping, Pong, TopologyPush)
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """Return the bytes of a message."""
    return bytes((MESSAGE_VERSION,)) + _encoder.encode(message)


def decode_message(payload: bytes, wanted: type[_Wanted]) -> _Wanted:
    """Read a message of one kind. Raises MalformedMessage; its text may be sent back."""
    if not payload:
        raise MalformedMessage("an empty message")
    if payload[0] != MESSAGE_VERSION:
        raise MalformedMessage(
            f"membership message of version {payload[0]}; this node speaks {MESSAGE_VERSION}"
        )
    try:
        message = _decoder.decode(payload[1:])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"malformed membership message: {error}") from error
    if not isinstance(message, wanted):
        raise MalformedMessage(f"{type(message).__name__} where {wanted.__name__} belongs")
    return message


def leader_redirect(address: str) -> str:
    """Return the error text that sends a joiner to the leader."""
    return LEADER_REDIRECT_PREFIX + address


def parse_leader_redirect(error: str) -> str | None:
    """Return the address of a redirect, or None for any other error."""
    if not error.startswith(LEADER_REDIRECT_PREFIX):
        return None
    try:
        return parse_advertised(error.removeprefix(LEADER_REDIRECT_PREFIX))
    except MalformedAddress:
        return None
