"""Cancelling and ending sessions that are at other nodes: one small call, named by process id.

A cancel request of a client proves itself by the session's key. What ``pg_cancel_backend`` and
``pg_terminate_backend`` ask for is checked by the node that has the session, with the asking role's
own rights there; who asks is what another node of the cluster says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from cluster.transport.api import RemoteError, TransportError
from cluster.transport.methods import CANCEL
from nodedb.waiter import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cluster.transport.api import Peer, Transport

TIMEOUT_SECONDS: Final = 5.0


class Signal(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is to happen to a session.

    ``role_id`` is who asks, by ``pg_cancel_backend`` or ``pg_terminate_backend``; 0: nobody but a
    client that has the key.
    """

    process_id: int
    verb: Literal["cancel", "terminate"]
    secret_key: int = 0
    role_id: int = 0


_decoder = msgspec.msgpack.Decoder(Signal)


class Signals:
    """Sends signals to other nodes, and takes theirs."""

    def __init__(
        self,
        transport: Transport,
        address_of: Callable[[int], str | None],
        deliver: Callable[[Signal], bool],
    ) -> None:
        """``address_of`` a node, None for an unknown one; ``deliver`` does what a signal asks."""
        self._transport = transport
        self._address_of = address_of
        self._deliver = deliver
        transport.on_call(CANCEL, self._on_call)

    def send(self, node_id: int, signal: Signal) -> bool:
        """Send a signal on its way; False if the node is not known. Nobody hears how it went."""
        address = self._address_of(node_id)
        if address is None:
            return False
        Runner(self._send(address, msgspec.msgpack.encode(signal)), _forget).step()
        return True

    async def _send(self, address: str, payload: bytes) -> None:
        answer: Coroutine[Any, Any, bytes] = self._transport.call(
            address, CANCEL, payload, TIMEOUT_SECONDS
        )
        await answer

    async def _on_call(self, peer: Peer, payload: bytes) -> bytes:
        del peer
        try:
            signal = _decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RemoteError("08P01", f"a bad signal: {error}") from error
        return b"\1" if self._deliver(signal) else b"\0"


def _forget(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, TransportError):
        raise error
