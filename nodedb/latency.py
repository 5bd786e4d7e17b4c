"""A latency histogram cheap enough for every statement: one bisect and two additions."""

from bisect import bisect_left
from typing import Final

BOUNDS_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


class Latency:
    """Counts durations in fixed buckets."""

    __slots__ = ("_counts", "count", "total_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.count = 0
        self.total_seconds = 0.0

    def record(self, seconds: float) -> None:
        """Add one duration."""
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.count += 1
        self.total_seconds += seconds

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """Return Prometheus' cumulative buckets and the sum."""
        running = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*BOUNDS_SECONDS, float("inf")), self._counts, strict=True):
            running += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), running))
        return buckets, self.total_seconds
