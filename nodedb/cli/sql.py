"""``nodedb sql``: a shell for people, and a runner for scripts.

Exit status: 0; 1 if a statement failed (what follows it is not run); 2 if there is no connection.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from nodedb.cli.address import SQL_URL_DEFAULT, add_url, parse_sql_url, url_of

if TYPE_CHECKING:
    import argparse

    from nodedb.cli.shell import Shell

_NO_CONNECTION: Final = 2


def add_parser(commands: Any) -> None:
    """Add ``sql``."""
    sql = commands.add_parser(
        "sql", help="a SQL shell", description="A SQL shell; \\? in it shows its commands."
    )
    add_url(sql)
    sql.add_argument("-c", "--command", action="append", metavar="SQL", help="run this and exit")
    sql.add_argument("-f", "--file", action="append", metavar="FILE", help="run a file and exit")
    sql.add_argument("--format", choices=("table", "json", "csv"), default="table")


def run(arguments: argparse.Namespace) -> int:
    """Connect, then run what was given, standard input, or the prompt."""
    from nodedb.cli.shell import Shell, Stop  # noqa: PLC0415  needs pg8000
    from nodedb.cli.sql_client import ConnectionFailed, SqlClient  # noqa: PLC0415

    target = parse_sql_url(url_of(arguments, SQL_URL_DEFAULT))
    is_prompting = not (arguments.command or arguments.file) and sys.stdin.isatty()
    try:
        client = SqlClient(target, may_ask=True)
    except ConnectionFailed as error:
        print(f"nodedb: {error}", file=sys.stderr)
        return _NO_CONNECTION
    shell = Shell(client, sys.stdout, sys.stderr, format_name=arguments.format)
    try:
        if is_prompting:
            from nodedb.cli.prompt import prompt_until_quit  # noqa: PLC0415  needs prompt_toolkit

            return prompt_until_quit(shell)
        return 0 if _run_given(shell, arguments) else 1
    except Stop:
        return 0
    except ConnectionFailed as error:
        print(f"nodedb: {error}", file=sys.stderr)
        return _NO_CONNECTION
    finally:
        shell.client.close()


def _run_given(shell: Shell, arguments: argparse.Namespace) -> bool:
    for text in arguments.command or ():
        if not shell.run_text(text):
            return False
    for path in arguments.file or ():
        is_fine = shell.run_lines(sys.stdin, "") if path == "-" else shell.run_file(path)
        if not is_fine:
            return False
    if arguments.command or arguments.file:
        return True
    return shell.run_lines(sys.stdin, "")
