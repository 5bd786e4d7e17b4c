"""``nodedb debug log | metadata | raft STORE``: what stands in the store of a stopped node.

Nothing is written: the store is locked against a node that starts meanwhile, and refused while one
runs. The engine shows its last commit; after a crash the log may hold more, which the next start
applies as far as it is committed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nodedb.cli.failure import CommandFailed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from nodedb.storage.stopped_store import StoppedStore
    from nodedb.storage.wal import Wal

Report = dict[str, Any]

_LIMIT_DEFAULT: Final = 100
_READ_BYTES: Final = 16 * 1024 * 1024
_WHAT_CHARACTERS_MAX: Final = 200
_TEXT_CHARACTERS_MAX: Final = 60
_DEPTH_MAX: Final = 3
_CONF_CHANGE_BYTE: Final = 0xFF
_METADATA_GROUP: Final = 0


def add_parser(commands: Any) -> None:
    """Add ``debug`` and its commands."""
    debug = commands.add_parser("debug", help="look into the store of a stopped node")
    actions = debug.add_subparsers(dest="action", required=True)
    log = actions.add_parser("log", help="the log's segments, and the entries of each group")
    log.add_argument("--group", type=int, metavar="N", help="this group only")
    log.add_argument(
        "--from", type=int, dest="first", metavar="INDEX", help="entries from this one on"
    )
    log.add_argument(
        "--limit",
        type=int,
        default=_LIMIT_DEFAULT,
        metavar="COUNT",
        help="so many entries of each group, without --from the newest (%(default)s)",
    )
    metadata = actions.add_parser("metadata", help="nodes, groups, settings, schema version")
    raft = actions.add_parser("raft", help="hard state, log and applied entry of each group")
    for parser, report, render in (
        (log, log_report, _log_lines),
        (metadata, metadata_report, _metadata_lines),
        (raft, raft_report, _raft_lines),
    ):
        parser.add_argument("store", metavar="STORE", help="the node's store directory")
        parser.add_argument("--format", choices=("text", "json"), default="text")
        parser.set_defaults(run=run, report=report, render=render)


def run(arguments: argparse.Namespace) -> int:
    """Print the report. Raises CommandFailed."""
    from cluster.metadata.data import DamagedState  # noqa: PLC0415  not paid for by ``start``
    from nodedb.errors import StorageError  # noqa: PLC0415
    from nodedb.storage.stopped_store import StoppedStore  # noqa: PLC0415

    if getattr(arguments, "limit", 1) < 1:
        raise CommandFailed("--limit must be at least 1")
    make: Callable[[StoppedStore, argparse.Namespace], Report] = arguments.report
    render: Callable[[Report], Iterable[str]] = arguments.render
    try:
        store = StoppedStore(arguments.store)
        try:
            report = _store_report(store) | make(store, arguments)
        finally:
            store.close()
    except (StorageError, DamagedState, msgspec.MsgspecError) as error:
        raise CommandFailed(str(error)) from error
    if arguments.format == "json":
        print(json.dumps(report, indent=2))
        return 0
    print(f"store {report['store_id']} of cluster {report['cluster_id'] or '(none yet)'}")
    for line in render(report):
        print(line)
    return 0


def _store_report(store: StoppedStore) -> Report:
    manifest = store.manifest
    return {
        "store_id": manifest.store_id,
        "cluster_id": manifest.cluster_id,
        "format_version": manifest.format_version,
    }


# Log


def log_report(store: StoppedStore, arguments: argparse.Namespace) -> Report:
    """Return the segments, and of each group the entries that were asked for."""
    wal = store.wal
    groups = wal.groups() if arguments.group is None else [arguments.group]
    if not set(groups) <= set(wal.groups()):
        raise CommandFailed(f"the log holds nothing of group {arguments.group}")
    return {
        "segments": [segment._asdict() for segment in wal.segments()],
        "groups": [_group_log(wal, group, arguments) for group in groups],
    }


def _group_log(wal: Wal, group_id: int, arguments: argparse.Namespace) -> Report:
    first, last = wal.first_index(group_id), wal.last_index(group_id)
    start = last + 1 - arguments.limit if arguments.first is None else arguments.first
    start = max(start, first)
    end = min(start + arguments.limit, last + 1)
    shown: list[Report] = []
    while start < end:
        for index, term, payload in wal.entries(group_id, start, end, _READ_BYTES):
            kind, what = describe_entry(group_id, payload)
            shown.append(
                {"index": index, "term": term, "bytes": len(payload), "kind": kind, "what": what}
            )
            start = index + 1
    return {
        "group_id": group_id,
        "first_index": first,
        "last_index": last,
        "base_term": wal.term_at(group_id, first - 1),
        "entries": shown,
    }


def describe_entry(group_id: int, payload: bytes) -> tuple[str, str]:
    """Return an entry's kind, and in short what it says; for a human, never for a program."""
    from cluster.metadata.command import UnknownCommand  # noqa: PLC0415
    from nodedb.kv.effects import UnknownEffects  # noqa: PLC0415

    if not payload:
        return "empty", ""
    try:
        if payload[0] == _CONF_CHANGE_BYTE:
            return "conf change", _conf_change(payload)
        if group_id == _METADATA_GROUP:
            return "command", _command(payload)
        return "effects", _effects(payload)
    except (
        UnknownCommand,
        UnknownEffects,
        AssertionError,
        msgspec.MsgspecError,
        ValueError,
    ) as error:
        return "unreadable", _cut(str(error))


