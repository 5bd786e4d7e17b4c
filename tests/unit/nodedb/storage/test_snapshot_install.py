"""Installing a snapshot: all or nothing, at one moment, while the loop goes on (PROTOCOL 63, 64)."""

import time
from zlib import crc32

import pytest

from nodedb.errors import DiskFull, MapFull
from nodedb.kv.effects import RowWrites
from nodedb.kv.group import DataGroup
from nodedb.storage.lmdb_engine import _DROP_PAGES_MAX
from nodedb.storage.log_file import RealLogDirectory
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.snapshot_digest import digest
from nodedb.storage.snapshot_format import (
    RUN_ROWS,
    Chunk,
    SnapshotCorrupted,
    SnapshotHeader,
    SnapshotOffer,
    SnapshotRefused,
    encode_header,
    encode_run,
    encode_trailer,
)
from nodedb.storage.snapshot_install import SnapshotLoad, settle_log
from nodedb.storage.snapshot_receive import SnapshotInbox
from nodedb.storage.stopped_store import ReadOnlyEngine
from nodedb.storage.wal import Wal
from tests.lib.snapshots import (
    CONFIGURATION,
    content,
    copy,
    fill,
    install,
    open_lmdb,
    read,
    receive,
)


def open_engine(kind, path, **options):
    return open_lmdb(path, **options) if kind == "lmdb" else MemoryEngine(**options)


@pytest.fixture(params=["lmdb", "memory"])
def kind(request):
    return request.param


@pytest.fixture
def source():
    engine = MemoryEngine()
    fill(engine, 6000)
    return engine


@pytest.fixture
def target(kind, tmp_path):
    engine = open_engine(kind, tmp_path / "target")
    yield engine
    engine.close()


@pytest.fixture
def directory(tmp_path):
    return RealLogDirectory(str(tmp_path / "recv_snapshots"))


@pytest.fixture
def inbox(directory):
    return SnapshotInbox(directory, disk_reserve_bytes=0)


def restart(engine, kind, path):
    """Return what is there after the process was killed."""
    if kind == "memory":
        engine.crash(keep_last_commit=True)
        return engine
    engine.abandon()
    engine.close()
    return open_lmdb(path)


def databases(engine):
    with engine._txn.cursor() as cursor:
        return [key.decode() for key in cursor.iternext(keys=True, values=False)]


def test_the_group_is_what_it_was_there(source, target, inbox, directory):
    fill(target, 50, seed=9, index=2)
    fill(target, 50, group=2, index=4)
    of_another_group = digest(target, 2)
    installed = copy(source, target, inbox)
    assert (installed.group_id, installed.index, installed.term) == (1, 7, 3)
    assert installed.configuration == CONFIGURATION
    assert digest(source, 1).difference(digest(target, 1)) == ""
    assert content(target)["group1.rows"] == content(source)["group1.rows"]
    assert digest(target, 2) == of_another_group
    assert target.applied(1) == (7, 3)
    assert directory.names() == []
    assert target.staged_names() == []


def test_what_the_snapshot_does_not_have_becomes_empty(source, target, inbox):
    target.space("group1.locks").put(b"of", b"before")
    target.set_applied(1, 1, 1)
    copy(source, target, inbox)
    assert target.space("group1.locks").count() == 0
    assert digest(source, 1).difference(digest(target, 1)) == ""


def test_reads_see_the_old_state_until_the_switch(source, target, inbox):
    fill(target, 300, seed=9, index=2)
    rows, meta = target.space("group1.rows"), target.space("group1.meta")
    before = content(target)
    load = SnapshotLoad(target, receive(inbox, read(source)))
    steps = 0
    for _ in load.slices():
        steps += 1
        assert content(target) == before
        assert target.applied(1) == (2, 3)
        rows.put(b"written meanwhile", b"%d" % steps)
        before["group1.rows"] = rows.scan(b"\0", None, 10_000)
        target.commit()
    assert steps > 3
    load.switch()
    # Objects that were opened before see the new state.
    assert rows.scan(b"\0", None, 10_000) == content(source)["group1.rows"]
    assert meta.get(b"group-state") == b"watermark 7"
    assert target.space("group1.rows") is rows
    assert rows.get(b"written meanwhile") is None
    rows.put(b"after", b"1")
    assert rows.get(b"after") == b"1"
    assert target.space("group1.history").get(b"L" * 600 + b"3") == b"long"


