"""Whom the cluster trusts: certificate authorities and one-time join tokens.

A token is ``issued``, then ``in_flight`` while one address uses it, then ``consumed``; or it has
``expired`` or was ``aborted``. Whoever took it may try again; another address may take it over only
``IN_FLIGHT_SECONDS`` later: a joiner that died does not keep it for ever, and no timer is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from cluster.metadata.data import TokenRecord, fingerprint
from cluster.metadata.oracle import pack_timestamp
from cluster.metadata.outcome import APPLIED, Refused

if TYPE_CHECKING:
    from cluster.metadata.command import CaTrustChange, JoinTokenTransition
    from cluster.metadata.data import ClusterData, TokenState
    from cluster.metadata.outcome import Outcome

IN_FLIGHT_SECONDS: Final = 60
CERTIFICATE_BYTES_MAX: Final = 16 * 1024
TOKENS_MAX: Final = 1000
"""Tokens remembered at a time; those that are over make room, the oldest first."""


def change_ca(data: ClusterData, command: CaTrustChange, index: int) -> Outcome:
    """Trust one more authority, then one less; somebody stays trusted."""
    added, removed = command.add_certificate, command.remove_fingerprint
    if len(added) > CERTIFICATE_BYTES_MAX:
        return Refused(
            f"a certificate of {len(added)} bytes is longer than {CERTIFICATE_BYTES_MAX}", "limit"
        )
    certificates = dict(data.ca_certificates)
    if added:
        certificates[fingerprint(added)] = added
    if removed:
        if removed not in certificates:
            return Refused(f"no CA certificate has the fingerprint {removed}", "unknown")
        del certificates[removed]
        if not certificates:
            return Refused("the last CA certificate cannot be removed", "replicas")
    if certificates != data.ca_certificates:
        data.ca_certificates = certificates
        data.trust_version = index
    return APPLIED


def change_token(data: ClusterData, command: JoinTokenTransition, index: int) -> Outcome:
    """Move a join token to its next state."""
    known = data.tokens.get(command.token_hash)
    if command.transition == "register":
        return _register(data, command, known, index)
    if known is None:
        return Refused("the join token is not one of this cluster's", "token")
    match command.transition:
        case "begin":
            return _begin(data, command, known, index)
        case "consume":
            return _consume(data, command, known, index)
        case "revert":
            if known.state != "in_flight":
                return _wrong_state(known)
            return _become(data, known, "issued", "", command.at, index)
        case "expire":
            if known.state in ("consumed", "aborted"):
                return _wrong_state(known)
            return _become(data, known, "expired", known.address, command.at, index)
        case "abort":
            if known.state == "consumed":
                return _wrong_state(known)
            return _become(data, known, "aborted", known.address, command.at, index)


def _register(
    data: ClusterData, command: JoinTokenTransition, known: TokenRecord | None, index: int
) -> Outcome:
    if known is not None:
        same = (known.expires_at, known.for_node) == (command.expires_at, command.for_node)
        return APPLIED if same else Refused("the join token is already registered", "token")
    if command.expires_at <= command.at:
        return Refused("the join token would have expired already", "token")
    if len(data.tokens) >= TOKENS_MAX:
        over = [
            token
            for token in data.tokens.values()
            if token.state not in ("issued", "in_flight") or token.expires_at <= command.at
        ]
        if not over:
            return Refused(f"there are {TOKENS_MAX} join tokens that may still be used", "limit")
        oldest = min(over, key=lambda token: (token.changed_at, token.token_hash))
        del data.tokens[oldest.token_hash]
    data.tokens[command.token_hash] = TokenRecord(
        command.token_hash, "issued", command.expires_at, command.for_node, "", command.at
    )
    data.trust_version = index
    return APPLIED


def _begin(
    data: ClusterData, command: JoinTokenTransition, known: TokenRecord, index: int
) -> Outcome:
    if known.state not in ("issued", "in_flight"):
        return _wrong_state(known)
    if known.expires_at <= command.at:
        return Refused("the join token has expired", "token")
    if known.for_node and known.for_node != command.for_node:
        return Refused(
            f"the join token is for node {known.for_node}, not for node {command.for_node}", "token"
        )
    taken_until = known.changed_at + pack_timestamp(IN_FLIGHT_SECONDS * 1000)
    if known.state == "in_flight" and known.address != command.address and command.at < taken_until:
        return Refused(f"the join token is being used by {known.address}", "token")
    return _become(data, known, "in_flight", command.address, command.at, index)


def _consume(
    data: ClusterData, command: JoinTokenTransition, known: TokenRecord, index: int
) -> Outcome:
    if known.state == "consumed" and known.address == command.address:
        return APPLIED
    if known.state != "in_flight":
        return _wrong_state(known)
    if known.address != command.address:
        return Refused(f"the join token is being used by {known.address}", "token")
    return _become(data, known, "consumed", known.address, command.at, index)


def _become(
    data: ClusterData, known: TokenRecord, state: TokenState, address: str, at: int, index: int
) -> Outcome:
    data.tokens[known.token_hash] = replace(known, state=state, address=address, changed_at=at)
    data.trust_version = index
    return APPLIED


_STATE_SENTENCES: Final[dict[TokenState, str]] = {
    "issued": "the join token is not in use",
    "in_flight": "the join token is in use",
    "consumed": "the join token has been used already",
    "expired": "the join token has expired",
    "aborted": "the join token was withdrawn",
}


def _wrong_state(known: TokenRecord) -> Refused:
    return Refused(_STATE_SENTENCES[known.state], "token")
