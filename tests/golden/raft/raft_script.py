"""Runs interaction scripts: one verb per line, arguments by position or ``name=value``.

Each verb is a function below, with an example in its docstring. What nodes do in their turns is
told line by line:

    n1 is candidate in term 2          a change of role, term or leader
    n1 keeps term=2 voted_for=1        hard state that is durable before anything leaves
    n1 appends 3@2 "x"                 durable too
    n1 -> n2 VoteRequest@2 last=1@1    a message that leaves
    n2 <- n1 VoteRequest@2 last=1@1    one that is delivered
    n1 commits 3, counts in ..., ...
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable

from raft_cluster import Node, RaftCluster, SnapshotDone, SnapshotMessage, Travelling

from cluster.errors import ClusterError
from cluster.raft.config import RaftConfig
from cluster.raft.message import (
    CONF_CHANGE_MARK,
    AppendRequest,
    AppendResponse,
    Configuration,
    Entry,
    Heartbeat,
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    decode_conf_change,
)

# No quiescence and no heartbeats of their own unless a script asks for them.
CONFIG = RaftConfig(inflight_entries_max=8, append_bytes_max=64, inflight_bytes_max=256)


def show_payload(payload: bytes) -> str:
    if not payload:
        return "(first of the term)"
    if payload[0] == CONF_CHANGE_MARK:
        change = decode_conf_change(payload)
        assert change is not None
        return f"({change.kind} {change.node_id})"
    return f'"{payload.decode()}"'


def show_entries(entries: Iterable[Entry]) -> str:
    return ", ".join(f"{index}@{term} {show_payload(payload)}" for index, term, payload in entries)


def show_configuration(configuration: Configuration) -> str:
    voters = ",".join(map(str, configuration.voters)) or "none"
    learners = ",".join(map(str, configuration.learners))
    return f"voters={voters}" + (f" learners={learners}" if learners else "")


def describe(message: Travelling) -> str:
    """Say what a message says, without its round."""
    match message:
        case PreVoteRequest() | VoteRequest():
            forced = " forced" if isinstance(message, VoteRequest) and message.is_forced else ""
            text = f"last={message.last_index}@{message.last_term}{forced}"
        case PreVoteResponse() | VoteResponse():
            text = "granted" if message.is_granted else "refused"
        case AppendRequest():
            entries = f" [{show_entries(message.entries)}]" if message.entries else " []"
            text = f"prev={message.prev_index}@{message.prev_term} commit={message.commit_index}"
            text += entries
        case AppendResponse():
            text = (
                f"matched={message.index}"
                if message.is_matched
                else (f"refused={message.index} hint={message.hint_index}@{message.hint_term}")
            )
        case Heartbeat():
            text = f"commit={message.commit_index}" + (" quiesce" if message.is_quiesce else "")
        case HeartbeatResponse():
            text = f"matched={message.matched_index}" + (" awake" if message.is_awake else "")
        case TimeoutNow():
            text = ""
        case SnapshotMessage():
            return (
                f"Snapshot up to {message.index}@{message.index_term} "
                f"{show_configuration(message.configuration)} {len(message.state)} entries"
            )
        case SnapshotDone():
            return f"SnapshotDone {message.index} {'ok' if message.ok else 'failed'}"
    return f"{type(message).__name__}@{message.term} {text}".rstrip()


class Traced(RaftCluster):
    """Tells what happens."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        self.lines: list[str] = []
        self._seen: dict[int, dict[str, object]] = {}
        super().__init__(*arguments, **keywords)  # type: ignore[arg-type]
        self.on_send = self._tell_sent

    def _tell_sent(self, message: Travelling) -> None:
        lost = " (lost)" if (message.sender, message.recipient) in self.cut else ""
        self.lines.append(f"n{message.sender} -> n{message.recipient} {describe(message)}{lost}")

    def _facts(self, node: Node) -> dict[str, object]:
        core = node.core
        leader = f", led by {core.leader_id}" if core.leader_id not in (0, core.node_id) else ""
        return {
            "is": f"{core.role} in term {core.term}{leader}",
            "keeps": f"term={core.term} voted_for={core.voted_for}",
            "log": node.store.all_entries(),
            "base": node.store.first_index() - 1,
            "commits": core.commit_index,
            "counts in": show_configuration(core.configuration),
            "sleeps": core.is_quiescent,
            "reads": len(node.read_states),
        }

    def turn(self, node_id: int) -> None:
        node = self.nodes[node_id]
        if node.is_down or node.is_stalled:
            return
        sends_at = len(self.lines)
        super().turn(node_id)
        before = self._seen.get(node_id)
        after = self._seen[node_id] = self._facts(node)
        told: list[str] = []
        after_sends: list[str] = []
        if before is not None:
            told += [
                f"n{node_id} {name} {after[name]}"
                for name in ("is", "keeps", "counts in")
                if before[name] != after[name]
            ]
            told += self._log_changes(node_id, before, after)
            if before["commits"] != after["commits"]:
                after_sends.append(f"n{node_id} commits {after['commits']}")
            if before["sleeps"] != after["sleeps"]:
                after_sends.append(f"n{node_id} {'falls asleep' if after['sleeps'] else 'wakes'}")
            for context, index in node.read_states[int(str(before["reads"])) :]:
                text = f"may see {index}" if index >= 0 else "is refused"
                after_sends.append(f"n{node_id} read {context} {text}")
        self.lines[sends_at:sends_at] = told
        self.lines += after_sends

    @staticmethod
    def _log_changes(
        node_id: int, before: dict[str, object], after: dict[str, object]
    ) -> list[str]:
        old, new = before["log"], after["log"]
        assert isinstance(old, list)
        assert isinstance(new, list)
        if before["base"] != after["base"]:
            return [f"n{node_id} has a log from {int(str(after['base'])) + 1} on"]
        same = 0
        while same < min(len(old), len(new)) and old[same] == new[same]:
            same += 1
        lines = []
        if same < len(old):
            lines.append(f"n{node_id} drops {show_entries(old[same:])}")
        if same < len(new):
            lines.append(f"n{node_id} appends {show_entries(new[same:])}")
        return lines

    def step(self, message: Travelling) -> None:
        node = self.nodes.get(message.recipient)
        fate = "" if node is not None and not node.is_down else " (down)"
        self.lines.append(f"n{message.recipient} <- n{message.sender} {describe(message)}{fate}")
        super().step(message)


