"""The shell's prompt: when Enter runs, what Tab offers, what is asked of the server."""

import io
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from nodedb.cli.address import SqlTarget
from nodedb.cli.prompt import WordCompleter, is_complete, make_session, prompt_until_quit
from nodedb.cli.shell import Shell, format_message
from nodedb.cli.sql_client import Column, ResultSet, SqlFailed


class FakeClient:
    """Answers every statement with the names of two tables, and remembers it."""

    def __init__(self) -> None:
        self.target = SqlTarget((("127.0.0.1", 1),), "nodedb", None, "nodedb", {})
        self.host, self.port = "127.0.0.1", 1
        self.statements: list[str] = []
        self.block_status = "I"
        self.parameters = {"server_version": "15.0"}

    def run(self, statement: str) -> ResultSet:
        self.statements.append(statement)
        if "nosuch" in statement:
            raise SqlFailed({"S": "ERROR", "C": "42703", "M": "no", "P": "8"})
        return ResultSet([Column("name", 25)], [["account"], ["accounting"], ["city"]], "SELECT 3")

    def take_notices(self) -> list[dict[str, str]]:
        return []

    def take_notifications(self) -> list[tuple[int, str, str]]:
        return []


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def shell(client: FakeClient) -> Shell:
    return Shell(client, io.StringIO(), io.StringIO())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("\\dt", True),
        ("select 1;", True),
        ("select 1", False),
        ("select ';", False),
        ("select 1; select 2", False),
        ("select 1; -- done", True),
    ],
)
def test_enter_runs_what_is_complete(text: str, expected: bool) -> None:
    assert is_complete(text) is expected


def offered(completer: WordCompleter, text: str) -> list[str]:
    found = completer.get_completions(Document(text), CompleteEvent())
    return [completion.text for completion in found]


def test_tab_offers_names_of_the_server_and_keywords_in_the_case_typed(
    shell: Shell, client: FakeClient
) -> None:
    completer = WordCompleter(shell)
    assert offered(completer, "select * from acc")[:2] == ["account", "accounting"]
    assert "select" in offered(completer, "sel")
    assert "SELECT" in offered(completer, "SEL")
    assert offered(completer, "select ") == []
    assert len(client.statements) == 1, "the names are asked for once"
    completer.forget_names()
    offered(completer, "a")
    assert len(client.statements) == 2


def test_nothing_is_asked_within_a_transaction_block(shell: Shell, client: FakeClient) -> None:
    client.block_status = "T"
    assert "account" not in offered(WordCompleter(shell), "acc")
    assert client.statements == []


def test_a_session_at_the_prompt(
    shell: Shell, client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    with create_pipe_input() as typed:
        typed.send_text("select\n 1;\nselect nosuch;\n\\x\n\\q\n")
        session = make_session(shell, InMemoryHistory(), input=typed, output=DummyOutput())
        assert prompt_until_quit(shell, session) == 0
    assert client.statements == ["select\n 1", "select nosuch"]
    assert shell.is_expanded
    assert "server 15.0" in capsys.readouterr().out


def test_the_end_of_input_ends_the_shell(shell: Shell) -> None:
    with create_pipe_input() as typed:
        typed.send_text("\x04")
        session = make_session(shell, InMemoryHistory(), input=typed, output=DummyOutput())
        assert prompt_until_quit(shell, session) == 0


def test_messages_show_line_and_column() -> None:
    fields = {"S": "ERROR", "M": "bad", "P": "14", "D": "a detail", "H": "a hint"}
    assert format_message(fields, "select 1,\n  nosuch") == (
        "ERROR:  bad\nLINE 2:   nosuch\n           ^\nDETAIL:  a detail\nHINT:  a hint"
    )
    assert format_message({"M": "bad", "P": "99"}, "select 1") == "ERROR:  bad"


def test_a_file_in_a_file(shell: Shell, client: FakeClient, tmp_path: Path) -> None:
    inner = tmp_path / "inner.sql"
    inner.write_text("select 2;")
    outer = tmp_path / "outer.sql"
    outer.write_text(f"select 1;\n\\i {inner}\nselect 3")
    assert shell.run_file(str(outer))
    assert client.statements == ["select 1", "select 2", "select 3"]
    outer.write_text("\\i missing.sql\nselect 4;")
    assert not shell.run_file(str(outer))
    assert client.statements[-1] == "select 3"
