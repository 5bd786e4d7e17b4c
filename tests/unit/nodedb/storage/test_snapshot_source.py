"""Snapshots as they leave: consistent, cut to size, read again from any chunk, closed in time."""

import random

import pytest

from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.snapshot_digest import digest
from nodedb.storage.snapshot_format import (
    HEADER,
    RECORD_HEADER_BYTES,
    RUN,
    TRAILER,
    ResumePoint,
    SnapshotCorrupted,
    SnapshotExpired,
    SnapshotOffer,
    SnapshotRefused,
    SnapshotTooNew,
    decode_chunk,
    decode_header,
    decode_offer,
    decode_record_header,
    decode_resume_point,
    decode_run,
    encode_chunk,
    encode_offer,
    encode_resume_point,
)
from nodedb.storage.snapshot_source import SnapshotSources
from tests.lib.snapshots import CONFIGURATION, chunks, content, fill, open_lmdb, read


@pytest.fixture(params=["lmdb", "memory"])
def engine(request, tmp_path):
    engine = open_lmdb(tmp_path / "data") if request.param == "lmdb" else MemoryEngine()
    yield engine
    engine.close()


def records(stream: bytes) -> list[tuple[int, bytes]]:
    found = []
    while stream:
        kind, length, _ = decode_record_header(stream)
        found.append((kind, stream[RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + length]))
        stream = stream[RECORD_HEADER_BYTES + length :]
    return found


def rows_of(stream: bytes) -> dict[str, list[tuple[bytes, bytes]]]:
    (kind, payload), *rest = records(stream)
    assert kind == HEADER
    assert rest.pop()[0] == TRAILER
    spaces = decode_header(payload).spaces
    found: dict[str, list[tuple[bytes, bytes]]] = {name: [] for name in spaces}
    for kind, run in rest:
        assert kind == RUN
        number, pairs = decode_run(run)
        found[spaces[number]] += pairs
    return found


def test_it_holds_all_spaces_of_the_group_and_no_other(engine):
    fill(engine, 3000)
    fill(engine, 10, group=11, index=4)
    engine.space("metadata.state").put(b"a", b"b")
    expected = {name: rows for name, rows in content(engine).items() if name.startswith("group1.")}
    assert len(expected) == 3
    reader = read(engine)
    stream = b"".join(chunk.data for chunk in chunks(reader))
    assert rows_of(stream) == expected
    assert (reader.header.index, reader.header.term) == (7, 3)
    assert reader.header.configuration == CONFIGURATION
    reader.close()


def test_the_metadata_group_has_its_own_prefix(engine):
    fill(engine, 10)
    engine.space("metadata.state").put(b"raft-configuration", b"m")
    engine.space("metadata.descriptors").put(b"d", b"1")
    engine.set_applied(0, 3, 2)
    reader = read(engine, 0)
    stream = b"".join(chunk.data for chunk in chunks(reader))
    assert rows_of(stream) == {
        "metadata.descriptors": [(b"d", b"1")],
        "metadata.state": [(b"raft-configuration", b"m")],
    }
    assert reader.header.configuration == b"m"
    reader.close()


@pytest.mark.parametrize("chunk_bytes", [1024, 5000, 1 << 20, 1 << 22])
def test_chunks_are_of_one_size_and_any_one_can_be_read_again(engine, chunk_bytes):
    fill(engine, 2000)
    reader = read(engine, chunk_bytes=chunk_bytes)
    found = list(chunks(reader))
    assert reader.chunk_count == len(found)
    assert {len(chunk.data) for chunk in found[:-1]} <= {chunk_bytes}
    assert 0 < len(found[-1].data) <= chunk_bytes
    assert [chunk.offset for chunk in found] == [chunk_bytes * n for n in range(len(found))]
    chosen = random.Random(5)
    for _ in range(min(len(found), 40)):
        number = chosen.randrange(len(found))
        assert reader.chunk(number, 0.0) == found[number]
    reader.close()


