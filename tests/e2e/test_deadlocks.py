"""Deadlocks end with one victim, the youngest; where there is no cycle nobody is one."""

import random
import re
import time
from dataclasses import dataclass, field

import psycopg
import pytest

from tests.e2e.actors import Actor, Stage, play
from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(180)

SCHEMA = (
    "CREATE SEQUENCE numbers START 1000",
    "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, u int UNIQUE)",
    "INSERT INTO t SELECT i, 0, i FROM generate_series(1, 9) i",
    "CREATE TABLE parent (id int PRIMARY KEY, v int)",
    "INSERT INTO parent VALUES (1, 0), (2, 0)",
    "CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent)",
    *(f"CREATE TABLE locked_{n} (a int)" for n in range(9)),
)

TAKE = {
    "row": "UPDATE t SET v = v + 1 WHERE id = {0} + 1",
    "scanned row": "UPDATE t SET v = v + 1 WHERE u = {0} + 1",
    "select for update": "SELECT * FROM t WHERE id = {0} + 1 FOR UPDATE",
    "advisory": "SELECT pg_advisory_xact_lock({0})",
    "session advisory": "SELECT pg_advisory_lock({0})",
    "table": "LOCK TABLE locked_{0} IN EXCLUSIVE MODE",
    "primary key": "INSERT INTO t VALUES ({0} + 100, 0, NULL)",
    "unique index": "INSERT INTO t VALUES (nextval('numbers'), 0, {0} + 300)",
}
MIXED = ("row", "advisory", "table", "primary key", "session advisory")


@pytest.fixture
def tables(connection: psycopg.Connection) -> None:
    for statement in SCHEMA:
        connection.execute(statement)


async def finish(stage: Stage, actors: list[Actor]) -> list[Actor]:
    """Let everybody finish, each once it is served; returns the victims.

    Whoever waited for a key that is committed by then fails with that (23505), as it must.
    """
    left, victims = list(actors), []
    while left:
        await stage.settle()
        done = [actor for actor in left if actor.is_done]
        assert done, "nobody goes on"
        for actor in done:
            if actor.is_victim:
                victims.append(actor)
            elif isinstance(actor.outcome, psycopg.Error):
                assert isinstance(actor.outcome, psycopg.errors.UniqueViolation), actor.outcome
            await actor.run("COMMIT")
            await actor.run("SELECT pg_advisory_unlock_all()")
            left.remove(actor)
    await stage.assert_nothing_is_left()
    return victims


async def closing(stage: Stage, actor: Actor, statement: str, victim: Actor) -> float:
    """Run the statement that closes a cycle; returns the milliseconds until the victim knew."""
    began = time.monotonic()
    actor.start(statement)
    await victim.end_of_wait()
    return (time.monotonic() - began) * 1000


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("kind", [*TAKE, "mixed"])
def test_a_ring(node: NodeProcess, tables: None, kind: str, size: int) -> None:
    kinds = [kind if kind != "mixed" else MIXED[n % len(MIXED)] for n in range(size)]

    async def script(stage: Stage) -> None:
        actors = await stage.cast(size)
        for number, actor in enumerate(actors):
            await actor.run(TAKE[kinds[number]].format(number))
        # The oldest closes the cycle: the victim is the youngest all the same.
        for number in range(1, size):
            after = (number + 1) % size
            actors[number].start(TAKE[kinds[after]].format(after))
            await stage.settle()
        found = await closing(stage, actors[0], TAKE[kinds[1]].format(1), actors[-1])
        print(f"{kind}: deadlock of {size} found after {found:.1f} ms")
        assert await finish(stage, actors) == [actors[-1]]

    play(node, script)


@pytest.mark.parametrize("strength", ["KEY SHARE", "SHARE"])
@pytest.mark.parametrize("size", [2, 3])
def test_holders_of_a_shared_lock_that_both_want_more(
    node: NodeProcess, tables: None, strength: str, size: int
) -> None:
    change = "DELETE FROM t WHERE id = 1" if strength == "KEY SHARE" else "UPDATE t SET v = 1"

    async def script(stage: Stage) -> None:
        actors = await stage.cast(size)
        for actor in actors:
            await actor.run(f"SELECT * FROM t WHERE id = 1 FOR {strength}")
        for actor in actors:
            actor.start(change)
            await stage.settle()
        victims = await finish(stage, actors)
        # Each two of them form a cycle, so all but the oldest have to go.
        assert set(victims) == set(actors[1:])

    play(node, script)


