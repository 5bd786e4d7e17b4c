"""Random conversations: who talks to a gateway hears what who talks to the leader hears."""

from random import Random

import pytest
from forwarding_world import Client, World

from tests.fuzz.messages import MessageGenerator
from tests.fuzz.stream_bytes import BytesGenerator

SEED = 20240521


def talk(number: int, pieces: list[bytes]) -> tuple[list[str], bool]:
    """Talk to a node of a new world until the client has said it all; returns what it heard."""
    world = World()
    founder = world.client(1)
    founder.run("CREATE TABLE fuzz_t (id int PRIMARY KEY, v text)")
    founder.run("INSERT INTO fuzz_t VALUES (1, 'one'), (2, 'two')")
    founder.leave()
    client = world.client(number)
    answers: list[str] = []
    for piece in pieces:
        if not client.is_closed:
            answers += client.send(piece)
    return answers + end(world, client), client.is_closed


def end(world: World, client: Client) -> list[str]:
    """Say no more, and hear the rest."""
    if not client.is_closed:
        client.connection.eof()
    world.advance(0.3)
    return client.take()


def is_comparable(pieces: list[bytes]) -> bool:
    """Tell whether the answers do not depend on what arrives when.

    Behind a COPY that fails it depends on that what still counts as COPY data; and who says
    goodbye amid a batch may miss the beginning of its answer.
    """
    return not any(
        piece[:1] == b"X" or (piece[:1] == b"Q" and b"from stdin" in piece) for piece in pieces
    )


@pytest.mark.parametrize("number", range(30))
@pytest.mark.parametrize("is_one_piece", [False, True])
def test_conversations(number: int, *, is_one_piece: bool) -> None:
    seed = SEED + number
    pieces = MessageGenerator(Random(seed)).conversation()[1:]
    if is_one_piece:
        pieces = [b"".join(pieces)]
    heard, is_closed = talk(2, pieces)
    assert is_closed
    if is_comparable(pieces) and not is_one_piece:
        assert (heard, is_closed) == talk(1, pieces), f"seed {seed}"


def test_bytes() -> None:
    """Garbage ends a connection, and nothing else; none of it stays open."""
    world = World()
    world.client(1).run("CREATE TABLE fuzz_t (id int PRIMARY KEY, v text)")
    for number in range(150):
        rng = Random(SEED + number)
        stream = BytesGenerator(rng).stream()
        size = rng.choice((len(stream), 1000, 50))
        client = world.client(2)
        for start in range(0, len(stream), size):
            if not client.is_closed:
                client.connection.receive(stream[start : start + size])
                world.run()
        if not client.is_closed:
            client.connection.eof()
        world.advance(0.1)
        assert client.is_closed, f"seed {SEED + number}"
    world.advance(1)
    assert not world.servers[0].manager.executors
    assert world.client(2).rows("SELECT count(*) >= 0 FROM fuzz_t") == ["t"]
