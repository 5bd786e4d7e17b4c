"""Components and shortest cycles, compared with a search that tries everything."""

import random
from itertools import pairwise

import pytest

from tests.serializability.graph import Edge, EdgeKind, Graph, Kinds

SEEDS = 500
DATA: Kinds = frozenset(("ww", "wr", "rw"))


def random_graph(seed: int) -> tuple[Graph, list[Edge]]:
    chance = random.Random(seed)
    count = chance.randrange(2, 9)
    kinds: tuple[EdgeKind, ...] = ("ww", "wr", "rw")
    graph, edges = Graph(), []
    for node in range(count):
        graph.add_node(node)
    for _ in range(chance.randrange(count * 2)):
        source, target, kind = (
            chance.randrange(count),
            chance.randrange(count),
            chance.choice(kinds),
        )
        graph.add(source, target, kind, "")
        if source != target:
            edges.append(Edge(source, target, kind, ""))
    return graph, edges


def distances(edges: list[Edge], start: int, kinds: Kinds) -> dict[int, int]:
    found = {start: 0}
    front = [start]
    for length in range(1, len(edges) + 1):
        front = [
            target
            for source, target, kind, _ in edges
            if kind in kinds and source in front and target not in found
        ]
        found.update(dict.fromkeys(front, length))
    return found


@pytest.mark.parametrize("first", range(0, SEEDS, 100))
def test_components_are_who_reach_each_other(first: int) -> None:
    for seed in range(first, first + 100):
        check_components(seed)


def check_components(seed: int) -> None:
    graph, edges = random_graph(seed)
    reach = {node: set(distances(edges, node, DATA)) for node in graph}
    found = graph.components(DATA)
    assert sorted(node for component in found for node in component) == sorted(graph)
    for component in found:
        together = {n for n in graph if n in reach[component[0]] and component[0] in reach[n]}
        assert set(component) == together, f"seed {seed}"
    place = {node: at for at, component in enumerate(found) for node in component}
    assert all(place[edge.source] >= place[edge.target] for edge in edges), f"seed {seed}"


@pytest.mark.parametrize("first", range(0, SEEDS, 100))
@pytest.mark.parametrize("others", [frozenset(("ww", "wr")), DATA], ids=["one rw", "any rw"])
def test_shortest_cycle_is_one(first: int, others: Kinds) -> None:
    for seed in range(first, first + 100):
        check_shortest_cycle(seed, others)


def check_shortest_cycle(seed: int, others: Kinds) -> None:
    graph, edges = random_graph(seed)
    lengths = [
        1 + back[edge.source]
        for edge in edges
        if edge.kind == "rw" and edge.source in (back := distances(edges, edge.target, others))
    ]
    found = graph.shortest_cycle("rw", others, list(graph))
    if not lengths:
        assert found is None, f"seed {seed}"
        return
    assert found is not None, f"seed {seed}"
    assert len(found) == min(lengths), f"seed {seed}"
    assert found[0].kind == "rw", f"seed {seed}"
    assert all(edge.kind in others for edge in found[1:]), f"seed {seed}"
    steps = pairwise([*found, found[0]])
    assert all(before.target == after.source for before, after in steps), f"seed {seed}"


def test_long_chain_needs_no_stack() -> None:
    graph = Graph()
    for node in range(20_000):
        graph.add(node, node + 1, "ww", "")
    assert len(graph.components(DATA)) == 20_001
    graph.add(20_000, 0, "rw", "")
    assert len(graph.components(DATA)) == 1
    cycle = graph.shortest_cycle("rw", DATA, list(graph))
    assert cycle is not None
    assert len(cycle) == 20_001
