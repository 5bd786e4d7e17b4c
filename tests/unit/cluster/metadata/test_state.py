"""The metadata state machine: outcomes, batches, fences, decisions, versions, settings."""

import pytest

from cluster.metadata.command import (
    Batch,
    CatalogChange,
    CaTrustChange,
    ClusterVersionBump,
    DescriptorDrainEnd,
    DescriptorDrainStart,
    DescriptorLeaseGrant,
    DescriptorLeaseRelease,
    Fence,
    ForgetDecisions,
    FoundCluster,
    GroupReplicas,
    JoinTokenTransition,
    LeadershipTransfer,
    NodeJoin,
    PromoteToActive,
    ReassignVshards,
    RemoveMember,
    SetGroups,
    Setting,
    TimestampWindow,
    VshardRange,
)
from cluster.metadata.data import DamagedState, fingerprint
from cluster.metadata.grants import leases_in_the_way
from cluster.metadata.oracle import pack_timestamp
from cluster.metadata.outcome import APPLIED, Applied, Outcome, Refused
from cluster.metadata.state import SETTING_BYTES_MAX, ClusterState
from cluster.metadata.trust import CERTIFICATE_BYTES_MAX, IN_FLIGHT_SECONDS


def at(seconds: float) -> int:
    return pack_timestamp(1_800_000_000_000 + int(seconds * 1000))


def node_join(node_id: int, **changes: object) -> NodeJoin:
    values: dict[str, object] = {
        "node_id": node_id,
        "store_id": f"store-{node_id}",
        "rpc_address": f"127.0.0.1:{9400 + node_id}",
        **changes,
    }
    return NodeJoin(**values)  # type: ignore[arg-type]


class Log:
    """A state and the index of its next entry."""

    def __init__(self, *commands: object) -> None:
        self.state = ClusterState()
        self.index = 0
        for command in commands:
            assert isinstance(self.apply(command), Applied), command

    def apply(self, command: object) -> Outcome:
        self.index += 1
        return self.state.apply(command, self.index)  # type: ignore[arg-type]

    def refuse(self, command: object) -> str:
        """Apply what must be refused, and leave no trace; return the sentence."""
        before = self.state.encode()
        outcome = self.apply(command)
        assert isinstance(outcome, Refused), command
        assert self.state.applied_index == self.index
        self.state.applied_index -= 1
        assert self.state.encode() == before, command
        self.state.applied_index += 1
        return outcome.reason


def three_nodes() -> Log:
    joins = [node_join(n) for n in (1, 2, 3)]
    promotions = [PromoteToActive(n) for n in (1, 2, 3)]
    groups = SetGroups((GroupReplicas(0, (1, 2, 3)), GroupReplicas(1, (3, 1, 2))))
    return Log(Batch((FoundCluster("c1"), *joins, *promotions, groups)))


# Batches and idempotence: M1


def test_every_member_of_a_batch_applies() -> None:
    """M1: the reference system applied the outer entry and lost its members."""
    log = Log(
        Batch(
            (
                TimestampWindow(50),
                node_join(1),
                Batch((PromoteToActive(1), Setting(1, "x", "1"), CatalogChange(b"first"))),
                SetGroups((GroupReplicas(1, (1,)),)),
                Setting(0, "y", "2"),
                Fence(3, 1),
            )
        )
    )
    state = log.state
    assert state.timestamp_window == 50
    assert state.nodes[1].state == "active"
    assert state.setting("x", 1) == "1"
    assert state.setting("y") == "2"
    assert state.groups[1].voters == (1,)
    assert state.fence == (3, 1)
    outcome = log.apply(
        Batch((CatalogChange(b"a"), Batch((CatalogChange(b"b"),)), CatalogChange(b"c")))
    )
    assert outcome == Applied((b"a", b"b", b"c"))


def test_a_batch_with_a_refused_member_leaves_no_trace() -> None:
    log = three_nodes()
    reason = log.refuse(
        Batch(
            (
                TimestampWindow(1 << 50),
                CatalogChange(b"x", 0, 99),
                node_join(4),
                SetGroups((GroupReplicas(2, (4,)),)),
                ReassignVshards((VshardRange(0, 9, 2),)),
                Setting(4, "x", "1"),
                DescriptorLeaseGrant(0, 1, 4, at(0), at(9)),
                DescriptorDrainStart(5, 1, at(0), at(9)),
                CaTrustChange(b"certificate"),
                JoinTokenTransition(b"t", "register", at(0), at(9)),
                Fence(9, 4),
                Batch((PromoteToActive(77),)),
            )
        )
    )
    assert reason == "node 77 does not exist"


