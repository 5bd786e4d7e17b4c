"""Runs a case of an isolation script against a server and writes its transcript.

The server is asked, through a connection of the runner's own, which of the sessions wait
(``pg_locks`` without grant). A session that is done or waits has come to rest; after each step
everybody is brought to rest before the next one starts, so a transcript does not depend on speed.
"""

import select
import time
from dataclasses import dataclass, field
from typing import Final

from tests.isolation.script import Case, Step
from tests.isolation.session import Answer, Protocol, Session

STEP_SECONDS_MAX: Final = 30.0
# A statement that waits for nobody is done by then.
_POLL_SECONDS_MIN: Final = 0.004
_POLL_SECONDS_MAX: Final = 0.05
# A DEFERRABLE transaction waits for others without a lock.
_WAITING: Final = (
    "SELECT pid FROM pg_locks WHERE NOT granted"
    " UNION SELECT pid FROM pg_stat_activity WHERE wait_event = 'SafeSnapshot'"
)
_CLEAN: Final = ("DROP SCHEMA IF EXISTS public CASCADE", "CREATE SCHEMA public")
_INDENT: Final = "    "
_IGNORED_SQLSTATE: Final = "25P02"
"""Follows from an earlier error, whose own SQLSTATE counts."""


class RunFailed(Exception):
    """A step neither ended nor waited, or setup failed; the transcript so far is in the message."""


@dataclass(slots=True)
class Outcome:
    """What came of it, whichever step showed it.

    Per session: how each of its transactions ended, and the SQLSTATEs it saw.
    """

    endings: dict[str, list[str]] = field(default_factory=dict)
    sqlstates: dict[str, set[str]] = field(default_factory=dict)
    final: list[str] = field(default_factory=list)

    def note(self, session: str, answer: Answer) -> None:
        """Take account of one answer."""
        if answer.sqlstate and answer.sqlstate != _IGNORED_SQLSTATE:
            self.sqlstates.setdefault(session, set()).add(answer.sqlstate)
        if answer.state == "idle":
            has_committed = not answer.sqlstate and answer.tags[-1:] != ["ROLLBACK"]
            ending = "committed" if has_committed else "rolled back"
            self.endings.setdefault(session, []).append(ending)

    def lines(self) -> list[str]:
        """Show it as text, for recordings and comparison."""
        shown = [
            f"{session}: {', '.join(self.endings[session])}" for session in sorted(self.endings)
        ]
        shown += [
            f"{session} saw {', '.join(sorted(self.sqlstates[session]))}"
            for session in sorted(self.sqlstates)
        ]
        return [*shown, *self.final]


class Runner:
    """One server, and the cases run on it one after the other, in its schema ``public``."""

    def __init__(self, dsn: str, protocol: Protocol = "simple") -> None:
        self._dsn = dsn
        self._protocol = protocol
        self._running: list[tuple[Session, Step]] = []
        self._sessions: dict[str, Session] = {}
        self._lines: list[str] = []
        self._outcome = Outcome()
        self._control = Session("control", dsn)
        self._command("SET client_min_messages = warning")

    def close(self) -> None:
        """Close the connections."""
        for session in (self._control, *self._sessions.values()):
            session.close()

    def run(self, case: Case) -> list[str]:
        """Run a case; returns its transcript, or its outcome if that is what it compares."""
        self._lines, self._outcome, self._running = [], Outcome(), []
        # One transaction: a commit for each statement is most of what a short case costs.
        self._command("; ".join([*_CLEAN, *case.setup]))
        for name in case.sessions:
            if name not in self._sessions:
                self._sessions[name] = Session(name, self._dsn, self._protocol)
        try:
            for step in case.steps:
                self._take(step)
            if self._running:
                names = [session.name for session, _ in self._running]
                raise self._failure(f"{names} still wait at the end")
        finally:
            self._end_sessions(case)
        for statement in case.final:
            self._outcome.final += self._command(statement).lines
        if case.compares_outcome:
            return self._outcome.lines()
        return [*self._lines, *(f"final: {line}" for line in self._outcome.final)]

    def _end_sessions(self, case: Case) -> None:
        """End what the case has left open; its sessions are as new for the next one."""
        for name in case.sessions:
            session = self._sessions[name]
            if session.is_running:
                self._sessions.pop(name).close()
        for name in case.sessions:
            if name in self._sessions:
                for statement in ("ROLLBACK", "DISCARD ALL"):
                    self._command(statement, self._sessions[name])

    def _command(self, statement: str, session: Session | None = None) -> Answer:
        """Run a statement of the runner's own to its end."""
        session = session or self._control
        session.send(statement)
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while (answer := session.take_answer()) is None:
            if time.monotonic() > deadline:
                raise self._failure(f"takes too long: {statement}")
            select.select([session.socket], [], [], _POLL_SECONDS_MAX)
        if answer.sqlstate:
            raise self._failure(f"{statement}: {answer.lines}")
        return answer

    def _take(self, step: Step) -> None:
        """Take a step and let everybody come to rest."""
        session = self._sessions[step.session]
        mark = "!" if step.ends_by_itself else ""
        first, *others = step.text.splitlines()
        self._lines.append(f"{step.session}{mark}: {first}")
        self._lines += [f"{_INDENT}{line}" for line in others]
        if session.is_running:
            raise self._failure(f"session {step.session} still waits")
        session.send(step.text)
        answer = self._rest(session, until_done=step.ends_by_itself)
        if answer is None:
            self._lines.append(f"{_INDENT}waits")
            self._running.append((session, step))
        else:
            self._show(session, answer)
        self._bring_to_rest()

    def _bring_to_rest(self) -> None:
        """Wait until all who were running before are done or wait again."""
        done: list[tuple[Session, Answer]] = []
        more = True
        while more:
            more = False
            for entry in list(self._running):
                answer = self._rest(entry[0], until_done=False)
                if answer is not None:
                    # What it held until now may have kept others: look at them once more.
                    more = True
                    self._running.remove(entry)
                    done.append((entry[0], answer))
        for session, answer in sorted(done, key=lambda pair: pair[0].name):
            self._lines.append(f"{session.name} goes on")
            self._show(session, answer)

    def _show(self, session: Session, answer: Answer) -> None:
        self._lines += [f"{_INDENT}{line}" for line in answer.lines]
        self._outcome.note(session.name, answer)

    def _rest(self, session: Session, *, until_done: bool) -> Answer | None:
        """Return the session's answer, None when it waits for somebody."""
        deadline = time.monotonic() + STEP_SECONDS_MAX
        pause = _POLL_SECONDS_MIN
        while True:
            select.select([session.socket], [], [], pause)
            answer = session.take_answer()
            if answer is not None:
                return answer
            if not until_done and self._is_waiting(session):
                return None
            if time.monotonic() > deadline:
                raise self._failure(f"session {session.name} neither ends nor waits")
            pause = min(pause * 2, _POLL_SECONDS_MAX)

    def _is_waiting(self, session: Session) -> bool:
        waiting = {int(row[0]) for row in self._command(_WAITING).rows}
        return session.process_id in waiting

    def _failure(self, what: str) -> RunFailed:
        return RunFailed("\n".join([*self._lines, what]))
