"""All schema changes under way on a node: begun by statements, resumed at its start.

A statement ``prepare``s a build in the turn in which its transaction locks the table and commits
the new index with the build's record; then it ``start``s it. At the node's start ``resume`` finds
the records that are left: builds go on from there with nobody to answer to, whether their client
asked for CONCURRENTLY or not (nobody was told that the statement failed, and the index is wanted),
and what a removed index left behind is cleared.

A resumed build that fails does what the statement would have done, and says so in the log.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from nodedb.kv.keys import index_prefix
from nodedb.kv.locks import SHARE_UPDATE_EXCLUSIVE
from nodedb.schema_change.build import BuildServices, CleanupFailed, IndexBuild, Stopped
from nodedb.schema_change.lockers import wait_for_lockers
from nodedb.schema_change.progress import Progress
from nodedb.schema_change.records import (
    BuildRecord,
    all_builds,
    all_clears,
    clear_key,
    write_record,
)
from nodedb.waiter import Interrupts, Runner
from sql.errors import InternalError, SqlError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from sql.types.base import Row

RETRY_SECONDS: Final = 10.0
_LOGGER: Final = logging.getLogger("nodedb.schema_change")


class SchemaChanges:
    """The builds of one node."""

    def __init__(self, services: BuildServices, next_process_id: Callable[[], int]) -> None:
        """``next_process_id`` numbers the builds that belong to no session."""
        self._services = services
        self._next_process_id = next_process_id
        self._builds: dict[int, IndexBuild] = {}
        self._clearing: dict[tuple[int, int], Interrupts] = {}
        self._shown: list[Progress] = []
        self._is_stopping = False

    # Builds

    def prepare(
        self, index_oid: int, record: BuildRecord, process_id: int, lock_timeout_ms: int
    ) -> IndexBuild:
        """Make a session's build and lock its table; the session's transaction has locked it."""
        build = IndexBuild(
            self._services, index_oid, record, process_id, lock_timeout_ms=lock_timeout_ms
        )
        is_locked = build.take_lock()
        assert is_locked, "a session is not in its own way"
        return build

    def start(self, build: IndexBuild) -> None:
        """Run a build whose index and record are committed."""
        self._builds[build.index_oid] = build
        self.show(build.progress)
        self._run(build.run(), partial(self._on_end, build))

    def _run(
        self, coroutine: Coroutine[Any, Any, None], on_end: Callable[[BaseException | None], None]
    ) -> None:
        Runner(coroutine, on_end).step()

    def _on_end(self, build: IndexBuild, error: BaseException | None) -> None:
        del self._builds[build.index_oid]
        self.hide(build.progress)
        name = f"{build.record.command} on table {build.table_id}: index {build.index_oid}"
        outcome = error
        match error:
            case None:
                _LOGGER.info("%s is complete, %d rows", name, build.progress.row_count)
            case Stopped():
                outcome = InternalError("the node stops")
            case CleanupFailed():
                _LOGGER.warning(
                    "%s cannot go on now, again in %.0f s: %s", name, RETRY_SECONDS, error
                )
                outcome = build.failure
                failure = build.failure
                self._services.schedule.later(
                    RETRY_SECONDS,
                    lambda: self._resume_build(build.index_oid, build.record, failure),
                )
            case SqlError():
                left = "stays invalid" if build.record.keeps_invalid else "is removed"
                # A statement's client is told; otherwise the log is all there is.
                level = logging.WARNING if build.is_unattended else logging.INFO
                _LOGGER.log(level, "%s %s, its build failed: %s", name, left, error)
            case _:
                _LOGGER.critical("%s: the build ended unexpectedly", name, exc_info=error)
                outcome = InternalError(f"index build ended unexpectedly: {error!r}")
        build.finish(outcome)
        self._clear_what_is_left()

    def resume(self) -> None:
        """Go on with what an earlier run of the node has left; nobody is connected yet."""
        for index_oid, record in all_builds(self._services.transactions.group).items():
            _LOGGER.info(
                "resuming %s on table %d: index %d after %d rows",
                record.command,
                record.table_id,
                index_oid,
                record.row_count,
            )
            self._resume_build(index_oid, record, None)
        self._clear_what_is_left()

    def _resume_build(self, index_oid: int, record: BuildRecord, failure: SqlError | None) -> None:
        if self._is_stopping or index_oid in self._builds:
            return
        process_id = self._next_process_id()
        build = IndexBuild(self._services, index_oid, record, process_id, failure=failure)
        self._builds[index_oid] = build
        self.show(build.progress)
        self._run(self._run_locked(build), partial(self._on_end, build))

    async def _run_locked(self, build: IndexBuild) -> None:
        """Run a build of no session, once it has the table's lock."""
        if not build.take_lock():
            waiter = self._services.transactions.locks.enqueue(
                build.owner, build.table_id, SHARE_UPDATE_EXCLUSIVE
            )
            await build.interrupts.wait(waiter)
        await build.run()

    # What removed indexes leave

    def _clear_what_is_left(self) -> None:
        """Begin to remove the entries of indexes that are no more."""
        for place, record in all_clears(self._services.transactions.group).items():
            if place in self._clearing or self._is_stopping:
                continue
            interrupts = self._clearing[place] = Interrupts()
            self._run(
                self._clear(place, record.table_id, interrupts),
                partial(self._on_cleared, place),
            )

    async def _clear(self, place: tuple[int, int], table_id: int, interrupts: Interrupts) -> None:
        """Remove an index's entries when nobody is left who may make more."""
        manager = self._services.transactions
        process_id = self._next_process_id()
        progress = Progress(process_id, table_id, 0, "")
        await wait_for_lockers(manager.locks, self._services.schedule, interrupts, progress)
        transaction = manager.begin(process_id, interrupts)
        transaction.cleared.append(index_prefix(*place))
        write_record(transaction, clear_key(*place), None)
        await manager.commit(transaction)

    def _on_cleared(self, place: tuple[int, int], error: BaseException | None) -> None:
        del self._clearing[place]
        if error is None or isinstance(error, Stopped):
            return
        _LOGGER.warning(
            "entries of index %d in storage %d cannot be cleared now, again in %.0f s: %s",
            place[1],
            place[0],
            RETRY_SECONDS,
            error,
        )
        self._services.schedule.later(RETRY_SECONDS, self._clear_what_is_left)

    def stop(self) -> None:
        """Leave everything as it is: the next start goes on with it."""
        self._is_stopping = True
        for build in list(self._builds.values()):
            build.interrupt(Stopped())
        for interrupts in list(self._clearing.values()):
            interrupts.interrupt(Stopped())

    # Progress

    def show(self, progress: Progress) -> None:
        """List a build, also one that runs within a transaction, until ``hide``."""
        self._shown.append(progress)

    def hide(self, progress: Progress) -> None:
        """List it no more."""
        self._shown.remove(progress)

    def rows(self) -> list[Row]:
        """Return the rows of ``pg_stat_progress_create_index``."""
        snapshot = self._services.metadata.catalog
        return [progress.row(snapshot) for progress in self._shown]