def test_a_snapshot_that_was_opened_before_still_reads_the_old_state(source, target, inbox):
    fill(target, 300, seed=9, index=2)
    before = content(target)["group1.rows"]
    open_before = target.read_snapshot()
    copy(source, target, inbox)
    target.commit()
    assert not target.trim_dropped()
    assert open_before.scan("group1.rows", b"\0", None, 1000) == before
    assert open_before.applied(1) == (2, 3)
    open_before.close()
    target.commit()
    assert digest(source, 1).difference(digest(target, 1)) == ""


def test_two_in_a_row_and_a_restart_after_each(kind, source, tmp_path, inbox):
    path = tmp_path / "other"
    target = open_engine(kind, path)
    for number in range(3):
        fill(source, 200, index=20 + number, seed=number)
        copy(source, target, inbox, snapshot_id=number)
        assert digest(source, 1).difference(digest(target, 1)) == ""
        target = restart(target, kind, path)
        assert digest(source, 1).difference(digest(target, 1)) == ""
        assert target.recyclable_applied(1) == 20 + number
        target.commit()
    if kind == "lmdb":
        names = databases(target)
        assert len([name for name in names if name.startswith("group1.rows")]) == 1
    target.close()


def test_one_that_goes_back_and_forth(tmp_path, source, inbox):
    """An installed generation is the source of the next snapshot."""
    first, second = open_lmdb(tmp_path / "1"), open_lmdb(tmp_path / "2")
    copy(source, first, inbox, snapshot_id=1)
    for number in range(3):
        one, other = (first, second) if number % 2 == 0 else (second, first)
        one.space("group1.rows").put(b"round", b"%d" % number)
        one.set_applied(1, 30 + number, 4)
        copy(one, other, inbox, snapshot_id=2 + number)
        assert digest(one, 1).difference(digest(other, 1)) == ""
    first.close()
    second.close()


class TestCrash:
    """The old state or the new one, and nothing is left over."""

    def test_during_the_load(self, kind, source, tmp_path, inbox):
        path = tmp_path / "other"
        target = open_engine(kind, path)
        fill(target, 300, seed=9, index=2)
        target.commit()
        before = digest(target, 1)
        received = receive(inbox, read(source))
        total = sum(1 for _ in SnapshotLoad(MemoryEngine(), received).slices())
        for stop_after in range(0, total, 2):
            received.is_installing = False  # As the receiver of the next process.
            steps = SnapshotLoad(target, received).slices()
            for _ in range(stop_after):
                next(steps)
                target.commit()
            target = restart(target, kind, path)
            assert target.staged_names() == []
            assert target.space_names() == sorted(before.spaces)
            assert digest(target, 1) == before
            target.commit()
            if kind == "lmdb":
                assert sorted(databases(target)) == [
                    "group1.history",
                    "group1.meta",
                    "group1.rows",
                    "nodedb.meta",
                ]
        # The file is still there: it is loaded again.
        received.is_installing = False
        install(target, received)
        assert digest(source, 1).difference(digest(target, 1)) == ""
        target.close()

    def test_between_the_load_and_the_switch(self, kind, source, tmp_path, inbox):
        path = tmp_path / "other"
        target = open_engine(kind, path)
        fill(target, 300, seed=9, index=2)
        before = digest(target, 1)
        received = receive(inbox, read(source))
        for _ in SnapshotLoad(target, received).slices():
            pass
        target.commit()
        target = restart(target, kind, path)
        assert digest(target, 1) == before
        target.close()

    def test_the_switch_is_durable_when_it_returns(self, source, inbox):
        """Even the power may fail: the next commit is not waited for."""
        target = MemoryEngine()
        fill(target, 300, seed=9, index=2)
        target.sync()
        copy(source, target, inbox)
        target.crash(keep_last_commit=False)
        assert digest(source, 1).difference(digest(target, 1)) == ""
        assert target.recyclable_applied(1) == 7

    def test_memory_falls_back_over_the_switch_as_over_any_commit(self, source, inbox):
        """What ``sync`` prevents: without it the old state may come back, whole."""
        target = MemoryEngine()
        fill(target, 300, seed=9, index=2)
        target.sync()
        before = digest(target, 1)
        load = SnapshotLoad(target, receive(inbox, read(source)))
        for _ in load.slices():
            pass
        for name in load._names:
            target.space(name).generation = target._staged.pop(name).generation
        target.set_applied(1, 7, 3)
        target.commit()
        target.crash(keep_last_commit=False)
        assert digest(target, 1) == before


