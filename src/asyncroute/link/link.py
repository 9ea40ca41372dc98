"""One association's connection: a stream, its PDU reader, what waits to be written, and its deadline.

``Link`` is the base of both roles (``receive.association.Acceptor``, ``forward.association.Requestor``). It turns
readiness into ``feed`` calls and outgoing pieces into writes, keeps the whole-PDU and idle deadlines, and tells the
role of the end exactly once through ``lost``.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from itertools import islice

from asyncroute.core.errors import PeerFault
from asyncroute.link import tls
from asyncroute.link.deadlines import NEVER, Deadlines
from asyncroute.link.stream import Stream
from asyncroute.wire.pdata import PduReader

log = logging.getLogger(__name__)

IOV = 1000
"""Pieces per write (the kernel takes 1024)."""

READS = 4
"""Reads per readiness before others have their turn."""

MAX_OUT = 64 << 10
"""Bytes of answers that may wait for a peer that does not read (the kernel holds megabytes more); beyond it the peer is
given up."""


class Link:
    """See module. Subclasses give ``fragment`` and ``pdu`` (as a ``wire.pdata.Sink``), ``_receive`` and ``lost``."""

    def __init__(
        self, stream: Stream, deadlines: Deadlines, max_pdu: int, pdu_timeout: float, idle_timeout: float
    ) -> None:
        self.stream = stream
        self.loop = asyncio.get_running_loop()
        self.reader = PduReader(self, max_pdu)
        self.since = self.loop.time()
        self.deadline = NEVER
        self.ended = False
        self._deadlines = deadlines
        self._pdu_timeout = pdu_timeout
        self._idle_timeout = idle_timeout
        self._counted = 0
        self._out: deque[bytes | memoryview] = deque()
        self._out_size = 0
        self.written = 0  # bytes that the kernel has taken
        self._paused_at = 0.0
        self._left = NEVER
        deadlines.add(self)
        stream.attach(self._on_readable, self._on_writable, self._on_fault)

    # ---- for the roles to give

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """See ``wire.pdata.Sink``."""
        raise NotImplementedError

    def pdu(self, kind: int, body: bytes) -> None:
        """See ``wire.pdata.Sink``."""
        raise NotImplementedError

    def lost(self, fault: PeerFault) -> None:
        """The connection is over (closed by now). Called once, unless ``close`` came first."""
        raise NotImplementedError

    def broke(self, error: PeerFault) -> None:
        """The peer broke the protocol; the role answers and closes."""
        raise NotImplementedError

    def drained(self) -> None:
        """All that waited to be written has been."""

    def expired(self) -> None:
        """The deadline passed."""
        raise NotImplementedError

    def _receive(self) -> bool:
        """Read once and feed; whether there may be more to read now."""
        raise NotImplementedError

    # ---- reading

    def _on_readable(self) -> None:
        try:
            # Until there is nothing left: after an error on the socket (a reset) the loop says "readable" only once,
            # and what arrived before is read first; TLS may hold bytes that the socket no longer shows.
            for _ in range(READS):
                if self._paused_at or not self._receive():
                    break
            else:
                self.loop.call_soon(self._read_on)
        except BlockingIOError:
            pass
        except PeerFault as error:
            if not self.ended:
                self.broke(error)
            return
        except OSError as error:
            self._gone(_words(error))
            return
        if not self.ended:
            self._progress()

    def _progress(self) -> None:
        """Set the deadline after a read: a whole PDU's if one has begun, not renewed by a drip; else the idle one."""
        if not self.reader.mid_pdu:
            self._allow(self._idle_timeout)
            self._counted = 0
        elif self.reader.count != self._counted:
            self._counted = self.reader.count
            self._allow(self._pdu_timeout)

    def _allow(self, seconds: float) -> None:
        """So long from now; while we pause, from when we read on."""
        if self._paused_at:
            self._left = seconds
        else:
            self.deadline = self.loop.time() + seconds

    def pause(self) -> None:
        """Stop reading; time stands still for the deadline."""
        if not self._paused_at and not self.ended:
            self._paused_at = self.loop.time()
            self._left = self.deadline - self._paused_at
            self.deadline = NEVER
            self.stream.unwatch_read()

    def resume(self) -> None:
        """Read on."""
        if self._paused_at and not self.ended:
            self._paused_at = 0.0
            self.deadline = self.loop.time() + self._left
            self.stream.watch_read()
            if self.stream.buffered:
                self.loop.call_soon(self._read_on)

    def read_to_the_end(self) -> None:
        """Nothing pauses reading any more: all that is left to come is the peer's close."""
        if self._paused_at:
            self._paused_at = 0.0
            self.stream.watch_read()

    def _read_on(self) -> None:
        if not self.ended and not self._paused_at:
            self.stream.serve()

    # ---- writing

    def write(self, data: bytes) -> None:
        """Send ``data`` now or as soon as the peer takes it; a peer that lets ``MAX_OUT`` pile up is given up."""
        if self.ended:
            return
        if not self._out:
            self._write_now(data)
            return
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > MAX_OUT:
            log.warning("%s: given up: it does not read our answers", self.stream.peer)
            self._gone("does not read our answers")

    def _write_now(self, data: bytes) -> None:
        """The usual case: nothing waits before ``data``, and the kernel takes it whole."""
        try:
            n = self.stream.send_one(data)
        except BlockingIOError:
            n = 0
        except OSError as error:
            self._gone(_words(error))
            return
        self.written += n
        if n < len(data):
            self._out.append(memoryview(data)[n:])
            self._out_size += len(data) - n
            self.stream.watch_write()

    def transmit(self, pieces: list[bytes | memoryview]) -> None:
        """Send ``pieces`` (not counted against ``MAX_OUT``: the caller makes no more until ``drained``)."""
        if self.ended:
            return
        if not self._out and len(pieces) <= IOV:
            try:
                n = self.stream.send(pieces)
            except BlockingIOError:
                n = 0
            except OSError as error:
                self._gone(_words(error))
                return
            if n == sum(map(len, pieces)):
                self.written += n
                self.drained()
                return
            self._out.extend(pieces)
            self._written(n)
        else:
            self._out.extend(pieces)
        self._on_writable()

    def _on_writable(self) -> None:
        out = self._out
        try:
            while out:
                self._written(self.stream.send(out if len(out) <= IOV else list(islice(out, IOV))))
        except BlockingIOError:
            self.stream.watch_write()
            return
        except OSError as error:
            self._gone(_words(error))
            return
        self.stream.unwatch_write()
        self.drained()

    def _written(self, n: int) -> None:
        """``n`` bytes of what waited have left."""
        self.written += n
        out = self._out
        self._out_size = max(self._out_size - n, 0)  # pieces of ``transmit`` were never counted
        while n:
            piece = out.popleft()
            if n < len(piece):
                out.appendleft(memoryview(piece)[n:])
                return
            n -= len(piece)

    # ---- the end

    def _on_fault(self, error: BaseException) -> None:
        log.error("%s: unexpected error, connection closed", self.stream.peer, exc_info=error)
        self._gone(f"unexpected error: {error!r}")

    def _gone(self, why: str) -> None:
        if not self.ended:
            self.close()
            self.lost(PeerFault(why))

    def close(self) -> None:
        """Close the connection and forget it. Idempotent; ``lost`` is not called."""
        if not self.ended:
            self.ended = True
            self.reader.stop()
            self._deadlines.remove(self)
            self._out.clear()
            self.stream.close()


def _words(error: OSError) -> str:
    """A connection's end, in words."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {tls.words(error)}"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "connection reset by peer"
    return error.strerror or str(error)
