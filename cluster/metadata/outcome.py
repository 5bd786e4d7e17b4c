"""What became of a metadata command: the same on every replica, for it depends on the log only."""

from typing import Final, Literal, NamedTuple

RefusalCode = Literal[
    "conflict",  # the id, address or name belongs to somebody else
    "unknown",  # what it is about does not exist
    "state",  # not in the state that this is
    "replicas",  # too few replicas would be left
    "fenced",  # made under a leadership that is over; run it again
    "draining",  # a descriptor is being changed; try again soon
    "token",  # the join token may not be used for this
    "limit",  # too large, too long, out of range
]


class Applied(NamedTuple):
    """The command took effect. ``payloads``: catalog changes that the host applies now."""

    payloads: tuple[bytes, ...] = ()


class Refused(NamedTuple):
    """Nothing changed, and why: a sentence for whoever asked for it."""

    reason: str
    code: RefusalCode


Outcome = Applied | Refused
APPLIED: Final = Applied()
