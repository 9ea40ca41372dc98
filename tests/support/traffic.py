"""A hospital's day on one router: modalities at a set pace, callers that misbehave, echoes; each a thread in turns.

A ``Gate`` lets all of them work, or rest between two turns, so that a router can be measured with nothing under way.
"""

from __future__ import annotations

import random
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from tests.support import synthetic, ul
from tests.support.exact_sender import Aborted, Association, Caller, Closed, Rejected
from tests.support.images import Image
from tests.support.ledger import Sent, key_of

MANY = 20
LARGE_EVERY = 250
LARGE = synthetic.Kind(size=6_000_000)
SIZES = (2_000, 8_000, 16_000, 48_000, 200_000)
SIZE_WEIGHTS = (30, 30, 25, 12, 3)
HELD_TITLE = "NOBODY"
TITLES = ("CT_A", "CT_B", "MR_1", "MR_2", "US_7", "CR_3", "OT_9")
TROUBLE = (Rejected, Aborted, Closed, TimeoutError, OSError, ul.WireError)


class Gate:
    """Who may work, and who is at it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._inside = 0
        self._over = threading.Event()
        self.failures: list[str] = []

    def enter(self) -> bool:
        """Wait until work may begin; False: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._over.is_set())
            if self._over.is_set():
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """A turn is done."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def open(self) -> None:
        """Let everybody work."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def close(self, deadline: float = 60) -> None:
        """Let nobody begin, and wait for those at work.

        Raises:
            AssertionError: some did not end their turn in time, or one had failed.
        """
        with self._changed:
            self._open = False
            done = self._changed.wait_for(lambda: not self._inside, deadline)
        assert done, f"{self._inside} workers did not end their turn within {deadline:g} s"
        assert not self.failures, self.failures[0]

    def end(self) -> None:
        """Let everybody go home."""
        with self._changed:
            self._over.set()
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Let time pass, but not beyond the end."""
        self._over.wait(seconds)


class Worker(threading.Thread):
    """Does ``turn`` again and again while the gate is open."""

    def __init__(self, gate: Gate, seed: str) -> None:
        super().__init__(daemon=True)
        self.gate = gate
        self.seed = seed
        self.turns = 0
        self.chance = random.Random(seed)

    def turn(self) -> None:
        """One piece of work."""
        raise NotImplementedError

    def run(self) -> None:
        """See ``threading.Thread``."""
        while self.gate.enter():
            try:
                self.turn()
            except BaseException:
                self.gate.failures.append(traceback.format_exc())
            finally:
                self.turns += 1
                self.gate.leave()


class Pace:
    """So many images a second over all senders; time that is lost is not made up for. ``held``: nobody sends."""

    def __init__(self, gate: Gate) -> None:
        self.per_second: float | None = None
        self.held = False
        self.seconds_held = 0.0
        self._gate = gate
        self._lock = threading.Lock()
        self._next = 0.0

    def __call__(self) -> None:
        """Wait for one's turn."""
        while self.held:
            self._gate.pause(0.05)
        if self.per_second is None:
            return
        with self._lock:
            now = time.monotonic()
            at = max(self._next, now)
            self._next = at + 1 / self.per_second
        self._gate.pause(at - now)


