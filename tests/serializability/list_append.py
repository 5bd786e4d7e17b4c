"""The list-append workload: clients append to lists and read them, and keep what they saw.

Eight clients of one process, over connections of their own, work on six keys at a time; a key that
got many values is replaced by a fresh one, so lists stay short and absent rows come up again. Each
transaction has 1 to 4 operations and is tried once: after 40001 or 40P01 its client goes on with
another one, and history has it as aborted. At the end every key there was is read once more.

How a list is kept, its ``Shape``:

* ``list``: one row per key, the values in a text. Appends are upserts, updates, or the row is read
  and the longer text is put in its place; at READ COMMITTED the latter locks the row first, because
  there an update computed by the client is allowed to be lost.
* ``rows``: one row per value under a primary key that begins with the list's key; an append reads
  the greatest sequence number and inserts the next one. Two at once disturb each other by nothing
  but the rows they did not find, so that is for SERIALIZABLE only.
* ``index``: the same, with the rows found by a secondary index.

What a run does depends on its seed only as far as the clients' choices go; the rest is timing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import asyncpg

from tests.serializability.checker import Level
from tests.serializability.history import (
    NEVER,
    Append,
    Operation,
    Outcome,
    Read,
    Transaction,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Shape = Literal["list", "rows", "index"]
SHAPES: Final[dict[Level, tuple[Shape, ...]]] = {
    "read committed": ("list",),
    "repeatable read": ("list",),
    "serializable": ("list", "rows", "index"),
}
CLIENTS: Final = 8
KEYS: Final = 6
KEY_VALUES_MAX: Final = 48
"""After so many appends were tried a key is replaced by a fresh one."""
OPERATIONS_MAX: Final = 4
READ_SHARE: Final = 0.5

_ENTRY_APPEND: Final = """
    INSERT INTO entries (k, seq, value)
    SELECT $1::int, coalesce(max(seq), 0) + 1, $2::int FROM entries WHERE k = $1"""
_ENTRY_READ: Final = "SELECT value FROM entries WHERE k = $1 ORDER BY seq, value"
TABLES: Final[dict[Shape, tuple[str, ...]]] = {
    "list": (
        "DROP TABLE IF EXISTS lists",
        "CREATE TABLE lists (k int PRIMARY KEY, v text NOT NULL)",
    ),
    "rows": (
        "DROP TABLE IF EXISTS entries",
        "CREATE TABLE entries (k int, seq int, value int, PRIMARY KEY (k, seq, value))",
    ),
    "index": (
        "DROP TABLE IF EXISTS entries",
        "CREATE TABLE entries (value int PRIMARY KEY, k int NOT NULL, seq int NOT NULL)",
        "CREATE INDEX entries_k ON entries (k, seq)",
    ),
}


class Aborted(Exception):
    """The server rolled the transaction back and may be asked again."""


@dataclass
class Plan:
    """What all clients of a run share: the keys in use, the next value, and what happened."""

    level: Level
    shape: Shape
    seed: int
    clients: int = CLIENTS
    history: list[Transaction] = field(default_factory=list)
    next_number: int = 1
    next_value: int = 1
    appended: dict[int, int] = field(default_factory=dict)
    """How many values were tried on each key."""
    slots: list[int] = field(default_factory=lambda: list(range(KEYS)))

    def take_value(self, slot: int) -> Append:
        """Return a fresh value for a slot's present key."""
        key = self.slots[slot]
        count = self.appended[key] = self.appended.get(key, 0) + 1
        if count >= KEY_VALUES_MAX:
            self.slots[slot] = key + KEYS
        value = self.next_value
        self.next_value += 1
        return Append(key, value)

    def steps(self, chance: random.Random) -> list[tuple[int, bool]]:
        """Choose a transaction: (slot, whether to read) for each operation."""
        count = chance.randrange(1, OPERATIONS_MAX + 1)
        return [(chance.randrange(KEYS), chance.random() < READ_SHARE) for _ in range(count)]

    def note(
        self, client: int, began: float, ended: float, outcome: Outcome, done: list[Operation]
    ) -> None:
        """Write down a transaction."""
        number, self.next_number = self.next_number, self.next_number + 1
        self.history.append(Transaction(number, client, began, ended, outcome, tuple(done)))


