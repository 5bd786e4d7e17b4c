"""How a node becomes a member: its transport, its identity, and the way into the cluster."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from cluster.ids import METADATA_GROUP
from cluster.membership.driver import MembershipDriver
from cluster.membership.greeting import LocalNode
from cluster.membership.info import node_info
from cluster.membership.message import JoinRequest
from cluster.transport.config import (
    WIRE_VERSION,
    WIRE_VERSION_MIN,
    LocalIdentity,
    TlsFiles,
    TransportSettings,
)
from cluster.transport.driver import TcpTransport
from nodedb.certificates import read_secret
from nodedb.config.node_config import Address
from nodedb.storage.membership_file import MembershipFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.membership.core import Started
    from cluster.transport.faults import FaultPolicy
    from nodedb.config import NodeConfig
    from nodedb.storage.store import Store

_LOGGER: Final = logging.getLogger("nodedb.member")
DEFAULT_GROUPS: Final = 1


class Addresses(NamedTuple):
    """What a node tells others about where it is; "" for what it does not know yet."""

    rpc: str
    sql: str
    http: str


class Entrance:
    """The part of a member that exists before it is one. ``find`` ends with its membership."""

    def __init__(
        self,
        config: NodeConfig,
        store: Store,
        *,
        now: Callable[[], float],
        faults: FaultPolicy | None,
        on_phase: Callable[[str, str], None],
    ) -> None:
        """Read the files; ValueError and CredentialsError for what cannot be used."""
        self._config = config
        self._store = store
        self._now = now
        self._on_phase = on_phase
        self.file = MembershipFile(store)
        self.incarnation = self.file.raise_incarnation()
        self.secret = _read_secret(config)
        saved = self.file.load().identity
        self.identity = LocalIdentity(
            node_id=0 if saved is None else saved.node_id,
            cluster_id="" if saved is None else saved.cluster_id,
            address=str(config.advertise_rpc or ""),
            incarnation=self.incarnation,
        )
        self.transport = TcpTransport(
            self.identity,
            TransportSettings(
                tls=_tls_files(config), secret=self.secret, is_insecure=config.insecure
            ),
            faults=faults,
            now=now,
        )
        self.rpc_port = 0
        self.driver: MembershipDriver | None = None

    @property
    def group_ids(self) -> tuple[int, ...]:
        """The groups that a founder makes."""
        count = self._config.num_groups or DEFAULT_GROUPS
        return (METADATA_GROUP, *range(1, count + 1))

    def addresses(self, sql_port: int = 0, http_port: int = 0) -> Addresses:
        """Return the advertised addresses; a port that the system chooses is known later."""
        config = self._config
        sql = config.advertise_sql or Address(
            config.sql_addr.host, sql_port or config.sql_addr.port
        )
        http = config.advertise_http or Address(
            config.http_addr.host, http_port or config.http_addr.port
        )
        return Addresses(
            self.identity.address, str(sql) if sql.port else "", str(http) if http.port else ""
        )

    def info(self, sql_port: int, http_port: int) -> dict[str, object]:
        """Return what ``nodedb node info`` prints."""
        addresses = self.addresses(sql_port, http_port)
        driver = self.driver
        return node_info(
            identity=self.file.load().identity,
            local=self._local(),
            sql_address=addresses.sql,
            http_address=addresses.http,
            locality=self._config.locality,
            secret=self.secret,
            seeds=None if driver is None else driver.seeds,
        )

    def _local(self) -> LocalNode:
        return LocalNode(
            address=self.identity.address,
            store_id=self._store.manifest.store_id,
            incarnation=self.incarnation,
            node_id=self.identity.node_id or self._config.node_id or 0,
            role=self._config.role,
        )

    async def find(self) -> Started:
        """Listen, and find the cluster. Raises OSError, StartFailed."""
        config = self._config
        host, port = config.rpc_addr
        self.rpc_port = await self.transport.start(host, port)
        if not self.identity.address:
            self.identity.address = str(Address(host, self.rpc_port))
        addresses = self.addresses()
        pin = bytes.fromhex(self.transport.spki_pin)
        local = self._local()
        request = JoinRequest(
            node_id=local.node_id,
            address=addresses.rpc,
            wire_version=WIRE_VERSION,
            cluster_id="",
            store_id=local.store_id,
            incarnation=local.incarnation,
            sql_address=addresses.sql,
            http_address=addresses.http,
            locality=config.locality,
            role=config.role,
            spki_pin=pin,
            token=_read_token(config),
            wire_version_min=WIRE_VERSION_MIN,
        )
        self.driver = MembershipDriver(
            transport=self.transport,
            catalog=self.file,
            local=local,
            request=request,
            seeds=config.seeds,
            new_cluster_id=secrets.token_hex(8),
            group_ids=self.group_ids,
            clock=self._now,
            settings=config.start_settings,
            on_phase=self._on_phase,
        )
        started = await self.driver.start()
        self.identity.node_id = started.identity.node_id
        self.identity.cluster_id = started.identity.cluster_id
        self.transport.reintroduce()
        _LOGGER.info(
            "node %d of cluster %s (%s)",
            started.identity.node_id,
            started.identity.cluster_id,
            started.kind,
        )
        return started


def _read_secret(config: NodeConfig) -> bytes:
    if config.cluster_secret_file is None:
        return b""
    return read_secret(config.cluster_secret_file)


def _read_token(config: NodeConfig) -> str:
    if config.join_token_file is None:
        return ""
    return config.join_token_file.read_text(encoding="ascii").strip()


def _tls_files(config: NodeConfig) -> TlsFiles | None:
    directory = config.certs_dir
    if directory is None:
        return None
    return TlsFiles(
        certificate=str(directory / "node.crt"),
        key=str(directory / "node.key"),
        authority=str(directory / "ca.crt"),
    )
