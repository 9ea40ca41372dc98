"""Looks after groups: moves studies away from members that fail, looks whether those are well again, ends studies.

A member fails when its breaker opens, when it rejects associations for a person to mend, or when it is full for long.
Then all studies of which it is owed images move, whole, each to the next member that is well (``journal.base.Move``), a
bounded number of images in one transaction, a study never in two. Meanwhile its channel, and nobody else's, rests: what
it has in memory of these studies it forgets, and what becomes of an image on its way counts for nothing. Studies whose
every image it has got stay with it until there is more of them. A person's hold moves nothing, but new studies go
elsewhere. Since nothing waits for a failed member then, it is asked from time to time, by its breaker's pauses,
whether it is there (C-ECHO, or a file in its folder).

Guarantees: what is in memory follows the journal; a crash at any point loses nothing, since what it left at the wrong
member is found at the next start. Failures: the journal's; they are logged, and tried again at the next look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager

from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.groups import EndStudies, Group, Move, Regrouped
from asyncroute.core.outcomes import Outcome
from asyncroute.forward.base import Forwarder
from asyncroute.journal.base import Action, Reader
from asyncroute.queue.channel import Channel
from asyncroute.queue.group import HELD, MOST, Groups, study_of
from asyncroute.queue.scheduler import Scheduler

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between looks at the members."""

TOGETHER = 100
MOST_IMAGES = 2000
"""Studies, and their images, that move in one transaction; one larger study moves alone."""

LONGEST = 86400.0
"""Seconds after which a study ends that never pauses."""

REST = 5.0
"""Seconds for which a channel is waited for until its results are durable."""

MOST_PROBES = 16

Act = Callable[[Action], Awaitable[int]]
Probe = Callable[[Forwarder, str], Awaitable[Outcome]]