def test_share_locks_of_a_table_that_both_want_to_write(node: NodeProcess, tables: None) -> None:
    async def script(stage: Stage) -> None:
        actors = await stage.cast(2)
        for actor in actors:
            await actor.run("LOCK TABLE t IN SHARE MODE")
        for actor in actors:
            actor.start("INSERT INTO t VALUES (50, 0)")
            await stage.settle()
        assert await finish(stage, actors) == [actors[1]]

    play(node, script)


def test_through_a_foreign_key(node: NodeProcess, tables: None) -> None:
    async def script(stage: Stage) -> None:
        one, two = await stage.cast(2)
        await one.run("DELETE FROM parent WHERE id = 1")
        await two.run("UPDATE parent SET id = 20 WHERE id = 2")
        one.start("INSERT INTO child VALUES (1, 2)")
        await stage.settle()
        two.start("INSERT INTO child VALUES (2, 1)")
        await two.end_of_wait()
        assert two.is_victim
        await two.run("ROLLBACK")
        await one.end()
        await one.run("COMMIT")
        await stage.assert_nothing_is_left()
        assert await stage.look("SELECT id, parent_id FROM child") == [(1, 2)]

    play(node, script)


def test_the_report_names_everybody_as_postgresql_does(node: NodeProcess, tables: None) -> None:
    async def script(stage: Stage) -> None:
        one, two = await stage.cast(2)
        await one.run("UPDATE t SET v = 1 WHERE id = 1")
        await two.run("LOCK TABLE locked_1 IN EXCLUSIVE MODE")
        one.start("LOCK TABLE locked_1 IN SHARE MODE")
        await stage.settle()
        two.start("UPDATE t SET v = 1 WHERE id = 1")
        await two.end_of_wait()
        oid, database = (
            await stage.look(
                "SELECT 'locked_1'::regclass::oid, oid FROM pg_database "
                "WHERE datname = current_database()"
            )
        )[0]
        diagnosis = two.outcome.diag
        assert diagnosis.sqlstate == "40P01"
        assert diagnosis.message_primary == "deadlock detected"
        assert diagnosis.message_hint == "See server log for query details."
        first, second = diagnosis.message_detail.split("\n")
        assert re.fullmatch(
            rf"Process {two.process_id} waits for ShareLock on transaction \d+; "
            rf"blocked by process {one.process_id}\.",
            first,
        )
        assert second == (
            f"Process {one.process_id} waits for ShareLock on relation {oid} "
            f"of database {database}; blocked by process {two.process_id}."
        )
        assert re.fullmatch(r'while updating tuple \(\d+,\d+\) in relation "t"', diagnosis.context)
        assert await finish(stage, [one, two]) == [two]

    play(node, script)


def test_the_context_tells_what_was_done_to_the_row(node: NodeProcess, tables: None) -> None:
    cases = {
        "UPDATE t SET v = 1 WHERE id = 1": r'while updating tuple \(\d+,\d+\) in relation "t"',
        "UPDATE t SET v = 1 WHERE u = 1": r'while updating tuple \(\d+,\d+\) in relation "t"',
        "DELETE FROM t WHERE id = 1": r'while deleting tuple \(\d+,\d+\) in relation "t"',
        "SELECT FROM t WHERE id = 1 FOR SHARE": r'while locking tuple \(\d+,\d+\) in relation "t"',
        "INSERT INTO t VALUES (70, 0, 71)": r"while inserting index tuple \(\d+,\d+\) "
        r'in relation "t_pkey"',
        "INSERT INTO t VALUES (72, 0, 70)": r"while inserting index tuple \(\d+,\d+\) "
        r'in relation "t_u_key"',
        "SELECT pg_advisory_xact_lock(1)": None,
        "LOCK TABLE locked_1": None,
    }

    async def script(stage: Stage) -> None:
        holder, waiter = await stage.cast(2, begin="")
        await holder.run(
            "BEGIN; UPDATE t SET id = 1 WHERE id = 1; DELETE FROM t WHERE id = 1; "
            "INSERT INTO t VALUES (70, 0, 70); SELECT pg_advisory_xact_lock(1); "
            "LOCK TABLE locked_1"
        )
        await waiter.run("SET lock_timeout = '20ms'")
        for statement, context in cases.items():
            with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
                await waiter.run(f"BEGIN; {statement}")
            await waiter.run("ROLLBACK")
            found = caught.value.diag.context
            if context is None:
                assert found is None, statement
            else:
                assert re.fullmatch(context, found or ""), (statement, found)

    play(node, script)


