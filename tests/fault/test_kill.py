"""kill -9 under eight writers: every acknowledged transaction is there afterwards, whole.

After the restart each acknowledged transaction must stand in both tables, and each unknown one in
both or in none; nothing else may be there. The node keeps its store over all rounds, so later
rounds also find what earlier restarts lost.

The moment of the kill is random (the seed is printed; ``KILL_SEED`` repeats it). A thread
schedule cannot be repeated, so the seed gives the same delays, not the same run.
"""

import time
from pathlib import Path

import pytest

from tests.e2e.node_process import running
from tests.fault.writers import FLAGS, Load, join, recount, seeded, until_one_has_committed

ROUNDS = 3
ROUNDS_SLOW = 20
DELAY_SECONDS = (0.05, 1.5)


def run_rounds(store: Path, rounds: int) -> None:
    chance = seeded("KILL_SEED")
    with running(store, *FLAGS) as node:
        load = Load(node, chance)
        load.create()
        for number in range(rounds):
            writers = load.start()
            until_one_has_committed(writers)
            time.sleep(chance.uniform(*DELAY_SECONDS))
            node.kill()
            join(writers)
            recount(store)
            node.start()
            print(f"round {number}: {load.check()} transactions")


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    run_rounds(tmp_path / "store", ROUNDS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_in_many_rounds(tmp_path: Path) -> None:
    run_rounds(tmp_path / "store", ROUNDS_SLOW)
