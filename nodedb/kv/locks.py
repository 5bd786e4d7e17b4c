"""The lock table: who may change what, until its transaction ends.

Memory of the leader, volatile by design.

One table serves rows (resource: the row's key as ``bytes``), tables (table id as ``int``), advisory
locks (``tuple``) and what DDL changes (``CatalogResource``). Modes are bits; each mode has a mask
of the modes it conflicts with (PostgreSQL docs, "Explicit Locking", tables 13.2 and 13.3).

Fair queues: a request waits behind earlier waiters it conflicts with, unless its session already
holds a lock on the resource (an upgrade goes first, or it would wait for those who wait for
itself). An uncontended exclusive row lock is one dictionary entry, because bulk writes take
millions. Deadlocks are looked for when somebody starts to wait: the waits-for graph is local, so
the search is exact and immediate; the youngest of the cycle is the victim.

A session has two owners, its transaction and itself (session-level advisory locks). They carry the
same ``deadlock_name``, never conflict with each other, and are one node of the waits-for graph:
what one holds the other may wait behind.

Losing this table costs aborts, never correctness: commit validates (ARCHITECTURE section 7).
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from nodedb.waiter import Waiter

ROW_KEY_SHARE: Final = 1
ROW_SHARE_LOCK: Final = 2
ROW_NO_KEY_UPDATE: Final = 4
ROW_UPDATE: Final = 8

ACCESS_SHARE: Final = 1 << 4
ROW_SHARE: Final = 1 << 5
ROW_EXCLUSIVE: Final = 1 << 6
SHARE_UPDATE_EXCLUSIVE: Final = 1 << 7
SHARE: Final = 1 << 8
SHARE_ROW_EXCLUSIVE: Final = 1 << 9
EXCLUSIVE: Final = 1 << 10
ACCESS_EXCLUSIVE: Final = 1 << 11

ADVISORY_SHARE: Final = 1 << 12
ADVISORY_EXCLUSIVE: Final = 1 << 13

CONFLICTS: Final[dict[int, int]] = {
    ROW_KEY_SHARE: ROW_UPDATE,
    ROW_SHARE_LOCK: ROW_NO_KEY_UPDATE | ROW_UPDATE,
    ROW_NO_KEY_UPDATE: ROW_SHARE_LOCK | ROW_NO_KEY_UPDATE | ROW_UPDATE,
    ROW_UPDATE: ROW_KEY_SHARE | ROW_SHARE_LOCK | ROW_NO_KEY_UPDATE | ROW_UPDATE,
    ACCESS_SHARE: ACCESS_EXCLUSIVE,
    ROW_SHARE: EXCLUSIVE | ACCESS_EXCLUSIVE,
    ROW_EXCLUSIVE: SHARE | SHARE_ROW_EXCLUSIVE | EXCLUSIVE | ACCESS_EXCLUSIVE,
    SHARE_UPDATE_EXCLUSIVE: SHARE_UPDATE_EXCLUSIVE
    | SHARE
    | SHARE_ROW_EXCLUSIVE
    | EXCLUSIVE
    | ACCESS_EXCLUSIVE,
    SHARE: ROW_EXCLUSIVE
    | SHARE_UPDATE_EXCLUSIVE
    | SHARE_ROW_EXCLUSIVE
    | EXCLUSIVE
    | ACCESS_EXCLUSIVE,
    SHARE_ROW_EXCLUSIVE: ROW_EXCLUSIVE
    | SHARE_UPDATE_EXCLUSIVE
    | SHARE
    | SHARE_ROW_EXCLUSIVE
    | EXCLUSIVE
    | ACCESS_EXCLUSIVE,
    EXCLUSIVE: ROW_SHARE
    | ROW_EXCLUSIVE
    | SHARE_UPDATE_EXCLUSIVE
    | SHARE
    | SHARE_ROW_EXCLUSIVE
    | EXCLUSIVE
    | ACCESS_EXCLUSIVE,
    ACCESS_EXCLUSIVE: 0xFF0,
    ADVISORY_SHARE: ADVISORY_EXCLUSIVE,
    ADVISORY_EXCLUSIVE: ADVISORY_SHARE | ADVISORY_EXCLUSIVE,
}

MODE_NAMES: Final[dict[int, str]] = {
    ROW_KEY_SHARE: "RowKeyShareLock",
    ROW_SHARE_LOCK: "RowShareLock",
    ROW_NO_KEY_UPDATE: "RowNoKeyUpdateLock",
    ROW_UPDATE: "RowUpdateLock",
    ACCESS_SHARE: "AccessShareLock",
    ROW_SHARE: "RowShareLock",
    ROW_EXCLUSIVE: "RowExclusiveLock",
    SHARE_UPDATE_EXCLUSIVE: "ShareUpdateExclusiveLock",
    SHARE: "ShareLock",
    SHARE_ROW_EXCLUSIVE: "ShareRowExclusiveLock",
    EXCLUSIVE: "ExclusiveLock",
    ACCESS_EXCLUSIVE: "AccessExclusiveLock",
    ADVISORY_SHARE: "ShareLock",
    ADVISORY_EXCLUSIVE: "ExclusiveLock",
}


_BULK_KEYS: Final = 1024


@dataclass(frozen=True, slots=True)
class CatalogResource:
    """A name or a descriptor of the catalog, which DDL locks (``nodedb.catalog.claims``).

    ``kind`` "object": ``number`` is the descriptor's id. Else ``name`` is one, of this kind and
    within the object ``number``.
    """

    kind: str
    number: int
    name: str = ""


class LockOwner(Protocol):
    """Whoever holds locks: a transaction, or a session for session-level advisory locks.

    ``started`` orders owners by age (larger is younger). ``held`` lists what to release at the end,
    each resource once, and in between when a lock was strengthened. ``waiting`` is set by the table
    while the owner waits. ``deadlock_name`` is the process id: the same for both owners of a
    session, of which at most one waits at a time.
    ``is_expendable``: whatever its age, it is the victim of a deadlock rather than others, because
    it works on nobody's behalf whose work could be lost.
    """

    started: int
    is_expendable: bool
    held: list[Hashable]
    waiting: "LockRequest | None"
    deadlock_name: str


class LockNames(Protocol):
    """What the lock table does not know of what it locks; for messages and pg_locks only."""

    def database_id(self, owner: LockOwner) -> int:
        """Return the database of the owner's session, 0 when the session is gone."""

    def relation(self, key: bytes) -> tuple[int, str]:
        """Return (table's OID, table's or unique index's name) of a key; (0, "") if unknown."""

    def is_row(self, key: bytes) -> bool:
        """Tell whether a key is that of a row that is there."""


