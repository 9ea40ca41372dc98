"""An exact storage SCU: each data set leaves with the bytes it has, one presentation context per (class, syntax) pair.

``Association`` is one association on a blocking socket, with every liberty to misbehave. ``send`` sends images over one
association and says what became of each; ``Fleet`` runs many such senders at once in threads.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.support import ul
from tests.support.images import Image, pairs
from tests.support.ports import HOST

MAX_CONTEXTS = 127
FRAGMENT = 65_536
RESET = struct.pack("ii", 1, 0)


class Rejected(Exception):
    """The peer answered with A-ASSOCIATE-RJ."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"rejected {result}/{source}/{reason}")
        self.code = (result, source, reason)


class Aborted(Exception):
    """The peer sent A-ABORT."""


class Closed(Exception):
    """The peer closed or reset the connection without a word."""


class NoContext(Exception):
    """The peer accepted no presentation context for this image."""


@dataclass(frozen=True)
class Result:
    """The answer to one C-STORE; times on the monotonic clock."""

    image: Image
    status: int
    comment: str
    sent_at: float
    answered_at: float


@dataclass
class Caller:
    """Who calls whom, and how: AE titles, port, TLS, the PDU size we announce and the one we send at most."""

    port: int
    calling: str = "EXACT"
    called: str = "ASYNCROUTE"
    tls: ssl.SSLContext | None = None
    max_pdu: int = 65_536
    send_pdu: int = FRAGMENT
    timeout: float = 30.0

    def connect(self) -> socket.socket:
        """A TCP connection (after the TLS handshake, if any) with TCP_NODELAY."""
        sock = socket.create_connection((HOST, self.port), self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return self.tls.wrap_socket(sock, server_hostname="localhost") if self.tls else sock
        except BaseException:
            sock.close()
            raise

    def associate(self, images: Iterable[Image] = (), echo: bool = True) -> Association:
        """An association with one context per pair of ``images``, and one for Verification.

        Raises:
            Rejected, Aborted, Closed, TimeoutError: there is none.
        """
        return self.propose(contexts_for(images, echo))

    def propose(self, contexts: Sequence[ul.Context]) -> Association:
        """An association with exactly these contexts. Raises like ``associate``."""
        association = Association(self, self.connect())
        try:
            association.request(contexts)
        except BaseException:
            association.close()
            raise
        return association


def contexts_for(images: Iterable[Image], echo: bool = True) -> list[ul.Context]:
    """One context per (class, syntax) pair of ``images``, ids from 1 in steps of 2."""
    wanted = [(ul.VERIFICATION, ul.IMPLICIT_LE)] if echo else []
    wanted += pairs(images)
    assert len(wanted) <= MAX_CONTEXTS + 1, f"{len(wanted)} presentation contexts do not fit in one association"
    return [ul.Context(2 * n + 1, abstract, (transfer,)) for n, (abstract, transfer) in enumerate(wanted)]


class Association:
    """One association as the requestor. Every method may raise Aborted, Closed or TimeoutError."""

    def __init__(self, caller: Caller, sock: socket.socket) -> None:
        self.caller = caller
        self.sock = sock
        self.accepted: dict[tuple[str, str], int] = {}
        self.results: dict[int, int] = {}
        self.peer_max_pdu = 0
        self._message_id = 0
        self._buffer = bytearray()

    def request(self, contexts: Sequence[ul.Context]) -> None:
        """Send the A-ASSOCIATE-RQ and take in the answer. Raises Rejected too."""
        self.write(ul.associate_rq(self.caller.calling, self.caller.called, contexts, self.caller.max_pdu))
        kind, body = self.read_pdu()
        if kind == ul.RJ:
            raise Rejected(body[1], body[2], body[3])
        if kind != ul.AC:
            raise ul.WireError(f"PDU type {kind} in answer to an A-ASSOCIATE-RQ")
        self._accepted(ul.read_associate_ac(body), contexts)

    def _accepted(self, answer: ul.AssociateAC, contexts: Sequence[ul.Context]) -> None:
        self.peer_max_pdu = answer.max_pdu
        self.results = {context.id: answer.answers[context.id].result for context in contexts}
        for context in contexts:
            if self.results[context.id] == 0:
                self.accepted[context.abstract, answer.answers[context.id].transfer] = context.id

    def context_of(self, image: Image) -> int:
        """The id of the accepted context for ``image``. Raises NoContext."""
        try:
            return self.accepted[image.sop_class, image.transfer_syntax]
        except KeyError:
            raise NoContext(f"{image.name}: {image.sop_class} in {image.transfer_syntax}") from None

    def store(self, image: Image) -> Result:
        """Send one image and wait for its answer. Raises NoContext too."""
        sent_at = time.monotonic()
        for piece in self.store_pdus(image):
            self.write(piece)
        answer = self.read_response()
        status, comment = int(answer[ul.STATUS]), str(answer.get(ul.ERROR_COMMENT, ""))
        return Result(image, status, comment, sent_at, time.monotonic())

    def store_pdus(self, image: Image) -> Iterator[bytes]:
        """The PDUs of a C-STORE-RQ: the first holds the command set, the others the data set."""
        context, size = self.context_of(image), self._fragment_size()
        self._message_id += 1
        request = ul.store_rq(self._message_id, image.sop_class, image.sop_instance)
        yield ul.pdv(context, ul.COMMAND | ul.LAST, request)
        left = image.size
        for fragment in image.chunks(size):
            left -= len(fragment)
            yield ul.pdv(context, 0 if left else ul.LAST, fragment)

    def _fragment_size(self) -> int:
        largest = self.caller.send_pdu
        if self.peer_max_pdu:
            largest = min(largest, self.peer_max_pdu)
        return (largest - 6) & ~1

    def echo(self) -> int:
        """The status of a C-ECHO."""
        self._message_id += 1
        context = self.accepted[ul.VERIFICATION, ul.IMPLICIT_LE]
        self.write(ul.pdv(context, ul.COMMAND | ul.LAST, ul.echo_rq(self._message_id)))
        return int(self.read_response()[ul.STATUS])

    def read_response(self) -> dict[int, int | str]:
        """The next command set from the peer."""
        command = bytearray()
        while True:
            kind, body = self.read_pdu()
            if kind != ul.PDATA:
                raise ul.WireError(f"PDU type {kind} instead of a response")
            for _, control, fragment in ul.pdvs(memoryview(body)):
                command += fragment
                if control == ul.COMMAND | ul.LAST:
                    return ul.read_command(bytes(command))

    def write(self, data: bytes) -> None:
        """Send ``data`` as it is."""
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise
        except OSError as error:
            self._last_words(error)

    def _last_words(self, error: OSError) -> None:
        """A write failed: an A-ABORT that the peer had sent before is the better story."""
        try:
            while True:
                self.read_pdu()
        except TimeoutError:
            raise Closed(repr(error)) from error

    def read_pdu(self) -> tuple[int, bytes]:
        """The next PDU (type, content)."""
        kind, size = struct.unpack(">BxI", self._read(6))
        body = self._read(size)
        if kind == ul.ABORT:
            raise Aborted(f"A-ABORT, source {body[2]}, reason {body[3]}")
        return kind, body

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                piece = self.sock.recv(65536)
            except (ConnectionError, ssl.SSLError) as error:
                raise Closed(repr(error)) from error
            if not piece:
                raise Closed("end of stream")
            self._buffer += piece
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def release(self) -> None:
        """A-RELEASE-RQ, wait for the A-RELEASE-RP, close."""
        self.write(ul.release_rq())
        kind, _ = self.read_pdu()
        if kind != ul.RELEASE_RP:
            raise ul.WireError(f"PDU type {kind} in answer to an A-RELEASE-RQ")
        self.close()

    def abort(self) -> None:
        """A-ABORT and close."""
        self.write(ul.abort())
        self.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self.sock.close()

    def ended_within(self, seconds: float) -> bool:
        """Whether the peer ends the connection (A-ABORT or close) in time; its other PDUs are skipped."""
        self.sock.settimeout(seconds)
        try:
            while True:
                self.read_pdu()
        except (Aborted, Closed):
            return True
        except TimeoutError:
            return False

    def __enter__(self) -> Association:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass
class Report:
    """What one sender saw. ``ended``: "released", or how the association ended instead; ``unsent`` and ``unanswered``
    images are in none of the answers."""

    results: list[Result] = field(default_factory=list)
    unanswered: list[Image] = field(default_factory=list)
    ended: str = "not begun"
    started_at: float = 0.0
    ended_at: float = 0.0

    @property
    def acknowledged(self) -> list[Image]:
        """The images whose answer was success."""
        return [result.image for result in self.results if result.status == 0]

    @property
    def refused(self) -> list[Result]:
        """The answers that were not success."""
        return [result for result in self.results if result.status != 0]


Pace = Callable[[], None]


def send(caller: Caller, images: Sequence[Image], report: Report | None = None, between: Pace | None = None) -> Report:
    """Send ``images`` over one association and release it; failures end in the report, not as exceptions.

    ``report`` may be given to watch it fill. ``between`` is called before each image.
    """
    report = report if report is not None else Report()
    report.started_at = time.monotonic()
    try:
        _send(caller, images, report, between)
        report.ended = "released"
    except (Rejected, Aborted, Closed, TimeoutError, OSError, ul.WireError, NoContext) as error:
        report.ended = f"{type(error).__name__}: {error}"
    report.ended_at = time.monotonic()
    return report


def _send(caller: Caller, images: Sequence[Image], report: Report, between: Pace | None) -> None:
    with caller.associate(images) as association:
        for image in images:
            if between is not None:
                between()
            report.unanswered = [image]
            report.results.append(association.store(image))
            report.unanswered = []
        association.release()


class Fleet:
    """Many senders at once, one thread and one association each."""

    def __init__(self, work: Iterable[tuple[Caller, Sequence[Image]]], between: Pace | None = None) -> None:
        self.reports: list[Report] = []
        self._threads: list[threading.Thread] = []
        for caller, images in work:
            report = Report()
            thread = threading.Thread(target=send, args=(caller, images, report, between), daemon=True)
            self.reports.append(report)
            self._threads.append(thread)

    def start(self) -> Fleet:
        """Let all of them go."""
        for thread in self._threads:
            thread.start()
        return self

    def join(self, deadline: float = 120) -> Fleet:
        """Wait for all of them.

        Raises:
            AssertionError: some were not done in time.
        """
        end = time.monotonic() + deadline
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        left = sum(thread.is_alive() for thread in self._threads)
        assert not left, f"{left} of {len(self._threads)} senders not done after {deadline:g} s"
        return self

    def run(self, deadline: float = 120) -> Fleet:
        """``start`` and ``join``."""
        return self.start().join(deadline)

    @property
    def acknowledged(self) -> list[Image]:
        """What any of them saw acknowledged."""
        return [image for report in self.reports for image in report.acknowledged]

    def assert_clean(self) -> None:
        """Check that every association was released and every image acknowledged.

        Raises:
            AssertionError: with the first few that were not.
        """
        unclean = [report.ended for report in self.reports if report.ended != "released"]
        assert not unclean, f"{len(unclean)} associations ended otherwise, such as {unclean[:3]}"
        refused = [(result.status, result.comment) for report in self.reports for result in report.refused]
        assert not refused, f"{len(refused)} images refused, such as {refused[:3]}"


def send_all(caller: Caller, images: Sequence[Image], associations: int = 1) -> list[Image]:
    """Send ``images`` over several associations at once and insist that all are acknowledged; returns them."""
    shares = [list(images[n::associations]) for n in range(associations)]
    Fleet((caller, share) for share in shares).run().assert_clean()
    return list(images)


class Dripper:
    """Writes one byte to each of many sockets every ``every`` seconds, from a thread of its own, until stopped."""

    def __init__(self, sockets: Sequence[socket.socket], data: bytes, every: float = 0.1) -> None:
        self._sockets = list(sockets)
        self._data = data
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for byte in self._data:
            for sock in list(self._sockets):
                self._drip(sock, bytes((byte,)))
            if self._stop.wait(self._every):
                return

    def _drip(self, sock: socket.socket, byte: bytes) -> None:
        try:
            sock.send(byte)
        except OSError:
            self._sockets.remove(sock)

    def stop(self) -> None:
        """Stop and wait for the thread."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Dripper:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
