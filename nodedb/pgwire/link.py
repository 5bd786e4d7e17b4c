"""The gateway's end of a stream to an executor: frames in, and whether anybody is there.

While an answer is awaited the executor is asked now and then whether it still is there; one that
says nothing for ``SILENCE_SECONDS_MAX`` counts as lost, whatever the network says, and one that
another node has deposed meanwhile much sooner. Time in which this node itself stood still does not
count. Before a batch leaves on a stream that has been silent, the gateway asks first: what is never
sent surely was not executed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from nodedb.gateway import message as f
from nodedb.gateway.channel import Channel
from nodedb.session.state import StateSync

if TYPE_CHECKING:
    from nodedb.kv.replicator import Timer
    from nodedb.session.forwarding import Forwarding
    from nodedb.session.session import Session

PING_SECONDS: Final = 0.5
SILENCE_SECONDS_MAX: Final = 4.0
SILENCE_DEPOSED_SECONDS_MAX: Final = 1.0
"""Of an executor whose node does not lead any more: alive, it would have said so."""
TRUST_SECONDS: Final = 0.5
"""So long after its last word an executor is believed to be there without being asked."""


class Frame(NamedTuple):
    """A frame as it came; see ``nodedb.gateway.message``."""

    kind: int
    header: f.Header | None
    data: bytes


class LinkOwner(Protocol):
    """Who awaits the frames."""

    def on_link(self, link: ExecutorLink) -> None:
        """Learn that a frame came, that there is room, or that the link is over."""


class ExecutorLink:
    """One session's stream to its executor. Its owner looks at ``inbox`` when told to."""

    def __init__(
        self, owner: LinkOwner, forwarding: Forwarding, session: Session, address: str
    ) -> None:
        self.address = address
        self.sync = StateSync(session)
        self.inbox: deque[Frame] = deque()
        self.is_finished = False
        """The executor has finished in order: the session is over."""
        self.broken_by = ""
        """Why the stream broke, once it did."""
        self.pong_count = 0
        self.batch_number = 0
        """Of the last batch that was sent."""
        self.is_on_hold = False
        self.heard_at = float("-inf")
        self._owner: LinkOwner | None = owner
        self._clock = forwarding.clock
        self._leadership = session.leadership
        self._schedule = forwarding.schedule
        self._timer: Timer | None = None
        self._is_paused = False
        # Since the timer looked last; and how often in a row it heard nothing.
        self._has_heard = True
        self._silent_count = 0
        self._is_watched = False
        # The beginning of what the client gets once it is whole.
        self._parts: list[bytes] = []
        self._channel = Channel(self, forwarding.open(address, session, self.sync))

    def start(self) -> None:
        """Open the stream."""
        self._channel.start()

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more comes."""
        return self.is_finished or bool(self.broken_by)

    @property
    def may_send(self) -> bool:
        """Tell whether more data may be sent now."""
        return not self.is_on_hold and not self._channel.is_full

    @property
    def is_trusted(self) -> bool:
        """Tell whether it need not be asked before a batch is sent."""
        return self._clock.monotonic() - self.heard_at < TRUST_SECONDS

    def send(self, kind: int, header: f.Header | None, data: bytes = b"") -> None:
        """Send a frame, or as many as the data take."""
        for frame in f.frames(kind, header, data):
            self._channel.send(frame)

    def ping(self) -> None:
        """Ask whether it is there; ``pong_count`` grows when it is."""
        self._channel.send(f.PING_FRAME)

    def end_input(self) -> None:
        """Tell that the client sends no more; what it has sent is still answered."""
        self._channel.finish_sending()

    def pause(self) -> None:
        """Let what comes wait in the stream."""
        self._is_paused = True
        self._channel.pause()

    def resume(self) -> None:
        """Take what comes again."""
        if self._is_paused:
            self._is_paused = False
            self._has_heard = True
            self._channel.resume()

    def begin_watch(self) -> None:
        """Await an answer: from now on silence is suspicious."""
        self._silent_count = 0
        self._has_heard = self._is_watched = True
        if self._timer is None:
            self._timer = self._schedule.later(PING_SECONDS, self._look)

    def end_watch(self) -> None:
        """Await nothing; the timer finds out by itself, for most answers come long before it."""
        self._is_watched = False

    def close(self) -> None:
        """Let go of the executor, which rolls back what is open."""
        self._owner = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._channel.abort("the session goes on elsewhere, or is over")

    def _look(self) -> None:
        self._timer = None
        if self.is_over or not self._is_watched:
            return
        # Where nobody listens nothing is heard.
        is_silent = not self._has_heard and not self._is_paused
        self._silent_count = self._silent_count + 1 if is_silent else 0
        limit = SILENCE_DEPOSED_SECONDS_MAX if self._is_deposed else SILENCE_SECONDS_MAX
        if self._silent_count * PING_SECONDS >= limit:
            self._channel.abort("no answer")
            self.on_broken("the leader does not answer")
            return
        self._has_heard = False
        self.ping()
        self._timer = self._schedule.later(PING_SECONDS, self._look)

    @property
    def _is_deposed(self) -> bool:
        """Tell whether another node is known to lead."""
        leadership = self._leadership
        return leadership.may_serve or leadership.leader_address not in (None, self.address)

    # nodedb.gateway.channel.ChannelOwner

    def on_chunk(self, chunk: bytes) -> None:
        """Take a frame."""
        self.heard_at = self._clock.monotonic()
        self._has_heard = True
        try:
            frame = Frame(*f.decode_frame(chunk))
        except f.BadFrame as error:
            self._channel.abort(str(error))
            self.on_broken(str(error))
            return
        if frame.kind == f.PONG:
            self.pong_count += 1
        elif frame.kind in (f.HOLD, f.GO):
            self.is_on_hold = frame.kind == f.HOLD
        elif frame.kind == f.PART:
            self._parts.append(frame.data)
            return
        else:
            if self._parts:
                frame = frame._replace(data=b"".join((*self._parts, frame.data)))
                self._parts.clear()
            self.inbox.append(frame)
        self._tell()

    def on_finished(self) -> None:
        """Take the executor's end."""
        self.is_finished = True
        self._tell()

    def on_broken(self, reason: str) -> None:
        """Take the loss of the executor."""
        if self.is_finished:
            return
        self.broken_by = reason or "the connection is lost"
        self._tell()

    def on_room(self) -> None:
        """Go on sending."""
        self._tell()

    def _tell(self) -> None:
        if self._owner is not None:
            self._owner.on_link(self)
