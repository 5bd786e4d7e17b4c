"""The checker finds each anomaly in a history written for it, exactly that one, and none in others.

Sessions are letters; all keys begin empty.
"""

import random
from collections.abc import Sequence

import pytest

from tests.serializability.checker import (
    FORBIDDEN,
    LEVELS,
    Anomaly,
    Level,
    check,
    find_anomalies,
)
from tests.serializability.history import (
    NEVER,
    Append,
    Operation,
    Outcome,
    Read,
    Shares,
    Transaction,
)
from tests.serializability.transcript import history

# Name: what is found, and the history. "Concurrent" ones all run from 0 to 9.
ANOMALIES: dict[str, tuple[list[str], str]] = {
    "a value twice": (
        ["duplicate"],
        """a 0-1 ok: append 1 10
           b 2-3 ok: read 1 [10 10]""",
    ),
    "a value from nowhere": (
        ["unwritten"],
        """a 0-1 ok: append 1 10
           b 2-3 ok: read 1 [10 99]""",
    ),
    "two orders": (
        ["incompatible orders"],
        """a 0-9 ok: append 1 10
           b 0-9 ok: append 1 11
           c 0-9 ok: read 1 [10 11]
           d 0-9 ok: read 1 [11]""",
    ),
    "own append not seen": (
        ["internal"],
        "a 0-1 ok: append 1 10; read 1 []",
    ),
    "own append not at the end": (
        # The graph says the same in its own words.
        ["internal", "G1c"],
        """a 0-9 ok: append 1 10; read 1 [10 11]
           b 0-9 ok: append 1 11""",
    ),
    "another answer to the same question": (
        ["non-repeatable read", "G-single"],
        """a 0-9 ok: read 1 []; read 1 [10]
           b 0-9 ok: append 1 10""",
    ),
    "a row vanishes between two reads": (
        ["non-repeatable read", "G-single"],
        """a 0-9 ok: read 1 [10]; read 1 []
           b 0-9 unknown: append 1 10""",
    ),
    "aborted read": (
        ["G1a"],
        """a 0-9 aborted: append 1 10
           b 0-9 ok: read 1 [10]""",
    ),
    "intermediate read": (
        ["G1b", "G-single"],
        """a 0-9 ok: append 1 10; append 1 11
           b 0-9 ok: read 1 [10]
           c 0-9 ok: read 1 [10 11]""",
    ),
    "dirty write": (
        ["G0"],
        """a 0-9 ok: append 1 10; append 2 10
           b 0-9 ok: append 1 11; append 2 11
           c 0-9 ok: read 1 [10 11]
           d 0-9 ok: read 2 [11 10]""",
    ),
    "dirty write of one key": (
        ["G0"],
        """a 0-9 ok: append 1 10; append 1 12
           b 0-9 ok: append 1 11
           c 0-9 ok: read 1 [10 11 12]""",
    ),
    "each read what the other wrote": (
        ["G1c"],
        """a 0-9 ok: append 1 10; read 2 [20]
           b 0-9 ok: append 2 20; read 1 [10]""",
    ),
    "a circle of information through three": (
        ["G1c"],
        """a 0-9 ok: append 1 10; read 3 [30]
           b 0-9 ok: append 2 20; read 1 [10]
           c 0-9 ok: append 3 30; read 2 [20]""",
    ),
    "read skew": (
        ["G-single"],
        """a 0-9 ok: append 1 10; append 2 20
           b 0-9 ok: read 1 []; read 2 [20]
           c 10-11 ok: read 1 [10]""",
    ),
    "lost update, the second kept": (
        ["lost update", "G-single"],
        """a 0-9 ok: read 1 []; append 1 10
           b 0-9 ok: read 1 []; append 1 11
           c 0-9 ok: read 1 [10 11]""",
    ),
    "lost update, the first overwritten": (
        ["lost update", "lost append"],
        """a 0-4 ok: read 1 []; append 1 10
           b 0-5 ok: read 1 []; append 1 11
           c 6-9 ok: read 1 [11]""",
    ),
    "lost append": (
        ["lost append"],
        """a 0-1 ok: append 1 10
           b 0-1 ok: append 1 11
           c 2-3 ok: read 1 [11]""",
    ),
    "write skew": (
        ["G2-item"],
        """a 0-9 ok: read 1 []; append 2 20
           b 0-9 ok: read 2 []; append 1 10
           c 0-9 ok: read 1 [10]; read 2 [20]""",
    ),
    "write skew of three": (
        ["G2-item"],
        """a 0-9 ok: read 1 []; append 2 20
           b 0-9 ok: read 2 []; append 3 30
           c 0-9 ok: read 3 []; append 1 10
           d 0-9 ok: read 1 [10]; read 2 [20]; read 3 [30]""",
    ),
    "long fork": (
        ["G2-item"],
        """a 0-9 ok: append 1 10
           b 0-9 ok: append 2 20
           c 0-9 ok: read 1 [10]; read 2 []
           d 0-9 ok: read 1 []; read 2 [20]""",
    ),
    # Fekete, O'Neil and O'Neil 2004: b and c alone would be in order, and so would a and c.
    "read-only anomaly": (
        ["G2-item"],
        """a 0-9 ok: read 1 [1]; read 2 []
           b 0-9 ok: append 1 1
           c 0-9 ok: read 1 []; read 2 []; append 2 2
           d 0-9 ok: read 2 [2]""",
    ),
    "a session does not see its own past": (
        ["G-single-session"],
        """a 0-9 ok: append 1 10; append 2 20
           a 10-11 ok: read 1 []
           b 12-13 ok: read 1 [10]""",
    ),
    "stale read": (
        ["G-single-realtime"],
        """a 0-1 ok: append 1 10; append 2 20
           b 2-4 ok: read 1 []
           c 3-5 ok: read 1 [10]""",
    ),
    "a later write stands before an earlier one": (
        ["G0-realtime"],
        """a 0-1 ok: append 1 10
           b 2-3 ok: append 1 11
           c 4-5 ok: read 1 [11 10]""",
    ),
    "the past reads the future": (
        ["G1c-realtime"],
        """a 0-1 ok: read 1 [10]
           b 2-3 ok: append 1 10""",
    ),
    "write skew closed by real time": (
        ["G2-item-realtime"],
        """a 0-9 ok: read 1 []; append 2 20
           b 0-3 ok: append 1 10
           c 4-9 ok: read 2 []
           d 10-11 ok: read 1 [10]; read 2 [20]""",
    ),
    "two components, one report each": (
        ["G2-item", "G2-item"],
        """a 0-9 ok: read 1 []; append 2 20
           b 0-9 ok: read 2 []; append 1 10
           a 10-19 ok: read 3 []; append 4 40; read 1 [10]; read 2 [20]
           b 10-19 ok: read 4 []; append 3 30
           c 20-29 ok: read 3 [30]; read 4 [40]""",
    ),
}

