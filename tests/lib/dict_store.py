"""A ``Store`` over dictionaries.

One session, no concurrency, rows in memory, for tests of the executor.

``Statement``-level visibility is kept: a statement reads the rows as they were when it began
(``begin_statement``), ``current`` reads what is there now. Unique indexes are checked as
PostgreSQL words it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.catalog.descriptor import PRIMARY_INDEX_ID, Index, Table
from sql.errors import UniqueViolation
from sql.executor.store import KeySpan, LockedRow, TableAccess
from sql.types.compare import sort_key
from sql.types.io import text_output

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[Any, ...]


class _Unread:
    """Stands where nobody may look: whoever does gets no datum."""


_UNREAD = _Unread()


def _readable(row: Row, columns: frozenset[int] | None) -> Row:
    if columns is None:
        return row
    return tuple(value if n in columns else _UNREAD for n, value in enumerate(row))


class ListCursor:
    """A cursor over rows already chosen."""

    def __init__(self, rows: list[Row], first: int | None = None) -> None:
        self._rows = rows
        self._at = 0
        self._size = min(1024, first) if first else 1024

    async def next_batch(self) -> list[Row]:
        """Return the next rows."""
        batch = self._rows[self._at : self._at + self._size]
        self._at += len(batch)
        self._size = 1024
        return batch


class DictStore:
    """All tables by id: {clustering key: row}."""

    def __init__(self) -> None:
        self.tables: dict[int, dict[Row, Row]] = {}
        self.snapshots: dict[int, dict[Row, Row]] = {}
        self.written: set[tuple[int, Row]] = set()
        self.next_rowid = 1
        self.locked: list[tuple[str, Row, str]] = []
        self.interfere: dict[tuple[int, Row], Row | None] = {}
        """Rows that another transaction changes just before they are locked: {(table id, key): new row}."""
        self.scanned_rows = 0
        self.frozen = True

    def begin_statement(self) -> None:
        """Take the statement's snapshot."""
        self.snapshots = {table_id: dict(rows) for table_id, rows in self.tables.items()}
        self.written = set()

    def load(self, table: Table, rows: Sequence[Row]) -> None:
        """Fill a table; for preparing tests."""
        self.put(TableAccess(table), rows)
        self.begin_statement()

    # Reading.

    def _rows(self, table: Table) -> dict[Row, Row]:
        return self.snapshots.get(table.id, {})

    async def get(self, table: Table, key: Row) -> Row | None:
        return self._rows(table).get(key)

    async def get_many(self, table: Table, keys: Sequence[Row]) -> list[Row | None]:
        rows = self._rows(table)
        return [rows.get(key) for key in keys]

    def scan(
        self,
        table: Table,
        spans: Any = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        columns: frozenset[int] | None = None,
    ) -> ListCursor:
        entries = [
            (key_of(table, row), _readable(row, columns)) for row in self._rows(table).values()
        ]
        rules = [(sort_key(table.columns[p].type), False, False) for p in table.clustering_key]
        return self._cursor(entries, rules, spans, reverse, limit)

    def scan_index(
        self,
        access: TableAccess,
        index_id: int,
        spans: Any = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        columns: frozenset[int] | None = None,
    ) -> ListCursor:
        entries = [
            (key, _readable(row, columns))
            for key, row in self._entries(access, index_id, self._rows(access.table))
        ]
        return self._cursor(
            entries,
            index_rules(access.table, find_index(access.table, index_id)),
            spans,
            reverse,
            limit,
        )

    def _entries(
        self, access: TableAccess, index_id: int, rows: dict[Row, Row]
    ) -> list[tuple[Row, Row]]:
        found = []
        for row in rows.values():
            key = entry_key(access, index_id, row)
            if key is not None:
                found.append((key, row))
        return found

    def _cursor(
        self, entries: Any, rules: Any, spans: Any, reverse: bool, limit: int | None
    ) -> ListCursor:
        keyed = sorted(
            ((index_order(key, rules), key, row) for key, row in entries),
            key=lambda entry: entry[0],
        )
        if spans is not None:
            chosen = []
            for span in spans:
                chosen += [entry for entry in keyed if in_span(entry[0], span, rules)]
            keyed = chosen
        rows = [row for _, _, row in keyed]
        self.scanned_rows += len(rows)
        return ListCursor(rows[::-1] if reverse else rows, limit)

    async def get_by_index(
        self, access: TableAccess, index_id: int, keys: Sequence[Row]
    ) -> list[list[Row]]:
        result = []
        entries = self._entries(access, index_id, self._rows(access.table))
        for wanted in keys:
            result.append([row for key, row in entries if key[: len(wanted)] == wanted])  # noqa: PERF401
        return result

    async def row_count(self, table: Table) -> int:
        return len(self._rows(table))

    # Writing.

    async def lock(
        self, table: Table, rows: Sequence[Row], strength: Any, wait: Any, purpose: str = "locking"
    ) -> list[LockedRow]:
        del wait, purpose
        result = []
        for row in rows:
            key = key_of(table, row)
            self.locked.append((table.name, key, strength))
            if (table.id, key) in self.interfere:
                newest = self.interfere.pop((table.id, key))
                if newest is None:
                    self.tables[table.id].pop(key, None)
                else:
                    self.tables[table.id][key] = newest
                result.append(LockedRow(newest, changed=True))
                continue
            newest = self.tables.get(table.id, {}).get(key)
            result.append(LockedRow(newest, changed=newest != row))
        return result

    def put(self, access: TableAccess, rows: Sequence[Row]) -> None:
        table = access.table
        stored = self.tables.setdefault(table.id, {})
        for row in rows:
            row = self.with_rowid(table, row)  # noqa: PLW2901
            conflict = self.find_conflict(access, row, ())
            if conflict is not None:
                raise unique_violation(access, conflict[0], row)
            stored[key_of(table, row)] = row
            self.written.add((table.id, key_of(table, row)))

    def with_rowid(self, table: Table, row: Row) -> Row:
        hidden = [c.position for c in table.columns if c.hidden and row[c.position] is None]
        if not hidden:
            return row
        changed = list(row)
        for position in hidden:
            changed[position] = self.next_rowid
            self.next_rowid += 1
        return tuple(changed)

    def find_conflict(
        self, access: TableAccess, row: Row, arbiters: tuple[int, ...]
    ) -> tuple[int, Row] | None:
        table = access.table
        stored = self.tables.get(table.id, {})
        key = key_of(table, row)
        if key in stored and (not arbiters or PRIMARY_INDEX_ID in arbiters):
            return PRIMARY_INDEX_ID, stored[key]
        for index in table.indexes:
            if not index.unique or (arbiters and index.index_id not in arbiters):
                continue
            entry = entry_key(access, index.index_id, row)
            if entry is None or (None in entry and not index.nulls_not_distinct):
                continue
            for other in stored.values():
                if entry_key(access, index.index_id, other) == entry:
                    return index.index_id, other
        return None

    async def insert(self, access: TableAccess, rows: Sequence[Row]) -> None:
        self.put(access, rows)

    async def insert_or_conflict(
        self, access: TableAccess, row: Row, arbiters: tuple[int, ...], strength: Any = "update"
    ) -> Row | None:
        conflict = self.find_conflict(access, row, arbiters)
        if conflict is not None:
            return conflict[1]
        self.put(access, [row])
        return None

    def written_by_command(self, table: Table, row: Row) -> bool:
        return (table.id, key_of(table, row)) in self.written

    async def update(
        self, access: TableAccess, old_rows: Sequence[Row], new_rows: Sequence[Row]
    ) -> None:
        stored = self.tables.setdefault(access.table.id, {})
        for old in old_rows:
            stored.pop(key_of(access.table, old), None)
        self.put(access, new_rows)

    async def delete(self, access: TableAccess, rows: Sequence[Row]) -> None:
        for row in rows:
            self.tables.get(access.table.id, {}).pop(key_of(access.table, row), None)
            self.written.add((access.table.id, key_of(access.table, row)))

    def parents(self) -> DictStore:
        return self.current()

    def current(self) -> DictStore:
        return CurrentView(self)


