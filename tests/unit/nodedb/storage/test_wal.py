"""The write-ahead log: reading back, recovery, corruption, recycling, limits."""

import errno
import os
import sys
from pathlib import Path

import pytest

from nodedb.errors import DiskFull, LogCorrupted, StorageError, StoreTooNew
from nodedb.storage import wal_format
from nodedb.storage.log_file import RealLogDirectory
from nodedb.storage.wal import HardState, Wal
from nodedb.storage.wal_format import (
    BLOCK_BYTES,
    SegmentHeader,
    encode_batch,
    encode_segment_header,
)

sys.path.insert(0, str(Path(__file__).parents[3] / "fault"))
from simulated_disk import SimulatedDisk

SEGMENT = 16 * BLOCK_BYTES


def open_wal(disk, **options):
    options.setdefault("segment_bytes", SEGMENT)
    return Wal(disk, **options)


def append(wal, group, *indexes, term=1, size=20):
    wal.append_entries(group, [(index, term, payload(group, index, size)) for index in indexes])


def payload(group, index, size=20):
    return f"{group}/{index};".encode().ljust(size, b".")


def filled(disk, count=6):
    """One flush per entry, so that entry i stands in batch i, at block i of the first segment."""
    wal = open_wal(disk)
    for index in range(1, count + 1):
        append(wal, 1, index)
        wal.flush()
    return wal


def image(disk, name="00000001.wal"):
    return disk.files[name].volatile


