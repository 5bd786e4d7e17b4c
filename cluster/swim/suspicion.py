"""One suspicion: when it began, who else holds it, and when it turns into a death.

Lifeguard's LHA-Suspicion: a suspicion starts with its longest time-out and comes down towards the
shortest as other members accuse the same member independently, because then it is not the first
accuser who is ill. In clusters too small for that it runs at the shortest from the beginning.
"""

from cluster.ids import NodeId
from cluster.swim.config import SwimSettings


class Suspicion:
    """The timer of a suspect; the cluster's size counts as it is when the timer is armed."""

    __slots__ = ("_accusers", "_member_count", "_settings", "_wanted", "next_ping_at", "started_at")

    def __init__(
        self, *, settings: SwimSettings, member_count: int, accuser: NodeId, now: float
    ) -> None:
        self._settings = settings
        self._member_count = member_count
        self._accusers = [accuser]
        self._wanted = settings.confirmations_wanted(member_count)
        self.started_at = now
        self.next_ping_at = now

    @property
    def accuser(self) -> NodeId:
        """The member that accused first, as far as we know."""
        return self._accusers[0]

    @property
    def confirmations(self) -> int:
        """How many others accuse the member as well."""
        return len(self._accusers) - 1

    @property
    def deadline(self) -> float:
        """When the suspect is dead, if it has not refuted by then."""
        return self.started_at + self._settings.confirmed_suspicion_seconds(
            member_count=self._member_count,
            confirmations=self.confirmations,
            wanted=self._wanted,
        )

    def confirm(self, accuser: NodeId) -> bool:
        """Count an accuser; tell whether it counted and should be passed on to others.

        Each counts once, and no more than are wanted, so the memory for them is bounded.
        """
        if self.confirmations >= self._wanted or accuser in self._accusers:
            return False
        self._accusers.append(accuser)
        return True

    def pinged(self, now: float) -> None:
        """Note that the suspect has been told, and when to tell it again."""
        self.next_ping_at = now + self._settings.suspect_ping_seconds(self._member_count)

    def shift(self, seconds: float) -> None:
        """Move the timer on: the time in which this node did not run does not count."""
        self.started_at += seconds
        self.next_ping_at += seconds
