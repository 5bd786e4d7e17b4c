"""Generator (a): random bytes, and valid streams with something broken in them."""

from collections.abc import Callable
from random import Random

from tests.fuzz.messages import MessageGenerator
from tests.fuzz.wire import startup

BYTES_MAX = 4000


def _flip(rng: Random, data: bytearray) -> None:
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start : start + rng.randrange(1, 5)] = rng.choice(
        (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")
    )


def _delete(rng: Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 30)]


def _insert(rng: Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start:start] = rng.randbytes(rng.randrange(1, 30))


def _repeat(rng: Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randrange(1, 200)]


def _truncate(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


_MUTATIONS: tuple[Callable[[Random, bytearray], None], ...] = (
    _flip, _set, _delete, _insert, _repeat, _truncate,
)  # fmt: skip


class BytesGenerator:
    """Draws byte streams from one seeded source."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._messages = MessageGenerator(rng)

    def stream(self) -> bytes:
        """Return what one bad client sends, its startup packet included (or not)."""
        rng = self.rng
        kind = rng.randrange(10)
        if kind == 0:
            return rng.randbytes(rng.randrange(1, BYTES_MAX))
        if kind == 1:
            return startup() + rng.randbytes(rng.randrange(1, BYTES_MAX))
        if kind == 2:
            return self.mutated(startup())
        messages = [self._messages.message() for _ in range(rng.randrange(1, 20))]
        if kind == 3:
            rng.shuffle(messages)
            return self.mutated(startup() + b"".join(messages))
        return startup() + self.mutated(b"".join(messages))

    def tagged(self) -> bytes:
        """Return bytes for the decoder of tagged messages."""
        if self.rng.random() < 0.2:
            return self.rng.randbytes(self.rng.randrange(1, BYTES_MAX))
        count = self.rng.randrange(1, 12)
        return self.mutated(b"".join(self._messages.message() for _ in range(count)))

    def mutated(self, data: bytes) -> bytes:
        """Return a copy with up to three things broken."""
        changed = bytearray(data)
        for _ in range(self.rng.randrange(1, 4)):
            if changed:
                self.rng.choice(_MUTATIONS)(self.rng, changed)
        return bytes(changed)
