"""The HTTP port while the node starts."""

import http.client

import pytest

from nodedb.http.phases import StartPhases
from nodedb.http.starting import StartingResponder, listen


def test_it_is_alive_but_not_ready_and_hands_the_socket_over() -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    phases = StartPhases()
    phases.enter("wal_recovery")
    responder = StartingResponder(listener, phases)
    responder.start()
    answers = []
    for path in ("/health/live", "/healthz", "/health/ready", "/health", "/metrics"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path)
        response = connection.getresponse()
        answers.append((path, response.status, response.read()))
        connection.close()
    responder.stop()
    starting = b'{"status": "starting", "phase": "wal_recovery"}'
    assert answers == [
        ("/health/live", 200, b'{"status": "alive"}'),
        ("/healthz", 503, starting),
        ("/health/ready", 503, starting),
        ("/health", 503, starting),
        ("/metrics", 503, starting),
    ]
    assert listener.fileno() >= 0
    with pytest.raises(OSError, match=f"could not listen on 127.0.0.1:{port}"):
        listen("127.0.0.1", port)
    listener.close()
