"""Circuit breakers that stand open are tried again without waiting for a user's request."""

from cluster.reachability.config import InvalidReachabilitySetting, ReachabilitySettings
from cluster.reachability.core import CircuitState, ReachabilityCore

__all__ = [
    "CircuitState",
    "InvalidReachabilitySetting",
    "ReachabilityCore",
    "ReachabilitySettings",
]