def _conf_change(payload: bytes) -> str:
    from cluster.raft.message import decode_conf_change  # noqa: PLC0415

    change = decode_conf_change(payload)
    assert change is not None
    text = f"{change.kind} {change.node_id}"
    if change.result is None:
        return text
    return f"{text}: voters {_ids(change.result.voters)}, learners {_ids(change.result.learners)}"


def _command(payload: bytes) -> str:
    from cluster.metadata.command import (  # noqa: PLC0415
        Batch,
        CatalogChange,
        decode_command,
        flatten,
    )
    from nodedb.catalog.changes import decode_change  # noqa: PLC0415

    command = decode_command(payload)
    members = list(flatten(command)) if isinstance(command, Batch) else [command]
    texts = []
    for member in members:
        if isinstance(member, CatalogChange):
            change = decode_change(member.payload)
            statements = ", ".join(change.statements) or "no statement"
            texts.append(
                f"CatalogChange({statements}; {len(change.puts)} puts, "
                f"{len(change.deletes)} deletes, by {change.user or 'the node'})"
            )
        else:
            texts.append(summary(member))
    text = "; ".join(texts)
    return _cut(f"Batch of {len(members)}: {text}" if isinstance(command, Batch) else text)


def _effects(payload: bytes) -> str:
    from nodedb.kv.effects import RowWrites, decode_effects  # noqa: PLC0415

    effects = decode_effects(payload)
    if isinstance(effects, RowWrites):
        deleted = sum(not written for _, _, written in effects.writes)
        return (
            f"RowWrites(commit_timestamp={effects.commit_timestamp}, "
            f"transaction_id={effects.transaction_id}, {len(effects.writes) - deleted} rows set, "
            f"{deleted} deleted)"
        )
    return _cut(summary(effects))


