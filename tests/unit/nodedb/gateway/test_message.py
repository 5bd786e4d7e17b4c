"""Frames between gateway and executor: golden bytes of wire version 1, pieces, and garbage."""

from random import Random

import pytest

from nodedb.gateway import message as f

STATE = f.SessionState(
    f.SettingsState({"a": "1"}, {"b": "2"}, {"c": "3"}, (("d", None, "4"),), ("e.f",)),
    (f.PreparedState("p", "SELECT 1", (23, 0), is_sql=False, prepared_at=5),),
    ("gone",),
    ("channel",),
    f.SequenceState({16384: 7}, 16384),
)
STATE_HEX = (
    "9595"
    "81a161a131" "81a162a132" "81a163a133" "9193a164c0a134" "91a3652e66"
    "9196a170a853454c454354203192" "1700" "c20500"
    "91a4676f6e65" "91a76368616e6e656c" "9281cd400007cd4000"
)  # fmt: skip
GOLDEN: list[tuple[int, f.Header | None, bytes, str]] = [
    (f.DATA, None, b"abc", "4400000000616263"),
    (f.PART, None, b"abc", "5400000000616263"),
    (f.BATCH, f.BatchBegin(3), b"Q", "42000000069503c0c000c051"),
    (
        f.BATCH,
        f.BatchBegin(3, STATE, f.BlockState(9, has_snapshot=True), 250),
        b"",
        f"42{len(STATE_HEX) // 2 + 8:08x}9503{STATE_HEX}9209c3ccfac0",
    ),
    (f.CANCEL, f.Cancel("why"), b"", "580000000591a3776879"),
    (f.PING, None, b"", "5000000000"),
    (f.PONG, None, b"", "7000000000"),
    (f.TAKEN, None, b"", "4b00000000"),
    (f.COPY_IN, None, b"G", "470000000047"),
    (f.SKIP, None, b"", "5300000000"),
    (f.HOLD, None, b"", "4800000000"),
    (f.GO, None, b"", "4f00000000"),
    (
        f.END,
        f.BatchEnd(3, "I", None, 4, 5, ""),
        b"C",
        "45000000089603a149c00405a043",
    ),
    (
        f.BATCH,
        f.BatchBegin(3, request=f.Request(7, 8, 9, is_repeated=True)),
        b"Q",
        "420000000a9503c0c00094070809c351",
    ),
    (f.REFUSED, f.Refusal("no"), b"", "520000000693a26e6fc2c2"),
    (f.NOTIFY, f.Notifications(((7, "c", "p"),)), b"", "4e00000008919193" + "07a163a170"),
]


@pytest.mark.parametrize(("kind", "header", "data", "golden"), GOLDEN)
def test_golden_bytes(kind: int, header: f.Header | None, data: bytes, golden: str) -> None:
    (frame,) = f.frames(kind, header, data)
    assert frame.hex() == golden
    assert f.decode_frame(frame) == (kind, header, data)


def test_every_kind_has_golden_bytes() -> None:
    assert {kind for kind, *_ in GOLDEN} == f.KINDS


def test_golden_bytes_of_a_request() -> None:
    prime = f.Prime(1000, 10, 5, "192.0.2.1:7", 123, STATE)
    payload = f.encode_prime(prime)
    assert payload.hex() == f"96cd03e80a05ab3139322e302e322e313a377b{STATE_HEX}"
    assert f.decode_prime(payload) == prime


@pytest.mark.parametrize(
    "size", [0, 1, f.FRAME_DATA_BYTES_MAX, f.FRAME_DATA_BYTES_MAX + 1, 1 << 20]
)
@pytest.mark.parametrize("kind", [f.BATCH, f.DATA, f.END, f.COPY_IN])
def test_pieces(kind: int, size: int) -> None:
    header = f.BatchBegin(1) if kind == f.BATCH else None
    if kind == f.END:
        header = f.BatchEnd(1, "I", None, 0, 0, "")  # type: ignore[assignment]
    data = Random(size).randbytes(size)
    decoded = [f.decode_frame(frame) for frame in f.frames(kind, header, data)]
    assert b"".join(part for *_, part in decoded) == data
    assert all(len(part) <= f.FRAME_DATA_BYTES_MAX for *_, part in decoded)
    kinds = [kind for kind, *_ in decoded]
    if kind in (f.BATCH, f.DATA):
        assert kinds == [kind] + [f.DATA] * (len(kinds) - 1)
    else:
        assert kinds == [f.PART] * (len(kinds) - 1) + [kind]


def test_output_ends_with_whole_messages() -> None:
    kinds = [
        f.decode_frame(frame)[0] for frame in f.output_frames(bytes(3 * f.FRAME_DATA_BYTES_MAX))
    ]
    assert kinds == [f.PART, f.PART, f.DATA]


def test_garbage() -> None:
    rng = Random(4)
    frames = [f.frames(kind, header, data)[0] for kind, header, data, _ in GOLDEN]
    for number in range(3000):
        if number % 2:
            chunk = rng.randbytes(rng.randrange(40))
        else:
            spoiled = bytearray(rng.choice(frames))
            spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
            chunk = bytes(spoiled[: rng.randrange(len(spoiled) + 1)])
        try:
            kind, _, _ = f.decode_frame(chunk)
        except f.BadFrame:
            continue
        assert kind in f.KINDS, f"seed 4, chunk {number}"
    with pytest.raises(f.BadFrame):
        f.decode_prime(b"\x91\x01")
