"""The metadata group's state: catalog and timestamp window, over commits and crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.metadata.command import (
    Batch,
    CatalogChange,
    TimestampWindow,
    UnknownCommand,
    encode_command,
)
from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.metadata import MetadataState
from nodedb.storage.memory_engine import MemoryEngine

if TYPE_CHECKING:
    from sql.catalog.snapshot import CatalogSnapshot


def test_the_catalog_comes_back_from_the_engine() -> None:
    engine = MemoryEngine()
    state = MetadataState(engine)
    seen: list[CatalogSnapshot] = []
    state.on_catalog_change.append(seen.append)
    state.apply(CatalogChange(bootstrap_catalog("").encode()), 7)
    state.apply(TimestampWindow(500), 8)
    assert seen == [state.catalog]
    assert state.catalog.schema_version == 7
    state.save()
    engine.commit()
    again = MetadataState(engine)
    assert again.catalog.schema_version == 7
    assert again.catalog.next_id == state.catalog.next_id
    assert again.timestamp_window == 500
    assert again.catalog.role("nodedb") == state.catalog.role("nodedb") is not None


def test_a_window_never_falls_and_a_batch_takes_effect_together() -> None:
    state = MetadataState(MemoryEngine())
    change = CatalogChange(bootstrap_catalog("").encode())
    state.apply_payload(encode_command(Batch((TimestampWindow(9), change))), 3)
    state.apply(TimestampWindow(4), 4)
    assert state.timestamp_window == 9
    assert state.catalog.schema_version == 3


def test_a_foreign_entry_stops_the_replica() -> None:
    with pytest.raises(UnknownCommand):
        MetadataState(MemoryEngine()).apply_payload(b"\xff", 1)
