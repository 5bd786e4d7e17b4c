"""Settings of the failure detector, with what they mean, what they cost and their formulas.

Two kinds. The first eight are SWIM's own; the rest bound what we add to it: Lifeguard's local
health (Dadgar, Phillips, Currey 2018), the pings that help a suspect to refute, and the pings that
find members again after a partition. Times are seconds.
"""

from dataclasses import dataclass
from math import ceil, log, log2


class InvalidSwimSetting(Exception):
    """A setting is out of bounds; the operator corrects it. Names the setting and the reason."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f'swim setting "{setting}" {reason}')
        self.setting = setting
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SwimSettings:
    """What a detector is tuned by; ``validate`` says whether it may be used.

    ``probe_interval_seconds``: one member is probed per interval. Twice as often finds failures in
    half the time for twice the datagrams.
    ``probe_timeout_seconds``: how long an Ack may take; below the interval, well above the
    round-trip time.
    ``indirect_probes``: helpers that are asked when the direct ping fails. More of them survive
    more loss.
    ``suspicion_mult``: how many intervals (times log2 of the cluster's size) a suspect has to
    refute.
    ``suspicion_min_seconds``: at least this long, however short the interval is.
    ``incarnation_initial``: the incarnation a boot begins with.
    ``piggyback_max``: member updates in one datagram.
    ``fanout_lambda``: an update is sent this often times log2(n + 1) by every member that has it.

    ``suspicion_max_mult``: a suspicion that nobody confirms lasts this much longer (Lifeguard's
    beta); 1 switches LHA-Suspicion off.
    ``awareness_max``: our own interval and time-out grow up to 1 + this many fold while we are the
    slow one (Lifeguard's S); 0 switches LHA-Probe off.
    ``suspect_pings``, ``suspect_pings_total``: how often per interval a holder of a suspicion tells
    the suspect, and how often all holders together do at most.
    ``unknown_pings``: seeds without a known id that are pinged per interval.
    ``announce_fanout``: members that a node tells by itself that it has come, or that it leaves.
    """

    probe_interval_seconds: float = 1.0
    probe_timeout_seconds: float = 0.5
    indirect_probes: int = 3
    suspicion_mult: int = 4
    suspicion_min_seconds: float = 2.0
    incarnation_initial: int = 0
    piggyback_max: int = 6
    fanout_lambda: int = 3
    suspicion_max_mult: int = 6
    awareness_max: int = 8
    suspect_pings: int = 4
    suspect_pings_total: int = 16
    unknown_pings: int = 3
    announce_fanout: int = 16

    def validate(self) -> None:
        """Raise InvalidSwimSetting for the first value that is out of bounds."""
        if not 0 < self.probe_interval_seconds < float("inf"):
            raise InvalidSwimSetting("probe_interval_seconds", "must be above 0")
        if not 0 < self.probe_timeout_seconds < self.probe_interval_seconds:
            raise InvalidSwimSetting(
                "probe_timeout_seconds", "must be above 0 and below probe_interval_seconds"
            )
        if not 0 < self.suspicion_min_seconds < float("inf"):
            raise InvalidSwimSetting("suspicion_min_seconds", "must be above 0")
        if not 0 <= self.incarnation_initial < 2**63:
            raise InvalidSwimSetting("incarnation_initial", "must be at least 0 and below 2^63")
        if not 1 <= self.piggyback_max <= 32:
            raise InvalidSwimSetting("piggyback_max", "must be between 1 and 32")
        if not 0 <= self.awareness_max <= 64:
            raise InvalidSwimSetting("awareness_max", "must be between 0 and 64")
        for setting in (
            "indirect_probes",
            "suspicion_mult",
            "fanout_lambda",
            "suspicion_max_mult",
            "suspect_pings",
            "suspect_pings_total",
            "unknown_pings",
            "announce_fanout",
        ):
            if getattr(self, setting) < 1:
                raise InvalidSwimSetting(setting, "must be at least 1")

    def suspicion_seconds(self, member_count: int) -> float:
        """Return how long a suspicion lasts in a cluster of that size, once it is confirmed.

        ``max(suspicion_min, suspicion_mult * max(1, log2(max(n, 2))) * probe_interval)``: 6.3 s for
        3 members and 16 s for 16, with the defaults.
        """
        scale = max(1.0, log2(max(member_count, 2)))
        scaled = self.suspicion_mult * scale * self.probe_interval_seconds
        return max(self.suspicion_min_seconds, scaled)

    def confirmations_wanted(self, member_count: int) -> int:
        """Return how many others must confirm a suspicion before it runs at its shortest.

        ``suspicion_mult - 2`` as in memberlist, but none where there are not enough others.
        """
        wanted = max(0, self.suspicion_mult - 2)
        if self.suspicion_max_mult == 1 or member_count - 2 < wanted:
            return 0
        return wanted

    def confirmed_suspicion_seconds(
        self, *, member_count: int, confirmations: int, wanted: int
    ) -> float:
        """Return how long a suspicion lasts with that many confirmations by others.

        ``max - (max - min) * log(c + 1) / log(k + 1)`` between the shortest time-out and
        ``suspicion_max_mult`` times it. Source: Lifeguard, LHA-Suspicion.
        """
        shortest = self.suspicion_seconds(member_count)
        if wanted <= 0 or confirmations >= wanted:
            return shortest
        longest = shortest * self.suspicion_max_mult
        return longest - (longest - shortest) * log(confirmations + 1) / log(wanted + 1)

    def sends_max(self, member_count: int) -> int:
        """Return how often an update is sent: ``ceil(fanout_lambda * log2(n + 1))``."""
        return ceil(self.fanout_lambda * log2(member_count + 1))

    def suspect_ping_seconds(self, member_count: int) -> float:
        """Return the time between two pings by which one holder tells a suspect."""
        share = max(1 / self.suspect_pings, (member_count - 1) / self.suspect_pings_total)
        return self.probe_interval_seconds * share
