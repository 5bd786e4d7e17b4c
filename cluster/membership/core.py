"""The start of a node as a pure automaton: restart, found a cluster, or join one.

::

    saved record complete ------------------------------------------> Restart   (no network)
    saved record of a founder, cut short ---------------------------> Found     (same cluster id)
    no --join at all -----------------------------------------------> Found
    otherwise, attempt after attempt:
        greet every seed
          a seed names a cluster --> ask its members, in order, to join
                 success -------------------------------------------> Join
                 "not leader; retry at A" --> ask A next, three times at most
          nobody does, this node is the smallest seed, and a majority of
          the seeds, itself counted, said "empty store" in this start -> Found
        wait: 0, 0.25, 0.5, 1, 2, 4, 8, 16 s, then 32 s each
    120 s spent, or a refusal that will not change -----------------> GiveUp

A greeting that tells something new about a seed (its start, or that it is a member now) begins the
back-off anew. Only news do, and a start makes at most two of them, so nodes that wait together do
not keep each other awake.

Why this is safe. Who founds has the votes of a majority of its seeds (``greeting.Greeter``), none
of which had heard of a cluster; and as soon as one seed has named a cluster, in whatever order the
answers came, this start never founds. So a smallest seed that lost its disk finds its cluster again
as long as a majority of the seeds belong to it or one that answers does.

What it costs: if most of the seeds were never started, and those that were cannot be reached, a
smallest seed with a lost disk founds a second cluster. The two refuse each other when they meet.

The driver (``driver``) carries out ``effects``, reports results, wakes the core at ``due_at``, and
stops at a ``decision``. Sources: the join protocol of the user's document 004; BEHAVIOUR 5.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from cluster.membership.address import sort_key
from cluster.membership.catalog import (
    Identity,
    Routing,
    SavedMembership,
    Topology,
    fault_of_response,
)
from cluster.membership.config import REDIRECTS_MAX
from cluster.membership.message import parse_leader_redirect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster.membership.config import StartSettings
    from cluster.membership.greeting import Greeter, LocalNode
    from cluster.membership.message import Greet, Greeting, JoinRequest, JoinResponse

FOUNDER_NODE_ID = 1


class SendGreet(NamedTuple):
    """Ask a seed who it is; report ``on_greet_reply`` or ``on_greet_failed``."""

    seed: str
    greet: Greet


class SendJoin(NamedTuple):
    """Ask a member to join; report ``on_join_response`` or ``on_join_failed``."""

    address: str
    request: JoinRequest
    timeout_seconds: float


Effect = SendGreet | SendJoin


class Restart(NamedTuple):
    """Go on with what the store holds."""

    identity: Identity
    topology: Topology
    routing: Routing


class Found(NamedTuple):
    """Found a cluster of this node alone, or finish founding it."""

    identity: Identity


class Join(NamedTuple):
    """The cluster took this node in."""

    response: JoinResponse


class GiveUp(NamedTuple):
    """The start has failed; a sentence for each reason or seed."""

    sentences: tuple[str, ...]


Decision = Restart | Found | Join | GiveUp


class Started(NamedTuple):
    """A membership that is on disk. A founder, or one that died founding, makes the first catalog.

    ``topology`` and ``routing`` are what to start the groups with where the node's own replica of
    the metadata group has applied nothing yet.
    """

    kind: Literal["restart", "found", "join"]
    identity: Identity
    topology: Topology
    routing: Routing


class StartFailed(Exception):
    """The node is no member and will not become one by waiting. An operator acts; exit status 1."""

    def __init__(self, sentences: tuple[str, ...]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class _Walk:
    """One attempt's way through the members: whom to ask next, who was asked, how often sent on."""

    def __init__(self) -> None:
        self._work: deque[str] = deque()
        self._visited: set[str] = set()
        self._redirects = 0

    def following(self, members: Sequence[str]) -> str | None:
        """Return the next address that was not asked yet: a leader's, else that of a member."""
        self._work.extend(members)
        while self._work:
            address = self._work.popleft()
            if address not in self._visited:
                self._visited.add(address)
                return address
        return None

    def redirect(self, address: str) -> bool:
        """Put the leader in front; False when it was asked already or the limit is reached."""
        if self._redirects >= REDIRECTS_MAX or address in self._visited:
            return False
        self._redirects += 1
        self._work.appendleft(address)
        return True