class _NoNames:
    """Stands in where nobody has said what the keys mean."""

    def database_id(self, owner: LockOwner) -> int:
        del owner
        return 0

    def relation(self, key: bytes) -> tuple[int, str]:
        del key
        return 0, ""

    def is_row(self, key: bytes) -> bool:
        del key
        return True


class LockRequest:
    """One owner's place in a queue.

    ``ticket`` grows with arrival; upgrades stand in front whatever theirs is. ``since_us`` is the
    wall clock and ``purpose`` what is done to a row that way ("updating"), both for who looks on.
    """

    __slots__ = ("is_upgrade", "lock", "mode", "owner", "purpose", "since_us", "ticket", "waiter")

    def __init__(
        self, owner: LockOwner, lock: "Lock", mode: int, ticket: int, *, is_upgrade: bool
    ) -> None:
        self.owner = owner
        self.lock = lock
        self.mode = mode
        self.ticket = ticket
        self.is_upgrade = is_upgrade
        self.since_us = 0
        self.purpose = "locking"
        self.waiter: Waiter[None] = Waiter()


class Lock:
    """Holders (owner to mode bits) and the queue of one contended or shared resource.

    ``modes`` covers every bit held, and maybe some that no longer are: releasing leaves it alone.
    ``waiting_modes`` is that for the queue, until it is empty.
    """

    __slots__ = ("holders", "modes", "queue", "resource", "waiting_modes")

    def __init__(self, resource: Hashable) -> None:
        self.resource = resource
        self.holders: dict[LockOwner, int] = {}
        self.modes = 0
        self.waiting_modes = 0
        self.queue: list[LockRequest] = []

    def is_held_by(self, name: str) -> bool:
        """Tell whether an owner of this session holds it in any mode."""
        return any(holder.deadlock_name == name for holder in self.holders)

    def is_free(self, owner: LockOwner, mode: int) -> bool:
        """Tell whether nobody stands in the way of a request that is not queued."""
        mask = CONFLICTS[mode]
        if not self.modes & mask and not self.queue:
            return True
        self.modes = 0
        for held in self.holders.values():
            self.modes |= held
        return next(self.blockers(owner, mode, None), None) is None

    def blockers(
        self, owner: LockOwner, mode: int, before: LockRequest | None
    ) -> Iterator[LockOwner]:
        """Yield those ``owner`` has to wait for.

        Conflicting holders, then conflicting earlier waiters.
        """
        mask = CONFLICTS[mode]
        name = owner.deadlock_name
        is_holder = False
        for holder, held in self.holders.items():
            if holder.deadlock_name == name:
                is_holder = True
            elif held & mask:
                yield holder
        if is_holder:
            return
        for request in self.queue:
            if request is before:
                return
            if request.mode & mask and request.owner.deadlock_name != name:
                yield request.owner


