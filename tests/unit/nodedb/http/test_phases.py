"""The order of a start's phases."""

import random

import pytest

from nodedb.http.phases import PHASES, StartPhases


def test_a_start_goes_through_the_phases_it_has_and_ends_with_finish() -> None:
    phases = StartPhases()
    assert phases.current == "boot"
    phases.enter("wal_recovery")
    assert phases.current == "wal_recovery"
    phases.enter("transport_bind")
    assert phases.current == "transport_bind"
    assert not phases.is_over
    phases.finish()
    assert (phases.current, phases.is_over) == ("gateway_enable", True)


def test_a_gate_that_fires_early_skips_nothing() -> None:
    phases = StartPhases()
    phases.add_gate("wal_recovery", "log")
    phases.add_gate("warm_peers", "greetings")
    phases.fire("warm_peers", "greetings")
    assert phases.current == "boot"
    phases.fire("boot", "boot")
    assert phases.current == "wal_recovery"
    phases.fire("wal_recovery", "log")
    assert phases.current == "gateway_enable"


def test_all_gates_of_a_phase_must_fire_and_twice_is_harmless() -> None:
    phases = StartPhases()
    phases.add_gate("transport_bind", "tcp")
    phases.add_gate("transport_bind", "udp")
    phases.enter("transport_bind")
    phases.fire("transport_bind", "transport_bind")
    phases.fire("transport_bind", "udp")
    phases.fire("transport_bind", "udp")
    assert phases.current == "transport_bind"
    phases.fire("transport_bind", "tcp")
    phases.fire("transport_bind", "tcp")
    assert phases.current == "gateway_enable"


def test_a_gate_of_a_phase_that_is_over_is_a_mistake() -> None:
    phases = StartPhases()
    phases.enter("warm_peers")
    with pytest.raises(AssertionError, match="boot is over"):
        phases.add_gate("boot", "late")


@pytest.mark.parametrize("seed", range(100))
def test_in_any_order_of_firing_the_phases_come_in_their_order(seed: int) -> None:
    chance = random.Random(seed)
    phases = StartPhases()
    gates = [("boot", "boot"), ("gateway_enable", "gateway_enable")]
    for phase in PHASES:
        for number in range(chance.randrange(3)):
            gates.append((phase, f"gate {number}"))
            phases.add_gate(*gates[-1])
    chance.shuffle(gates)
    seen = [phases.current]
    for phase, gate in gates:
        assert not phases.is_over, f"seed {seed}"
        phases.fire(phase, gate)
        seen.append(phases.current)
    positions = [PHASES.index(phase) for phase in seen]
    assert positions == sorted(positions), f"seed {seed}"
    assert phases.is_over, f"seed {seed}"
