"""Images in other transfer syntaxes, made in worker processes (``transform.pixels.convert``) and kept for a while.

What is made is a file below ``data_dir/converted``: once for each image, syntax and way of making it, whoever asks and
however often. Lanes get a delivery of that file in place of what was received, and read it as any other
(``reading.Readers`` over ``ConvertedSpool``).
Guarantees: nothing is converted on the loop or in its process; a file stays while somebody has it, and is removed when
nobody has asked for ``KEPT`` seconds or the files take more than ``MOST`` bytes; none is left of an earlier run, nor of
a conversion that failed, however it ended.
Failures are ``Outcome``s (``Trouble``): the image cannot be in that syntax (another one may do), it is broken or the
codec failed (held), this machine is short of something (tried again).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from asyncroute.core import outcomes
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Kind, Outcome
from asyncroute.core.syntaxes import J2K, JLS_NEAR, PLAIN, Wish, named
from asyncroute.link.processes import Call, Failed, NotStarted, Processes, Raised
from asyncroute.spool.base import Spool, check_sum

KEPT = 300.0
"""Seconds for which a file nobody uses is kept: other destinations may want it, or the next try."""

MOST = 2 << 30
"""Bytes of files that nobody uses are removed beyond this, the longest unused first."""

FUNCTION = "asyncroute.transform.pixels.convert:convert"
GROUP = "codecs"
"""Of the calls (``link.processes``)."""

AGAIN = 30.0
LARGEST = 16 << 30
"""Bytes that an image may become: twice what is ever received. It bounds what a deflated one inflates to."""

_SPEED = 1 << 20
"""Bytes a second that the slowest codec makes of the largest image, with room to spare."""

PREFIX = "converted/"
_OURS = frozenset({"OSError", "BlockingIOError", "FileNotFoundError", "InterruptedError", "PermissionError"})
"""Exceptions that say nothing of the image."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no file. ``outcome`` None: the image cannot be in that syntax, another may do."""

    text: str
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the configuration in force.

    ``full``: whether there is no space for more. ``least``: bytes that a conversion leaves free on its disk.
    ``deadline``: seconds that the smallest image may take; the others have more.
    """

    full: Callable[[], bool]
    least: Callable[[], int]
    deadline: Callable[[], float]


Done = Callable[["Converted | Trouble"], None]
_Key = tuple[int, str, tuple[Any, ...]]


_STOPPING = Trouble("the router is stopping", Outcome(Kind.IMAGE_RETRY, "the router is stopping", ours=True))


def share() -> int:
    """Conversions at a time: they only calculate, so one processor is left to the router, where there are two."""
    return max(len(os.sched_getaffinity(0)) - 1, 1)


class Converted:
    """A file that is there until ``release``. ``delivery``: what is to be read and sent."""

    __slots__ = ("_made", "_owner", "delivery")

    def __init__(self, owner: Conversions, made: _Made, delivery: Delivery) -> None:
        self._owner: Conversions | None = owner
        self._made = made
        self.delivery = delivery

    def release(self) -> None:
        """It is not needed any more. Idempotent."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.released(self._made)