class Keeper:
    """See module. ``probe``: asks a destination; ``short``: whether the spool's disk is almost full, so that nothing is
    kept; ``moved``: studies have moved, some of which may wait for a completion. The loop's thread only."""

    def __init__(
        self,
        groups: Groups,
        scheduler: Scheduler,
        reader: Reader,
        act: Act,
        probe: Probe,
        short: Callable[[], bool] = lambda: False,
        moved: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.groups = groups
        self._scheduler = scheduler
        self._reader = reader
        self._act = act
        self._probe = probe
        self._short = short
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self._sweep_at = 0.0
        self._probing: dict[str, asyncio.Task[None]] = {}

    async def begin(self) -> None:
        """Take over which studies the journal knows.

        Raises:
            StorageFault: it cannot be read.
        """
        known = await self._reader.group_studies(MOST)
        self.groups.incomplete = len(known) == MOST
        for name, study, member in reversed(known):
            if name in self.groups.groups:
                self.groups.adopt(name, study, member)
                self.groups.owing[name, member] = None
            else:
                self.groups.incomplete = True
        for name, study, destination in await self._reader.group_strays():
            self.groups.strays.setdefault((name, study), set()).add(destination)

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except AsyncrouteError as error:
                    log.error("groups: %s", error)
                except TimeoutError:
                    log.info("groups: a channel's results are not durable yet; tried again")
                await asyncio.sleep(LOOK)
        finally:
            for task in self._probing.values():
                task.cancel()

    async def look(self) -> None:
        """Everything that is due now.

        Raises:
            StorageFault, TimeoutError: some of it has to wait for the next look.
        """
        groups = self.groups
        self._ask_the_failed()
        for name, member in list(groups.owing):
            group = groups.groups.get(name)
            if group is None or not await self._relieve(group, member):
                groups.owing.pop((name, member), None)
        for study in list(groups.strays):
            await self._gather(*study)
        if groups.any and (groups.changed or self._loop.time() >= self._sweep_at or self._short()):
            await self._sweep()

    # ---- moving

    async def _relieve(self, group: Group, member: str) -> bool:
        """Move what ``member`` is owed, if it should not have it; False: it is owed nothing more."""
        while True:
            why = self.groups.why_not(group, member)
            if not why or why == HELD:
                return True
            owed = await self._reader.group_owed(group.name, member, TOGETHER)
            if not owed:
                return False
            targets: dict[str, str] = {}
            images = 0
            for study, number in owed:
                images += number
                other = self.groups.another(group, study, member)
                if other is None or (targets and images > MOST_IMAGES):
                    break
                targets[study] = other
            if not targets:
                return True
            await self._move(group.name, (member,), targets, f"{member}: {why}" if member in group.members else why)
            self._tell(group.name, member, targets, why)

    async def _gather(self, name: str, study: str) -> None:
        """Images of this study are at other destinations than its member: they follow it."""
        group = self.groups.groups.get(name)
        places = self.groups.strays.pop((name, study), set())  # more may come meanwhile: they are for the next time
        if group is not None:
            member = self.groups.member(group, study)
            try:
                await self._move(name, places - {member}, {study: member}, "its study had moved there")
            except BaseException:
                self.groups.strays.setdefault((name, study), set()).update(places)
                raise
        self._scheduler.look_again(places)  # what stays there its channel has not been told

    async def _move(self, name: str, places: Collection[str], targets: Mapping[str, str], why: str) -> None:
        """These studies go to their targets; ``places``: where they may be now."""
        channels = [c for place in places if (c := self._scheduler.channels.get(place)) is not None]
        async with _resting(channels):
            for study, member in targets.items():
                self.groups.adopt(name, study, member)
                self.groups.owing[name, member] = None
            for channel in (*channels, *self._scheduler.retiring(places)):
                channel.handover.let_go(lambda delivery: study_of(delivery) in targets)
            moves = [self._act(Move(name, study, member, why)) for study, member in targets.items()]
            results = await asyncio.gather(*moves, return_exceptions=True)
        faults = [result for result in results if isinstance(result, BaseException)]
        if faults:  # the journal has them where they were; a move that is done again changes nothing
            for study in targets:
                self.groups.strays.setdefault((name, study), set()).update(places)
            raise faults[0]
        if self._moved is not None:
            await self._moved()
            # what was complete in between is ready there, and nobody said so
            self._scheduler.look_again(set(targets.values()))

    def _tell(self, name: str, member: str, targets: Mapping[str, str], why: str) -> None:
        others = ", ".join(sorted(set(targets.values())))
        number = f"{len(targets)} studies go" if len(targets) > 1 else "a study goes"
        text = f"group {name}: {number} on at {others}: {why}"
        log.error("%s: %s", member, text)
        self._scheduler.note("failover", text, member)

    # ---- what the journal says

    def regrouped(self, news: Regrouped) -> None:
        """This has become durable."""
        for name, study, member, routed in news.members:
            self.groups.corrected(name, study, member, routed)
        for name, study in news.ended:
            self.groups.ended(name, study)
        self._scheduler.regrouped(news)

    # ---- the end of studies

    async def _sweep(self) -> None:
        """End what is over; on a disk that is almost full, all that is not on its way."""
        groups = self.groups
        groups.changed = False
        keep = {} if self._short() else {name: group.keep for name, group in groups.groups.items()}
        while await self._act(EndStudies(keep, LONGEST)):
            pass
        if groups.incomplete:
            groups.incomplete = len(await self._reader.group_studies(MOST)) > groups.count
        shortest = min((group.keep for group in groups.groups.values()), default=0.0)
        self._sweep_at = self._loop.time() + min(max(shortest / 10, LOOK), 60.0)

    # ---- those that failed

    def _ask_the_failed(self) -> None:
        """Whether members are there again to which nothing is sent."""
        for name in {member for group in self.groups.groups.values() for member in group.members}:
            channel = self._scheduler.channels.get(name)
            if channel is not None and name not in self._probing and self._may_ask(channel):
                task = self._probing[name] = self._loop.create_task(self._ask(channel), name=f"probe {name}")
                task.add_done_callback(lambda _, name=name: self._probing.pop(name, None))  # type: ignore[misc]

    def _may_ask(self, channel: Channel) -> bool:
        now, breaker = self._loop.time(), channel.breaker
        due = breaker.open and now >= breaker.until and channel.handover.empty and len(self._probing) < MOST_PROBES
        return due and not channel.stopping and not channel.times.shut(now)

    async def _ask(self, channel: Channel) -> None:
        try:
            outcome = await self._probe(channel.forwarder, channel.verdict.last_title)
        except Exception as error:
            log.exception("%s: cannot be asked whether it is well", channel.name)
            channel.breaker.failed(self._loop.time())
            channel.verdict.last_error = f"unexpected error while asking: {error!r}"
            return
        if channel.handover.empty:  # else the images that have come meanwhile find out by themselves
            channel.verdict.of_nobody(outcome, self._loop.time())
            channel.pump()


@asynccontextmanager
async def _resting(channels: Collection[Channel]) -> AsyncIterator[None]:
    """These channels begin nothing, and all that they settled is durable.

    Raises:
        TimeoutError: it does not become so.
    """
    try:
        for channel in channels:
            channel.handover.rest(True)
        async with asyncio.timeout(REST):
            while not all(channel.handover.at_rest for channel in channels):
                await asyncio.sleep(0.01)
        yield
    finally:
        for channel in channels:
            channel.handover.rest(False)