class Modality(Worker):
    """Opens associations, sends a few images, ends them well or badly; every few hundredth image is a large one."""

    def __init__(self, gate: Gate, seed: str, caller: Caller, pace: Pace, sent: Sent) -> None:
        super().__init__(gate, seed)
        self._caller = caller
        self._pace = pace
        self._sent = sent
        self._made = 0

    def turn(self) -> None:
        """One association."""
        images = [self._image() for _ in range(self.chance.randint(1, MANY))]
        caller = Caller(**{**vars(self._caller), "calling": self._title()})
        try:
            with caller.associate(images) as association:
                for image in images:
                    self._store(association, image, caller.calling)
                self._end(association, images[-1])
        except TROUBLE as error:
            self._sent.troubles.append(f"{self.seed} as {caller.calling}: {error!r}")

    def _title(self) -> str:
        number = self.chance.random()
        if number < 0.02:
            return HELD_TITLE
        return f"NEW{self.seed[-3:]}_{self.turns}" if number < 0.06 else self.chance.choice(TITLES)

    def _image(self) -> Image:
        self._made += 1
        seed = f"{self.seed}/{self._made}"
        if self._made % LARGE_EVERY == 0:
            return synthetic.image(seed, 0, LARGE)
        kind = synthetic.KINDS[self.chance.randrange(len(synthetic.KINDS))]
        size = self.chance.choices(SIZES, SIZE_WEIGHTS)[0]
        return synthetic.image(seed, self._made % 8, synthetic.Kind(*kind, size=size))

    def _store(self, association: Association, image: Image, title: str) -> None:
        self._pace()
        key = key_of(image)
        self._sent.sent.add(key)
        result = association.store(image)
        if result.status:
            self._sent.refused.append(f"0x{result.status:04X} {result.comment}")
        elif title == HELD_TITLE:
            self._sent.held.add(key)
        else:
            self._sent.acknowledged.add(key)

    def _end(self, association: Association, image: Image) -> None:
        number = self.chance.random()
        if number < 0.8:
            association.release()
        elif number < 0.88:
            association.abort()
        elif number < 0.94:
            association.reset()
        else:  # in the middle of an image that is sent again
            pieces = b"".join(association.store_pdus(image))
            association.write(pieces[: len(pieces) // 2])
            association.reset()


class Echoing(Worker):
    """Somebody's monitoring."""

    def __init__(self, gate: Gate, seed: str, callers: Sequence[Caller]) -> None:
        super().__init__(gate, seed)
        self._callers = callers

    def turn(self) -> None:
        """One C-ECHO to each listener."""
        for caller in self._callers:
            with caller.associate() as association:
                assert association.echo() == 0
                association.release()
        self.gate.pause(0.3)


class BadCaller(Worker):
    """Everything that should not happen, one after the other."""

    def __init__(self, gate: Gate, seed: str, plain: Caller, tls: Caller) -> None:
        super().__init__(gate, seed)
        self._plain = plain
        self._tls = tls
        self._image = synthetic.image(seed, 0, synthetic.Kind(size=100_000))
        self._ways = self._all_ways()

    def turn(self) -> None:
        """One bad call."""
        try:
            self._ways[self.turns % len(self._ways)]()
        except TROUBLE:
            pass  # what it deserves
        self.gate.pause(0.1)

    def _all_ways(self) -> list[Callable[[], None]]:
        plain, image = self._plain, self._image
        unknown = Caller(**{**vars(plain), "called": "SOMEBODY_ELSE"})
        in_clear = Caller(**{**vars(self._tls), "tls": None})
        return [
            lambda: self._says(plain, b""),
            lambda: self._says(plain, b"GET / HTTP/1.1\r\n\r\n"),
            lambda: self._says(plain, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)),
            lambda: self._says(in_clear, b"\x01\x00\x00\x00\x00\x04abcd"),
            lambda: self._says(plain, ul.pdu(1, b"\0\1" + bytes(20))),
            lambda: unknown.associate().release(),
            lambda: plain.associate([image]).abort(),
            lambda: plain.associate([image]).reset(),
            lambda: self._breaks_off(plain, 50_000),
            lambda: self._breaks_off(self._tls, 20_000),
            lambda: self._goes_on_with(ul.pdu(9, b"????")),
            lambda: self._goes_on_with(ul.pdv(77, ul.COMMAND | ul.LAST, ul.echo_rq(1))),
            lambda: self._goes_on_with(ul.pdv(1, ul.LAST, b"a data set without a command")),
        ]

    def _says(self, caller: Caller, words: bytes) -> None:
        with socket.create_connection(("127.0.0.1", caller.port), 10) as sock:
            sock.sendall(words)
            if self.chance.random() < 0.5:
                sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.2)
            sock.recv(100)

    def _breaks_off(self, caller: Caller, after: int) -> None:
        association = caller.associate([self._image])
        association.write(b"".join(association.store_pdus(self._image))[:after])
        association.close()

    def _goes_on_with(self, data: bytes) -> None:
        with self._plain.associate() as association:
            association.write(data)
            assert association.ended_within(10), "the router went on after nonsense"
