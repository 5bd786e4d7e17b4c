"""Running values of sequences: outside transactions, durable before they are shown.

A sequence's value is one key of the data group, written ``PREALLOCATED`` values ahead, so most
calls touch memory only; a crash skips what was reserved and not used, as in PostgreSQL ("Sequence
Manipulation Functions": gaps may occur). A clean stop writes the exact values back.

CREATE SEQUENCE, ALTER SEQUENCE and TRUNCATE RESTART IDENTITY give a sequence a new storage id, as
PostgreSQL gives it a new file. Until their transaction commits its value lives in memory only
(``begin``), whatever is drawn from it; it is written with the transaction's rows (``write``), or
forgotten without a trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nodedb.kv.effects import RowWrites, encode_effects
from nodedb.kv.keys import SEQUENCE_STORAGE_ID, index_prefix, vshard_of
from nodedb.waiter import Waiter
from sql.errors import NumericValueOutOfRange, SequenceGeneratorLimitExceeded

if TYPE_CHECKING:
    from nodedb.txn.manager import TransactionManager
    from sql.catalog.descriptor import Sequence

PREALLOCATED: Final = 32
_PREFIX: Final = index_prefix(SEQUENCE_STORAGE_ID, 1)
_decoder: Final = msgspec.msgpack.Decoder(tuple[int, bool])


class _Running:
    """One sequence in memory: the exact state, and the value up to which the log has reserved."""

    __slots__ = ("epoch", "is_called", "is_private", "last", "remaining", "reserving", "steps")

    def __init__(self, last: int, *, is_called: bool) -> None:
        self.last = last
        self.is_called = is_called
        self.is_private = False
        """Its transaction has not committed: nothing is written, nobody else draws from it."""
        self.remaining = 0
        self.steps: tuple[int, int, int] | None = None
        """Increment and bounds that the reservation was made with: changed ones void it."""
        self.epoch = 0
        """Grows when the value is set from outside.

        A reservation under way then counts for nothing.
        """
        self.reserving: _Gate | None = None


class Sequences:
    """All sequences of a node."""

    def __init__(self, manager: TransactionManager) -> None:
        self._manager = manager
        self._running: dict[int, _Running] = {}

    def _find(self, sequence: Sequence) -> _Running:
        storage_id = sequence.storage_id or sequence.id
        running = self._running.get(storage_id)
        if running is None:
            stored = self._manager.group.newest(sequence_key(storage_id))
            last, is_called = (sequence.start, False) if stored is None else _decoder.decode(stored)
            running = self._running[storage_id] = _Running(last, is_called=is_called)
        return running

    async def next_value(self, sequence: Sequence) -> int:
        """Advance and return. Raises SequenceGeneratorLimitExceeded (2200H)."""
        running = self._find(sequence)
        if running.steps != (sequence.increment, sequence.min_value, sequence.max_value):
            running.steps = (sequence.increment, sequence.min_value, sequence.max_value)
            self._set(running, running.last, is_called=running.is_called)
        while running.remaining <= 0 and not running.is_private:
            if running.reserving is not None:
                await running.reserving.follow()
                continue
            await self._reserve(sequence, running)
        running.last = _following(sequence, running)
        running.is_called = True
        running.remaining = max(running.remaining - 1, 0)
        return running.last

    async def _reserve(self, sequence: Sequence, running: _Running) -> None:
        """Write a value some steps ahead; the steps in between may then be handed out."""
        ahead = _Running(running.last, is_called=running.is_called)
        count = 0
        while count < PREALLOCATED:
            try:
                ahead.last = _following(sequence, ahead)
            except SequenceGeneratorLimitExceeded:
                if count == 0:
                    raise
                break
            ahead.is_called = True
            count += 1
        gate = running.reserving = _Gate()
        epoch = running.epoch
        try:
            await self._write(sequence, ahead)
            if running.epoch == epoch:
                running.remaining = count
        finally:
            running.reserving = None
            gate.set_result(None)

    async def set_value(self, sequence: Sequence, value: int, *, is_called: bool) -> None:
        """Set the value. Raises NumericValueOutOfRange (22003) outside the sequence's bounds."""
        if not sequence.min_value <= value <= sequence.max_value:
            raise NumericValueOutOfRange(
                f'setval: value {value} is out of bounds for sequence "{sequence.name}" '
                f"({sequence.min_value}..{sequence.max_value})"
            )
        running = self._find(sequence)
        before = running.last, running.is_called
        self._set(running, value, is_called=is_called)
        if running.is_private:
            return
        epoch = running.epoch
        try:
            await self._write(sequence, running)
        except BaseException:
            if running.epoch == epoch:
                self._set(running, before[0], is_called=before[1])
            raise

    @staticmethod
    def _set(running: _Running, last: int, *, is_called: bool) -> None:
        running.last, running.is_called, running.remaining = last, is_called, 0
        running.epoch += 1

    def state(self, sequence: Sequence) -> tuple[int, bool]:
        """Return (last_value, is_called)."""
        running = self._find(sequence)
        return running.last, running.is_called

    async def _write(self, sequence: Sequence, running: _Running) -> None:
        await self._propose(
            sequence.storage_id or sequence.id, running.last, is_called=running.is_called
        )

    def _propose(self, storage_id: int, last: int, *, is_called: bool) -> Waiter[int]:
        key = sequence_key(storage_id)
        payload = msgspec.msgpack.encode((last, is_called))
        manager = self._manager
        effects = RowWrites(manager.allocate_timestamp(), 0, [(vshard_of(key[6:]), key, payload)])
        return manager.replicator.propose(manager.group.group_id, encode_effects(effects), effects)

    def begin(self, sequence: Sequence, value: int, *, is_called: bool) -> None:
        """Begin a new storage, known to one transaction."""
        running = _Running(value, is_called=is_called)
        running.is_private = True
        self._running[sequence.storage_id] = running

    def write(self, storage_id: int) -> tuple[bytes, bytes, int]:
        """Return (key, payload, vshard) of a value begun, to be written with its transaction."""
        running = self._running[storage_id]
        assert running.is_private, storage_id
        key = sequence_key(storage_id)
        payload = msgspec.msgpack.encode((running.last, running.is_called))
        return key, payload, vshard_of(key[6:])

    def publish(self, storage_id: int) -> None:
        """Let everybody draw from a storage: the transaction that began it has committed."""
        running = self._running.get(storage_id)
        if running is not None:
            running.is_private = False

    def forget(self, storage_id: int) -> None:
        """Forget a storage that was begun in vain, or dropped."""
        self._running.pop(storage_id, None)

    def forget_all(self) -> None:
        """Forget everything: another node has led meanwhile, and drawn from them."""
        self._running.clear()

    def write_back(self) -> None:
        """Propose the exact values before a clean stop."""
        for storage_id, running in sorted(self._running.items()):
            if running.remaining:
                running.remaining = 0
                self._propose(storage_id, running.last, is_called=running.is_called)


