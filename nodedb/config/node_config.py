"""The settings of ``nodedb start``.

Each field has a flag (``--sql-addr``), a variable (``NODEDB_SQL_ADDR``) and a TOML key
(``sql_addr``), all derived from its name. Later sources win: built-in default, TOML file,
environment, flag. Lists are comma-separated in flags and variables. Nothing is guessed: what does
not read as its type is a fault, and all faults are reported together.
"""

from __future__ import annotations

import dataclasses
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cluster.membership.address import MalformedAddress, parse_advertised
from cluster.membership.config import StartSettings
from cluster.membership.seeds import parse_seeds
from nodedb.config.cluster_checks import cluster_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cluster.membership.seeds import SeedSettings


class Address(NamedTuple):
    """A host and a port; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is typed."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_DEFAULT_SQL: Final = Address("127.0.0.1", 6432)
_DEFAULT_HTTP: Final = Address("127.0.0.1", 6480)
_DEFAULT_RPC: Final = Address("127.0.0.1", 9400)


class ConfigFaults(Exception):
    """Everything wrong with the settings. An operator acts; the command exits with 2."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Settings of one node; ``docs/operations.md`` describes each."""

    store: Path
    sql_addr: Address = _DEFAULT_SQL
    http_addr: Address = _DEFAULT_HTTP
    rpc_addr: Address = _DEFAULT_RPC
    advertise_sql: Address | None = None
    advertise_http: Address | None = None
    advertise_rpc: Address | None = None
    join: tuple[str, ...] = ()
    join_token_file: Path | None = None
    join_retry_max_attempts: int = 8
    join_retry_max_backoff_secs: int = 32
    join_budget_seconds: int = 120
    node_id: int | None = None
    role: str = "voter"
    locality: tuple[str, ...] = ()
    num_groups: int | None = None
    election_timeout_ms_min: int | None = None
    election_timeout_ms_max: int | None = None
    heartbeat_ms: int | None = None
    replication_factor: int | None = None
    certs_dir: Path | None = None
    cluster_secret_file: Path | None = None
    superuser_password_file: Path | None = None
    insecure: bool = False
    insecure_network: tuple[str, ...] = ()
    log_format: str = "text"
    debug: bool = False
    fault_injection: bool = False
    set: tuple[str, ...] = ()
    max_connections: int = 1000
    wal_segment_bytes: int = 64 * 1024 * 1024
    map_bytes: int = 1 << 40
    disk_reserve_bytes: int = 256 * 1024 * 1024
    gc_ttl_seconds: int = 600
    drain_seconds: int = 30
    drain_unready_seconds: int = 0
    drain_connections_seconds: int = 0
    drain_leases_seconds: int = 5
    http_admin_token: str | None = None

    @property
    def is_clustered(self) -> bool:
        """Tell whether the node is to be a member of a cluster; else it is one by itself."""
        return bool(self.join)

    @property
    def seeds(self) -> SeedSettings:
        """The addresses of ``--join``, in their one form; empty without it."""
        return parse_seeds(self.join)

    @property
    def start_settings(self) -> StartSettings:
        """How long and how often a new node asks."""
        return StartSettings(
            attempts_max=self.join_retry_max_attempts,
            back_off_seconds_max=float(self.join_retry_max_backoff_secs),
            budget_seconds=float(self.join_budget_seconds),
        )

    @property
    def variables(self) -> dict[str, str]:
        """Session variable defaults from ``--set name=value``."""
        return dict(item.split("=", 1) for item in self.set)


RELOADED_SETTINGS: Final = frozenset(
    (
        "set",
        "drain_seconds",
        "drain_unready_seconds",
        "drain_connections_seconds",
        "drain_leases_seconds",
    )
)
"""What SIGHUP changes in a running node; variables count for sessions that begin afterwards."""


def changed_settings(old: NodeConfig, new: NodeConfig) -> list[str]:
    """Return the names of the settings that differ."""
    names = [field.name for field in dataclasses.fields(NodeConfig)]
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _parse_address(text: str) -> Address:
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected HOST:PORT")
    return Address(host, int(port))


