"""Whether a node that asks may be a member: the leader's side of a join. Pure.

``decide`` looks at the request and at the applied state of the metadata group, and says admit,
known, redirect or refuse. Carrying an admission out is the host's: propose ``join_command``, wait
until it is applied, answer with ``join_response``. Applying the command checks the conflicts again
(``cluster.metadata.topology``), because two joins may be decided on before either is applied; the
host then decides once more, and the second gets another id.

A join that is repeated, because its answer was lost or the joiner died before it had written it
down, is recognised by its store id and answered with the state as it is now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cluster.membership.address import MalformedAddress, parse_advertised
from cluster.membership.message import (
    STATE_CODES,
    JoinResponse,
    MemberGroup,
    MemberNode,
    leader_redirect,
)
from cluster.membership.tokens import TokenFault, beginning, check_use, consumption, read_token
from cluster.metadata.command import Batch, NodeJoin
from cluster.transport.config import WIRE_VERSION, WIRE_VERSION_MIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.membership.message import JoinRequest
    from cluster.metadata.command import Command
    from cluster.metadata.data import ClusterData, NodeRecord
    from cluster.raft.message import Configuration

ROLES = ("voter", "replica")


class LeaderView(NamedTuple):
    """What the answering node knows beside the cluster's state.

    ``leader_id`` is the metadata group's, 0 if unknown; ``leader_address`` its rpc address, "" if
    unknown. ``secret`` is the cluster secret, b"" without one (``--insecure``): then no token can
    be checked, and none is needed. ``now_ms`` is Unix time.
    """

    self_id: int
    leader_id: int
    leader_address: str
    now_ms: int
    secret: bytes = b""
    require_join_token: bool = False


class Admit(NamedTuple):
    """Take the node in under this id; ``token_hash`` is b"" when no token is used."""

    node_id: int
    token_hash: bytes = b""


class Known(NamedTuple):
    """It is a member already, with this id: answer with the state as it is."""

    node_id: int


class Redirect(NamedTuple):
    """Only the leader decides."""

    address: str


class Refuse(NamedTuple):
    """No, and why. ``is_final``: asking again will not help."""

    sentence: str
    is_final: bool = True


Verdict = Admit | Known | Redirect | Refuse


def decide(request: JoinRequest, data: ClusterData, view: LeaderView) -> Verdict:
    """Return the verdict on a join. Changes nothing.

    ``request.spki_pin`` is what the caller took from the peer's certificate, not what it claims.
    """
    if view.leader_id != view.self_id or not view.leader_id:
        if view.leader_id and view.leader_address:
            return Redirect(view.leader_address)
        return Refuse("no leader of the metadata group is known; retry", is_final=False)
    if request.cluster_id and request.cluster_id != data.cluster_id:
        return Refuse(
            f"the store belongs to cluster {request.cluster_id}, not to {data.cluster_id}: "
            "start the node with an empty store to join this cluster"
        )
    fault = _fault_of_request(request)
    if fault:
        return Refuse(fault)
    return _registered(request, data) or _newcomer(request, data, view)


def _fault_of_request(request: JoinRequest) -> str:
    """Return what is wrong with a request by itself, "" if nothing is."""
    if request.wire_version < WIRE_VERSION_MIN or request.wire_version_min > WIRE_VERSION:
        return (
            f"the node speaks wire versions {request.wire_version_min} to {request.wire_version}, "
            f"this cluster {WIRE_VERSION_MIN} to {WIRE_VERSION}"
        )
    named = (
        ("listen_addr", request.address),
        ("sql address", request.sql_address),
        ("http address", request.http_address),
    )
    for name, address in named:
        try:
            if address or name == "listen_addr":
                parse_advertised(address)
        except MalformedAddress as error:
            return f"invalid {name} '{address}': {error}"
    if request.node_id < 0:
        return f"invalid node_id {request.node_id}: it must be above 0"
    if not request.store_id:
        return "the request names no store"
    if request.role not in ROLES:
        return f"unknown role '{request.role}': expected {' or '.join(ROLES)}"
    return ""


def _registered(request: JoinRequest, data: ClusterData) -> Known | Refuse | None:
    """Judge a request whose id, store or address a member has; None if none has."""
    known = data.nodes.get(request.node_id) if request.node_id else None
    if known is None:
        known = _member_with(request, data)
    if known is None:
        return _barred(request, data)
    same_address = _same_address(known.rpc_address, request.address)
    if request.node_id in (0, known.node_id):
        if not same_address:
            return Refuse(
                f"node_id {known.node_id} already registered with different address "
                f"{known.rpc_address} (request: {request.address})"
            )
        if known.store_id != request.store_id:
            return Refuse(
                f"node {known.node_id} is a member with another store: if that store is lost, run "
                f"`nodedb node forget {known.node_id}` and start this node with a new id"
            )
        if known.state == "decommissioned":
            return Refuse(
                f"node {known.node_id} was decommissioned: start it with an empty store and a new "
                "id to add it again"
            )
        return Known(known.node_id)
    if known.store_id == request.store_id:
        return Refuse(
            f"store {request.store_id} is that of node {known.node_id} (request: node "
            f"{request.node_id}): a store is used by one node only, was it copied?"
        )
    return Refuse(
        f"address {request.address} already registered with different node_id {known.node_id} "
        f"(request: {request.node_id})"
    )


def _member_with(request: JoinRequest, data: ClusterData) -> NodeRecord | None:
    """Return the member with the request's store, else the one at its address."""
    nodes = [node for _, node in sorted(data.nodes.items())]
    for node in nodes:
        if node.store_id == request.store_id:
            return node
    for node in nodes:
        if node.state != "decommissioned" and _same_address(node.rpc_address, request.address):
            return node
    return None


