"""Where rows went whose key was changed."""

import random

import pytest

from nodedb.txn.moves import MOVES_MAX, Move, Moves


def moved(*pairs: tuple[bytes, bytes | None]) -> list[Move]:
    return [Move(number, key, new_key) for number, (key, new_key) in enumerate(pairs)]


def test_a_row_is_followed_from_key_to_key() -> None:
    moves = Moves()
    moves.record(moved((b"1", b"5")), 10, 0)
    moves.record(moved((b"5", b"9")), 20, 0)
    assert moves.follow(b"1", 9) == b"9"
    assert moves.follow(b"5", 15) == b"9"
    assert moves.follow(b"1", 10) == b"1", "a row read after the move was another one"
    assert moves.follow(b"2", 9) == b"2"


def test_a_key_that_has_a_new_row_is_gone_for_those_who_read_the_old_one() -> None:
    moves = Moves()
    moves.record(moved((b"1", None)), 10, 0)
    assert moves.follow(b"1", 9) is None
    assert moves.follow(b"1", 10) == b"1"


def test_what_one_transaction_does_counts_as_one_move() -> None:
    moves = Moves()
    swap = moved((b"1", b"x"), (b"2", b"1"), (b"x", b"2"), (b"3", b"4"), (b"4", b"3"))
    moves.record(swap, 10, 0)
    assert moves.follow(b"1", 9) == b"2"
    assert moves.follow(b"2", 9) == b"1"
    assert moves.follow(b"3", 9) == b"3", "there and back again"


def test_a_row_born_in_the_transaction_is_not_the_one_that_left() -> None:
    moves = Moves()
    moves.record(moved((b"1", b"5"), (b"1", None), (b"1", b"7")), 10, 0)
    assert moves.follow(b"1", 9) == b"5"
    moves.record(moved((b"2", b"6"), (b"6", None)), 20, 0)
    assert moves.follow(b"2", 19) is None


def test_what_nobody_can_ask_for_is_forgotten() -> None:
    moves = Moves()
    moves.record(moved((b"1", b"2")), 10, 0)
    moves.record(moved((b"3", b"4")), 20, 10)
    assert len(moves) == 1
    assert moves.follow(b"3", 15) == b"4"
    moves.record([], 30, 20)
    assert len(moves) == 0


def test_no_more_than_the_limit_is_kept() -> None:
    moves = Moves()
    for timestamp in range(1, MOVES_MAX + 10):
        moves.record(moved((b"k%d" % timestamp, b"n%d" % timestamp)), timestamp, 0)
    assert len(moves) <= MOVES_MAX + 1
    assert moves.follow(b"k1", 0) == b"k1"
    last = MOVES_MAX + 9
    assert moves.follow(b"k%d" % last, last - 1) == b"n%d" % last


@pytest.mark.parametrize("seed", range(20))
def test_followed_like_rows_in_a_dictionary(seed: int) -> None:
    """Random moves, deletions and insertions; each row knows who it is."""
    rng = random.Random(seed)
    names = [b"%d" % number for number in range(6)]
    rows: dict[bytes, int] = {key: number for number, key in enumerate(names[:4])}
    history = [dict(rows)]
    moves = Moves()
    serial = len(rows)
    for timestamp in range(1, 30):
        noted: list[Move] = []
        gone: set[bytes] = set()
        for _ in range(rng.randint(1, 4)):
            key, other = rng.sample(names, 2)
            if key in rows and other not in rows:
                rows[other] = rows.pop(key)
                noted.append(Move(len(noted), key, other))
                gone.add(key)
            elif key in rows and rng.random() < 0.5:
                del rows[key]
                gone.add(key)
            elif key not in rows:
                rows[key] = serial
                serial += 1
                if key in gone:
                    noted.append(Move(len(noted), key, None))
        moves.record(noted, timestamp, 0)
        history.append(dict(rows))
        for since, then in enumerate(history[:-1]):
            # A row deleted by one transaction, its key taken by another: that is in the versions.
            for key, row in then.items():
                found = moves.follow(key, since)
                survives = all(row in later.values() for later in history[since:])
                if survives:
                    assert found is not None, f"seed={seed}"
                    assert rows.get(found) == row, f"seed={seed} row={row} since={since}"
