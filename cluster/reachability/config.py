"""Settings of the reachability driver."""

from dataclasses import dataclass


class InvalidReachabilitySetting(Exception):
    """A setting is out of bounds; the operator corrects it. Names the setting and the reason."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f'reachability setting "{setting}" {reason}')
        self.setting = setting
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ReachabilitySettings:
    """How often open breakers are tried, and how many of them at once.

    ``interval_seconds`` should be above the breaker's cool-down (10 s), or probes are refused by
    the breaker itself. A probe that takes longer than ``probe_timeout_seconds`` is given up.
    """

    interval_seconds: float = 30.0
    peers_per_tick_max: int = 16
    probe_timeout_seconds: float = 5.0

    def validate(self) -> None:
        """Raise InvalidReachabilitySetting for the first value that is out of bounds."""
        if not 0 < self.interval_seconds < float("inf"):
            raise InvalidReachabilitySetting("interval_seconds", "must be above 0")
        if not 0 < self.probe_timeout_seconds < float("inf"):
            raise InvalidReachabilitySetting("probe_timeout_seconds", "must be above 0")
        if self.peers_per_tick_max < 1:
            raise InvalidReachabilitySetting("peers_per_tick_max", "must be at least 1")