def test_it_stands_still_while_the_loop_writes_and_commits(engine):
    fill(engine, 3000)
    expected = content(engine)
    before = digest(engine, 1)
    reader = read(engine, chunk_bytes=1024)
    stream = b""
    for number, chunk in enumerate(chunks(reader)):
        stream += chunk.data
        fill(engine, 20, index=8 + number, seed=number)
        engine.space("group1.rows").put(b"key%08d" % (2990 - number), b"written meanwhile")
        engine.space("group1.rows").delete(b"key%08d" % (number * 7))
        if number % 3 == 0:
            engine.commit()
    assert reader.header.index == 7
    assert rows_of(stream) == expected
    assert before.difference(digest(engine, 1))
    reader.close()


def test_what_is_not_committed_yet_is_committed_first(engine):
    fill(engine, 10)
    engine.commit()
    engine.space("group1.rows").put(b"new", b"1")
    engine.set_applied(1, 8, 3)
    reader = read(engine)
    assert reader.header.index == 8
    assert (b"new", b"1") in rows_of(b"".join(c.data for c in chunks(reader)))["group1.rows"]
    reader.close()


def test_an_empty_group_has_a_snapshot_too(engine):
    reader = read(engine, 5)
    (chunk,) = chunks(reader)
    assert chunk.is_last
    assert rows_of(chunk.data) == {}
    reader.close()


class TestResume:
    @pytest.fixture
    def reader(self, engine):
        fill(engine, 2000)
        reader = read(engine, chunk_bytes=2048)
        yield reader
        reader.close()

    def point(self, chunk, **changes):
        point = {
            "snapshot_id": chunk.snapshot_id,
            "chunk_count": chunk.number + 1,
            "offset": chunk.offset + len(chunk.data),
            "running_crc": chunk.running_crc,
        }
        return ResumePoint(**(point | changes))

    def test_goes_on_behind_what_is_there(self, reader):
        found = list(chunks(reader))
        assert reader.resume(self.point(found[5])) == 6
        assert reader.resume(self.point(found[-1])) == len(found)

    @pytest.mark.parametrize(
        "changes",
        [
            {"snapshot_id": 98},
            {"running_crc": 1},
            {"offset": 2049},
            {"chunk_count": 5},
            {"chunk_count": -1},
            {"chunk_count": 10_000, "offset": 2048 * 10_000},
        ],
    )
    def test_bytes_of_another_stream_end_it(self, reader, changes):
        found = list(chunks(reader))
        with pytest.raises(SnapshotRefused):
            reader.resume(self.point(found[5], **changes))
        assert reader.is_expired(0.0)

    def test_one_with_nothing_begins_at_the_start(self, reader):
        assert reader.resume(ResumePoint(99, 0, 0, 0)) == 0


