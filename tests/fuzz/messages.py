"""Generator (b): well-formed messages in any order, with any lengths.

The statements touch one table ``fuzz_t (id int primary key, v text)`` that the target prepares.
"""

import struct
from random import Random

from tests.fuzz.wire import frame, query, startup

NAMES = ("", "a", "b", "ünïcode", "x" * 200)
_NAME_WEIGHTS = (60, 20, 5, 2, 1)
TEXTS = (
    "select 1",
    "select 1; select 2",
    "",
    " ; ; ",
    "select $1::int + 1",
    "select $1::text, $2::text",
    "select $3",
    "selec 1",
    "select 'open",
    "select 1/0",
    "select 1; select 1/0; select 2",
    "select * from missing",
    "select generate_series(1, 2000)",
    "begin",
    "commit",
    "rollback",
    "savepoint s",
    "rollback to savepoint s",
    "release savepoint s",
    "select * from fuzz_t",
    "insert into fuzz_t values ($1, $2)",
    "insert into fuzz_t values (1, 'one')",
    "insert into fuzz_t values ($1, 'one') returning *",
    "insert into fuzz_t values ($1, 'one') on conflict do nothing",
    "select v from fuzz_t where id = $1",
    "select * from fuzz_t where id = 1",
    "delete from fuzz_t where id = $1 returning v",
    "insert into fuzz_t select max(id) + 1, 'more' from fuzz_t returning *",
    "update fuzz_t set v = v || '!' where id = $1",
    "delete from fuzz_t",
    "copy fuzz_t from stdin",
    "copy fuzz_t from stdin with (format csv)",
    "copy fuzz_t from stdin with (format binary)",
    "copy fuzz_t to stdout",
    "copy fuzz_t to stdout with (format binary)",
    "copy (select generate_series(1, 500)) to stdout",
    "copy fuzz_t from stdin; select 1",
    "declare c cursor for select generate_series(1, 100)",
    "declare h cursor with hold for select * from fuzz_t",
    "fetch 10 from c",
    "fetch all from h",
    "move backward all in c",
    "close c",
    "close all",
    "prepare p as select $1::int",
    "execute p(1)",
    "deallocate all",
    "discard all",
    "listen fuzz",
    "notify fuzz, 'x'",
    "set statement_timeout = '3s'",
    "set extra_float_digits = 0",
    "set client_encoding = 'LATIN1'",
    "show all",
    "lock table fuzz_t in access exclusive mode nowait",
    "create temp table tt (a int) on commit drop",
    "drop table if exists tt",
    "select pg_sleep(0.001)",
    "explain select * from fuzz_t",
    "select repeat('x', 100000)",
    "select '{1,2}'::int[], 1.5::numeric, now() is null, '\\x00ff'::bytea",
)
_COPY_CHUNKS = (
    b"",
    b"1\tx\n",
    b"1\t",
    b"bad\n",
    b"\\.\n",
    b"5,six\n",
    b"\xff\xfe\n",
    b"PGCOPY\n\xff\r\n\0",
    b"\n" * 50,
)
OIDS = (0, 16, 20, 23, 25, 1700, 705, 999999, 2**32 - 1)


def _string(text: str) -> bytes:
    return text.encode() + b"\0"


def _shorts(values: list[int]) -> bytes:
    return struct.pack(f"!H{len(values)}h", len(values), *values)


def _value(rng: Random) -> bytes:
    if rng.random() < 0.15:
        return struct.pack("!i", -1)
    kind = rng.randrange(5)
    if kind == 0:
        data = str(rng.randrange(-5, 100)).encode()
    elif kind == 1:
        data = struct.pack("!i", rng.randrange(-(2**31), 2**31))
    elif kind == 2:
        data = rng.randbytes(rng.randrange(12))
    elif kind == 3:
        data = b"x" * rng.choice((0, 1, 5000, 70_000))
    else:
        data = "grüße".encode()
    return struct.pack("!i", len(data)) + data


