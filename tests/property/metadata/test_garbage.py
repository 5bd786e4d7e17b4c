"""No entry of the log, however odd, makes apply raise: that would stop every replica for ever."""

import random
import types
import typing

import msgspec

from cluster.metadata import command as c
from cluster.metadata.outcome import Applied, Refused
from cluster.metadata.state import ClusterState

INTEGERS = (-(2**63), -1, 0, 1, 2, 1023, 1024, 2**31, 2**63 - 1, 2**64 - 1)
TEXTS = ("", "a", "\0", "é" * 3000, "h:1", "\U0010ffff")
BLOBS = (b"", b"\x00", b"\xff" * 20_000)


def value(kind: object, chance: random.Random, depth: int) -> object:
    """Return some value of a field's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        count = chance.choice((0, 1, 2, 5))
        return tuple(value(arguments[0], chance, depth + 1) for _ in range(count))
    if origin is typing.Literal:
        return chance.choice(arguments)
    if origin in (typing.Union, types.UnionType):
        return value(chance.choice(arguments), chance, depth + 1)
    if kind is type(None):
        return None
    if kind is bool:
        return chance.random() < 0.5
    if kind is int:
        return chance.choice(INTEGERS)
    if kind is str:
        return chance.choice(TEXTS)
    if kind is bytes:
        return chance.choice(BLOBS)
    assert isinstance(kind, type), kind
    return odd(kind, chance, depth + 1)


def odd(cls: type, chance: random.Random, depth: int = 0) -> c.Command:
    if cls is c.Batch and depth > 8:
        cls = c.Fence
    hints = typing.get_type_hints(cls)
    made: c.Command = cls(
        *(value(hints[f.name], chance, depth) for f in msgspec.structs.fields(cls))
    )
    return made


def test_odd_commands_are_applied_or_refused() -> None:
    classes = c.Command.__args__  # type: ignore[attr-defined]
    for seed in range(40):
        chance = random.Random(seed)
        state = ClusterState()
        state.apply(c.NodeJoin(1, "s", "h:9"), 1)
        state.apply(c.SetGroups((c.GroupReplicas(1, (1,)),)), 2)
        for index in range(3, 150):
            command = odd(chance.choice(classes), chance)
            if c.batch_depth(command) > c.BATCH_DEPTH_MAX:
                continue
            decoded = c.decode_command(c.encode_command(command))
            assert decoded == command
            outcome = state.apply(decoded, index)
            assert isinstance(outcome, (Applied, Refused)), f"seed {seed}"
        assert ClusterState.decode(state.encode()).digest() == state.digest(), f"seed {seed}"


def test_damaged_payloads_are_unknown_or_other_commands() -> None:
    """Every flip of a byte is refused or decodes to a command that applies; nothing else."""
    classes = c.Command.__args__  # type: ignore[attr-defined]
    for seed in range(30):
        chance = random.Random(seed)
        state = ClusterState()
        payload = bytearray(c.encode_command(odd(chance.choice(classes), chance))[:200])
        for index in range(1, 300):
            damaged = bytearray(payload)
            for _ in range(chance.randint(1, 3)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            try:
                command = c.decode_command(bytes(damaged))
            except c.UnknownCommand:
                continue
            assert isinstance(state.apply(command, index), (Applied, Refused)), f"seed {seed}"
