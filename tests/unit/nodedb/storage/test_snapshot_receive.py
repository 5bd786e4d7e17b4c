"""Snapshots as they arrive: in order or not at all, resumed, collected, on a full disk too."""

import errno
import random
import sys
from pathlib import Path

import pytest

from nodedb.errors import DiskFull
from nodedb.storage.log_file import RealLogDirectory
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.snapshot_format import (
    SnapshotCorrupted,
    SnapshotFailed,
    SnapshotRefused,
    SnapshotTooNew,
)
from nodedb.storage.snapshot_install import SnapshotLoad
from nodedb.storage.snapshot_receive import TRIM_BYTES, SnapshotInbox
from tests.lib.snapshots import chunks, content, fill, install, read, receive

sys.path.insert(0, str(Path(__file__).parents[3] / "fault"))
from simulated_disk import PowerLoss, SimulatedDisk

CHUNK = 4096


@pytest.fixture
def source():
    engine = MemoryEngine()
    fill(engine, 2000)
    return engine


@pytest.fixture
def reader(source):
    return read(source, chunk_bytes=CHUNK)


@pytest.fixture
def directory(tmp_path):
    return RealLogDirectory(str(tmp_path / "recv_snapshots"))


def new_inbox(directory, **options):
    options.setdefault("disk_reserve_bytes", 0)
    options.setdefault("sync_bytes", 4 * CHUNK)
    return SnapshotInbox(directory, **options)


def begin(inbox, reader, wall_now=0.0):
    return inbox.begin(reader.offer, applied_index=0, wall_now=wall_now)


def test_the_file_is_named_by_group_index_and_term(directory, reader):
    begin(new_inbox(directory), reader)
    assert directory.names() == ["1-7-3.partial"]


def test_chunks_in_order_make_it_complete(directory, source, reader):
    received = receive(new_inbox(directory), reader)
    assert received.stream_bytes == reader.chunk(reader.chunk_count - 1, 0.0).offset + len(
        reader.chunk(reader.chunk_count - 1, 0.0).data
    )
    target = MemoryEngine()
    install(target, received)
    assert content(target) == content(source)


class TestRefused:
    """Nothing changes: the right chunk is still taken after it."""

    @pytest.fixture
    def receiver(self, directory, reader):
        receiver = begin(new_inbox(directory), reader)
        self.sent = list(chunks(reader))
        for chunk in self.sent[:3]:
            receiver.accept(chunk, 0.0)
        yield receiver
        for chunk in self.sent[3:]:
            receiver.accept(chunk, 0.0)
        assert receiver.is_complete

    @pytest.mark.parametrize("number", [0, 2, 4, 9])
    def test_a_chunk_out_of_order(self, receiver, number):
        with pytest.raises(SnapshotRefused, match="chunk 3 at offset 12288 is wanted"):
            receiver.accept(self.sent[number], 0.0)

    def test_a_chunk_at_another_offset(self, receiver):
        with pytest.raises(SnapshotRefused):
            receiver.accept(self.sent[3]._replace(offset=1), 0.0)

    def test_a_chunk_of_another_snapshot(self, receiver):
        with pytest.raises(SnapshotRefused, match="another snapshot"):
            receiver.accept(self.sent[3]._replace(snapshot_id=98), 0.0)

    def test_a_chunk_too_short_or_too_long(self, receiver):
        for data in (b"", self.sent[3].data[:-1], self.sent[3].data + b"x"):
            with pytest.raises(SnapshotRefused):
                receiver.accept(self.sent[3]._replace(data=data), 0.0)

    def test_a_chunk_with_other_bytes(self, receiver):
        """Its own CRC was right; what came before it is of another stream."""
        with pytest.raises(SnapshotCorrupted):
            receiver.accept(self.sent[3]._replace(data=bytes(CHUNK)), 0.0)
        with pytest.raises(SnapshotCorrupted):
            receiver.accept(self.sent[3]._replace(running_crc=5), 0.0)

    def test_an_offer_of_a_newer_format_or_of_nothing_new(self, receiver, directory, reader):
        inbox = new_inbox(directory)
        offer = reader.offer
        newer = type(offer)(2, 5, 9, 3, 4, CHUNK)
        with pytest.raises(SnapshotTooNew):
            inbox.begin(newer, applied_index=0, wall_now=0.0)
        with pytest.raises(SnapshotRefused, match="index 7, 7 is applied here"):
            inbox.begin(offer, applied_index=7, wall_now=0.0)
        assert directory.names() == ["1-7-3.partial"]


def test_a_complete_one_takes_no_more(directory, reader):
    received = receive(new_inbox(directory), reader)
    with pytest.raises(SnapshotRefused):
        received.accept(reader.chunk(0, 0.0), 0.0)


