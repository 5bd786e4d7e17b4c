"""The settings that the cluster agrees on: names, types, bounds, defaults.

``ALTER CLUSTER SET`` and ``ALTER NODE n SET`` check a value here before they propose it; whoever
reads a setting asks ``ClusterState.setting`` for its text and ``value_of`` for its meaning.
Applying checks nothing of this, so releases with other tables still agree on the state.

Texts are canonical: ``on`` and ``off``, plain digits, durations as ``750ms``, ``10s``, ``5min``
(without a unit: milliseconds). Values of durations are seconds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cluster.raft.config import RaftConfig

if TYPE_CHECKING:
    from collections.abc import Callable

SettingKind = Literal["bool", "integer", "duration"]
_UNITS_MS: Final = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"\s*([0-9]{1,15})\s*([a-z]*)\s*")
_INTEGER: Final = re.compile(r"\s*([+-]?[0-9]{1,15})\s*")
_WORDS: Final = {
    "on": "on",
    "true": "on",
    "yes": "on",
    "1": "on",
    "off": "off",
    "false": "off",
    "no": "off",
    "0": "off",
}
ELECTION_SETTINGS: Final = ("election_timeout_min", "election_timeout_max", "heartbeat_interval")


class ClusterSetting(NamedTuple):
    """One setting. Bounds are inclusive, of durations in milliseconds.

    ``per_node``: a node may have its own value. ``is_fixed``: decided when the cluster is founded.
    """

    name: str
    kind: SettingKind
    default: str
    minimum: int
    maximum: int
    description: str
    per_node: bool = False
    is_fixed: bool = False


class BadSetting(ValueError):
    """The value does not fit; ``hint`` may say what would."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_DAY_MS: Final = _UNITS_MS["d"]
SETTINGS: Final = (
    ClusterSetting("num_groups", "integer", "1", 1, 1024, "Number of data groups.", is_fixed=True),
    ClusterSetting(
        "replication_factor", "integer", "3", 1, 7, "Voters that each data group should have."
    ),
    ClusterSetting(
        "require_join_token",
        "bool",
        "off",
        0,
        1,
        "Nodes join only with a one-time token.",
    ),
    ClusterSetting(
        "election_timeout_min",
        "duration",
        "750ms",
        100,
        60_000,
        "Shortest time without a leader after which a replica stands for election.",
        is_fixed=True,  # Leaders' leases are as long: two lengths in use at once break them.
    ),
    ClusterSetting(
        "election_timeout_max",
        "duration",
        "1500ms",
        200,
        120_000,
        "Longest time without a leader after which a replica stands for election.",
    ),
    ClusterSetting(
        "heartbeat_interval",
        "duration",
        "150ms",
        10,
        10_000,
        "Time between a leader's signs of life.",
    ),
    ClusterSetting(
        "node_dead_after",
        "duration",
        "5min",
        10_000,
        30 * _DAY_MS,
        "How long a node is unreachable before its replicas are made anew elsewhere.",
    ),
    ClusterSetting(
        "drain_unready_wait",
        "duration",
        "0ms",
        0,
        600_000,
        "How long a draining node says so before it refuses connections.",
        per_node=True,
    ),
    ClusterSetting(
        "drain_connection_wait",
        "duration",
        "0ms",
        0,
        600_000,
        "How long a draining node waits for clients to leave by themselves.",
        per_node=True,
    ),
    ClusterSetting(
        "drain_transaction_wait",
        "duration",
        "30s",
        0,
        _DAY_MS,
        "How long a draining node waits for transactions to end.",
        per_node=True,
    ),
    ClusterSetting(
        "drain_lease_wait",
        "duration",
        "5s",
        0,
        600_000,
        "How long a draining node tries to hand its leaderships over.",
        per_node=True,
    ),
)
BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


def canonical(setting: ClusterSetting, text: str) -> str:
    """Return a value's canonical text. Raises BadSetting."""
    match setting.kind:
        case "bool":
            word = _WORDS.get(text.strip().lower())
            if word is None:
                raise BadSetting(f'parameter "{setting.name}" requires a Boolean value')
            return word
        case "integer":
            found = _INTEGER.fullmatch(text)
            if found is None:
                raise _invalid(setting, text)
            number = int(found[1])
            _check_bounds(setting, number)
            return str(number)
        case "duration":
            milliseconds = _milliseconds(setting, text)
            _check_bounds(setting, milliseconds)
            return duration_text(milliseconds)


def value_of(name: str, text: str | None) -> float:
    """Return what a setting means: 0 or 1, a number, seconds; ``text`` None is the default.

    A text that another release wrote and this one cannot read counts as the default.
    """
    setting = BY_NAME[name]
    try:
        shown = setting.default if text is None else canonical(setting, text)
    except BadSetting:
        shown = setting.default
    if setting.kind == "bool":
        return 1.0 if shown == "on" else 0.0
    if setting.kind == "integer":
        return float(shown)
    return _milliseconds(setting, shown) / 1000


def check_elections(value_of_setting: Callable[[str], float]) -> None:
    """Refuse ELECTION_SETTINGS that do not go together; their values in seconds."""
    shortest, longest, heartbeat = (
        round(value_of_setting(name) * 1000) for name in ELECTION_SETTINGS
    )
    faults = RaftConfig(
        election_timeout_ms_min=shortest, election_timeout_ms_max=longest, heartbeat_ms=heartbeat
    ).faults()
    if faults:
        raise BadSetting(f"{', '.join(ELECTION_SETTINGS)} do not go together", f"{faults[0]}.")


def bounds_text(setting: ClusterSetting) -> tuple[str | None, str | None]:
    """Return the bounds as they are shown; None where there are none."""
    if setting.kind == "bool":
        return None, None
    if setting.kind == "duration":
        return duration_text(setting.minimum), duration_text(setting.maximum)
    return str(setting.minimum), str(setting.maximum)


def duration_text(milliseconds: int) -> str:
    """Return a duration in the largest unit that needs no fraction."""
    unit = "ms"
    for name, factor in _UNITS_MS.items():
        if milliseconds and milliseconds % factor == 0:
            unit = name
    return f"{milliseconds // _UNITS_MS[unit]}{unit}"


def _milliseconds(setting: ClusterSetting, text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise _invalid(setting, text)
    factor = _UNITS_MS.get(found[2] or "ms")
    if factor is None:
        raise _invalid(setting, text)
    return int(found[1]) * factor


def _invalid(setting: ClusterSetting, text: str) -> BadSetting:
    hint = ""
    if setting.kind == "duration":
        hint = 'Valid units for this parameter are "ms", "s", "min", "h", and "d".'
    return BadSetting(f'invalid value for parameter "{setting.name}": "{text}"', hint)


def _check_bounds(setting: ClusterSetting, number: int) -> None:
    if setting.minimum <= number <= setting.maximum:
        return
    shown, least, most = str(number), str(setting.minimum), str(setting.maximum)
    if setting.kind == "duration":
        shown, least, most = map(duration_text, (number, setting.minimum, setting.maximum))
    raise BadSetting(
        f'{shown} is outside the valid range for parameter "{setting.name}" ({least} .. {most})'
    )