class ListClient:
    """One connection that reads and appends, with statements prepared once."""

    def __init__(self, connection: asyncpg.Connection, plan: Plan, number: int) -> None:
        self.connection = connection
        self.chance = random.Random(f"{plan.seed} {number}")
        self._number = number
        self._plan = plan
        self._statements: dict[str, asyncpg.prepared_stmt.PreparedStatement] = {}

    async def _run(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        prepared = self._statements.get(statement)
        if prepared is None:
            prepared = self._statements[statement] = await self.connection.prepare(statement)
        rows: list[asyncpg.Record] = await prepared.fetch(*arguments)
        return rows

    async def _update(self, key: int, text: str, *, is_whole: bool) -> bool:
        """Change a list's text; False when there is no such row."""
        new = "$2" if is_whole else "v || $2"
        statement = f"UPDATE lists SET v = {new} WHERE k = $1"
        await self._run(statement, key, text)
        tag: str = self._statements[statement].get_statusmsg()
        return tag == "UPDATE 1"

    async def read(self, key: int, lock: str = "") -> Read:
        """Read a list, locking its row if told how."""
        if self._plan.shape != "list":
            rows = await self._run(_ENTRY_READ, key)
            return Read(key, tuple(row[0] for row in rows))
        rows = await self._run(f"SELECT v FROM lists WHERE k = $1 {lock}", key)
        return Read(key, tuple(map(int, rows[0][0].split())) if rows else ())

    async def append(self, step: Append, done: list[Operation]) -> None:
        """Append a value in some way; what was read for it goes to ``done`` as well."""
        text = f" {step.value}"
        if self._plan.shape != "list":
            done.append(step)
            await self._run(_ENTRY_APPEND, step.key, step.value)
            return
        choice = self.chance.random()
        if choice < 0.4:
            found = await self.read(
                step.key, "FOR UPDATE" if self._plan.level == "read committed" else ""
            )
            done.append(found)
            done.append(step)
            whole = "".join(f" {value}" for value in (*found.values, step.value))
            # Nothing to be replaced and nothing to be locked: somebody may insert it meanwhile.
            if found.values and await self._update(step.key, whole, is_whole=True):
                return
        else:
            done.append(step)
            if choice < 0.7 and await self._update(step.key, text, is_whole=False):
                return
        await self._run(
            "INSERT INTO lists VALUES ($1, $2)"
            " ON CONFLICT (k) DO UPDATE SET v = lists.v || excluded.v",
            step.key,
            text,
        )

    async def transaction(self, steps: list[tuple[int, bool]]) -> list[Operation]:
        """Run and commit one transaction. Raises Aborted."""
        done: list[Operation] = []
        await self.attempt(self._operations(steps, done), done)
        return done

    async def _operations(self, steps: list[tuple[int, bool]], done: list[Operation]) -> None:
        for slot, is_read in steps:
            if is_read:
                done.append(await self.read(self._plan.slots[slot]))
            else:
                await self.append(self._plan.take_value(slot), done)

    async def read_all(self, keys: list[int], done: list[Operation]) -> None:
        """Read some keys, one after the other."""
        for key in keys:
            done.append(await self.read(key))  # noqa: PERF401  what was read before an error counts

    async def attempt(self, body: Awaitable[None], done: list[Operation]) -> None:
        """Run a body in a transaction and note its outcome. Raises Aborted."""
        began = time.perf_counter()
        outcome: Outcome = "aborted"
        try:
            await self.connection.execute(f"BEGIN ISOLATION LEVEL {self._plan.level}")
            await body
            outcome = "unknown"
            await self.connection.execute("COMMIT")
            outcome = "ok"
        except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
            outcome = "aborted"
            if self.connection.is_in_transaction():
                await self.connection.execute("ROLLBACK")
            raise Aborted(error.sqlstate) from error
        finally:
            ended = NEVER if outcome == "unknown" else time.perf_counter()
            self._plan.note(self._number, began, ended, outcome, done)


async def work(client: ListClient, plan: Plan, until: float) -> None:
    """Run transactions one after the other, each tried once."""
    while time.perf_counter() < until:
        with contextlib.suppress(Aborted):
            await client.transaction(plan.steps(client.chance))


async def run_clients(
    connect: Callable[[], Awaitable[asyncpg.Connection]],
    plan: Plan,
    seconds: float,
    each: Callable[[ListClient, Plan, float], Awaitable[None]] = work,
) -> list[Transaction]:
    """Run a workload for some seconds on fresh tables; returns its history."""
    connections = [await connect() for _ in range(plan.clients)]
    try:
        for statement in TABLES[plan.shape]:
            await connections[0].execute(statement)
        until = time.perf_counter() + seconds
        clients = [ListClient(one, plan, number) for number, one in enumerate(connections)]
        await asyncio.gather(*[each(client, plan, until) for client in clients])
        await _read_everything(connections[0], plan)
    finally:
        for connection in connections:
            connection.terminate()
    return plan.history


async def _read_everything(connection: asyncpg.Connection, plan: Plan) -> None:
    """Read every key that was ever appended to, after all else."""
    client = ListClient(connection, plan, plan.clients)
    keys = sorted(plan.appended)
    for at in range(0, len(keys), OPERATIONS_MAX):
        done: list[Operation] = []
        await client.attempt(client.read_all(keys[at : at + OPERATIONS_MAX], done), done)