def test_an_entry_applies_once() -> None:
    log = Log(node_join(1))
    state = log.state
    before = state.encode()
    for index in (0, 1):
        assert state.apply(node_join(2), index) == APPLIED
        assert state.apply(CatalogChange(b"x"), index) == APPLIED, "no payload a second time"
    assert state.encode() == before
    assert state.apply(node_join(2), 7) == APPLIED
    assert state.applied_index == 7


def test_a_window_never_falls() -> None:
    log = Log(TimestampWindow(9), TimestampWindow(4))
    assert log.state.timestamp_window == 9


# Topology version (M8)


def test_the_topology_version_is_an_index_and_moves_with_the_topology_only() -> None:
    """M8: a count of nodes as version makes two different topologies of one size look the same."""
    log = Log(TimestampWindow(1), TimestampWindow(2), node_join(1), node_join(2))
    state = log.state
    assert state.topology_version == 4
    for harmless in (
        TimestampWindow(9),
        Setting(0, "a", "b"),
        Fence(1, 1),
        node_join(2),
        SetGroups((GroupReplicas(1, (1,)),)),
    ):
        log.apply(harmless)
        assert state.topology_version == 4, harmless
    assert (state.routing_version, state.settings_version) == (9, 6)
    log.apply(PromoteToActive(2))
    assert state.topology_version == 10
    log.apply(PromoteToActive(2))
    assert state.topology_version == 10, "nothing changed"
    assert state.nodes[2].changed_index == 10


# Fences and decisions


def test_a_change_of_an_earlier_term_is_void() -> None:
    log = three_nodes()
    assert log.apply(Fence(5, 1)) == APPLIED
    assert log.apply(CatalogChange(b"a", 5)) == Applied((b"a",))
    assert log.apply(Fence(6, 2)) == APPLIED
    assert "term 5" in log.refuse(CatalogChange(b"late", 5))
    assert "in term 6 by now" in log.refuse(CatalogChange(b"late", 5, 77))
    assert log.state.decisions == {}
    assert log.apply(CatalogChange(b"b", 6)) == Applied((b"b",))
    assert log.apply(CatalogChange(b"unchecked", 0)) == Applied((b"unchecked",))


def test_a_term_has_one_leader() -> None:
    log = three_nodes()
    log.apply(Fence(5, 1))
    assert log.apply(Fence(5, 1)) == APPLIED
    assert "node 1 does in term 5" in log.refuse(Fence(5, 2))
    assert "node 2 does not lead" in log.refuse(Fence(4, 2))
    assert log.state.fence == (5, 1)


def test_a_transaction_is_decided_once() -> None:
    log = Log(Fence(1, 1))
    assert log.apply(CatalogChange(b"x", 1, 700)) == Applied((b"x",))
    assert log.state.decisions == {700: 2}
    assert log.apply(CatalogChange(b"x", 1, 700)) == APPLIED, "a copy has no payload to apply"
    log.apply(Fence(2, 2))
    assert log.apply(CatalogChange(b"x", 1, 700)) == APPLIED, "decided is decided"
    log.apply(CatalogChange(b"y", 2, 701))
    assert log.apply(ForgetDecisions((700, 999))) == APPLIED
    assert log.state.decisions == {701: 6}


# Cluster id and version


def test_a_cluster_is_founded_once() -> None:
    log = Log(FoundCluster("c1"), FoundCluster("c1"))
    assert log.refuse(FoundCluster("c2")) == "this is cluster c1, not c2"
    assert log.state.cluster_id == "c1"


def test_the_version_rises_when_every_node_speaks_it() -> None:
    log = Log(node_join(1, wire_version=2), node_join(2, wire_version=1))
    assert log.refuse(ClusterVersionBump(1, 2)) == "node 2 speaks wire version 1 only"
    log.apply(node_join(2, wire_version=2, incarnation=1))
    assert log.apply(ClusterVersionBump(1, 2)) == APPLIED
    assert log.apply(ClusterVersionBump(1, 2)) == APPLIED
    assert log.refuse(ClusterVersionBump(1, 3)) == "the cluster version is 2, not 1"
    assert "behind" in log.refuse(ClusterVersionBump(2, 1))
    assert log.state.cluster_version == 2


