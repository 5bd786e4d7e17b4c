"""Running values of sequences: concurrency, limits, cycles, changes from outside, crashes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from nodedb.txn.sequences import PREALLOCATED
from sql.catalog.descriptor import Sequence
from sql.errors import DiskFull, NumericValueOutOfRange, SequenceGeneratorLimitExceeded
from tests.unit.nodedb.txn.simulation import SimulatedNode, Task


def sequence(**fields: int | bool) -> Sequence:
    values: dict[str, Any] = {
        "start": 1,
        "increment": 1,
        "min_value": 1,
        "max_value": 1 << 60,
        **fields,
    }
    return Sequence(id=200, name="s", schema_id=2200, type_oid=20, **values)


def draw(node: SimulatedNode, what: Sequence, count: int) -> list[int]:
    return [node.finish(node.sequences.next_value(what)) for _ in range(count)]


def test_values_follow_each_other_with_few_log_entries() -> None:
    node = SimulatedNode()
    assert draw(node, sequence(), 100) == list(range(1, 101))
    assert node.replicator.entry_count <= 100 // PREALLOCATED + 3
    assert node.sequences.state(sequence()) == (100, True)


def test_many_may_wait_for_one_reservation() -> None:
    node = SimulatedNode()
    tasks = [Task(node.sequences.next_value(sequence())) for _ in range(3 * PREALLOCATED)]
    assert not any(task.done for task in tasks)
    node.schedule.run()
    assert sorted(task.result() for task in tasks) == list(range(1, 3 * PREALLOCATED + 1))


def test_a_crash_never_repeats_a_value_and_a_clean_stop_skips_none() -> None:
    node = SimulatedNode()
    drawn = draw(node, sequence(), 5)
    node = node.restarted()
    drawn += draw(node, sequence(), 5)
    assert len(set(drawn)) == 10
    assert max(drawn) <= 2 * PREALLOCATED + 10
    node.sequences.write_back()
    node.replicator.close()
    node.engine.close()
    assert draw(node.restarted(power_loss=False), sequence(), 1) == [max(drawn) + 1]


@pytest.mark.parametrize(
    ("fields", "expected", "message"),
    [
        ({"max_value": 3}, [1, 2, 3], 'nextval: reached maximum value of sequence "s" (3)'),
        (
            {"start": -1, "increment": -2, "min_value": -4, "max_value": -1},
            [-1, -3],
            'nextval: reached minimum value of sequence "s" (-4)',
        ),
    ],
)
def test_the_limit_is_an_error(fields: dict[str, int], expected: list[int], message: str) -> None:
    node = SimulatedNode()
    assert draw(node, sequence(**fields), len(expected)) == expected
    for _ in range(2):
        with pytest.raises(SequenceGeneratorLimitExceeded) as caught:
            draw(node, sequence(**fields), 1)
        assert caught.value.message == message


def test_a_cycle_starts_over_at_the_other_end() -> None:
    node = SimulatedNode()
    assert draw(node, sequence(start=2, max_value=3, cycle=True), 5) == [2, 3, 1, 2, 3]


def test_setting_the_value() -> None:
    node = SimulatedNode()
    draw(node, sequence(), 3)
    node.finish(node.sequences.set_value(sequence(), 50, is_called=True))
    assert draw(node, sequence(), 2) == [51, 52]
    node.finish(node.sequences.set_value(sequence(), 7, is_called=False))
    assert draw(node, sequence(), 2) == [7, 8]
    with pytest.raises(NumericValueOutOfRange) as caught:
        node.finish(node.sequences.set_value(sequence(), 0, is_called=True))
    assert (
        caught.value.message
        == 'setval: value 0 is out of bounds for sequence "s" (1..1152921504606846976)'
    )


def test_a_value_set_during_a_reservation_voids_it() -> None:
    node = SimulatedNode()
    first = Task(node.sequences.next_value(sequence()))
    change = Task(node.sequences.set_value(sequence(), 1000, is_called=True))
    node.schedule.run()
    change.result()
    drawn = [first.result(), *draw(node, sequence(), 3)]
    assert drawn == [1001, 1002, 1003, 1004]
    assert draw(node.restarted(), sequence(), 1)[0] > 1004


def test_a_changed_increment_voids_the_reservation() -> None:
    node = SimulatedNode()
    assert draw(node, sequence(), 2) == [1, 2]
    faster = replace(sequence(), increment=1000)
    assert draw(node, faster, 2) == [1002, 2002]
    assert draw(node.restarted(), faster, 1)[0] > 2002


def test_a_refused_change_leaves_the_value() -> None:
    node = SimulatedNode()
    draw(node, sequence(), 2)
    node.disk.quota = 0
    filler = node.transactions.begin(1, node.begin().interrupts)
    filler.put(b"\0\0\1\0\0\1key", bytes(1 << 21), 0)
    big = Task(node.transactions.commit(filler))
    change = Task(node.sequences.set_value(sequence(), 99, is_called=True))
    node.schedule.run()
    assert isinstance(big.error, DiskFull)
    assert isinstance(change.error, DiskFull)
    assert node.sequences.state(sequence()) == (2, True)


def begun(node: SimulatedNode, storage_id: int, value: int) -> Sequence:
    """Return the sequence with a new storage, as ALTER SEQUENCE makes it."""
    changed = replace(sequence(), storage_id=storage_id)
    node.sequences.begin(changed, value, is_called=False)
    return changed


def test_what_a_transaction_has_begun_is_written_with_it() -> None:
    node = SimulatedNode()
    draw(node, sequence(), 2)
    entries = node.replicator.entry_count
    changed = begun(node, 900, 100)
    assert draw(node, changed, 40) == list(range(100, 140))
    assert draw(node, sequence(), 1) == [3], "others go on with the old storage"
    assert node.replicator.entry_count == entries, "nothing is written before the commit"
    transaction = node.begin()
    transaction.put(*node.sequences.write(900))
    node.finish(node.transactions.commit(transaction))
    node.sequences.publish(900)
    assert draw(node.restarted(), changed, 1) == [140]


def test_what_was_begun_in_vain_leaves_nothing() -> None:
    node = SimulatedNode()
    draw(node, sequence(), 2)
    keys = node.group.rows.scan(b"\0", None, 100)
    changed = begun(node, 900, 100)
    draw(node, changed, 40)
    node.finish(node.sequences.set_value(changed, 5, is_called=True))
    node.sequences.forget(900)
    node.schedule.run()
    assert node.group.rows.scan(b"\0", None, 100) == keys
    assert draw(node, sequence(), 1) == [3]
    assert node.sequences.state(changed) == (1, False), "nobody knows of the storage"


def test_a_published_storage_reserves_like_any_other() -> None:
    node = SimulatedNode()
    changed = begun(node, 900, 100)
    transaction = node.begin()
    transaction.put(*node.sequences.write(900))
    node.finish(node.transactions.commit(transaction))
    node.sequences.publish(900)
    assert draw(node, changed, 3) == [100, 101, 102]
    assert draw(node.restarted(), changed, 1)[0] > 102
