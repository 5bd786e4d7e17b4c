"""COPY: rows in through the INSERT plan of the table, rows out through a SELECT plan.

So defaults, checks, generated columns, privileges and constraints are those of the statements, not
a second implementation. Files and programs on the server are refused: 42501 without, 0A000 with
superuser rights.

Source: PostgreSQL docs, "COPY", "COPY Operations" (protocol).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from nodedb.session.api import CopyIn, Result
from nodedb.session.copy_binary import HEADER, TRAILER, BinaryCopyDecoder, binary_row
from nodedb.session.copy_format import (
    CsvCopyDecoder,
    TextCopyDecoder,
    csv_row_writer,
    header_row,
    text_batch_writer,
    text_row_writer,
)
from nodedb.session.copy_options import ParsedOptions, parse_options
from nodedb.session.copy_rows import ChunkReader, RowSink
from nodedb.session.prepared import Portal, PreparedStatement
from sql.ast import query as q
from sql.ast import utility as u
from sql.catalog.descriptor import Column, Table, View
from sql.catalog.descriptor import Sequence as SequenceDescriptor
from sql.errors import (
    DuplicateColumn,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidColumnReference,
    QueryCanceled,
    UndefinedColumn,
    UndefinedTable,
    WrongObjectType,
)
from sql.functions.reg import is_index_name
from sql.types.catalog import BOOL, INT2, INT4, INT8
from sql.types.io import binary_output, text_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nodedb.session.session import Session
    from sql.types.base import Datum, Row, SqlType


async def copy(session: Session, statement: u.Copy) -> Result:
    """Start a COPY; the front end then moves the data."""
    if statement.target in ("file", "program"):
        if not session.catalog().is_superuser:
            raise InsufficientPrivilege(
                "must be superuser or have privileges of the pg_read_server_files role "
                "to COPY from a file",
                hint="Anyone can COPY to stdout or from stdin. "
                "psql's \\copy command also works for anyone.",
            )
        raise FeatureNotSupported(
            "COPY from and to files of the server is not supported",
            hint="Use COPY ... FROM STDIN or TO STDOUT, or psql's \\copy.",
        )
    if statement.is_from:
        return await _copy_in(session, statement)
    return await _copy_out(session, statement)


def _copy_table(session: Session, statement: u.Copy) -> Table | View:
    name = statement.table
    assert name is not None
    relation = session.catalog().find_relation(name)
    verb = "to" if statement.is_from else "from"
    if relation is None and is_index_name(session.catalog(), name):
        raise WrongObjectType(f'"{name.name}" is an index')
    if relation is None:
        shown = f"{name.schema}.{name.name}" if name.schema else name.name
        raise UndefinedTable(f'relation "{shown}" does not exist')
    if isinstance(relation, View):
        hint = "Try the COPY (SELECT ...) TO variant."
        if statement.is_from:
            hint = "To enable copying to a view, provide an INSTEAD OF INSERT trigger."
        raise WrongObjectType(f'cannot copy {verb} view "{name.name}"', hint=hint)
    if isinstance(relation, SequenceDescriptor):
        raise WrongObjectType(f'cannot copy {verb} sequence "{name.name}"')
    if not isinstance(relation, Table):
        raise InsufficientPrivilege(f"permission denied for table {name.name}")
    return relation


def _columns(table: Table, names: Sequence[str]) -> list[Column]:
    if not names:
        return [c for c in table.visible_columns if c.generated is None]
    found = []
    for name in names:
        column = table.column_by_name.get(name)
        if column is None:
            raise UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
        if column.generated is not None:
            raise InvalidColumnReference(
                f'column "{name}" is a generated column',
                detail="Generated columns cannot be used in COPY.",
            )
        if column in found:
            raise DuplicateColumn(f'column "{name}" specified more than once')
        found.append(column)
    return found


# In


async def _copy_in(session: Session, statement: u.Copy) -> Result:
    table = _copy_table(session, statement)
    assert isinstance(table, Table)
    if not table.temporary_session:
        session.check_writable("COPY FROM")
    columns = _columns(table, statement.columns)
    parsed = parse_options(statement, [c.name for c in columns], table.name, _names(table))
    insert = q.Insert(
        table=statement.table,  # type: ignore[arg-type]  # checked by _copy_table
        columns=tuple(c.name for c in columns),
        source=q.Values(rows=(tuple(q.Parameter(n + 1) for n in range(len(columns))),))
        if columns
        else None,
        overriding="system",
    )
    plan = session.plan_prepared(PreparedStatement("", "", insert, tuple(c.type for c in columns)))
    session.block.ensure_transaction(session.query_start)
    sink = RowSink(session, table, columns, statement.where)
    await sink.begin(plan)
    result = Result("COPY 0")
    result.copy_in = _CopyIn(session, sink, columns, parsed)
    return result


def _names(table: Table) -> list[str]:
    return [column.name for column in table.visible_columns]


class _CopyIn(CopyIn):
    """The data's way in."""

    def __init__(
        self, session: Session, sink: RowSink, columns: Sequence[Column], parsed: ParsedOptions
    ) -> None:
        self._session = session
        self._sink = sink
        self.format_binary = parsed.format == "binary"
        self.column_count = len(columns)
        self._decoder: Any
        if self.format_binary:
            self._decoder = BinaryCopyDecoder(len(columns))
        else:
            kind = CsvCopyDecoder if parsed.format == "csv" else TextCopyDecoder
            self._decoder = kind(parsed.options)
        self._reader = ChunkReader(
            session, sink, columns, parsed.options.relation, binary=self.format_binary
        )

    async def data(self, chunk: bytes) -> None:
        """Take some data."""
        await self._take(self._decoder.feed(chunk))

    async def _take(self, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        if self.format_binary:
            last = self._decoder.line_number
            await self._reader.take(rows, range(last - len(rows) + 1, last + 1))
        else:
            await self._reader.take(rows, self._decoder.row_lines)

    async def done(self) -> str:
        """Take the end of the data."""
        await self._take(self._decoder.finish() or ())
        await self._sink.finish()
        session = self._session
        session.count_rows(self._sink.count)
        await session.end_copy()
        return f"COPY {self._sink.count}"

    def fail(self, message: str) -> None:
        """Take the client's refusal to go on."""
        raise QueryCanceled(f"COPY from stdin failed: {message}")


# Out


async def _copy_out(session: Session, statement: u.Copy) -> Result:
    if statement.query is not None:
        query: q.DmlStatement = statement.query
        relation, known = "", None
    else:
        table = _copy_table(session, statement)
        assert isinstance(table, Table)
        assert statement.table is not None
        relation, known = table.name, _names(table)
        targets = tuple(
            q.Target(q.ColumnRef((column.name,))) for column in _columns(table, statement.columns)
        )
        query = q.Select(targets=targets, from_items=(q.TableRef(statement.table),))
    prepared = PreparedStatement("", "", query, ())
    session.plan_prepared(prepared)
    if prepared.columns is None:
        raise FeatureNotSupported("COPY query must have a RETURNING clause")
    portal = Portal("", prepared, (), ())
    await session.open_portal(portal)
    parsed = parse_options(statement, [c.name for c in prepared.columns], relation, known)
    result = Result("COPY 0")
    out = _CopyOut(session, portal, parsed, result)
    result.copy_out = out
    return result


class _CopyOut:
    """The data's way out: one message per row, as PostgreSQL sends it, made a batch at a time."""

    def __init__(
        self, session: Session, portal: Portal, parsed: ParsedOptions, result: Result
    ) -> None:
        columns = portal.prepared.columns
        assert columns is not None
        context = session.settings.format
        self.format_binary = parsed.format == "binary"
        self.column_count = len(columns)
        self._session = session
        self._portal = portal
        # The result owns us. Were it strong, a client that leaves amid its rows would leave them
        # to the collector, which comes late.
        self._result = weakref.ref(result)
        self._count = 0
        self._pending: list[bytes] = []
        self._prefix = b""
        self._ended = False
        self._trailer: bytes | None = None
        self._write: Callable[[Sequence[Row]], list[bytes]]
        if self.format_binary:
            self._write = _by_row([binary_output(c.type, context) for c in columns], binary_row)
            self._prefix = (
                HEADER  # travels in front of the first row or the trailer, as PostgreSQL sends it
            )
            self._trailer = TRAILER
            return
        convert = [text_output(c.type, context) for c in columns]
        make = csv_row_writer if parsed.format == "csv" else text_row_writer
        self._write = _by_row(convert, make(parsed.options))
        if parsed.format == "text" and columns:
            plain = [_is_plain(c.type, parsed.options.delimiter) for c in columns]
            self._write = text_batch_writer(parsed.options, convert, plain)
        if parsed.options.header:
            self._pending.append(header_row(parsed.options, make(parsed.options)))

    def _set_tag(self, tag: str) -> None:
        result = self._result()
        if result is not None:
            result.tag = tag

    async def next_chunk(self) -> list[bytes]:
        """Return the next rows, one message each; [] at the end."""
        chunk, self._pending = self._pending, []
        if self._ended:
            return chunk
        execution: Any = self._portal.execution
        batch = await execution.next_batch()
        if not batch:
            self._ended = True
            execution.close()
            self._portal.execution = None
            self._session.end_command()
            self._session.count_rows(self._count)
            self._set_tag(f"COPY {self._count}")
            if self._trailer is not None:
                chunk.append(self._prefix + self._trailer)
            return chunk
        self._count += len(batch)
        written = self._write(batch)
        if self._prefix:
            written[0] = self._prefix + written[0]
            self._prefix = b""
        return chunk + written if chunk else written


def _by_row(
    convert: Sequence[Callable[[Datum], Any]], write: Callable[[Sequence[Any]], bytes]
) -> Callable[[Sequence[Row]], list[bytes]]:
    """Return a writer of batches that takes one row after the other."""

    def write_batch(batch: Sequence[Row]) -> list[bytes]:
        return [
            write(
                [
                    None if value is None else output(value)
                    for output, value in zip(convert, row, strict=True)
                ]
            )
            for row in batch
        ]

    return write_batch


def _is_plain(sql_type: SqlType, delimiter: str) -> bool:
    """Tell whether no value of a type can need an escape."""
    return sql_type.oid in (INT2.oid, INT4.oid, INT8.oid, BOOL.oid) and delimiter not in "-tf"