class TestTimeLimits:
    def test_too_old_or_left_alone(self, engine):
        fill(engine, 100)
        reader = read(engine, chunk_bytes=1024, age_seconds_max=100.0, idle_seconds_max=10.0)
        for now in range(0, 100, 9):
            reader.chunk(now // 9, float(now))
        assert not reader.is_expired(99.9)
        with pytest.raises(SnapshotExpired):
            reader.chunk(1, 100.0)
        assert reader.is_expired(0.0)
        reader = read(engine, age_seconds_max=100.0, idle_seconds_max=10.0)
        with pytest.raises(SnapshotExpired):
            reader.chunk(0, 10.0)

    def test_a_node_has_one_reader_for_each_group(self, engine):
        fill(engine, 10)
        fill(engine, 10, group=2)
        ids = iter(range(1, 100))
        sources = SnapshotSources(engine, lambda: next(ids), idle_seconds_max=10.0)
        first = sources.open(1, index_min=7, now=0.0)
        assert sources.open(1, index_min=5, now=1.0) is first
        assert sources.open(2, index_min=0, now=1.0) is not first
        assert sources.index_pinned(1) == 7
        engine.set_applied(1, 9, 3)
        newer = sources.open(1, index_min=8, now=2.0)
        assert (newer.header.index, newer.header.snapshot_id) == (9, 3)
        assert first.is_expired(2.0)
        sources.collect(12.0)
        assert newer.is_expired(12.0)
        assert sources.index_pinned(1) is None
        assert sources.open(1, index_min=0, now=13.0) is not newer
        sources.close()

    def test_a_closed_reader_keeps_no_page(self, tmp_path):
        engine = open_lmdb(tmp_path / "data", map_bytes=1 << 24)
        fill(engine, 100)
        reader = read(engine)
        assert engine._snapshot_count == 1
        reader.close()
        reader.close()
        assert engine._snapshot_count == 0
        engine.close()


class TestBytes:
    OFFER = SnapshotOffer(1, 1, 200_000, 12, 0x1122334455667788, 1 << 20)

    def test_golden(self):
        """Format version 1: other nodes read this."""
        assert encode_offer(self.OFFER).hex() == (
            "00000001960101ce00030d400ccf1122334455667788ce00100000"
        )
        assert encode_resume_point(ResumePoint(5, 2, 2048, 77)).hex() == "940502cd08004d"
        engine = MemoryEngine()
        engine.space("group1.rows").put(b"k", b"v")
        engine.space("group1.meta").put(b"raft-configuration", b"c")
        engine.set_applied(1, 300, 2)
        (chunk,) = chunks(read(engine, snapshot_id=9))
        assert encode_chunk(chunk).hex() == GOLDEN_CHUNK

    def test_round_trip(self):
        assert decode_offer(encode_offer(self.OFFER)) == self.OFFER
        point = ResumePoint(5, 2, 2048, 77)
        assert decode_resume_point(encode_resume_point(point)) == point

    def test_newer_versions_are_refused(self):
        with pytest.raises(SnapshotTooNew):
            decode_offer(b"\0\0\0\2whatever it may hold then")
        engine = MemoryEngine()
        (chunk,) = chunks(read(engine))
        encoded = bytearray(encode_chunk(chunk))
        encoded[2] = 2
        with pytest.raises(SnapshotTooNew):
            decode_chunk(bytes(encoded))

    @pytest.mark.parametrize("chunk_bytes", [0, 1023, (1 << 22) + 1, 1 << 60])
    def test_sizes_out_of_bounds_are_refused(self, chunk_bytes):
        with pytest.raises(SnapshotRefused):
            decode_offer(encode_offer(SnapshotOffer(1, 1, 2, 3, 4, chunk_bytes)))

    @pytest.mark.parametrize("field", range(4))
    @pytest.mark.parametrize("value", [-1, (1 << 64) - 1])
    def test_numbers_out_of_range_are_refused(self, field, value):
        if field == 3 and value > 0:
            value = -2
        numbers = [1, 2, 3, 4]
        numbers[field] = value
        with pytest.raises(SnapshotRefused):
            decode_offer(encode_offer(SnapshotOffer(1, *numbers, 1 << 20)))

    def test_every_changed_byte_of_a_chunk_is_found(self):
        engine = MemoryEngine()
        fill(engine, 3)
        chunk = next(chunks(read(engine, chunk_bytes=1024)))
        encoded = encode_chunk(chunk)
        for position in range(len(encoded)):
            damaged = bytearray(encoded)
            damaged[position] ^= 0x40
            with pytest.raises((SnapshotCorrupted, SnapshotTooNew)):
                decode_chunk(bytes(damaged))
        for length in range(0, len(encoded), 7):
            with pytest.raises(SnapshotCorrupted):
                decode_chunk(encoded[:length])

    def test_garbage_is_no_offer(self):
        source = random.Random(3)
        for _ in range(300):
            data = source.randbytes(source.randrange(40))
            for decode in (decode_offer, decode_resume_point, decode_chunk):
                with pytest.raises((SnapshotCorrupted, SnapshotTooNew, SnapshotRefused)):
                    decode(data)
                with pytest.raises((SnapshotCorrupted, SnapshotTooNew, SnapshotRefused)):
                    decode(b"\0\0\0\1" + data)


# magic, version, is_last, number, offset, id, running CRC, CRC; then HEADER, two RUNs, TRAILER.
# fmt: off
GOLDEN_CHUNK = (
    "6e53" "01" "01" "00000000" "0000000000000000" "0000000000000009" "a1d87d4e" "61b5f88f"
    "01" "00000027" "5af4b1d4" "00000001"
    "9601cd012c0209c4016392ab67726f7570312e6d657461ab67726f7570312e726f7773"
    "02" "0000001b" "d4b219d4" "0000"
    "9192c412726166742d636f6e66696775726174696f6ec40163"
    "02" "0000000a" "7c19f30f" "0001"
    "9192c4016bc40176"
    "03" "0000000c" "6c6c8bdf" "0000000000000002" "14fb8817"
)
# fmt: on
