"""Faults put into the transport on purpose, per peer and direction; how they are described.

A plain object that the driver asks for every frame's direction. Nothing here is active unless an
operator of a test node says so. Two forms of description, one or many at a time:

* lines: ``cut ADDRESS [in|out|both]``, ``delay ADDRESS SECONDS [in|out|both]``,
  ``drop ADDRESS PROBABILITY [in|out|both]``, ``heal [ADDRESS]``;
* JSON: ``{"action": "delay", "peer": ADDRESS, "seconds": 0.2, "direction": "in"}``, or a list.

``ADDRESS`` is a peer's advertised address, or ``*`` for every peer that has no fault of its own.
``out`` is what this node sends, ``in`` what it receives, and ``both`` the default.

What a fault does: ``cut`` loses everything silently, as a partition does, and keeps new connections
from being made; ``delay`` holds everything back, in order; ``drop`` loses messages, requests and
answers with a probability (a stream's parts never: the protocol below would repeat them).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from cluster.transport.frame import ANSWER, CALL, FAILURE, MESSAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from cluster.transport.frame import Frame

_DROPPABLE: Final = frozenset((MESSAGE, CALL, ANSWER, FAILURE))
_STREAM_TYPES: Final = range(32, 48)
DIRECTIONS: Final = ("in", "out")
EVERY_PEER: Final = "*"
DELAY_SECONDS_MAX: Final = 600.0


class FaultDescriptionError(Exception):
    """The description cannot be read; the message says which part."""


class Fault(NamedTuple):
    """What happens to one direction. The default is nothing."""

    is_cut: bool = False
    delay_seconds: float = 0.0
    drop_probability: float = 0.0
    duplicate_probability: float = 0.0  # of messages; only the in-memory twin does it


NO_FAULT: Final = Fault()


class FaultCommand(NamedTuple):
    """One described change."""

    action: str  # cut, delay, drop or heal
    peer: str
    amount: float  # seconds or probability
    directions: tuple[str, ...]


class FaultPolicy:
    """The faults in force."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._faults: dict[tuple[str, str], Fault] = {}

    def of(self, address: str, direction: str) -> Fault:
        """Return the fault of one direction of a peer."""
        faults = self._faults
        if not faults:
            return NO_FAULT
        found = faults.get((address, direction))
        return found or faults.get((EVERY_PEER, direction), NO_FAULT)

    @property
    def is_active(self) -> bool:
        """Tell whether there is any fault at all."""
        return bool(self._faults)

    def loses(self, fault: Fault, *, is_droppable: bool) -> bool:
        """Decide about one frame: True when it is to vanish."""
        if fault.is_cut:
            return True
        return is_droppable and 0 < fault.drop_probability > self._random.random()

    def apply(self, commands: Iterable[FaultCommand]) -> None:
        """Put described changes in force, in order. Faults of different actions add up."""
        for action, peer, amount, directions in commands:
            if action == "heal":
                for key in list(self._faults):
                    if peer in (EVERY_PEER, key[0]):
                        del self._faults[key]
                continue
            for direction in directions:
                fault = self._faults.get((peer, direction), NO_FAULT)
                if action == "cut":
                    fault = fault._replace(is_cut=True)
                elif action == "delay":
                    fault = fault._replace(delay_seconds=amount)
                else:
                    fault = fault._replace(drop_probability=amount)
                self._faults[peer, direction] = fault

    def apply_text(self, text: str) -> None:
        """Read a description and put it in force, all of it or nothing.

        Raises FaultDescriptionError.
        """
        self.apply(parse_faults(text))

    def describe(self) -> list[dict[str, Any]]:
        """Return the faults in force, for JSON."""
        return [
            {
                "peer": peer,
                "direction": direction,
                "cut": fault.is_cut,
                "delay_seconds": fault.delay_seconds,
                "drop_probability": fault.drop_probability,
            }
            for (peer, direction), fault in sorted(self._faults.items())
        ]