class _Strengthened:
    """An entry of ``LockOwner.held``: a lock got another mode, and ``before`` had these.

    It stands for no resource of its own: releasing everything passes over it.
    """

    __slots__ = ("before", "lock")

    def __init__(self, lock: Lock, before: int) -> None:
        self.lock = lock
        self.before = before


class LockTable:
    """All locks of one node's groups."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, LockOwner | Lock] = {}
        self._queued: dict[Hashable, Lock] = {}
        self._waiting: dict[str, LockRequest] = {}
        self._next_ticket = 1
        self.names: LockNames = _NoNames()
        self.deadlocks: dict[int, int] = {}
        """How many there were so far, by the victim's database."""

    def try_acquire(self, owner: LockOwner, resource: Hashable, mode: int) -> bool:
        """Take the lock if nobody stands in the way; the hot path of every write."""
        locks = self._locks
        current = locks.get(resource)
        if current is None:
            if mode == ROW_UPDATE:
                locks[resource] = owner
            else:
                lock = locks[resource] = Lock(resource)
                lock.holders[owner] = lock.modes = mode
            owner.held.append(resource)
            return True
        if current is owner:
            return True
        lock = current if current.__class__ is Lock else self._inflate(resource, current)  # type: ignore[arg-type]
        if lock.holders.get(owner, 0) & mode:
            return True
        if not lock.is_free(owner, mode):
            return False
        self._grant(lock, owner, mode)
        return True

    def is_free(self, resource: Hashable, mode: int) -> bool:
        """Tell whether anybody could take the lock now; it may be, though told otherwise.

        For a read that is over in this very turn, and needs no lock if this one would be granted.
        """
        current = self._locks.get(resource)
        if current is None:
            return True
        return (
            isinstance(current, Lock) and not current.modes & CONFLICTS[mode] and not current.queue
        )

    def claim(self, owner: LockOwner, key: bytes) -> bool:
        """Take an exclusive row lock, as ``try_acquire``.

        The shortest way for keys nobody has locked.
        """
        locks = self._locks
        if key not in locks:
            locks[key] = owner
            owner.held.append(key)
            return True
        return locks[key] is owner or self.try_acquire(owner, key, ROW_UPDATE)

    def claim_all(self, owner: LockOwner, keys: Sequence[bytes]) -> bool:
        """Take exclusive row locks on keys that nobody has locked, the owner included.

        False, and none is taken, when there is one.
        """
        locks = self._locks
        if not locks.keys().isdisjoint(keys):
            return False
        locks.update(dict.fromkeys(keys, owner))
        owner.held += keys
        return True

    def holds(self, owner: LockOwner, resource: Hashable, mode: int) -> bool:
        """Tell whether the owner holds a resource in a mode."""
        current = self._locks.get(resource)
        return isinstance(current, Lock) and bool(current.holders.get(owner, 0) & mode)

    def holders(self, resource: Hashable, mode: int) -> list[LockOwner]:
        """Return who holds a resource in a mode that conflicts with this one."""
        current = self._locks.get(resource)
        if current is None:
            return []
        if not isinstance(current, Lock):
            return [current] if ROW_UPDATE & CONFLICTS[mode] else []
        return [holder for holder, held in current.holders.items() if held & CONFLICTS[mode]]

    def waits_for(self, name: str, target: str) -> bool:
        """Tell whether a session waits for another one, directly or behind others."""
        visited = {name}
        pending = [name]
        while pending:
            request = self._waiting.get(pending.pop())
            if request is None:
                continue
            for blocker in request.lock.blockers(request.owner, request.mode, request):
                if blocker.deadlock_name == target:
                    return True
                if blocker.deadlock_name not in visited:
                    visited.add(blocker.deadlock_name)
                    pending.append(blocker.deadlock_name)
        return False

    def enqueue(
        self,
        owner: LockOwner,
        resource: Hashable,
        mode: int,
        *,
        purpose: str = "locking",
        now_us: int = 0,
    ) -> Waiter[None]:
        """Queue for a lock that ``try_acquire`` refused; the waiter completes when it is granted.

        Raises DeadlockDetected (40P01) at once when this owner is the youngest of a cycle it has
        just closed; when another is, that one's waiter gets the error. Cancelling: complete the
        waiter with an error, then ``forget``.
        """
        assert owner.deadlock_name not in self._waiting, "a session waits for one lock at a time"
        current = self._locks[resource]
        lock = current if isinstance(current, Lock) else self._inflate(resource, current)
        is_upgrade = lock.is_held_by(owner.deadlock_name)
        request = LockRequest(owner, lock, mode, self._next_ticket, is_upgrade=is_upgrade)
        request.purpose, request.since_us = purpose, now_us
        self._next_ticket += 1
        if is_upgrade:
            lock.queue.insert(0, request)
        else:
            lock.queue.append(request)
        lock.waiting_modes |= mode
        owner.waiting = request
        self._waiting[owner.deadlock_name] = request
        self._queued[resource] = lock
        if self._somebody_waits_for(owner):
            self._break_deadlocks(owner)
        return request.waiter

    def forget(self, owner: LockOwner) -> None:
        """Leave the queue after a timeout, a cancellation or a deadlock.

        Nothing when granted meanwhile.
        """
        request = owner.waiting
        if request is None:
            return
        self._leave(request)
        self._grant_waiters(request.lock)

    def release_all(self, owner: LockOwner) -> None:
        """Release everything the owner holds and wake whoever can go on."""
        if owner.held:
            held, owner.held = owner.held, []
            self._release(owner, held)

    def _release(self, owner: LockOwner, held: list[Hashable]) -> None:
        locks = self._locks
        if len(held) > _BULK_KEYS:
            held = self._release_plain(owner, held)
        contended: list[Lock] = []
        for resource in held:
            current = locks.get(resource)
            if current is owner:
                del locks[resource]
            elif (
                current is not None and isinstance(current, Lock) and current.holders.pop(owner, 0)
            ):
                if current.queue:
                    contended.append(current)
                elif not current.holders:
                    del locks[resource]
        for lock in contended:
            self._grant_waiters(lock)

    def _release_plain(self, owner: LockOwner, held: list[Hashable]) -> list[Hashable]:
        """Release stretches of uncontended row locks without a step per lock; return the rest."""
        locks = self._locks
        rest: list[Hashable] = []
        for start in range(0, len(held), _BULK_KEYS):
            part = held[start : start + _BULK_KEYS]
            if list(map(locks.get, part)).count(owner) == len(part):
                deque(map(locks.__delitem__, part), maxlen=0)
            else:
                rest += part
        return rest

    def release_since(self, owner: LockOwner, mark: int) -> None:
        """Release what was taken after ``held`` had ``mark`` entries (ROLLBACK TO SAVEPOINT).

        A lock taken before and strengthened since gets its old strength back.
        """
        released = owner.held[mark:]
        del owner.held[mark:]
        weakened: list[Lock] = []
        for entry in reversed(released):
            if entry.__class__ is _Strengthened:
                assert isinstance(entry, _Strengthened)
                entry.lock.holders[owner] = entry.before
                weakened.append(entry.lock)
        self._release(owner, released)
        for lock in weakened:
            if lock.queue:
                self._grant_waiters(lock)

    def release(self, owner: LockOwner, resource: Hashable, mode: int) -> bool:
        """Release one mode on one resource (advisory unlock); False if it was not held."""
        current = self._locks.get(resource)
        if not isinstance(current, Lock) or not current.holders.get(owner, 0) & mode:
            return False
        current.holders[owner] &= ~mode
        if not current.holders[owner]:
            del current.holders[owner]
            owner.held[:] = [
                entry
                for entry in owner.held
                if entry != resource
                and not (isinstance(entry, _Strengthened) and entry.lock is current)
            ]
        self._grant_waiters(current)
        return True

    def blocking_owners(self, owner: LockOwner) -> list[LockOwner]:
        """Return whom this owner waits for right now."""
        request = owner.waiting
        return [] if request is None else list(request.lock.blockers(owner, request.mode, request))

    def entries(self) -> Iterator[tuple[Hashable, LockOwner, int, bool]]:
        """Yield (resource, owner, mode bits, granted) of all that is held or waited for."""
        for resource, current in self._locks.items():
            if not isinstance(current, Lock):
                yield resource, current, ROW_UPDATE, True
                continue
            for holder, mode in current.holders.items():
                yield resource, holder, mode, True
            for request in current.queue:
                yield resource, request.owner, request.mode, False

    def waiting(self) -> list[LockRequest]:
        """Return the requests that are queued, in the order in which they began to wait."""
        return sorted(self._waiting.values(), key=_ticket)

    def request_of(self, name: str) -> LockRequest | None:
        """Return what a session waits for, None if it does not wait."""
        return self._waiting.get(name)

    def __len__(self) -> int:
        """Return the number of resources that somebody holds or waits for."""
        return len(self._locks)

    def _inflate(self, resource: Hashable, holder: LockOwner) -> Lock:
        """Turn the compact form (one exclusive row lock) into a Lock."""
        lock = Lock(resource)
        lock.holders[holder] = lock.modes = ROW_UPDATE
        self._locks[resource] = lock
        return lock

    def _grant(self, lock: Lock, owner: LockOwner, mode: int) -> None:
        held = lock.holders.get(owner, 0)
        owner.held.append(_Strengthened(lock, held) if held else lock.resource)
        lock.holders[owner] = held | mode
        lock.modes |= mode

    def _leave(self, request: LockRequest) -> None:
        """Take a request out of its queue, granted or given up."""
        lock = request.lock
        lock.queue.remove(request)
        if not lock.queue:
            lock.waiting_modes = 0
            del self._queued[lock.resource]
        request.owner.waiting = None
        del self._waiting[request.owner.deadlock_name]

    def _grant_waiters(self, lock: Lock) -> None:
        """Grant from the front while nothing earlier conflicts.

        Resume after the queue is consistent.
        """
        granted: list[LockRequest] = []
        in_line = lock.waiting_modes
        refused = 0
        for request in list(lock.queue):
            if not in_line & ~refused and not request.is_upgrade:
                break  # Whatever the others want: somebody before them stands in their way.
            if request.waiter.done:
                continue
            if next(lock.blockers(request.owner, request.mode, request), None) is not None:
                if not request.is_upgrade:
                    refused |= CONFLICTS[request.mode]
                continue
            self._leave(request)
            self._grant(lock, request.owner, request.mode)
            granted.append(request)
        if not lock.holders and not lock.queue:
            self._locks.pop(lock.resource, None)
        for request in granted:
            request.waiter.set_result(None)

    # Deadlocks

    def _somebody_waits_for(self, owner: LockOwner) -> bool:
        """Tell whether the session holds anything that others queue for.

        Without that there is no cycle.
        """
        name = owner.deadlock_name
        return any(lock.is_held_by(name) for lock in self._queued.values())

    def _break_deadlocks(self, owner: LockOwner) -> None:
        """Find a cycle through ``owner`` and fail its youngest member.

        Again until there is none.
        """
        from nodedb.kv.lock_waits import deadlock_error  # noqa: PLC0415  it is made of this module

        while owner.waiting is not None and (cycle := self._find_cycle(owner.waiting)) is not None:
            request = max(cycle, key=_age)
            database_id = self.names.database_id(request.owner)
            error = deadlock_error(cycle, request, self.names)
            self.deadlocks[database_id] = self.deadlocks.get(database_id, 0) + 1
            if request.owner is owner:
                self.forget(owner)
                raise error
            # First the error, then the place in the queue: leaving it may let others run at once.
            self._leave(request)
            request.waiter.set_error(error)
            self._grant_waiters(request.lock)

    def _find_cycle(self, start: LockRequest) -> list[LockRequest] | None:
        """Depth-first search of the waits-for graph from ``start``, without recursion.

        Of the requests of one mode in one queue an earlier one waits for no more than a later one
        does, so once the later has been looked at the earlier needs no look.
        """
        name = start.owner.deadlock_name
        path = [start]
        stack = [start.lock.blockers(start.owner, start.mode, start)]
        visited = {name}
        tickets: dict[tuple[int, int], int] = {}
        if not start.is_upgrade:
            tickets[id(start.lock), start.mode] = start.ticket
        while stack:
            for blocker in stack[-1]:
                if blocker.deadlock_name == name:
                    return path
                request = self._waiting.get(blocker.deadlock_name)
                if request is None or blocker.deadlock_name in visited:
                    continue
                visited.add(blocker.deadlock_name)
                if not request.is_upgrade:
                    place = (id(request.lock), request.mode)
                    if request.ticket <= tickets.get(place, 0):
                        continue
                    tickets[place] = request.ticket
                path.append(request)
                stack.append(request.lock.blockers(request.owner, request.mode, request))
                break
            else:
                stack.pop()
                path.pop()
        return None


def _ticket(request: LockRequest) -> int:
    return request.ticket


def _age(request: LockRequest) -> tuple[bool, int]:
    return request.owner.is_expendable, request.owner.started
