"""What the reads of a history tell: the order of each key's versions, and who depends on whom."""

from __future__ import annotations

import heapq
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.serializability.graph import Graph
from tests.serializability.history import NEVER, Append, Read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.serializability.history import Transaction

Values = tuple[int, ...]
Found = tuple[str, tuple[str, ...]]
"""An anomaly's name and its transcript."""


class Observations:
    """A history with its values' writers and its keys' orders.

    ``transactions`` are all of it by number; ``committed`` those that count as such: acknowledged,
    or of unknown outcome and seen by somebody.
    """

    def __init__(self, history: Sequence[Transaction]) -> None:
        self.transactions = {transaction.number: transaction for transaction in history}
        assert len(self.transactions) == len(history), "a number is used twice"
        self.writers: dict[tuple[int, int], Transaction] = {}
        self.appends: dict[tuple[int, int], list[int]] = defaultdict(list)
        """The values that a transaction appends to a key, in its order, by (number, key)."""
        for transaction in history:
            for operation in transaction.operations:
                if isinstance(operation, Append):
                    place = operation.key, operation.value
                    assert place not in self.writers, f"appended twice: {operation}"
                    self.writers[place] = transaction
                    self.appends[transaction.number, operation.key].append(operation.value)
        acknowledged = [transaction for transaction in history if transaction.outcome == "ok"]
        visible = {
            self.writers[operation.key, value].number
            for _, operation in _reads_of(acknowledged)
            for value in operation.values
            if (operation.key, value) in self.writers
        }
        self.committed = [
            transaction
            for transaction in history
            if transaction.outcome == "ok"
            or (transaction.outcome == "unknown" and transaction.number in visible)
        ]
        self.orders: dict[int, Values] = {}
        """The longest list that was read of each key."""
        for _, read in self.reads():
            if len(read.values) > len(self.orders.get(read.key, ())):
                self.orders[read.key] = read.values

    def reads(self) -> Iterator[tuple[Transaction, Read]]:
        """Yield what committed transactions read.

        What one of unknown outcome has read was answered like everything else.
        """
        return _reads_of(self.committed)

    # What needs no graph

    def direct_anomalies(self) -> Iterator[Found]:
        """Yield what is wrong by itself, each kind once for a key or a transaction."""
        yield from self._wrong_lists()
        for transaction in self.committed:
            yield from self._wrong_inside(transaction)
        yield from self._unfit_reads()
        yield from self._lost_updates()
        yield from self._lost_appends()

    def _wrong_lists(self) -> Iterator[Found]:
        """Yield duplicates, values from nowhere, and lists that are no part of one order."""
        told: set[tuple[str, int]] = set()

        def first(name: str, key: int) -> bool:
            is_first = (name, key) not in told
            told.add((name, key))
            return is_first

        for transaction, read in self.reads():
            key, values = read.key, read.values
            if len(set(values)) < len(values) and first("duplicate", key):
                twice = next(value for value in values if values.count(value) > 1)
                yield "duplicate", (str(transaction), f"{twice} stands more than once in {read}")
            nowhere = [value for value in values if (key, value) not in self.writers]
            if nowhere and first("unwritten", key):
                yield "unwritten", (str(transaction), f"nobody appended {nowhere[0]} to {key}")
            if not self._is_prefix(read) and first("incompatible orders", key):
                longest = Read(key, self.orders[key])
                position = next(
                    at for at, value in enumerate(values) if value != longest.values[at]
                )
                other = next(t for t, r in self.reads() if r == longest)
                yield (
                    "incompatible orders",
                    (
                        str(transaction),
                        str(other),
                        f"they differ at position {position} of {key}:"
                        f" {values[position]} and {longest.values[position]}",
                    ),
                )

    def _is_prefix(self, read: Read) -> bool:
        return self.orders.get(read.key, ())[: len(read.values)] == read.values

    def _wrong_inside(self, transaction: Transaction) -> Iterator[Found]:
        """Yield what one transaction contradicts itself in, each kind once."""
        own: dict[int, Values] = defaultdict(tuple)
        known: dict[int, Values] = {}
        """What it must read again: what it read, and its appends since."""
        told: set[str] = set()
        for operation in transaction.operations:
            key = operation.key
            if isinstance(operation, Append):
                own[key] += (operation.value,)
                if key in known:
                    known[key] += (operation.value,)
                continue
            mine, values = own[key], operation.values
            name = why = ""
            if values[len(values) - len(mine) :] != mine or len(values) < len(mine):
                name, why = "internal", f"it had appended {_shown(mine)} to {key} itself"
            elif known.get(key, values) != values:
                name, why = "non-repeatable read", f"it expected {Read(key, known[key])}"
            if name and name not in told:
                told.add(name)
                yield name, (str(transaction), f"in {operation}: {why}")
            known[key] = values

    def _unfit_reads(self) -> Iterator[Found]:
        """Yield reads of what was never committed, or of half of a transaction."""
        told: set[tuple[str, int]] = set()
        for transaction, read in self.reads():
            key, values = read.key, read.values
            for value in values:
                writer = self.writers.get((key, value))
                if writer is None or writer.outcome != "aborted" or ("G1a", key) in told:
                    continue
                told.add(("G1a", key))
                yield "G1a", (str(transaction), str(writer), f"{value} of {key} was aborted")
            last = self.writers.get((key, values[-1])) if values else None
            if last is None or last is transaction or ("G1b", key) in told:
                continue
            final = self.appends[last.number, key][-1]
            if values[-1] != final:
                told.add(("G1b", key))
                yield (
                    "G1b",
                    (
                        str(transaction),
                        str(last),
                        f"the list of {key} ends with {values[-1]}, before {final}",
                    ),
                )

    def _lost_updates(self) -> Iterator[Found]:
        """Yield pairs that read the same version of a key and both appended to it."""
        first: dict[tuple[int, Values], Transaction] = {}
        told: set[int] = set()
        for transaction in self.committed:
            for key, values in _read_before_append(transaction):
                other = first.setdefault((key, values), transaction)
                if other is not transaction and key not in told:
                    told.add(key)
                    both = f"both appended to {Read(key, values)}"
                    yield "lost update", (str(other), str(transaction), both)

    def _lost_appends(self) -> Iterator[Found]:
        """Yield acknowledged appends that the last read of their key does not have."""
        last: dict[int, tuple[Transaction, Read]] = {}
        for transaction, read in self.reads():
            if read.key not in last or transaction.began >= last[read.key][0].began:
                last[read.key] = transaction, read
        told: set[int] = set()
        for (key, value), writer in self.writers.items():
            if writer.outcome != "ok" or key not in last or key in told:
                continue
            reader, read = last[key]
            if writer.ended < reader.began and value not in read.values:
                told.add(key)
                missing = f"{value} was acknowledged and is not in {read}"
                yield "lost append", (str(writer), str(reader), missing)

    # Who comes before whom

    def graph(self) -> Graph:
        """Return the dependencies of the committed transactions.

        Reads that do not fit into their key's order give no edges: they are anomalies already.
        """
        graph = Graph()
        # In the order of time backwards: searches start where nothing follows.
        for transaction in sorted(self.committed, key=lambda t: -t.began):
            graph.add_node(transaction.number)
        committed = {transaction.number for transaction in self.committed}
        for key, values in self.orders.items():
            self._add_writes(graph, committed, key, values)
        for reader, read in self.reads():
            if self._is_prefix(read):
                self._add_read(graph, committed, reader, read)
        self._add_sessions(graph)
        self._add_real_time(graph)
        return graph

    def _writer(self, committed: set[int], key: int, value: int) -> int | None:
        """Return the number of a value's writer, None when it did not commit."""
        writer = self.writers.get((key, value))
        return writer.number if writer is not None and writer.number in committed else None

    def _add_writes(self, graph: Graph, committed: set[int], key: int, values: Values) -> None:
        for before, after in pairwise(values):
            source = self._writer(committed, key, before)
            target = self._writer(committed, key, after)
            if source is not None and target is not None:
                graph.add(source, target, "ww", f"{before} stands before {after} in {key}")

    def _add_read(self, graph: Graph, committed: set[int], reader: Transaction, read: Read) -> None:
        key, values = read.key, read.values
        own = self.appends.get((reader.number, key), ())
        others = next((value for value in reversed(values) if value not in own), None)
        if others is not None and (source := self._writer(committed, key, others)) is not None:
            graph.add(source, reader.number, "wr", f"read {others} of {key}")
        order = self.orders.get(key, ())
        if len(values) < len(order):
            after = order[len(values)]
            target = self._writer(committed, key, after)
            if target is not None:
                what = f"read {key} without {after}"
                graph.add(reader.number, target, "rw", what)

    def _add_sessions(self, graph: Graph) -> None:
        last: dict[int, int] = {}
        for transaction in sorted(self.committed, key=lambda t: t.began):
            before = last.get(transaction.session)
            if before is not None:
                why = f"one after the other in session {transaction.session}"
                graph.add(before, transaction.number, "session", why)
            # One of unknown outcome may commit long after its client has gone on.
            if transaction.outcome == "ok":
                last[transaction.session] = transaction.number

    def _add_real_time(self, graph: Graph) -> None:
        """Add edges from transactions to those that began after their end.

        Only from those after which no other has begun and ended in between: the rest follows.
        """
        running: list[tuple[float, int, Transaction]] = []
        newest: list[Transaction] = []
        for transaction in sorted(self.committed, key=lambda t: (t.began, t.number)):
            while running and running[0][0] < transaction.began:
                _, _, done = heapq.heappop(running)
                newest = [other for other in newest if other.ended >= done.began]
                newest.append(done)
            for before in newest:
                why = f"was over {transaction.began - before.ended:.6f} s before the other began"
                graph.add(before.number, transaction.number, "realtime", why)
            if transaction.ended != NEVER and transaction.outcome == "ok":
                heapq.heappush(running, (transaction.ended, transaction.number, transaction))


def _reads_of(transactions: Sequence[Transaction]) -> Iterator[tuple[Transaction, Read]]:
    for transaction in transactions:
        for operation in transaction.operations:
            if isinstance(operation, Read):
                yield transaction, operation


def _read_before_append(transaction: Transaction) -> Iterator[tuple[int, Values]]:
    """Yield each key that a transaction read and then appended to, with what it read last."""
    known: dict[int, Values] = {}
    done: set[int] = set()
    for operation in transaction.operations:
        if isinstance(operation, Read):
            known[operation.key] = operation.values
        elif operation.key not in done:
            done.add(operation.key)
            if operation.key in known:
                yield operation.key, known[operation.key]


def _shown(values: Values) -> str:
    return " ".join(map(str, values))