# Random graphs against a model


@dataclass
class Model:
    """Exclusive locks with queues, and who waits: for one session at most, so cycles are plain."""

    holders: dict[str, int] = field(default_factory=dict)
    queues: dict[str, list[int]] = field(default_factory=dict)
    waits: dict[int, str] = field(default_factory=dict)
    ages: dict[int, int] = field(default_factory=dict)

    def take(self, actor: int, resource: str) -> int | None:
        """Take or queue; returns the victim of the cycle that this closes."""
        holder = self.holders.setdefault(resource, actor)
        if holder == actor:
            return None
        self.queues.setdefault(resource, []).append(actor)
        self.waits[actor] = resource
        ring, at = [actor], holder
        while at != actor:
            if at not in self.waits:
                return None
            ring.append(at)
            at = self.holders[self.waits[at]]
        return max(ring, key=lambda number: self.ages[number])

    def release(self, actor: int) -> None:
        """End an actor's transaction, whatever it waits for."""
        waited = self.waits.pop(actor, None)
        if waited is not None:
            self.queues[waited].remove(actor)
        for resource in [r for r, holder in self.holders.items() if holder == actor]:
            del self.holders[resource]
            queue = self.queues.get(resource)
            if queue:
                following = queue.pop(0)
                self.holders[resource] = following
                del self.waits[following]


EXCLUSIVE = ("row", "scanned row", "select for update", "advisory", "table")


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_have_the_victims_of_a_model(
    node: NodeProcess, tables: None, seed: int
) -> None:
    chance = random.Random(seed)
    counts = {"victims": 0, "waits": 0}

    async def script(stage: Stage) -> None:
        actors = await stage.cast(6, begin="")
        model = Model()
        begun: set[int] = set()

        async def begin(number: int) -> None:
            await actors[number].run("BEGIN")
            begun.add(number)
            model.ages[number] = max(model.ages.values(), default=0) + 1

        async def end(number: int, how: str) -> None:
            await actors[number].run(how)
            begun.discard(number)
            model.release(number)

        async def compare(step: int, expected: int | None) -> None:
            waiting = await stage.settle()
            found = [n for n in begun if actors[n].is_done and actors[n].is_victim]
            where = f"seed {seed}, step {step}"
            assert found == ([] if expected is None else [expected]), where
            if expected is not None:
                counts["victims"] += 1
                model.release(expected)
                await end(expected, "ROLLBACK")
            errors = [
                a.outcome
                for n, a in enumerate(actors)
                if a.is_done and isinstance(a.outcome, psycopg.Error) and n in begun
            ]
            assert not errors, f"{where}: {errors}"
            assert waiting == {actors[n].process_id for n in model.waits}, where

        for step in range(60):
            idle = [n for n in range(6) if n not in model.waits]
            number = chance.choice(idle)
            if number in begun and chance.random() < 0.25:
                await end(number, chance.choice(("COMMIT", "ROLLBACK")))
                await compare(step, None)
                continue
            if number not in begun:
                await begin(number)
            kind = chance.choice(EXCLUSIVE)
            place = chance.randrange(4)
            resource = f"{'row' if 'row' in kind or kind[:6] == 'select' else kind} {place}"
            expected = model.take(number, resource)
            counts["waits"] += number in model.waits
            actors[number].start(TAKE[kind].format(place))
            await compare(step, expected)
        while begun:
            idle = [n for n in begun if n not in model.waits]
            assert idle, f"seed {seed}: the model is stuck"
            await end(chance.choice(idle), "COMMIT")
            await compare(-1, None)
        await stage.assert_nothing_is_left()

    play(node, script)
    print(counts)
    assert counts["waits"] > 3, seed