CLEAN: dict[str, str] = {
    "nothing": "a 0-1 ok:",
    "one after the other": """
        a 0-1 ok: append 1 10; read 1 [10]; append 1 11; read 1 [10 11]
        b 2-3 ok: read 1 [10 11]; append 1 12
        a 4-5 ok: read 1 [10 11 12]; read 1 [10 11 12]; read 2 []""",
    "concurrent ones in some order": """
        a 0-9 ok: read 1 []; append 2 20
        b 0-9 ok: read 2 [20]; append 1 10
        c 0-9 ok: read 1 []; read 2 [20]""",
    "aborted and unseen": """
        a 0-1 aborted: append 1 10; read 1 [10]
        b 2-3 ok: read 1 []; append 1 11
        b 4-5 ok: read 1 [11]""",
    "unknown and never there": """
        a 0-1 unknown: append 1 10
        b 2-3 ok: read 1 []""",
    "unknown and there at once": """
        a 0-1 unknown: read 2 []; append 1 10
        b 2-3 ok: read 1 [10]""",
    "unknown and there later": """
        a 0- unknown: append 1 10
        b 2-3 ok: read 1 []
        b 4-5 ok: read 1 [10]""",
    "unknown, its session goes on": """
        a 0-1 unknown: append 1 10
        a 2-3 ok: read 1 []
        b 4-5 ok: read 1 [10]""",
    "a read that overlaps a write may miss it": """
        a 0-5 ok: append 1 10
        b 4-6 ok: read 1 []
        c 7-8 ok: read 1 [10]""",
    "an append that nobody had to see": """
        a 0-9 ok: append 1 10
        b 8-9 ok: read 1 []""",
}


