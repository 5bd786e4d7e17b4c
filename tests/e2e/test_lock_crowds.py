"""Many sessions that want the same few rows: all are served, in order, and nothing is left behind.

The connections are made once for the module; each is a socket here and a session there.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.actors import Actor, Stage, play
from tests.e2e.node_process import NodeProcess, running

pytestmark = pytest.mark.timeout(300)
CROWD = 1000
CHUNK = 50


@pytest.fixture(scope="module")
def roomy_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    store = tmp_path_factory.mktemp("crowd") / "store"
    with running(store, "--max-connections", str(CROWD + 50)) as node:
        with node.connect() as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)")
            connection.execute("CREATE TABLE served (at serial PRIMARY KEY, who int)")
            connection.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i")
        yield node


async def crowd(stage: Stage, count: int) -> list[Actor]:
    """Connect many, some at a time."""
    actors: list[Actor] = []
    while len(actors) < count:
        part = min(CHUNK, count - len(actors))
        actors += await asyncio.gather(*(stage.actor() for _ in range(part)))
    return actors


def memory_bytes(node: NodeProcess) -> int:
    """Return the resident memory of the node's process."""
    statm = Path(f"/proc/{node.process_id}/statm").read_text()
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def test_a_thousand_wait_for_one_row_and_are_served_in_order(roomy_node: NodeProcess) -> None:
    async def script(stage: Stage) -> None:
        holder = await stage.actor()
        actors = await crowd(stage, CROWD)
        order = {actor.process_id: n for n, actor in enumerate(actors)}
        before = memory_bytes(roomy_node)
        for size in (CROWD // 4, CROWD // 2, CROWD):
            await stage.observer.execute("UPDATE t SET v = 0; TRUNCATE served")
            await holder.run("BEGIN; UPDATE t SET v = v WHERE id = 1")
            began = time.monotonic()
            for start in range(0, size, CHUNK):
                for actor in actors[start : start + CHUNK]:
                    actor.start(
                        "UPDATE t SET v = v + 1 WHERE id = 1; "
                        "INSERT INTO served (who) VALUES (pg_backend_pid())"
                    )
                await stage.until(WAITING, min(start + CHUNK, size))
            queued = time.monotonic()
            await holder.run("COMMIT")
            for actor in actors[:size]:
                await actor.end()
            done = time.monotonic()
            print(f"{size}: queued in {queued - began:.2f} s, served in {done - queued:.2f} s")
            assert await stage.look("SELECT v FROM t WHERE id = 1") == [(size,)]
            served = [
                order[row[0]] for row in await stage.look("SELECT who FROM served ORDER BY at")
            ]
            # In each chunk they arrive as the sockets have it; the chunks come in order.
            assert [n // CHUNK for n in served] == [n // CHUNK for n in sorted(served)]
            assert len(set(served)) == size
        grown = memory_bytes(roomy_node) - before
        print(f"memory grew by {grown / 1e6:.1f} MB, {grown / CROWD / 1e3:.0f} kB a session")
        assert grown < CROWD * 100_000
        await stage.assert_nothing_is_left()

    play(roomy_node, script)


def test_who_looks_on_is_not_slowed_by_the_crowd(roomy_node: NodeProcess) -> None:
    """The views' cost grows with the number of sessions, not with its square."""

    async def script(stage: Stage) -> None:
        holder = await stage.actor()
        actors = await crowd(stage, CROWD // 2)
        await holder.run("BEGIN; UPDATE t SET v = v WHERE id = 1")
        for actor in actors:
            actor.start("UPDATE t SET v = v + 1 WHERE id = 1")
        await stage.until(WAITING, len(actors))
        events = await stage.look(
            "SELECT wait_event, count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' GROUP BY 1 ORDER BY 1"
        )
        assert events == [("transactionid", 1), ("tuple", len(actors) - 1)]
        blocked = await stage.look(
            "SELECT cardinality(pg_blocking_pids(pid)) FROM pg_locks WHERE NOT granted ORDER BY 1"
        )
        # The first waits for the holder, the second for the first, the third for both of them...
        assert [row[0] for row in blocked] == [1, *range(1, len(actors))]
        await holder.run("COMMIT")
        for actor in actors:
            await actor.end()
        await stage.assert_nothing_is_left()

    play(roomy_node, script)


@pytest.mark.parametrize("seed", [1])
def test_a_crowd_on_ten_rows_that_gives_up_at_random(roomy_node: NodeProcess, seed: int) -> None:
    chance = random.Random(seed)
    counts: dict[str, int] = {}

    async def live(stage: Stage, actor: Actor, plan: random.Random) -> None:
        how = plan.choice(("serve", "serve", "time out", "cancel", "disconnect", "terminate"))
        row = plan.randint(1, 10)
        if how == "time out":
            await actor.run(f"SET lock_timeout = {plan.randint(1, 400)}")
        actor.start(f"BEGIN; UPDATE t SET v = v + 1 WHERE id = {row}")
        await asyncio.sleep(plan.random() * 0.5)
        if how == "cancel":
            await stage.observer.execute("SELECT pg_cancel_backend(%s)", (actor.process_id,))
        elif how == "terminate":
            await stage.observer.execute("SELECT pg_terminate_backend(%s)", (actor.process_id,))
        elif how == "disconnect" and not actor.is_done:
            with socket.socket(fileno=os.dup(actor.connection.fileno())) as connection:
                connection.shutdown(socket.SHUT_RDWR)
        await actor.end_of_wait()
        outcome = "served"
        if isinstance(actor.outcome, psycopg.Error):
            outcome = type(actor.outcome).__name__
        counts[outcome] = counts.get(outcome, 0) + 1
        if not actor.connection.closed:
            # Cancelled late it has been served already, and what is cancelled is this.
            actor.start(plan.choice(("COMMIT", "ROLLBACK")))
            await actor.end_of_wait()

    async def script(stage: Stage) -> None:
        actors = await crowd(stage, CROWD)
        await asyncio.gather(
            *(live(stage, actor, random.Random(chance.random())) for actor in actors)
        )
        await stage.assert_nothing_is_left()
        await stage.until("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", 0)

    play(roomy_node, script)
    print(f"seed {seed}: {counts}")
    assert set(counts) <= {
        "served",
        "LockNotAvailable",
        "QueryCanceled",
        "AdminShutdown",
        "OperationalError",
    }, (seed, counts)
    assert counts["served"] >= CROWD // 4, (seed, counts)
