"""A person's words to a running router: what the control socket's requests do.

Retry makes dead letters ready again and routes held images anew under the present configuration; reroute sends either
to another destination; discard ends what a person no longer wants; hold and release are of a whole destination. All go
through the group commit, and tell channels and counters what changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from math import inf
from time import time
from typing import TYPE_CHECKING, Any

from asyncroute.core.errors import AsyncrouteError, OurFault
from asyncroute.core.model import RouteHit, Selection
from asyncroute.core.states import DeliveryState
from asyncroute.core.told import QueueRow
from asyncroute.journal.base import Discard, Event, Hold, Redirect, Release, Reroute, Retry, SendNow
from asyncroute.route import BY_HAND
from asyncroute.status import snapshot, story
from asyncroute.status.asked import name_of, selection, states_of, unknown

if TYPE_CHECKING:
    from asyncroute.app import App
    from asyncroute.queue.channel import Channel

log = logging.getLogger(__name__)

HEAD = 1 << 20
TOGETHER = 100
AT_ONCE = 10_000
"""Rows of the journal that are handled in one go."""

CATCH_UP = 1.0
"""Seconds that a question waits for results that are not yet in the journal."""


def _give_back(channel: Channel, instance_ids: Sequence[int]) -> None:
    """What was taken out of a channel and is still owed comes back from the journal."""
    for instance_id in instance_ids:
        channel.settled(instance_id, final=True)
    channel.look_again()


class Administrator:
    """See module and ``status.control.Administration``. The loop's thread only."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._searching = asyncio.Lock()
        self._holding = asyncio.Lock()

    def status(self) -> dict[str, Any]:
        """See ``status.snapshot.running``."""
        return snapshot.running(self._app)

    def reload(self) -> dict[str, Any]:
        """See ``status.control.Administration``."""
        return {"changes": self._app.reload()}

    async def _caught_up(self) -> None:
        """The journal has what ``status`` counts by now, unless it cannot be written at this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP):
                await self._app.committer.caught_up()

    async def why(self, what: dict[str, Any]) -> dict[str, Any]:
        """See ``status.control.Administration``. One at a time, with a reader that nobody else waits for."""
        await self._caught_up()
        async with self._searching:
            reader = await self._app.another_reader()
            try:
                found = await story.tell(reader, what, self._app.config.node.history)
            finally:
                await reader.close()
        sending = self._being_sent()
        for instance_id, delivery in story.deliveries(found):
            if (instance_id, delivery["destination"]) in sending:
                delivery["state"] = "sending"
            self._say_when(delivery["awaits"])
        found["destinations"] = {name: self._destination(name) for name in sorted(story.destinations(found))}
        return found

    def _say_when(self, awaits: dict[str, Any] | None) -> None:
        """Fill in when a completion is due."""
        seconds = self._app.waiting.due_in(awaits["id"]) if awaits is not None else None
        if awaits is not None and seconds is not None and awaits["complete_at"] is None:
            awaits["due_at"] = round(time() + seconds, 1)

    def _being_sent(self) -> set[tuple[int, str]]:
        """(instance id, destination) of all that is being sent now."""
        channels = self._app.scheduler.channels
        return {(d.instance_id, name) for name, c in channels.items() for d in c.sending.values()}

    def _destination(self, name: str) -> dict[str, Any]:
        """How it is now, and in how many seconds it is tried again."""
        channel = self._app.scheduler.channels.get(name)
        if channel is None:
            return {"state": "removed", "last_error": "", "again_s": None}
        now = self._app.loop.time()
        wait = max(channel.verdict.paused_until(now), channel.breaker.until) - now
        again = round(wait, 1) if 0 < wait < inf else None
        return {"state": channel.verdict.state(now), "last_error": channel.verdict.last_error, "again_s": again}

    async def queue_list(self, what: dict[str, Any]) -> list[dict[str, Any]]:
        """Open deliveries, or held images where ``state`` is ``held``; both without a state."""
        limit = what.get("limit", 1000)
        if not isinstance(limit, int) or limit < 1:
            raise OurFault("limit: must be a positive number")
        await self._caught_up()
        rows: list[QueueRow] = []
        if what.get("state") != "held":
            rows += await self._app.reader.rows(selection(what, states_of(what, ())), limit)
        if what.get("state") in (None, "held") and not what.get("to"):
            rows += await self._app.reader.rows(selection(what, ()), limit, held=True)
        sending = self._being_sent()
        return [
            asdict(r) | ({"state": "sending"} if (r.instance_id, r.destination) in sending else {})
            for r in rows[:limit]
        ]

    async def queue_retry(self, what: dict[str, Any]) -> dict[str, Any]:
        """Dead letters are sent again, held images routed again; a destination that is named goes on at once."""
        deliveries = images = 0
        word = what.get("state")
        if word not in (None, "failed", "held"):
            raise OurFault(f"only failed deliveries and held images can be retried, not {word} ones")
        await self._caught_up()
        if word != "held":
            deliveries = await self._retry_failed(what)
        if word == "held" or (word is None and not what.get("to")):
            images = await self._retry_held(what)
        if word in (None, "held") and any(it.held for it in self._app.waiting.completions):
            deliveries += await self._send_now(SendNow(selection(what, ()), late=True))
        for name, channel in self._app.scheduler.channels.items():
            if what.get("to") in (None, name):
                channel.verdict.resume()
                channel.look_again()
        self._app.batches.wake()
        return {"deliveries": deliveries, "images": images}

    async def queue_discard(self, what: dict[str, Any]) -> dict[str, Any]:
        """Dead letters (or what ``state`` names) and held images go for good."""
        await self._caught_up()
        deliveries = images = 0
        word = what.get("state")
        if word != "held":
            deliveries = await self._each_by_destination(what, self._discard_rows)
        if word == "held" or (word is None and not what.get("to")):
            action = Discard(selection(what, ()), held=True)
            images = await self._app.committer.act(action)
            self._app.scheduler.held -= images
        self._app.batches.wake()
        return {"deliveries": deliveries, "images": images}

    async def queue_reroute(self, what: dict[str, Any]) -> dict[str, Any]:
        """Dead letters (or what ``state`` names) and held images go to the destination ``target`` instead."""
        target = name_of(what, "target")
        if target not in self._app.scheduler.channels:
            raise unknown(target, self._app.scheduler.channels)
        await self._caught_up()
        deliveries = images = 0
        word = what.get("state")
        if word != "held":
            deliveries = await self._each_by_destination(what, partial(self._redirect_rows, target))
        if word == "held" or (word is None and not what.get("to")):
            images = await self._retry_held(what, (RouteHit(BY_HAND, target),))
        self._app.scheduler.channels[target].look_again()
        self._app.batches.wake()
        return {"deliveries": deliveries, "images": images}

    async def queue_hold(self, what: dict[str, Any]) -> dict[str, Any]:
        """Nothing more is begun for a destination, also after a restart, until it is released."""
        name = name_of(what)
        if name not in self._app.scheduler.channels:
            raise unknown(name, self._app.scheduler.channels)
        async with self._holding:  # so that memory follows the journal, in its order
            changed = await self._app.committer.act(Hold(name))
            if changed:
                self._app.scheduler.hold(name, time())
                log.warning("%s: held by a person", name)
        return {"destinations": changed}

    async def queue_release(self, what: dict[str, Any]) -> dict[str, Any]:
        """A destination goes on that a person held, or that was held because it refused several studies.

        With ``waiting``: the selected images wait no longer for their studies to be complete.
        """
        if what.get("waiting"):
            return {"deliveries": await self._send_now(SendNow(selection(what, ())))}
        name = name_of(what)
        channel = self._app.scheduler.channels.get(name)
        async with self._holding:
            changed = await self._app.committer.act(Release(name))
            if not changed and channel is None:
                raise unknown(name, self._app.scheduler.channels)
            if channel is not None and channel.verdict.held:
                channel.verdict.resume()
                self._app.committer.record(Event(time(), "release", "a person says: go on", destination=name))
                changed = 1
            if changed:
                self._app.scheduler.hold(name, None)
                log.warning("%s: released by a person", name)
        return {"destinations": changed}

    async def _send_now(self, action: SendNow) -> int:
        """What waits for a completion is ready."""
        app = self._app
        touched = await app.committer.act(action)
        if touched:
            await app.waiting.refresh()
            app.look_now(app.scheduler.channels)
        return touched

    async def _by_destination(
        self, what: dict[str, Any], states: tuple[DeliveryState, ...]
    ) -> dict[str, list[QueueRow]]:
        found: dict[str, list[QueueRow]] = defaultdict(list)
        for row in await self._app.reader.rows(selection(what, states), AT_ONCE):
            found[row.destination].append(row)
        return found

    async def _retry_failed(self, what: dict[str, Any]) -> int:
        """Those that have failed by now: what fails again meanwhile is for the next time, or this would never end."""
        total = 0
        seen: set[tuple[str, int]] = set()
        while found := await self._by_destination(what, (DeliveryState.FAILED,)):
            now = {(name, row.instance_id) for name, rows in found.items() for row in rows}
            if now <= seen:
                break
            seen |= now
            touched = 0
            for name, rows in found.items():
                ids = [row.instance_id for row in rows]
                n = await self._app.committer.act(Retry(Selection((DeliveryState.FAILED,), name, instance_ids=ids)))
                tally = self._app.scheduler.tallies[name]
                tally.failed -= n
                for row in rows[:n]:
                    tally.backlog.add(row.size)
                self._app.groups.owe(name)
                touched += n
            total += touched
            if not touched or len(now) < AT_ONCE:
                break
        return total

    async def _each_by_destination(
        self, what: dict[str, Any], act: Callable[[str, list[QueueRow]], Awaitable[int]]
    ) -> int:
        """``act`` on what is chosen, until nothing is left or nothing changes any more; how many it touched."""
        states = states_of(what, (DeliveryState.FAILED,))
        try:
            return await self._until_done(what, states, act)
        finally:
            if DeliveryState.WAITING in states:
                await self._app.waiting.refresh()

    async def _until_done(
        self,
        what: dict[str, Any],
        states: tuple[DeliveryState, ...],
        act: Callable[[str, list[QueueRow]], Awaitable[int]],
    ) -> int:
        total = 0
        while found := await self._by_destination(what, states):
            touched = 0
            for name, rows in found.items():
                touched += await act(name, rows)
            total += touched
            if not touched:
                break
        return total

    async def _discard_rows(self, name: str, rows: list[QueueRow]) -> int:
        return await self._end_rows(name, rows, Discard)

    async def _redirect_rows(self, target: str, name: str, rows: list[QueueRow]) -> int:
        """Each begins anew at ``target``, if its image was not to go there so far."""
        if name == target:
            return 0
        return await self._end_rows(name, rows, partial(Redirect, destination=target), target)

    async def _end_rows(
        self, name: str, rows: list[QueueRow], how: Callable[[Selection], Discard | Redirect], target: str = ""
    ) -> int:
        """Those of one destination, but for what is being sent at this moment; ``target`` is owed them then."""
        scheduler = self._app.scheduler
        channel = scheduler.channels.get(name)
        ids = {row.instance_id for row in rows}
        free = channel.take_back(ids) if channel is not None else ids
        by_state: dict[str, list[QueueRow]] = defaultdict(list)
        for row in rows:
            if row.instance_id in free:
                by_state[row.state].append(row)
        touched = 0
        tally = scheduler.tallies[name]
        for word, some in by_state.items():
            state = next(s for s in DeliveryState if s.word == word)
            chosen = Selection((state,), name, instance_ids=[row.instance_id for row in some])
            try:
                n = await self._app.committer.act(how(chosen))
            finally:
                if channel is not None:
                    _give_back(channel, [row.instance_id for row in some])
            touched += n
            gone = await self._ended(some, chosen, n)
            if state is DeliveryState.FAILED:
                tally.failed -= n
            else:
                for row in gone:
                    tally.backlog.remove(row.size)
            if target:
                for row in gone:
                    scheduler.tallies[target].backlog.add(row.size)
        return touched

    async def _ended(self, rows: list[QueueRow], chosen: Selection, number: int) -> list[QueueRow]:
        """Those ``number`` of ``rows`` that are not as they were chosen any more."""
        if number in (0, len(rows)):
            return rows[:number]
        left = {row.instance_id for row in await self._app.reader.rows(chosen, len(rows))}
        return [row for row in rows if row.instance_id not in left][:number]

    async def _retry_held(self, what: dict[str, Any], hits: tuple[RouteHit, ...] = ()) -> int:
        """Held images are routed again, or go where ``hits`` says."""
        routed = 0
        rows = await self._app.reader.rows(selection(what, ()), AT_ONCE, held=True)
        for at in range(0, len(rows), TOGETHER):  # so that many share a commit
            some = rows[at : at + TOGETHER]
            if hits:
                routed += sum(await asyncio.gather(*(self._route_to(r.instance_id, r.size, hits) for r in some)))
            else:
                routed += sum(await asyncio.gather(*(self._route_again(r.instance_id) for r in some)))
        return routed

    async def _route_again(self, instance_id: int) -> int:
        app = self._app
        instance = await app.reader.instance(instance_id)
        if instance is None:
            return 0
        length = min(instance.size, HEAD)
        loop = asyncio.get_running_loop()
        try:
            head = await loop.run_in_executor(None, app.spool.read, instance.path, instance.data_offset, length)
        except AsyncrouteError as fault:
            log.error("image %d stays held: %s", instance_id, fault)
            return 0
        hits = app.admission.router.route(instance, None, head, length == instance.size)
        return await self._route_to(instance_id, instance.size, hits) if hits else 0

    async def _route_to(self, instance_id: int, size: int, hits: tuple[RouteHit, ...]) -> int:
        app = self._app
        if not await app.committer.act(Reroute(instance_id, hits)):
            return 0
        app.scheduler.held -= 1
        for hit in hits:
            app.scheduler.tallies[hit.destination].backlog.add(size)
            app.groups.owe(hit.destination)
            app.scheduler.channels[hit.destination].look_again()
        return 1