def names(found: Sequence[Anomaly]) -> list[str]:
    return [anomaly.name for anomaly in found]


@pytest.mark.parametrize("title", ANOMALIES)
def test_anomaly_is_found(title: str) -> None:
    expected, text = ANOMALIES[title]
    assert names(find_anomalies(history(text))) == expected


@pytest.mark.parametrize("title", CLEAN)
def test_clean_history_is_clean(title: str) -> None:
    assert find_anomalies(history(CLEAN[title])) == []


def test_every_name_has_a_history() -> None:
    found = {name for expected, _ in ANOMALIES.values() for name in expected}
    without_orders = {name.replace("-session", "").replace("-realtime", "") for name in found}
    assert without_orders == {
        name.replace("-session", "").replace("-realtime", "")
        for level in LEVELS
        for name in FORBIDDEN[level]
    }


@pytest.mark.parametrize(
    ("title", "lowest"),
    [
        ("a value twice", "read committed"),
        ("a value from nowhere", "read committed"),
        ("two orders", "read committed"),
        ("own append not seen", "read committed"),
        ("aborted read", "read committed"),
        ("intermediate read", "read committed"),
        ("dirty write", "read committed"),
        ("each read what the other wrote", "read committed"),
        ("the past reads the future", "read committed"),
        ("lost append", "read committed"),
        ("another answer to the same question", "repeatable read"),
        ("read skew", "repeatable read"),
        ("lost update, the second kept", "repeatable read"),
        ("stale read", "repeatable read"),
        ("write skew", "serializable"),
        ("long fork", "serializable"),
        ("read-only anomaly", "serializable"),
        ("write skew closed by real time", "serializable"),
    ],
)
def test_level_forbids(title: str, lowest: Level) -> None:
    """From its level on an anomaly is forbidden, below it is not."""
    _, text = ANOMALIES[title]
    refused = [level for level in LEVELS if check(history(text), level)]
    assert refused == list(LEVELS[LEVELS.index(lowest) :])


def test_transcript_explains_the_cycle() -> None:
    _, text = ANOMALIES["write skew"]
    (anomaly,) = find_anomalies(history(text))
    assert str(anomaly).splitlines() == [
        "G2-item",
        "  T1 session 97 [0.000000, 9.000000] ok: read 1 []; append 2 20",
        "  T2 session 98 [0.000000, 9.000000] ok: read 2 []; append 1 10",
        "  T1 -rw-> T2: read 1 without 10",
        "  T2 -rw-> T1: read 2 without 20",
    ]