# Routing


def test_groups_are_on_members() -> None:
    log = three_nodes()
    for command, reason in (
        (SetGroups((GroupReplicas(1, ()),)), "group 1 needs a voter"),
        (SetGroups((GroupReplicas(1, (1, 9)),)), "node 9 is no member: group 1 cannot be on it"),
        (
            SetGroups((GroupReplicas(1, (1,), (9,)),)),
            "node 9 is no member: group 1 cannot be on it",
        ),
        (
            SetGroups((GroupReplicas(1, (1, 2), (2,)),)),
            "node 2 cannot be voter and learner of one group",
        ),
        (SetGroups((GroupReplicas(-1, (1,)),)), "invalid group -1"),
        (SetGroups((GroupReplicas(2, (1,)), GroupReplicas(1, ()))), "group 1 needs a voter"),
        (RemoveMember(9, 1), "group 9 does not exist"),
        (LeadershipTransfer(9, 1), "group 9 does not exist"),
        (LeadershipTransfer(1, 9), "node 9 is no voter of group 1"),
    ):
        assert log.refuse(command) == reason
    assert log.state.groups[1].voters == (1, 2, 3), "sorted"


def test_a_member_is_removed_and_the_last_voter_stays() -> None:
    log = three_nodes()
    log.apply(LeadershipTransfer(1, 2))
    assert log.state.groups[1].preferred_leader == 2
    log.apply(SetGroups((GroupReplicas(1, (2, 3), (1,)),)))
    assert log.state.groups[1].preferred_leader == 2
    assert log.state.groups_of_node(1) == (0, 1)
    log.apply(RemoveMember(1, 2))
    assert log.state.groups[1] == type(log.state.groups[1])(1, (3,), (1,), 0)
    log.apply(RemoveMember(1, 1))
    assert log.apply(RemoveMember(1, 1)) == APPLIED
    assert log.refuse(RemoveMember(1, 3)) == "node 3 is the last voter of group 1"
    version = log.state.routing_version
    log.apply(SetGroups((GroupReplicas(1, (3,)),)))
    assert log.state.routing_version == version, "nothing changed"


def test_vshards_move_in_ranges() -> None:
    log = three_nodes()
    log.apply(SetGroups((GroupReplicas(2, (1,)), GroupReplicas(3, (2,)))))
    assert log.state.vshards == (VshardRange(0, 1024, 1),)
    log.apply(ReassignVshards((VshardRange(0, 100, 2), VshardRange(50, 60, 3))))
    assert log.state.vshards == (
        VshardRange(0, 50, 2),
        VshardRange(50, 60, 3),
        VshardRange(60, 100, 2),
        VshardRange(100, 1024, 1),
    )
    assert [log.state.group_of_vshard(v) for v in (0, 49, 50, 59, 60, 1023)] == [2, 2, 3, 3, 2, 1]
    log.apply(ReassignVshards((VshardRange(0, 1024, 1),)))
    assert log.state.vshards == (VshardRange(0, 1024, 1),)
    for bad, reason in (
        (VshardRange(5, 5, 1), "invalid range of vshards 5 to 5"),
        (VshardRange(-1, 5, 1), "invalid range of vshards -1 to 5"),
        (VshardRange(0, 1025, 1), "invalid range of vshards 0 to 1025"),
        (VshardRange(0, 5, 0), "the metadata group holds no vshards"),
        (VshardRange(0, 5, 9), "group 9 does not exist"),
    ):
        assert log.refuse(ReassignVshards((VshardRange(0, 7, 2), bad))) == reason


# Settings


def test_a_node_has_its_own_setting_before_the_clusters() -> None:
    log = three_nodes()
    log.apply(Setting(0, "a", "1"))
    log.apply(Setting(2, "a", "2"))
    state = log.state
    assert [state.setting("a", n) for n in (0, 1, 2)] == ["1", "1", "2"]
    assert state.setting("b") is None
    log.apply(Setting(2, "a", None))
    assert state.setting("a", 2) == "1"
    version = state.settings_version
    log.apply(Setting(2, "a", None))
    log.apply(Setting(0, "a", "1"))
    assert state.settings_version == version, "nothing changed"
    assert log.refuse(Setting(9, "a", "1")) == "node 9 does not exist"
    long = "x" * SETTING_BYTES_MAX
    assert "longer than" in log.refuse(Setting(0, "a", long))


