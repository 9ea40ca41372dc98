"""Whether a caller is who it says: certificates that AE titles are bound to, and users with passcodes.

A user name with passcode (PS3.7 D.3.3.7) is verified in a thread of its own: that takes some 50 ms on purpose.
Addresses have their turns, so that one with many wrong passcodes holds up nobody else; who was verified lately with the
same name and passcode does not wait at all; repeats that wait for the same answer share it. After ``FREE`` wrong
passcodes for a user from an address, the next ones are looked at only after 1, 2, 4 ... ``LONGEST`` seconds, and
refused meanwhile.

Guarantees: no passcode is kept (a keyed digest is, for as long as the process lives) or put into words; nothing here
takes long on the event loop; what is remembered and what waits is bounded. Failures: refusals, with their words.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from asyncroute.link.certificates import shorten
from asyncroute.link.negotiate import Named
from asyncroute.link.stream import Stream
from asyncroute.link.users import Users

if TYPE_CHECKING:
    from asyncroute.config.listeners import Listener as Settings

log = logging.getLogger(__name__)

Rejection = tuple[int, int, int, str]
NOT_VERIFIED = (1, 2, 1)
"""Permanent, by ACSE, no reason given: what PS3.7 D.3.3.7 has for a user who is refused."""
CONGESTION = (2, 3, 1)

FREE: Final = 5
LONGEST: Final = 60.0
FORGIVEN: Final = 900.0
"""Seconds after which wrong passcodes are forgotten."""
KNOWN: Final = 1024
SUSPECTS: Final = 4096
MOST_OF_ONE: Final = 16
"""Different passcodes of one address that may wait for their turn."""
MOST_WAITING: Final = 4096
"""Callers who may wait for an answer."""

Done = Callable[[str, Rejection | None], None]
"""Gets the verified user ('' if nobody is named), or the rejection."""

_KINDS: Final = {1: "a user name without a passcode", 3: "a Kerberos ticket", 4: "a SAML assertion", 5: "a web token"}


def unbound(settings: Settings, calling_aet: str, stream: Stream) -> str:
    """Why a caller must not use this AE title: ``bind_ae`` binds it to another certificate. Empty: it may."""
    wanted = settings.tls.bound(calling_aet) if settings.tls else ()
    if not wanted:
        return ""
    shown = stream.certificate
    if shown is not None and shown.is_one_of(wanted):
        return ""
    came = f"certificate {shown}" if shown else "no certificate"
    return f"calling AE title {calling_aet!r} is bound to the certificate {' or '.join(wanted)}; it came with {came}"


@dataclass(slots=True)
class _Case:
    """A name and passcode that wait to be verified, and who wants to know."""

    users: Users
    name: str
    passcode: bytes = field(repr=False)
    suspect: tuple[str, str]
    digest: bytes
    asking: list[Done]


class Identities:
    """See module. One for all listeners; on the loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="identify")
        self._secret = os.urandom(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._suspects: OrderedDict[tuple[str, str], tuple[int, float, float]] = OrderedDict()
        self._turns: OrderedDict[str, deque[_Case]] = OrderedDict()
        self._cases: dict[bytes, _Case] = {}
        self._waiting = 0
        self._busy = False

    def close(self) -> None:
        """Verify nobody any more."""
        self._turns.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def check(self, users: Users, required: bool, named: Named | None, peer: str, done: Done) -> None:
        """Verify who was named by the caller at ``peer``; ``done`` follows, at once or later."""
        if named is None or named.kind != 2:
            what = _KINDS.get(named.kind, "something else") if named else "no user"
            refusal = f"user identity: {what} is named, and a user name with a passcode is required"
            done("", (*NOT_VERIFIED, refusal) if required else None)
            return
        name = named.primary.decode("utf-8", "replace")
        if not named.secondary:
            done("", _refused(name, "no passcode"))
            return
        self._check(_Case(users, name, named.secondary, (peer, name[:256]), self._digest(users, name, named), [done]))

    def _check(self, case: _Case) -> None:
        (done,), same = case.asking, self._cases.get(case.digest)
        if case.digest in self._known:
            self._known.move_to_end(case.digest)
            done(case.name, None)
        elif same is None and (wait := self._penalty(case)):
            why = f"too many wrong passcodes from this address; looked at again in {wait:.0f} s"
            done("", _refused(case.name, why))
        elif self._waiting >= MOST_WAITING or (same is None and self._crowded(case)):
            done("", (*CONGESTION, "user identity: too many callers wait for it to be verified"))
        else:
            self._enqueue(case, same)

    def _penalty(self, case: _Case) -> float:
        """Seconds until this user's next passcode from this address is looked at; 0: now."""
        now = self._loop.time()
        _, until, _ = self._suspects.get(case.suspect, (0, 0.0, 0.0))
        return max(until - now, 0.0)

    def _reserve(self, case: _Case) -> None:
        """Of those who were wrong too often one passcode at a time is looked at, not a crowd of guesses."""
        times, _, last = self._suspects.get(case.suspect, (0, 0.0, 0.0))
        if times >= FREE:
            self._suspects[case.suspect] = times, self._loop.time() + LONGEST, last

    def _crowded(self, case: _Case) -> bool:
        return len(self._turns.get(case.suspect[0], ())) >= MOST_OF_ONE

    def _enqueue(self, case: _Case, same: _Case | None) -> None:
        self._waiting += 1
        if same is not None:
            same.asking += case.asking
            return
        self._reserve(case)
        self._cases[case.digest] = case
        self._turns.setdefault(case.suspect[0], deque()).append(case)
        if not self._busy:
            self._next()

    def _digest(self, users: Users, name: str, named: Named) -> bytes:
        """Of name, passcode and what it is held against: another hash in the file makes another digest."""
        parts = (name.encode("utf-8", "replace"), users.stored(name).encode(), named.secondary)
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hashlib.blake2b(framed, key=self._secret, digest_size=32).digest()

    def _next(self) -> None:
        """Whose turn it is: the addresses one after the other."""
        self._busy = bool(self._turns)
        if not self._busy:
            return
        peer, queue = next(iter(self._turns.items()))
        case = queue.popleft()
        if queue:
            self._turns.move_to_end(peer)
        else:
            del self._turns[peer]
        verified = self._loop.run_in_executor(self._pool, case.users.verify, case.name, case.passcode)
        verified.add_done_callback(partial(self._verified, case))

    def _verified(self, case: _Case, answer: asyncio.Future[bool]) -> None:
        del self._cases[case.digest]
        self._waiting -= len(case.asking)
        if answer.cancelled():
            return
        refusal = None if self._right(case, answer) else _refused(case.name, "wrong passcode, or no such user")
        for done in case.asking:
            try:
                done("" if refusal else case.name, refusal)
            except Exception:
                log.exception("an answer about a user could not be given")
        self._next()

    def _right(self, case: _Case, answer: asyncio.Future[bool]) -> bool:
        """Remember what came of it."""
        if answer.exception() is not None:
            log.error("a user could not be verified: %r", answer.exception())
            return False
        if answer.result():
            self._suspects.pop(case.suspect, None)
            self._known[case.digest] = None
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
            return True
        now = self._loop.time()
        times, _, last = self._suspects.pop(case.suspect, (0, 0.0, now))
        times = times + 1 if now - last < FORGIVEN else 1
        wait = min(2.0 ** (times - FREE), LONGEST) if times >= FREE else 0.0
        self._suspects[case.suspect] = times, now + wait, now
        if len(self._suspects) > SUSPECTS:
            self._suspects.popitem(last=False)
        return False


def _refused(name: str, why: str) -> Rejection:
    return (*NOT_VERIFIED, f"user {shorten(name)!r}: {why}")
