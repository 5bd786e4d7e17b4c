"""A table that sessions write at random while one of its indexes is built, on a simulated node."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from cluster.ids import METADATA_GROUP
from cluster.metadata.command import CatalogChange as CatalogChangeCommand
from cluster.metadata.command import encode_command
from nodedb.catalog.changes import CatalogOverlay
from nodedb.kv.keys import HEADER_BYTES, index_prefix, prefix_range
from nodedb.kv.locks import ROW_EXCLUSIVE
from nodedb.schema_change import build as build_module
from nodedb.schema_change.build import BuildServices, IndexBuild
from nodedb.schema_change.manager import SchemaChanges
from nodedb.schema_change.records import BuildRecord, build_key, write_record
from nodedb.txn.table_codec import codec_of
from nodedb.waiter import Waiter
from sql.ast.query import BooleanLiteral
from sql.catalog.descriptor import Database, Index, IndexKey, Schema, Table
from sql.errors import DeadlockDetected, UniqueViolation
from sql.executor.store import IndexEntryMaker, TableAccess
from sql.types.catalog import INT4
from tests.fault.simulated_disk import PowerLoss, SimulatedDisk
from tests.lib.catalog_fixture import make_table
from tests.unit.nodedb.txn.simulation import SimulatedNode, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from nodedb.txn.transaction import Transaction

TABLE_ID, INDEX_OID = 20000, 20001
KEYS = 12
KINDS = ("plain", "unique", "partial", "partial unique")


def make_index(kind: str) -> Index:
    return Index(
        id=INDEX_OID,
        name="t_value",
        index_id=2,
        keys=(IndexKey(position=1),),
        unique="unique" in kind,
        # Never bound here: ``access_of`` stands for it.
        predicate=BooleanLiteral(True) if "partial" in kind else None,
    )


def access_of(kind: str) -> Callable[[Table], TableAccess]:
    """Return what compiles the index's predicate: even values only."""
    if "partial" not in kind:
        return TableAccess
    maker = IndexEntryMaker(2, lambda row: (row[1],) if row[1] is None or row[1] % 2 == 0 else None)
    return lambda table: TableAccess(table, (maker,))


class Failed(Exception):
    """A writer's statement failed as the test's own doing."""


