"""Sessions that wait for each other, driven from one coroutine.

An ``Actor`` is a connection and the statement it is at. ``Stage.settle`` returns when every actor's
statement has ended or waits for a lock, as pg_locks tells; nothing here sleeps for a fixed time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import psycopg

from tests.e2e.node_process import NodeProcess

SETTLE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.005


class Actor:
    """One session. ``outcome`` is what its last statement came to: rows, a tag, or the error."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self.connection = connection
        self.process_id = connection.info.backend_pid
        self.outcome: Any = None
        self.task: asyncio.Task[None] | None = None

    def start(self, statement: str) -> None:
        """Begin a statement without waiting for its end."""
        assert self.is_done, "one statement at a time"
        self.outcome = None
        self.task = asyncio.create_task(self._run(statement))

    async def run(self, statement: str) -> Any:
        """Execute a statement; returns the outcome, raises its error."""
        self.start(statement)
        return await self.end()

    async def end(self) -> Any:
        """Wait for the end of the statement; returns the outcome, raises its error."""
        assert self.task is not None
        await asyncio.wait_for(self.task, SETTLE_SECONDS)
        if isinstance(self.outcome, psycopg.Error):
            raise self.outcome
        return self.outcome

    async def end_of_wait(self) -> None:
        """Wait for the end of the statement, be it an error."""
        assert self.task is not None
        await asyncio.wait_for(self.task, SETTLE_SECONDS)

    async def _run(self, statement: str) -> None:
        try:
            cursor = await self.connection.execute(statement)
            self.outcome = await cursor.fetchall() if cursor.description else cursor.statusmessage
        except psycopg.Error as error:
            self.outcome = error

    @property
    def is_done(self) -> bool:
        """Tell whether no statement is under way."""
        return self.task is None or self.task.done()

    @property
    def is_victim(self) -> bool:
        """Tell whether a deadlock ended the last statement."""
        return isinstance(self.outcome, psycopg.errors.DeadlockDetected)


class Stage:
    """A node's sessions for one test, with one more that looks on."""

    def __init__(self, node: NodeProcess, stack: AsyncExitStack) -> None:
        self.node = node
        self._stack = stack
        self.actors: list[Actor] = []
        self.observer: psycopg.AsyncConnection

    async def actor(self) -> Actor:
        """Connect another session; it begins its transactions by itself."""
        actor = Actor(await self._connect())
        self.actors.append(actor)
        return actor

    async def cast(self, count: int, *, begin: str = "BEGIN") -> list[Actor]:
        """Return new sessions, each in a transaction younger than the one before."""
        actors = []
        for _ in range(count):
            actor = await self.actor()
            if begin:
                await actor.run(begin)
            actors.append(actor)
        return actors

    async def connect(self) -> None:
        """Connect the observer."""
        self.observer = await self._connect()

    async def _connect(self) -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(self.node.dsn(), autocommit=True)
        self._stack.push_async_callback(connection.close)
        return connection

    async def look(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the observer."""
        return await (await self.observer.execute(query)).fetchall()

    async def waiting(self) -> set[int]:
        """Return the process ids of those who wait for a lock."""
        return {row[0] for row in await self.look("SELECT pid FROM pg_locks WHERE NOT granted")}

    async def settle(self) -> set[int]:
        """Wait until nobody moves; returns the process ids of those who wait for a lock."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            waiting = await self.waiting()
            if all(a.is_done or a.process_id in waiting for a in self.actors):
                # Once more: somebody may have been granted its lock since.
                again = await self.waiting()
                if again == waiting and all(
                    a.is_done != (a.process_id in again) for a in self.actors
                ):
                    return waiting
            assert time.monotonic() < deadline, f"never at rest; waiting: {waiting}"
            await asyncio.sleep(_POLL_SECONDS)

    async def until(self, query: str, wanted: Any) -> None:
        """Poll until a query's only value is the one wanted."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (found := (await self.look(query))[0][0]) != wanted:
            assert time.monotonic() < deadline, f"{query}: {found!r}, not {wanted!r}"
            await asyncio.sleep(_POLL_SECONDS)

    async def assert_nothing_is_left(self) -> None:
        """All locks are gone, and nobody waits."""
        own = "pid = pg_backend_pid() OR locktype = 'virtualxid'"
        rest = f"SELECT count(*) FROM pg_locks WHERE NOT ({own})"
        await self.until(rest, 0)


def play(node: NodeProcess, script: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a script on a stage; its sessions are closed after it."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            stage = Stage(node, stack)
            await stage.connect()
            await script(stage)

    asyncio.run(run())
