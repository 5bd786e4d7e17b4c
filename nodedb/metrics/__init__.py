"""The node's metrics in Prometheus' form: a registry, and one collector per subsystem."""

from nodedb.metrics.registry import Collect, MetricsRegistry, NodeMetrics

__all__ = ["Collect", "MetricsRegistry", "NodeMetrics"]
