"""One node's transactions without a loop, a clock or a disk.

Everything runs when the test says so, and can lose its power.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.oracle import TimestampOracle, pack_timestamp
from nodedb.catalog.metadata import MetadataState
from nodedb.kv.fault_log import FaultDirectory, FaultFlusher
from nodedb.kv.fault_points import PassPlace, pass_none
from nodedb.kv.group import DataGroup
from nodedb.kv.replicator import Replicator
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.wal import Wal
from nodedb.txn.manager import TransactionManager
from nodedb.txn.sequences import Sequences
from nodedb.waiter import Interrupts, Runner
from tests.fault.simulated_disk import SimulatedDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nodedb.errors import StorageError
    from nodedb.txn.transaction import Transaction

START_US = 1_700_000_000_000_000


class SimulatedTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class SimulatedSchedule:
    """A loop's turns and timers; ``wall_us`` and ``monotonic`` advance with ``advance`` only."""

    def __init__(self) -> None:
        self.ready: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[float, SimulatedTimer]] = []
        self.seconds = 0.0
        self.wall_step_us = 0

    def soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> SimulatedTimer:
        timer = SimulatedTimer(callback)
        self.timers.append((self.seconds + seconds, timer))
        return timer

    def wall_us(self) -> int:
        return START_US + int(self.seconds * 1_000_000) + self.wall_step_us

    def monotonic(self) -> float:
        return self.seconds

    def turn(self) -> None:
        """Run what is ready now, not what that makes ready."""
        for _ in range(len(self.ready)):
            self.ready.popleft()()

    def run(self) -> None:
        """Run until nothing is ready."""
        while self.ready:
            self.turn()

    def advance(self, seconds: float) -> None:
        """Let time pass; run the timers that are due."""
        self.seconds += seconds
        due = [timer for at, timer in self.timers if at <= self.seconds]
        self.timers = [entry for entry in self.timers if entry[0] > self.seconds]
        for timer in due:
            if timer.callback is not None:
                timer.callback()
        self.run()


class SimulatedNode:
    """What a node is made of below its sessions.

    Replicator, data group, metadata and transactions over a simulated disk and an engine in memory.
    """

    def __init__(
        self,
        disk: SimulatedDisk | None = None,
        engine: MemoryEngine | None = None,
        *,
        schedule: SimulatedSchedule | None = None,
        segment_bytes: int = 1 << 20,
        pass_place: PassPlace = pass_none,
    ) -> None:
        self.disk = disk or SimulatedDisk(1)
        self.engine = engine or MemoryEngine()
        self.schedule = schedule or SimulatedSchedule()
        self.segment_bytes = segment_bytes
        self.fatal: StorageError | None = None
        directory = FaultDirectory(self.disk, pass_place)
        self.wal = Wal(
            directory,
            segment_bytes=segment_bytes,
            compact_limit=self.engine.recyclable_applied,
            flusher=FaultFlusher(pass_place),
        )
        directory.is_recovering = False
        self.engine._fsynced_index = self.wal.durable_index
        self.replicator = Replicator(
            self.wal, self.engine, self.schedule, self._on_fatal, pass_place
        )
        self.metadata = MetadataState(self.engine)
        self.group = DataGroup(FIRST_DATA_GROUP, self.engine)
        self.replicator.start_group(METADATA_GROUP, self.metadata)
        self.replicator.start_group(FIRST_DATA_GROUP, self.group)
        self.oracle = TimestampOracle(
            max(self.metadata.timestamp_window, self.group.last_timestamp, pack_timestamp(1))
        )
        self.transactions = TransactionManager(
            group=self.group,
            replicator=self.replicator,
            oracle=self.oracle,
            clock=self.schedule,
            schedule=self.schedule,
        )
        self.sequences = Sequences(self.transactions)
        self._next_process_id = 1

    def _on_fatal(self, error: StorageError) -> None:
        self.fatal = error

    def begin(self) -> Transaction:
        """Start a transaction of a session of its own."""
        self._next_process_id += 1
        return self.transactions.begin(self._next_process_id, Interrupts())

    def restarted(self, *, keep_last_commit: bool = True, power_loss: bool = True) -> SimulatedNode:
        """Crash, and return the node that starts on what is left."""
        if power_loss:
            self.disk.power_loss()
        else:
            self.disk.kill()
        self.engine.crash(keep_last_commit=keep_last_commit)
        schedule = SimulatedSchedule()
        schedule.seconds = self.schedule.seconds
        return SimulatedNode(
            self.disk, self.engine, schedule=schedule, segment_bytes=self.segment_bytes
        )

    def start(self, coroutine: Coroutine[Any, None, Any]) -> Task:
        """Run a coroutine until it waits."""
        return Task(coroutine)

    def finish(self, coroutine: Coroutine[Any, None, Any]) -> Any:
        """Run a coroutine and the loop to its end; return its result or raise its error."""
        task = Task(coroutine)
        self.schedule.run()
        return task.result()


class Task:
    """A coroutine on a ``Runner``."""

    def __init__(self, coroutine: Coroutine[Any, None, Any]) -> None:
        self.done = False
        self.error: BaseException | None = None
        self._value: Any = None
        self.coroutine = self._run(coroutine)
        self.runner = Runner(self.coroutine, self._finished)
        self.runner.step()

    async def _run(self, coroutine: Coroutine[Any, None, Any]) -> None:
        self._value = await coroutine

    def _finished(self, error: BaseException | None) -> None:
        self.done = True
        self.error = error

    @staticmethod
    def bury(tasks: list[Task]) -> None:
        """End coroutines of a node that has crashed; none of them runs another step."""
        for task in tasks:
            if task.runner.waiting is not None:
                task.runner.waiting._resume = None
        for task in tasks:
            task.coroutine.close()

    def result(self) -> Any:
        """Return what the coroutine returned, or raise what it raised."""
        assert self.done, "still waiting"
        if self.error is not None:
            raise self.error
        return self._value