class World:
    """A node with one table, its writers and the builds of its index; all chance is the seed's."""

    def __init__(self, seed: int, kind: str = "plain", *, values: int = 1000) -> None:
        self.seed = seed
        self.kind = kind
        self.values = values
        self.chance = random.Random(seed)
        self.node = SimulatedNode(SimulatedDisk(seed), segment_bytes=1 << 16)
        self.paused: list[Waiter[None]] = []
        self.tasks: list[Task] = []
        self.violations = self.deadlocks = 0
        self.outcome: BaseException | None = None
        self.is_built = False
        self._wire()
        table = make_table("t", [("id", INT4), ("value", INT4)], ["id"], table_id=TABLE_ID)
        database = Database(id=5, name="d")
        schema = Schema(id=2200, name="public", database_id=5)
        self.change_catalog(database, schema, table)

    def _wire(self) -> None:
        node = self.node
        self.changes = SchemaChanges(
            BuildServices(
                node.transactions, node.metadata, node.schedule, access_of(self.kind), lambda: 0
            ),
            self._next_process_id,
        )

    def _next_process_id(self) -> int:
        self.node._next_process_id += 1
        return self.node._next_process_id

    def change_catalog(self, *descriptors: Any) -> None:
        overlay = CatalogOverlay(self.node.metadata.catalog)
        for descriptor in descriptors:
            overlay.put(descriptor)
        changes = overlay.changes()
        assert changes is not None
        command = CatalogChangeCommand(changes.encode())
        self.node.replicator.propose(METADATA_GROUP, encode_command(command), command)
        self.node.schedule.run()

    @property
    def table(self) -> Table:
        found = self.node.metadata.catalog.table(TABLE_ID)
        assert found is not None
        return found

    async def pause(self) -> None:
        """Wait until the test's chance picks this session."""
        waiter: Waiter[None] = Waiter()
        self.paused.append(waiter)
        await waiter

    # Writers

    async def session(self, count: int, *, rows_max: int) -> None:
        for _ in range(count):
            transaction = self.node.begin()
            try:
                for _ in range(self.chance.randrange(1, rows_max + 1)):
                    mark = transaction.mark()
                    await self.statement(transaction)
                    if self.chance.random() < 0.1:
                        self.node.transactions.rollback_to(transaction, mark, release_locks=True)
                if self.chance.random() < 0.15:
                    raise Failed
            except (UniqueViolation, DeadlockDetected, Failed) as error:
                self.violations += isinstance(error, UniqueViolation)
                self.deadlocks += isinstance(error, DeadlockDetected)
                self.node.transactions.rollback(transaction)
                continue
            await self.node.transactions.commit(transaction)
            await self.pause()

    async def statement(self, transaction: Transaction) -> None:
        """Insert, update or delete one row as a session does: lock the table, then look at it."""
        manager, chance = self.node.transactions, self.chance
        while not manager.locks.try_acquire(transaction, TABLE_ID, ROW_EXCLUSIVE):
            await manager.wait_for_lock(transaction, TABLE_ID, ROW_EXCLUSIVE)
        table = self.table
        access = access_of(self.kind)(table)
        store = manager.statement_store(transaction)
        await self.pause()
        row = (chance.randrange(KEYS), chance.choice((None, chance.randrange(self.values))))
        old = await store.get(table, (row[0],))
        if old is None:
            await store.insert(access, [row])
        else:
            mode = chance.choice(("update", "no key update"))
            ((newest, _),) = await store.lock(table, [old], mode, "wait")
            await self.pause()
            choice = chance.random()
            if newest is not None and choice < 0.35:
                await store.delete(access, [newest])
            elif newest is not None and choice < 0.5 and mode == "update":
                await store.update(access, [newest], [(chance.randrange(KEYS), newest[1])])
            elif newest is not None:
                await store.update(access, [newest], [(newest[0], row[1])])
        manager.end_statement(transaction)

    # The build

    async def build(self) -> None:
        """CREATE INDEX, as the session does it."""
        await self.pause()
        node = self.node
        transaction = node.begin()
        record = BuildRecord(table_id=TABLE_ID, keeps_invalid=False, command="CREATE INDEX")
        build = self.changes.prepare(INDEX_OID, record, transaction.process_id, 0)
        write_record(transaction, build_key(INDEX_OID), record)
        table = self.table
        index = msgspec.structs.replace(make_index(self.kind), state="delete_only")
        overlay = CatalogOverlay(node.metadata.catalog)
        overlay.put(msgspec.structs.replace(table, indexes=(index,), next_index_id=3))
        changes = overlay.changes()
        assert changes is not None
        await node.transactions.commit(transaction, changes.encode)
        await self.follow(build)

    async def follow(self, build: IndexBuild) -> None:
        waiter = build.follow()
        self.changes.start(build)
        try:
            await waiter
        except (UniqueViolation, DeadlockDetected) as error:
            self.outcome = error
        self.is_built = True

    # Interleaving

    def start(self, sessions: int, count: int, *, rows_max: int = 3, builds: bool = True) -> None:
        coroutines = [self.session(count, rows_max=rows_max) for _ in range(sessions)]
        if builds:
            coroutines.append(self.build())
        self.paused = []
        self.tasks = [Task(coroutine) for coroutine in coroutines]

    def run(self) -> None:
        """Interleave until all have ended."""
        chance, schedule = self.chance, self.node.schedule
        idle = 0
        while not all(task.done for task in self.tasks):
            if self.paused and chance.random() < 0.6:
                self.paused.pop(chance.randrange(len(self.paused))).set_result(None)
            elif schedule.ready:
                schedule.turn()
            else:
                schedule.advance(0.02)
            if chance.random() < 0.1:
                self.node.transactions.collect(b"\0", 20)
            idle = 0 if self.paused or schedule.ready else idle + 1
            assert idle < 1000, f"seed {self.seed}: everybody waits"
        for task in self.tasks:
            task.result()
        self.settle()

    def settle(self) -> None:
        """Let what runs on its own come to its end."""
        for _ in range(50):
            self.node.schedule.run()
            self.node.schedule.advance(0.05)

    def crash(self) -> None:
        """Lose the power, and start again on what is left."""
        Task.bury(self.tasks)
        for build in self.changes._builds.values():
            build._followers.clear()
        keep = self.chance.random() < 0.5
        self.node = self.node.restarted(
            keep_last_commit=keep, power_loss=self.chance.random() < 0.8
        )
        self._wire()
        self.changes.resume()

    # What must be true

    def entries(self) -> dict[bytes, bytes]:
        """Return all that is stored of the index."""
        start, end = prefix_range(index_prefix(self.table.storage_id, 2))
        items = self.node.group.rows.scan(start, end, 1 << 30)
        return {key: value[HEADER_BYTES:] for key, value in items if len(value) > HEADER_BYTES}

    def expected(self) -> dict[bytes, bytes]:
        """Return what the table's rows should have in the index."""
        codec = codec_of(self.table)
        index = codec.index_by_id[2]
        makers = dict(access_of(self.kind)(self.table).makers)
        result = {}
        start, end = codec.rows.whole()
        items, _ = self.node.group.scan(start, end, self.node.group.last_timestamp, 1 << 30)
        for _, payload in items:
            row = codec.decode(payload)
            values = makers[2](row) if makers else (row[1],)
            if values is not None:
                key, _ = index.entry_key(values, (row[0],))
                assert key not in result, f"seed {self.seed}: two rows with {values}"
                result[key] = codec.encode_clustering((row[0],))
        return result

    def check(self) -> str:
        """Compare the index with the table; return its state, "gone" when it was removed."""
        node = self.node
        label = f"seed {self.seed} kind {self.kind}"
        assert node.fatal is None, label
        assert len(node.transactions.locks) == 0, label
        assert not node.transactions._active, label
        assert not self.changes._builds, label
        assert not self.changes.rows(), label
        if not self.table.indexes:
            node.transactions.raise_watermark(node.group.last_timestamp)
            node.schedule.run()
            position: bytes | None = b"\0"
            while position is not None:
                position, _ = node.transactions.collect(position, 100)
            assert self.entries() == {}, label
            return "gone"
        assert self.table.indexes[0].state == "public", label
        assert self.entries() == self.expected(), label
        return "public"


def small_batches(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Make a backfill of few rows one of many batches."""
    monkeypatch.setattr(build_module, "BATCH_ROWS", rows)


def run_until_power_loss(world: World) -> bool:
    """Run, and tell whether the power failed."""
    try:
        world.run()
    except PowerLoss:
        return True
    return False
