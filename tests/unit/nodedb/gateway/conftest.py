"""Makes ``forwarding_world`` importable for the tests of this folder; a world with a table."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from forwarding_world import Client, World


@pytest.fixture
def world() -> World:
    """Three nodes of which the first leads; table t with the rows (1, x) and (2, y)."""
    world = World()
    client = world.client(1)
    client.run("CREATE TABLE t (a int PRIMARY KEY, b text)")
    client.run("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    client.leave()
    return world


@pytest.fixture
def client(world: World) -> Client:
    """A client of the second node, which leads nothing."""
    return world.client()
