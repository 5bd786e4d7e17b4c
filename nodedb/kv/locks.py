"""The lock table: who may change what, until its transaction ends. Memory of the leader, volatile by design.

One table serves rows (resource: the row's key as ``bytes``), tables (table id as ``int``) and advisory locks (``tuple``). Modes are
bits; each mode has a mask of the modes it conflicts with (PostgreSQL docs, "Explicit Locking", tables 13.2 and 13.3).

Fair queues: a request waits behind earlier waiters it conflicts with, unless its owner already holds a lock on the
resource (an upgrade goes first, or it would wait for those who wait for itself). An uncontended exclusive row
lock is one dictionary entry, because bulk writes take millions. Deadlocks are looked for when somebody starts to
wait: the waits-for graph is local, so the search is exact and immediate; the youngest of the cycle is the victim.

Losing this table costs aborts, never correctness: commit validates (ARCHITECTURE section 7).
"""

from collections.abc import Hashable, Iterator
from typing import Final, Protocol

from nodedb.waiter import Waiter
from sql.errors import DeadlockDetected

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
    SHARE_UPDATE_EXCLUSIVE: SHARE_UPDATE_EXCLUSIVE | SHARE | SHARE_ROW_EXCLUSIVE | EXCLUSIVE | ACCESS_EXCLUSIVE,
    SHARE: ROW_EXCLUSIVE | SHARE_UPDATE_EXCLUSIVE | SHARE_ROW_EXCLUSIVE | EXCLUSIVE | ACCESS_EXCLUSIVE,
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


class LockOwner(Protocol):
    """Whoever holds locks: a transaction, or a session for session-level advisory locks.

    ``started`` orders owners by age (larger is younger). ``held`` lists what to release at the end.
    ``waiting`` is set by the table while the owner waits.
    """

    started: int
    held: list[Hashable]
    waiting: "LockRequest | None"
    deadlock_name: str


class LockRequest:
    """One owner's place in a queue."""

    __slots__ = ("lock", "mode", "owner", "waiter")

    def __init__(self, owner: LockOwner, lock: "Lock", mode: int) -> None:
        self.owner = owner
        self.lock = lock
        self.mode = mode
        self.waiter: Waiter[None] = Waiter()


class Lock:
    """Holders (owner to mode bits) and the queue of one contended or shared resource."""

    __slots__ = ("holders", "queue", "resource")

    def __init__(self, resource: Hashable) -> None:
        self.resource = resource
        self.holders: dict[LockOwner, int] = {}
        self.queue: list[LockRequest] = []

    def blockers(self, owner: LockOwner, mode: int, before: LockRequest | None) -> Iterator[LockOwner]:
        """Yield those ``owner`` has to wait for: conflicting holders, then conflicting earlier waiters."""
        mask = CONFLICTS[mode]
        for holder, held in self.holders.items():
            if holder is not owner and held & mask:
                yield holder
        if owner in self.holders:
            return
        for request in self.queue:
            if request is before:
                return
            if request.owner is not owner and request.mode & mask:
                yield request.owner


