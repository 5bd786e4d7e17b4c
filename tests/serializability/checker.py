"""Finds what a history of list-append transactions should not hold, in the terms of Adya's thesis.

The longest list read of each key is the order of its versions; from it follow the edges between
transactions that committed (``graph``). A transaction whose outcome is unknown counts as committed
when somebody has seen one of its values. What can be found:

* ``duplicate``, ``unwritten``: a list holds a value twice, or one that nobody appended.
* ``incompatible orders``: of two lists read of one key neither begins with the other.
* ``internal``: a transaction does not see its own appends at the end of the list.
* ``non-repeatable read``: it reads one key twice and sees somebody else's change between.
* ``G1a``: a value of a transaction that was aborted was read.
* ``G1b``: a list ends amid the appends of another transaction.
* ``lost update``: two transactions read the same version of a key, and both appended to it.
* ``lost append``: the last read of a key, begun after the append was acknowledged, is without it.
* ``G0``, ``G1c``, ``G-single``, ``G2-item``: a cycle of ww edges; of ww and wr; with one rw edge
  (read skew); with several (write skew). Lists read by a range of rows make G2-item a G2: a phantom
  is an append like any other.
* Cycles closed by the order within one session or by real time have ``-session`` or ``-realtime``
  behind their name: the transactions would be in order if clients did not know better.

Of each kind of cycle one is reported for each component of the graph, a shortest one, with the
fewest sorts of edges; G2-item only where G-single does not explain the component.

Not done here: predicates other than a whole list, and edges of what nobody has read afterwards.

Sources: Adya 1999, "Weak Consistency", sections 3.2 and 4.2 (G0 to G2, G-single); Berenson and
others 1995, "A Critique of ANSI SQL Isolation Levels" (lost update, non-repeatable read); Kingsbury
and Alvaro 2020, "Elle", sections 4 to 6 (what lists tell).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tests.serializability.graph import KINDS, Edge, EdgeKind, Graph, Kinds
from tests.serializability.observations import Observations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.serializability.history import Transaction

Level = Literal["read committed", "repeatable read", "serializable"]
LEVELS: Final[tuple[Level, ...]] = ("read committed", "repeatable read", "serializable")
ORDERS: Final = ("", "-session", "-realtime")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that is wrong: what it is called, and how one sees it, line by line."""

    name: str
    transcript: tuple[str, ...]

    def __str__(self) -> str:
        return "\n  ".join((self.name, *self.transcript))


@dataclass(frozen=True, slots=True)
class _Cycle:
    """One kind of cycle: an edge ``through``, and a way back of ``others``."""

    name: str
    through: EdgeKind
    others: Kinds
    explains: tuple[str, ...] = ()
    """Kinds that are of no interest in a component where this one was found."""


_CYCLES: Final = (
    _Cycle("G0", "ww", frozenset(("ww",))),
    _Cycle("G1c", "wr", frozenset(("ww", "wr"))),
    _Cycle("G-single", "rw", frozenset(("ww", "wr")), explains=("G2-item",)),
    _Cycle("G2-item", "rw", frozenset(("ww", "wr", "rw"))),
)


def _with_orders(*names: str) -> frozenset[str]:
    return frozenset(name + order for name in names for order in ORDERS)


_AT_READ_COMMITTED: Final = frozenset(
    ("duplicate", "unwritten", "incompatible orders", "internal", "G1a", "G1b", "lost append")
) | _with_orders("G0", "G1c")
_AT_REPEATABLE_READ: Final = (
    _AT_READ_COMMITTED | {"non-repeatable read", "lost update"} | _with_orders("G-single")
)

FORBIDDEN: Final[dict[Level, frozenset[str]]] = {
    "read committed": _AT_READ_COMMITTED,
    "repeatable read": _AT_REPEATABLE_READ,
    "serializable": _AT_REPEATABLE_READ | _with_orders("G2-item"),
}
"""What each level must not show. In PostgreSQL's sense: a statement sees all that was acknowledged
before it began, so cycles closed by real time are forbidden too. READ COMMITTED may lose an append
that was computed by the client without a lock: its workload must not hold one."""
ALL: Final = FORBIDDEN["serializable"]


def find_anomalies(history: Sequence[Transaction], names: frozenset[str] = ALL) -> list[Anomaly]:
    """Return what of ``names`` is found in a history, in the order of the list above."""
    seen = Observations(history)
    found = [Anomaly(name, lines) for name, lines in seen.direct_anomalies() if name in names]
    return found + list(_cycles(seen, names))


def check(history: Sequence[Transaction], level: Level) -> list[Anomaly]:
    """Return what a level forbids and the history has."""
    return find_anomalies(history, FORBIDDEN[level])


def _cycles(seen: Observations, names: frozenset[str]) -> Iterator[Anomaly]:
    """Yield the cycles of the kinds that are asked for."""
    graph = seen.graph()
    explained: set[tuple[int, str]] = set()
    for cycle in _CYCLES:
        if not names & _with_orders(cycle.name, *cycle.explains):
            continue
        everything = cycle.others | {cycle.through, "session", "realtime"}
        for nodes in graph.components(everything):
            if len(nodes) == 1 or any((node, cycle.name) in explained for node in nodes):
                continue
            edges = _search(graph, cycle, nodes)
            if edges is None:
                continue
            explained.update((node, kind) for node in nodes for kind in cycle.explains)
            name = cycle.name + _order_of(edges)
            if name in names:
                yield Anomaly(name, tuple(_explain(seen, edges)))


def _search(graph: Graph, cycle: _Cycle, nodes: list[int]) -> list[Edge] | None:
    """Return the cycle of one component that needs the fewest sorts of edges.

    With all of them first: that search is quick where there is nothing to be found, because real
    time leaves few ways.
    """
    best = graph.shortest_cycle(cycle.through, cycle.others | {"session", "realtime"}, nodes)
    if best is None or not _order_of(best):
        return best
    for orders in (frozenset[EdgeKind](), frozenset[EdgeKind](("session",))):
        simpler = graph.shortest_cycle(cycle.through, cycle.others | orders, nodes)
        if simpler is not None:
            return simpler
    return best


def _order_of(edges: list[Edge]) -> str:
    """Return the end of a cycle's name."""
    kinds = {edge.kind for edge in edges}
    if "realtime" in kinds:
        return "-realtime"
    return "-session" if "session" in kinds else ""


def _explain(seen: Observations, edges: list[Edge]) -> Iterator[str]:
    """Yield a cycle as sentences: its transactions, then why each comes before the next."""
    assert all(edge.kind in KINDS for edge in edges)
    for edge in edges:
        yield str(seen.transactions[edge.source])
    for edge in edges:
        source, target = seen.transactions[edge.source], seen.transactions[edge.target]
        yield f"{source.name} -{edge.kind}-> {target.name}: {edge.why}"