class TestResume:
    def test_after_a_cut_connection(self, directory, source, reader):
        inbox = new_inbox(directory)
        receiver = begin(inbox, reader)
        for number in range(6):
            receiver.accept(reader.chunk(number, 0.0), 0.0)
        again = begin(inbox, reader)
        assert again is receiver
        assert again.resume_point().chunk_count == 6
        target = MemoryEngine()
        install(target, receive(inbox, reader))
        assert content(target) == content(source)

    @pytest.mark.parametrize("taken", [0, 3, 4, 6, 9])
    def test_after_a_restart_from_the_last_durable_chunk(self, directory, source, reader, taken):
        receiver = begin(new_inbox(directory), reader)
        for number in range(taken):
            receiver.accept(reader.chunk(number, 0.0), 0.0)
        # No close: the process was killed.
        inbox = new_inbox(directory)
        assert begin(inbox, reader).resume_point().chunk_count == taken // 4 * 4
        target = MemoryEngine()
        install(target, receive(inbox, reader))
        assert content(target) == content(source)

    def test_a_complete_one_is_complete_after_a_restart(self, directory, source, reader):
        receive(new_inbox(directory), reader)
        receiver = begin(new_inbox(directory), reader)
        assert receiver.is_complete
        assert reader.resume(receiver.resume_point()) == reader.chunk_count
        target = MemoryEngine()
        install(target, receiver)
        assert content(target) == content(source)

    def test_another_stream_at_the_same_entry_begins_anew(self, directory, source, reader):
        """Two leaders may collect old versions differently: equal index, other bytes."""
        receiver = begin(new_inbox(directory), reader)
        for number in range(9):
            receiver.accept(reader.chunk(number, 0.0), 0.0)
        source.space("group1.history").put(b"collected", b"elsewhere")
        other = read(source, snapshot_id=100, chunk_bytes=CHUNK)
        inbox = new_inbox(directory)
        assert begin(inbox, other).resume_point().chunk_count == 0
        target = MemoryEngine()
        install(target, receive(inbox, other))
        assert content(target) == content(source)
        with pytest.raises(SnapshotRefused):
            receiver.accept(reader.chunk(0, 0.0), 0.0)

    def test_a_newer_snapshot_takes_the_place_of_an_older_one(self, directory, source, reader):
        inbox = new_inbox(directory)
        older = begin(inbox, reader)
        older.accept(reader.chunk(0, 0.0), 0.0)
        fill(source, 5, group=2)
        of_another_group = begin(inbox, read(source, 2))
        source.set_applied(1, 8, 3)
        newer = read(source, snapshot_id=100)
        receive(inbox, newer)
        assert directory.names() == ["1-8-3.partial", "2-7-3.partial"]
        assert of_another_group.is_open
        with pytest.raises(SnapshotRefused, match="given up"):
            older.accept(reader.chunk(1, 0.0), 0.0)

    def test_nothing_takes_the_place_of_one_that_is_being_installed(
        self, directory, source, reader
    ):
        inbox = new_inbox(directory)
        load = SnapshotLoad(MemoryEngine(), receive(inbox, reader))
        steps = load.slices()
        next(steps)
        source.set_applied(1, 8, 3)
        with pytest.raises(SnapshotRefused, match="being installed"):
            begin(inbox, read(source, snapshot_id=100))
        steps.close()
        begin(inbox, read(source, snapshot_id=100))