@dataclass(slots=True, eq=False)
class _Made:
    """A file, or one that is being made. ``place``: no other has the same, so that none is removed for another."""

    key: _Key
    place: Path
    call: Call | None = None
    told: dict[str, Any] = field(default_factory=dict)
    users: int = 0
    waiting: dict[int, Callable[[], None]] = field(default_factory=dict)
    trouble: Trouble | None = None
    used_at: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether there should be a file."""
        return self.call is None and self.trouble is None


class Conversions:
    """See module. On the loop's thread, but for ``now``."""

    def __init__(self, processes: Processes, spool: Path, folder: Path, limits: Limits) -> None:
        """``spool``: where the files of deliveries are.

        Raises:
            StorageFault: ``folder`` cannot be made or cleared.
        """
        self.made = 0
        """Conversions since the start."""
        self._processes = processes
        self._spool = spool
        self._folder = folder
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._files: dict[_Key, _Made] = {}
        self._next = 0
        self._closed = False
        self._tidying: asyncio.TimerHandle | None = None
        try:
            folder.mkdir(exist_ok=True, mode=0o700)
            for left in folder.iterdir():
                left.unlink()
        except OSError as error:
            raise StorageFault(f"{folder}: cannot be cleared: {error.strerror}", error.errno or 0) from error

    @property
    def running(self) -> int:
        """Conversions that were asked for and are not done."""
        return sum(made.call is not None for made in self._files.values())

    def begin(self, delivery: Delivery, syntax: str, wish: Wish, done: Done) -> Callable[[], None]:
        """Have it in ``syntax``: ``done`` follows, never from within this call, unless what is returned is called."""
        self._next += 1
        number, key = self._next, (delivery.instance_id, syntax, _way(syntax, wish))
        made = self._files.get(key)
        if made is None or (made.usable and not made.place.exists()):  # somebody removed it
            made = self._files[key] = _Made(key, self._folder / f"{number}-{delivery.instance_id}-{syntax}")
            self._start(made, delivery, syntax, wish)
        made.users += 1
        made.waiting[number] = partial(self._hand, made, delivery, syntax, done)
        if made.call is None:
            self._loop.call_soon(self._ready, made, number)
        return partial(self._cancel, made, number)

    def now(self, delivery: Delivery, syntax: str, wish: Wish) -> Converted | Trouble:
        """The same, blocking, in a thread that is not the loop's."""
        if self._closed:
            return _STOPPING
        came: Future[Converted | Trouble] = Future()
        self._loop.call_soon_threadsafe(self.begin, delivery, syntax, wish, came.set_result)
        return came.result()

    def let_go(self, converted: Converted) -> None:
        """``converted.release`` for other threads."""
        self._loop.call_soon_threadsafe(converted.release)

    def released(self, made: _Made) -> None:
        """One user less."""
        made.users -= 1
        made.used_at = self._loop.time()
        self._tidy_later()

    def close(self) -> None:
        """Make no more, and tell so to those who wait; the next start removes what is left."""
        self._closed = True
        if self._tidying is not None:
            self._tidying.cancel()
        for made in list(self._files.values()):
            made.trouble = made.trouble or _STOPPING
            for number in list(made.waiting):
                self._ready(made, number)

    # ---- one file

    def _start(self, made: _Made, delivery: Delivery, syntax: str, wish: Wish) -> None:
        if self._closed:
            self._came(made, None, _STOPPING)
            return
        if self._limits.full():
            text = "storage almost full: nothing is converted"
            self._came(made, None, Trouble(text, Outcome(Kind.IMAGE_RETRY, text, delay=AGAIN, loud=True, ours=True)))
            return
        d = delivery
        source = (
            *(str(self._spool / d.path), d.data_offset, d.size, d.transfer_syntax, d.sop_class_uid, d.sop_instance_uid),
            d.checksum,
        )
        titles = (d.calling_aet, d.calling_aet, d.called_aet)
        room = (LARGEST, self._limits.least())
        arguments = (source, str(made.place), syntax, asdict(wish), titles, room)
        made.call = Call(FUNCTION, arguments, self._limits.deadline() + d.size / _SPEED, GROUP)
        self._processes.submit(made.call, lambda told, failed: self._came(made, told, _trouble(told, failed)))

    def _came(self, made: _Made, told: dict[str, Any] | None, trouble: Trouble | None) -> None:
        made.call, made.told, made.trouble = None, told or {}, trouble
        made.used_at = self._loop.time()
        self.made += trouble is None
        if trouble is not None and trouble.outcome is not None:
            self._files.pop(made.key, None)  # the next try begins anew
            self._remove([made.place])
        for number in list(made.waiting):
            self._loop.call_soon(self._ready, made, number)
        self._tidy_later()

    def _ready(self, made: _Made, number: int) -> None:
        hand = made.waiting.pop(number, None)
        if hand is not None:
            hand()

    def _hand(self, made: _Made, delivery: Delivery, syntax: str, done: Done) -> None:
        if made.trouble is not None:
            self.released(made)
            done(made.trouble)
            return
        told = made.told
        done(
            Converted(
                self,
                made,
                replace(
                    delivery,
                    path=PREFIX + made.place.name,
                    transfer_syntax=syntax,
                    data_offset=told["offset"],
                    size=told["size"],
                    checksum=told["checksum"],
                    sop_instance_uid=told["sop_instance_uid"],
                    image=None,
                    sent=None,
                ),
            )
        )

    def _cancel(self, made: _Made, number: int) -> None:
        if made.waiting.pop(number, None) is not None:  # what is being made is finished: the next try may want it
            self.released(made)

    # ---- what is kept

    def _tidy_later(self) -> None:
        if self._tidying is None and not self._closed:
            self._tidying = self._loop.call_later(1.0, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        unused = sorted((m for m in self._files.values() if not m.users and m.call is None), key=lambda m: m.used_at)
        total = sum(m.told.get("size", 0) for m in self._files.values())
        before = self._loop.time() - KEPT
        gone = []
        for made in unused:
            if made.used_at > before and total <= MOST:
                break
            total -= made.told.get("size", 0)
            del self._files[made.key]
            gone.append(made.place)
        if gone:
            self._remove(gone)
        if len(unused) > len(gone):
            self._tidying = self._loop.call_later(KEPT / 10, self._tidy)

    def _remove(self, files: list[Path]) -> None:
        self._loop.run_in_executor(None, _remove, files)


class ConvertedSpool:
    """A spool whose deliveries may also be of converted files. What is wrong with one of these is worth another try:
    it is made anew."""

    def __init__(self, spool: Spool, folder: Path) -> None:
        self._spool = spool
        self._folder = folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spool, name)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """See ``spool.base.Spool``."""
        return self._read(path, offset, length) if path.startswith(PREFIX) else self._spool.read(path, offset, length)

    def at_once(self, delivery: Delivery) -> memoryview | None:
        """See ``spool.base.Spool``: a converted file is never read on the loop."""
        return None if delivery.path.startswith(PREFIX) else self._spool.at_once(delivery)

    def load(self, delivery: Delivery) -> memoryview:
        """See ``spool.base.Spool``."""
        if not delivery.path.startswith(PREFIX):
            return self._spool.load(delivery)
        data = self._read(delivery.path, delivery.data_offset, delivery.size)
        try:
            check_sum(delivery, xxhash.xxh3_64_intdigest(data))
        except StorageFault as fault:
            _remove([self._place(delivery.path)])
            raise StorageFault(str(fault), errno.EIO) from None
        return memoryview(data)

    def confirm(self, delivery: Delivery) -> None:
        """See ``spool.base.Spool``: of a converted file its checksum says enough."""
        if not delivery.path.startswith(PREFIX):
            self._spool.confirm(delivery)

    def _place(self, path: str) -> Path:
        return self._folder / path.removeprefix(PREFIX)

    def _read(self, path: str, offset: int, length: int) -> bytes:
        try:
            with self._place(path).open("rb") as file:
                return os.pread(file.fileno(), length, offset)
        except OSError as error:
            raise StorageFault(f"{path}: cannot be read: {error.strerror}", errno.EIO) from error


