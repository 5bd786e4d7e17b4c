"""The shell at a terminal: editing, history, completion. Reads until a statement is complete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from nodedb.cli.shell import ConnectionFailed, Shell, Stop
from nodedb.cli.splitter import Splitter
from nodedb.cli.sql_client import SqlClient, SqlFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prompt_toolkit.document import Document

HISTORY_FILE: Final = ".nodedb_history"
_CHANGES_NAMES: Final = ("create", "drop", "alter", "\\c", "\\i")
_NAMES: Final = """\
SELECT DISTINCT name FROM (
  SELECT c.relname::text AS name FROM pg_catalog.pg_class c
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND pg_catalog.pg_table_is_visible(c.oid)
  UNION ALL
  SELECT a.attname::text FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE a.attnum > 0 AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'nodedb_internal')
) AS names ORDER BY 1 LIMIT 10000"""


def is_complete(text: str) -> bool:
    """Tell whether Enter should run what is typed rather than begin another line."""
    stripped = text.strip()
    if not stripped or stripped.startswith("\\"):
        return True
    splitter = Splitter()
    return bool(splitter.feed(text)) and not splitter.pending


class WordCompleter(Completer):
    """Completes keywords, and the names of tables and columns that the server knows."""

    def __init__(self, shell: Shell) -> None:
        from sql.ast.keywords import KEYWORDS  # noqa: PLC0415  only at a terminal

        self._keywords = sorted(KEYWORDS)
        self._shell = shell
        self._names: list[str] | None = None

    def forget_names(self) -> None:
        """Ask the server again at the next completion."""
        self._names = None

    def get_completions(self, document: Document, complete_event: Any) -> Iterator[Completion]:
        """Yield what the word before the cursor may become: names first, then keywords."""
        del complete_event
        word = document.get_word_before_cursor()
        if not word.strip():
            return
        lower = word.lower()
        for name in self._known_names():
            if name.startswith(lower):
                yield Completion(name, start_position=-len(word))
        for keyword in self._keywords:
            if keyword.startswith(lower):
                text = keyword if word.islower() else keyword.upper()
                yield Completion(text, start_position=-len(word))

    def _known_names(self) -> list[str]:
        # Within a block a failed query would fail the block.
        if self._names is None and self._shell.client.block_status == "I":
            try:
                rows = self._shell.client.run(_NAMES).rows
                self._names = [name for (name,) in rows if name]
            except (SqlFailed, ConnectionFailed):
                self._names = []
        return self._names or []


def _history() -> History:
    path = Path.home() / HISTORY_FILE
    try:
        # What is typed may hold passwords.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def make_session(shell: Shell, history: History, **more: Any) -> PromptSession[str]:
    """Return the prompt; ``more`` goes to prompt_toolkit (tests give it their input)."""
    typed = Condition(lambda: not is_complete(get_app().current_buffer.text))
    return PromptSession(
        history=history,
        completer=WordCompleter(shell),
        complete_while_typing=False,
        multiline=typed,
        prompt_continuation=lambda width, *_: f"{shell.client.target.database}-> ".rjust(width),
        enable_open_in_editor=True,
        **more,
    )


def prompt_text(shell: Shell) -> str:
    """Return psql's prompt: ``*`` in a transaction block, ``!`` in a failed one."""
    mark = {"T": "*", "E": "!"}.get(shell.client.block_status, "")
    return f"{shell.client.target.database}={mark}> "


def prompt_until_quit(shell: Shell, session: PromptSession[str] | None = None) -> int:
    r"""Read and run until ``\\q`` or Ctrl-D; a lost connection is made again once per statement."""
    session = session or make_session(shell, _history())
    version = shell.client.parameters.get("server_version", "")
    print(f"nodedb sql, server {version}. \\? for help, \\q to quit.")
    while True:
        try:
            text = session.prompt(prompt_text(shell))
        except KeyboardInterrupt:
            continue  # drops the line, as psql does
        except EOFError:
            return 0
        try:
            shell.run_text(text)
        except Stop:
            return 0
        except ConnectionFailed as error:
            print(f"nodedb: {error}")
            if not _reconnect(shell):
                return 2
        if text.lower().lstrip().startswith(_CHANGES_NAMES):
            completer = session.completer
            if isinstance(completer, WordCompleter):
                completer.forget_names()


def _reconnect(shell: Shell) -> bool:
    shell.client.close()
    try:
        shell.client = SqlClient(shell.client.target)
    except (ConnectionFailed, SqlFailed) as error:
        print(f"nodedb: {error}")
        return False
    print("nodedb: connected again; the transaction that was open is gone")
    return True