class StartCore:
    """One start of one node. Invariant: the first decision is the only one."""

    def __init__(
        self,
        *,
        settings: StartSettings,
        local: LocalNode,
        greeter: Greeter,
        request: JoinRequest,
        saved: SavedMembership,
        new_cluster_id: str,
        is_clustered: bool,
        now: float,
    ) -> None:
        """Begin. ``request`` is what to send to a leader; the core fills in what the store knows.

        ``new_cluster_id`` is a fresh random one, used if this node founds a cluster.
        """
        self._settings = settings
        self._local = local
        self._greeter = greeter
        self._saved = saved
        self._new_cluster_id = new_cluster_id
        self._ends_at = now + settings.budget_seconds
        self._seeds: tuple[str, ...] = ()
        self._seeds_may_found = False
        self._lookup_errors: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        # By store id, for one node may be known under several names.
        self._known: dict[str, Greeting] = {}
        self._answered: dict[str, str] = {}
        # Never forgotten: once there was a cluster, this start founds none.
        self._clusters_named: set[str] = set()
        self._outstanding: set[str] = set()
        self._walk: _Walk | None = None
        self._is_last_attempt = False
        self._has_news = False
        self._effects: list[Effect] = []
        self.attempt = 0
        self.due_at: float | None = None
        """When to call ``on_timer``; None while answers are outstanding."""
        self.decision: Decision | None = None
        identity = saved.identity
        self._request = request
        if identity is not None:
            self._request = msgspec.structs.replace(
                request, cluster_id=identity.cluster_id, node_id=identity.node_id
            )
        self._begin(is_clustered, now)

    def _begin(self, is_clustered: bool, now: float) -> None:  # noqa: FBT001
        identity, topology, routing = self._saved
        if identity is not None and topology is not None and routing is not None:
            self.decision = Restart(identity, topology, routing)
        elif identity is not None and identity.is_founder:
            self.decision = Found(identity)
        elif not is_clustered and identity is None:
            self.decision = Found(self._founding_identity())
        elif not is_clustered:
            assert identity is not None
            self.decision = GiveUp(
                (f"this node was joining cluster {identity.cluster_id}: give --join again",)
            )
        else:
            self.due_at = now

    def _founding_identity(self) -> Identity:
        node_id = self._local.node_id or FOUNDER_NODE_ID
        return Identity(self._new_cluster_id, node_id, is_founder=True)

    def effects(self) -> list[Effect]:
        """Drain what is to be sent."""
        effects, self._effects = self._effects, []
        return effects if self.decision is None else []

    # Inputs

    def on_seeds(
        self, seeds: Sequence[str], lookup_errors: Mapping[str, str], *, may_found: bool
    ) -> None:
        """Take the seed list, sorted ascending; a change counts from the next attempt on."""
        self._seeds = tuple(seeds)
        self._seeds_may_found = may_found
        self._lookup_errors = dict(lookup_errors)
        self._greeter.on_seeds(seeds, may_found=may_found)

    def on_timer(self, now: float) -> None:
        """Begin the attempt that is due."""
        if self.decision is not None or self.due_at is None or now < self.due_at:
            return
        self.due_at = None
        self._is_last_attempt = now >= self._ends_at
        self._outstanding = {seed for seed in self._seeds if seed not in self._greeter.own_names}
        for seed in self._seeds:
            if seed in self._outstanding:
                self._effects.append(SendGreet(seed, self._greeter.greet()))
        self._conclude_greetings(now)

    def on_greeting(self, greeting: Greeting, now: float) -> None:
        """Take a greeting that another node sent by itself."""
        if self.decision is not None or greeting.store_id == self._local.store_id:
            return
        if greeting.address in self._seeds:
            self._answered[greeting.address] = greeting.store_id
        elif greeting.store != "member":
            return
        if not self._note(greeting):
            return
        if self.due_at is not None:
            self.attempt, self.due_at = 0, now
            return
        self._has_news = True
        if self._outstanding:
            self._conclude_greetings(now)

    def on_greet_reply(self, seed: str, reply: Greeting, now: float) -> None:
        """Take a seed's answer."""
        if self.decision is not None:
            return
        self._errors.pop(seed, None)
        if reply.store_id == self._local.store_id:
            # The seed is another name of this node.
            self._greeter.own_names.add(seed)
        else:
            self._answered[seed] = reply.store_id
            self._note(reply)
        self._greeting_is_over(seed, now)

    def on_greet_failed(self, seed: str, error: str, now: float) -> None:
        """Take that a seed gave no answer."""
        if self.decision is not None:
            return
        self._errors[seed] = error
        self._greeting_is_over(seed, now)

    def on_join_response(self, address: str, response: JoinResponse, now: float) -> None:
        """Take a member's verdict."""
        if self.decision is not None or self._walk is None:
            return
        if response.success:
            fault = self._fault_of(response)
            if not fault:
                self.decision = Join(response)
                return
            self._errors[address] = fault
        elif (leader := parse_leader_redirect(response.error)) is not None:
            self._errors[address] = self._follow(self._walk, leader)
        elif response.is_final:
            self.decision = GiveUp((f"{address} refused this node: {response.error}",))
            return
        else:
            self._errors[address] = response.error or "refused without a reason"
        self._ask_next(now)

    def on_join_failed(self, address: str, error: str, now: float) -> None:
        """Take that a member gave no verdict."""
        if self.decision is not None or self._walk is None:
            return
        self._errors[address] = error
        self._ask_next(now)

    # The attempt

    def _note(self, greeting: Greeting) -> bool:
        """Remember what a node says of itself; tell whether it is news."""
        known = self._known.get(greeting.store_id)
        if known is not None:
            if greeting.incarnation < known.incarnation:
                return False
            is_same_start = greeting.incarnation == known.incarnation
            if is_same_start and known.store == "member" != greeting.store:
                return False  # An answer from before it joined, overtaken by its greeting.
        # Whoever was at this address before has lost its store, or was another one's.
        for store_id in [s for s, each in self._known.items() if each.address == greeting.address]:
            del self._known[store_id]
        self._known[greeting.store_id] = greeting
        if greeting.cluster_id:
            self._clusters_named.add(greeting.cluster_id)
        return known is None or (known.incarnation, known.store, known.cluster_id) != (
            greeting.incarnation,
            greeting.store,
            greeting.cluster_id,
        )

    def _greeting_is_over(self, seed: str, now: float) -> None:
        if seed in self._outstanding:
            self._outstanding.discard(seed)
            self._conclude_greetings(now)

    def _conclude_greetings(self, now: float) -> None:
        """Go on to joining with the first name of a cluster, to founding with the last answer."""
        if self._walk is not None:
            return
        if any(greeting.store == "member" for greeting in self._known.values()):
            self._outstanding.clear()
            self._walk = _Walk()
            self._ask_next(now)
        elif self._outstanding:
            return
        elif self._may_found():
            self._greeter.bind_vote()
            self.decision = Found(self._founding_identity())
        else:
            self._attempt_failed(now)

    def _is_torn(self) -> bool:
        """Tell whether members of several clusters are known, this node's own counted."""
        own = self._saved.identity
        clusters = {each.cluster_id for each in self._known.values() if each.store == "member"}
        return len(clusters if own is None else clusters | {own.cluster_id}) > 1

    def _member_addresses(self) -> list[str]:
        """Return whom to ask, ascending: members as the seed that named them, or as advertised."""
        named = {store_id: seed for seed, store_id in reversed(self._answered.items())}
        members = {
            named.get(store_id, greeting.address)
            for store_id, greeting in self._known.items()
            if greeting.store == "member"
        }
        return sorted(members - self._greeter.own_names, key=sort_key)

    def _votes(self) -> int:
        """Count the seeds that said "empty store" and wait for this node, itself among them."""
        stores = set(self._answered.values())
        return 1 + sum(
            greeting.store == "empty"
            and greeting.bootstrapper in self._greeter.own_names
            and greeting.store_id in stores
            for greeting in self._known.values()
        )

    def _votes_needed(self) -> int:
        others = sum(seed not in self._greeter.own_names for seed in self._seeds)
        return (others + 1) // 2 + 1

    def _may_found(self) -> bool:
        return (
            self._local.role == "voter"
            and self._saved.identity is None
            and self._seeds_may_found
            and self._greeter.is_own_vote
            and not self._clusters_named
            and self._votes() >= self._votes_needed()
        )

    def _ask_next(self, now: float) -> None:
        assert self._walk is not None
        if self._is_torn():
            self.decision = GiveUp((self._conflict_sentence(),))
            return
        address = self._walk.following(self._member_addresses())
        if address is None:
            self._walk = None
            self._attempt_failed(now)
        else:
            timeout_seconds = self._settings.join_timeout_seconds(self.attempt)
            self._effects.append(SendJoin(address, self._request, timeout_seconds))

    def _follow(self, walk: _Walk, leader: str) -> str:
        """Go to the leader next if that is allowed; returns what to remember of this answer."""
        if leader in self._greeter.own_names:
            return "it takes this node for the leader: has this node lost its disk?"
        if walk.redirect(leader):
            return f"not leader; sent on to {leader}"
        return f"not leader; {leader} was asked already or {REDIRECTS_MAX} redirects were followed"

    def _fault_of(self, response: JoinResponse) -> str:
        own = self._saved.identity
        if own is not None and response.cluster_id != own.cluster_id:
            return f"it took this node into cluster {response.cluster_id}, not {own.cluster_id}"
        return fault_of_response(response)

    def _attempt_failed(self, now: float) -> None:
        if self._is_last_attempt:
            self.decision = GiveUp(self.sentences())
            return
        self.attempt = 0 if self._has_news else self.attempt + 1
        self._has_news = False
        self.due_at = min(now + self._settings.delay_seconds(self.attempt), self._ends_at)

    # For people

    def sentences(self) -> tuple[str, ...]:
        """Say how things stand: a sentence on the whole, then one per seed and look-up."""
        lines = [self._summary()]
        lines.extend(f"{seed}: {self._state_of(seed)}" for seed in self._seeds)
        others = self._errors.keys() - set(self._seeds)
        lines.extend(f"{address}: {self._errors[address]}" for address in sorted(others))
        lines.extend(f"{name}: {error}" for name, error in sorted(self._lookup_errors.items()))
        return tuple(lines)

    def _summary(self) -> str:
        if self._clusters_named:
            return f"could not join cluster {min(self._clusters_named)}"
        if not self._seeds:
            return "no seed address is known"
        if not self._greeter.is_own_vote:
            vote = self._greeter.vote
            waits = f"waited for {vote} to found one" if vote else "too few seeds to found one"
            return f"no seed named a cluster; {waits}"
        if self._local.role != "voter":
            return "no seed named a cluster, and a replica founds none: put a voter first in --join"
        return (
            f"no seed named a cluster, and {self._votes()} of {self._votes_needed()} seeds needed "
            "to found one (this node counted) answered with an empty store"
        )

    def _state_of(self, seed: str) -> str:
        if seed in self._greeter.own_names:
            return "this node"
        if seed in self._errors:
            return self._errors[seed]
        greeting = self._known.get(self._answered.get(seed, ""))
        if greeting is None:
            return "not asked yet"
        if greeting.store == "member":
            return f"node {greeting.node_id} of cluster {greeting.cluster_id}"
        waits = greeting.bootstrapper or "more seeds"
        return f"empty store, waiting for {waits}"

    def _conflict_sentence(self) -> str:
        own = self._saved.identity
        members = sorted(
            (f"{greeting.address} of {greeting.cluster_id}")
            for greeting in self._known.values()
            if greeting.cluster_id
        )
        named = ", ".join(members)
        if own is not None:
            return (
                f"this store belongs to cluster {own.cluster_id}, but seeds are members of another "
                f"one ({named}): give --join of its own cluster, or start with an empty store"
            )
        return f"the seeds belong to different clusters ({named}): correct --join"
