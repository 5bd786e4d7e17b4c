"""Golden transcripts of the failure detector: verbs above ``---``, what happened below.

Time is virtual, datagrams take one millisecond. Verbs:

* ``settings NAME=VALUE ...`` before the first member;
* ``member n1 [seeds=n2,n3] [boot=2]`` starts a node (again);
* ``advance ms=1000`` prints every message in that time, ``advance ms=1000 quiet`` only the changes;
* ``drop from=n1 to=n2 [type=Ping]`` loses messages one way, ``heal`` ends that;
* ``slow n1 ms=600``: what comes to n1 is handled that much later;
* ``kill n1``, ``leave n1``, ``freeze n1``, ``thaw n1``;
* ``members [n1]`` prints who holds whom for what; ``health`` the local health scores.

``GOLDEN_REWRITE=1`` records; review the diff like code.
"""

import os
import shlex
from pathlib import Path

import pytest
from swim_world import Change, Sent, World

from cluster.swim import Member, MemberState, SwimSettings
from cluster.swim.message import Ack, MemberUpdate, Message, Nack, PingReq

SCRIPTS = sorted(Path(__file__).parent.glob("*.golden"))


def number(name: str) -> int:
    assert name.startswith("n"), name
    return int(name[1:])


class Transcript:
    def __init__(self) -> None:
        self.world = World(1, delay_seconds=(0.001, 0.001))
        self.world.is_recording = True
        self.drops: set[tuple[int, int, str]] = set()
        self.world.drop_if = lambda sender, to, message: bool(
            {(sender, to, ""), (sender, to, type(message).__name__)} & self.drops
        )

    def run(self, line: str) -> list[str]:
        verb, *words = shlex.split(line)
        named = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        match verb:
            case "settings":
                self.world.settings = SwimSettings(
                    **{name: float(value) if "." in value else int(value)
                       for name, value in named.items()}  # type: ignore[arg-type]
                )  # fmt: skip
                return []
            case "member":
                seeds = tuple(number(seed) for seed in named.get("seeds", "").split(",") if seed)
                self.world.add(number(plain[0]), seeds, boot=int(named.get("boot", "1")))
                return []
            case "advance":
                return self.advance(int(named["ms"]), is_quiet="quiet" in plain)
            case "drop":
                ends = number(named["from"]), number(named["to"])
                self.drops.add((*ends, named.get("type", "")))
                return []
            case "heal":
                self.drops.clear()
                return []
            case "slow":
                self.world.nodes[number(plain[0])].slow_seconds = int(named["ms"]) / 1000
                return []
            case "kill" | "leave" | "freeze" | "thaw":
                getattr(self.world, verb)(number(plain[0]))
                return []
            case "members":
                return self.members([number(name) for name in plain])
            case "health":
                return [
                    f"n{node_id} {node.core.awareness.score}"
                    for node_id, node in sorted(self.world.nodes.items())
                ]
        raise ValueError(f"no verb {verb!r}")

    def advance(self, milliseconds: int, *, is_quiet: bool) -> list[str]:
        self.world.run(milliseconds / 1000)
        happened: list[tuple[float, int, str]] = []
        for change in self.world.changes:
            happened.append((change.at, len(happened), change_text(change)))
        for sent in self.world.sent:
            if not is_quiet:
                happened.append((sent.at, len(happened), sent_text(sent)))
        self.world.changes.clear()
        self.world.sent.clear()
        return [f"{at * 1000:6.0f} {text}" for at, _, text in sorted(happened)]

    def members(self, observers: list[int]) -> list[str]:
        lines = []
        for node_id, node in sorted(self.world.nodes.items()):
            if node.is_up and (not observers or node_id in observers):
                held = " ".join(member_text(member) for member in node.core.members())
                lines.append(f"n{node_id}: {held}")
        return lines


def member_text(member: Member) -> str:
    return f"n{member.node_id}={member.state.name.lower()}@{member.boot}.{member.incarnation}"


def update_text(update: MemberUpdate) -> str:
    by = f" by n{update.suspected_by}" if update.suspected_by else ""
    return member_text(update.member()) + by


def change_text(change: Change) -> str:
    old = "unknown" if change.old is None else change.old.name.lower()
    return f"n{change.observer}: n{change.node_id} {old} -> {change.new.name.lower()}"


def sent_text(sent: Sent) -> str:
    message: Message = sent.message
    to = sent.destination.removeprefix("10.0.0.").removesuffix(":9400")
    what = f"{type(message).__name__} #{message.probe_id}"
    if isinstance(message, PingReq):
        what += f" target=n{message.target}"
    elif isinstance(message, Ack) and message.target != message.sender.node_id:
        what += f" of n{message.target}"
    elif isinstance(message, Nack):
        what += f" {message.reason.name.lower()}"
    if message.sender.state is not MemberState.ALIVE:
        what += f" as {message.sender.state.name.lower()}"
    told = ", ".join(update_text(update) for update in message.piggyback)
    fate = "" if sent.fate == "sent" else f"  ({sent.fate})"
    return f"n{sent.sender} -> n{to} {what}{f' [{told}]' if told else ''}{fate}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    recorded = path.read_text(encoding="utf-8")
    transcript = Transcript()
    blocks = []
    for block in recorded.strip("\n").split("\n\n"):
        script = block.split("\n---", 1)[0]
        lines = [line for line in script.splitlines() if line and not line.startswith("#")]
        answers = [answer for line in lines for answer in transcript.run(line)]
        blocks.append("\n".join((script, "---", *(answers or ["nothing"]))) if lines else script)
    actual = "\n\n".join(blocks) + "\n"
    if os.environ.get("GOLDEN_REWRITE") == "1":
        path.write_text(actual, encoding="utf-8")
    assert actual == recorded, f"{path.name} differs: GOLDEN_REWRITE=1, then read the diff"


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5