class TestAppliedIndexes:
    """PROTOCOL rules 57, 61, 63."""

    def test_recyclable_is_the_snapshots_index_at_once(self, target, source, inbox):
        target.set_applied(1, 1, 1)
        target.set_applied(2, 5, 1)
        target.commit()
        target.set_applied(2, 6, 1)
        copy(source, target, inbox)
        assert target.recyclable_applied(1) == 7
        assert target.recyclable_applied(2) == 6
        target.set_applied(1, 8, 3)
        target.commit()
        assert target.recyclable_applied(1) == 7
        target.set_applied(1, 9, 3)
        target.commit()
        assert target.recyclable_applied(1) == 8

    def test_only_the_switch_may_be_beyond_the_log(self, kind, source, tmp_path, inbox):
        durable = {1: 3, 2: 10}
        target = open_engine(kind, tmp_path / "other", fsynced_index=durable.__getitem__)
        target.set_applied(1, 3, 1)
        target.set_applied(2, 10, 1)
        copy(source, target, inbox)
        target.space("group2.rows").put(b"a", b"b")
        target.commit()
        target.set_applied(2, 11, 1)
        with pytest.raises(AssertionError):
            target.commit()
        target.set_applied(2, 10, 1)
        target.set_applied(1, 8, 3)
        with pytest.raises(AssertionError):
            target.commit()
        durable[1] = 8
        target.commit()
        target.close()

    def test_others_put_their_state_and_the_group_loses_its_old_one(self, target, source, inbox):
        """Callbacks run before the switch: the machine's old state goes with the old rows."""

        def save():
            target.space("group1.meta").put(b"group-state", b"old state in memory")
            target.space("group2.meta").put(b"group-state", b"of the other group")

        target.before_commit(save)
        target.set_applied(1, 1, 1)
        copy(source, target, inbox)
        assert target.space("group1.meta").get(b"group-state") == b"watermark 7"
        assert target.space("group2.meta").get(b"group-state") == b"of the other group"

    def test_one_that_is_too_old_by_now_is_not_installed(self, target, source, inbox, directory):
        load = SnapshotLoad(target, receive(inbox, read(source)))
        for _ in load.slices():
            pass
        fill(target, 10, seed=9, index=7)
        before = content(target)
        with pytest.raises(SnapshotRefused, match="index 7, 7 is applied here"):
            load.switch()
        assert content(target) == before
        assert target.staged_names() == []
        assert directory.names() == []


class TestDataGroup:
    def test_it_goes_on_after_reload(self, target, inbox):
        source = MemoryEngine()
        leader = DataGroup(1, source)
        for number in range(1, 200):
            key = b"\0\0\0\1\0\1" + b"%03d" % (number % 50)
            leader.apply(RowWrites(number * 10, number, [(3, key, b"v%d" % number)]), number)
        leader.save()
        source.set_applied(1, 199, 5)
        follower = DataGroup(1, target)
        target.before_commit(follower.save)
        old = [(3, b"\0\0\0\1\0\1old", b"x")]
        follower.apply(RowWrites(5, 1, old), 1)
        target.set_applied(1, 1, 1)
        target.commit()
        copy(source, target, inbox)
        follower.reload()
        target.commit()
        assert digest(source, 1).difference(digest(target, 1)) == ""
        key = b"\0\0\0\1\0\1" + b"007"
        for timestamp in (75, 600, 5000):
            assert follower.read(key, timestamp) == leader.read(key, timestamp) is not None
        for group in (leader, follower):
            group.apply(RowWrites(5000, 500, [(3, key, b"next")]), 200)
            group.save()
        assert follower.newest(key) == b"next"
        assert follower.vshard_keys == leader.vshard_keys
        assert (digest(source, 1).spaces) == (digest(target, 1).spaces)


