"""Answers on the HTTP port while the node still reads its log back: alive, but not ready.

Replay keeps the event loop busy, so a thread answers until the real server takes the listening
socket over. It knows two answers: that the process lives, and how far the start has come.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
from typing import TYPE_CHECKING, Final

from nodedb.http.health import live, starting
from nodedb.http.phases import StartPhases

if TYPE_CHECKING:
    from nodedb.http.health import Answer

_REQUEST_BYTES_MAX: Final = 8192
_CLIENT_SECONDS: Final = 1.0
_REASONS: Final = {200: b"OK", 503: b"Service Unavailable"}


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises OSError naming the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"could not listen on {host}:{port} (http): {reason}") from error


class StartingResponder:
    """Serves ``listener`` from a thread until ``stop``, which leaves the socket open."""

    def __init__(self, listener: socket.socket, phases: StartPhases | None = None) -> None:
        self._listener = listener
        self._phases = phases or StartPhases()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="http-starting", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing more; a client that connects now waits for the socket's next owner."""
        self._wake_writer.close()
        self._thread.join()
        self._wake_reader.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wake_reader], [], [])
            if self._wake_reader in ready:
                return
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                with client:
                    self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(_CLIENT_SECONDS)
        request = b""
        while b"\r\n\r\n" not in request and len(request) < _REQUEST_BYTES_MAX:
            part = client.recv(_REQUEST_BYTES_MAX)
            if not part:
                return
            request += part
        is_live = request.startswith((b"GET /health/live ", b"HEAD /health/live "))
        client.sendall(_response(live() if is_live else starting(self._phases)))


def _response(answer: Answer) -> bytes:
    body = json.dumps(answer.body).encode()
    return (
        b"HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
        % (answer.status, _REASONS[answer.status], len(body), body)
    )