class TestCollect:
    def test_orphans_go_after_their_time(self, directory, reader):
        receiver = begin(new_inbox(directory), reader, wall_now=1000.0)
        for number in range(5):
            receiver.accept(reader.chunk(number, 0.0), 1100.0)
        inbox = new_inbox(directory)
        assert inbox.collect(1399.0) == []
        assert inbox.collect(1400.0) == ["1-7-3.partial"]
        assert directory.names() == []

    def test_one_from_the_future_too(self, directory, reader):
        begin(new_inbox(directory), reader, wall_now=10_000.0)
        inbox = new_inbox(directory)
        assert inbox.collect(9_800.0) == []
        assert inbox.collect(5_000.0) == ["1-7-3.partial"]

    def test_the_time_is_a_setting(self, directory, reader):
        begin(new_inbox(directory), reader)
        assert new_inbox(directory, orphan_seconds=5.0).collect(5.0) == ["1-7-3.partial"]

    def test_a_transfer_that_nobody_goes_on_with(self, directory, reader):
        inbox = new_inbox(directory)
        receiver = begin(inbox, reader)
        receiver.accept(reader.chunk(0, 0.0), 200.0)
        assert inbox.collect(400.0) == []
        assert inbox.collect(500.0) == ["1-7-3.partial"]
        with pytest.raises(SnapshotRefused):
            receiver.accept(reader.chunk(1, 0.0), 500.0)

    def test_not_what_is_being_installed(self, directory, reader):
        inbox = new_inbox(directory)
        steps = SnapshotLoad(MemoryEngine(), receive(inbox, reader)).slices()
        next(steps)
        assert inbox.collect(10_000.0) == []
        steps.close()
        assert inbox.collect(10_000.0) == ["1-7-3.partial"]

    def test_a_file_that_holds_nothing_of_use_goes_at_once(self, directory, tmp_path):
        Path(directory.path, "1-7-3.partial").write_bytes(random.Random(1).randbytes(20_000))
        Path(directory.path, "2-7-3.partial").write_bytes(b"")
        Path(directory.path, "notes").write_bytes(b"not ours")
        inbox = new_inbox(directory)
        assert inbox.collect(0.0) == ["1-7-3.partial", "2-7-3.partial"]
        assert directory.names() == ["notes"]

    def test_a_large_file_is_removed_in_steps(self, directory, source):
        size = 3 * TRIM_BYTES
        source.space("group1.rows").put(b"large", bytes(size))
        reader = read(source)
        inbox = new_inbox(directory)
        received = receive(inbox, reader)
        received.discard()
        path = Path(directory.path, "1-7-3.partial")
        assert path.stat().st_size == pytest.approx(size, abs=TRIM_BYTES)
        # What is half gone is not taken up, but its name can be used again.
        again = begin(inbox, reader)
        assert again.resume_point().chunk_count == 0
        target = MemoryEngine()
        received = receive(inbox, reader)
        install(target, received)
        assert content(target) == content(source)
        steps = 0
        while inbox.trim():
            steps += 1
        assert steps >= 2
        assert directory.names() == []


class TestFullDisk:
    def test_below_the_reserve(self, reader):
        disk = SimulatedDisk(1, quota=1 << 20)
        inbox = new_inbox(disk, disk_reserve_bytes=(1 << 20) - 50_000)
        receiver = begin(inbox, reader)
        with pytest.raises(DiskFull):
            for chunk in chunks(reader):
                receiver.accept(chunk, 0.0)
        assert disk.names() == []
        with pytest.raises(SnapshotRefused):
            receiver.accept(reader.chunk(0, 0.0), 0.0)
        disk.quota = 1 << 24
        receive(inbox, reader)

    @pytest.mark.parametrize("operation", ["pwrite", "fdatasync", "fallocate"])
    @pytest.mark.parametrize(
        ("number", "expected"),
        [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, SnapshotFailed)],
    )
    def test_a_failing_operation_ends_the_transfer_only(self, reader, operation, number, expected):
        disk = SimulatedDisk(1)
        inbox = new_inbox(disk)
        receiver = begin(inbox, reader)
        disk.fail_next[operation] = number
        with pytest.raises(expected):
            for chunk in chunks(reader):
                receiver.accept(chunk, 0.0)
        assert disk.names() == []
        assert not disk.fail_next
        receive(inbox, reader)

    @pytest.mark.parametrize("operation", ["pwrite", "fdatasync", "fallocate", "sync"])
    def test_so_does_one_at_the_beginning(self, reader, operation):
        disk = SimulatedDisk(1)
        inbox = new_inbox(disk)
        for number, expected in ((errno.ENOSPC, DiskFull), (errno.EIO, SnapshotFailed)):
            disk.fail_next[operation] = number
            with pytest.raises(expected):
                begin(inbox, reader)
            assert disk.names() == []
        receive(inbox, reader)

    def test_a_file_that_cannot_be_read_ends_the_install_only(self, reader):
        disk = SimulatedDisk(1)
        received = receive(new_inbox(disk), reader)
        target = MemoryEngine()
        disk.fail_next["read"] = errno.EIO
        with pytest.raises(SnapshotFailed):
            install(target, received)
        assert target.staged_names() == []
        install(target, received)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_a_power_loss_leaves_is_resumed_rightly(source, seed):
    """Torn blocks, lost blocks, a lost file: what the receiver says it has, it has."""
    expected = content(source)
    chance = random.Random(seed)
    disk = SimulatedDisk(seed)
    readers = [read(source, chunk_bytes=CHUNK)]
    for _ in range(8):
        disk.operations_left = chance.randint(1, 200)
        try:
            received = receive(new_inbox(disk), chance.choice(readers[-2:]))
            break
        except PowerLoss:
            disk.power_loss()
            if chance.random() < 0.2:
                readers.append(read(source, snapshot_id=len(readers), chunk_bytes=CHUNK))
    else:
        disk.operations_left = -1
        received = receive(new_inbox(disk), readers[-1])
    disk.operations_left = -1
    target = MemoryEngine()
    install(target, received)
    assert content(target) == expected, f"seed {seed}"
