"""The sender: some number of associations at a time, on one thread, and what became of every image.

``python -m benchmarks.sender SETTINGS`` (JSON, ``Settings``) sends a corpus and writes its ``Report`` to
``settings.report``. An association sends whole studies, one image at a time, each as soon as the last one was answered;
an image whose association is lost is tried again, three times at most. The first image leaves when all associations are
established (or ``together`` seconds later), unless each carries a few images only. Times are CLOCK_MONOTONIC seconds.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from asyncroute.core.errors import PeerFault
from asyncroute.wire import command as dimse
from asyncroute.wire.pdata import (
    ASSOCIATE_AC,
    COMMAND,
    LAST,
    RELEASE_RP,
    RELEASE_RQ_PDU,
    DataCutter,
    command_pdus,
    pdu_room,
)
from benchmarks import upper
from benchmarks.corpus import SOP_CLASS, TRANSFER_SYNTAX, Corpus, Image
from benchmarks.wire import BUFFER, Peer, Tcp

TRIES = 3
PAUSE = 0.2
"""Seconds before a caller that was turned away calls again."""


@dataclass(frozen=True)
class Settings:
    """``per_association`` 0: as many images as there are. ``hold``: send nothing, keep the associations until told.

    ``together``: seconds that the first image waits at most for the other associations.
    """

    port: int
    report: str
    kind: str = "small"
    count: int = 100
    per_study: int = 20
    seed: str = "1"
    associations: int = 1
    per_association: int = 0
    max_pdu: int = 128 << 10
    nodelay: bool = True
    quickack: bool = True
    pieces: bool = False
    hold: bool = False
    called: str = "ROUTER"
    together: float = 10.0
    timeout: float = 300.0

    @property
    def tcp(self) -> Tcp:
        """How its sockets behave."""
        return Tcp(self.nodelay, self.quickack, self.pieces)


@dataclass
class Report:
    """Of image i: ``started[i]``, ``answered[i]`` (0: never), ``statuses[i]`` (-1: no answer), ``digests[i]``."""

    started: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)
    bytes: int = 0
    associations: int = 0
    established: int = 0
    lost: int = 0
    cpu_s: float = 0.0


def _empty(count: int) -> Report:
    return Report([0.0] * count, [0.0] * count, [-1] * count, [0] * count)


class Sender:
    """See module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.corpus = Corpus(settings.kind, settings.count, settings.per_study, settings.seed)
        self.report = _empty(settings.count)
        self.epoll = select.epoll()
        self.studies = deque(deque(study) for study in self.corpus.studies)
        self.calls: dict[int, Call] = {}
        self.later: list[tuple[float, int]] = []
        self.tries = [0] * settings.count
        self.left = settings.count
        self.waiting_for = 0 if settings.per_association else settings.associations
        self.together = time.monotonic() + settings.together
        self.told = False

    def run(self) -> Report:
        """Send it all, or until the time is over."""
        end = time.monotonic() + self.settings.timeout
        began = time.process_time()
        for index in range(self.settings.associations):
            self.call(index)
        while not self._over() and time.monotonic() < end:
            for number, events in self.epoll.poll(0.1):
                self._serve(self.calls[number], events)
            self._call_again()
            if self.waiting_for and time.monotonic() > self.together:
                self._begin()
        self.report.cpu_s = time.process_time() - began
        return self.report

    def _over(self) -> bool:
        return self.told if self.settings.hold else not self.left and not self.calls

    def call(self, index: int) -> None:
        """A new association for this place among the associations."""
        call = Call(self, index)
        self.calls[call.sock.fileno()] = call

    def _call_again(self) -> None:
        now = time.monotonic()
        due = [index for at, index in self.later if at <= now]
        self.later = [(at, index) for at, index in self.later if at > now]
        for index in due:
            if self.left or self.settings.hold:
                self.call(index)

    def _serve(self, call: Call, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                call.writable()
            if events & ~select.EPOLLOUT and not call.receive():
                call.ended()
        except (OSError, PeerFault):
            call.ended()

    def established(self, call: Call) -> None:
        """One more association stands; the images begin with the last of them."""
        self.report.established += 1
        if self.settings.hold:
            if self.report.established == self.settings.associations:
                write(self.settings.report, self.report)
            return
        call.waits = True
        self.waiting_for -= 1
        if self.waiting_for <= 0:
            self._begin()

    def _begin(self) -> None:
        """Let every association send that was not told yet."""
        self.waiting_for = 0
        for each in list(self.calls.values()):
            if each.waits:
                each.waits = False
                each.next()

    def take(self, study: deque[int] | None) -> tuple[deque[int] | None, int]:
        """The next image of ``study``, or of one that nobody sends yet; -1: none is left."""
        while not study:
            if not self.studies:
                return None, -1
            study = self.studies.popleft()
        return study, study.popleft()

    def give_back(self, study: deque[int] | None, number: int) -> None:
        """An association was lost; its study waits for another one."""
        study = study if study is not None else deque()
        if number >= 0:
            self.tries[number] += 1
            if self.tries[number] < TRIES:
                study.appendleft(number)
            else:
                self.left -= 1
        if study:
            self.studies.appendleft(study)


class Call(Peer):
    """One association, from connect to close."""

    __slots__ = ("_command", "_message", "_released", "_room", "image", "index", "number", "sender", "sent", "study",
                 "waits")  # fmt: skip

    def __init__(self, sender: Sender, index: int) -> None:
        super().__init__(socket.socket(), sender.epoll, sender.settings.tcp)
        self.sender = sender
        self.index = index
        self.study: deque[int] | None = None
        self.number = -1
        self.image: Image | None = None
        self.sent = 0
        self.waits = False
        self._command = bytearray()
        self._message = 0
        self._released = False
        self._room = 0
        sender.report.associations += 1
        self.sock.connect_ex(("127.0.0.1", sender.settings.port))
        self._epoll.register(self.sock, select.EPOLLIN | select.EPOLLOUT)
        self._writing = True
        settings = sender.settings
        self._out.append(
            upper.request(f"MOD{index:02d}", settings.called, SOP_CLASS, TRANSFER_SYNTAX, max_pdu=64 << 10)
        )

    def writable(self) -> None:
        """Connected, or room for more."""
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "connect")
        self.flush()

    def pdu(self, kind: int, body: bytes) -> None:
        """See ``pdata.Sink``."""
        if kind == ASSOCIATE_AC:
            answer = upper.read(body)
            if 1 not in answer.contexts:
                raise OSError("context refused")
            self._room = pdu_room(answer.max_pdu, self.sender.settings.max_pdu)
            self.sender.established(self)
        elif kind == RELEASE_RP:
            self._closed()
        else:
            raise OSError("association ended by the peer")

    def next(self) -> None:
        """Send another image, or release."""
        sender = self.sender
        most = sender.settings.per_association
        if most and self.sent >= most:
            self.number = -1
        else:
            self.study, self.number = sender.take(self.study)
        if self.number < 0:
            self._released = True
            self.send([RELEASE_RQ_PDU])
            return
        self._store(sender.corpus[self.number])

    def _store(self, image: Image) -> None:
        sender, number = self.sender, self.number
        self.sent += 1
        self._message = self._message % 65535 + 1
        if not sender.report.digests[number]:
            sender.report.digests[number] = image.digest()
        self.image = image
        out: list[bytes | memoryview] = [
            command_pdus(1, dimse.store_request(SOP_CLASS, dimse.padded_uid(image.uid), self._message), self._room)
        ]
        DataCutter(1, image.size, self._room).cut(image.parts, out)
        if not sender.report.started[number]:
            sender.report.started[number] = time.monotonic()
        self.send(out)

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """See ``pdata.Sink``: the answer."""
        self._command += BUFFER[lo:hi]
        if control & (COMMAND | LAST) == COMMAND | LAST:
            status = dimse.parse(self._command).number(dimse.STATUS)
            self._command = bytearray()
            self._answered(status)

    def _answered(self, status: int) -> None:
        sender, number, image = self.sender, self.number, self.image
        assert image is not None
        report = sender.report
        report.answered[number] = time.monotonic()
        report.statuses[number] = status
        report.bytes += image.size
        sender.left -= 1
        self.number, self.image = -1, None
        self.next()

    def ended(self) -> None:
        """Closed by the other side, rightly or not."""
        if self._released:
            self._closed()
            return
        self.sender.report.lost += 1
        self.sender.give_back(self.study, self.number)
        self._gone()
        self.sender.later.append((time.monotonic() + PAUSE, self.index))

    def _closed(self) -> None:
        sender = self.sender
        left_over, self.study = self.study, None
        if left_over:
            sender.studies.appendleft(left_over)
        self._gone()
        if sender.studies:
            sender.call(self.index)

    def _gone(self) -> None:
        del self.sender.calls[self.sock.fileno()]
        self.close()


def write(path: str, report: Report) -> None:
    """The report, whole or not at all."""
    part = Path(path + ".part")
    part.write_text(json.dumps(asdict(report)))
    part.replace(path)


def main(text: str) -> None:
    """Run as a process."""
    settings = Settings(**json.loads(text))
    sender = Sender(settings)

    def tell(*_: object) -> None:
        sender.told = True
        if not settings.hold:
            sys.exit(1)

    signal.signal(signal.SIGTERM, tell)
    write(settings.report, sender.run())


if __name__ == "__main__":
    main(sys.argv[1])
