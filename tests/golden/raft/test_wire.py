"""Golden bytes of every message, for each wire version that ever was.

Lines of ``wire.txt``: ``version | message | hex``. A line never changes: a message that gains a
field gets a new line, and the old one must still decode. ``GOLDEN_REWRITE=1`` adds lines for
messages that have none; it does not touch those that are there.
"""

import os
import typing
from pathlib import Path

from cluster.raft.message import (
    WIRE_VERSION,
    AppendRequest,
    AppendResponse,
    ConfChange,
    Configuration,
    Heartbeat,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    decode_message,
    decode_messages,
    encode_conf_change,
    encode_message,
    encode_messages,
)

FILE = Path(__file__).parent / "wire.txt"
CHANGE = encode_conf_change(ConfChange("promote", 4, Configuration((1, 2, 3, 4))))
MESSAGES: list[Message] = [
    PreVoteRequest(7, 1, 2, 300, 70000, 299),
    PreVoteResponse(7, 2, 1, 300, is_granted=True),
    VoteRequest(7, 1, 2, 300, 70000, 299, is_forced=False),
    VoteResponse(7, 2, 1, 300, is_granted=False),
    AppendRequest(
        7, 1, 2, 300, 70000, 299, 69999, 12, [(70001, 300, b""), (70002, 300, b"x"), (70003, 300, CHANGE)]
    ),
    AppendResponse(7, 2, 1, 300, 12, is_matched=True, index=70003),
    AppendResponse(7, 2, 1, 300, 12, is_matched=False, index=70000, hint_index=69000, hint_term=298),
    Heartbeat(7, 1, 2, 300, 70003, 13, is_quiesce=True),
    HeartbeatResponse(7, 2, 1, 300, 13, 70003, is_awake=True),
    TimeoutNow(7, 1, 2, 300),
]  # fmt: skip


def recorded() -> dict[tuple[int, str], bytes]:
    found = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            version, text, digits = line.split(" | ")
            found[int(version), text] = bytes.fromhex(digits)
    return found


def test_the_bytes_of_every_message() -> None:
    known = recorded()
    if os.environ.get("GOLDEN_REWRITE") == "1":
        lines = [
            f"{WIRE_VERSION} | {message} | {encode_message(message).hex()}\n"
            for message in MESSAGES
            if (WIRE_VERSION, str(message)) not in known
        ]
        with FILE.open("a", encoding="utf-8") as file:
            file.writelines(lines)
        known = recorded()
    for message in MESSAGES:
        assert encode_message(message) == known[WIRE_VERSION, str(message)], message


def test_what_was_once_written_can_be_read() -> None:
    texts = {str(message) for message in MESSAGES}
    for (version, text), data in recorded().items():
        assert version == data[0]
        decoded = decode_message(data)
        assert text not in texts or str(decoded) == text


def test_there_are_bytes_for_every_message() -> None:
    assert {type(message) for message in MESSAGES} == set(typing.get_args(Message))


def test_the_bytes_of_a_batch() -> None:
    """``version:1 | array``: the messages of the batch stand in it as they do alone."""
    batch = encode_messages(MESSAGES)
    assert batch == bytes((WIRE_VERSION, 0x90 + len(MESSAGES))) + b"".join(
        encode_message(message)[1:] for message in MESSAGES
    )
    assert decode_messages(batch) == MESSAGES
