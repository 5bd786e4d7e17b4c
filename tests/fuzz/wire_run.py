"""Runs of the byte and message generators; (generator, seed, number) reproduces a case."""

import time
from collections.abc import Callable, Iterator
from random import Random

from nodedb.pgwire.codec import FrontendDecoder
from nodedb.pgwire.errors import FatalError
from nodedb.pgwire.startup import StartupDecoder
from sql.errors import CharacterNotInRepertoire, ProtocolViolation
from tests.fuzz.messages import MessageGenerator
from tests.fuzz.stream_bytes import BytesGenerator
from tests.fuzz.target import Target, Unhealthy
from tests.fuzz.wire import BadAnswer, NoAnswer, cut, exchange, fields, frames

# Looked at after so many cases, so that a traceback is found near its cause.
_CASES_PER_CHECK = 200


class Limits:
    """How long a run lasts: whichever of count and time is over first."""

    def __init__(self, *, seconds: float, count: int = 1 << 60) -> None:
        self._deadline = time.monotonic() + seconds
        self._count = count

    def cases(self) -> Iterator[int]:
        """Count up while time is left."""
        number = 0
        while number < self._count and time.monotonic() < self._deadline:
            yield number
            number += 1


def case_random(seed: int, number: int) -> Random:
    """Return the source of one case."""
    return Random(f"{seed}/{number}")


def run_decoders(seed: int, limits: Limits) -> int:
    """Feed broken bytes to both decoders, whole and in pieces. Returns the number of cases."""
    done = 0
    for number in limits.cases():
        rng = case_random(seed, number)
        generator = BytesGenerator(rng)
        tagged, raw = generator.tagged(), generator.stream()
        try:
            for decode, data in ((_decode_tagged, tagged), (_decode_startup, raw)):
                whole = decode([data])
                assert decode(cut(rng, data, 12)) == whole, "another outcome in other pieces"
        except Exception as error:
            error.add_note(f"decoders, seed {seed}, case {number}")
            raise
        done += 1
    return done


def _decode_tagged(pieces: list[bytes]) -> list[str]:
    decoder = FrontendDecoder(1 << 20)
    outcome = []
    for piece in pieces:
        decoder.feed(piece)
        while True:
            try:
                message = decoder.next_message()
            except FatalError as error:
                return [*outcome, f"fatal {error}"]
            except (ProtocolViolation, CharacterNotInRepertoire) as error:
                outcome.append(f"{decoder.last_tag} {error.sqlstate} {error}")
                continue
            if message is None:
                break
            outcome.append(repr(message))
    return outcome


def _decode_startup(pieces: list[bytes]) -> list[str]:
    decoder = StartupDecoder()
    outcome = []
    for piece in pieces:
        decoder.feed(piece)
        while True:
            try:
                request = decoder.next_request()
            except FatalError as error:
                return [*outcome, f"fatal {error}"]
            if request is None:
                break
            outcome.append(repr(request))
    return outcome


def run_bytes(target: Target, seed: int, limits: Limits) -> int:
    """Send broken streams to the node. Returns the number of cases."""
    return _run(target, seed, limits, "bytes", lambda rng: [BytesGenerator(rng).stream()])


def run_messages(target: Target, seed: int, limits: Limits) -> int:
    """Send messages in any order to the node. Returns the number of cases."""
    return _run(target, seed, limits, "messages", lambda rng: MessageGenerator(rng).conversation())


def _run(
    target: Target, seed: int, limits: Limits, name: str, draw: Callable[[Random], list[bytes]]
) -> int:
    done = 0
    for number in limits.cases():
        rng = case_random(seed, number)
        messages = draw(rng)
        pieces = cut(rng, b"".join(messages))
        try:
            answer = exchange(target.address, pieces)
            _check_answer(answer)
            if done % _CASES_PER_CHECK == 0 and (found := target.tracebacks()):
                raise Unhealthy(found)
        except (NoAnswer, BadAnswer, Unhealthy, OSError) as error:
            error.add_note(f"--generator {name}, seed {seed}, case {number}")
            if len(messages) > 1:
                error.add_note(f"shrunk: {shrink_messages(target, messages)}")
            raise
        done += 1
    return done


def _check_answer(answer: bytes) -> None:
    for tag, body in frames(answer):
        if tag == "E" and (found := fields(body)).get("C") == "XX000":
            raise Unhealthy(f"internal error: {found}")


def shrink_messages(target: Target, pieces: list[bytes]) -> list[bytes]:
    """Return the fewest messages that still earn an internal error, a hang or a bad answer."""

    def fails(messages: list[bytes]) -> bool:
        try:
            _check_answer(exchange(target.address, [b"".join(messages)], seconds=5))
        except (NoAnswer, BadAnswer, Unhealthy, OSError):
            return True
        return False

    changed = True
    while changed:
        changed = False
        for index in range(len(pieces) - 1, 0, -1):
            fewer = pieces[:index] + pieces[index + 1 :]
            if fails(fewer):
                pieces, changed = fewer, True
    return pieces
