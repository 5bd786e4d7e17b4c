"""A transaction of rows and DDL is two groups' entries in one flush: all of it survives, or nothing.

The same commit is run again and again, and each time the node dies at the next of all the places
that it passes (``nodedb.kv.fault_points``): while its log is written and synced, between the
entries as they are applied, around the engine's commit. After the restart catalog and rows agree.
"""

import msgspec
import pytest

from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.changes import Author, CatalogOverlay
from nodedb.kv.fault_points import Place
from nodedb.kv.keys import index_prefix, storage_prefix
from nodedb.txn.manager import LONG_ROWS
from nodedb.txn.transaction import Transaction
from sql.catalog.descriptor import Column, Table
from sql.errors import DiskFull
from tests.fault.simulated_disk import SimulatedDisk
from tests.unit.nodedb.txn.simulation import SimulatedNode, Task

OLD, NEW = 20_000, 20_010
FEW, MANY = 3, LONG_ROWS + 1
# Of a crash: whether the power fails, whether the engine's last commit is still there.
LOSSES = ((True, False), (True, True), (False, False), (False, True))
WHOLE = {Place.LOG_WRITE_HALF, Place.FDATASYNC_AFTER, Place.APPLY_ENTRY, Place.COMMIT_SAVED}


class Crash(BaseException):
    """The node dies here."""


class Dying:
    """Notes the places passed; dies at one of them, by number."""

    def __init__(self, fatal: int | None) -> None:
        self.passed: list[Place] = []
        self.is_armed = False
        self._fatal = fatal

    def __call__(self, place: Place) -> None:
        if self.is_armed:
            self.passed.append(place)
            if len(self.passed) - 1 == self._fatal:
                raise Crash


def table(number: int, name: str) -> Table:
    column = Column(name="id", type_oid=20, position=0, number=1, not_null=True)
    return Table(
        id=number,
        name=name,
        schema_id=2200,
        storage_id=number,
        columns=(column,),
        clustering_key=(0,),
    )


def key(storage_id: int, number: int) -> bytes:
    return index_prefix(storage_id, 1) + number.to_bytes(4, "big")


def overlay_of(node: SimulatedNode) -> CatalogOverlay:
    return CatalogOverlay(node.metadata.catalog)


async def commit(node: SimulatedNode, transaction: Transaction, overlay: CatalogOverlay) -> int:
    change = overlay.changes(Author("somebody", 7, "192.0.2.1", 5))
    assert change is not None
    await node.transactions.prepare_commit(transaction)
    return await node.transactions.commit(transaction, change.encode)


def prepared_node(disk: SimulatedDisk, dying: Dying) -> SimulatedNode:
    """Return a node with one table of rows, which the engine has committed."""
    node = SimulatedNode(disk, pass_place=dying)
    overlay = overlay_of(node)
    for descriptor in bootstrap_catalog().puts:
        overlay.put(descriptor)
    overlay.put(table(OLD, "old"))
    transaction = node.begin()
    for number in range(FEW):
        transaction.put(key(OLD, number), b"old", 0)
    node.finish(commit(node, transaction, overlay))
    node.schedule.advance(1)
    return node


def begin_change(node: SimulatedNode, row_count: int, payload: bytes = b"new") -> Task:
    """Replace the table by another one with rows, in a transaction that is being committed."""
    overlay = overlay_of(node)
    overlay.delete(OLD)
    overlay.put(table(NEW, "new"))
    overlay.put(msgspec.structs.replace(table(NEW + 1, "other"), comment="x"))
    overlay.statements += ["DROP TABLE", "CREATE TABLE", "CREATE TABLE"]
    transaction = node.begin()
    for number in range(row_count):
        transaction.put(key(NEW, number), payload, 0)
    transaction.cleared.append(storage_prefix(OLD))
    return node.start(commit(node, transaction, overlay))


def is_changed(node: SimulatedNode, row_count: int) -> bool:
    """Tell whether the change is there; it must be there in all respects, or in none."""
    catalog, rows = node.metadata.catalog, node.group.rows
    facts = {
        "new table": catalog.table(NEW) is not None,
        "other table": catalog.table(NEW + 1) is not None,
        "old table gone": catalog.table(OLD) is None,
        "rows": len(rows.scan(key(NEW, 0), key(NEW + 1, 0), 1 << 30)) == row_count,
        "some row": rows.get(key(NEW, 0)) is not None,
        "visible": node.group.read(key(NEW, 0), node.group.last_timestamp) is not None,
        "old rows are cleared": storage_prefix(OLD) in node.group.clearing,
        "audit": [r.statements for r in node.metadata.audit.records()][-1][:1] == ("DROP TABLE",),
        "count": node.metadata.change_count == 2,
    }
    assert len(set(facts.values())) == 1, facts
    return facts["new table"]


def run(fatal: int | None, row_count: int) -> tuple[Dying, SimulatedNode, Task | None]:
    """Run the change up to a place; the node is dead there, or has done all of it."""
    dying = Dying(fatal)
    node = prepared_node(SimulatedDisk(1), dying)
    dying.is_armed = True
    task = None
    try:
        task = begin_change(node, row_count)
        node.schedule.run()
        node.schedule.advance(1)
        node.schedule.advance(1)
    except Crash:
        pass
    return dying, node, task


@pytest.mark.parametrize("row_count", [FEW, MANY])
def test_whatever_place_it_dies_at_all_or_nothing_is_there(row_count: int) -> None:
    whole, _, task = run(None, row_count)
    assert task is not None
    assert task.done
    assert set(whole.passed) >= WHOLE, whole.passed
    assert whole.passed.count(Place.APPLY_ENTRY) >= 3, "rows, cleared storage, catalog"
    outcomes = []
    for number, place in enumerate(whole.passed):
        for power_loss, keep_last_commit in LOSSES if row_count == FEW else LOSSES[:1]:
            dying, node, task = run(number, row_count)
            assert dying.passed == whole.passed[: number + 1], "not the same run"
            is_acknowledged = task is not None and task.done and task.error is None
            if task is not None:
                Task.bury([task])
            after = node.restarted(keep_last_commit=keep_last_commit, power_loss=power_loss)
            case = (number, place, power_loss, keep_last_commit)
            outcomes.append(is_changed(after, row_count))
            assert outcomes[-1] or not is_acknowledged, case
            again = after.restarted()
            assert is_changed(again, row_count) == outcomes[-1], case
    assert len(set(outcomes)) == 2, "it never dies before, or never after the decision"


def test_a_full_disk_refuses_rows_and_catalog_together() -> None:
    node = prepared_node(SimulatedDisk(1), Dying(None))
    node.disk.quota -= node.disk.free_bytes()
    task = begin_change(node, FEW, b"x" * (1 << 20))
    node.schedule.run()
    with pytest.raises(DiskFull):
        task.result()
    assert not is_changed(node, FEW)
    node.disk.quota += 1 << 30
    task = begin_change(node, FEW)
    node.schedule.run()
    assert task.result()
    assert is_changed(node, FEW)
    assert is_changed(node.restarted(), FEW)
