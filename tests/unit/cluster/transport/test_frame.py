"""Frames: any chunking gives them back, whatever is wrong is said in a sentence."""

import random

import pytest

from cluster.transport import frame as f
from cluster.transport.config import FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX

TYPES = sorted(f.FRAME_TYPES)


def established() -> f.FrameDecoder:
    decoder = f.FrameDecoder()
    decoder.establish(1)
    return decoder


def random_frames(rng: random.Random, count: int) -> list[f.Frame]:
    return [
        (
            rng.choice(TYPES),
            rng.randrange(1 << 16),
            rng.randrange(1 << 32),
            rng.randrange(1 << 32),
            rng.randbytes(rng.choice((0, 1, 20, 300, 5_000, 70_000, 400_000))),
        )
        for _ in range(count)
    ]


def encoded(frames: list[f.Frame], first: int = 1, version: int = 1) -> bytes:
    parts: list[bytes] = []
    for sequence, frame in enumerate(frames, first):
        f.append_frame(parts, version, sequence, frame)
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(20))
def test_any_chunking_gives_the_frames_back(seed: int) -> None:
    rng = random.Random(seed)
    frames = random_frames(rng, 30)
    data = encoded(frames)
    decoder = established()
    received: list[f.Frame] = []
    at = 0
    while at < len(data):
        step = rng.choice((1, 7, 27, 28, 29, 1_000, 65_536, 262_144, 1_000_000))
        received += decoder.feed(data[at : at + step])
        at += step
    assert decoder.error == ""
    assert received == frames, f"seed {seed}"


@pytest.mark.parametrize("seed", range(200))
def test_garbage_never_passes_as_a_frame(seed: int) -> None:
    rng = random.Random(seed)
    decoder = established() if seed % 2 else f.FrameDecoder()
    frames: list[f.Frame] = []
    for _ in range(rng.randrange(1, 30)):
        frames += decoder.feed(rng.randbytes(rng.randrange(1, 200)))
    assert frames == [], f"seed {seed}"
    assert len(decoder.error) < 300
    assert decoder.feed(encoded([(f.PING, 0, 0, 0, b"")])) == []


@pytest.mark.parametrize("seed", range(300))
def test_one_flipped_bit_is_noticed(seed: int) -> None:
    """The frames before it pass, it does not, and neither does anything behind it."""
    rng = random.Random(seed)
    frames = [(f.MESSAGE, 1, 2, 3, rng.randbytes(rng.randrange(40))) for _ in range(5)]
    data = bytearray(encoded(frames))
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    # Enough behind it that a length made longer is found out too.
    decoder = established()
    received = decoder.feed(bytes(data) + bytes(FRAME_BYTES_MAX if seed == 0 else 1 << 17))
    sound = 0
    end = 0
    for frame in frames:
        end += f.HEADER_BYTES + len(frame[4])
        if end > at:
            break
        sound += 1
    assert received == frames[:sound], f"seed {seed}"
    assert len(received) < len(frames)


def test_a_wrong_checksum_is_named() -> None:
    data = bytearray(encoded([(f.MESSAGE, 1, 0, 0, b"abc")]))
    data[-1] ^= 1
    decoder = established()
    assert decoder.feed(bytes(data)) == []
    assert decoder.error == "wrong checksum in frame 1"


def test_the_bound_of_64_mib() -> None:
    decoder = established()
    largest = (f.ANSWER, 0, 1, 0, bytes(FRAME_BYTES_MAX))
    (received,) = decoder.feed(encoded([largest]))
    assert received == largest
    head = bytearray(encoded([(f.ANSWER, 0, 1, 0, b"")], first=2))
    head[4:8] = (FRAME_BYTES_MAX + 1).to_bytes(4, "big")
    assert decoder.feed(bytes(head)) == []
    assert decoder.error == "a frame of 67108865 bytes was announced, the bound is 67108864"


def test_a_stranger_cannot_make_us_hold_much() -> None:
    """Before the handshake is over the bound is small, and judged by the header alone."""
    decoder = f.FrameDecoder()
    data = encoded([(f.HELLO, 0, 0, 0, bytes(HANDSHAKE_BYTES_MAX + 1))])
    assert decoder.feed(data[:28]) == []
    assert decoder.error == "a frame of 16385 bytes was announced, the bound is 16384"


def test_a_replayed_frame_is_passed_over_and_counted() -> None:
    decoder = established()
    one, two = (f.MESSAGE, 1, 0, 0, b"one"), (f.MESSAGE, 1, 0, 0, b"two")
    data = encoded([one])
    assert decoder.feed(data + data + encoded([two], first=2) + data) == [one, two]
    assert decoder.duplicate_count == 2
    assert decoder.error == ""


def test_a_gap_ends_the_connection() -> None:
    decoder = established()
    assert decoder.feed(encoded([(f.PING, 0, 0, 0, b"")], first=2)) == []
    assert decoder.error == "frame 2 arrived where 1 was expected"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not of this protocol: b'GET / HT'"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(30), "the peer speaks TLS, but"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "does not accept plain connections"),
        (encoded([(f.PING, 0, 0, 0, b"")], version=2), "a frame of wire version 2 arrived on a"),
    ],
)
def test_strangers_are_told_apart(data: bytes, sentence: str) -> None:
    decoder = established()
    assert decoder.feed(data) == []
    assert sentence in decoder.error


def test_an_unknown_type_is_refused() -> None:
    data = bytearray(encoded([(f.PING, 0, 0, 0, b"")]))
    data[1] = 200
    decoder = established()
    assert decoder.feed(bytes(data)) == []
    assert "not of this protocol" in decoder.error


def test_the_buffer_always_has_room() -> None:
    """Whatever arrives in whatever sizes, there is somewhere to put the next bytes."""
    rng = random.Random(5)
    decoder = established()
    frames = [(f.MESSAGE, 1, 0, 0, rng.randbytes(rng.randrange(200_000))) for _ in range(60)]
    data = memoryview(encoded(frames))
    received: list[f.Frame] = []
    while data:
        buffer = decoder.get_buffer()
        assert len(buffer) > 0
        count = min(len(buffer), len(data), rng.randrange(1, 300_000))
        buffer[:count] = data[:count]
        decoder.advance(count)
        data = data[count:]
        received += decoder.frames()
    assert received == frames