def _barred(request: JoinRequest, data: ClusterData) -> Refuse | None:
    """Refuse ids and stores of nodes that are gone: they may have voted, and have forgotten it."""
    if request.node_id in data.removed:
        return Refuse(
            f"node_id {request.node_id} was removed from the cluster; start the node with an empty "
            "store and a new id"
        )
    if request.store_id in data.removed.values():
        return Refuse(
            f"store {request.store_id} is that of a node that was removed from the cluster; "
            "start the node with an empty store"
        )
    return None


def _same_address(registered: str, requested: str) -> bool:
    return registered in (requested, parse_advertised(requested))


def _newcomer(request: JoinRequest, data: ClusterData, view: LeaderView) -> Admit | Refuse:
    """Judge a node that nobody knows: by its token, if one is needed."""
    next_id = max([*data.nodes, *data.removed], default=0) + 1
    if not view.secret or not (request.token or view.require_join_token):
        return Admit(request.node_id or next_id)
    if not request.token:
        return Refuse(
            "this cluster requires a join token: create one with `nodedb token create` and give "
            "--join-token-file"
        )
    try:
        token = read_token(request.token, view.secret, view.now_ms / 1000)
    except TokenFault as fault:
        return Refuse(str(fault))
    node_id = request.node_id or token.for_node or next_id
    reason = check_use(
        data.tokens.get(token.token_hash), token, node_id=node_id, now_ms=view.now_ms
    )
    if not reason and node_id != request.node_id and node_id in {*data.nodes, *data.removed}:
        reason = f"token: node_id {node_id}, for which it was made, is taken"
    return Refuse(reason) if reason else Admit(node_id, token.token_hash)


def join_command(admit: Admit, request: JoinRequest, now_ms: int) -> Command:
    """Return the one entry that makes the node a learner, and uses its token up."""
    join = NodeJoin(
        node_id=admit.node_id,
        store_id=request.store_id,
        rpc_address=parse_advertised(request.address),
        sql_address=request.sql_address,
        http_address=request.http_address,
        locality=request.locality,
        role=request.role,
        wire_version=request.wire_version,
        spki_pin=request.spki_pin,
        incarnation=request.incarnation,
    )
    if not admit.token_hash:
        return join
    address = join.rpc_address
    return Batch(
        (
            beginning(admit.token_hash, address, node_id=admit.node_id, now_ms=now_ms),
            join,
            consumption(admit.token_hash, address, now_ms=now_ms),
        )
    )


def join_response(
    node_id: int,
    data: ClusterData,
    configurations: Mapping[int, Configuration],
    leaders: Mapping[int, int],
) -> JoinResponse:
    """Return the whole state for a new or known member.

    ``configurations`` are those in force on this node per group, ``leaders`` the known leaders.
    """
    groups = tuple(
        MemberGroup(
            group_id, leaders.get(group_id, 0), configuration.voters, configuration.learners
        )
        for group_id, configuration in sorted(configurations.items())
    )
    return JoinResponse(
        success=True,
        cluster_id=data.cluster_id,
        nodes=member_nodes(data, groups),
        vshard_to_group=tuple(data.vshard_groups()),
        groups=groups,
        node_id=node_id,
        topology_version=data.topology_version,
        routing_version=data.routing_version,
    )


def member_nodes(data: ClusterData, groups: tuple[MemberGroup, ...]) -> tuple[MemberNode, ...]:
    """Return the members by id, with the groups they have replicas of."""
    return tuple(
        MemberNode(
            node_id=node.node_id,
            address=node.rpc_address,
            state=STATE_CODES[node.state],
            raft_groups=tuple(
                group.group_id
                for group in groups
                if node.node_id in group.members or node.node_id in group.learners
            ),
            wire_version=node.wire_version,
            sql_address=node.sql_address,
            http_address=node.http_address,
            locality=node.locality,
            role=node.role,
            store_id=node.store_id,
            incarnation=node.incarnation,
            spki_pin=node.spki_pin,
            join_order=node.join_order,
        )
        for _, node in sorted(data.nodes.items())
    )


def refusal_response(verdict: Redirect | Refuse) -> JoinResponse:
    """Return the answer to a node that is not taken in here."""
    if isinstance(verdict, Redirect):
        return JoinResponse(success=False, error=leader_redirect(verdict.address))
    return JoinResponse(success=False, error=verdict.sentence, is_final=verdict.is_final)
