"""Leading the data: when this node may run statements, and what taking over and losing it means.

A node serves strong statements while it leads both the data group and the metadata group under
leases: the rows, and with the metadata group the timestamp oracle and the catalog. The metadata
group follows the data group (``followed_leader``), so the two part only for moments.

Taking over, in order: both groups' own empty entries are applied (PROTOCOL rule 4); the *fence*,
this node's term, is applied in the metadata group, after which no catalog change of an earlier
leader takes effect; a new oracle starts above the replicated window (rule 40); transactions that
were left prepared are finished or dropped; sequences are read anew. Only then the *tenure* begins.
It ends with the term or the lead of either group: running transactions are told (40001).
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.command import Fence, encode_command
from cluster.metadata.oracle import TimestampOracle, pack_timestamp
from cluster.metadata.outcome import Refused
from nodedb.txn.catalog_commit import finish_orphans, forget_decisions
from nodedb.waiter import Interrupts, Runner, Waiter
from sql.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodedb.catalog.metadata import MetadataState
    from nodedb.kv.replicator import Replicator
    from nodedb.txn.manager import TransactionManager

_LOGGER: Final = logging.getLogger("nodedb.leadership")
HEARD_HEARTBEATS_MAX: Final = 2.5
"""So many heartbeats ago a node must have answered to count as there."""
RETRY_SECONDS: Final = 0.2
"""How long after a take-over that was given up the next one begins."""


class DataLeadership:
    """The data group's leadership on a member. Implements ``nodedb.gateway.leadership``.

    ``on_begin`` and ``on_end`` are called when a tenure begins, before anybody is served, and when
    it ends.
    """

    def __init__(
        self,
        replicator: Replicator,
        transactions: TransactionManager,
        metadata: MetadataState,
        address_of: Callable[[int], str | None],
    ) -> None:
        self.tenure = 0
        self.on_begin: list[Callable[[], None]] = []
        self.on_end: list[Callable[[], None]] = []
        self.tenure_count = 0
        self._replicator = replicator
        self._transactions = transactions
        self._metadata = metadata
        self._address_of = address_of
        self._node_id = replicator.node_id
        self._now = replicator.now
        self._replica = replicator.replicas[FIRST_DATA_GROUP]
        self._data = self._replica.core
        self._meta = replicator.replicas[METADATA_GROUP].core
        self._taking_over = 0
        """The term in which this node is taking over, 0 for none."""
        self._runner: Runner | None = None
        self._known = (0, 0)
        self._waiting: list[Waiter[None]] = []
        self._is_confirming = False
        self._was_serving = False
        """When somebody last began to wait, or was told."""
        self._retry_at = -math.inf

    # For the statement path

    @property
    def may_serve(self) -> bool:
        """Tell whether this node may run a strong statement that begins in this very turn."""
        if not self.tenure or self._transactions.finishing_count:
            return False
        if self._has_leases():
            return True
        # Groups that slept have let their leases run out: being asked is what renews them.
        self._confirm()
        return False

    def _has_leases(self) -> bool:
        """Tell whether both groups are led here at this very moment (PROTOCOL rule 37)."""
        now = self._now()
        return self._data.may_serve(now) and self._meta.may_serve(now)

    @property
    def leader_address(self) -> str | None:
        """The rpc address of the data group's leader if that is another node, and known."""
        leader = self._data.leader_id
        return None if leader in (0, self._node_id) else self._address_of(leader)

    @property
    def may_serve_stale(self) -> bool:
        """Tell whether this node's replica may answer from its applied state (rule 51)."""
        configuration = self._data.configuration
        return not self._replica.is_installing and (
            self._node_id in configuration.voters or self._node_id in configuration.learners
        )

    def changed(self) -> Waiter[None]:
        """Return a waiter that is done as soon as something may have changed, in a later turn.

        A leader whose leases have lapsed, because its groups slept or a quorum was out of reach,
        asks for them now.
        """
        waiter: Waiter[None] = Waiter()
        self._waiting.append(waiter)
        if not self.may_serve:
            self._was_serving = False
            self._confirm()
        return waiter

    def _confirm(self) -> None:
        """Have a quorum of both groups renew the leases (PROTOCOL rule 43)."""
        if self._is_confirming or not self._leads() or self._has_leases():
            return
        self._is_confirming = True
        waiters = [
            self._replicator.read_index(group_id) for group_id in (METADATA_GROUP, FIRST_DATA_GROUP)
        ]
        if all(waiter.done for waiter in waiters):
            self._is_confirming = False
            return  # Refused: the next turn says why.
        remaining = [waiter for waiter in waiters if not waiter.done]

        def confirmed() -> None:
            remaining.pop()
            if not remaining:
                self._is_confirming = False
                self._notify()

        for waiter in list(remaining):
            waiter.on_done(confirmed)

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.set_result(None)

    # For the member

    def on_turn(self) -> None:
        """Look at both groups after a turn of the replicator, and once in each tick."""
        data, meta = self._data, self._meta
        leads = self._leads()
        if self.tenure and (not leads or data.term != self.tenure):
            self._end()
        if leads and not self.tenure and not self._taking_over and self._now() >= self._retry_at:
            if self._has_leases():
                self._take_over(data.term)
            else:
                self._confirm()
        # Looks only: asking ``may_serve`` in each turn would keep the groups from ever sleeping.
        is_serving = (
            bool(self._waiting)
            and self.tenure > 0
            and not self._transactions.finishing_count
            and self._has_leases()
        )
        known = data.leader_id, meta.leader_id
        if known != self._known or (is_serving and not self._was_serving):
            self._known = known
            self._was_serving = is_serving
            self._notify()

    def _leads(self) -> bool:
        return self._data.is_leader and self._meta.is_leader

    def followed_leader(self) -> int:
        """Return whom this node should hand the metadata group to, 0 for nobody.

        The leader of the data group, if it votes in both, this node leads only the metadata group,
        and the other one has just been heard: a transfer to a node that is gone blocks the group.
        """
        leader = self._data.leader_id
        if not self._meta.is_leader or self._data.is_leader or not leader:
            return 0
        progress = self._meta.progress.get(leader)
        if progress is None or leader not in self._meta.configuration.voters:
            return 0
        silence_max = HEARD_HEARTBEATS_MAX * self._meta.config.heartbeat_seconds
        return leader if self._now() - progress.heard_at < silence_max else 0

    def _take_over(self, term: int) -> None:
        self._taking_over = term

        def ended(error: BaseException | None) -> None:
            self._taking_over = 0
            self._runner = None
            if not self.tenure:
                self._transactions.end_tenure()
                self._retry_at = self._now() + RETRY_SECONDS
            if isinstance(error, SqlError):
                _LOGGER.info("taking over in term %d was given up: %s", term, error)
            elif error is not None:
                _LOGGER.error("taking over in term %d failed", term, exc_info=error)

        self._runner = Runner(self._become_leader(term), ended)
        self._runner.step()

    async def _become_leader(self, term: int) -> None:
        """Take over; returns without a tenure when another node has meanwhile."""
        replicator, manager, metadata = self._replicator, self._transactions, self._metadata
        fence = Fence(term, self._node_id)
        index = await replicator.propose(METADATA_GROUP, encode_command(fence), fence)
        outcome = metadata.outcome(index)
        refusal = outcome.reason if isinstance(outcome, Refused) else ""
        if refusal or not self._leads_in(term):
            _LOGGER.info("not taking over in term %d: %s", term, refusal or "the lead is lost")
            return
        window = max(metadata.timestamp_window, manager.group.last_timestamp, pack_timestamp(1))
        manager.begin_tenure(term, TimestampOracle(window))
        await manager.timestamps.ready(Interrupts())
        await finish_orphans(manager, lambda number: number in metadata.cluster.decisions)
        if not self._leads_in(term):
            return
        self.tenure = term
        self.tenure_count += 1
        _LOGGER.info("this node leads the data from term %d on", term)
        for callback in self.on_begin:
            callback()
        self._notify()
        # Nothing is left prepared: whatever was decided has taken effect (PROTOCOL rule 20).
        if metadata.cluster.decisions:
            forget_decisions(manager, metadata.cluster.decisions)

    def _leads_in(self, term: int) -> bool:
        return self._leads() and self._data.term == term

    def _end(self) -> None:
        _LOGGER.info("this node no longer leads the data (term %d)", self.tenure)
        self.tenure = 0
        self._transactions.end_tenure()
        for callback in self.on_end:
            callback()
        self._notify()