def test_transcript_shows_the_shortest_cycle() -> None:
    """Of a ring of four and one of two in the same component the latter is told."""
    text = """
        a 0-9 ok: read 1 []; append 2 20; append 9 90
        b 0-9 ok: read 2 []; append 3 30
        c 0-9 ok: read 3 []; append 4 40; append 8 80
        d 0-9 ok: read 4 []; append 1 10
        e 0-9 ok: read 9 []; append 7 70; append 6 60
        f 0-9 ok: read 6 []; append 9 91; read 8 []; append 5 50
        g 0-9 ok: read 5 []; append 3 31
        h 10-11 ok: read 1 [10]; read 2 [20]; read 3 [30 31]; read 4 [40]; read 5 [50]
        h 12-13 ok: read 6 [60]; read 7 [70]; read 8 [80]; read 9 [91 90]"""
    found = find_anomalies(history(text), FORBIDDEN["serializable"])
    shortest = min(len(anomaly.transcript) for anomaly in found)
    assert shortest == 4, "\n".join(map(str, found))


class SerialWorld:
    """Histories of transactions that really ran one after the other, at a moment of their time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.lists: dict[int, tuple[int, ...]] = {}
        self.next_value = 0

    def operations(self) -> tuple[Operation, ...]:
        done: list[Operation] = []
        for _ in range(self.chance.randrange(1, 5)):
            key = self.chance.randrange(4)
            if self.chance.random() < 0.5:
                done.append(Read(key, self.lists.get(key, ())))
            else:
                self.next_value += 1
                self.lists[key] = (*self.lists.get(key, ()), self.next_value)
                done.append(Append(key, self.next_value))
        return tuple(done)

    def history(self, count: int) -> list[Transaction]:
        """Return transactions that take effect at 0, 1, 2... and reach into others' time."""
        made = []
        free_at = [0.0] * 8
        for number in range(count):
            candidates = [session for session, at in enumerate(free_at) if at <= number]
            if not candidates:
                continue
            session = self.chance.choice(candidates)
            began = self.chance.uniform(free_at[session], number)
            ended = number + self.chance.random() * 6
            free_at[session] = ended + 0.001
            is_unknown = self.chance.random() < 0.05
            before, value = dict(self.lists), self.next_value
            operations = self.operations()
            outcome: Outcome = "unknown" if is_unknown else "ok"
            if self.chance.random() < 0.2:
                self.lists, outcome = before, "aborted"
            assert self.next_value >= value
            end = NEVER if outcome == "unknown" else ended
            made.append(Transaction(number, session, began, end, outcome, operations))
        return made


@pytest.mark.parametrize("seed", range(30))
def test_serial_histories_are_clean(seed: int) -> None:
    made = SerialWorld(seed).history(200)
    assert Shares.of(made).committed > 50
    found = find_anomalies(made)
    assert not found, f"seed {seed}\n" + "\n".join(map(str, found))


@pytest.mark.parametrize("seed", range(30))
def test_one_forged_read_is_noticed(seed: int) -> None:
    """Cut the last value off a list that was read long after it was appended."""
    world = SerialWorld(seed)
    made = world.history(200)
    writers = {
        operation.value: transaction
        for transaction in made
        for operation in transaction.operations
        if isinstance(operation, Append)
    }
    for at in reversed(range(len(made))):
        transaction = made[at]
        first = transaction.operations[0] if transaction.operations else None
        if transaction.outcome != "ok" or not isinstance(first, Read) or not first.values:
            continue
        writer = writers[first.values[-1]]
        if writer.outcome != "ok" or writer.ended >= transaction.began:
            continue
        forged = Read(first.key, first.values[:-1])
        made[at] = Transaction(
            transaction.number,
            transaction.session,
            transaction.began,
            transaction.ended,
            "ok",
            (forged, *transaction.operations[1:]),
        )
        break
    else:
        pytest.fail(f"seed {seed}: nothing to forge")
    assert find_anomalies(made), f"seed {seed}: forged {transaction}"


def test_shares() -> None:
    text = """
        a 0-1 ok: append 1 10
        a 2-3 aborted: append 1 11
        a 4-5 aborted: append 1 12
        a 6- unknown: append 1 13"""
    shares = Shares.of(history(text))
    assert shares == Shares(1, 2, 1)
    assert str(shares) == "1 committed (25%), 2 aborted (50%), 1 unknown"
