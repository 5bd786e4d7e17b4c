"""What must hold of the settings of a node that is to be a member (``--join``).

None of this is looked at without ``--join``: a node by itself takes no notice of cluster settings.
Every fault is a sentence that names the flag; all are reported together. Files are read here once,
so that a missing or unfit one stops the command and not, later, the node.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from cluster.membership.address import MalformedAddress, is_loopback, parse_advertised
from cluster.membership.seeds import SEEDS_MAX, parse_seed, parse_seeds
from cluster.membership.tokens import TokenFault, hash_of
from cluster.transport.config import SECRET_BYTES_MIN

if TYPE_CHECKING:
    from pathlib import Path

    from nodedb.config.node_config import NodeConfig

GROUPS_MAX: Final = 1024
REPLICATION_FACTOR_MAX: Final = 9
CERTIFICATE_FILES: Final = ("ca.crt", "node.crt", "node.key")
_FILE_BYTES_MAX: Final = 64 * 1024


def cluster_faults(config: NodeConfig) -> list[str]:
    """Return what is wrong, a sentence each."""
    return [
        *_seed_faults(config),
        *_identity_faults(config),
        *_figure_faults(config),
        *_trust_faults(config),
        *_token_faults(config),
        *config.start_settings.faults(),
    ]


def _seed_faults(config: NodeConfig) -> list[str]:
    faults, seeds = [], []
    for item in config.join:
        try:
            seeds.append(parse_seed(item))
        except MalformedAddress as error:
            faults.append(f"--join {error}")
    if len(set(seeds)) > SEEDS_MAX:
        faults.append(f"--join: {len(set(seeds))} addresses, at most {SEEDS_MAX}")
    if config.role == "replica" and not faults:
        static = parse_seeds(seeds).addresses
        if static and static[0] == _own_address(config):
            faults.append(
                f"--role replica: {static[0]} is the smallest address of --join, which founds the "
                "cluster, and a replica cannot"
            )
    return faults


def _own_address(config: NodeConfig) -> str:
    try:
        return parse_advertised(str(config.advertise_rpc or config.rpc_addr))
    except MalformedAddress:
        return ""  # Port 0, or a fault that is reported elsewhere.


def _identity_faults(config: NodeConfig) -> list[str]:
    faults = []
    if config.node_id is not None and not 1 <= config.node_id < 1 << 31:
        faults.append(f"--node-id {config.node_id}: expected a number from 1 to {(1 << 31) - 1}")
    keys = []
    for item in config.locality:
        key, separator, value = item.partition("=")
        if not (separator and key.strip() and value.strip()):
            faults.append(f"--locality {item}: expected key=value")
        elif key in keys:
            faults.append(f"--locality {item}: {key} is given twice")
        keys.append(key)
    return faults


def _figure_faults(config: NodeConfig) -> list[str]:
    faults = []
    if config.num_groups is not None and not 1 <= config.num_groups <= GROUPS_MAX:
        faults.append(f"--num-groups {config.num_groups}: expected 1 to {GROUPS_MAX}")
    factor = config.replication_factor
    if factor is not None and not 1 <= factor <= REPLICATION_FACTOR_MAX:
        faults.append(f"--replication-factor {factor}: expected 1 to {REPLICATION_FACTOR_MAX}")
    return faults


def _trust_faults(config: NodeConfig) -> list[str]:
    """Check that the nodes can trust each other: certificates and a secret, or loopback only."""
    faults = []
    if config.cluster_secret_file is not None:
        faults.extend(_secret_faults(config.cluster_secret_file))
    if config.insecure:
        own = str(config.rpc_addr)
        if not is_loopback(own) and not config.insecure_network:
            faults.append(
                f"--insecure with --rpc-addr {own}: other machines could join without a proof; "
                "listen on loopback, or name the network with --insecure-network"
            )
        return faults
    if config.certs_dir is None:
        faults.append("--join needs --certs-dir (see nodedb cert), or --insecure on loopback")
    else:
        missing = [name for name in CERTIFICATE_FILES if not (config.certs_dir / name).is_file()]
        faults.extend(
            f"--certs-dir {config.certs_dir}: {name} is missing, and nodes need it"
            for name in missing
        )
    if config.cluster_secret_file is None:
        faults.append("--join needs --cluster-secret-file, or --insecure on loopback")
    return faults


def _secret_faults(path: Path) -> list[str]:
    flag = f"--cluster-secret-file {path}"
    try:
        content = _read(path)
        information = path.stat()
    except OSError as error:
        return [f"{flag}: {error.strerror}"]
    faults = []
    if len(content.strip()) < SECRET_BYTES_MIN:
        faults.append(f"{flag}: a secret has at least {SECRET_BYTES_MIN} bytes")
    # As PostgreSQL does with keys: nobody else's, but a file of root's may be its group's, which is
    # how orchestrators hand secrets out.
    is_roots = information.st_uid == 0 and os.geteuid() != 0
    forbidden = stat.S_IRWXO | (stat.S_IWGRP | stat.S_IXGRP if is_roots else stat.S_IRWXG)
    if information.st_mode & forbidden:
        faults.append(f"{flag}: others may read it; its mode should be 0600")
    return faults


def _token_faults(config: NodeConfig) -> list[str]:
    path = config.join_token_file
    if path is None:
        return []
    try:
        hash_of(_read(path).decode("ascii", "replace").strip())
    except OSError as error:
        return [f"--join-token-file {path}: {error.strerror}"]
    except TokenFault as error:
        return [f"--join-token-file {path}: {error}"]
    return []


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_FILE_BYTES_MAX)


def read_secret(path: Path) -> bytes:
    """Return the cluster secret of a file, without blanks around it. Raises OSError."""
    return _read(path).strip()


def read_join_token(path: Path) -> str:
    """Return the token of a file. Raises OSError."""
    return _read(path).decode("ascii", "replace").strip()