class TestFull:
    def test_no_room_in_the_map(self, kind, source, tmp_path, inbox):
        limit = {"map_bytes": 1 << 20} if kind == "lmdb" else {"size_max": 1 << 19}
        target = open_engine(kind, tmp_path / "other", **limit)
        fill(target, 10, seed=9, index=2)
        target.commit()
        before = content(target)
        received = receive(inbox, read(source))
        with pytest.raises(MapFull):
            install(target, received)
        assert target.staged_names() == []
        assert content(target) == before
        target.space("group1.rows").put(b"the node", b"lives on")
        target.commit()
        assert target.space("group1.rows").get(b"the node") == b"lives on"
        target.close()

    def test_no_room_on_the_disk(self, source, tmp_path, inbox):
        target = open_lmdb(tmp_path / "other", disk_reserve_bytes=1 << 60)
        received = receive(inbox, read(source))
        with pytest.raises(DiskFull):
            install(target, received)
        target.space("group1.rows").put(b"the node", b"lives on")
        target.commit()
        assert target.staged_names() == []
        target.close()

    def test_room_ends_in_the_middle(self, kind, source, tmp_path, inbox):
        """Others write meanwhile; what was loaded is given back."""
        limit = {"map_bytes": 1 << 22} if kind == "lmdb" else {"size_max": 1 << 22}
        target = open_engine(kind, tmp_path / "other", **limit)
        received = receive(inbox, read(source))
        with pytest.raises(MapFull):
            for step, _ in enumerate(SnapshotLoad(target, received).slices()):
                target.space("group2.rows").put(b"large%d" % step, bytes(700_000))
                target.commit()
        target.space("group2.rows").clear()
        for _ in range(3):
            target.commit()
        assert target.space_names() == ["group2.rows"]
        install(target, received)
        assert digest(source, 1).difference(digest(target, 1)) == ""
        target.close()


class TestCorrupted:
    """Bytes that have changed on this disk since they were received."""

    def test_any_changed_byte_is_found_before_the_switch(self, target, directory, inbox):
        source = MemoryEngine()
        fill(source, 20)
        source.drop_space("group1.history")
        reader = read(source)
        path = f"{directory.path}/1-7-3.partial"
        length = len(reader.chunk(0, 0.0).data)
        for position in range(0, length, 11):
            received = receive(inbox, reader)
            with open(path, "r+b") as file:
                file.seek(8192 + position)
                byte = file.read(1)
                file.seek(8192 + position)
                file.write(bytes([byte[0] ^ 1]))
            with pytest.raises(SnapshotCorrupted):
                install(target, received)
            assert target.staged_names() == []
            assert directory.names() == []
        copy(source, target, inbox)

    def received(self, inbox, *records, offer=(1, 7, 3)):
        """A stream whose CRCs are all right, of a sender with other ideas."""
        data = b"".join(records)
        offer = SnapshotOffer(1, *offer, 99, 1 << 20)
        receiver = inbox.begin(offer, applied_index=0, wall_now=0.0)
        receiver.accept(Chunk(99, 0, 0, crc32(data), True, data), 0.0)
        return receiver

    @pytest.mark.parametrize(
        "header",
        [
            SnapshotHeader(2, 7, 3, 99, b"", ()),
            SnapshotHeader(1, 8, 3, 99, b"", ()),
            SnapshotHeader(1, 7, 4, 99, b"", ()),
            SnapshotHeader(1, 7, 3, 98, b"", ()),
            SnapshotHeader(1, 7, 3, 99, b"", ("group2.rows",)),
            SnapshotHeader(1, 7, 3, 99, b"", ("nodedb.meta",)),
            SnapshotHeader(1, 7, 3, 99, b"voters", ("group1.meta",)),
        ],
    )
    def test_a_header_of_something_else(self, target, inbox, header):
        head = encode_header(header)
        with pytest.raises(SnapshotCorrupted):
            install(target, self.received(inbox, head, encode_trailer(0, crc32(head))))
        assert target.staged_names() == []

    def test_a_wrong_trailer_or_none_or_something_behind_it(self, target, inbox):
        head = encode_header(SnapshotHeader(1, 7, 3, 99, b"", ("group1.rows",)))
        run = encode_run(0, [(b"a", b"b")])
        good = encode_trailer(1, crc32(head + run))
        for records in (
            (head, run, encode_trailer(2, crc32(head + run))),
            (head, run, encode_trailer(1, 5)),
            (head, run),
            (head, run, good, run),
            (head, encode_run(1, [(b"a", b"b")]), good),
            (run, good),
            (good,),
            (head, run[:-1]),
            (head, head, good),
            (b"\xff" * 100,),
        ):
            with pytest.raises(SnapshotCorrupted):
                install(target, self.received(inbox, *records))
            assert target.staged_names() == []
            assert target.applied(1) == (0, 0)
        install(target, self.received(inbox, head, run, good))
        assert content(target) == {"group1.rows": [(b"a", b"b")]}


