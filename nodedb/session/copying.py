"""COPY: rows in through the INSERT plan of the table, rows out through a SELECT plan.

So defaults, checks, generated columns, privileges and constraints are those of the statements, not a second implementation. Files and
programs on the server are refused: 42501 without, 0A000 with superuser rights.

Source: PostgreSQL docs, "COPY", "COPY Operations" (protocol).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from nodedb.session.api import CopyIn, Result
from nodedb.session.copy_binary import HEADER, TRAILER, BinaryCopyDecoder, binary_row
from nodedb.session.copy_format import (
    CopyOptions,
    CsvCopyDecoder,
    TextCopyDecoder,
    csv_row_writer,
    header_row,
    text_row_writer,
)
from nodedb.session.prepared import Portal, PreparedStatement
from sql.ast import query as q
from sql.ast import utility as u
from sql.catalog.descriptor import Column, Sequence as SequenceDescriptor, Table, View
from sql.errors import (
    DuplicateColumn,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidColumnReference,
    InvalidParameterValue,
    QueryCanceled,
    SqlError,
    SqlSyntaxError,
    UndefinedColumn,
    UndefinedTable,
    WrongObjectType,
)
from sql.types.base import Datum, Row
from sql.types.io import binary_input, binary_output, text_input, text_output

if TYPE_CHECKING:
    from nodedb.session.session import Session

ROWS_PER_INSERT: Final = 1000
_FORMATS: Final = ("text", "csv", "binary")
_BOOLEANS: Final = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


@dataclasses.dataclass(frozen=True, slots=True)
class _Parsed:
    """The options of one COPY."""

    format: str
    options: CopyOptions


async def copy(session: Session, statement: u.Copy) -> Result:
    """Start a COPY; the front end then moves the data."""
    if statement.target in ("file", "program"):
        if not session.catalog().is_superuser:
            raise InsufficientPrivilege(
                "must be superuser or have privileges of the pg_read_server_files role to COPY from a file",
                hint="Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone.",
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
    if relation is None:
        shown = f"{name.schema}.{name.name}" if name.schema else name.name
        raise UndefinedTable(f'relation "{shown}" does not exist', span=name.span)
    if isinstance(relation, View):
        hint = "" if statement.is_from else "Try the COPY (SELECT ...) TO variant."
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
                f'column "{name}" is a generated column', detail="Generated columns cannot be used in COPY."
            )
        if column in found:
            raise DuplicateColumn(f'column "{name}" specified more than once')
        found.append(column)
    return found


def _parse_options(statement: u.Copy, names: Sequence[str], relation: str) -> _Parsed:
    given: dict[str, Any] = {}
    for option in statement.options:
        if option.name in given:
            raise SqlSyntaxError("conflicting or redundant options", span=option.span)
        given[option.name] = option.value
    kind = str(given.pop("format", "text")).lower()
    if kind not in _FORMATS:
        raise InvalidParameterValue(f'COPY format "{kind}" not recognized')
    is_csv = kind == "csv"
    if kind == "binary":
        for name in ("delimiter", "null"):
            if name in given:
                raise SqlSyntaxError(f"cannot specify {name.upper()} in BINARY mode")
    options = CopyOptions(
        column_names=tuple(names),
        relation=relation,
        delimiter=_one_character(given, "delimiter", "," if is_csv else "\t"),
        null=str(given.get("null", "" if is_csv else "\\N")),
    )
    options = _parse_header(options, given)
    options = _parse_csv(options, given, dict(statement.column_options), names, is_csv=is_csv)
    encoding = given.pop("encoding", "UTF8")
    if str(encoding).lower().replace("-", "") not in ("utf8", "unicode"):
        raise FeatureNotSupported(f'COPY encoding "{encoding}" is not supported')
    return _Parsed(kind, options)


def _one_character(given: dict[str, Any], name: str, default: str) -> str:
    value = str(given.get(name, default))
    if len(value.encode()) != 1:
        raise FeatureNotSupported(f"COPY {name} must be a single one-byte character")
    if value in "\r\n":
        raise InvalidParameterValue(f"COPY {name} cannot be newline or carriage return")
    return value


def _parse_header(options: CopyOptions, given: dict[str, Any]) -> CopyOptions:
    if "header" not in given:
        return options
    value = given["header"]
    text = "true" if value is None else str(value).lower()
    if text == "match":
        return dataclasses.replace(options, header=True, header_match=True)
    if text not in _BOOLEANS:
        raise SqlSyntaxError('header requires a Boolean value or "match"')
    return dataclasses.replace(options, header=_BOOLEANS[text])


def _parse_csv(
    options: CopyOptions,
    given: dict[str, Any],
    column_lists: dict[str, tuple[str, ...]],
    names: Sequence[str],
    *,
    is_csv: bool,
) -> CopyOptions:
    if not is_csv:
        for name in ("quote", "escape"):
            if name in given:
                raise FeatureNotSupported(f"COPY {name} available only in CSV mode")
        if column_lists:
            name = next(iter(column_lists)).replace("_", " ")
            raise FeatureNotSupported(f"COPY {name} available only in CSV mode")
        return options
    quote = _one_character(given, "quote", '"')
    changes: dict[str, Any] = {"quote": quote, "escape": _one_character(given, "escape", quote)}
    if quote == options.delimiter:
        raise InvalidParameterValue("COPY delimiter and quote must be different")
    for key, wanted in column_lists.items():
        chosen = list(names) if wanted == ("*",) else list(wanted)
        for name in chosen:
            if name not in names:
                raise UndefinedColumn(f'column "{name}" of relation "{options.relation}" does not exist')
        changes[key] = frozenset(list(names).index(name) for name in chosen)
    return dataclasses.replace(options, **changes)


# In


async def _copy_in(session: Session, statement: u.Copy) -> Result:
    table = _copy_table(session, statement)
    assert isinstance(table, Table)
    session.check_writable("COPY FROM")
    columns = _columns(table, statement.columns)
    parsed = _parse_options(statement, [c.name for c in columns], table.name)
    if statement.where is not None:
        raise FeatureNotSupported("COPY ... WHERE is not supported")
    insert = q.Insert(
        table=statement.table,  # type: ignore[arg-type]  # checked by _copy_table
        columns=tuple(c.name for c in columns),
        source=q.Values(rows=(tuple(q.Parameter(n + 1) for n in range(len(columns))),)),
        overriding="system",
    )
    prepared = PreparedStatement("", "", insert, tuple(c.type for c in columns))
    plan = session.plan_prepared(prepared)
    session.block.ensure_transaction(session.query_start)
    sink = _RowSink(session, prepared, table)
    await sink.begin()
    del plan
    result = Result("COPY 0")
    result.copy_in = _CopyIn(session, sink, columns, parsed)
    return result


class _RowSink:
    """Takes rows of column values and inserts them in batches."""

    def __init__(self, session: Session, prepared: PreparedStatement, table: Table) -> None:
        self._session = session
        self._prepared = prepared
        self._table = table
        self._rows: list[Row] = []
        self._store: Any = None
        self._context: Any = None
        self.count = 0

    async def begin(self) -> None:
        """Check privileges and take the table lock before any data flows."""
        plan = self._prepared.plan
        assert plan is not None
        self._context = await self._session.new_context((), plan)
        self._store = self._context.store

    async def add(self, values: Row) -> None:
        """Insert one row, now or with the next batch."""
        plan = self._prepared.plan
        assert plan is not None
        point = plan.plan.point
        self.count += 1
        if point is None or point.make_row is None or point.needs_foreign_keys:
            portal = Portal("", self._prepared, values, ())
            await self._session.run_portal(portal)
            return
        self._context.parameters = values
        self._rows.append(point.make_row(None, self._context))
        if len(self._rows) >= ROWS_PER_INSERT:
            await self.flush()

    async def flush(self) -> None:
        """Insert what is gathered."""
        plan = self._prepared.plan
        assert plan is not None
        rows, self._rows = self._rows, []
        if rows:
            assert plan.plan.point is not None
            await self._store.insert(plan.plan.point.access, rows)
            await self._session.checkpoint()


class _CopyIn(CopyIn):
    """The data's way in."""

    def __init__(
        self, session: Session, sink: _RowSink, columns: Sequence[Column], parsed: _Parsed
    ) -> None:
        self._session = session
        self._sink = sink
        self._columns = columns
        self._relation = parsed.options.relation
        self.format_binary = parsed.format == "binary"
        self.column_count = len(columns)
        context = session.settings.format
        self._decoder: Any
        self._convert: list[Callable[..., Datum]]
        if self.format_binary:
            self._decoder = BinaryCopyDecoder(len(columns))
            self._convert = [binary_input(c.type, context) for c in columns]
        else:
            kind = CsvCopyDecoder if parsed.format == "csv" else TextCopyDecoder
            self._decoder = kind(parsed.options)
            self._convert = [_typmod_free(text_input(c.type, context)) for c in columns]

    async def data(self, chunk: bytes) -> None:
        """Take some data."""
        await self._take(self._decoder.feed(chunk))

    async def _take(self, raw_rows: Sequence[Sequence[Any]]) -> None:
        convert = self._convert
        first_line = self._decoder.line_number - len(raw_rows)
        for offset, raw in enumerate(raw_rows, 1):
            try:
                values = tuple(
                    [
                        None if field is None else to_datum(field)
                        for to_datum, field in zip(convert, raw, strict=True)
                    ]
                )
                await self._sink.add(values)
            except SqlError as error:
                error.where = error.where or self._where(first_line + offset, raw, error)
                raise

    def _where(self, line: int, raw: Sequence[Any], error: SqlError) -> str:
        """Name the place as PostgreSQL's error context does."""
        if not self.format_binary and error.sqlstate.startswith("22"):
            for column, to_datum, field in zip(self._columns, self._convert, raw, strict=True):
                try:
                    if field is not None:
                        to_datum(field)
                except SqlError:
                    return f'COPY {self._relation}, line {line}, column {column.name}: "{field}"'
        if self.format_binary:
            return f"COPY {self._relation}, line {line}"
        shown = "\t".join("\\N" if field is None else field for field in raw)
        return f'COPY {self._relation}, line {line}: "{shown[:100]}"'

    async def done(self) -> str:
        """Take the end of the data."""
        await self._take(self._decoder.finish() or ())
        await self._sink.flush()
        session = self._session
        if session.block.transaction is not None:
            session.node.transactions.end_statement(session.block.transaction)
        await session.end_copy()
        return f"COPY {self._sink.count}"

    def fail(self, message: str) -> None:
        """Take the client's refusal to go on."""
        raise QueryCanceled(f"COPY from stdin failed: {message}")


