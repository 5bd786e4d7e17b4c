r"""COPY data in its text and CSV formats, without I/O: chunks to rows of ``str | None``, and back.

A decoder is fed chunks cut anywhere; ``feed`` returns the rows completed, ``finish`` the last row
if it lacked its newline. ``\.`` alone on a line ends the data; what follows is dropped. The first
line end seen (LF, CR LF or CR) is the only one allowed. Rows are fresh lists, one field per column.

Speed: a chunk without backslash (text) or quote (CSV) is split as a whole; only others are looked
at line by line.

Invariants: ``line_number`` counts as PostgreSQL's error context does (records in text, lines in
CSV). After an error a decoder must not be fed again. Not done here: conversion to column types; the
binary format, see ``copy_binary``.

Source: PostgreSQL docs, "COPY" (File Formats).
"""

import abc
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from nodedb.session.encoding import decode_utf8, is_utf8
from sql.errors import BadCopyFileFormat, CharacterNotInRepertoire, ProgramLimitExceeded

TextRow = list[str | None]
LINE_BYTES_MAX: Final = 256 * 1024 * 1024
_CONTEXT_CHARACTERS_MAX: Final = 100
_END_MARKER: Final = "\\."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    r"""How the data is written. ``null`` is ``\N`` in text and empty in CSV unless it is given.

    ``column_names`` are those of the data, in order. ``force_*`` are sets of their 0-based indexes.
    ``relation`` is named in error contexts. ``header`` MATCH also compares the names.
    """

    column_names: Sequence[str]
    relation: str = ""
    delimiter: str = "\t"
    null: str = "\\N"
    header: bool = False
    header_match: bool = False
    quote: str = '"'
    escape: str = '"'
    force_quote: frozenset[int] = frozenset()
    force_not_null: frozenset[int] = frozenset()
    force_null: frozenset[int] = frozenset()
    line_bytes_max: int = LINE_BYTES_MAX


def csv_options(
    column_names: Sequence[str], *, delimiter: str = ",", null: str = "", relation: str = ""
) -> CopyOptions:
    """Return options with CSV's defaults; change the rest by ``dataclasses.replace``."""
    return CopyOptions(column_names=column_names, delimiter=delimiter, null=null, relation=relation)


