"""How far an index build is: what ``pg_stat_progress_create_index`` shows.

Source: PostgreSQL docs, "CREATE INDEX Progress Reporting", for columns and names of phases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.catalog.descriptor import Database, Schema

if TYPE_CHECKING:
    from sql.catalog.descriptor import Table
    from sql.catalog.snapshot import CatalogSnapshot
    from sql.types.base import Row

INITIALIZING: Final = "initializing"
WAITING_FOR_WRITERS: Final = "waiting for writers before build"
WAITING_FOR_VALIDATION: Final = "waiting for writers before validation"
SCANNING_TABLE: Final = "building index: scanning table"
BLOCK_BYTES: Final = 8192
ROW_BYTES: Final = 64
"""What a row is taken to need, as ``pg_relation_size`` does."""


class Progress:
    """One build's counters, read while it runs."""

    __slots__ = (
        "command",
        "current_locker",
        "index_id",
        "lockers_done",
        "lockers_total",
        "phase",
        "process_id",
        "row_count",
        "table_id",
    )

    def __init__(self, process_id: int, table_id: int, index_id: int, command: str) -> None:
        self.process_id = process_id
        self.table_id = table_id
        self.index_id = index_id
        self.command = command
        self.phase = INITIALIZING
        self.row_count = 0
        self.lockers_total = 0
        self.lockers_done = 0
        self.current_locker = 0

    def begin_phase(self, phase: str) -> None:
        """Enter a phase; the count of lockers belongs to one."""
        self.phase = phase
        self.lockers_total = self.lockers_done = self.current_locker = 0

    def row(self, snapshot: CatalogSnapshot) -> Row:
        """Return the view's row."""
        table = snapshot.table(self.table_id)
        database = _database_of(snapshot, table)
        total = 0
        if table is not None and table.statistics is not None:
            total = max(table.statistics.rows, self.row_count)
        return (
            self.process_id,
            0 if database is None else database.id,
            None if database is None else database.name,
            self.table_id,
            self.index_id,
            self.command,
            self.phase,
            self.lockers_total,
            self.lockers_done,
            self.current_locker,
            _blocks(total),
            _blocks(self.row_count),
            total,
            self.row_count,
            0,
            0,
        )


def _blocks(row_count: int) -> int:
    return -(-row_count * ROW_BYTES // BLOCK_BYTES)


def _database_of(snapshot: CatalogSnapshot, table: Table | None) -> Database | None:
    schema = None if table is None else snapshot.get(table.schema_id)
    database = snapshot.get(schema.database_id) if isinstance(schema, Schema) else None
    return database if isinstance(database, Database) else None
