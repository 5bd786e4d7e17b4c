"""SWIM: who is a member, and who is alive. ``core`` decides, ``driver`` carries datagrams."""

from cluster.swim.config import InvalidSwimSetting, SwimSettings
from cluster.swim.core import SwimCore
from cluster.swim.counters import SwimCounters
from cluster.swim.member import Member, MemberState, StateChange

__all__ = [
    "InvalidSwimSetting",
    "Member",
    "MemberState",
    "StateChange",
    "SwimCore",
    "SwimCounters",
    "SwimSettings",
]
