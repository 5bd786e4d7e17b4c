"""The HTTP port: health for Kubernetes and load balancers, metrics for Prometheus.

``/healthz`` and ``/health/ready`` are 200 from the ready line on and 503 before and while draining;
``/health/live`` is 200 while the process answers; ``/health`` tells both as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import socket

    from nodedb.node import Node


class HttpServer:
    """One node's HTTP listener."""

    def __init__(self, node: Node) -> None:
        self._node = node
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._ready),
                web.get("/health/ready", self._ready),
                web.get("/health/live", self._live),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
        self.port = 0

    async def start(self, listener: socket.socket) -> None:
        """Serve a listening socket."""
        await self._runner.setup()
        listener.setblocking(False)  # noqa: FBT003  the socket's own interface
        site = web.SockSite(self._runner, listener)
        await site.start()
        self.port = listener.getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _ready(self, request: web.Request) -> web.Response:
        del request
        if self._node.is_ready:
            return web.json_response({"status": "ok"})
        status = "draining" if self._node.is_draining else "starting"
        return web.json_response({"status": status}, status=503)

    async def _live(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "alive"})

    async def _health(self, request: web.Request) -> web.Response:
        del request
        node = self._node
        status = "draining" if node.is_draining else "ok" if node.is_ready else "starting"
        body = {
            "status": status,
            "ready": node.is_ready,
            "connections": len(node.sessions.sessions) if node.is_ready else 0,
            "cluster_id": node.store.manifest.cluster_id,
        }
        return web.json_response(body, status=200 if node.is_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(
            body=self._node.metrics.render(), content_type="text/plain", charset="utf-8"
        )
