"""Metrics of sessions, statements and transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodedb.latency import Latency
    from nodedb.session.manager import SessionManager


def collect_sql(sessions: SessionManager) -> Iterator[Metric]:
    """Yield the families of the SQL side."""
    transactions = sessions.transactions
    yield GaugeMetricFamily("nodedb_connections", "Open SQL sessions", value=len(sessions.sessions))
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
    yield _latency(sessions.latency)


def _latency(latency: Latency) -> Metric:
    buckets, total = latency.cumulative()
    family = HistogramMetricFamily("nodedb_statement_seconds", "Time from request to result")
    family.add_metric([], buckets, total)
    return family