class _LineDecoder(abc.ABC):
    """What text and CSV share: line ends, the end marker, the header, the count of fields."""

    # How an unexpected carriage return or newline is named, and what to write instead.
    _stray_kind: str
    _stray_hint: str
    # The character whose absence makes a chunk plain.
    _special: str

    def __init__(self, options: CopyOptions) -> None:
        self.options = options
        self.line_number = 0
        self.row_lines: Sequence[int] = ()
        """The line numbers of the rows that the last call returned."""
        self._taken_lines: list[int] = []
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._line_end = ""  # "" until the first one is seen
        self._is_ended = False
        self._is_line_end_missing = False
        self._is_header_due = options.header or options.header_match

    def feed(self, chunk: bytes) -> list[TextRow]:
        """Return the rows completed by the chunk.

        Raises BadCopyFileFormat (22P04), CharacterNotInRepertoire (22021), and
        ProgramLimitExceeded (54000) for a line over ``line_bytes_max``.
        """
        if self._is_ended:
            return []
        if not self._line_end and not self._detect_line_end(chunk):
            return []
        last = chunk.rfind(b"\r" if self._line_end == "\r" else b"\n") + 1
        if last == 0:
            self._keep(chunk)
            return []
        data = b"".join((*self._pending, chunk[:last]))
        self._pending.clear()
        self._pending_bytes = 0
        self._keep(chunk[last:])
        return self._decode(self._decode_bytes(data))

    def finish(self) -> list[TextRow]:
        """Return the last row if its line was not ended."""
        rest = self._decode_bytes(b"".join(self._pending))
        self._pending.clear()
        if self._is_ended:
            return []
        self._line_end = self._line_end or ("\r" if rest.endswith("\r") else "\n")
        if rest and not rest.endswith(self._line_end):
            self._is_line_end_missing = True
            rest += self._line_end
        rows = self._decode(rest)
        if not self._is_amid_record:
            return rows
        # The end of the data completes it.
        self.row_lines = self._taken_lines = [*self.row_lines]
        self._take_record(self._last_record(), rows)
        return rows

    def _decode_bytes(self, data: bytes) -> str:
        try:
            return decode_utf8(data)
        except CharacterNotInRepertoire as error:
            for line in data.split((self._line_end or "\n").encode()):
                self.line_number += 1
                if not is_utf8(line):
                    break
            error.where = self._where()
            raise

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > self.options.line_bytes_max:
            raise ProgramLimitExceeded(
                f"COPY line exceeds the limit of {self.options.line_bytes_max} bytes"
            )

    def _detect_line_end(self, chunk: bytes) -> bool:
        """Learn the line end from all data so far; on False the chunk is kept for later."""
        data = self._without_literals(b"".join((*self._pending, chunk)))
        newline, carriage = data.find(b"\n"), data.find(b"\r")
        if newline >= 0 and (carriage < 0 or newline < carriage):
            self._line_end = "\n"
        elif carriage >= 0 and newline == carriage + 1:
            self._line_end = "\r\n"
        elif 0 <= carriage < len(data) - 1:
            self._line_end = "\r"
        else:
            self._keep(chunk)
            return False
        return True

    @abc.abstractmethod
    def _without_literals(self, data: bytes) -> bytes:
        """Return the data without line ends that are meant literally."""

    def _decode(self, text: str) -> list[TextRow]:
        """Decode whole lines."""
        if not text:
            return []
        if self._is_plain(text):
            lines = text.split(self._line_end)
            lines.pop()
            if self._is_header_due:
                self.line_number += 1
                header = lines.pop(0)
                self._take_header(self._split_plain([header])[0], header)
            rows = self._split_plain(lines)
            self._check_counts(rows, lines)
            self.row_lines = range(self.line_number + 1, self.line_number + len(lines) + 1)
            self.line_number += len(lines)
            return rows
        rows = []
        self.row_lines = self._taken_lines = []
        for line in text.split("\r" if self._line_end == "\r" else "\n")[:-1]:
            record = self._take_line(line)
            if record is not None:
                self._take_record(record, rows)
            if self._is_ended:
                break
        return rows

    def _take_record(self, record: str, rows: list[TextRow]) -> None:
        if self._is_header_due and not self.options.header_match:
            self._is_header_due = False
            return
        try:
            row = self._fields(record)
        except CharacterNotInRepertoire as error:
            error.where = self._where(record)
            raise
        if self._is_header_due:
            self._take_header(row, record)
        else:
            self._check_count(row, record)
            self._taken_lines.append(self.line_number)
            rows.append(row)

    def _is_plain(self, text: str) -> bool:
        if self._special in text or _END_MARKER in text or self._is_amid_record:
            return False
        carriages = text.count("\r")
        if self._line_end == "\n":
            return carriages == 0
        newlines = text.count("\n")
        if self._line_end == "\r":
            return newlines == 0
        return newlines == carriages == text.count("\r\n")

    @property
    @abc.abstractmethod
    def _is_amid_record(self) -> bool: ...

    @abc.abstractmethod
    def _split_plain(self, lines: list[str]) -> list[TextRow]:
        """Split lines that hold nothing special."""

    @abc.abstractmethod
    def _take_line(self, line: str) -> str | None:
        """Take one line cut at LF or CR; return the record it completes, without line end."""

    @abc.abstractmethod
    def _fields(self, record: str) -> TextRow:
        """Split a record."""

    @abc.abstractmethod
    def _last_record(self) -> str:
        """Return the record under way."""

    def _strip_line_end(self, line: str) -> str:
        """Check the end of a line outside quotes; return it without its carriage return."""
        stray_newline = False
        if self._line_end == "\r\n":
            stray_newline = not line.endswith("\r")
            line = line.removesuffix("\r")
        if stray_newline or "\n" in line:
            raise self._stray("newline", "\\n")
        if "\r" in line:
            raise self._stray("carriage return", "\\r")
        return line

    def _stray(self, what: str, escape: str) -> BadCopyFileFormat:
        return self._error(
            f"{self._stray_kind} {what} found in data",
            hint=self._stray_hint.format(what=what, escape=escape),
        )

    def _take_header(self, names: TextRow, line: str) -> None:
        self._is_header_due = False
        if not self.options.header_match:
            return
        expected = self.options.column_names
        if len(names) != len(expected):
            raise self._error(
                f"wrong number of fields in header line: got {len(names)},"
                f" expected {len(expected)}",
                line,
            )
        for index, (got, name) in enumerate(zip(names, expected, strict=True), 1):
            if got != name:
                shown = f'null value ("{self.options.null}")' if got is None else f'"{got}"'
                raise self._error(
                    f"column name mismatch in header line field {index}:"
                    f' got {shown}, expected "{name}"',
                    line,
                )

    def _check_counts(self, rows: list[TextRow], lines: list[str]) -> None:
        # A set of lengths costs a tenth of a test per row; a bad row is looked for if there is one.
        if rows and set(map(len, rows)) != {len(self.options.column_names)}:
            for row, line in zip(rows, lines, strict=True):
                self.line_number += 1
                self._check_count(row, line)

    def _check_count(self, row: TextRow, line: str) -> None:
        names = self.options.column_names
        if len(row) < len(names):
            raise self._error(f'missing data for column "{names[len(row)]}"', line)
        if len(row) > len(names):
            raise self._error("extra data after last expected column", line)

    def _error(self, message: str, line: str | None = None, *, hint: str = "") -> BadCopyFileFormat:
        return BadCopyFileFormat(message, hint=hint, where=self._where(line))

    def _where(self, line: str | None = None) -> str:
        where = f"COPY {self.options.relation}, line {self.line_number}"
        if line is None:
            return where
        shown = line[:_CONTEXT_CHARACTERS_MAX]
        return f'{where}: "{shown}{"..." if len(line) > len(shown) else ""}"'


