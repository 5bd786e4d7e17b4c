"""Settings: every bound, and the formulas with the figures that the documents promise."""

import dataclasses
import math

import pytest

from cluster.swim import InvalidSwimSetting, SwimSettings


def test_the_defaults_are_valid_and_as_documented() -> None:
    settings = SwimSettings()
    settings.validate()
    assert settings.probe_interval_seconds == 1.0
    assert settings.probe_timeout_seconds == 0.5
    assert settings.indirect_probes == 3
    assert settings.suspicion_mult == 4
    assert settings.suspicion_min_seconds == 2.0
    assert settings.incarnation_initial == 0
    assert settings.piggyback_max == 6
    assert settings.fanout_lambda == 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("probe_interval_seconds", 0.0),
        ("probe_interval_seconds", -1.0),
        ("probe_interval_seconds", math.inf),
        ("probe_interval_seconds", math.nan),
        ("probe_timeout_seconds", 1.0),  # strictly below the interval
        ("probe_timeout_seconds", 0.0),
        ("probe_timeout_seconds", math.nan),
        ("indirect_probes", 0),
        ("suspicion_mult", 0),
        ("suspicion_min_seconds", 0.0),
        ("suspicion_min_seconds", math.nan),
        ("incarnation_initial", -1),
        ("incarnation_initial", 2**63),
        ("piggyback_max", 0),
        ("piggyback_max", 33),
        ("fanout_lambda", 0),
        ("suspicion_max_mult", 0),
        ("awareness_max", -1),
        ("awareness_max", 65),
        ("suspect_pings", 0),
        ("suspect_pings_total", 0),
        ("unknown_pings", 0),
        ("announce_fanout", 0),
    ],
)
def test_a_value_out_of_bounds_is_named(setting: str, value: float) -> None:
    settings = dataclasses.replace(SwimSettings(), **{setting: value})
    with pytest.raises(InvalidSwimSetting) as caught:
        settings.validate()
    assert caught.value.setting == setting
    assert setting in str(caught.value)
    assert caught.value.reason.startswith("must be")


@pytest.mark.parametrize(
    ("member_count", "seconds"),
    [(0, 4.0), (1, 4.0), (2, 4.0), (3, 6.34), (4, 8.0), (5, 9.29), (16, 16.0), (1000, 39.86)],
)
def test_suspicion_timeout(member_count: int, seconds: float) -> None:
    assert SwimSettings().suspicion_seconds(member_count) == pytest.approx(seconds, abs=0.005)


def test_suspicion_timeout_has_a_floor() -> None:
    settings = SwimSettings(probe_interval_seconds=0.1, probe_timeout_seconds=0.05)
    assert settings.suspicion_seconds(3) == 2.0
    assert settings.suspicion_seconds(1024) == pytest.approx(4.0)


@pytest.mark.parametrize(("member_count", "sends"), [(1, 3), (2, 5), (3, 6), (5, 8), (16, 13)])
def test_how_often_an_update_is_sent(member_count: int, sends: int) -> None:
    """ceil(3 * log2(n + 1)), by hand: 3, 4.75, 6, 7.75, 12.26."""
    assert SwimSettings().sends_max(member_count) == sends


def test_confirmations_shorten_a_suspicion_down_to_the_formula() -> None:
    """Lifeguard, LHA-Suspicion: from six times the time-out down to the time-out."""
    settings = SwimSettings()
    assert settings.confirmations_wanted(16) == 2

    def seconds(confirmations: int) -> float:
        return settings.confirmed_suspicion_seconds(
            member_count=16, confirmations=confirmations, wanted=2
        )

    assert seconds(0) == pytest.approx(96.0)
    # 96 - 80 * log(2) / log(3), by hand.
    assert seconds(1) == pytest.approx(45.53, abs=0.01)
    assert seconds(2) == pytest.approx(16.0)
    assert seconds(9) == pytest.approx(16.0)


@pytest.mark.parametrize(("member_count", "wanted"), [(2, 0), (3, 0), (4, 2), (100, 2)])
def test_small_clusters_wait_for_no_confirmation(member_count: int, wanted: int) -> None:
    assert SwimSettings().confirmations_wanted(member_count) == wanted


def test_lifeguard_can_be_switched_off() -> None:
    settings = SwimSettings(suspicion_max_mult=1, awareness_max=0)
    settings.validate()
    assert settings.confirmations_wanted(100) == 0


@pytest.mark.parametrize(("member_count", "seconds"), [(3, 0.25), (5, 0.25), (17, 1.0), (65, 4.0)])
def test_all_holders_of_a_suspicion_share_the_pings(member_count: int, seconds: float) -> None:
    """Never more than 16 pings per interval reach a suspect, however large the cluster is."""
    settings = SwimSettings()
    assert settings.suspect_ping_seconds(member_count) == seconds
    assert (member_count - 1) / settings.suspect_ping_seconds(member_count) <= 16