def summary(value: Any, depth: int = 0) -> str:
    """Return a struct's name and fields; bytes and long lists only by their size."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str):
        return json.dumps(_cut(value, _TEXT_CHARACTERS_MAX))
    if isinstance(value, list | tuple):
        if len(value) > 8 or depth > _DEPTH_MAX:
            return f"{len(value)} items"
        return "[" + ", ".join(summary(item, depth + 1) for item in value) + "]"
    if isinstance(value, msgspec.Struct):
        name = type(value).__name__
        if depth > _DEPTH_MAX:
            return name
        fields = [
            f"{field}={summary(getattr(value, field), depth + 1)}"
            for field in value.__struct_fields__
        ]
        return f"{name}({', '.join(fields)})"
    return str(value)


def _log_lines(report: Report) -> Iterable[str]:
    for segment in report["segments"]:
        yield (
            f"segment {segment['name']}: generation {segment['generation']}, "
            f"batches from {segment['first_sequence']}, {segment['tail']} of {segment['size']} "
            f"bytes written, {segment['live_bytes']} needed"
        )
    for group in report["groups"]:
        entries = group["entries"]
        yield ""
        yield f"group {group['group_id']}: " + _range_text(group)
        if entries:
            yield f"{'index':>10} {'term':>6} {'bytes':>10} {'kind':<11} what"
        for entry in entries:
            yield (
                f"{entry['index']:>10} {entry['term']:>6} {entry['bytes']:>10} "
                f"{entry['kind']:<11} {_printable(entry['what'])}".rstrip()
            )
        if entries and entries[-1]["index"] < group["last_index"]:
            yield f"  (more: --from {entries[-1]['index'] + 1})"


def _range_text(group: Report) -> str:
    first, last = group["first_index"], group["last_index"]
    base = f"behind index {first - 1} of term {group['base_term']}"
    return f"entries {first} to {last}, {base}" if last >= first else f"no entries, {base}"


# Metadata


def metadata_report(store: StoppedStore, arguments: argparse.Namespace) -> Report:
    """Return the metadata group's state as of the engine's last commit."""
    from nodedb.catalog.metadata import MetadataState  # noqa: PLC0415
    from sql.catalog.descriptor import AnyDescriptor  # noqa: PLC0415

    del arguments
    state = MetadataState(store.engine)
    cluster = state.cluster
    kinds: dict[str, int] = {}
    decoder = msgspec.msgpack.Decoder(AnyDescriptor)
    space = store.engine.space("metadata.descriptors")
    for _, value in space.scan(b"\0", None, space.count()):
        kind = type(decoder.decode(value)).__name__
        kinds[kind] = kinds.get(kind, 0) + 1
    index, term = store.engine.applied(_METADATA_GROUP)
    return {
        "applied_index": index,
        "applied_term": term,
        "log_last_index": store.wal.last_index(_METADATA_GROUP),
        "schema_version": state.catalog.schema_version,
        "next_descriptor_id": state.catalog.next_id,
        "descriptors": dict(sorted(kinds.items())),
        "catalog_changes": state.change_count,
        "audit_records": store.engine.space("metadata.audit").count(),
        "metadata_cluster_id": cluster.cluster_id,
        "cluster_version": cluster.cluster_version,
        "topology_version": cluster.topology_version,
        "routing_version": cluster.routing_version,
        "settings_version": cluster.settings_version,
        "timestamp_window": state.timestamp_window,
        "fence": {"term": cluster.fence[0], "node_id": cluster.fence[1]},
        "nodes": [_plain(node) for _, node in sorted(cluster.nodes.items())],
        "removed_nodes": [
            {"node_id": node_id, "store_id": store_id}
            for node_id, store_id in sorted(cluster.removed.items())
        ],
        "groups": [_plain(group) for _, group in sorted(cluster.groups.items())],
        "vshards": [_plain(part) for part in cluster.vshards],
        "settings": [
            {"node_id": node_id, "name": name, "value": value}
            for (node_id, name), value in sorted(cluster.settings.items())
        ],
        "descriptor_leases": len(cluster.leases),
        "descriptor_drains": len(cluster.drains),
        "ca_certificates": sorted(cluster.ca_certificates),
        "join_tokens": _counts(token.state for token in cluster.tokens.values()),
        "decisions": len(cluster.decisions),
        "digest": cluster.digest(),
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))


def _plain(value: msgspec.Struct) -> Report:
    """Return a record's fields; bytes in hex."""
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    return {
        name: field.hex() if isinstance(field, bytes) else field for name, field in fields.items()
    }