class Script:
    """The state of one script. Every method without underscore is a verb."""

    def __init__(self) -> None:
        self._cluster = Traced([1])

    def _run(self, line: str) -> list[str]:
        """Run one line; return what it told."""
        verb, *words = line.split()
        named = dict(word.split("=", 1) for word in words if "=" in word)
        flags = {word.replace("-", "_"): True for word in words if word in FLAGS}
        plain = [word for word in words if "=" not in word and word not in FLAGS]
        action: Callable[..., list[str] | None] = getattr(self, verb.replace("-", "_"))
        before = self._cluster
        before.lines = []
        try:
            told = action(*plain, **named, **flags)
        except (ClusterError, AssertionError) as error:
            return [*before.lines, f"{type(error).__name__}: {error}"]
        lines = self._cluster.lines
        self._cluster.lines = []
        return [*lines, *(told or [])]

    # Making a cluster

    def cluster(self, nodes: str, learners: str = "", quiesce_ms: str = "0", at: str = "1") -> None:
        """``cluster nodes=1,2,3 learners=3`` starts empty nodes; their silence has passed."""
        ids = [int(word) for word in nodes.split(",")]
        learning = [int(word) for word in learners.split(",") if word]
        voting = [node_id for node_id in ids if node_id not in learning]
        config = RaftConfig(
            inflight_entries_max=CONFIG.inflight_entries_max,
            append_bytes_max=CONFIG.append_bytes_max,
            inflight_bytes_max=CONFIG.inflight_bytes_max,
            quiesce_after_seconds=int(quiesce_ms) / 1000,
        )
        self._cluster = Traced(ids, voters=voting, learners=learning, config=config, seed=int(at))
        self._cluster.end_silence()

    # Inputs

    def tick(self, ms: str, only: str = "") -> None:
        """``tick 150 only=1,2`` lets time pass, in ticks of 25 ms; nothing is delivered."""
        self._cluster.tick(int(ms), [int(word) for word in only.split(",")] if only else None)

    def run(self, ms: str) -> None:
        """``run 150`` lets time pass and delivers all at once; does not tell of heartbeats."""
        cluster = self._cluster
        cluster.run(int(ms))
        cluster.lines = [line for line in cluster.lines if not PLAIN_HEARTBEAT.search(line)]

    def elect(self, node: str) -> list[str]:
        """``elect 1`` campaigns and delivers; tells only how it ended."""
        cluster = self._cluster
        cluster.campaign(int(node))
        cluster.deliver_all()
        cluster.lines = []
        return [line for line in self.status(node) if not line.startswith(" ")]

    def campaign(self, node: str) -> None:
        """``campaign 1`` asks for votes, first for pre-votes."""
        self._cluster.campaign(int(node))

    def propose(self, node: str, *payloads: str) -> list[str]:
        """``propose 1 x y`` proposes two entries in two turns."""
        ids = [self._cluster.propose(int(node), payload.encode()) for payload in payloads]
        return [f"proposed {' '.join(f'{found.index}@{found.term}' for found in ids)}"]

    def propose_conf_change(self, node: str, kind: str, target: str) -> None:
        """``propose-conf-change 1 add_learner 4``; a node that is new starts with an empty log."""
        self._cluster.change(int(node), kind, int(target))

    def transfer(self, node: str, target: str) -> None:
        """``transfer 1 2`` hands leadership to node 2."""
        self._cluster.transfer(int(node), int(target))

    def read(self, node: str, context: str) -> None:
        """``read 1 77`` asks by ReadIndex."""
        self._cluster.core(int(node)).read_index(int(context), self._cluster.now)
        self._cluster.turn(int(node))

    def wake(self, node: str) -> None:
        """``wake 1`` ends the sleep of a quiescent replica."""
        self._cluster.core(int(node)).wake(self._cluster.now)
        self._cluster.turn(int(node))

    # Network

    def _matching(self, named: dict[str, str]) -> list[Travelling]:
        return [
            message
            for message in self._cluster.network
            if named.get("from", str(message.sender)) == str(message.sender)
            and named.get("to", str(message.recipient)) == str(message.recipient)
            and named.get("type", type(message).__name__) == type(message).__name__
        ]

    def deliver(self, count: str = "1000", **named: str) -> None:
        """``deliver from=1 to=2 type=VoteRequest count=1`` delivers what waits now, in order."""
        for message in self._matching(named)[: int(count)]:
            self._cluster.network.remove(message)
            self._cluster.step(message)

    def duplicate(self, **named: str) -> None:
        """``duplicate type=AppendRequest`` has what waits arrive twice."""
        self._cluster.network += self._matching(named)

    def drop(self, **named: str) -> list[str]:
        """``drop to=3`` loses what waits."""
        chosen = self._matching(named)
        lost = self._cluster.lose_where(lambda message: any(message is one for one in chosen))
        return [f"lost: {describe(message)} to n{message.recipient}" for message in lost]

    def partition(self, sides: str) -> None:
        """``partition 1|2,3`` cuts the links between the sides, and loses what is on them."""
        self._cluster.partition(*([int(n) for n in side.split(",")] for side in sides.split("|")))

    def heal(self) -> None:
        """``heal`` mends all links."""
        self._cluster.heal()

    def stabilize(self) -> None:
        """``stabilize`` delivers until nothing waits; time stands."""
        self._cluster.deliver_all()

    # Nodes

    def crash(self, node: str) -> None:
        """``crash 1`` loses what was not flushed, and what is on its way to the node."""
        self._cluster.crash(int(node))

    def restart(self, node: str, *, lose_unsynced: bool = False) -> None:
        """``restart 1 lose-unsynced`` starts a node again; without the word nothing is lost."""
        cluster = self._cluster
        cluster.restart(int(node), lose_unsynced=lose_unsynced)

    def stall_disk(self, node: str) -> None:
        """``stall-disk 2`` lets no flush return: the node takes inputs and ends no turn."""
        self._cluster.nodes[int(node)].is_stalled = True

    def resume_disk(self, node: str) -> None:
        """``resume-disk 2`` ends that."""
        self._cluster.nodes[int(node)].is_stalled = False
        self._cluster.turn(int(node))

    def fill_disk(self, node: str, *payloads: str) -> None:
        """``fill-disk 1 x`` proposes, and has the driver take it back: the disk is full."""
        node_id = int(node)
        core = self._cluster.core(node_id)
        store = self._cluster.nodes[node_id].store
        last_index = store.last_index()
        for payload in payloads:
            core.propose(payload.encode())
        store.discard_after(last_index)
        core.on_proposals_discarded()
        self._cluster.turn(node_id)

    def compact(self, node: str, index: str = "0") -> None:
        """``compact 1 5`` lets go of the log up to entry 5, or to what is applied."""
        self._cluster.compact(int(node), int(index) or None)
        self._cluster.turn(int(node))

    def lose_disk(self, node: str) -> None:
        """``lose-disk 2`` starts the node with an empty store."""
        self._cluster.lose_disk(int(node))

    def fail_snapshot(self, node: str) -> None:
        """``fail-snapshot 1`` breaks the streams of snapshots that node 1 sends."""
        self._cluster.lose_where(
            lambda message: isinstance(message, SnapshotMessage) and message.sender == int(node)
        )

    # Looking

    def log(self, node: str) -> list[str]:
        """``log 1`` shows a log."""
        store = self._cluster.nodes[int(node)].store
        base = f"base {store.first_index() - 1}@{store.term_at(store.first_index() - 1)}"
        return [f"n{node} {base} [{show_entries(store.all_entries())}]"]

    def status(self, *nodes: str) -> list[str]:
        """``status 1 2`` shows what SHOW RAFT GROUP would."""
        lines = []
        now = self._cluster.now
        for node_id in [int(word) for word in nodes] or list(self._cluster.nodes):
            node = self._cluster.nodes[node_id]
            core = node.core
            if node.is_down:
                lines.append(f"n{node_id} down")
                continue
            lease = core.lease_until - now
            shown = "for ever" if lease == math.inf else f"{round(max(lease, 0) * 1000)} ms"
            lines.append(
                f"n{node_id} {core.role} term={core.term} leader={core.leader_id} "
                f"commit={core.commit_index} applied={core.applied_index} "
                f"{show_configuration(core.configuration)}"
                + (f" lease={shown}" if lease > 0 else "")
                + (" asleep" if core.is_quiescent else "")
            )
            lines += [
                f"   n{peer} {progress.state} match={progress.match_index} next={progress.next_index}"
                for peer, progress in core.progress.items()
            ]
        return lines


FLAGS = {"lose-unsynced"}
PLAIN_HEARTBEAT = re.compile(r"Heartbeat(Response)?@\d+ \S+( \((lost|down)\))?$")
VERBS = sorted(
    name.replace("_", "-")
    for name, _ in inspect.getmembers(Script, inspect.isfunction)
    if not name.startswith("_")
)


def run_script(text: str) -> str:
    """Return a script with its outputs as they are now."""
    script = Script()
    blocks = []
    for block in text.strip("\n").split("\n\n"):
        commands = block.split("\n---", 1)[0]
        told: list[str] = []
        for line in commands.splitlines():
            if line and not line.startswith("#"):
                told += script._run(line)
        blocks.append("\n".join((commands, "---", *(told or ["nothing"]))))
    return "\n\n".join(blocks) + "\n"
