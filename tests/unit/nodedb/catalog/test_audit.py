"""The audit of catalog changes: one record per entry, the newest kept, durable with the entry."""

from nodedb.catalog.audit import Audit
from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.changes import CatalogChange
from nodedb.catalog.metadata import MetadataState
from nodedb.storage.memory_engine import MemoryEngine


def change(number: int) -> CatalogChange:
    return CatalogChange(
        user="alice",
        statements=(f"CREATE TABLE {number}",),
        process_id=number,
        client="192.0.2.1",
        committed_at=7,
    )


def test_records_come_in_the_order_of_the_log() -> None:
    audit = Audit(MemoryEngine())
    for index in (3, 5, 300):
        audit.note(change(index), index)
    assert [record.index for record in audit.records()] == [3, 5, 300]
    (first, *_) = audit.records()
    assert (first.user, first.process_id, first.client, first.committed_at) == (
        "alice",
        3,
        "192.0.2.1",
        7,
    )
    assert first.statements == ("CREATE TABLE 3",)


def test_several_changes_of_one_entry_are_several_records() -> None:
    audit = Audit(MemoryEngine())
    for number in range(3):
        audit.note(change(number), 9)
    assert [record.process_id for record in audit.records()] == [0, 1, 2]


def test_the_oldest_go() -> None:
    engine = MemoryEngine()
    audit = Audit(engine, entries_max=10)
    for index in range(1, 26):
        audit.note(change(index), index)
    assert [record.index for record in audit.records()] == list(range(16, 26))
    again = Audit(engine, entries_max=10)
    again.note(change(26), 26)
    assert [record.index for record in again.records()] == list(range(17, 27))


def test_the_count_of_changes_survives_a_start() -> None:
    engine = MemoryEngine()
    state = MetadataState(engine)
    for index in (1, 4):
        state._apply_catalog(bootstrap_catalog().encode(), index)
    state.save()
    started = MetadataState(engine)
    assert started.change_count == 2
    assert started.catalog.schema_version == 4
    assert [record.index for record in started.audit.records()] == [1, 4]
