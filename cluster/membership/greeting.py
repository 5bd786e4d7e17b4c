"""How a node presents itself, and what it makes of others that do. Pure.

``Greeter`` lives as long as the process. While the store is empty its answers carry this node's
vote: the smallest of its seeds, which alone may found the cluster. The vote is fixed at its first
use, even if DNS names a smaller seed later, so two nodes can found two clusters only if their seed
lists share no majority. Once the node is a member it tells nodes of other clusters, and shows its
operator, that they have no business here.

``Announcement`` is what a member does after its start: it greets the seeds until each has shown
that it is a member too, so that nobody sits out a long back-off beside a cluster that is there. It
is also how a restarted node finds out that its store belongs to a cluster that is gone.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from cluster.membership.message import Greet, Greeting, GreetReply

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cluster.membership.catalog import Identity
    from cluster.membership.config import StartSettings

REFUSALS_MAX: Final = 100
_CLUSTERS: Final = re.compile(r'cluster "([^"]+)"')
_Kind = TypeVar("_Kind", Greet, GreetReply)


class LocalNode(NamedTuple):
    """Who this process is, apart from its membership. ``node_id`` is the one asked for, or 0."""

    address: str
    store_id: str
    incarnation: int
    node_id: int = 0
    role: str = "voter"


class Greeter:
    """Presents this node. Invariant: the vote never changes once it has been said."""

    def __init__(self, local: LocalNode, identity: Identity | None) -> None:
        self._local = local
        self._identity = identity
        self._vote = ""
        self._smallest_seed = ""
        self.own_names = {local.address}
        """Addresses under which this node has met itself; its own first."""
        self.refusals: deque[tuple[str, str]] = deque(maxlen=REFUSALS_MAX)
        """(address, sentence) of nodes that were turned away, newest last, each once in a row."""

    def on_seeds(self, seeds: Sequence[str], *, may_found: bool) -> None:
        """Take the seed list, sorted; without ``may_found`` there is nobody to vote for yet."""
        self._smallest_seed = seeds[0] if seeds and may_found else ""

    def become_member(self, identity: Identity) -> None:
        """Present this node as a member from now on."""
        assert self._identity in (None, identity) or self._identity.cluster_id == (
            identity.cluster_id
        )
        self._identity = identity

    @property
    def vote(self) -> str:
        """The seed this node waits for, "" if none; asking does not bind it."""
        return self._vote or self._smallest_seed

    @property
    def is_own_vote(self) -> bool:
        """Tell whether this node waits for itself: it is the one to found the cluster."""
        return self.vote in self.own_names

    def bind_vote(self) -> str:
        """Fix the vote and return it."""
        self._vote = self.vote
        return self._vote

    def greet(self) -> Greet:
        """Return this node's greeting."""
        return self._present(Greet)

    def on_greet(self, greet: Greeting) -> GreetReply:
        """Return the answer to a greeting, noting who belongs elsewhere."""
        self.note_stranger(greet)
        return self._present(GreetReply)

    def note_stranger(self, greeting: Greeting) -> str:
        """Remember a node of another cluster; returns the sentence, "" if it is none."""
        identity = self._identity
        own = "" if identity is None else identity.cluster_id
        if not own or not greeting.cluster_id or greeting.cluster_id == own:
            return ""
        sentence = (
            f"node {greeting.node_id} at {greeting.address} belongs to cluster "
            f"{greeting.cluster_id}, this node to {own}: one of them has a stale store "
            "or the wrong --join"
        )
        if (greeting.address, sentence) not in self.refusals:
            self.refusals.append((greeting.address, sentence))
        return sentence

    def _present(self, kind: type[_Kind]) -> _Kind:
        local, identity = self._local, self._identity
        return kind(
            cluster_id="" if identity is None else identity.cluster_id,
            node_id=local.node_id if identity is None else identity.node_id,
            store="empty" if identity is None else "member",
            address=local.address,
            incarnation=local.incarnation,
            store_id=local.store_id,
            bootstrapper=self.bind_vote() if identity is None else "",
        )


class Announcement:
    """Greets the seeds of a fresh or restarted member until each is one too, or time is up."""

    def __init__(
        self,
        settings: StartSettings,
        cluster_id: str,
        seeds: Sequence[str],
        own_names: Collection[str],
        now: float,
    ) -> None:
        self._settings = settings
        self._cluster_id = cluster_id
        self._ends_at = now + settings.budget_seconds
        self._attempts = dict.fromkeys((seed for seed in seeds if seed not in own_names), 0)
        self._due_at = dict.fromkeys(self._attempts, now)
        self._seed_count = len(seeds)
        self._strangers: dict[str, str] = {}
        self._has_friend = False

    def take_due(self, now: float) -> list[str]:
        """Return the seeds to greet now; each is greeted again only after its result came."""
        due = [seed for seed, at in self._due_at.items() if at <= now]
        for seed in due:
            del self._due_at[seed]
        return due

    def next_due_at(self) -> float | None:
        """Return when to ask ``take_due`` again; None while results are outstanding."""
        return min(self._due_at.values(), default=None)

    @property
    def is_over(self) -> bool:
        """Tell whether there is nobody left to greet."""
        return not self._attempts

    def on_reply(self, seed: str, reply: Greeting, now: float) -> None:
        """Take an answer; a seed that is a member needs no other greeting."""
        if reply.store != "member":
            self._again(seed, now)
        elif reply.cluster_id == self._cluster_id:
            self._has_friend = True
            self._attempts.pop(seed, None)
        else:
            self._strangers[seed] = reply.cluster_id
            self._attempts.pop(seed, None)

    def on_failed(self, seed: str, error: str, now: float) -> None:
        """Take that no answer came. The transport itself turns nodes of other clusters away."""
        named = [cluster for cluster in _CLUSTERS.findall(error) if cluster != self._cluster_id]
        if named:
            self._strangers[seed] = named[0]
            self._attempts.pop(seed, None)
        else:
            self._again(seed, now)

    def _again(self, seed: str, now: float) -> None:
        if seed not in self._attempts:
            return
        self._attempts[seed] += 1
        due_at = now + self._settings.delay_seconds(self._attempts[seed])
        if due_at > self._ends_at:
            del self._attempts[seed]
        else:
            self._due_at[seed] = due_at

    @property
    def foreign_sentence(self) -> str:
        """Say that this store is stale: most seeds are members of one other cluster.

        "" while that is not so. A node that learns it stops: its cluster has been founded anew
        without it, or it was given the wrong seeds. With half of the seeds or less it might be they
        whose stores are stale.
        """
        clusters = set(self._strangers.values())
        if self._has_friend or len(clusters) != 1 or 2 * len(self._strangers) <= self._seed_count:
            return ""
        named = ", ".join(sorted(self._strangers))
        return (
            f"this store belongs to cluster {self._cluster_id}, but the seeds {named} are members "
            f"of cluster {clusters.pop()}: give --join of its own cluster, or start with an empty "
            "store"
        )