class _Gate(Waiter[None]):
    """A waiter that several may stand at: each follower is woken in turn."""

    __slots__ = ("followers",)

    def __init__(self) -> None:
        super().__init__()
        self.followers: list[Waiter[None]] = []

    async def follow(self) -> None:
        """Wait for the owner's result."""
        follower: Waiter[None] = Waiter()
        self.followers.append(follower)
        await follower

    def set_result(self, value: None) -> bool:
        """Wake everybody."""
        followers, self.followers = self.followers, []
        result = super().set_result(value)
        for follower in followers:
            follower.set_result(None)
        return result


def _following(sequence: Sequence, running: _Running) -> int:
    """Return the value after the present one."""
    if not running.is_called:
        return running.last
    value = running.last + sequence.increment
    if sequence.min_value <= value <= sequence.max_value:
        return value
    kind, bound = (
        ("maximum", sequence.max_value)
        if sequence.increment > 0
        else ("minimum", sequence.min_value)
    )
    if not sequence.cycle:
        raise SequenceGeneratorLimitExceeded(
            f'nextval: reached {kind} value of sequence "{sequence.name}" ({bound})'
        )
    return sequence.min_value if sequence.increment > 0 else sequence.max_value


def sequence_key(storage_id: int) -> bytes:
    """Return where a sequence's running value is stored."""
    return _PREFIX + storage_id.to_bytes(8, "big")