def _way(syntax: str, wish: Wish) -> tuple[Any, ...]:
    """What besides the syntax makes a difference."""
    if syntax == JLS_NEAR:
        return wish.error, wish.keep_uid
    if syntax == J2K:
        return wish.ratio, wish.keep_uid
    return () if wish.verify or syntax in PLAIN else ("not verified",)


def _trouble(told: Any, failed: Failed | None) -> Trouble | None:
    if isinstance(failed, NotStarted) or (isinstance(failed, Raised) and failed.kind in _OURS):
        return Trouble(str(failed), Outcome(Kind.IMAGE_RETRY, str(failed), delay=AGAIN, loud=True, ours=True))
    if failed is not None:
        return Trouble(str(failed), outcomes.held(f"it cannot be converted: {failed}"))
    if told.get("damaged"):
        return Trouble(told["damaged"], outcomes.unreadable(told["damaged"], for_good=True))
    if not told.get("refused"):
        return None
    text = told["refused"]
    return Trouble(text, outcomes.held(f"it cannot be converted: {text}") if told["broken"] else None)


def change_of(stored: str, sent: str, why: str) -> list[str]:
    """A row of ``core.model.Sent.changes``."""
    return ["TransferSyntaxUID", named(stored), named(sent), why]


def _remove(files: list[Path]) -> None:
    """With what the conversion had beside them."""
    for file in files:
        with contextlib.suppress(OSError):
            for each in file.parent.glob(f"{file.name}*"):
                each.unlink()
