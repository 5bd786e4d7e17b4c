"""Why connections do not come about: sentences for faults of TLS, and a memory of refusals."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from cluster.transport.api import Refusal

_LOGGER: Final = logging.getLogger("cluster.transport")
_REFUSALS_MAX: Final = 64
# Reasons of OpenSSL, in words for operators.
_TLS_SENTENCES: Final = {
    "WRONG_VERSION_NUMBER": "what the peer says is not TLS (does it run with --insecure?)",
    "HTTP_REQUEST": "what the peer says is not TLS but HTTP",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer has no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer demands a certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not accept this node's certificate: "
    "it knows another authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that this node's certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not accept this node's certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer does not speak TLS 1.3",
}


def tls_sentence(reason: str, verify_message: str = "") -> str:
    """Say what went wrong in TLS, given OpenSSL's reason and what verifying said."""
    if verify_message:
        return f"the peer's certificate is not accepted: {verify_message}"
    known = _TLS_SENTENCES.get(reason)
    return known or f"TLS failed: {reason.replace('_', ' ').lower() or 'no reason given'}"


class Refusals:
    """The newest refused handshakes; one repeated in a row only counts on."""

    def __init__(self) -> None:
        self._kept: deque[Refusal] = deque(maxlen=_REFUSALS_MAX)

    def note(self, now: float, address: str, node_id: int, by: str, reason: str) -> None:
        """Remember one; the first of its kind is logged."""
        times = 1
        for old in list(self._kept):
            if old[:4] == (address, node_id, by, reason):
                times = old.times + 1
                self._kept.remove(old)
        self._kept.append(Refusal(address, node_id, by, reason, now, times))
        if times == 1:
            verb = "refused a connection with" if by == "us" else "was refused by"
            _LOGGER.warning("%s %s: %s", verb, address, reason)

    def newest(self) -> list[Refusal]:
        """Return them, oldest first."""
        return list(self._kept)
