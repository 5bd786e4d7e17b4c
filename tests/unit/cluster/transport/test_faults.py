"""Descriptions of faults, and the gate that carries them out."""

import random

import pytest

from cluster.transport import frame as f
from cluster.transport.faults import (
    NO_FAULT,
    Fault,
    FaultDescriptionError,
    FaultGate,
    FaultPolicy,
    parse_faults,
)

PEER = "127.0.0.1:9401"


def test_lines_and_json_say_the_same() -> None:
    lines = parse_faults(f"cut {PEER} in\ndelay {PEER} 0.25\n\ndrop * 0.1 out\nheal {PEER}\nheal\n")
    objects = parse_faults(
        f"""[{{"action": "cut", "peer": "{PEER}", "direction": "in"}},
        {{"action": "delay", "peer": "{PEER}", "seconds": 0.25, "direction": "both"}},
        {{"action": "drop", "peer": "*", "probability": 0.1, "direction": "out"}},
        {{"action": "heal", "peer": "{PEER}"}}, {{"action": "heal"}}]"""
    )
    assert lines == objects
    assert lines[1] == ("delay", PEER, 0.25, ("in", "out"))
    assert parse_faults(f'{{"action": "cut", "peer": "{PEER}"}}') == parse_faults(f"cut {PEER}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "nothing is described"),
        ("burn 127.0.0.1:1", "expected cut, delay, drop or heal"),
        ("cut", "peer must be HOST:PORT"),
        ("cut nonsense", "peer must be HOST:PORT"),
        (f"cut {PEER} sideways", "expected in, out or both"),
        (f"cut {PEER} in out", "'out' is too much"),
        (f"delay {PEER}", "seconds must lie between 0 and 600"),
        (f"delay {PEER} nan", "seconds must lie between"),
        (f"delay {PEER} -1", "seconds must lie between"),
        (f"drop {PEER} 1.5", "probability must lie between 0 and 1"),
        ("{", "not JSON"),
        ("[[]]", "expected an object"),
        (f'{{"action": "cut", "peer": "{PEER}", "seconds": 1}}', "cut has no 'seconds'"),
        ('{"action": ["cut"]}', "expected cut"),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_happens(text: str, sentence: str) -> None:
    policy = FaultPolicy(random.Random(1))
    with pytest.raises(FaultDescriptionError, match=sentence.replace("'", "'")):
        policy.apply_text(text)
    assert not policy.is_active


def test_faults_add_up_and_heal() -> None:
    policy = FaultPolicy(random.Random(1))
    policy.apply_text(f"delay {PEER} 0.5 in\ndrop {PEER} 0.2\ncut * out")
    assert policy.of(PEER, "in") == Fault(delay_seconds=0.5, drop_probability=0.2)
    assert policy.of(PEER, "out") == Fault(drop_probability=0.2)
    assert policy.of("other:1", "out") == Fault(is_cut=True)
    assert policy.of("other:1", "in") == NO_FAULT
    assert [row["peer"] for row in policy.describe()] == ["*", PEER, PEER]
    policy.apply_text(f"heal {PEER}")
    assert policy.of(PEER, "out") == Fault(is_cut=True)
    policy.apply_text("heal")
    assert not policy.is_active


class Clockwork:
    """Virtual time and a gate."""

    def __init__(self, policy: FaultPolicy) -> None:
        self.at = 0.0
        self.timers: list[tuple[float, object]] = []
        self.released: list[tuple[float, bytes]] = []
        self.gate = FaultGate(
            policy,
            "out",
            now=lambda: self.at,
            later=lambda seconds, callback: self.timers.append((self.at + seconds, callback)),
            release=lambda frames: self.released.extend((self.at, each[4]) for each in frames),
        )

    def run(self) -> None:
        for at, callback in sorted(self.timers, key=lambda timer: timer[0]):
            self.at = max(self.at, at)
            callback()  # type: ignore[operator]
        self.timers.clear()


def message(payload: bytes) -> f.Frame:
    return (f.MESSAGE, 1, 0, 0, payload)


def test_a_delay_keeps_the_order_also_when_it_gets_shorter() -> None:
    policy = FaultPolicy(random.Random(1))
    world = Clockwork(policy)
    policy.apply_text(f"delay {PEER} 1")
    world.gate.submit(PEER, [message(b"1"), message(b"2")])
    policy.apply_text(f"delay {PEER} 0.1")
    world.gate.submit(PEER, [message(b"3")])
    policy.apply_text("heal")
    assert not world.gate.is_open(PEER)
    world.gate.submit(PEER, [message(b"4")])
    assert world.released == []
    world.run()
    assert world.released == [(1.0, b"1"), (1.0, b"2"), (1.0, b"3"), (1.0, b"4")]
    assert world.gate.is_open(PEER)
    world.gate.submit(PEER, [message(b"5")])
    assert world.released[-1] == (1.0, b"5")


def test_a_drop_takes_its_share_and_never_parts_of_streams() -> None:
    policy = FaultPolicy(random.Random(7))
    world = Clockwork(policy)
    policy.apply_text(f"drop {PEER} 0.3")
    for _ in range(1000):
        world.gate.submit(PEER, [message(b""), (f.STREAM_PART, 1, 1, 0, b"part")])
    parts = [payload for _, payload in world.released if payload]
    assert len(parts) == 1000
    assert 620 < len(world.released) - len(parts) < 780
    assert not world.gate.is_damaged


def test_a_cut_that_takes_a_part_of_a_stream_damages_the_connection() -> None:
    policy = FaultPolicy(random.Random(7))
    world = Clockwork(policy)
    policy.apply_text(f"cut {PEER}")
    assert world.gate.is_cut(PEER)
    world.gate.submit(PEER, [message(b"x")])
    assert not world.gate.is_damaged
    world.gate.submit(PEER, [(f.STREAM_FINISH, 0, 1, 0, b"")])
    assert world.gate.is_damaged
    assert world.released == []
