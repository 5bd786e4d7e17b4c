"""The SQL shell's work: runs what it is given and prints as psql does. No terminal in here."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from nodedb.cli import meta_commands
from nodedb.cli.splitter import Splitter
from nodedb.cli.sql_client import ConnectionFailed, ResultSet, SqlClient, SqlFailed
from nodedb.cli.table import RIGHT_ALIGNED, aligned, expanded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

_COPY: Final = re.compile(r"\s*copy\b.*\b(from\s+stdin|to\s+stdout)\b", re.I | re.S)
_SLOW_MS: Final = 1000.0


class Stop(Exception):
    r"""Ends the shell: ``\\q``."""


class ScriptLine(NamedTuple):
    """Where a script stands, for its error messages."""

    name: str
    number: int


class Shell:
    """Runs statements and backslash commands over one connection."""

    def __init__(
        self, client: SqlClient, out: TextIO, err: TextIO, *, format_name: str = "table"
    ) -> None:
        self.client = client
        self._out = out
        self._err = err
        self._format = format_name
        self.is_expanded = False
        self.is_timed = False

    # Input

    def run_text(self, text: str) -> bool:
        """Run statements and backslash commands, up to the first error; False if there was one.

        A last statement needs no semicolon. Raises Stop, ConnectionFailed.
        """
        return self.run_lines(text.splitlines(keepends=True), "")

    def run_file(self, path: str) -> bool:
        """Run a file. Raises OSError."""
        with Path(path).open(encoding="utf-8") as file:
            return self.run_lines(file, path)

    def run_lines(self, lines: Iterable[str], name: str) -> bool:
        """Run a script's lines. ``name`` is shown with errors, "" for none."""
        numbered = enumerate(lines, 1)
        remaining = _Lines(numbered)
        splitter = Splitter()
        for line in remaining:
            where = ScriptLine(name, remaining.number)
            if not splitter.pending and line.lstrip().startswith("\\"):
                if not self.run_meta(line.strip()):
                    return False
                continue
            for statement in splitter.feed(line):
                if not self.run_statement(statement, remaining, where):
                    return False
        last = splitter.pending
        where = ScriptLine(name, remaining.number)
        return not last or self.run_statement(last, remaining, where)

    def run_meta(self, command: str) -> bool:
        """Run a backslash command; False if it failed. Raises Stop."""
        word, _, argument = command.removeprefix("\\").rstrip(";").partition(" ")
        argument = argument.strip()
        match word:
            case "q" | "quit":
                raise Stop
            case "x":
                self.is_expanded = _switch(argument, now=self.is_expanded)
                self._print(f"Expanded display is {'on' if self.is_expanded else 'off'}.\n")
            case "timing":
                self.is_timed = _switch(argument, now=self.is_timed)
                self._print(f"Timing is {'on' if self.is_timed else 'off'}.\n")
            case "i" | "include":
                return self._include(argument)
            case "?" | "h" | "help":
                self._print(meta_commands.HELP)
            case "conninfo":
                self._print(self._connection_line())
            case _:
                return self._run_listing(word, argument)
        return True

    def _include(self, path: str) -> bool:
        try:
            return self.run_file(path)
        except OSError as error:
            self._complain(f"{path}: {error.strerror}")
            return False

    def _run_listing(self, word: str, argument: str) -> bool:
        try:
            titled = meta_commands.listings(word, argument, self.client.run)
        except meta_commands.UnknownCommand:
            self._complain(f"invalid command \\{word}\nTry \\? for help.")
            return False
        except meta_commands.NothingFound as error:
            self._complain(str(error))
            return False
        except SqlFailed as error:
            self.print_error(error, "")
            return False
        for title, result, footer in titled:
            text = self._table(result)
            if self._format == "table" and not self.is_expanded:
                heading = title.center(len(text.split("\n", 1)[0])).rstrip()
                self._print(heading + "\n")
                if footer:
                    # The tail is part of the table, in place of the number of rows.
                    text = text.rstrip("\n").rpartition("\n")[0] + f"\n{footer}\n\n"
            self._print(text)
        return True

    # Statements

    def run_statement(self, statement: str, lines: Iterator[str], where: ScriptLine) -> bool:
        r"""Run one statement and print what it answers; False for an error.

        COPY FROM STDIN takes its data from the following ``lines``, up to ``\\.``.
        """
        started = time.perf_counter()
        try:
            with self._cancelling():
                result = self._execute(statement, lines)
        except SqlFailed as error:
            self._print_notices()
            prefix = f"{where.name}:{where.number}: " if where.name else ""
            self.print_error(error, statement, prefix)
            return False
        elapsed_ms = (time.perf_counter() - started) * 1000
        self._print_notices()
        self._print_result(result)
        if self.is_timed:
            self._print(_timing(elapsed_ms))
        for process_id, channel, payload in self.client.take_notifications():
            with_payload = f' with payload "{payload}"' if payload else ""
            self._print(
                f'Asynchronous notification "{channel}"{with_payload} received from server '
                f"process with PID {process_id}.\n"
            )
        return True

    def _execute(self, statement: str, lines: Iterator[str]) -> ResultSet:
        found = _COPY.match(statement)
        if found is None:
            return self.client.run(statement)
        if found[1].lower().startswith("to"):
            # Nothing but the data: it may be redirected into a file.
            return self.client.copy_out(statement, self._out.write)._replace(tag="")
        return self.client.copy_in(statement, _until_end_mark(lines))

    @contextmanager
    def _cancelling(self) -> Iterator[None]:
        """While a statement runs, Ctrl-C asks the server to end it instead of ending the shell."""
        try:
            before = signal.signal(signal.SIGINT, lambda *_: self.client.cancel())
        except ValueError:  # not the main thread: nobody types Ctrl-C here
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # Output

    def _print_result(self, result: ResultSet) -> None:
        if result.columns is None:
            if result.tag and self._format == "table":
                self._print(result.tag + "\n")
            return
        self._print(self._table(result))

    def _table(self, result: ResultSet) -> str:
        if self._format == "json":
            return json.dumps(result.dicts()) + "\n"
        if self._format == "csv":
            buffer = io.StringIO()
            writer = csv.writer(buffer, lineterminator="\n")
            writer.writerow(result.names)
            writer.writerows(result.rows)
            return buffer.getvalue()
        if self.is_expanded:
            return expanded(result.names, result.rows)
        right = [column.type_oid in RIGHT_ALIGNED for column in result.columns or []]
        return aligned(result.names, result.rows, right)

    def print_error(self, error: SqlFailed, statement: str, prefix: str = "") -> None:
        """Print an error with its position, detail and hint."""
        self._complain(prefix + format_message(error.fields, statement))

    def _print_notices(self) -> None:
        for fields in self.client.take_notices():
            self._complain(format_message(fields, ""))

    def _connection_line(self) -> str:
        client = self.client
        return (
            f'You are connected to database "{client.target.database}" as user '
            f'"{client.target.user}" on host "{client.host}" at port "{client.port}".\n'
        )

    def _print(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _complain(self, text: str) -> None:
        self._out.flush()
        self._err.write(text.rstrip("\n") + "\n")
        self._err.flush()


class _Lines:
    """Lines with the number of the last one taken; COPY takes some in the middle."""

    def __init__(self, numbered: Iterator[tuple[int, str]]) -> None:
        self._numbered = numbered
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._numbered)
        return line