def test_a_node_by_itself_has_settings_before_it_has_members() -> None:
    assert Log(Setting(1, "a", "1")).state.setting("a", 1) == "1"


# Leases and drains: M5


def test_a_lease_that_ran_out_is_in_nobodys_way() -> None:
    """M5: node 3 was killed at 0 s; its lease runs out at 300 s and no command ever ends it."""
    log = three_nodes()
    log.apply(DescriptorLeaseGrant(7, 4, 2, at(0), at(10)))
    log.apply(DescriptorLeaseGrant(7, 4, 3, at(0), at(300)))
    log.apply(DescriptorLeaseGrant(8, 4, 3, at(0), at(300)))
    log.apply(DescriptorDrainStart(7, 4, at(1), at(66)))
    state = log.state

    def blockers(seconds: float) -> list[int]:
        return [lease.node_id for lease in leases_in_the_way(state, 7, 4, at(seconds))]

    assert blockers(1) == [2, 3]
    assert blockers(10) == [3]
    assert blockers(299) == [3]
    assert blockers(300) == []
    log.apply(DescriptorDrainStart(7, 4, at(301), at(366)))
    assert state.leases == {}, "expired ones are dropped"


def test_a_drain_refuses_old_versions_until_it_ends_or_expires() -> None:
    log = three_nodes()
    log.apply(DescriptorDrainStart(7, 4, at(0), at(60)))
    reason = "descriptor 7 is being changed: no lease on version 4"
    assert log.refuse(DescriptorLeaseGrant(7, 4, 1, at(1), at(10))) == reason
    assert log.apply(DescriptorLeaseGrant(7, 5, 1, at(1), at(10))) == APPLIED
    assert log.apply(DescriptorLeaseGrant(8, 1, 1, at(1), at(10))) == APPLIED
    log.apply(DescriptorDrainEnd(7))
    assert log.apply(DescriptorLeaseGrant(7, 4, 1, at(2), at(10))) == APPLIED
    log.apply(DescriptorDrainStart(7, 9, at(3), at(4)))
    assert log.apply(DescriptorLeaseGrant(7, 4, 1, at(4), at(10))) == APPLIED, "the drain ran out"
    assert log.apply(DescriptorDrainEnd(7)) == APPLIED


def test_leases_are_released_and_of_members_only() -> None:
    log = three_nodes()
    for descriptor_id in (5, 6, 7):
        log.apply(DescriptorLeaseGrant(descriptor_id, 1, 2, at(0), at(9)))
    log.apply(DescriptorLeaseGrant(5, 1, 3, at(0), at(9)))
    log.apply(DescriptorLeaseRelease(2, (5, 99)))
    assert set(log.state.leases) == {(6, 2), (7, 2), (5, 3)}
    log.apply(DescriptorLeaseRelease(2))
    assert set(log.state.leases) == {(5, 3)}
    for command, reason in (
        (DescriptorLeaseGrant(5, 1, 9, at(0), at(9)), "node 9 is no member: it gets no lease"),
        (DescriptorLeaseGrant(5, 1, 1, at(9), at(9)), "the lease would have expired already"),
        (DescriptorLeaseGrant(5, 1, 1, at(0), at(601)), "a lease lasts at most 600 s"),
        (DescriptorDrainStart(5, 1, at(9), at(8)), "the drain would have expired already"),
        (DescriptorDrainStart(5, 1, at(0), at(601)), "a drain lasts at most 600 s"),
    ):
        assert log.refuse(command) == reason


# Trust


def test_ca_certificates_overlap_while_they_are_changed() -> None:
    old, new = b"old certificate", b"new certificate"
    log = Log(CaTrustChange(old))
    assert log.refuse(CaTrustChange(b"", fingerprint(old))) == (
        "the last CA certificate cannot be removed"
    )
    log.apply(CaTrustChange(new))
    assert set(log.state.ca_certificates.values()) == {old, new}
    version = log.state.trust_version
    log.apply(CaTrustChange(new))
    assert log.state.trust_version == version
    log.apply(CaTrustChange(b"", fingerprint(old)))
    assert log.state.ca_certificates == {fingerprint(new): new}
    assert "no CA certificate" in log.refuse(CaTrustChange(b"", fingerprint(old)))
    assert "longer than" in log.refuse(CaTrustChange(b"x" * (CERTIFICATE_BYTES_MAX + 1)))


