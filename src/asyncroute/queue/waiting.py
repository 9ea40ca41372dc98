"""Studies (or series) that are not complete yet: how long their images still wait.

The journal knows which images wait for which completion; here is one record for each completion, not for each image.
A study is complete when no image of it has come for the route's ``quiet``, or when ``at_latest`` has passed since its
first; then all that waits for it becomes ready in one transaction. Time is the journal's clock: a wall clock that jumps
changes nothing, and the time in which no router ran does not count, because nobody could send then.
Guarantees: whatever the journal has waiting is known here; memory grows with studies, not with images; one timer.
Failures: while the journal cannot be written, what is due waits and is tried again.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from asyncroute.core.completion import Completion

log = logging.getLogger(__name__)

MOST_TOGETHER = 5000
"""Images that are made ready in one transaction, unless one study has more."""

RETRY = 1.0
TICK = 10.0
"""Seconds: while somebody waits, the journal's clock is written down so often, so that a crash loses no more of it."""

REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a route waits, in seconds: since the last image, since the first."""

    quiet: float
    at_latest: float


class Waiting:
    """See module. The loop's thread only.

    ``complete``: makes completions complete in the journal. ``read``: what the journal has. ``ready``: told of the
    destinations for which something has become ready. ``clock``: the journal's (``Writer.clock``).
    """

    def __init__(
        self,
        complete: Callable[[Sequence[int]], Awaitable[int]],
        read: Callable[[], Awaitable[list[Completion]]],
        ready: Callable[[Iterable[str]], None],
        clock: Callable[[], float],
    ) -> None:
        self._complete = complete
        self._read = read
        self._ready = ready
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._patience: Mapping[str, Patience] = {}
        self._waiting: dict[int, Completion] = {}
        self._queue: list[tuple[float, int]] = []
        """(not due before, id) of each that is not held; images that come later do not change it."""
        self._over: dict[int, None] = {}
        self._touched: set[int] = set()
        self._moved: set[str] = set()
        """Where what is just becoming ready has moved meanwhile."""
        self._reading = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ticked = clock()
        self._stopping = False

    # ---- what comes in

    async def begin(self, patience: Mapping[str, Patience]) -> None:
        """Go on with what the journal has waiting.

        Raises:
            StorageFault: it cannot be read.
        """
        self._patience = patience
        await self.refresh()

    def joined(self, completions: Iterable[Completion]) -> None:
        """Images have come that wait; it is in the journal."""
        for new in completions:
            if new.id in self._over:  # it was written before the end of its completion, but told after it
                continue
            if self._reading.locked():
                self._touched.add(new.id)
            known = self._waiting.get(new.id)
            if known is None:
                self._add(new)
            else:
                known.last_since = max(known.last_since, new.last_since)
                known.last_at = max(known.last_at, new.last_at)
                known.images += new.images
                for destination, number in new.owed.items():
                    known.owed[destination] = known.owed.get(destination, 0) + number
        self._set_timer()

    def change(self, patience: Mapping[str, Patience]) -> None:
        """Other settings: they count for what waits, too; a route that waits no longer sends what it has."""
        self._patience = patience
        self._take(list(self._waiting.values()))

    async def refresh(self) -> None:
        """A person changed what waits: read it anew.

        Raises:
            StorageFault: it cannot be read.
        """
        async with self._reading:
            self._touched.clear()
            found = await self._read()
            meanwhile = [self._waiting[id_] for id_ in self._touched if id_ in self._waiting]
        self._moved.update(destination for it in found if it.id in self._over for destination in it.owed)
        known = {it.id: it for it in found if it.id not in self._over} | {it.id: it for it in meanwhile}
        self._take(known.values())

    def stop(self) -> None:
        """Nothing more becomes ready; the journal keeps it. Idempotent."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    # ---- time

    def _take(self, completions: Iterable[Completion]) -> None:
        self._waiting, self._queue = {}, []
        for each in completions:
            self._add(each)
        self._set_timer()

    def _add(self, new: Completion) -> None:
        now = self._clock()  # after a crash it is some seconds behind: nobody waits longer for that
        new.first_since, new.last_since = min(new.first_since, now), min(new.last_since, now)
        self._waiting[new.id] = new
        if not new.held:
            heapq.heappush(self._queue, (self._due(new), new.id))

    def _due(self, it: Completion) -> float:
        """When it is complete, on the journal's clock; inf: when a person says so."""
        patience = self._patience.get(it.route)
        if it.held:
            return inf
        if patience is None:
            return 0.0
        return min(it.last_since + patience.quiet, it.first_since + patience.at_latest)

    def _set_timer(self) -> None:
        """Come back when the next may be due. A timer that rings too early is left alone: it is set anew then."""
        if self._task is not None or self._stopping or not self._queue:
            return
        wait = max(min(self._queue[0][0] - self._clock(), TICK), 0.0)
        at = self._loop.time() + wait
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock()
        due = self._take_due(now)
        if due or now - self._ticked >= TICK:
            self._ticked = now
            self._task = self._loop.create_task(self._end(due), name="completion")
        else:
            self._set_timer()

    def _take_due(self, now: float) -> list[Completion]:
        """What is complete now, up to a bound; it is gone from here."""
        due: list[Completion] = []
        images = 0
        while self._queue and self._queue[0][0] <= now and images < MOST_TOGETHER:
            _, id_ = heapq.heappop(self._queue)
            it = self._waiting.get(id_)
            if it is None:
                continue
            at = self._due(it)
            if at > now:
                heapq.heappush(self._queue, (at, id_))
                continue
            del self._waiting[id_]
            self._over[id_] = None
            due.append(it)
            images += it.images
        while len(self._over) > REMEMBERED + len(due):
            del self._over[next(iter(self._over))]
        return due

    async def _end(self, due: list[Completion]) -> None:
        """Make these complete; with none of them, the journal's clock is written down."""
        try:
            await self._complete([it.id for it in due])
        except Exception as error:
            log.log(
                logging.ERROR if due else logging.DEBUG, "%d complete studies cannot be sent yet: %s", len(due), error
            )
            await asyncio.sleep(RETRY)
            for it in due:
                self._over.pop(it.id, None)
                self._add(it)
        else:
            if due:
                moved, self._moved = self._moved, set()
                self._ready(moved.union(*(it.owed for it in due)))
        finally:
            self._task = None
            self._set_timer()

    # ---- what is told

    @property
    def completions(self) -> Collection[Completion]:
        """All that is not complete."""
        return self._waiting.values()

    def due_in(self, id_: int) -> float | None:
        """Seconds until this completion is due as things are; None: a person has to say so, or it is not known."""
        it = self._waiting.get(id_)
        return None if it is None or it.held else max(self._due(it) - self._clock(), 0.0)

    def owed(self) -> Counter[str]:
        """Deliveries that wait, by destination."""
        found: Counter[str] = Counter()
        for it in self._waiting.values():
            found.update(it.owed)
        return found
