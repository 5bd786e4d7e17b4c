"""The fault hook: what ``POST /debug/fault`` plants in a running node, for tests.

::

    {"cut":   [{"peer": "127.0.0.1:9402", "direction": "in"}],
     "delay": [{"peer": "*", "direction": "out", "seconds": 0.2}],
     "drop":  [{"peer": "127.0.0.1:9403", "probability": 0.1}],
     "clock_offset_ms": 3600000, "disk_full": true}

A post replaces everything planted before: ``{}`` heals. ``peer`` is an advertised rpc address or
``*``; ``direction`` is seen from this node and is ``both`` unless given.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Protocol

import msgspec

EVERY_PEER: Final = "*"
Direction = Literal["in", "out", "both"]
_Peer = Annotated[str, msgspec.Meta(min_length=1)]


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The traffic with a peer in one direction or both."""

    peer: _Peer
    direction: Direction = "both"


class DelayedLink(Link, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it carries arrives ``seconds`` later."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=600)]


class LossyLink(Link, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message is lost with this ``probability``."""

    probability: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All faults of a node; the default is none."""

    cut: tuple[Link, ...] = ()
    delay: tuple[DelayedLink, ...] = ()
    drop: tuple[LossyLink, ...] = ()
    clock_offset_ms: int = 0
    disk_full: bool = False


class FaultController(Protocol):
    """Who carries faults out: transport, SWIM, clock and disk."""

    def set_faults(self, faults: Faults) -> None:
        """Replace what was planted. Raises ValueError for what this node cannot do."""

    def faults(self) -> Faults:
        """Return what is planted."""


def decode_faults(body: bytes) -> Faults:
    """Read a request's body. Raises ValueError saying what is wrong with it."""
    try:
        return msgspec.json.decode(body or b"{}", type=Faults)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