def _parse_list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(part for item in value for part in _parse_list(item))
    raise ValueError("expected a list of texts")


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "on", "1"):
        return True
    if isinstance(value, str) and value.lower() in ("false", "no", "off", "0", ""):
        return False
    raise ValueError("expected true or false")


def _parse_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("expected a whole number")
    try:
        number = int(value)
    except ValueError:
        raise ValueError("expected a whole number") from None
    if number < 0:
        raise ValueError("must not be negative")
    return number


def _parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a text")
    return value


_PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "Path": lambda value: Path(_parse_text(value)),
    "Address": lambda value: _parse_address(_parse_text(value)),
    "tuple[str, ...]": _parse_list,
    "bool": _parse_bool,
    "int": _parse_int,
    "str": _parse_text,
}
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  what is refused without an address to advertise
_CHOICES: Final = {"role": ("voter", "replica"), "log_format": ("text", "json")}


def field_names() -> list[tuple[str, str]]:
    """Return (name, type) of every setting, in order: the CLI makes its flags of it."""
    return [
        (field.name, str(field.type).removesuffix(" | None"))
        for field in dataclasses.fields(NodeConfig)
    ]


def load_config(
    flags: Mapping[str, Any], environment: Mapping[str, str], config_file: str | None
) -> NodeConfig:
    """Merge the sources. Raises ConfigFaults naming every bad value with where it came from."""
    faults: list[str] = []
    values: dict[str, Any] = {}
    path = config_file or environment.get("NODEDB_CONFIG")
    sources = [*_toml_source(path, faults), *_environment_source(environment), *_flag_source(flags)]
    types = dict(field_names())
    for name, value, source in sources:
        if name not in types:
            faults.append(f"{source}: unknown setting {name!r}")
            continue
        try:
            values[name] = _parse(name, types[name], value)
        except ValueError as error:
            faults.append(f"{source}: {name} = {value!r}: {error}")
    if "store" not in values and not any(" store = " in fault for fault in faults):
        faults.append("--store is required (or NODEDB_STORE, or store in the configuration file)")
    if faults:
        raise ConfigFaults(faults)
    config = NodeConfig(**values)
    faults = _check(config)
    if faults:
        raise ConfigFaults(faults)
    return config


def _parse(name: str, type_name: str, value: Any) -> Any:
    parsed = _PARSERS[type_name](value)
    if name in _CHOICES and parsed not in _CHOICES[name]:
        raise ValueError(f"expected one of {', '.join(_CHOICES[name])}")
    return parsed


def _toml_source(path: str | None, faults: list[str]) -> list[tuple[str, Any, str]]:
    if path is None:
        return []
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        faults.append(f"{path}: {error.strerror}")
        return []
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{path}: {error}")
        return []
    return [(name.replace("-", "_"), value, path) for name, value in table.items()]


def _environment_source(environment: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    names = {f"NODEDB_{name.upper()}": name for name, _ in field_names()}
    return [(names[key], value, key) for key, value in environment.items() if key in names]


def _flag_source(flags: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    return [
        (name, value, f"--{name.replace('_', '-')}")
        for name, value in flags.items()
        if value is not None
    ]


def _check(config: NodeConfig) -> list[str]:
    """Return the faults that concern several settings at once."""
    faults = []
    for name in ("sql", "http", "rpc"):
        address: Address = getattr(config, f"{name}_addr")
        advertised: Address | None = getattr(config, f"advertise_{name}")
        if advertised is not None:
            try:
                parse_advertised(str(advertised))
            except MalformedAddress as error:
                faults.append(f"--advertise-{name} {error}")
        elif address.host in _EVERYWHERE:
            faults.append(
                f"--{name}-addr {address} listens everywhere: give --advertise-{name} HOST:PORT"
            )
    for network in config.insecure_network:
        try:
            ip_network(network)
        except ValueError as error:
            faults.append(f"--insecure-network {network}: {error}")
    if config.insecure_network and not config.insecure:
        faults.append("--insecure-network needs --insecure")
    if config.wal_segment_bytes < 1 << 20:
        faults.append("wal_segment_bytes must be at least 1 MiB")
    faults.extend(f"--set {item}: expected name=value" for item in config.set if "=" not in item)
    if config.is_clustered:
        faults.extend(cluster_faults(config))
    return faults
