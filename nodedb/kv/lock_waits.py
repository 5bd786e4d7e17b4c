"""What waiting for a lock is called: in pg_locks, in errors, in the log.

PostgreSQL has no lock table for rows: a row names the transaction that has it, and whoever wants
the row waits for that transaction. Only the first in line does so; it holds the ``tuple`` lock
meanwhile, for which the others queue. Our lock table keeps one queue per row, so what PostgreSQL
would show is worked out here: a request with nobody before it in the queue waits for a transaction,
the others wait for the tuple. Whoever wants a key that no row has, inserts it, and in PostgreSQL
every one of them waits for the transaction that was first.

Pure functions over ``nodedb.kv.locks``. Sources: PostgreSQL docs, "pg_locks", "Explicit Locking";
``README.tuplock`` and ``lmgr.c`` of PostgreSQL's sources for modes and wording.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from nodedb.kv.locks import (
    CONFLICTS,
    MODE_NAMES,
    ROW_KEY_SHARE,
    ROW_NO_KEY_UPDATE,
    ROW_SHARE_LOCK,
    ROW_UPDATE,
    CatalogResource,
    LockNames,
    LockOwner,
    LockRequest,
)
from sql.errors import DeadlockDetected

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

_PLACE: Final = struct.Struct(">IH")
_TUPLE_MODES: Final[dict[int, str]] = {
    ROW_KEY_SHARE: "AccessShareLock",
    ROW_SHARE_LOCK: "RowShareLock",
    ROW_NO_KEY_UPDATE: "ExclusiveLock",
    ROW_UPDATE: "AccessExclusiveLock",
}
"""The mode in which PostgreSQL takes the tuple lock for each strength of a row lock."""


class Wait(NamedTuple):
    """What a request waits for.

    ``locktype`` and ``mode`` as pg_locks has them; ``other`` is the first of those to wait for.
    ``tuple_mode`` is that of the tuple lock which a row's first waiter holds, "" for none.
    """

    locktype: str
    mode: str
    other: LockOwner
    tuple_mode: str = ""


def wait_of(request: LockRequest, names: LockNames) -> Wait:
    """Tell what a queued request waits for, in a time that does not grow with the queue."""
    mode, resource = request.mode, request.lock.resource
    other = next(request.lock.blockers(request.owner, mode, request), request.owner)
    if isinstance(resource, CatalogResource) and resource.kind != "object":
        return Wait("transactionid", "ShareLock", other)  # A name.
    if not isinstance(resource, bytes):
        return Wait(LOCKTYPES[type(resource)], MODE_NAMES[mode], other)
    is_row = names.is_row(resource)
    holder = next(_holders(request), None)
    if is_row or holder is None:
        ahead = next(_ahead(request), None)
        if ahead is not None:
            return Wait("tuple", _TUPLE_MODES[mode], ahead)
    tuple_mode = _TUPLE_MODES[mode] if is_row else ""
    return Wait("transactionid", "ShareLock", holder or other, tuple_mode)


def blockers_of(request: LockRequest, names: LockNames) -> list[LockOwner]:
    """Return all whom a request waits for, each once: who has the lock, who is in line before."""
    if isinstance(request.lock.resource, bytes):
        is_in_line = wait_of(request, names).locktype == "tuple"
        found = _ahead(request) if is_in_line else _holders(request)
    else:
        found = request.lock.blockers(request.owner, request.mode, request)
    return list(dict.fromkeys(found))


def _holders(request: LockRequest) -> Iterator[LockOwner]:
    mask, name = CONFLICTS[request.mode], request.owner.deadlock_name
    for holder, held in request.lock.holders.items():
        if held & mask and holder.deadlock_name != name:
            yield holder


def _ahead(request: LockRequest) -> Iterator[LockOwner]:
    if request.is_upgrade:
        return
    mask = CONFLICTS[request.mode]
    for earlier in request.lock.queue:
        if earlier is request:
            return
        if earlier.mode & mask:
            yield earlier.owner


LOCKTYPES: Final[dict[type, str]] = {
    int: "relation",
    tuple: "advisory",
    CatalogResource: "object",
}
"""What pg_locks calls the resources that it shows as they are."""


def tuple_place(key: bytes) -> tuple[int, int]:
    """Return a (page, tuple) that stands for a key: the same for all who ask, others rarely."""
    page, number = _PLACE.unpack(blake2b(key, digest_size=_PLACE.size).digest())
    return page >> 1, number % 0x7FFF + 1


def advisory_place(resource: Hashable) -> tuple[int, int, int, int]:
    """Return (database, classid, objid, objsubid) of an advisory lock's resource."""
    assert isinstance(resource, tuple)
    database_id, *key = resource[1:]
    if len(key) == 1:
        return database_id, (key[0] >> 32) & 0xFFFFFFFF, key[0] & 0xFFFFFFFF, 1
    return database_id, key[0] & 0xFFFFFFFF, key[1] & 0xFFFFFFFF, 2


def described(request: LockRequest, names: LockNames, blocker: LockOwner | None = None) -> str:
    """Say what a request waits for, as in ``ShareLock on transaction 745``.

    Of several to wait for, it is ``blocker``.
    """
    wait = wait_of(request, names)
    resource = request.lock.resource
    database_id = names.database_id(request.owner)
    if isinstance(resource, bytes):
        holds = blocker is not None and blocker in request.lock.holders
        if wait.locktype == "tuple" and not holds:
            page, number = tuple_place(resource)
            relation_id = names.relation(resource)[0]
            place = f"tuple ({page},{number}) of relation {relation_id} of database {database_id}"
            return f"{wait.mode} on {place}"
    if wait.locktype == "advisory":
        return f"{wait.mode} on advisory lock [{','.join(map(str, advisory_place(resource)))}]"
    if wait.locktype == "relation":
        return f"{wait.mode} on relation {resource} of database {database_id}"
    if wait.locktype == "object" and isinstance(resource, CatalogResource):
        return f"{wait.mode} on object {resource.number} of database {database_id}"
    return f"ShareLock on transaction {(blocker or wait.other).started}"


def context_of(request: LockRequest, names: LockNames) -> str:
    """Return the CONTEXT of an error that ends the wait, "" where PostgreSQL gives none."""
    key = request.lock.resource
    if not isinstance(key, bytes) or wait_of(request, names).locktype != "transactionid":
        return ""
    page, number = tuple_place(key)
    relation = names.relation(key)[1]
    if not relation:
        return ""
    doing = f"{request.purpose} tuple" if names.is_row(key) else "inserting index tuple"
    return f'while {doing} ({page},{number}) in relation "{relation}"'


def deadlock_error(
    cycle: list[LockRequest], victim: LockRequest, names: LockNames
) -> DeadlockDetected:
    """Return the error of a cycle's victim, who is named first."""
    start = cycle.index(victim)
    ring = cycle[start:] + cycle[:start]
    lines = []
    for position, request in enumerate(ring):
        blocker = ring[(position + 1) % len(ring)].owner
        lines.append(
            f"Process {request.owner.deadlock_name} waits for "
            f"{described(request, names, blocker)}; "
            f"blocked by process {blocker.deadlock_name}."
        )
    return DeadlockDetected(
        "deadlock detected",
        detail="\n".join(lines),
        hint="See server log for query details.",
        where=context_of(victim, names),
    )