class TestTrim:
    def test_a_large_old_state_goes_in_steps(self, tmp_path, source, inbox):
        target = open_lmdb(tmp_path / "other")
        rows = target.space("group1.rows")
        rows.put_many([(b"%08d" % number, bytes(3000)) for number in range(_DROP_PAGES_MAX + 4000)])
        target.set_applied(1, 1, 1)
        target.commit()
        copy(source, target, inbox)
        steps = 0
        while target.trim_dropped():
            assert digest(source, 1).difference(digest(target, 1)) == ""
            steps += 1
            target.commit()
        assert steps >= 1
        assert sorted(databases(target)) == [
            "group1.history#1",
            "group1.meta#2",
            "group1.rows#3",
            "nodedb.meta",
        ]
        target.close()

    def test_commits_do_it_too_also_after_a_crash(self, tmp_path, source, inbox):
        target = open_lmdb(tmp_path / "other")
        rows = target.space("group1.rows")
        rows.put_many([(b"%08d" % number, bytes(3000)) for number in range(_DROP_PAGES_MAX + 9000)])
        target.set_applied(1, 1, 1)
        target.commit()
        copy(source, target, inbox)
        target = restart(target, "lmdb", tmp_path / "other")
        assert "group1.rows" in databases(target)
        for _ in range(20):
            target.commit()
        assert "group1.rows" not in databases(target)
        assert digest(source, 1).difference(digest(target, 1)) == ""
        target.close()

    def test_a_space_that_was_replaced_can_be_dropped_and_made_again(self, tmp_path, source, inbox):
        target = open_lmdb(tmp_path / "other")
        copy(source, target, inbox)
        target.drop_space("group1.history")
        assert "group1.history" not in target.space_names()
        target.commit()
        space = target.space("group1.history")
        assert space.count() == 0
        space.put(b"L" * 700, b"1")
        target.commit()
        target = restart(target, "lmdb", tmp_path / "other")
        assert target.space("group1.history").scan(b"\0", None, 10) == [(b"L" * 700, b"1")]
        target.close()


class TestSettleLog:
    """The crash between the switch and the log's reset."""

    @pytest.fixture
    def wal(self, tmp_path):
        self.engine = MemoryEngine()
        wal = Wal(
            RealLogDirectory(str(tmp_path / "log")),
            segment_bytes=1 << 20,
            compact_limit=self.engine.recyclable_applied,
        )
        yield wal
        wal.close()

    def applied(self, index, term):
        self.engine.set_applied(1, index, term)
        self.engine.sync()

    def test_a_log_that_ends_before_the_snapshot_begins_behind_it(self, wal, tmp_path):
        wal.append_entries(1, [(1, 1, b"a"), (2, 1, b"b")])
        wal.set_hard_state(1, 2, 0, 2)
        wal.flush()
        self.applied(7, 3)
        assert settle_log(wal, self.engine, 1)
        wal.flush()
        assert (wal.first_index(1), wal.last_index(1), wal.term_at(1, 7)) == (8, 7, 3)
        assert wal.hard_state(1) == (2, 0, 2)
        wal.close()
        again = Wal(RealLogDirectory(str(tmp_path / "log")), segment_bytes=1 << 20)
        assert (again.first_index(1), again.last_index(1), again.term_at(1, 7)) == (8, 7, 3)
        again.close()

    def test_an_empty_log_too(self, wal):
        self.applied(7, 3)
        assert settle_log(wal, self.engine, 1)
        assert (wal.first_index(1), wal.last_index(1)) == (8, 7)

    def test_a_log_with_another_entry_there_is_replaced(self, wal):
        wal.append_entries(1, [(index, 1, b"x") for index in range(1, 11)])
        wal.flush()
        self.applied(7, 3)
        assert settle_log(wal, self.engine, 1)
        assert (wal.first_index(1), wal.last_index(1)) == (8, 7)

    def test_a_log_that_holds_the_entry_stays(self, wal):
        wal.append_entries(1, [(index, 3, b"x") for index in range(1, 11)])
        wal.flush()
        assert not settle_log(wal, self.engine, 1)
        self.applied(7, 3)
        assert not settle_log(wal, self.engine, 1)
        wal.compact(1, 7)
        assert not settle_log(wal, self.engine, 1)
        assert wal.last_index(1) == 10

    def test_a_hole_between_state_and_log_is_not_hidden(self, wal):
        wal.append_entries(1, [(index, 3, b"x") for index in range(1, 11)])
        wal.flush()
        self.applied(9, 3)
        wal.compact(1, 9)
        self.engine.set_applied(1, 4, 3)
        assert not settle_log(wal, self.engine, 1)
        assert wal.last_index(1) == 10


