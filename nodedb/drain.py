"""Leaving service in order: the phases as a pure automaton, and the driver that carries them out.

::

    serving -> unready -> connections -> transactions -> leases -> drained

* ``unready``: health says 503, everything else goes on, so that load balancers notice.
* ``connections``: no new connections; clients may leave by themselves.
* ``transactions``: idle sessions end with 57P01, others at the end of their transaction; whoever
  is still there when the time is over is ended amid the statement.
* ``leases``: leadership of the groups led here is handed to other voters.
* ``drained``: nothing is left to do but to stop.

Each phase ends as soon as nothing is left for it, and at the latest after its wait
(``DrainSettings``). SIGTERM, ``POST /health/drain`` and ``nodedb node drain`` begin the same drain;
beginning it again is harmless. Source: ARCHITECTURE section 8, "Drain".
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, assert_never

if TYPE_CHECKING:
    from nodedb.clock import Clock

_LOGGER: Final = logging.getLogger("nodedb.drain")
POLL_SECONDS: Final = 0.02
"""How often a draining node looks whether a phase is over."""


class Phase(enum.Enum):
    """Where a drain stands; the value is the word shown to operators."""

    SERVING = "serving"
    UNREADY = "unready"
    CONNECTIONS = "connections"
    TRANSACTIONS = "transactions"
    LEASES = "leases"
    DRAINED = "drained"


_ORDER: Final = tuple(Phase)


class Effect(enum.Enum):
    """What the driver has to do at once, in the order given."""

    BECOME_UNREADY = "become unready"
    STOP_LISTENING = "stop listening"
    END_SESSIONS_WHEN_IDLE = "end sessions when idle"
    END_SESSIONS_NOW = "end sessions now"
    HAND_OVER_LEASES = "hand over leases"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DrainSettings:
    """The longest each phase may take, in seconds; 0 passes it as soon as it is entered.

    ``transactions_seconds`` of 0 ends sessions amid their statements. The waits of ``unready`` and
    ``connections`` are for others (load balancers, pools), so they default to nothing: an idle
    node stops at once. Behind a load balancer set ``unready_seconds`` above its probe's period.
    """

    unready_seconds: float = 0.0
    connections_seconds: float = 0.0
    transactions_seconds: float = 30.0
    leases_seconds: float = 5.0


class Observed(NamedTuple):
    """What still stands in the way: client connections, and groups led here that others may lead.

    A group without another voter is not counted: there is nobody to hand it to.
    """

    connection_count: int
    lease_count: int


class DrainProgress(NamedTuple):
    """A drain for operators; shown by ``GET /health/drain``.

    ``elapsed_seconds`` is since its begin, ``phase_seconds_left`` until the phase ends at the
    latest; both 0 while serving. ``reason`` says who asked, "" while serving.
    """

    phase: Phase
    reason: str
    elapsed_seconds: float
    phase_seconds_left: float
    connection_count: int
    lease_count: int

    @property
    def is_draining(self) -> bool:
        """True from the begin on, to the end."""
        return self.phase is not Phase.SERVING


class DrainCore:
    """The automaton. Invariant: the phase only advances, in the order of ``Phase``."""

    def __init__(self, settings: DrainSettings) -> None:
        self._settings = settings
        self.phase = Phase.SERVING
        self.reason = ""
        self._started = 0.0
        self._deadline = 0.0
        self._observed = Observed(0, 0)

    def configure(self, settings: DrainSettings) -> None:
        """Take other waits for the phases to come."""
        self._settings = settings

    def start(self, reason: str, now: float) -> list[Effect]:
        """Begin; the second time it does nothing."""
        if self.phase is not Phase.SERVING:
            return []
        self.reason = reason
        self._started = now
        return self._enter(Phase.UNREADY, now)

    def step(self, observed: Observed, now: float) -> list[Effect]:
        """Look again; returns what to do now."""
        self._observed = observed
        effects: list[Effect] = []
        while self._is_over(observed, now):
            effects += self._leave(observed)
            effects += self._enter(_ORDER[_ORDER.index(self.phase) + 1], now)
        if self.phase is Phase.LEASES and not effects:
            # A transfer that was refused or lost is asked for again.
            effects.append(Effect.HAND_OVER_LEASES)
        return effects

    def stop_now(self) -> None:
        """Skip everything: the node may not acknowledge anything more."""
        self.phase = Phase.DRAINED

    def progress(self, now: float) -> DrainProgress:
        """Return where it stands."""
        if self.phase is Phase.SERVING:
            return DrainProgress(self.phase, "", 0.0, 0.0, *self._observed)
        left = 0.0 if self.phase is Phase.DRAINED else max(self._deadline - now, 0.0)
        return DrainProgress(self.phase, self.reason, now - self._started, left, *self._observed)

    def _is_over(self, observed: Observed, now: float) -> bool:
        is_late = now >= self._deadline
        match self.phase:
            case Phase.SERVING | Phase.DRAINED:
                return False
            case Phase.UNREADY:
                return is_late
            case Phase.CONNECTIONS | Phase.TRANSACTIONS:
                return is_late or not observed.connection_count
            case Phase.LEASES:
                return is_late or not observed.lease_count
            case _ as unreachable:
                assert_never(unreachable)

    def _leave(self, observed: Observed) -> list[Effect]:
        is_cut = self.phase is Phase.TRANSACTIONS and observed.connection_count > 0
        return [Effect.END_SESSIONS_NOW] if is_cut else []

    def _enter(self, phase: Phase, now: float) -> list[Effect]:
        assert _ORDER.index(phase) == _ORDER.index(self.phase) + 1, (self.phase, phase)
        self.phase = phase
        settings = self._settings
        match phase:
            case Phase.UNREADY:
                self._deadline = now + settings.unready_seconds
                return [Effect.BECOME_UNREADY]
            case Phase.CONNECTIONS:
                self._deadline = now + settings.connections_seconds
                return [Effect.STOP_LISTENING]
            case Phase.TRANSACTIONS:
                self._deadline = now + settings.transactions_seconds
                return [Effect.END_SESSIONS_WHEN_IDLE]
            case Phase.LEASES:
                self._deadline = now + settings.leases_seconds
                return [Effect.HAND_OVER_LEASES]
            case Phase.DRAINED | Phase.SERVING:
                return []
            case _ as unreachable:
                assert_never(unreachable)


class DrainTarget(Protocol):
    """The parts of a node that a drain acts on. Every call returns at once."""

    def become_unready(self) -> None:
        """Say 503 from now on, and tell the cluster."""

    def stop_listening(self) -> None:
        """Take no new client connections."""

    def end_sessions_when_idle(self) -> None:
        """End idle sessions with 57P01, the others at the end of their transaction."""

    def end_sessions_now(self) -> None:
        """End every session with 57P01, amid its statement if need be."""

    def hand_over_leases(self) -> None:
        """Ask for the transfer of each group led here; called again while one is left."""

    def connection_count(self) -> int:
        """Return how many client connections are still open."""

    def lease_count(self) -> int:
        """Return how many groups are led here that have another voter."""


class SqlFrontEnd(Protocol):
    """The listening side of SQL (``nodedb.pgwire.driver.PgWireServer``)."""

    @property
    def open_count(self) -> int:
        """Connections that are not closed yet."""

    def stop_listening(self) -> None:
        """Take no new clients."""

    def end_sessions_when_idle(self) -> None:
        """End each connection with 57P01 once it is outside a transaction block."""

    def end_sessions_now(self) -> None:
        """End every connection with 57P01."""


@dataclasses.dataclass(slots=True, kw_only=True)
class NodeParts:
    """The target made of a node's parts; a part that has not been started yet is left alone.

    ``sql`` is set when the front end listens. ``led_groups`` returns the groups led here that have
    another voter, ``transfer`` asks one of them to be led elsewhere.
    """

    unready: Callable[[], None]
    led_groups: Callable[[], list[int]]
    transfer: Callable[[int], None]
    sql: SqlFrontEnd | None = None

    def become_unready(self) -> None:
        """Say 503 from now on, and tell the cluster."""
        self.unready()

    def stop_listening(self) -> None:
        """Take no new client connections."""
        if self.sql is not None:
            self.sql.stop_listening()

    def end_sessions_when_idle(self) -> None:
        """End idle sessions, the others at the end of their transaction."""
        if self.sql is not None:
            self.sql.end_sessions_when_idle()

    def end_sessions_now(self) -> None:
        """End every session."""
        if self.sql is not None:
            self.sql.end_sessions_now()

    def hand_over_leases(self) -> None:
        """Ask for the transfer of each group led here."""
        for group_id in self.led_groups():
            self.transfer(group_id)

    def connection_count(self) -> int:
        """Return how many client connections are still open."""
        return 0 if self.sql is None else self.sql.open_count

    def lease_count(self) -> int:
        """Return how many groups are led here that have another voter."""
        return len(self.led_groups())


class Drain:
    """Carries the automaton out on the event loop.

    ``start`` may be called before ``run``, from signal handlers and by HTTP handlers.
    """

    def __init__(self, settings: DrainSettings, target: DrainTarget, clock: Clock) -> None:
        self._core = DrainCore(settings)
        self._target = target
        self._clock = clock
        self._started = asyncio.Event()

    @property
    def is_draining(self) -> bool:
        """True from the begin on."""
        return self._core.phase is not Phase.SERVING

    @property
    def is_drained(self) -> bool:
        """True at the end: nothing is left but to stop."""
        return self._core.phase is Phase.DRAINED

    def configure(self, settings: DrainSettings) -> None:
        """Take other waits for the phases to come."""
        self._core.configure(settings)

    def start(self, reason: str) -> None:
        """Begin to drain; harmless when repeated."""
        if not self.is_draining:
            _LOGGER.info("draining: %s", reason)
        self._carry_out(self._core.start(reason, self._clock.monotonic()))
        self._started.set()

    def stop_now(self) -> None:
        """Skip what is left: after a fatal error nothing more may be acknowledged."""
        self._core.stop_now()
        self._started.set()

    async def started(self) -> None:
        """Wait until a drain was begun; lets a start that is still waiting give up."""
        await self._started.wait()

    async def run(self) -> None:
        """Wait for the begin, then return when the node is drained."""
        await self._started.wait()
        while not self.is_drained:
            before = self._core.phase
            self._look()
            if self._core.phase is not before:
                _LOGGER.info("drain: %s", self._core.phase.value)
            if not self.is_drained:
                await asyncio.sleep(POLL_SECONDS)

    def progress(self) -> DrainProgress:
        """Return where it stands."""
        return self._core.progress(self._clock.monotonic())

    def _look(self) -> None:
        target = self._target
        observed = Observed(target.connection_count(), target.lease_count())
        self._carry_out(self._core.step(observed, self._clock.monotonic()))

    def _carry_out(self, effects: list[Effect]) -> None:
        actions = {
            Effect.BECOME_UNREADY: self._target.become_unready,
            Effect.STOP_LISTENING: self._target.stop_listening,
            Effect.END_SESSIONS_WHEN_IDLE: self._target.end_sessions_when_idle,
            Effect.END_SESSIONS_NOW: self._target.end_sessions_now,
            Effect.HAND_OVER_LEASES: self._target.hand_over_leases,
        }
        for effect in effects:
            actions[effect]()
