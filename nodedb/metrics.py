"""The node's metrics in Prometheus' form.

Counters live where things happen as plain ints; here they are read.

Names follow Prometheus' rules: base units, ``_total`` for counters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodedb.session.manager import SessionManager


class NodeMetrics(Collector):
    """Collects from the node's subsystems when scraped."""

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield one family per metric."""
        sessions = self._sessions
        transactions = sessions.transactions
        replicator = transactions.replicator
        yield GaugeMetricFamily(
            "nodedb_connections", "Open SQL sessions", value=len(sessions.sessions)
        )
        active = sum(session.is_running for session in sessions.sessions.values())
        yield GaugeMetricFamily("nodedb_statements_active", "Statements running now", value=active)
        counters = (
            ("nodedb_statements", "Statements executed", sessions.latency.count),
            ("nodedb_statement_errors", "Statements that failed", sessions.error_count),
            (
                "nodedb_statement_restarts",
                "Times a statement was run again after it had lost against another transaction",
                sessions.restart_count,
            ),
            (
                "nodedb_transactions_committed",
                "Transactions committed with writes",
                transactions.commit_count,
            ),
            (
                "nodedb_transactions_rolled_back",
                "Transactions rolled back",
                transactions.rollback_count,
            ),
            (
                "nodedb_timestamp_waits",
                "Commits that had to wait for the wall clock",
                transactions.timestamps.wait_count,
            ),
            ("nodedb_log_flushes", "Write-ahead log flushes (fdatasync)", replicator.flush_count),
            ("nodedb_log_entries", "Entries made durable", replicator.entry_count),
            ("nodedb_log_flushed_bytes", "Bytes of entries flushed", replicator.flushed_bytes),
            ("nodedb_engine_commits", "LMDB commits", replicator.commit_count),
            ("nodedb_plan_cache_hits", "Plans found in the cache", sessions.plans.hits),
            ("nodedb_plan_cache_misses", "Plans made", sessions.plans.misses),
        )
        for name, help_text, value in counters:
            yield CounterMetricFamily(name, help_text, value=value)
        yield GaugeMetricFamily(
            "nodedb_timestamp_lead_seconds",
            "How far the newest timestamp is ahead of the wall clock",
            value=transactions.timestamps.lead_seconds,
        )
        yield GaugeMetricFamily("nodedb_locks", "Resources locked", value=len(transactions.locks))
        keys = sum(transactions.group.vshard_keys)
        size = sum(transactions.group.vshard_bytes)
        yield GaugeMetricFamily("nodedb_group_keys", "Live keys of the data group", value=keys)
        yield GaugeMetricFamily("nodedb_group_bytes", "Bytes of live keys and values", value=size)
        yield self._latency()

    def _latency(self) -> Metric:
        buckets, total = self._sessions.latency.cumulative()
        family = HistogramMetricFamily("nodedb_statement_seconds", "Time from request to result")
        family.add_metric([], buckets, total)
        return family
