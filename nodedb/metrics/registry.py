"""The registry: each subsystem puts its own collector in, and a scrape asks all of them.

Counters live where things happen as plain ints; collectors read them when scraped. A collector that
fails loses its own metrics, not the others', and is counted.

Names follow Prometheus' rules: base units, ``_total`` for counters. Source: Prometheus
documentation, "Metric and label naming".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from nodedb.metrics.sql import collect_sql
from nodedb.metrics.storage import collect_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodedb.session.manager import SessionManager

Collect = Callable[[], Iterable[Metric]]
_LOGGER: Final = logging.getLogger("nodedb.metrics")


class MetricsRegistry(Collector):
    """What ``/metrics`` shows."""

    def __init__(self) -> None:
        self._subsystems: dict[str, Collect] = {}
        self._failures: dict[str, int] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    @property
    def subsystems(self) -> tuple[str, ...]:
        """Names of those that have put a collector in."""
        return tuple(self._subsystems)

    def add(self, subsystem: str, collect: Collect) -> None:
        """Put a subsystem's collector in; it yields the families it owns, each time it is asked."""
        assert subsystem not in self._subsystems, f"added twice: {subsystem}"
        self._subsystems[subsystem] = collect
        self._failures[subsystem] = 0

    def remove(self, subsystem: str) -> None:
        """Take it out again: the subsystem has been stopped."""
        self._subsystems.pop(subsystem, None)

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield one family per metric."""
        for subsystem, collect in tuple(self._subsystems.items()):
            try:
                families = list(collect())
            except Exception:
                # Health must be visible most of all while a part is broken.
                if not self._failures[subsystem]:
                    _LOGGER.exception("the metrics of %s cannot be collected", subsystem)
                self._failures[subsystem] += 1
                continue
            yield from families
        failures = CounterMetricFamily(
            "nodedb_metrics_failures",
            "Scrapes in which the metrics of a subsystem could not be collected",
            labels=["subsystem"],
        )
        for subsystem in self._subsystems:
            failures.add_metric([subsystem], self._failures[subsystem])
        yield failures


class NodeMetrics(MetricsRegistry):
    """The registry of a node, with what every node has: sessions, transactions, log and engine."""

    def __init__(self, sessions: SessionManager) -> None:
        super().__init__()
        self.add("sql", lambda: collect_sql(sessions))
        self.add("storage", lambda: collect_storage(sessions.transactions))