def _until_end_mark(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.rstrip("\r\n") == "\\.":
            return
        yield line


def _switch(argument: str, *, now: bool) -> bool:
    return not now if not argument else argument.lower() in {"on", "true", "1"}


def _timing(elapsed_ms: float) -> str:
    if elapsed_ms < _SLOW_MS:
        return f"Time: {elapsed_ms:.3f} ms\n"
    minutes, seconds = divmod(elapsed_ms / 1000, 60)
    return f"Time: {elapsed_ms:.3f} ms ({int(minutes):02}:{seconds:06.3f})\n"


def format_message(fields: dict[str, str], statement: str) -> str:
    """Return an error or notice as psql shows it: severity, text, line and caret, detail, hint."""
    out = [f"{fields.get('S', 'ERROR')}:  {fields.get('M', '')}"]
    position = fields.get("P", "")
    if statement and position.isdigit() and 0 < int(position) <= len(statement) + 1:
        before = statement[: int(position) - 1]
        number = before.count("\n") + 1
        line = statement.split("\n")[number - 1]
        label = f"LINE {number}: "
        column = len(before) - (before.rfind("\n") + 1)
        out += [label + line, " " * (len(label) + column) + "^"]
    for code, name in (("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")):
        if fields.get(code):
            out.append(f"{name}:  {fields[code]}")
    return "\n".join(out)


__all__ = ["ConnectionFailed", "Shell", "Stop", "format_message"]
