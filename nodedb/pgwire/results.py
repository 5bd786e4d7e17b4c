"""What an executed statement answers: rows in pieces, COPY in both directions, the command tag.

The part of a connection that writes results. Rows leave in pieces near ``output_bytes_flush``, and
a client that does not read them holds back the execution, not the memory.

Source: PostgreSQL docs, "Message Flow" (COPY Operations).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final

from nodedb.pgwire import backend
from nodedb.pgwire import message as m
from nodedb.pgwire.codec import FrontendDecoder
from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.errors import ConnectionLost, FatalError, error_fields, framing_lost
from nodedb.pgwire.rows import RowEncoder
from nodedb.pgwire.shapes import Shapes
from nodedb.session.api import CopyIn, CopyOut, FrontEndSession, Result
from sql.errors import ProtocolViolation
from sql.types.base import Row

# Rows encoded at once: few until their width is known, then about a flush's worth.
_ROWS_FIRST: Final = 32
_ROWS_MAX: Final = 1024


class ResultWriter:
    """Writes results into ``out``; the connection that it is a part of says how that leaves."""

    def __init__(self, settings: PgWireSettings) -> None:
        self.settings = settings
        self.out = bytearray()
        self.decoder = FrontendDecoder()
        self._is_copying = False
        self._shapes = Shapes()

    @abstractmethod
    async def wait_input(self) -> None:
        """Send what there is and wait for more input."""

    @abstractmethod
    async def _give_way(self) -> None:
        """Send what there is; wait while the socket is full."""

    @abstractmethod
    def _append_notices(self, session: FrontEndSession) -> None:
        """Write the pending notices."""

    async def _answer(
        self, session: FrontEndSession, result: Result, formats: Sequence[int]
    ) -> None:
        """Write what an executed statement answers, RowDescription excepted."""
        out = self.out
        columns = result.columns
        if result.copy_in is not None:
            result.tag = await self._copy_in(result.copy_in)
        elif result.copy_out is not None:
            await self._copy_out(result.copy_out)
        elif columns is not None:
            rows = result.rows
            if rows or result.more is not None:
                encode = self._shapes.find(session.format, columns, formats).encode
                if result.more is None and len(rows) <= _ROWS_FIRST:
                    encode(rows, out)
                else:
                    await self._stream(result, encode)
        if result.finish is not None:
            finish, result.finish = result.finish, None
            await finish()
        self._append_notices(session)
        if result.suspended:
            out += backend.PORTAL_SUSPENDED
        elif result.empty:
            out += backend.EMPTY_QUERY_RESPONSE
        else:
            out += backend.command_complete(result.tag)
        if len(out) >= self.settings.output_bytes_flush:
            await self._give_way()

    async def _stream(self, result: Result, encode: RowEncoder) -> None:
        """Write rows batch by batch, in pieces that keep the buffer near its flush size."""
        try:
            rows = result.rows
            while True:
                await self._write_rows(rows, encode)
                if result.more is None:
                    return
                rows = await result.more()
                if not rows:
                    return
        except BaseException:
            # Its functions know the result: a cycle, which would keep the rows of a statement that
            # ends here until the collector finds them.
            result.finish = None
            raise
        finally:
            result.more = None
            result.rows = ()

    async def _write_rows(self, rows: Sequence[Row], encode: RowEncoder) -> None:
        limit = self.settings.output_bytes_flush
        out = self.out
        step = _ROWS_FIRST
        start = 0
        while start < len(rows):
            before = len(out)
            encode(rows[start : start + step], out)
            start += step
            # Wide rows must not pile up to a multiple of the flush size, nor narrow ones cost a
            # call each.
            step = min(max(step * limit // (len(out) - before + 1), 1), 2 * step, _ROWS_MAX)
            if len(out) >= limit:
                await self._give_way()

    async def _copy_in(self, copy: CopyIn) -> str:
        self._begin_copy(copy)
        return await self._receive_copy(copy)

    def _begin_copy(self, copy: CopyIn) -> None:
        backend.copy_in_response(
            self.out, binary=copy.format_binary, column_count=copy.column_count
        )

    async def _receive_copy(self, copy: CopyIn) -> str:
        tag = self.decoder.last_tag
        self._is_copying = True
        try:
            while True:
                bodies = self.decoder.take_copy_data()
                if bodies:
                    await copy.data(bodies[0] if len(bodies) == 1 else b"".join(bodies))
                    continue
                message = self.decoder.next_message()
                if message is None:
                    # Then all that has come by then is one step again.
                    await self.wait_input()
                    continue
                kind = type(message)
                if kind is m.CopyData:
                    await copy.data(message.data)  # type: ignore[union-attr]  # kind narrows it
                elif kind is m.CopyDone:
                    return await copy.done()
                elif kind is m.CopyFail:
                    copy.fail(message.reason)  # type: ignore[union-attr]  # kind narrows it
                elif kind is m.Terminate:
                    raise ConnectionLost("terminated")
                elif kind is not m.Flush and kind is not m.Sync:
                    # libpq sends a Sync with its Execute, before it knows of the COPY: ignored.
                    raise self._out_of_step()
        finally:
            # An error is answered as one of the message that began the COPY.
            self.decoder.last_tag = tag
            self._is_copying = False

    def _out_of_step(self) -> FatalError:
        """Report a message that may not come amid COPY data; who sends it is lost, as are we."""
        text = f"unexpected message type 0x{self.decoder.last_tag:02X} during COPY from stdin"
        backend.error_response(self.out, error_fields(ProtocolViolation(text)))
        return framing_lost("terminating connection because protocol synchronization was lost")

    async def _copy_out(self, copy: CopyOut) -> None:
        backend.copy_out_response(
            self.out, binary=copy.format_binary, column_count=copy.column_count
        )
        while chunks := await copy.next_chunk():
            for chunk in chunks:
                backend.copy_data(self.out, chunk)
            if len(self.out) >= self.settings.output_bytes_flush:
                await self._give_way()
        self.out += backend.COPY_DONE
