"""The HTTP port: health for Kubernetes and load balancers, metrics, drain, cluster status, debug.

Until the node serves, everything but ``/healthz``, ``/health`` and ``/health/*`` answers 503; from
then on it answers until the very end of a drain. Bodies: ``nodedb.http.health``; who may do what:
``nodedb.http.access``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from nodedb.http import access, debug, health
from nodedb.http.faults import decode_faults
from nodedb.http.services import HttpServices, TokenRefused

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OPEN_WHILE_STARTING: Final = ("/healthz", "/health")
REQUEST_BYTES_MAX: Final = 256 * 1024
TOKEN_SECONDS_DEFAULT: Final = 600.0
TOKEN_SECONDS_MAX: Final = 7 * 24 * 3600.0
_CLOSE_SECONDS: Final = 1.0


class HttpPort:
    """One node's HTTP listener."""

    def __init__(self, services: HttpServices) -> None:
        self._services = services
        application = web.Application(middlewares=[self._gate], client_max_size=REQUEST_BYTES_MAX)
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/health", self._health),
                web.get("/health/live", self._live),
                web.get("/health/ready", self._ready),
                web.get("/health/drain", self._drain_progress),
                web.post("/health/drain", self._drain),
                web.get("/metrics", self._metrics),
                web.get("/cluster/status", self._cluster_status),
                web.get("/cluster/info", self._info),
                web.post("/cluster/tokens", self._issue_token),
                web.get("/debug/tasks", self._debug_tasks),
                web.get("/debug/stacks", self._debug_stacks),
                web.get("/debug/profile", self._debug_profile),
                web.get("/debug/transport", self._debug_transport),
                web.get("/debug/raft/{group}", self._debug_raft),
                web.get("/debug/fault", self._faults),
                web.post("/debug/fault", self._set_faults),
            ]
        )
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_SECONDS
        )
        self.port = 0

    async def start(self, listener: socket.socket) -> None:
        """Serve a listening socket."""
        await self._runner.setup()
        listener.setblocking(False)  # noqa: FBT003  the socket's own interface
        site = web.SockSite(self._runner, listener)
        await site.start()
        self.port = listener.getsockname()[1]

    async def close(self) -> None:
        """Stop listening; requests that run get a second."""
        await self._runner.cleanup()

    # Who may

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        services = self._services
        path = request.path
        is_health = path in _OPEN_WHILE_STARTING or path.startswith("/health/")
        is_started = services.phases.is_over or services.drain.progress().is_draining
        if not is_health and not is_started:
            return _answer(health.starting(services.phases))
        if path == "/debug" or path.startswith("/debug/"):
            is_open = services.faults if path == "/debug/fault" else services.debug_enabled
            if not is_open:
                raise web.HTTPNotFound
            if not access.is_local_request(request.remote, request.headers):
                return _refused("/debug is open to programs on this machine only")
        return await handler(request)

    def _check_admin(self, request: web.Request) -> web.Response | None:
        """Return the refusal unless the request may change the node."""
        if access.is_local_request(request.remote, request.headers) or access.has_admin_token(
            request.headers, self._services.admin_token()
        ):
            return None
        return _refused("needs loopback, or the token of setting http_admin_token")

    # Health

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return _answer(health.healthz(self._services))

    async def _health(self, request: web.Request) -> web.Response:
        del request
        return _answer(health.health(self._services))

    async def _live(self, request: web.Request) -> web.Response:
        del request
        return _answer(health.live())

    async def _ready(self, request: web.Request) -> web.Response:
        del request
        return _answer(health.ready(self._services))

    async def _drain_progress(self, request: web.Request) -> web.Response:
        del request
        services = self._services
        return web.json_response(health.drain(services.drain.progress(), services.node_id()))

    async def _drain(self, request: web.Request) -> web.Response:
        refusal = self._check_admin(request)
        if refusal is not None:
            return refusal
        services = self._services
        services.drain.start(f"asked by {request.remote} over HTTP")
        body = health.drain(services.drain.progress(), services.node_id())
        return web.json_response(body | {"phase": body["status"], "status": "draining"})

    async def _metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(
            body=self._services.metrics.render(), content_type="text/plain", charset="utf-8"
        )

    # Cluster

    async def _cluster_status(self, request: web.Request) -> web.Response:
        refusal = self._check_admin(request)
        if refusal is not None:
            return refusal
        return web.json_response(health.cluster_status(self._services))

    async def _info(self, request: web.Request) -> web.Response:
        refusal = self._check_admin(request)
        if refusal is not None:
            return refusal
        return web.json_response(health.node_info(self._services))

    async def _issue_token(self, request: web.Request) -> web.Response:
        refusal = self._check_admin(request)
        if refusal is not None:
            return refusal
        issue = self._services.issue_token
        if issue is None:
            return _failed("this node issues no join tokens", status=503)
        try:
            body = await request.json() if request.can_read_body else {}
            for_node = int(body.get("for_node", 0))
            seconds = float(body.get("ttl_seconds", TOKEN_SECONDS_DEFAULT))
            if for_node < 0 or not 1 <= seconds <= TOKEN_SECONDS_MAX:
                raise ValueError("out of range")
        except (ValueError, TypeError, AttributeError):
            text = "expected for_node (0: any) and ttl_seconds (1 to 604800)"
            return _failed(text, status=400)
        try:
            issued = await issue(for_node, seconds)
        except TokenRefused as error:
            return _failed(str(error), status=503)
        return web.json_response(issued._asdict())

    # Debug

    async def _debug_tasks(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(debug.tasks())

    async def _debug_stacks(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text=debug.stacks())

    async def _debug_profile(self, request: web.Request) -> web.Response:
        try:
            seconds = float(request.query.get("seconds", "5"))
            if not 0 < seconds <= debug.PROFILE_SECONDS_MAX:
                raise ValueError("out of range")
        except ValueError:
            return _failed(f"expected seconds up to {debug.PROFILE_SECONDS_MAX:.0f}", status=400)
        return web.Response(text=await debug.profile(seconds))

    async def _debug_transport(self, request: web.Request) -> web.Response:
        del request
        status = health.cluster_status(self._services)
        return web.json_response({key: status.get(key, []) for key in ("peers", "refusals")})

    async def _debug_raft(self, request: web.Request) -> web.Response:
        text = request.match_info["group"]
        if not (text.isascii() and text.isdigit()):
            return _failed("expected the number of a group", status=400)
        groups = health.cluster_status(self._services).get("groups", [])
        found = next((group for group in groups if group["group_id"] == int(text)), None)
        if found is None:
            return _failed(f"no replica of group {text} here", status=404)
        detail = self._services.raft_detail
        return web.json_response(found | ((detail(int(text)) or {}) if detail else {}))

    async def _faults(self, request: web.Request) -> web.Response:
        del request
        return self._planted()

    async def _set_faults(self, request: web.Request) -> web.Response:
        assert self._services.faults is not None
        try:
            self._services.faults.set_faults(decode_faults(await request.read()))
        except ValueError as error:
            return _failed(str(error), status=400)
        return self._planted()

    def _planted(self) -> web.Response:
        import msgspec  # noqa: PLC0415  only with --fault-injection

        assert self._services.faults is not None
        return web.Response(
            body=msgspec.json.encode(self._services.faults.faults()),
            content_type="application/json",
        )


def _answer(answer: health.Answer) -> web.Response:
    return web.json_response(answer.body, status=answer.status)


def _refused(reason: str) -> web.Response:
    return _failed(reason, status=403)


def _failed(reason: str, *, status: int) -> web.Response:
    return web.json_response({"error": reason}, status=status)