def _typmod_free(convert: Callable[[str, int], Datum]) -> Callable[[str], Datum]:
    return lambda text: convert(text, -1)


# Out


async def _copy_out(session: Session, statement: u.Copy) -> Result:
    if statement.query is not None:
        query: q.DmlStatement = statement.query
        relation = ""
    else:
        table = _copy_table(session, statement)
        assert isinstance(table, Table) and statement.table is not None
        relation = table.name
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
    parsed = _parse_options(statement, [c.name for c in prepared.columns], relation)
    result = Result("COPY 0")
    out = _CopyOut(session, portal, parsed, result)
    result.copy_out = out
    return result


class _CopyOut:
    """The data's way out."""

    def __init__(self, session: Session, portal: Portal, parsed: _Parsed, result: Result) -> None:
        columns = portal.prepared.columns
        assert columns is not None
        context = session.settings.format
        self.format_binary = parsed.format == "binary"
        self.column_count = len(columns)
        self._portal = portal
        self._result = result
        self._count = 0
        self._pending: list[bytes] = []
        self._prefix = b""
        self._ended = False
        self._convert: list[Callable[[Datum], Any]]
        self._write: Callable[[Sequence[Any]], bytes]
        if self.format_binary:
            self._convert = [binary_output(c.type, context) for c in columns]
            self._write = binary_row
            self._prefix = HEADER  # travels in front of the first row or the trailer, as PostgreSQL sends it
            self._trailer: bytes | None = TRAILER
        else:
            make = csv_row_writer if parsed.format == "csv" else text_row_writer
            self._convert = [text_output(c.type, context) for c in columns]
            self._write = make(parsed.options)
            self._trailer = None
            if parsed.options.header:
                self._pending.append(header_row(parsed.options, self._write))

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
            self._result.tag = f"COPY {self._count}"
            if self._trailer is not None:
                chunk.append(self._prefix + self._trailer)
            return chunk
        convert, write = self._convert, self._write
        self._count += len(batch)
        for row in batch:
            chunk.append(
                write(
                    [
                        None if value is None else output(value)
                        for output, value in zip(convert, row, strict=True)
                    ]
                )
            )
        if self._prefix:
            chunk[0] = self._prefix + chunk[0]
            self._prefix = b""
        return chunk


