"""Golden transcripts: frontend messages above ``---``, backend messages below, then a blank line.

All frontend lines of a block reach the server in one packet. Besides the frontend messages there
are ``connect``, ``gate`` (lets the verb ``wait`` go on), ``notify``, ``log`` (what the session was
called for since the last time) and ``hex``. ``GOLDEN_REWRITE=1`` records; review
the diff like code.
"""

import os
import shlex
from pathlib import Path

import pytest
from pgwire_fakes import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    Harness,
    bind,
    close_request,
    describe,
    describe_request,
    execute,
    frame,
    parse,
    query,
    startup,
)

from nodedb.session.api import Notification

SCRIPTS = sorted(Path(__file__).parent.glob("*.golden"))


def encode(words: list[str]) -> bytes:
    """Turn one frontend line into its bytes."""
    match words:
        case ["Query", text]:
            return query(text)
        case ["Parse", name, text]:
            return parse(text, name)
        case ["Bind", portal, statement, *values]:
            parameters = [None if value == "NULL" else value.encode() for value in values]
            return bind(statement, portal, parameters)
        case ["BindBinary", portal, statement]:
            return bind(statement, portal, result_formats=(1,))
        case ["Describe", kind, name]:
            return describe_request(kind, name)
        case ["Close", kind, name]:
            return close_request(kind, name)
        case ["Execute", portal, limit]:
            return execute(portal, int(limit))
        case ["CopyData", text]:
            return frame("d", text.encode().decode("unicode_escape").encode())
        case ["CopyFail", reason]:
            return frame("f", reason.encode() + b"\0")
        case ["hex", *digits]:
            return bytes.fromhex("".join(digits))
        case ["FunctionCall"]:
            return frame("F", bytes(12))
        case ["Password"]:
            return frame("p", b"x\0")
    return {"Sync": SYNC, "Flush": FLUSH, "Terminate": TERMINATE, "CopyDone": COPY_DONE}[words[0]]


class Transcript:
    def __init__(self) -> None:
        self.harness = Harness()

    def run(self, lines: list[str]) -> list[str]:
        packet = b""
        answers: list[str] = []
        for line in lines:
            words = shlex.split(line)
            match words:
                case ["connect", *pairs]:
                    self.harness = Harness()
                    packet += startup(**dict(pair.split("=", 1) for pair in pairs))
                case ["gate"]:
                    self.harness.session.gate.set_result(None)
                case ["notify", channel, payload]:
                    self.harness.session.notifications.append(Notification(9, channel, payload))
                    self.harness.connection.deliver_asynchronous()
                case ["log"]:
                    answers += [f"session {entry}" for entry in self.harness.session.log]
                    self.harness.session.log.clear()
                case _:
                    packet += encode(words)
        if packet:
            self.harness.connection.receive(packet)
        answers += describe(self.harness.io.take())
        if self.harness.io.is_closed:
            answers.append("closed")
        return answers or ["nothing"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    recorded = path.read_text(encoding="utf-8")
    transcript = Transcript()
    blocks = []
    for block in recorded.strip("\n").split("\n\n"):
        script = block.split("\n---", 1)[0]
        lines = [line for line in script.splitlines() if line and not line.startswith("#")]
        answers = transcript.run(lines)
        blocks.append("\n".join((script, "---", *answers)))
    actual = "\n\n".join(blocks) + "\n"
    if os.environ.get("GOLDEN_REWRITE") == "1":
        path.write_text(actual, encoding="utf-8")
    assert actual == recorded, f"{path.name} differs: GOLDEN_REWRITE=1, then read the diff"


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5