class LockTable:
    """All locks of one node's groups."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, LockOwner | Lock] = {}

    def try_acquire(self, owner: LockOwner, resource: Hashable, mode: int) -> bool:
        """Take the lock if nobody stands in the way; the hot path of every write."""
        locks = self._locks
        current = locks.get(resource)
        if current is None:
            if mode == ROW_UPDATE:
                locks[resource] = owner
            else:
                lock = locks[resource] = Lock(resource)
                lock.holders[owner] = mode
            owner.held.append(resource)
            return True
        if current is owner:
            return True
        lock = current if current.__class__ is Lock else self._inflate(resource, current)  # type: ignore[assignment,arg-type]
        held = lock.holders.get(owner, 0)
        if held & mode:
            return True
        for _ in lock.blockers(owner, mode, None):
            return False
        self._grant(lock, owner, mode)
        return True

    def enqueue(self, owner: LockOwner, resource: Hashable, mode: int) -> Waiter[None]:
        """Queue for a lock that ``try_acquire`` refused; the waiter completes when it is granted.

        Raises DeadlockDetected (40P01) at once when this owner is the youngest of a cycle it has just closed; when
        another is, that one's waiter gets the error. Cancelling: complete the waiter with an error, then ``forget``.
        """
        current = self._locks[resource]
        lock = current if isinstance(current, Lock) else self._inflate(resource, current)
        request = LockRequest(owner, lock, mode)
        if owner in lock.holders:
            lock.queue.insert(0, request)
        else:
            lock.queue.append(request)
        owner.waiting = request
        self._break_deadlocks(owner)
        return request.waiter

    def forget(self, owner: LockOwner) -> None:
        """Leave the queue after a timeout, a cancellation or a deadlock."""
        request = owner.waiting
        if request is None:
            return
        owner.waiting = None
        lock = request.lock
        if request in lock.queue:
            lock.queue.remove(request)
            self._grant_waiters(lock)

    def release_all(self, owner: LockOwner) -> None:
        """Release everything the owner holds and wake whoever can go on."""
        held = owner.held
        if not held:
            return
        owner.held = []
        locks = self._locks
        contended: list[Lock] = []
        for resource in held:
            current = locks.get(resource)
            if current is owner:
                del locks[resource]
            elif current is not None and isinstance(current, Lock) and current.holders.pop(owner, 0):
                contended.append(current)
        for lock in contended:
            self._grant_waiters(lock)

    def release_since(self, owner: LockOwner, mark: int) -> None:
        """Release what was first taken after ``held`` had ``mark`` entries (ROLLBACK TO SAVEPOINT)."""
        kept, owner.held = owner.held[:mark], owner.held[mark:]
        self.release_all(owner)
        owner.held = kept

    def release(self, owner: LockOwner, resource: Hashable, mode: int) -> bool:
        """Release one mode on one resource (advisory unlock); False if it was not held."""
        current = self._locks.get(resource)
        if not isinstance(current, Lock) or not current.holders.get(owner, 0) & mode:
            return False
        current.holders[owner] &= ~mode
        if not current.holders[owner]:
            del current.holders[owner]
            owner.held.remove(resource)
        self._grant_waiters(current)
        return True

    def blocking_owners(self, owner: LockOwner) -> list[LockOwner]:
        """Return whom this owner waits for right now."""
        request = owner.waiting
        return [] if request is None else list(request.lock.blockers(owner, request.mode, request))

    def entries(self) -> Iterator[tuple[Hashable, LockOwner, int, bool]]:
        """Yield (resource, owner, mode bits, granted) for pg_locks."""
        for resource, current in self._locks.items():
            if not isinstance(current, Lock):
                yield resource, current, ROW_UPDATE, True
                continue
            for holder, mode in current.holders.items():
                yield resource, holder, mode, True
            for request in current.queue:
                yield resource, request.owner, request.mode, False

    def __len__(self) -> int:
        return len(self._locks)

    def _inflate(self, resource: Hashable, holder: LockOwner) -> Lock:
        """Turn the compact form (one exclusive row lock) into a Lock."""
        lock = Lock(resource)
        lock.holders[holder] = ROW_UPDATE
        self._locks[resource] = lock
        return lock

    def _grant(self, lock: Lock, owner: LockOwner, mode: int) -> None:
        held = lock.holders.get(owner, 0)
        if not held:
            owner.held.append(lock.resource)
        lock.holders[owner] = held | mode

    def _grant_waiters(self, lock: Lock) -> None:
        """Grant from the front while nothing earlier conflicts; resume after the queue is consistent."""
        granted: list[LockRequest] = []
        for request in list(lock.queue):
            if request.waiter.done:
                continue
            if any(True for _ in lock.blockers(request.owner, request.mode, request)):
                continue
            lock.queue.remove(request)
            request.owner.waiting = None
            self._grant(lock, request.owner, request.mode)
            granted.append(request)
        if not lock.holders and not lock.queue:
            self._locks.pop(lock.resource, None)
        for request in granted:
            request.waiter.set_result(None)

    def _break_deadlocks(self, owner: LockOwner) -> None:
        """Find a cycle through ``owner`` and fail its youngest member; again until there is none."""
        while (cycle := self._find_cycle(owner)) is not None:
            victim = max(cycle, key=lambda member: member.started)
            request = victim.waiting
            assert request is not None, "a member of a cycle waits"
            error = _deadlock_error(cycle)
            if victim is owner:
                self.forget(owner)
                raise error
            self.forget(victim)
            request.waiter.set_error(error)

    def _find_cycle(self, start: LockOwner) -> list[LockOwner] | None:
        """Depth-first search of the waits-for graph from ``start``, without recursion."""
        path: list[LockOwner] = [start]
        stack: list[Iterator[LockOwner]] = [iter(self.blocking_owners(start))]
        visited: set[int] = {id(start)}
        while stack:
            for blocker in stack[-1]:
                if blocker is start:
                    return path
                if id(blocker) not in visited and blocker.waiting is not None:
                    visited.add(id(blocker))
                    path.append(blocker)
                    stack.append(iter(self.blocking_owners(blocker)))
                    break
            else:
                stack.pop()
                path.pop()
        return None


def _deadlock_error(cycle: list[LockOwner]) -> DeadlockDetected:
    lines = []
    for position, member in enumerate(cycle):
        request = member.waiting
        assert request is not None, "a member of a cycle waits"
        blocker = cycle[(position + 1) % len(cycle)]
        lines.append(
            f"Process {member.deadlock_name} waits for {MODE_NAMES[request.mode]}; "
            f"blocked by process {blocker.deadlock_name}."
        )
    return DeadlockDetected(
        "deadlock detected", detail="\n".join(lines), hint="See server log for query details."
    )