class MessageGenerator:
    """Draws messages from one seeded source."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._makers = (
            (self._query, 5),
            (self._parse, 8),
            (self._bind, 9),
            (self._describe, 5),
            (self._execute, 9),
            (self._close, 3),
            (lambda: frame("S"), 6),
            (lambda: frame("H"), 2),
            (self._copy_data, 3),
            (lambda: frame("c"), 2),
            (lambda: frame("f", _string(self.rng.choice(("", "why", "é" * 500)))), 1),
            (self._function_call, 1),
            (lambda: frame("p", _string("password")), 0.1),
            (lambda: frame("X"), 0.2),
            (self._execution, 5),
            (self._copy_in, 2),
        )
        self._weights = [weight for _, weight in self._makers]

    def message(self) -> bytes:
        """Return one message."""
        maker = self.rng.choices(self._makers, self._weights)[0][0]
        return maker()

    def conversation(self, count_max: int = 40) -> list[bytes]:
        """Return a startup packet and up to ``count_max`` messages."""
        count = self.rng.randrange(1, count_max)
        return [startup(), *(self.message() for _ in range(count))]

    def _name(self) -> str:
        return self.rng.choices(NAMES, _NAME_WEIGHTS)[0]

    def _execution(self) -> bytes:
        """Return the messages of a prepared execution, in their order."""
        rng = self.rng
        values = rng.choice(
            (bytes(4), b"\0\0" + b"\0\1" + _value(rng), b"\0\1\0\1" + b"\0\1" + _value(rng))
        )
        execution = frame("E", b"\0" + struct.pack("!i", rng.choice((0, 0, 1, 100))))
        parts = [
            frame("P", b"\0" + _string(rng.choice(TEXTS)) + b"\0\0"),
            frame("B", b"\0\0" + values + _shorts(rng.choice(([], [], [0], [1], [2], [0, 1])))),
            frame("D", b"P\0") if rng.random() < 0.7 else b"",
            execution,
            execution if rng.random() < 0.2 else b"",
            frame("S"),
        ]
        return b"".join(parts[: rng.choice((2, 4, 5, 6, 6, 6))])

    def _copy_in(self) -> bytes:
        """Return a COPY FROM STDIN with its data, and sometimes something amid it."""
        rng = self.rng
        chunks = [self._copy_data() for _ in range(rng.randrange(4))]
        if rng.random() < 0.3:
            chunks.append(
                rng.choice((frame("S"), frame("H"), query("select 1"), frame("E", b"\0" * 5)))
            )
        return query("copy fuzz_t from stdin") + b"".join(chunks) + frame("c")

    def _query(self) -> bytes:
        return query(self.rng.choice(TEXTS))

    def _parse(self) -> bytes:
        oids = [self.rng.choice(OIDS) for _ in range(self.rng.choice((0, 0, 0, 1, 2, 5)))]
        body = _string(self._name()) + _string(self.rng.choice(TEXTS))
        return frame("P", body + struct.pack(f"!H{len(oids)}I", len(oids), *oids))

    def _bind(self) -> bytes:
        rng = self.rng
        count = rng.choice((0, 0, 0, 1, 1, 2, 2, 7, 3000))
        codes = rng.choice(([], [], [0], [1], [0] * count, [1] * count, [2], [0, 1]))
        results = rng.choice(([], [], [0], [1], [0, 1], [-1], [1] * 4))
        values = b"".join(_value(rng) if count < 100 else b"\0\0\0\1x" for _ in range(count))
        body = _string(self._name()) + _string(self._name()) + _shorts(codes)
        return frame("B", body + struct.pack("!H", count) + values + _shorts(results))

    def _describe(self) -> bytes:
        return frame("D", self.rng.choice((b"S", b"P", b"S", b"P", b"x")) + _string(self._name()))

    def _execute(self) -> bytes:
        limit = self.rng.choice((0, 0, 0, 1, 7, 1000, -1, 2**31 - 1))
        return frame("E", _string(self._name()) + struct.pack("!i", limit))

    def _close(self) -> bytes:
        return frame("C", self.rng.choice((b"S", b"P", b"?")) + _string(self._name()))

    def _copy_data(self) -> bytes:
        return frame("d", self.rng.choice(_COPY_CHUNKS) * self.rng.choice((1, 1, 1, 100)))

    def _function_call(self) -> bytes:
        return frame("F", struct.pack("!IHHH", self.rng.randrange(3000), 0, 0, 0))
