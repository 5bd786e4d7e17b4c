"""Our own health, as far as the failure detector can tell: Lifeguard's local health multiplier.

A node whose own loop, link or machine is slow misses Acks of members that are well. So each sign of
that makes it doubt itself before it doubts others: its interval and its time-out grow. Source:
Lifeguard (Dadgar, Phillips, Currey 2018), LHA-Probe.
"""


class Awareness:
    """A score between 0 (well) and ``score_max``. Invariant: it never leaves these bounds."""

    def __init__(self, score_max: int) -> None:
        self.score = 0
        self._score_max = score_max

    def improve(self) -> None:
        """Note that a probe was answered in time."""
        self.worsen(-1)

    def worsen(self, steps: int = 1) -> None:
        """Note signs of ill health.

        A probe failed without a Nack, we had to refute, or the node did not run for a while.
        """
        self.score = min(max(self.score + steps, 0), self._score_max)

    def scale(self, seconds: float) -> float:
        """Return a time as it is while we are this well: ``seconds * (score + 1)``."""
        return seconds * (self.score + 1)
