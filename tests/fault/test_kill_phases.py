"""Like ``test_kill``, but the node dies in the midst of a phase that the round has chosen.

The places are those of ``nodedb.kv.fault_points``; half of the rounds add up to some milliseconds,
which end inside a system call or in the phase after it. ``KILL_SEED`` (printed) repeats the choice
of places; what the eight writers are just doing there, no seed can repeat.

After each death: the store is recovered in this process and its counters are recounted; the node
recovers it, shows every acknowledged transaction, goes on working; and is killed amid more work, so
that the next round begins with a recovery.
"""

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from nodedb.kv.fault_points import PHASES, VARIABLE, Place
from tests.e2e.node_process import NodeFailed, NodeProcess, running
from tests.fault.writers import FLAGS, Load, join, recount, seeded, until_one_has_committed

ROUNDS = 3
ROUNDS_SLOW = 20
DEATH_SECONDS = 60
WORK_SECONDS = 0.25
DELAY_US_MAX = 4000
RECOVERY = "recovery"
DEATHS = (-signal.SIGKILL, -signal.SIGALRM)
# How often the writers' first few hundred transactions pass a place: a flush takes one to eight of
# them, the engine commits ten times a second, files are made and removed for large batches.
PASSINGS_MAX = {
    "log_write": 60,
    "fdatasync": 60,
    "apply": 60,
    "engine_commit": 8,
    "segment_recycle": 2,
    RECOVERY: 2,
}
# A segment is filled with zeros when no spare one is left, which a short round does not come to.
PLACES = [place for place in Place if place is not Place.RECYCLE_FILL]


class Plan(NamedTuple):
    """Where a round's node dies."""

    place: Place
    nth: int
    delay_us: int

    def __str__(self) -> str:
        return f"{self.place.value}:{self.nth}" + (f"+{self.delay_us}" if self.delay_us else "")


def plans(chance: random.Random, rounds: int) -> list[Plan]:
    """Choose a place per round: every phase twice, as far as that goes, the others by chance."""
    phases = (2 * chance.sample(PHASES, len(PHASES)))[:rounds]
    phases += chance.choices(PHASES, k=rounds - len(phases))
    chance.shuffle(phases)
    return [one_plan(chance, phase) for phase in phases]


def one_plan(chance: random.Random, phase: str) -> Plan:
    place = chance.choice([place for place in PLACES if place.phase == phase])
    # With a delay a short recovery would be over.
    is_late = phase != RECOVERY and chance.random() < 0.5
    return Plan(
        place,
        chance.randint(1, PASSINGS_MAX[phase]),
        chance.randrange(1, DELAY_US_MAX) if is_late else 0,
    )


def die(node: NodeProcess, load: Load, plan: Plan) -> None:
    """Start the node and let it die as planned."""
    node.environment = {VARIABLE: str(plan)}
    if plan.place.phase == RECOVERY:
        with pytest.raises(NodeFailed, match=f"ended with {-signal.SIGKILL}"):
            node.start()
        return
    node.start()
    join(load.start())
    assert node.wait(DEATH_SECONDS) in DEATHS, node.log()


def kill_amid_work(node: NodeProcess, load: Load) -> None:
    """Leave a store that has something to recover."""
    writers = load.start()
    until_one_has_committed(writers)
    time.sleep(WORK_SECONDS)
    node.kill()
    join(writers)


def run_rounds(store: Path, rounds: int) -> list[Plan]:
    chance = seeded("KILL_SEED")
    planned = plans(chance, rounds)
    with running(store, *FLAGS, "--fault-injection") as node:
        load = Load(node, chance)
        load.create()
        kill_amid_work(node, load)
        for number, plan in enumerate(planned):
            print(f"round {number}: {plan}")
            die(node, load, plan)
            recount(store)
            node.environment = {}
            node.start()
            load.go_on()
            kill_amid_work(node, load)
        recount(store)
        node.start()
        print(f"{load.check()} transactions")
    return planned


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_whatever_the_node_was_doing(tmp_path: Path) -> None:
    run_rounds(tmp_path / "store", ROUNDS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_acknowledged_is_lost_in_any_phase(tmp_path: Path) -> None:
    planned = run_rounds(tmp_path / "store", ROUNDS_SLOW)
    hits = Counter(plan.place.phase for plan in planned)
    assert min(hits[phase] for phase in PHASES) >= 2, hits
