"""What this node has asked and not been answered yet: a bounded table by probe id."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cluster.ids import NodeId

IN_FLIGHT_MAX: Final = 4096


@dataclass(slots=True)
class OwnProbe:
    """Our probe of a member; first direct, then through helpers. ``nacks`` holds who sent one.

    ``target_life``: the target's boot and incarnation when the probe began.
    """

    target: NodeId
    target_life: tuple[int, int]
    deadline: float
    expires_at: float
    probe_id: int = 0
    is_indirect: bool = False
    helpers_asked: int = 0
    nacks: set[NodeId] = field(default_factory=set)


@dataclass(slots=True)
class Relay:
    """A ping on behalf of ``origin``, whose question came from ``source``."""

    target: NodeId
    origin: NodeId
    source: str
    origin_probe_id: int
    nack_at: float
    expires_at: float


@dataclass(slots=True)
class SeedPing:
    """A ping to an address at which nobody is known."""

    address: str
    expires_at: float


@dataclass(slots=True)
class LeavePing:
    """The announcement to a member that we leave."""

    target: NodeId
    expires_at: float


Question = OwnProbe | Relay | SeedPing | LeavePing


class InFlight:
    """Questions by probe id. Invariant: at most IN_FLIGHT_MAX; ids start at 1, none comes twice."""

    def __init__(self) -> None:
        self._questions: dict[int, Question] = {}
        self._relays: dict[int, Relay] = {}
        self._last_id = 0

    def __len__(self) -> int:
        """Return how many questions are open."""
        return len(self._questions)

    def add(self, question: Question) -> int | None:
        """Take a question in and return its probe id; None when the table is full."""
        if len(self._questions) >= IN_FLIGHT_MAX:
            return None
        self._last_id += 1
        self._questions[self._last_id] = question
        if isinstance(question, OwnProbe):
            question.probe_id = self._last_id
        elif isinstance(question, Relay):
            self._relays[self._last_id] = question
        return self._last_id

    def get(self, probe_id: int) -> Question | None:
        """Return a question that is still open."""
        return self._questions.get(probe_id)

    def pop(self, probe_id: int) -> Question | None:
        """Close a question and return it."""
        self._relays.pop(probe_id, None)
        return self._questions.pop(probe_id, None)

    def relays(self) -> Iterator[Relay]:
        """Yield the pings on behalf of others, oldest first."""
        return iter(self._relays.values())

    def discard_expired(self, now: float) -> None:
        """Close the questions that nobody will answer any more."""
        expired = [
            probe_id for probe_id, question in self._questions.items() if question.expires_at <= now
        ]
        for probe_id in expired:
            self.pop(probe_id)

    def shift(self, seconds: float) -> None:
        """Move all times on by a time in which this node did not run."""
        for question in self._questions.values():
            question.expires_at += seconds
            if isinstance(question, OwnProbe):
                question.deadline += seconds
            elif isinstance(question, Relay):
                question.nack_at += seconds