class FaultGate:
    """One direction of one connection, through which its frames go while faults may be in force.

    What passes is handed to ``release``, at once or after its delay, in order. A stream that lost
    a frame cannot go on, so the connection ``is_damaged``: it has to be closed once the cut ends.
    """

    __slots__ = ("_direction", "_held", "_later", "_now", "_policy", "_release", "is_damaged")

    def __init__(
        self,
        policy: FaultPolicy,
        direction: str,
        *,
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
        release: Callable[[list[Frame]], None],
    ) -> None:
        self.is_damaged = False
        self._policy = policy
        self._direction = direction
        self._now = now
        self._later = later
        self._release = release
        self._held: deque[tuple[float, list[Frame]]] = deque()  # when due, and what

    def is_open(self, address: str) -> bool:
        """Tell whether frames may pass by without being looked at one by one."""
        return not self._held and self._policy.of(address, self._direction) == NO_FAULT

    def is_cut(self, address: str) -> bool:
        """Tell whether nothing passes."""
        return self._policy.of(address, self._direction).is_cut

    def submit(self, address: str, frames: list[Frame]) -> None:
        """Lose, hold or release frames as the peer's fault says."""
        fault = self._policy.of(address, self._direction)
        passed = []
        for frame in frames:
            if not self._policy.loses(fault, is_droppable=frame[0] in _DROPPABLE):
                passed.append(frame)
            elif frame[0] in _STREAM_TYPES:
                self.is_damaged = True
        if not passed:
            return
        if not self._held and not fault.delay_seconds:
            self._release(passed)
            return
        due = self._now() + fault.delay_seconds
        if self._held:
            due = max(due, self._held[-1][0])
        self._held.append((due, passed))
        self._later(due - self._now(), self._release_first)

    def _release_first(self) -> None:
        if self._held:
            self._release(self._held.popleft()[1])


def parse_faults(text: str) -> list[FaultCommand]:
    """Read lines or JSON. Raises FaultDescriptionError."""
    stripped = text.strip()
    if not stripped:
        raise FaultDescriptionError("nothing is described")
    if stripped[0] not in "[{":
        return [_from_words(line.split()) for line in stripped.splitlines() if line.strip()]
    try:
        parsed = msgspec.json.decode(stripped)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FaultDescriptionError(f"not JSON: {error}") from None
    return [_from_json(item) for item in (parsed if isinstance(parsed, list) else [parsed])]


def _from_words(words: list[str]) -> FaultCommand:
    action, *rest = words
    body: dict[str, Any] = {"action": action}
    if rest:
        body["peer"] = rest.pop(0)
    if action in _AMOUNTS and rest:
        body[_AMOUNTS[action]] = rest.pop(0)
    if rest and action != "heal":
        body["direction"] = rest.pop(0)
    if rest:
        raise FaultDescriptionError(f"{' '.join(words)!r}: {rest[0]!r} is too much")
    return _from_json(body)


_AMOUNTS: Final = {"delay": "seconds", "drop": "probability"}
_AMOUNTS_MAX: Final = {"delay": DELAY_SECONDS_MAX, "drop": 1.0}


def _from_json(body: Any) -> FaultCommand:
    if not isinstance(body, dict):
        raise FaultDescriptionError(f"expected an object, not {body!r}")
    action = body.get("action")
    if action not in ("cut", "delay", "drop", "heal"):
        raise FaultDescriptionError(f"action {action!r}: expected cut, delay, drop or heal")
    known = {"action", "peer", "direction"} | {_AMOUNTS.get(action, "action")}
    if strange := sorted(set(body) - known):
        raise FaultDescriptionError(f"{action} has no {strange[0]!r}")
    peer = body.get("peer", EVERY_PEER if action == "heal" else None)
    if not isinstance(peer, str) or not peer or (peer != EVERY_PEER and ":" not in peer):
        raise FaultDescriptionError(f"{action}: peer must be HOST:PORT or *, not {peer!r}")
    direction = body.get("direction", "both")
    if direction not in (*DIRECTIONS, "both"):
        raise FaultDescriptionError(f"direction {direction!r}: expected in, out or both")
    directions = DIRECTIONS if direction == "both" else (direction,)
    return FaultCommand(action, peer, _amount(action, body), directions)


def _amount(action: str, body: dict[str, Any]) -> float:
    name = _AMOUNTS.get(action)
    if name is None:
        return 0.0
    value = body.get(name)
    try:
        amount = float(value) if isinstance(value, (int, float, str)) else -1.0
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= _AMOUNTS_MAX[action]:
        raise FaultDescriptionError(
            f"{action}: {name} must lie between 0 and {_AMOUNTS_MAX[action]:g}, not {value!r}"
        )
    return amount
