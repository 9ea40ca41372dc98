"""Proof of deliveries by query: what was delivered is looked for at the destination, and what is missing is sent again.

A series is looked for when nothing of it was delivered for ``QUIET`` seconds. An image that is found is confirmed; one
that is not found is looked for again, with growing pauses, and sent again when it is still missing ``wait`` seconds
after its delivery. In memory: one page of ``MOST`` images at a time. Failures: see ``queue.proving``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from math import inf
from time import time
from typing import Final, NamedTuple

from asyncroute.core.proof import Overdue, Proven, Setback, Unproven, setback
from asyncroute.core.states import DeliveryState
from asyncroute.core.titles import WrongTitle
from asyncroute.forward.base import Querying
from asyncroute.queue.proving import MOST, Proving

log = logging.getLogger(__name__)

QUIET: Final = 5.0
"""Seconds without a delivery of its series after which an image is looked for."""

AT_LATEST: Final = 60.0
"""Seconds after which it is looked for anyway."""

FIRST, LAST = 2.0, 60.0
"""Seconds between looks for what is missing, growing."""


class Series(NamedTuple):
    """Images that one query looks for; ``title``: the AE title under which."""

    title: str
    study_uid: str
    series_uid: str


class ByQuery(Proving):
    """A destination that is queried for what it got."""

    _pause = FIRST

    async def _round(self, unsure: bool) -> None:
        """Look for all that waits."""
        if unsure:  # what another way had asked for before a reload
            await self._shared.act(Overdue(self.name, inf, 0.0))
        if not self.terms.may():
            return
        waits = missing = False
        after = 0
        while found := await self._shared.known.waiting(self.name, MOST, after):
            after = found[-1].instance_id
            young, lacking = await self._page(found)
            waits, missing = waits or young, missing or lacking
        self.trouble = ""
        self._pause = min(self._pause * 2, LAST) if missing else FIRST
        self._soon = min(QUIET if waits else inf, self._pause if missing else inf, max(self.terms.wait / 2, 0.5))

    async def _page(self, images: list[Unproven]) -> tuple[bool, bool]:
        """Look for these; whether some of them are too young for that, whether some are missing."""
        now = time()
        series, impossible = self._grouped(images)
        await self._settle([], impossible, images)
        ripe = {key: its for key, its in series.items() if _ripe(its, now)}
        missing = await self._look(ripe) if ripe else False
        return len(ripe) < len(series), missing

    def _grouped(self, images: Iterable[Unproven]) -> tuple[dict[Series, list[Unproven]], list[Setback]]:
        """By series; and what cannot be looked for at all, which is a dead letter."""
        series: dict[Series, list[Unproven]] = {}
        impossible: list[Setback] = []
        for image in images:
            try:
                title = self.terms.title(image)
            except WrongTitle as wrong:
                impossible.append(_dead(image, str(wrong)))
                continue
            if image.study_uid and image.series_uid:
                series.setdefault(Series(title, image.study_uid, image.series_uid), []).append(image)
            else:
                impossible.append(_dead(image, "its study and series are not known"))
        return series, impossible

    async def _look(self, ripe: Mapping[Series, list[Unproven]]) -> bool:
        """Query for these series, an association for each title; whether something is missing."""
        missing = False
        for title in {key.title for key in ripe}:
            querier = self.terms.querier
            assert querier is not None
            association = await querier.open(title)
            try:
                for key, images in ripe.items():
                    if key.title == title:
                        missing = await self._compare(association, key, images) or missing
            finally:
                association.close()
        return missing

    async def _compare(self, association: Querying, key: Series, images: list[Unproven]) -> bool:
        wanted = frozenset(image.sop_instance_uid for image in images)
        there = await association.find(key.study_uid, key.series_uid, wanted)
        now, retry, clock = time(), self.terms.retry, self._shared.books.clock()
        confirmed = [image.instance_id for image in images if image.sop_instance_uid in there]
        missing = [image for image in images if image.sop_instance_uid not in there]
        late = [image for image in missing if not now - self.terms.wait < image.at <= now + AT_LATEST]
        error = f"not found at the destination {self.terms.wait:g} s after it was delivered"
        setbacks = [setback(image, None, error, retry, clock - image.since, now) for image in late]
        await self._settle(confirmed, setbacks, images)
        return len(missing) > len(late)

    async def _settle(self, confirmed: list[int], setbacks: list[Setback], images: Iterable[Unproven]) -> None:
        if confirmed or setbacks:
            await self._shared.act(Proven(self.name, "", confirmed, setbacks, "found by a query"))
            self._shared.count(self.name, len(confirmed), setbacks, images)


def _ripe(images: Iterable[Unproven], now: float) -> bool:
    """Whether it is time; also where a clock was wrong."""
    times = [image.at for image in images]
    return not now - QUIET < max(times) <= now + AT_LATEST or min(times) < now - AT_LATEST


def _dead(image: Unproven, why: str) -> Setback:
    return Setback(image.instance_id, DeliveryState.FAILED, None, f"cannot be looked for at the destination: {why}")