def token(transition: str, seconds: float = 0, **changes: object) -> JoinTokenTransition:
    return JoinTokenTransition(b"hash", transition, at(seconds), **changes)  # type: ignore[arg-type]


def test_a_token_is_used_once() -> None:
    log = Log(token("register", expires_at=at(600), for_node=3))
    assert log.apply(token("register", 5, expires_at=at(600), for_node=3)) == APPLIED
    assert "already registered" in log.refuse(token("register", 5, expires_at=at(900)))
    assert log.refuse(token("begin", 1, for_node=4, address="a")) == (
        "the join token is for node 3, not for node 4"
    )
    assert log.refuse(token("consume", 1, address="a")) == "the join token is not in use"
    assert log.apply(token("begin", 1, for_node=3, address="a")) == APPLIED
    assert log.apply(token("begin", 2, for_node=3, address="a")) == APPLIED, "the same may retry"
    assert log.refuse(token("begin", 3, for_node=3, address="b")) == (
        "the join token is being used by a"
    )
    assert log.refuse(token("consume", 3, address="b")) == "the join token is being used by a"
    assert log.apply(token("consume", 4, address="a")) == APPLIED
    assert log.apply(token("consume", 4, address="a")) == APPLIED
    for later in ("begin", "revert", "expire", "abort"):
        replay = token(later, 5, for_node=3, address="a")
        assert log.refuse(replay) == "the join token has been used already"


def test_a_joiner_that_died_gives_the_token_back_in_the_end() -> None:
    log = Log(token("register", expires_at=at(600)), token("begin", 1, address="a"))
    late = 1 + IN_FLIGHT_SECONDS
    assert "used by a" in log.refuse(token("begin", late - 1, address="b"))
    assert log.apply(token("begin", late, address="b")) == APPLIED
    assert "used by b" in log.refuse(token("consume", late, address="a"))
    assert log.apply(token("revert", late)) == APPLIED
    assert log.apply(token("begin", late, address="c")) == APPLIED


@pytest.mark.parametrize(
    ("end", "reason"),
    [("expire", "the join token has expired"), ("abort", "the join token was withdrawn")],
)
def test_a_token_that_is_over_stays_so(end: str, reason: str) -> None:
    log = Log(token("register", expires_at=at(600)), token(end, 1))
    assert log.refuse(token("begin", 2, address="a")) == reason
    assert log.refuse(token("consume", 2, address="a")) == reason


def test_tokens_expire_by_the_time_of_the_command() -> None:
    log = Log(token("register", expires_at=at(600)))
    assert log.refuse(token("begin", 600, address="a")) == "the join token has expired"
    assert log.apply(token("begin", 599, address="a")) == APPLIED
    assert "expired already" in log.refuse(
        JoinTokenTransition(b"other", "register", at(9), expires_at=at(9))
    )
    for transition in ("begin", "consume", "revert", "expire", "abort"):
        unknown = JoinTokenTransition(b"foreign", transition, at(0))  # type: ignore[arg-type]
        assert log.refuse(unknown) == "the join token is not one of this cluster's"


# On disk


def test_the_state_comes_back_from_its_bytes() -> None:
    log = three_nodes()
    assert ClusterState.decode(b"").encode() == ClusterState().encode()
    again = ClusterState.decode(log.state.encode())
    assert again.encode() == log.state.encode()
    assert again.digest() == log.state.digest() != ClusterState().digest()
    with pytest.raises(DamagedState, match="format 9"):
        ClusterState.decode(b"\x09" + log.state.encode()[1:])


def test_damaged_bytes_are_no_state() -> None:
    log = three_nodes()
    encoded = log.state.encode()
    for length in range(1, len(encoded)):
        with pytest.raises(DamagedState):
            ClusterState.decode(encoded[:length])
    with pytest.raises(DamagedState):
        log.state.restore(encoded + b"\0")
    assert log.state.encode() == encoded, "a failed restore changes nothing"
