"""The bytes of every frame and handshake message, per wire version, as they were recorded.

A change here is a change of the wire: it needs a new wire version. ``GOLDEN_REWRITE=1`` records.
"""

import os
import struct
from pathlib import Path
from zlib import crc32

import msgpack
import msgspec

from cluster.transport import frame as f
from cluster.transport.api import Peer
from cluster.transport.handshake import Handshake, Hello, write_reason

GOLDEN = Path(__file__).with_name("wire_version_1.golden")
SECRET = b"golden secret of the cluster"
DIALLER = Hello(
    node_id=1,
    cluster_id="c0ffee",
    address="10.0.0.1:9400",
    incarnation=7,
    version_min=1,
    version_max=1,
    nonce=bytes(range(32)),
    target="node2:9400",
    serial=5,
)
ACCEPTER = Hello(
    node_id=2,
    cluster_id="c0ffee",
    address="10.0.0.2:9400",
    incarnation=3,
    version_min=1,
    version_max=1,
    nonce=bytes(range(32, 64)),
)


def side(hello: Hello, *, is_dialler: bool) -> Handshake:
    return Handshake(
        hello=hello,
        is_dialler=is_dialler,
        secret=SECRET,
        binding=b"both certificates",
        spki_pin="",
        check=lambda _peer, _hello: "",
        admit=lambda _peer: "",
    )


def handshake_frames() -> list[tuple[str, bytes]]:
    """Run a handshake between two sides and return what was said."""
    dialler, accepter = side(DIALLER, is_dialler=True), side(ACCEPTER, is_dialler=False)
    said = []
    step, speaker, listener = dialler.start(), "dialler", accepter
    sequences = {"dialler": 0, "accepter": 0}
    while step.frames:
        ((frame_type, payload),) = step.frames
        sequences[speaker] += 1
        name = f"{speaker} {'HELLO' if frame_type == f.HELLO else 'PROOF'}"
        said.append((name, f.encode_frame(1, frame_type, sequences[speaker], payload)))
        step = listener.on_frame(frame_type, payload)
        speaker, listener = ("accepter", dialler) if speaker == "dialler" else ("dialler", accepter)
    assert dialler.peer == Peer(2, "c0ffee", "10.0.0.2:9400", 3, 1)
    assert accepter.peer == Peer(1, "c0ffee", "10.0.0.1:9400", 7, 1)
    return said


FRAMES: list[tuple[str, bytes]] = [
    *handshake_frames(),
    ("REFUSED", f.encode_frame(1, f.REFUSED, 2, write_reason("wrong cluster, sorry"))),
    ("MESSAGE", f.encode_frame(1, f.MESSAGE, 3, b"raft batch", tag=1)),
    ("MESSAGE empty", f.encode_frame(1, f.MESSAGE, 4, b"", tag=2)),
    ("CALL", f.encode_frame(1, f.CALL, 5, b"ask", tag=5, frame_id=17, argument=5000)),
    ("ANSWER", f.encode_frame(1, f.ANSWER, 6, b"told", frame_id=17)),
    (
        "FAILURE",
        f.encode_frame(
            1, f.FAILURE, 7, msgspec.msgpack.encode(("57P03", "no leader")), frame_id=18
        ),
    ),
    ("STREAM_OPEN", f.encode_frame(1, f.STREAM_OPEN, 8, b"select", tag=1, frame_id=19)),
    ("STREAM_PART", f.encode_frame(1, f.STREAM_PART, 9, b"rows", tag=0, frame_id=19)),
    ("STREAM_PART last", f.encode_frame(1, f.STREAM_PART, 10, b"rows", tag=1, frame_id=19)),
    ("STREAM_CREDIT", f.encode_frame(1, f.STREAM_CREDIT, 11, frame_id=19, argument=262144)),
    ("STREAM_FINISH", f.encode_frame(1, f.STREAM_FINISH, 12, frame_id=19)),
    ("STREAM_ABORT", f.encode_frame(1, f.STREAM_ABORT, 13, b"given up", frame_id=19)),
    ("PING", f.encode_frame(1, f.PING, 14, frame_id=1)),
    ("PONG", f.encode_frame(1, f.PONG, 2**64 - 1, frame_id=1)),
]


def test_bytes_are_as_recorded() -> None:
    actual = "".join(f"{name}\n{data.hex(' ', 16)}\n\n" for name, data in FRAMES)
    actual = actual.rstrip("\n") + "\n"
    if os.environ.get("GOLDEN_REWRITE") == "1":
        GOLDEN.write_text(actual, encoding="utf-8")
    assert actual == GOLDEN.read_text(encoding="utf-8")


def test_every_frame_type_is_recorded() -> None:
    assert {data[1] for _, data in FRAMES} == f.FRAME_TYPES


def test_an_independent_reader_understands_them() -> None:
    """Read the recorded bytes with struct and msgpack alone, as the documentation says."""
    for name, data in FRAMES:
        *head, crc = struct.unpack("!BBHIIIQI", data[:28])
        version, _, _, length = head[:4]
        assert version == 1
        assert length == len(data) - 28, name
        assert crc == crc32(data[:24] + data[28:]), name
    hello = msgpack.unpackb(FRAMES[0][1][28:])
    assert hello == [
        *(1, 1, "c0ffee", "10.0.0.1:9400", 7, 1, 1),
        bytes(range(32)),
        "node2:9400",
        5,
    ]