class TestReadingBack:
    def test_entries_before_and_after_flush_and_reopening(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        append(wal, 1, 1, 2, 3)
        append(wal, 9, 1)
        expected = [(2, 1, payload(1, 2)), (3, 1, payload(1, 3))]
        assert wal.entries(1, 2, 4) == expected
        assert wal.durable_index(1) == 0
        wal.flush()
        assert wal.durable_index(1) == 3
        for log in (wal, open_wal(disk)):
            assert log.groups() == [1, 9]
            assert log.entries(1, 2, 4) == expected
            assert (log.first_index(1), log.last_index(1), log.last_index(9)) == (1, 3, 1)
            assert (log.term_at(1, 0), log.term_at(1, 3), log.term_at(1, 4)) == (0, 1, None)

    def test_unknown_group_is_empty(self):
        wal = open_wal(SimulatedDisk(1))
        assert (wal.first_index(5), wal.last_index(5), wal.hard_state(5)) == (1, 0, None)
        assert (wal.term_at(5, 0), wal.term_at(5, 1), wal.entries(5, 1, 1)) == (0, None, [])

    def test_bytes_max_gives_at_least_one(self):
        wal = open_wal(SimulatedDisk(1))
        append(wal, 1, 1, 2, 3, 4, size=100)
        assert [entry[0] for entry in wal.entries(1, 1, 5, bytes_max=1)] == [1]
        assert [entry[0] for entry in wal.entries(1, 1, 5, bytes_max=300)] == [1, 2, 3]

    def test_newer_term_replaces_the_suffix(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        append(wal, 1, 1, 2, 3, 4)
        wal.flush()
        append(wal, 1, 2, term=2)
        assert wal.durable_index(1) == 1
        wal.flush()
        for log in (wal, open_wal(disk)):
            assert log.last_index(1) == 2
            assert log.term_at(1, 2) == 2

    def test_replacing_inside_one_append(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        wal.append_entries(1, [(1, 1, b"a"), (2, 1, b"b"), (2, 2, b"c")])
        wal.flush()
        assert open_wal(disk).entries(1, 1, 3) == [(1, 1, b"a"), (2, 2, b"c")]

    def test_gap_is_a_programmers_error(self):
        wal = open_wal(SimulatedDisk(1))
        with pytest.raises(AssertionError):
            append(wal, 1, 2)

    def test_truncate_and_hard_state_survive(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        append(wal, 1, 1, 2, 3)
        wal.truncate_suffix(1, 2)
        wal.set_hard_state(1, 3, 2, 1)
        assert wal.needs_flush
        wal.flush()
        assert not wal.needs_flush
        log = open_wal(disk)
        assert log.last_index(1) == 1
        assert log.hard_state(1) == HardState(term=3, vote=2, commit=1)

    def test_reset_to_a_snapshot(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        append(wal, 1, 1, 2, 3)
        wal.reset(1, 50, 7)
        wal.flush()
        append(wal, 1, 51, term=8)
        wal.flush()
        log = open_wal(disk)
        assert (log.first_index(1), log.last_index(1)) == (51, 51)
        assert (log.term_at(1, 50), log.term_at(1, 3)) == (7, None)

    def test_reset_far_ahead_replays_at_once(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        append(wal, 1, 1)
        wal.reset(1, 10**12, 7)
        wal.reset(1, 2 * 10**12, 8)
        append(wal, 1, 2 * 10**12 + 1, term=8)
        wal.flush()
        log = open_wal(disk)
        assert log.first_index(1) == log.last_index(1) == 2 * 10**12 + 1

    def test_removed_group_is_gone_and_may_come_back(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        append(wal, 1, 1, 2)
        wal.flush()
        wal.remove_group(1)
        wal.flush()
        assert open_wal(disk).groups() == []
        append(wal, 1, 1, term=9)
        wal.flush()
        assert open_wal(disk).term_at(1, 1) == 9

    def test_evicted_payloads_are_read_from_disk(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk, cache_bytes_max=1000)
        for index in range(1, 40):
            append(wal, 1, index, size=100)
            wal.flush()
            assert wal.cached_bytes() <= 1000
        assert wal.entries(1, 1, 40) == [(i, 1, payload(1, i, 100)) for i in range(1, 40)]

    def test_released_payloads(self):
        wal = filled(SimulatedDisk(1))
        wal.release_payloads(1, 4)
        assert wal.cached_bytes() == 40
        assert wal.entries(1, 4, 6) == [(4, 1, payload(1, 4)), (5, 1, payload(1, 5))]

    def test_rotten_entry_is_not_handed_out(self):
        disk = SimulatedDisk(1)
        wal = filled(disk)
        wal.release_payloads(1, 6)
        image(disk)[2 * BLOCK_BYTES + 80] ^= 1
        with pytest.raises(LogCorrupted, match="changed after it was written"):
            wal.entries(1, 2, 3)

    def test_one_write_and_one_fsync_per_flush(self):
        disk = SimulatedDisk(1)
        wal = filled(disk, 1)
        before = disk.sync_count
        for group in range(20):
            append(wal, group + 2, 1, 2, 3)
        wal.set_hard_state(1, 1, 1, 1)
        wal.flush()
        wal.flush()
        assert disk.sync_count == before + 1

    def test_compaction_alone_costs_no_fsync(self):
        disk = SimulatedDisk(1)
        wal = filled(disk)
        before = disk.sync_count
        wal.compact(1, 3)
        wal.flush()
        assert disk.sync_count == before
        assert wal.first_index(1) == 4
        assert wal.term_at(1, 3) == 1


class TestRecovery:
    def test_torn_tail_is_cut_and_does_not_come_back(self):
        disk = SimulatedDisk(1)
        filled(disk)
        whole = bytes(image(disk))
        image(disk)[6 * BLOCK_BYTES + 70] ^= 1
        wal = open_wal(disk)
        assert wal.last_index(1) == 5
        # The other half of the torn batch turns up again: it must stay dead.
        start = 6 * BLOCK_BYTES
        image(disk)[start + 64 : start + BLOCK_BYTES] = whole[start + 64 : start + BLOCK_BYTES]
        assert open_wal(disk).last_index(1) == 5

    def test_bad_batch_before_a_whole_one_stops(self):
        disk = SimulatedDisk(1)
        filled(disk)
        image(disk)[3 * BLOCK_BYTES + 70] ^= 1
        with pytest.raises(LogCorrupted) as caught:
            open_wal(disk)
        assert (caught.value.file_name, caught.value.offset) == ("00000001.wal", 3 * BLOCK_BYTES)

    def test_lost_header_before_a_whole_batch_stops(self):
        disk = SimulatedDisk(1)
        filled(disk)
        image(disk)[3 * BLOCK_BYTES : 3 * BLOCK_BYTES + 8] = bytes(8)
        with pytest.raises(LogCorrupted):
            open_wal(disk)

    def test_bad_batch_at_the_end_of_an_earlier_segment_stops(self):
        disk = SimulatedDisk(1)
        filled(disk, 20)
        image(disk)[15 * BLOCK_BYTES + 70] ^= 1
        with pytest.raises(LogCorrupted) as caught:
            open_wal(disk)
        assert (caught.value.file_name, caught.value.offset) == ("00000001.wal", 15 * BLOCK_BYTES)

    def test_missing_segment_stops(self):
        disk = SimulatedDisk(1)
        filled(disk, 40)
        del disk.files["00000002.wal"]
        with pytest.raises(LogCorrupted, match="generation 2 of the log is missing"):
            open_wal(disk)

    def test_rotten_segment_header_is_repaired_from_the_batch(self):
        disk = SimulatedDisk(1)
        filled(disk, 20)
        image(disk, "00000002.wal")[5] ^= 1
        assert open_wal(disk).last_index(1) == 20
        assert open_wal(disk).last_index(1) == 20

    def test_newer_format_is_refused(self, monkeypatch):
        disk = SimulatedDisk(1)
        monkeypatch.setattr(wal_format, "FORMAT_VERSION", 2)
        filled(disk)
        with pytest.raises(StoreTooNew):
            open_wal(disk)

    def test_client_bytes_that_look_like_a_batch_are_not_one(self):
        """Without the salt, a torn batch followed by this payload would stop the node."""
        disk = SimulatedDisk(1)
        wal = filled(disk, 2)
        forged_segment = SegmentHeader(1, 1, 1, 0)
        forged = encode_batch(forged_segment, 4, [b""], 0)
        # The payload starts 56 + 8 + 25 bytes into its batch; put the forged batch on a boundary.
        padding = bytes(BLOCK_BYTES - wal_format.BATCH_HEADER_BYTES - wal_format.ENTRY_HEADER_BYTES)
        wal.append_entries(1, [(3, 1, padding + forged)])
        wal.flush()
        data = image(disk)
        assert data[4 * BLOCK_BYTES : 4 * BLOCK_BYTES + 4] == forged[:4]
        data[3 * BLOCK_BYTES + 60] ^= 1
        assert open_wal(disk).last_index(1) == 2

    def test_old_records_in_a_recycled_segment_are_never_taken(self):
        """The new tail ends exactly where a whole batch of the segment's former life begins."""
        disk = SimulatedDisk(1)
        wal = filled(disk, 20)
        wal.compact(1, 18)
        assert wal.recycle() == 1
        for index in range(21, 33):
            append(wal, 1, index)
            wal.flush()
        segment = wal._segments.live[-1]
        assert segment.header.generation == 3
        assert segment.file.name == "00000001.wal"
        behind = wal_format.decode_batch_header(bytes(image(disk)), segment.tail)
        assert behind is not None
        assert behind.generation == 1
        log = open_wal(disk)
        assert (log.first_index(1), log.last_index(1)) == (19, 32)

    def test_unfinished_creation_leaves_no_trace(self):
        disk = SimulatedDisk(1)
        filled(disk, 3)
        disk.open("00000007.wal", create=True)
        assert open_wal(disk).last_index(1) == 3
        assert "00000007.wal" not in disk.files

    def test_garbage_with_right_framing_is_reported(self):
        disk = SimulatedDisk(1)
        file = disk.open("00000001.wal", create=True)
        file.fallocate(0, SEGMENT)
        header = SegmentHeader(1, 1, 1, 99)
        file.pwrite(encode_segment_header(header) + encode_batch(header, 1, [b"\xee"], 1), 0)
        with pytest.raises(LogCorrupted, match="unknown record type 238"):
            open_wal(disk)

    def test_unreadable_file_is_a_storage_error(self):
        disk = SimulatedDisk(1)
        filled(disk)
        disk.fail_next["read"] = errno.EIO
        with pytest.raises(StorageError, match="cannot read the log"):
            open_wal(disk)


class TestRecycling:
    def test_log_stays_small_under_load(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        wal.set_hard_state(7, 5, 2, 0)
        append(wal, 8, 1, 2)
        for index in range(1, 2001):
            append(wal, 1, index)
            wal.flush()
            if index % 20 == 0:
                wal.compact(1, index - 10)
                wal.recycle()
        assert wal.disk_bytes() <= 10 * SEGMENT
        for log in (wal, open_wal(disk)):
            assert log.hard_state(7) == HardState(5, 2, 0)
            assert log.entries(8, 1, 3) == [(1, 1, payload(8, 1)), (2, 1, payload(8, 2))]
            assert log.entries(1, 1991, 2001)[-1] == (2000, 1, payload(1, 2000))

    def test_compaction_never_passes_the_durable_applied_index(self):
        wal = open_wal(SimulatedDisk(1), compact_limit=lambda group: 3)
        append(wal, 1, 1, 2, 3, 4)
        wal.flush()
        wal.compact(1, 3)
        with pytest.raises(AssertionError):
            wal.compact(1, 4)

    def test_pinned_log_is_kept_whole(self):
        disk = SimulatedDisk(1)
        wal = open_wal(disk)
        for index in range(1, 200):
            append(wal, 1, index, size=3000)
            wal.flush()
            wal.recycle()
        assert open_wal(disk).entries(1, 1, 200)[0] == (1, 1, payload(1, 1, 3000))

    def test_spare_segment_is_ready_and_missing_room_is_told(self):
        disk = SimulatedDisk(1, quota=SEGMENT)
        wal = filled(disk, 3)
        wal.recycle()
        assert not wal.has_spare
        disk.quota *= 2
        wal.recycle()
        assert wal.has_spare

    def test_spare_is_written_ahead_and_the_first_segment_before_use(self, monkeypatch):
        monkeypatch.setattr("nodedb.storage.wal._FILL_BYTES", SEGMENT // 2)
        wal = open_wal(SimulatedDisk(1))
        assert wal._segments.free[0].written_bytes == SEGMENT
        append(wal, 1, 1)
        wal.flush()
        for written in (SEGMENT // 2, SEGMENT, SEGMENT):
            wal.recycle()
            assert wal._segments.free[0].written_bytes == written

    def test_full_disk_keeps_the_pending_entries(self):
        disk = SimulatedDisk(1, quota=SEGMENT)
        wal = filled(disk, 14)
        append(wal, 1, 15, 16, size=3 * BLOCK_BYTES)
        with pytest.raises(DiskFull):
            wal.flush()
        assert wal.durable_index(1) == 14
        assert open_wal(disk).last_index(1) == 14
        disk.quota *= 2
        wal.flush()
        assert open_wal(disk).last_index(1) == 16

    def test_discarded_entries_are_never_written(self):
        disk = SimulatedDisk(1, quota=SEGMENT)
        wal = filled(disk, 12)
        append(wal, 2, 1)
        wal.set_hard_state(1, 7, 0, 12)
        mark = wal.mark()
        append(wal, 1, 13, 14, size=3 * BLOCK_BYTES)
        append(wal, 2, 2)
        append(wal, 1, 15)
        with pytest.raises(DiskFull):
            wal.flush()
        wal.discard(mark)
        assert (wal.last_index(1), wal.last_index(2)) == (12, 1)
        assert wal.needs_flush
        append(wal, 1, 13, term=8)
        wal.flush()
        assert b"1/14" not in image(disk)
        for log in (wal, open_wal(disk)):
            assert log.entries(1, 13, 14) == [(13, 8, payload(1, 13))]
            assert log.entries(2, 1, 2) == [(1, 1, payload(2, 1))]
            assert log.hard_state(1) == HardState(7, 0, 12)

    def test_discarding_leaves_the_accounts_as_they_were(self):
        wal = filled(SimulatedDisk(1), 3)
        mark = wal.mark()
        before = (wal.pending_bytes, wal.cached_bytes(), wal.needs_flush)
        append(wal, 1, 4, 5, 6)
        append(wal, 5, 1)
        wal.discard(mark)
        assert (wal.pending_bytes, wal.cached_bytes(), wal.needs_flush) == before
        assert wal._batch.live_bytes == 0

    def test_only_entries_can_be_discarded(self):
        wal = filled(SimulatedDisk(1), 3)
        mark = wal.mark()
        wal.set_hard_state(1, 2, 0, 0)
        with pytest.raises(AssertionError):
            wal.discard(mark)
        mark = wal.mark()
        wal.flush()
        with pytest.raises(AssertionError):
            wal.discard(mark)

    def test_recycling_on_a_full_disk_changes_nothing(self):
        disk = SimulatedDisk(1, quota=2 * SEGMENT)
        wal = open_wal(disk)
        append(wal, 2, 1, size=3 * BLOCK_BYTES)
        wal.flush()
        for index in range(1, 24):
            append(wal, 1, index)
            wal.flush()
        wal.compact(1, 23)
        pending = wal.pending_bytes
        with pytest.raises(DiskFull):
            wal.recycle()
        assert wal.pending_bytes == pending
        append(wal, 1, 24)
        wal.flush()
        disk.quota *= 2
        assert wal.recycle() == 2
        log = open_wal(disk)
        assert log.entries(2, 1, 2) == [(1, 1, payload(2, 1, 3 * BLOCK_BYTES))]
        assert log.entries(1, 24, 25) == [(24, 1, payload(1, 24))]

    def test_a_segment_opened_in_vain_leaves_no_gap(self):
        disk = SimulatedDisk(1)
        wal = filled(disk, 14)
        wal._find_room(2 * BLOCK_BYTES)
        assert wal._segments.live[-1].tail == 0
        append(wal, 1, 15, size=2 * SEGMENT)
        wal.flush()
        append(wal, 1, 16)
        wal.flush()
        log = open_wal(disk)
        assert [entry[0] for entry in log.entries(1, 1, 17)] == list(range(1, 17))


class TestLargeBatches:
    def test_larger_than_a_segment(self):
        disk = SimulatedDisk(1)
        wal = filled(disk, 2)
        append(wal, 1, 3, size=5 * SEGMENT)
        wal.flush()
        append(wal, 1, 4)
        wal.flush()
        log = open_wal(disk)
        assert log.entries(1, 2, 5) == [
            (2, 1, payload(1, 2)),
            (3, 1, payload(1, 3, 5 * SEGMENT)),
            (4, 1, payload(1, 4)),
        ]
        log.compact(1, 3)
        log.recycle()
        assert all(len(file.volatile) == SEGMENT for file in disk.files.values())

    def test_200_megabytes_on_a_real_disk(self, tmp_path):
        directory = RealLogDirectory(str(tmp_path / "log"))
        wal = Wal(directory, segment_bytes=1 << 20)
        block = os.urandom(1 << 20)
        wal.append_entries(3, [(1, 1, b"before"), (2, 1, block * 200)])
        wal.flush()
        wal.append_entries(3, [(3, 1, b"after")])
        wal.flush()
        wal.close()
        wal = Wal(directory, segment_bytes=1 << 20)
        entries = wal.entries(3, 1, 4)
        assert [entry[2] for entry in (entries[0], entries[2])] == [b"before", b"after"]
        assert entries[1][2] == block * 200
        wal.compact(3, 2)
        wal.recycle()
        assert wal.disk_bytes() <= 3 << 20
        wal.close()
        with pytest.raises(StorageError, match="closed"):
            wal.append_entries(3, [(4, 1, b"")])
