"""What all ways of proving deliveries share: one task for each destination, which wakes when something was delivered.

Guarantees: what waits for proof is looked at again and again until there is none. Failures of the destination are shown
(``trouble``), those of the journal likewise; both are tried again, with the waits of ``retry``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import Any, Final, Protocol

from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.proof import ProofAction, Setback, Unproven
from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState
from asyncroute.forward.base import Committer, Querier
from asyncroute.journal.base import Proofs as Known

log = logging.getLogger(__name__)

MOST: Final = 300
"""Images that are asked for together."""

GATHER: Final = 3.0
"""Seconds in which deliveries gather."""

LOOK: Final = 30.0
"""Seconds between looks at the journal while something waits for proof."""


class Books(Protocol):
    """Who counts deliveries (the scheduler)."""

    def clock(self) -> float:
        """Seconds on the journal's clock."""
        ...

    def undelivered(self, destination: str, again: Iterable[int], failed: int) -> None:
        """These were counted as delivered: ready again (their sizes in bytes), and dead letters."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """How one destination proves its deliveries: by its ``committer``, or by what its ``querier`` finds.

    ``wait``: seconds after which a report is overdue, or an image that is not found is sent again. ``linger``: seconds
    that an association stays open for reports. ``may``: whether it may be asked now. ``title``: under which AE title a
    query for an image goes; raises ``core.titles.WrongTitle``.
    """

    committer: Committer | None
    querier: Querier | None
    wait: float
    linger: float
    retry: Backoff
    may: Callable[[], bool]
    title: Callable[[Unproven], str]


@dataclass(slots=True)
class Shared:
    """What all destinations use."""

    known: Known
    act: Callable[[ProofAction], Coroutine[Any, Any, int]]
    books: Books
    unconfirmed: Counter[str] = field(default_factory=Counter)
    """Deliveries that wait for proof, by destination."""

    def count(self, name: str, confirmed: int, setbacks: Sequence[Setback], images: Iterable[Unproven]) -> None:
        """Count what the journal has been told; ``images``: all that ``setbacks`` are about."""
        self.unconfirmed[name] -= confirmed + len(setbacks)
        if not setbacks:
            return
        sizes = {image.instance_id: image.size for image in images}
        again = [sizes[it.instance_id] for it in setbacks if it.state is DeliveryState.READY]
        log.warning("%s: %d images are not confirmed: %s", name, len(setbacks), setbacks[0].error)
        self.books.undelivered(name, again, len(setbacks) - len(again))


class Proving:
    """One destination's task, whatever its way. ``trouble``: why it cannot be asked now; empty: it can."""

    def __init__(self, name: str, terms: Terms, shared: Shared) -> None:
        self.name = name
        self.terms = terms
        self.trouble = ""
        self._shared = shared
        self._soon = inf  # seconds after which to look again, if nothing happens
        self._new = 0
        self._wake, self._full = asyncio.Event(), asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"prove {name}")

    def delivered(self) -> None:
        """One more waits."""
        self._new += 1
        self._wake.set()
        if self._new >= MOST:
            self._full.set()

    def stop(self) -> asyncio.Task[None]:
        """Ask nothing more; the task, which ends."""
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        failures = 0
        unsure = True  # what the last run was about to ask when it ended
        while True:
            try:
                await self._round(unsure)
                failures, unsure = 0, False
                await self._idle()
            except Exception as fault:
                failures += 1
                self._failed(fault)
                await asyncio.sleep(self.terms.retry.ceiling(failures))

    def _failed(self, fault: Exception) -> None:
        """Told once, until it is another one."""
        words = str(fault) if isinstance(fault, AsyncrouteError) else f"unexpected error: {fault!r}"
        if words != self.trouble:
            log.error(
                "%s: deliveries cannot be confirmed: %s",
                self.name,
                words,
                exc_info=not isinstance(fault, AsyncrouteError),
            )
        self.trouble = words

    async def _idle(self) -> None:
        """Until there is something to ask for, and a little longer, so that more can come."""
        timeout = min(LOOK if self._shared.unconfirmed[self.name] else inf, self._soon)
        due = await self._shared.known.next_due(self.name)
        if due is not None:
            timeout = min(timeout, max(due - time(), 0.05))
        if await within(self._wake, timeout):
            await within(self._full, GATHER)
        self._new = 0
        self._wake.clear()
        self._full.clear()

    async def _round(self, unsure: bool) -> None:
        """Ask for all that waits. ``unsure``: the first time in a run."""
        raise NotImplementedError


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set by then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds if seconds < inf else None):
            await event.wait()
    return event.is_set()
