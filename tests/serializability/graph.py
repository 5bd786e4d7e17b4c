"""Which transaction has to come before which, and the cycles in that.

Nodes are numbers of transactions; an edge has one of the kinds below. All searches go through nodes
and edges in the order in which they came, so the same history gives the same report.

Sources: Tarjan 1972, "Depth-First Search and Linear Graph Algorithms"; Adya 1999, "Weak
Consistency", chapter 3, for the kinds of edges.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

EdgeKind = Literal["ww", "wr", "rw", "session", "realtime"]
"""``ww``: wrote the version before. ``wr``: wrote what the other read. ``rw``: read a version that
the other replaced. ``session``: the same client, earlier. ``realtime``: was over before the other
began."""
KINDS: Final[tuple[EdgeKind, ...]] = ("ww", "wr", "rw", "session", "realtime")
Kinds = frozenset[EdgeKind]


class Edge(NamedTuple):
    """One reason why ``source`` comes before ``target``."""

    source: int
    target: int
    kind: EdgeKind
    why: str


class Graph:
    """Transactions and the edges between them; of two of one kind the first is kept."""

    def __init__(self) -> None:
        self._edges: dict[int, dict[tuple[int, EdgeKind], Edge]] = {}

    def add_node(self, node: int) -> None:
        """Make a node known."""
        self._edges.setdefault(node, {})

    def add(self, source: int, target: int, kind: EdgeKind, why: str) -> None:
        """Add an edge; a transaction need not come before itself."""
        if source != target:
            self.add_node(target)
            edges = self._edges.setdefault(source, {})
            edges.setdefault((target, kind), Edge(source, target, kind, why))

    def __iter__(self) -> Iterator[int]:
        return iter(self._edges)

    def edges(self, node: int, kinds: Kinds) -> Iterator[Edge]:
        """Yield a node's edges of some kinds."""
        for (_, kind), edge in self._edges[node].items():
            if kind in kinds:
                yield edge

    def components(self, kinds: Kinds, nodes: Collection[int] | None = None) -> list[list[int]]:
        """Return the strongly connected components, the last in the order of edges first.

        So an edge never leads from a component to one that stands behind it in the answer.
        ``nodes`` limits the search.
        """
        search = _Tarjan(self, kinds, self._edges if nodes is None else nodes)
        return search.run()

    def shortest_cycle(
        self, through: EdgeKind, others: Kinds, nodes: Collection[int]
    ) -> list[Edge] | None:
        """Return a shortest cycle of one edge ``through``, then edges of ``others``, in ``nodes``.

        None when there is none. The way back is looked for only among nodes that the components'
        order leaves possible, and only as far as the best one so far.
        """
        inside = nodes if isinstance(nodes, set | frozenset | dict) else set(nodes)
        rank: dict[int, int] = {}
        for position, component in enumerate(self.components(others, inside)):
            rank.update(dict.fromkeys(component, position))
        best: list[Edge] | None = None
        for node in nodes:
            for edge in self.edges(node, frozenset((through,))):
                if edge.target not in inside:
                    continue
                limit = len(rank) if best is None else len(best) - 2
                way = self._way(edge.target, node, others, rank, limit)
                if way is not None:
                    best = [edge, *way]
        return best

    def _way(
        self, start: int, goal: int, kinds: Kinds, rank: dict[int, int], limit: int
    ) -> list[Edge] | None:
        """Return a shortest way of at most ``limit`` edges, None when there is none."""
        lowest = rank[goal]
        if rank[start] < lowest:
            return None
        came_by: dict[int, Edge | None] = {start: None}
        front = deque([(start, 0)])
        while front:
            node, length = front.popleft()
            if length >= limit:
                return None
            for edge in self.edges(node, kinds):
                target = edge.target
                if target in came_by or rank.get(target, -1) < lowest:
                    continue
                came_by[target] = edge
                if target == goal:
                    return _back(came_by, edge)
                front.append((target, length + 1))
        return None


def _back(came_by: dict[int, Edge | None], last: Edge) -> list[Edge]:
    way: list[Edge] = []
    edge: Edge | None = last
    while edge is not None:
        way.append(edge)
        edge = came_by[edge.source]
    return way[::-1]


class _Tarjan:
    """One search; without recursion, because a history has more transactions than frames."""

    def __init__(self, graph: Graph, kinds: Kinds, nodes: Collection[int]) -> None:
        self._graph = graph
        self._kinds = kinds
        self._nodes = nodes
        self._index: dict[int, int] = {}
        self._low: dict[int, int] = {}
        self._stack: list[int] = []
        self._on_stack: set[int] = set()
        self._found: list[list[int]] = []

    def run(self) -> list[list[int]]:
        for node in self._nodes:
            if node not in self._index:
                self._visit(node)
        return self._found

    def _visit(self, root: int) -> None:
        work = [(root, self._enter(root))]
        while work:
            node, edges = work[-1]
            for edge in edges:
                target = edge.target
                if target not in self._nodes:
                    continue
                if target not in self._index:
                    work.append((target, self._enter(target)))
                    break
                if target in self._on_stack:
                    self._low[node] = min(self._low[node], self._index[target])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    self._low[parent] = min(self._low[parent], self._low[node])
                if self._low[node] == self._index[node]:
                    self._leave(node)

    def _enter(self, node: int) -> Iterator[Edge]:
        self._index[node] = self._low[node] = len(self._index)
        self._stack.append(node)
        self._on_stack.add(node)
        return self._graph.edges(node, self._kinds)

    def _leave(self, root: int) -> None:
        component: list[int] = []
        while not component or component[-1] != root:
            component.append(self._stack.pop())
        self._on_stack.difference_update(component)
        self._found.append(component[::-1])
