"""Settings of the cluster: canonical texts, bounds, what goes together."""

import pytest

from cluster.metadata.settings import (
    BY_NAME,
    SETTINGS,
    BadSetting,
    bounds_text,
    canonical,
    check_elections,
    duration_text,
    value_of,
)


def test_defaults_are_canonical_in_bounds_and_go_together() -> None:
    assert len(BY_NAME) == len(SETTINGS)
    for setting in SETTINGS:
        assert canonical(setting, setting.default) == setting.default, setting.name
        assert setting.description.endswith(".")
    check_elections(lambda name: value_of(name, None))


@pytest.mark.parametrize(
    ("name", "text", "expected", "value"),
    [
        ("require_join_token", " TRUE ", "on", 1.0),
        ("require_join_token", "0", "off", 0.0),
        ("replication_factor", "+05", "5", 5.0),
        ("heartbeat_interval", "200", "200ms", 0.2),
        ("heartbeat_interval", "1000ms", "1s", 1.0),
        ("heartbeat_interval", "1500 ms", "1500ms", 1.5),
        ("node_dead_after", "24h", "1d", 86400.0),
        ("node_dead_after", "90min", "90min", 5400.0),
        ("drain_unready_wait", "0", "0ms", 0.0),
        ("drain_unready_wait", "0s", "0ms", 0.0),
    ],
)
def test_texts(name: str, text: str, expected: str, value: float) -> None:
    assert canonical(BY_NAME[name], text) == expected
    assert value_of(name, text) == value_of(name, expected) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("require_join_token", "maybe", "requires a Boolean value"),
        ("require_join_token", "", "requires a Boolean value"),
        ("replication_factor", "", 'invalid value for parameter "replication_factor": ""'),
        ("replication_factor", "3.0", "invalid value"),
        ("replication_factor", "٣", "invalid value"),
        ("replication_factor", "9" * 40, "invalid value"),
        ("replication_factor", "8", r"8 is outside the valid range .* \(1 \.\. 7\)"),
        ("replication_factor", "-1", "-1 is outside"),
        ("heartbeat_interval", "1.5s", "invalid value"),
        ("heartbeat_interval", "5 S", "invalid value"),
        ("heartbeat_interval", "5weeks", "invalid value"),
        ("heartbeat_interval", "-5ms", "invalid value"),
        ("heartbeat_interval", "inf", "invalid value"),
        ("heartbeat_interval", "nan", "invalid value"),
        ("heartbeat_interval", "9ms", r"9ms is outside .* \(10ms \.\. 10s\)"),
        ("heartbeat_interval", "99999d", "is outside"),
    ],
)
def test_bad_values(name: str, text: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        canonical(BY_NAME[name], text)


def test_units_are_named_when_a_duration_is_wrong() -> None:
    with pytest.raises(BadSetting) as caught:
        canonical(BY_NAME["heartbeat_interval"], "5weeks")
    assert '"min"' in caught.value.hint


def test_what_another_release_wrote_counts_as_the_default() -> None:
    assert value_of("replication_factor", "lots") == 3.0
    assert value_of("heartbeat_interval", "-1") == 0.15


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"election_timeout_max": "750ms"}, "votes split"),
        ({"heartbeat_interval": "340ms"}, "must fit twice"),
        ({"election_timeout_min": "200ms"}, "must fit twice"),
        ({"heartbeat_interval": "10ms"}, "tick_ms"),
    ],
)
def test_elections_need_room(changes: dict[str, str], hint: str) -> None:
    with pytest.raises(BadSetting, match="do not go together") as caught:
        check_elections(lambda name: value_of(name, changes.get(name)))
    assert hint in caught.value.hint


def test_elections_at_the_edge() -> None:
    changes = {"heartbeat_interval": "337ms", "election_timeout_max": "751ms"}
    check_elections(lambda name: value_of(name, changes.get(name)))


def test_shown_bounds_and_durations() -> None:
    assert bounds_text(BY_NAME["require_join_token"]) == (None, None)
    assert bounds_text(BY_NAME["replication_factor"]) == ("1", "7")
    assert bounds_text(BY_NAME["node_dead_after"]) == ("10s", "30d")
    shown = [duration_text(ms) for ms in (0, 1, 1000, 61_000, 3_600_000)]
    assert shown == ["0ms", "1ms", "1s", "61s", "1h"]
