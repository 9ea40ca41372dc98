"""Answers of destinations, looked for between the reads of many senders.

The event loop serves whoever is readable by turns. Where hundreds of senders are, a lane would get one image out in the
time in which each of them brings one, however many it could send: images would pile up on the disk and be read back.
So after every ``EVERY`` reads from senders the associations with destinations are looked at.
Guarantees: whoever is looked at is served as by the loop; a look costs microseconds and waits for nothing.
Failures: none of its own.
"""

from __future__ import annotations

import select

from asyncroute.link.stream import Stream

EVERY = 4
"""Reads from senders between two looks: over so many associations as many images leave as come."""


class Answers:
    """See module. The loop's thread only."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._numbers: dict[Stream, int] = {}
        self._streams: dict[int, Stream] = {}
        self._reads = 0

    def watch(self, stream: Stream) -> None:
        """Look at this one, too, until ``forget``."""
        number = self._numbers[stream] = stream.sock.fileno()
        self._streams[number] = stream
        self._poll.register(number, select.POLLIN)

    def forget(self, stream: Stream) -> None:
        """It is over; it may be closed already. Idempotent."""
        number = self._numbers.pop(stream, None)
        if number is not None:
            del self._streams[number]
            self._poll.unregister(number)

    def read(self) -> None:
        """There was a read from a sender."""
        self._reads += 1
        if self._reads < EVERY:
            return
        self._reads = 0
        if self._streams:
            for number, _ in self._poll.poll(0):
                stream = self._streams.get(number)
                if stream is not None:  # serving another one may have ended it
                    stream.serve()