class CurrentView(DictStore):
    """Sees everything that is there now."""

    def __init__(self, base: DictStore) -> None:
        super().__init__()
        self._base = base
        self.tables = base.tables
        self.locked = base.locked
        self.written = base.written
        self.interfere = base.interfere

    def _rows(self, table: Table) -> dict[Row, Row]:
        return self._base.tables.get(table.id, {})

    def with_rowid(self, table: Table, row: Row) -> Row:
        return self._base.with_rowid(table, row)

    def current(self) -> DictStore:
        return self


def key_of(table: Table, row: Row) -> Row:
    return tuple(row[p] for p in table.clustering_key)


def find_index(table: Table, index_id: int) -> Index:
    return next(i for i in table.indexes if i.index_id == index_id)


def entry_key(access: TableAccess, index_id: int, row: Row) -> Row | None:
    for maker in access.makers:
        if maker.index_id == index_id:
            return maker.make(row)
    if index_id == PRIMARY_INDEX_ID:
        return key_of(access.table, row)
    return tuple(row[k.position] for k in find_index(access.table, index_id).keys)


def index_rules(table: Table, index: Index) -> list[Any]:
    return [
        (
            sort_key(table.columns[k.position].type) if k.position >= 0 else None,
            k.descending,
            k.nulls_first,
        )
        for k in index.keys
    ]


class Reversed:
    """Orders the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: Reversed) -> bool:
        return bool(other.value < self.value)

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and self.value == other.value


def index_order(key: Row, rules: Any) -> tuple[Any, ...]:
    parts = []
    for value, (to_key, descending, nulls_first) in zip(key, rules, strict=False):
        if value is None:
            parts.append((0 if nulls_first else 2, 0))
        else:
            plain = value if to_key is None else to_key(value)
            parts.append((1, Reversed(plain) if descending else plain))
    return tuple(parts)


def in_span(ordered: tuple[Any, ...], span: KeySpan, rules: Any) -> bool:
    start, end = index_order(span.start, rules), index_order(span.end, rules)
    head, tail = ordered[: len(start)], ordered[: len(end)]
    if start and (head < start or (head == start and not span.start_inclusive)):
        return False
    return not (end and (end < tail or (tail == end and not span.end_inclusive)))


def unique_violation(access: TableAccess, index_id: int, row: Row) -> UniqueViolation:
    table = access.table
    if index_id == PRIMARY_INDEX_ID:
        name, where = table.primary_name, table.clustering_key
    else:
        index = find_index(table, index_id)
        name, where = index.name, tuple(k.position for k in index.keys)
    columns = ", ".join(table.columns[p].name for p in where)
    values = ", ".join(text_output(table.columns[p].type)(row[p]) for p in where)
    return UniqueViolation(
        f'duplicate key value violates unique constraint "{name}"',
        detail=f"Key ({columns})=({values}) already exists.",
        schema="public",
        table=table.name,
        constraint=name,
    )