def _metadata_lines(report: Report) -> Iterable[str]:
    yield (
        f"applied {report['applied_index']} (term {report['applied_term']}), "
        f"log up to {report['log_last_index']}"
    )
    for name in ("schema_version", "next_descriptor_id", "catalog_changes", "audit_records"):
        yield f"{name} {report[name]}"
    yield f"descriptors {_pairs(report['descriptors'])}"
    for name in ("cluster_version", "topology_version", "routing_version", "settings_version"):
        yield f"{name} {report[name]}"
    yield f"timestamp_window {report['timestamp_window']}"
    fence = report["fence"]
    yield f"fence term {fence['term']} of node {fence['node_id']}"
    yield f"descriptor_leases {report['descriptor_leases']}, drains {report['descriptor_drains']}"
    yield f"join_tokens {_pairs(report['join_tokens'])}"
    yield f"ca_certificates {len(report['ca_certificates'])}, decisions {report['decisions']}"
    yield f"digest {report['digest']}"
    for node in report["nodes"]:
        yield (
            f"node {node['node_id']}: {node['state']}, rpc {_printable(node['rpc_address'])}, "
            f"sql {_printable(node['sql_address'])}, http {_printable(node['http_address'])}, "
            f"store {_printable(node['store_id'])}, incarnation {node['incarnation']}"
        )
    for node in report["removed_nodes"]:
        yield f"node {node['node_id']}: removed, store {_printable(node['store_id'])}"
    for group in report["groups"]:
        yield (
            f"group {group['group_id']}: voters {_ids(group['voters'])}, "
            f"learners {_ids(group['learners'])}, preferred leader {group['preferred_leader']}"
        )
    for part in report["vshards"]:
        yield f"vshards {part['start']} to {part['end'] - 1}: group {part['group_id']}"
    for setting in report["settings"]:
        where = f"node {setting['node_id']}" if setting["node_id"] else "cluster"
        yield f"setting {where} {setting['name']} = {_printable(setting['value'])}"


# Raft


def raft_report(store: StoppedStore, arguments: argparse.Namespace) -> Report:
    """Return of each group what Raft keeps: hard state, log, applied entry, configuration."""
    from nodedb.kv.replica import stored_configuration  # noqa: PLC0415

    del arguments
    wal, engine = store.wal, store.engine
    groups = []
    for group_id in sorted({*wal.groups(), *engine.applied_groups()}):
        hard_state = wal.hard_state(group_id)
        index, term = engine.applied(group_id)
        configuration = stored_configuration(engine, group_id)
        first = wal.first_index(group_id)
        groups.append(
            {
                "group_id": group_id,
                "term": None if hard_state is None else hard_state.term,
                "voted_for": None if hard_state is None else hard_state.vote or None,
                "commit_index": None if hard_state is None else hard_state.commit,
                "first_index": first,
                "last_index": wal.last_index(group_id),
                "last_term": wal.term_at(group_id, wal.last_index(group_id)),
                "base_term": wal.term_at(group_id, first - 1),
                "applied_index": index,
                "applied_term": term,
                "voters": None if configuration is None else list(configuration.voters),
                "learners": None if configuration is None else list(configuration.learners),
            }
        )
    return {"groups": groups}


def _raft_lines(report: Report) -> Iterable[str]:
    for group in report["groups"]:
        yield ""
        yield f"group {group['group_id']}"
        if group["term"] is None:
            yield "  no hard state"
        else:
            voted_for = f"node {group['voted_for']}" if group["voted_for"] else "nobody"
            yield (
                f"  term {group['term']}, voted for {voted_for}, "
                f"commit index {group['commit_index']}"
            )
        yield f"  log {_range_text(group)}"
        yield f"  applied {group['applied_index']} of term {group['applied_term']}"
        if group["voters"] is None:
            yield "  no configuration"
        else:
            yield f"  voters {_ids(group['voters'])}, learners {_ids(group['learners'])}"


def _ids(node_ids: Iterable[int]) -> str:
    return " ".join(map(str, node_ids)) or "none"


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _cut(text: str, characters_max: int = _WHAT_CHARACTERS_MAX) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 3] + "..."


def _printable(text: str) -> str:
    """Keep control characters from reaching the terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
