"""One node: builds the subsystems in order, starts, drains and stops them.

Order of start: HTTP (answering "starting"), store, engine, log, groups (replay), catalog (bootstrap
on an empty store), sessions, SQL. A fault in any of them ends the start with an error that names
it; what was opened is closed again in reverse order. A fatal storage error later stops the node at
once, without acknowledging anything more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.command import CatalogChange, encode_command
from cluster.metadata.oracle import TimestampOracle, pack_timestamp
from nodedb.catalog.bootstrap import bootstrap_catalog
from nodedb.catalog.metadata import MetadataState
from nodedb.catalog.virtual import virtual_tables
from nodedb.clock import Clock, SystemClock
from nodedb.config.node_config import Address
from nodedb.errors import DiskFull, StorageError
from nodedb.http.server import HttpServer
from nodedb.http.starting import StartingResponder, listen
from nodedb.kv.fault_log import FaultDirectory, FaultFlusher
from nodedb.kv.fault_points import PassPlace, fault_points, pass_none
from nodedb.kv.group import DataGroup
from nodedb.kv.replicator import Replicator, Timer
from nodedb.metrics import NodeMetrics
from nodedb.pgwire.auth import make_scram_secret
from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.driver import PgWireServer
from nodedb.session.manager import SessionManager
from nodedb.session.settings import BY_NAME, node_setting_ms
from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.store import Store
from nodedb.storage.wal import Wal
from nodedb.txn.checks import ALL_CHECKS, checks_of
from nodedb.txn.manager import TransactionManager
from nodedb.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodedb.config import NodeConfig
    from nodedb.storage.log_file import LogDirectory

_LOGGER: Final = logging.getLogger("nodedb")
LOOPBACK_NETWORKS: Final = ("127.0.0.0/8", "::1/128")
GC_BATCH: Final = 2000
GC_ROUNDS_PER_TTL: Final = 4
GC_PAUSE_SECONDS: Final = 0.05


class LoopSchedule:
    """The event loop's timers for the layers that know no asyncio."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def soon(self, callback: Callable[[], None]) -> None:
        """Call at the end of this turn."""
        self._loop.call_soon(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call after a delay."""
        return self._loop.call_later(seconds, callback)


class Node:
    """A running node. ``run`` returns the exit status."""

    def __init__(self, config: NodeConfig, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._fatal: StorageError | None = None
        self._closers: list[Callable[[], None]] = []
        self.is_ready = False
        self.is_draining = False

    async def run(self, announce: Callable[[str], None]) -> int:
        """Start, announce readiness, serve until told to stop, drain.

        Raises StorageError, OSError on a failed start.
        """
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self.request_stop)
        try:
            await self._start(LoopSchedule(loop))
            announce(self._ready_line())
            await self._stop.wait()
            await self._drain()
        finally:
            self._close()
        if self._fatal is not None:
            raise self._fatal
        return 0

    def request_stop(self) -> None:
        """Begin to drain; harmless when repeated."""
        self._stop.set()

    # Start

    async def _start(self, schedule: LoopSchedule) -> None:
        config = self._config
        self._listener = listen(config.http_addr.host, config.http_addr.port)
        self._closers.append(self._listener.close)
        responder = StartingResponder(self._listener)
        responder.start()
        try:
            self._open(schedule)
        finally:
            responder.stop()
        self.sessions = SessionManager(
            transactions=self.transactions,
            metadata=self.metadata,
            virtual_tables=virtual_tables(),
            schedule=schedule,
            clock=self._clock,
            make_scram_secret=make_scram_secret,
            collect_garbage=self.collect_garbage,
            defaults={k: v for k, v in config.variables.items() if k.lower() in BY_NAME},
            node_id=config.node_id or 1,
            rpc_address=str(config.advertise_rpc or config.rpc_addr),
            connections_max=config.max_connections,
        )
        self.sessions.schema_changes.resume()
        self.metrics = NodeMetrics(self.sessions)
        await self._start_servers()
        self._schedule_collection(schedule)
        self.is_ready = True

    def _open(self, schedule: LoopSchedule) -> None:
        """Open the store and read the log back."""
        pass_place = fault_points(os.environ) if self._config.fault_injection else None
        self._open_storage(pass_place)
        self.replicator = Replicator(
            self.wal, self.engine, schedule, self._on_fatal, pass_place or pass_none
        )
        self.metadata = MetadataState(self.engine)
        self.group = DataGroup(FIRST_DATA_GROUP, self.engine)
        self.replicator.start_group(METADATA_GROUP, self.metadata)
        self.replicator.start_group(FIRST_DATA_GROUP, self.group)
        self._closers.append(self.replicator.close)
        oracle = TimestampOracle(
            max(self.metadata.timestamp_window, self.group.last_timestamp, pack_timestamp(1))
        )
        self.transactions = TransactionManager(
            group=self.group,
            replicator=self.replicator,
            oracle=oracle,
            clock=self._clock,
            schedule=schedule,
            checks=checks_of(os.environ) if self._config.fault_injection else ALL_CHECKS,
            snapshot_age_seconds_max=node_setting_ms(self._config.variables, "max_snapshot_age")
            / 1000,
        )
        if not self.metadata.catalog.schema_version:
            self._bootstrap()
        if not self.store.manifest.cluster_id:
            self.store.set_cluster_id(secrets.token_hex(8))

    def _open_storage(self, pass_place: PassPlace | None) -> None:
        config = self._config
        self.store = Store(str(config.store))
        self._closers.append(self.store.close)
        engine_applied: list[LmdbEngine] = []
        directory: LogDirectory = self.store.log_directory()
        faulty = None if pass_place is None else FaultDirectory(directory, pass_place)
        self.wal = Wal(
            faulty or directory,
            segment_bytes=config.wal_segment_bytes,
            flusher=None if pass_place is None else FaultFlusher(pass_place),
            compact_limit=lambda group_id: engine_applied[0].recyclable_applied(group_id),  # noqa: PLW0108  bound later
        )
        if faulty is not None:
            faulty.is_recovering = False
        self._closers.append(self.wal.close)
        self.engine = LmdbEngine(
            self.store.engine_path,
            map_bytes=config.map_bytes,
            disk_reserve_bytes=config.disk_reserve_bytes,
            fsynced_index=self.wal.durable_index,
        )
        engine_applied.append(self.engine)
        self._closers.append(self.engine.close)

    def _bootstrap(self) -> None:
        """Give an empty store its first catalog, durably, before anybody connects."""
        password = self._first_password()
        secret = "" if password is None else make_scram_secret(password)
        command = CatalogChange(bootstrap_catalog(secret).encode())
        waiter = self.replicator.propose(METADATA_GROUP, encode_command(command), command)
        self.replicator.flush()
        if self._fatal is not None:
            raise self._fatal
        if waiter.error is not None:
            raise DiskFull(f"the first catalog cannot be written: {waiter.error}")

    def _first_password(self) -> str | None:
        """Return the superuser's first password: from the file, or made and written to the store.

        None if insecure.
        """
        config = self._config
        if config.superuser_password_file is not None:
            return config.superuser_password_file.read_text(encoding="utf-8").strip()
        if config.insecure:
            return None
        password = secrets.token_urlsafe(18)
        path = Path(config.store) / "initial-password"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(password + "\n")
            file.flush()
            os.fsync(file.fileno())
        _LOGGER.warning("the first password of superuser nodedb is in %s", path)
        return password

    async def _start_servers(self) -> None:
        config = self._config
        self.http = HttpServer(self)
        await self.http.start(self._listener)
        insecure = (*LOOPBACK_NETWORKS, *config.insecure_network) if config.insecure else ()
        self.sql = PgWireServer(
            self.sessions,
            PgWireSettings(
                max_connections=config.max_connections,
                drain_timeout_seconds=config.drain_seconds,
                insecure_networks=insecure,
            ),
        )
        context, certificate = _tls(config.certs_dir)
        host, port = config.sql_addr
        try:
            await self.sql.start(host, port, context, certificate)
        except OSError as error:
            raise OSError(
                error.errno,
                f"could not listen on {host}:{port} (sql): {os.strerror(error.errno or 0)}",
            ) from error
        self.sessions.front_end = self.sql

    def _ready_line(self) -> str:
        config = self._config
        sql = config.advertise_sql or Address(config.sql_addr.host, self.sql.port)
        http = config.advertise_http or Address(config.http_addr.host, self.http.port)
        rpc = config.advertise_rpc or config.rpc_addr
        return (
            f"ready sql=postgresql://nodedb@{sql}/nodedb http=http://{http} rpc={rpc} "
            f"node={config.node_id or 1} cluster={self.store.manifest.cluster_id}"
        )

    # Garbage collection

    def _schedule_collection(self, schedule: LoopSchedule) -> None:
        interval = max(self._config.gc_ttl_seconds / GC_ROUNDS_PER_TTL, 1.0)

        def collect() -> None:
            self._raise_watermark()
            step(b"\0")

        def step(position: bytes) -> None:
            following, _ = self.transactions.collect(position, GC_BATCH)
            if following is None:
                schedule.later(interval, collect)
            else:
                schedule.later(GC_PAUSE_SECONDS, lambda: step(following))

        schedule.later(interval, collect)

    def _raise_watermark(self) -> Waiter[int] | None:
        """Propose a watermark ``gc_ttl`` behind now; None when nothing was written since."""
        now_ms = self._clock.wall_us() // 1000
        watermark = min(
            pack_timestamp(max(now_ms - self._config.gc_ttl_seconds * 1000, 1)),
            self.group.last_timestamp,
        )
        if watermark <= self.group.watermark:
            return None
        return self.transactions.raise_watermark(watermark)

    async def collect_garbage(self) -> None:
        """Collect everything the watermark allows, now (VACUUM)."""
        waiter = self._raise_watermark()
        if waiter is not None:
            await waiter
        position: bytes | None = b"\0"
        while position is not None:
            position, _ = self.transactions.collect(position, GC_BATCH)
            pause: Waiter[None] = Waiter()
            asyncio.get_running_loop().call_soon(pause.set_result, None)
            await pause

    # Stop

    def _on_fatal(self, error: StorageError) -> None:
        """Stop without another acknowledgement: the log or the engine failed."""
        _LOGGER.critical("fatal storage error, stopping: %s", error)
        self._fatal = error
        self._stop.set()

    async def _drain(self) -> None:
        """Unready, no new connections, finish transactions, stop."""
        self.is_draining = True
        self.is_ready = False
        self.sessions.is_draining = True
        if self._fatal is None:
            await self.sql.drain()
            self.sessions.schema_changes.stop()
            self.sessions.sequences.write_back()
        await self.sql.close()
        await self.http.close()

    def _close(self) -> None:
        while self._closers:
            close = self._closers.pop()
            with contextlib.suppress(StorageError):
                close()


def _tls(certs_dir: Path | None) -> tuple[ssl.SSLContext | None, bytes]:
    """Load node.crt and node.key (and ca.crt for client certificates) from a directory."""
    if certs_dir is None:
        return None, b""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate = certs_dir / "node.crt"
    context.load_cert_chain(certificate, certs_dir / "node.key")
    return context, ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