class TestTwoLoadsOfOne:
    """A sender whose connection was cut offers the same snapshot again."""

    def test_the_second_is_refused_while_the_first_runs(self, target, source, inbox):
        reader = read(source)
        received = receive(inbox, reader)
        first = SnapshotLoad(target, received)
        steps = first.slices()
        next(steps)
        with pytest.raises(SnapshotRefused, match="being installed"):
            next(SnapshotLoad(target, received).slices())
        with pytest.raises(SnapshotRefused, match="being installed"):
            inbox.begin(reader.offer, applied_index=0, wall_now=0.0)
        for _ in steps:
            target.commit()
        first.switch()
        assert digest(source, 1).difference(digest(target, 1)) == ""

    def test_it_is_not_when_the_first_was_given_up(self, target, source, inbox):
        received = receive(inbox, read(source))
        steps = SnapshotLoad(target, received).slices()
        next(steps)
        next(steps)
        steps.close()
        assert target.staged_names() == []
        install(target, received)
        assert digest(source, 1).difference(digest(target, 1)) == ""

    def test_groups_are_loaded_beside_each_other(self, target, source, inbox):
        fill(source, 500, group=2, seed=5)
        loads = [SnapshotLoad(target, receive(inbox, read(source, group))) for group in (1, 2)]
        steps = [load.slices() for load in loads]
        while steps:
            for one in list(steps):
                if next(one, None) is None:
                    steps.remove(one)
            target.commit()
        loads[1].switch()
        assert digest(source, 2).difference(digest(target, 2)) == ""
        assert target.applied(1) == (0, 0)
        loads[0].switch()
        assert digest(source, 1).difference(digest(target, 1)) == ""


def test_a_reader_of_the_stopped_store_sees_what_the_next_start_sees(tmp_path, source, inbox):
    """Amid a load, with a replaced generation that is still to be removed."""
    target = open_lmdb(tmp_path / "other")
    fill(target, 50, seed=9, index=2)
    copy(source, target, inbox)
    fill(source, 100, index=9, seed=4)
    steps = SnapshotLoad(target, receive(inbox, read(source, snapshot_id=5))).slices()
    next(steps)
    next(steps)
    target.commit()
    expected = digest(target, 1)
    target.abandon()
    target.close()
    looking = ReadOnlyEngine(str(tmp_path / "other"))
    assert digest(looking, 1) == expected
    assert looking.space_names() == ["group1.history", "group1.meta", "group1.rows"]
    assert looking.space("group1.history").get(b"L" * 600 + b"3") == b"long"
    assert looking.applied_groups() == [1]
    looking.close()
    target = open_lmdb(tmp_path / "other")
    assert digest(target, 1) == expected
    target.close()


def test_two_hundred_thousand_rows(tmp_path, directory):
    """From engine to engine; prints what it cost. The loop is never stopped for long."""
    source, target = open_lmdb(tmp_path / "source"), open_lmdb(tmp_path / "target")
    rows = source.space("group1.rows")
    for start in range(0, 200_000, 5000):
        rows.put_many([(b"key%08d" % n, b"%d" % n * 20) for n in range(start, start + 5000)])
    fill(target, 2000, seed=9, index=2)
    source.set_applied(1, 200_000, 3)
    source.commit()
    inbox = SnapshotInbox(directory, disk_reserve_bytes=0)
    started = time.perf_counter()
    reader = read(source)
    received = receive(inbox, reader)
    byte_count = received.stream_bytes
    received_at = time.perf_counter()
    load = SnapshotLoad(target, received)
    steps = []
    before = time.perf_counter()
    for _ in load.slices():
        steps.append(time.perf_counter() - before)
        before = time.perf_counter()
    load.switch()
    done = time.perf_counter()
    print(
        f"200,000 rows, {byte_count:,} bytes, {reader.chunk_count} chunks: "
        f"sent and received in {received_at - started:.2f} s, "
        f"installed in {done - received_at:.2f} s, "
        f"{len(steps)} slices, median {sorted(steps)[len(steps) // 2] * 1000:.1f} ms"
    )
    assert len(steps) >= 200_000 // RUN_ROWS
    assert sorted(steps)[len(steps) // 2] < 0.02
    assert digest(source, 1).difference(digest(target, 1)) == ""
    assert target.space("group1.rows").count() == 200_000
    reader.close()
    source.close()
    target.close()
