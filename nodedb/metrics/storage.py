"""Metrics of the write-ahead log, the engine and the data group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodedb.storage.wal import Wal
    from nodedb.txn.manager import TransactionManager


def collect_storage(transactions: TransactionManager) -> Iterator[Metric]:
    """Yield the families of log, engine and rows."""
    replicator = transactions.replicator
    counters = (
        ("nodedb_log_flushes", "Write-ahead log flushes (fdatasync)", replicator.flush_count),
        ("nodedb_log_entries", "Entries made durable", replicator.entry_count),
        ("nodedb_log_flushed_bytes", "Bytes of entries flushed", replicator.flushed_bytes),
        ("nodedb_engine_commits", "LMDB commits", replicator.commit_count),
    )
    for name, help_text, value in counters:
        yield CounterMetricFamily(name, help_text, value=value)
    keys = sum(transactions.group.vshard_keys)
    size = sum(transactions.group.vshard_bytes)
    yield GaugeMetricFamily("nodedb_group_keys", "Live keys of the data group", value=keys)
    yield GaugeMetricFamily("nodedb_group_bytes", "Bytes of live keys and values", value=size)


def collect_wal(wal: Wal) -> Iterator[Metric]:
    """Yield the families of the log's files."""
    yield GaugeMetricFamily(
        "nodedb_log_disk_bytes", "Bytes of the log's segment files", value=wal.disk_bytes()
    )
    yield GaugeMetricFamily(
        "nodedb_log_cached_bytes", "Bytes of entries kept in memory", value=wal.cached_bytes()
    )
    durable = GaugeMetricFamily(
        "nodedb_log_durable_index", "Newest entry that is fsynced", labels=["group"]
    )
    for group_id in wal.groups():
        durable.add_metric([str(group_id)], wal.durable_index(group_id))
    yield durable
