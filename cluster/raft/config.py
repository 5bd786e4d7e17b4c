"""Settings of a Raft group, the same for all groups of a node.

The formulas tie them together: a lease is the shortest election timeout less the drift margin,
because until the shortest timeout has passed no voter that heard the leader helps another one.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """All times are of the monotonic clock; ``faults`` tells what does not fit together."""

    election_timeout_ms_min: int = 750
    """A follower that hears nothing campaigns after a uniformly random time in [min, max].

    Shorter finds a dead leader sooner; but a leader that pauses longer than this (garbage, a slow
    fsync, a stopped virtual machine) loses its groups.
    """
    election_timeout_ms_max: int = 1500
    """Also: how long a leader goes on without a quorum, and how long a replica keeps silent after
    its start (PROTOCOL rule 36). The wider the window, the rarer the split votes."""
    heartbeat_ms: int = 150
    """How often an idle leader shows that it lives; renews the lease, so it must fit into it."""
    tick_ms: int = 25
    """How often the driver calls ``tick``."""
    lease_drift_ms: int = 75
    """How much sooner a lease ends at the leader than the promise at the voters: what two
    monotonic clocks may differ by over one election timeout (PROTOCOL rule 37)."""
    inflight_entries_max: int = 4096
    """Entries sent to a peer and not acknowledged; then the leader waits."""
    inflight_bytes_max: int = 8 * 1024 * 1024
    """Their payload bytes; one longer entry may travel alone."""
    append_bytes_max: int = 1024 * 1024
    """Payload bytes in one append; a longer entry travels alone."""
    quiesce_after_seconds: float = 5.0
    """A group in which nothing happened for so long stops its heartbeats. 0 or less: never."""

    @property
    def election_timeout_seconds_min(self) -> float:
        """For how long a voter that heard the leader helps nobody else."""
        return self.election_timeout_ms_min / 1000

    @property
    def election_timeout_seconds_max(self) -> float:
        """After how long without a leader everybody campaigns."""
        return self.election_timeout_ms_max / 1000

    @property
    def heartbeat_seconds(self) -> float:
        """The interval of heartbeats."""
        return self.heartbeat_ms / 1000

    @property
    def lease_seconds(self) -> float:
        """How long a round that a quorum acknowledged holds, from when it left."""
        return (self.election_timeout_ms_min - self.lease_drift_ms) / 1000

    def faults(self) -> list[str]:
        """Return a sentence per setting that cannot work; all at once."""
        found = [
            f"{name} must be above 0, it is {getattr(self, name)}"
            for name in (
                "election_timeout_ms_min",
                "heartbeat_ms",
                "tick_ms",
                "lease_drift_ms",
                "inflight_entries_max",
                "inflight_bytes_max",
                "append_bytes_max",
            )
            if getattr(self, name) <= 0
        ]
        if self.election_timeout_ms_max <= self.election_timeout_ms_min:
            found.append(
                f"election_timeout_ms_max ({self.election_timeout_ms_max}) must be above "
                f"election_timeout_ms_min ({self.election_timeout_ms_min}), or votes split for ever"
            )
        if 2 * self.heartbeat_ms > self.election_timeout_ms_min - self.lease_drift_ms:
            found.append(
                f"heartbeat_ms ({self.heartbeat_ms}) must fit twice into election_timeout_ms_min "
                f"less lease_drift_ms ({self.election_timeout_ms_min} - {self.lease_drift_ms}), or "
                "one lost heartbeat costs the lease"
            )
        if self.tick_ms > self.heartbeat_ms:
            found.append(
                f"tick_ms ({self.tick_ms}) must not be above heartbeat_ms ({self.heartbeat_ms})"
            )
        if self.append_bytes_max > self.inflight_bytes_max:
            found.append(
                f"append_bytes_max ({self.append_bytes_max}) must not be above inflight_bytes_max "
                f"({self.inflight_bytes_max})"
            )
        return found
