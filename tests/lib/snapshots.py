"""Groups with rows, and snapshots that go from one engine to another."""

import random
from collections.abc import Iterator

from nodedb.storage.engine import Engine
from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.snapshot_format import (
    CONFIGURATION_KEY,
    Chunk,
    ResumePoint,
    configuration_space,
    decode_chunk,
    encode_chunk,
)
from nodedb.storage.snapshot_install import InstalledSnapshot, SnapshotLoad
from nodedb.storage.snapshot_receive import SnapshotInbox, SnapshotReceiver
from nodedb.storage.snapshot_source import SnapshotReader

GROUP = 1
CONFIGURATION = b"voters 1 2 3"


def open_lmdb(path: object, **options) -> LmdbEngine:
    options.setdefault("map_bytes", 1 << 30)
    options.setdefault("disk_reserve_bytes", 0)
    return LmdbEngine(str(path), **options)


def fill(
    engine: Engine, rows: int, *, index: int = 7, term: int = 3, seed: int = 1, group: int = GROUP
) -> None:
    """Give a group rows of several sizes, with keys beyond LMDB's limit, and other spaces."""
    source = random.Random(seed)
    space = engine.space(f"group{group}.rows")
    for start in range(0, rows, 1000):
        space.put_many(
            [
                (b"key%08d" % number, source.randbytes(source.choice((0, 20, 200))))
                for number in range(start, min(rows, start + 1000))
            ]
        )
    history = engine.space(f"group{group}.history")
    history.put_many([(b"L" * 600 + b"%d" % number, b"long") for number in range(5)])
    history.put(b"large", source.randbytes(300_000))
    meta = engine.space(configuration_space(group))
    meta.put(CONFIGURATION_KEY, CONFIGURATION)
    meta.put(b"group-state", b"watermark %d" % index)
    engine.set_applied(group, index, term)


def read(engine: Engine, group: int = GROUP, *, snapshot_id: int = 99, **options) -> SnapshotReader:
    return SnapshotReader(engine, group, snapshot_id=snapshot_id, now=0.0, **options)


def chunks(reader: SnapshotReader, number: int = 0) -> Iterator[Chunk]:
    """Yield the chunks from a number on, as they come out of a connection."""
    while True:
        chunk = decode_chunk(encode_chunk(reader.chunk(number, 0.0)))
        yield chunk
        if chunk.is_last:
            return
        number += 1


def receive(
    inbox: SnapshotInbox, reader: SnapshotReader, *, applied_index: int = 0
) -> SnapshotReceiver:
    """Transfer what the receiver does not have yet."""
    receiver = inbox.begin(reader.offer, applied_index=applied_index, wall_now=0.0)
    point: ResumePoint = receiver.resume_point()
    number = reader.resume(point)
    if not receiver.is_complete:
        for chunk in chunks(reader, number):
            receiver.accept(chunk, 0.0)
    assert receiver.is_complete
    return receiver


def install(
    engine: Engine, received: SnapshotReceiver, *, commit_bytes: int = 1 << 22
) -> InstalledSnapshot:
    """Load in slices, with the commits that the loop would make, and switch."""
    load = SnapshotLoad(engine, received)
    uncommitted = 0
    for byte_count in load.slices():
        uncommitted += byte_count
        if uncommitted >= commit_bytes:
            engine.commit()
            uncommitted = 0
    return load.switch()


def copy(source: Engine, target: Engine, inbox: SnapshotInbox, **options) -> InstalledSnapshot:
    """Bring a snapshot of the source into the target."""
    reader = read(source, **options)
    try:
        return install(target, receive(inbox, reader))
    finally:
        reader.close()


def content(engine: Engine) -> dict[str, list[tuple[bytes, bytes]]]:
    """Return all that is in an engine."""
    return {name: engine.space(name).scan(b"\0", None, 1 << 30) for name in engine.space_names()}
