"""Commands in bytes: golden, versioned, strict. A changed byte is a changed log: never edit one."""

import msgspec
import pytest

from cluster.metadata.command import (
    BATCH_DEPTH_MAX,
    Batch,
    CatalogChange,
    CaTrustChange,
    ClusterVersionBump,
    Command,
    DescriptorDrainEnd,
    DescriptorDrainStart,
    DescriptorLeaseGrant,
    DescriptorLeaseRelease,
    Fence,
    FinishDecommission,
    ForgetDecisions,
    FoundCluster,
    GroupReplicas,
    JoinTokenTransition,
    LeadershipTransfer,
    NodeJoin,
    NodeLeave,
    NodeUpdate,
    PromoteToActive,
    ReassignVshards,
    Recommission,
    RemoveMember,
    SetGroups,
    Setting,
    StartDecommission,
    TimestampWindow,
    UnknownCommand,
    VshardRange,
    batch_depth,
    decode_command,
    encode_command,
    flatten,
)

_NODE = {
    "node_id": 3,
    "store_id": "s3",
    "rpc_address": "h:1",
    "sql_address": "h:2",
    "http_address": "h:3",
    "locality": ("eu", "a"),
    "role": "full",
    "wire_version": 2,
    "spki_pin": b"\x01",
    "incarnation": 300,
}
_NODE_BYTES = "03a27333a3683a31a3683a32a3683a3392a26575a161a466756c6c02c40101cd012c"
GOLDEN: list[tuple[Command, str]] = [
    (TimestampWindow(1 << 60), "029201cf1000000000000000"),
    (CatalogChange(b"xy"), "029402c40278790000"),
    (CatalogChange(b"", 7, 1 << 40), "029402c40007cf0000010000000000"),
    (
        Batch((PromoteToActive(2), Batch((Fence(4, 2),)))),
        "02920392920602920391" + "93180402",
    ),
    (NodeJoin(**_NODE), "029b04" + _NODE_BYTES),  # type: ignore[arg-type]
    (NodeUpdate(**_NODE), "029b05" + _NODE_BYTES),  # type: ignore[arg-type]
    (PromoteToActive(3), "02920603"),
    (StartDecommission(3), "02920703"),
    (FinishDecommission(3), "02920803"),
    (Recommission(3), "02920903"),
    (NodeLeave(3), "02930a03c2"),
    (NodeLeave(3, lost=True), "02930a03c3"),
    (
        SetGroups((GroupReplicas(0, (1, 2, 3)), GroupReplicas(1, (1,), (4,)))),
        "02920b929300930102039093019101" + "9104",
    ),
    (ReassignVshards((VshardRange(0, 512, 2),)), "02920c919300cd020002"),
    (RemoveMember(1, 3), "02930d0103"),
    (LeadershipTransfer(1, 2), "02930e0102"),
    (ClusterVersionBump(1, 2), "02930f0102"),
    (Setting(0, "a", "b"), "02941000a161a162"),
    (Setting(3, "a", None), "02941003a161c0"),
    (FoundCluster("c0ffee"), "029211a6633066666565"),
    (DescriptorLeaseGrant(0, 9, 3, 100, 200), "02961200090364ccc8"),
    (DescriptorLeaseRelease(3), "0293130390"),
    (DescriptorLeaseRelease(3, (5, 6)), "02931303920506"),
    (DescriptorDrainStart(5, 9, 100, 200), "029514050964ccc8"),
    (DescriptorDrainEnd(5), "02921505"),
    (CaTrustChange(b"\x30", "ab"), "029316c40130a26162"),
    (
        JoinTokenTransition(b"\x01\x02", "begin", 5, 9, 3, "h:1"),
        "029717c4020102a5626567696e050903a3683a31",
    ),
    (Fence(4, 2), "0293180402"),
    (ForgetDecisions((1, 300)), "0292199201cd012c"),
]


@pytest.mark.parametrize(("command", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden_bytes(command: Command, golden: str) -> None:
    assert encode_command(command).hex() == golden
    assert decode_command(bytes.fromhex(golden)) == command


def test_every_command_has_golden_bytes_and_a_tag_of_its_own() -> None:
    classes = Command.__args__  # type: ignore[attr-defined]
    assert {type(command) for command, _ in GOLDEN} == set(classes)
    tags = [cls.__struct_config__.tag for cls in classes]
    assert sorted(tags) == list(range(1, 26))


def test_what_version_1_wrote_is_still_read() -> None:
    """Entries of stores from before there were clusters; their bytes, not our encoder's."""
    for golden, command in (
        ("019201cf1000000000000000", TimestampWindow(1 << 60)),
        ("019202c4027879", CatalogChange(b"xy")),
        (
            "019203929201049202c40178",
            Batch((TimestampWindow(4), CatalogChange(b"x"))),
        ),
    ):
        assert decode_command(bytes.fromhex(golden)) == command


def wire(*members: object, version: int = 2) -> bytes:
    return bytes((version,)) + msgspec.msgpack.encode(members)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x02",
        b"\x00\x92\x01\x04",
        b"\x03\x92\x01\x04",
        b"\xff\x92\x01\x04",
        wire(26, 1),
        wire(0, 1),
        wire(-1, 1),
        wire("1", 1),
        wire(1),
        wire(1, "x"),
        wire(1, 1.5),
        wire(1, 1, 1),
        wire(2, b"x", 0, 0, 0),
        wire(2, "x"),
        wire(3, 1),
        wire(3, [[1, 1], [99, 1]]),
        wire(10, 3, False, 1),
        wire(11, [[0, [1], [], 9]]),
        wire(12, [[0, 1]]),
        wire(16, 0, "a", 5),
        wire(23, b"x", "steal", 1),
        wire(1, 1) + b"\x00",
        b"\x02\xc1",
        b"\x02{}",
        b"\x02\x92\x11\xa1\xff",
        b"\x02" + b"\x92\x03\x91" * 2000 + b"\x92\x01\x01",
    ],
    ids=lambda payload: payload[:12].hex(),
)
def test_what_is_not_ours_is_never_guessed(payload: bytes) -> None:
    with pytest.raises(UnknownCommand):
        decode_command(payload)


def test_every_prefix_of_a_command_is_unknown() -> None:
    for command, golden in GOLDEN:
        payload = bytes.fromhex(golden)
        for length in range(len(payload)):
            with pytest.raises(UnknownCommand):
                decode_command(payload[:length])
            assert command is not None


def nested(depth: int) -> Command:
    command: Command = TimestampWindow(1)
    for _ in range(depth):
        command = Batch((command,))
    return command


def test_batches_nest_to_a_limit_on_both_sides() -> None:
    deepest = nested(BATCH_DEPTH_MAX)
    assert decode_command(encode_command(deepest)) == deepest
    assert batch_depth(deepest) == BATCH_DEPTH_MAX
    with pytest.raises(AssertionError):
        encode_command(nested(BATCH_DEPTH_MAX + 1))
    too_deep = b"\x02" + b"\x92\x03\x91" * (BATCH_DEPTH_MAX + 1) + b"\x92\x01\x01"
    with pytest.raises(UnknownCommand, match="deeper than 8"):
        decode_command(too_deep)


def test_members_come_in_order_whatever_the_nesting() -> None:
    one, two, three, four = (TimestampWindow(number) for number in range(1, 5))
    command = Batch((one, Batch((two, Batch(()), three)), four))
    assert list(flatten(command)) == [one, two, three, four]
    assert list(flatten(one)) == [one]
    assert list(flatten(Batch(()))) == []
