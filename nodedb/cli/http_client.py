"""Asks a node's HTTP port."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import Any, Final, NamedTuple

_TIMEOUT_SECONDS: Final = 10.0


class Unreachable(Exception):
    """No HTTP answer; the message says from where and why."""


class HttpAnswer(NamedTuple):
    """Status and JSON body; a body that is no JSON object is {"error": text}."""

    status: int
    body: dict[str, Any]


def ask(
    url: str, path: str, *, method: str = "GET", body: object = None, token: str = ""
) -> HttpAnswer:
    """Send one request. Raises Unreachable; ValueError for a URL that is none."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r}: expected http://host:port")
    is_plain = parts.scheme == "http"
    connection_type = http.client.HTTPConnection if is_plain else http.client.HTTPSConnection
    headers = {"Accept": "application/json", "Connection": "close"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    connection = connection_type(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unreachable(f"{url}: {reason}") from error
    finally:
        connection.close()
    try:
        decoded = json.loads(text)
    except ValueError:
        decoded = text
    return HttpAnswer(response.status, decoded if isinstance(decoded, dict) else {"error": text})
