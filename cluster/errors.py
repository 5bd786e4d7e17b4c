"""Errors between nodes, in three families: may it have been applied, and who must act.

* ``Redirect``: wrong node or stale route. The one retry loop acts, at once; no client sees it.
* ``Unavailable``: **surely not applied**. Retried with back-off within the statement's budget, then
  57P03 with the group in the detail.
* ``OutcomeUnknown``: **may have been applied**. Never retried by us unless idempotent; 40003.

None of them is ever raised in apply. SQLSTATEs are not written here: who turns errors into
messages has them (ADR 0007). The families are abstract, but for ``OutcomeUnknown``, which says all
there is to say.
"""


class ClusterError(Exception):
    """Abstract root of the three families."""

    def __init__(self, message: str) -> None:
        assert type(self) not in _ABSTRACT, f"{type(self).__name__} is abstract"
        super().__init__(message)


class Redirect(ClusterError):
    """Abstract: somebody else can do it; nothing was done here."""


class Unavailable(ClusterError):
    """Abstract: nobody can do it now; surely not applied."""


class OutcomeUnknown(ClusterError):
    """It left, and no answer came: it may have been applied, or may still be."""


_ABSTRACT = (ClusterError, Redirect, Unavailable)


class NotLeader(Redirect):
    """This replica does not lead its group; ``leader_id`` does as far as it knows (0: nobody)."""

    def __init__(self, leader_id: int) -> None:
        who = f"node {leader_id} leads it" if leader_id else "no leader is known"
        super().__init__(f"not the leader of the group; {who}")
        self.leader_id = leader_id


class TransferInProgress(Unavailable):
    """The leader is handing its group over to ``target`` and takes no proposals meanwhile."""

    def __init__(self, target: int) -> None:
        super().__init__(f"leadership is being transferred to node {target}")
        self.target = target


class ConfChangeInFlight(Unavailable):
    """A membership change is not committed yet, or the leader's first entry is not; try later."""


class ConfChangeRefused(Unavailable):
    """A membership change that makes no sense in the present configuration; says why."""