_BACKSLASH_LETTERS: Final = {
    "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"
}  # fmt: skip
_ESCAPED_PAIR: Final = re.compile(rb"\\.", re.DOTALL)
_ESCAPED_TEXT_PAIR: Final = re.compile(r"\\.", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTER_BYTES: Final = {name.encode(): text.encode() for name, text in _BACKSLASH_LETTERS.items()}


def _unescape_match(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return bytes((int(match[1], 16),))
    if match[2] is not None:
        return bytes((int(match[2], 8) & 0xFF,))
    return _LETTER_BYTES.get(match[3], match[3])


def _unescape(field: str) -> str:
    # In bytes, because octal and hex escapes may spell the bytes of one character.
    return decode_utf8(_ESCAPE.sub(_unescape_match, field.encode()))


def _ends_escaped(text: str) -> bool:
    """Tell whether the text ends in a backslash that escapes what comes next."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


class TextCopyDecoder(_LineDecoder):
    r"""Decodes the text format: fields between delimiters, ``\`` escapes, ``\N`` for NULL."""

    _stray_kind = "literal"
    _stray_hint = 'Use "{escape}" to represent {what}.'
    _special = "\\"

    def __init__(self, options: CopyOptions) -> None:
        super().__init__(options)
        self._record = ""

    @property
    def _is_amid_record(self) -> bool:
        return bool(self._record)

    def _split_plain(self, lines: list[str]) -> list[TextRow]:
        delimiter, null = self.options.delimiter, self.options.null
        rows: list[TextRow] = [line.split(delimiter) for line in lines]  # type: ignore[misc]
        if "\\" not in null:
            return [[None if field == null else field for field in row] for row in rows]
        return rows

    def _without_literals(self, data: bytes) -> bytes:
        return _ESCAPED_PAIR.sub(b"", data)

    def _take_line(self, line: str) -> str | None:
        if not self._record:
            self.line_number += 1
        if _ends_escaped(line):
            # The newline itself is escaped: it is data.
            self._record += line + self._line_end[-1]
            return None
        record, self._record = self._record + line, ""
        if _END_MARKER in record:
            before = self._before_end_marker(record)
            if before is not None:
                self._is_ended = True
                return before or None
        return self._strip_line_end(record)

    def _before_end_marker(self, record: str) -> str | None:
        position = record.find(_END_MARKER)
        while position >= 0 and _ends_escaped(record[:position]):
            position = record.find(_END_MARKER, position + 1)
        if position < 0:
            return None
        rest = record[position + len(_END_MARKER) :]
        if rest not in {"", "\r"} or self._is_line_end_missing:
            raise self._error("end-of-copy marker corrupt")
        if rest != self._line_end[:-1]:
            raise self._error("end-of-copy marker does not match previous newline style")
        return record[:position]

    def _strip_line_end(self, line: str) -> str:
        if "\r" not in line and "\n" not in line and self._line_end != "\r\n":
            return line
        if "\\" not in line:
            return super()._strip_line_end(line)
        # Escaped line ends are data: only the others are checked.
        super()._strip_line_end(_ESCAPED_TEXT_PAIR.sub("", line))
        return line.removesuffix("\r") if self._line_end == "\r\n" else line

    def _fields(self, record: str) -> TextRow:
        options = self.options
        fields: TextRow = []
        held = ""
        for part in record.split(options.delimiter):
            if _ends_escaped(part):
                held += part + options.delimiter
                continue
            raw, held = held + part, ""
            if raw == options.null:
                fields.append(None)
            else:
                fields.append(_unescape(raw) if "\\" in raw else raw)
        return fields

    def _last_record(self) -> str:
        return self._record.removesuffix(self._line_end[-1]).removesuffix("\\")


class CsvCopyDecoder(_LineDecoder):
    """Decodes CSV: quotes may begin and end anywhere in a field, and hold newlines."""

    _stray_kind = "unquoted"
    _stray_hint = "Use quoted CSV field to represent {what}."

    def __init__(self, options: CopyOptions) -> None:
        super().__init__(options)
        self._special = options.quote
        self._record: list[str] = []
        self._record_number = 0
        self._is_quoted = False
        quote, escape = re.escape(options.quote), re.escape(options.escape)
        self._token = re.compile(f"{escape}.|{quote}" if quote != escape else quote, re.DOTALL)
        # Inside quotes: text, escaped quote or escape, or the closing quote.
        self._inside = re.compile(f"{escape}([{quote}{escape}])|({quote})", re.DOTALL)
        self._outside = re.compile(f"{quote}|{re.escape(options.delimiter)}")

    @property
    def _is_amid_record(self) -> bool:
        return self._is_quoted

    def _without_literals(self, data: bytes) -> bytes:
        # Line ends inside quotes do not count; an even number of quotes lies before all others.
        return b"".join(data.split(self.options.quote.encode())[::2])

    def _split_plain(self, lines: list[str]) -> list[TextRow]:
        delimiter, null = self.options.delimiter, self.options.null
        self._record_number += len(lines)
        rows: list[TextRow] = [
            [None if field == null else field for field in line.split(delimiter)] for line in lines
        ]
        if self.options.force_not_null:
            for row in rows:
                self._force(row, quoted=frozenset())
        return rows

    def _take_line(self, line: str) -> str | None:
        if not self._record:
            self.line_number += 1
            self._record_number += 1
        if not self._record and line.removesuffix("\r") == _END_MARKER:
            self._is_ended = True
            return None
        self._is_quoted = self._quoted_after(line)
        if self._is_quoted:
            self._record.append(line)
            # As PostgreSQL counts: in its first record it does not yet know what a line end is.
            self.line_number += self._record_number > 1
            return None
        # Of the line's end only what follows the last quote is outside; the test looks there.
        quoted, quote, tail = line.rpartition(self.options.quote)
        stripped = quoted + quote + self._strip_line_end(tail)
        record = self._line_end[-1].join((*self._record, stripped))
        self._record.clear()
        return record

    def _quoted_after(self, line: str) -> bool:
        """Tell whether a quote is open behind the line, ``_is_quoted`` being so before it."""
        is_quoted = self._is_quoted
        if self.options.quote == self.options.escape:
            return is_quoted ^ (line.count(self.options.quote) % 2 == 1)
        for token in self._token.finditer(line):
            if token[0] == self.options.quote:
                is_quoted = not is_quoted
            elif not is_quoted and token[0][1:] == self.options.quote:
                is_quoted = True  # an escape character means nothing outside quotes
        return is_quoted

    def _fields(self, record: str) -> TextRow:
        options = self.options
        fields: TextRow = []
        quoted: set[int] = set()
        parts: list[str] = []
        offset = 0
        while True:
            found = self._outside.search(record, offset)
            parts.append(record[offset : found.start() if found else len(record)])
            if found is not None and found[0] == options.quote:
                quoted.add(len(fields))
                offset = self._take_quoted(record, found.end(), parts)
                continue
            text = "".join(parts)
            is_null = text == options.null and len(fields) not in quoted
            fields.append(None if is_null else text)
            if found is None:
                break
            parts.clear()
            offset = found.end()
        self._force(fields, quoted)
        return fields

    def _take_quoted(self, record: str, offset: int, parts: list[str]) -> int:
        """Append the quoted text that begins at ``offset``; return the offset behind its quote."""
        while True:
            found = self._inside.search(record, offset)
            if found is None:
                raise self._error("unterminated CSV quoted field", record)
            parts.append(record[offset : found.start()])
            offset = found.end()
            if found[1] is None:
                return offset
            parts.append(found[1])

    def _force(self, fields: TextRow, quoted: "set[int] | frozenset[int]") -> None:
        options = self.options
        for index in options.force_not_null:
            if index < len(fields) and fields[index] is None:
                fields[index] = options.null
        for index in options.force_null:
            if index in quoted and index < len(fields) and fields[index] == options.null:
                fields[index] = None

    def _last_record(self) -> str:
        # Its quote is still open: splitting it raises the error.
        return "\n".join(self._record) + ("" if self._is_line_end_missing else "\n")


RowWriter = Callable[[Sequence[str | None]], bytes]


def _text_escapes(delimiter: str) -> tuple[dict[int, str], Callable[[str], object]]:
    """Return the translation of what text format escapes, and a search for any of it."""
    table = {ord(text): f"\\{name}" for name, text in _BACKSLASH_LETTERS.items()}
    table |= {ord("\\"): "\\\\"}
    table.setdefault(ord(delimiter), f"\\{delimiter}")
    return table, re.compile("[" + re.escape("".join(map(chr, table))) + "]").search


def text_row_writer(options: CopyOptions) -> RowWriter:
    """Return a function that writes one row in text format, newline included."""
    delimiter, null = options.delimiter, options.null
    table, needs_escape = _text_escapes(delimiter)

    def write(row: Sequence[str | None]) -> bytes:
        fields = [
            null if value is None else value.translate(table) if needs_escape(value) else value
            for value in row
        ]
        return (delimiter.join(fields) + "\n").encode()

    return write


def text_batch_writer(
    options: CopyOptions, convert: Sequence[Callable[[Any], str]], plain: Sequence[bool]
) -> Callable[[Sequence[Sequence[Any]]], list[bytes]]:
    """Return what writes rows of datums in text format, column by column.

    ``plain`` columns never need an escape.
    """
    delimiter, null = options.delimiter, options.null
    table, needs_escape = _text_escapes(delimiter)

    def column(
        values: Sequence[Any], output: Callable[[Any], str], *, is_plain: bool
    ) -> Sequence[str]:
        if None in values:
            texts = [None if value is None else output(value) for value in values]
            if not is_plain and needs_escape("".join([text for text in texts if text is not None])):
                return [null if text is None else text.translate(table) for text in texts]
            return [null if text is None else text for text in texts]
        written = list(map(output, values))
        if not is_plain and needs_escape("".join(written)):
            return [text.translate(table) for text in written]
        return written

    def write(rows: Sequence[Sequence[Any]]) -> list[bytes]:
        columns = [
            column(values, output, is_plain=is_plain)
            for values, output, is_plain in zip(
                zip(*rows, strict=True), convert, plain, strict=True
            )
        ]
        return [(delimiter.join(fields) + "\n").encode() for fields in zip(*columns, strict=True)]

    return write


def csv_row_writer(options: CopyOptions) -> RowWriter:
    """Return a function that writes one row in CSV, newline included."""
    delimiter, null, quote, escape = (
        options.delimiter,
        options.null,
        options.quote,
        options.escape,
    )
    needs_quotes = re.compile("[" + re.escape(delimiter + quote) + "\r\n]").search
    escaped = re.compile("[" + re.escape(quote + escape) + "]")
    replacement = escape.replace("\\", "\\\\") + r"\g<0>"
    is_single = len(options.column_names) == 1

    def field(index: int, value: str | None) -> str:
        if value is None:
            return null
        if (
            value == null
            or index in options.force_quote
            or needs_quotes(value)
            # Alone on its line it would end the data.
            or (is_single and value == _END_MARKER)
        ):
            return quote + escaped.sub(replacement, value) + quote
        return value

    def write(row: Sequence[str | None]) -> bytes:
        fields = [field(index, value) for index, value in enumerate(row)]
        return (delimiter.join(fields) + "\n").encode()

    return write


def header_row(options: CopyOptions, write: RowWriter) -> bytes:
    """Return the header line in the writer's format; names are quoted only where they must be."""
    if write.__qualname__.startswith(csv_row_writer.__name__):
        write = csv_row_writer(dataclasses.replace(options, force_quote=frozenset()))
    return write(list(options.column_names))
