"""What the journal remembers of single images, for people (``journal.base.Stories``).

Guarantees: a search walks through the images a stretch at a time, so that no statement, and no view of the journal
that a writer's checkpoint has to wait for, lasts long. It should have a reader of its own, or whatever else that one
is asked waits. A person is told of at most ``MOST`` images of a name.
Failures: those of the reader.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from asyncroute.core.completion import Awaited
from asyncroute.core.model import Sent, Source
from asyncroute.core.states import DeliveryState
from asyncroute.core.told import Part, Remembered
from asyncroute.journal import completions, sent
from asyncroute.journal.base import Event, ImageStory, OneDelivery
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean, json_ids, uid_key, unsigned

STRETCH = 20_000
"""Ids in one step of a search."""

MOST = 100_000

_SQL = load("story.sql")
Row = tuple[Any, ...]
Ask = Callable[[str, Any], Awaitable[list[Row]]]


class SqliteStories:
    """See module and ``journal.base.Stories``. ``ask``: runs a statement, all its rows."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def copies(self, sop_instance_uid: str) -> list[int]:
        """See ``Stories.copies``."""
        found = await self._ask(_SQL["copies"], (uid_key(sop_instance_uid), clean(sop_instance_uid)))
        return [id_ for (id_,) in found]

    async def belonging(self, name: str) -> list[int]:
        """See ``Stories.belonging``."""
        found: list[int] = []
        after = 0
        while len(found) < MOST:
            ((first,),) = await self._ask(_SQL["next_id"], (after,))
            if first is None:
                break
            after = first + STRETCH - 1
            found += [id_ for (id_,) in await self._ask(_SQL["belonging"], (first, after, clean(name), clean(name)))]
        return found[:MOST]

    async def images(self, ids: Sequence[int]) -> list[ImageStory]:
        """See ``Stories.images``."""
        chosen = (json_ids(ids),)
        told = {row[0]: _image(row) for row in await self._ask(_SQL["images"], chosen)}
        awaited, changed = await self._awaited(chosen), await self._sent(chosen)
        for row in await self._ask(_SQL["deliveries"], chosen):
            if row[0] in told:
                told[row[0]].deliveries.append(_delivery(row, awaited.get(row[:2]), changed.get(row[:2])))
        for row in await self._ask(_SQL["events"], chosen):
            if row[3] in told:
                told[row[3]].events.append(Event(*row))
        return [told[id_] for id_ in ids if id_ in told]

    async def _awaited(self, chosen: tuple[str]) -> dict[tuple[int, str], Awaited]:
        """By instance and destination, what deliveries of these images wait or waited for."""
        if not await self._ask(completions.SQL["has_table"], ()):
            return {}
        rows = await self._ask(completions.SQL["of_images"], chosen)
        return {
            (instance, destination): Awaited(id_, unit, uid, state == completions.HELD, *times)
            for instance, destination, id_, unit, uid, state, *times in rows
        }

    async def _sent(self, chosen: tuple[str]) -> dict[tuple[int, str], Sent]:
        """By instance and destination, what deliveries of these images went out as."""
        if not await self._ask(sent.SQL["exists"], ()):
            return {}
        return sent.told(await self._ask(sent.SQL["of_images"], chosen))

    async def troubles(self, destinations: Collection[str], since: float, until: float, limit: int) -> list[Event]:
        """See ``Stories.troubles``."""
        names = json.dumps(sorted(map(str, map(clean, destinations))))
        rows = await self._ask(_SQL["troubles"], (since, until, names, limit))
        return [Event(*row) for row in reversed(rows)]

    async def tallies(self, ids: Sequence[int]) -> list[tuple[str, DeliveryState, int]]:
        """See ``Stories.tallies``."""
        rows = await self._ask(_SQL["tallies"], (json_ids(ids),))
        return [(name, DeliveryState(state), number) for name, state, number in rows]

    async def parts(self, ids: Sequence[int]) -> list[Part]:
        """See ``Stories.parts``."""
        return [Part(*row) for row in await self._ask(_SQL["parts"], (json_ids(ids),))]

    async def remarkable(self, ids: Sequence[int]) -> list[int]:
        """See ``Stories.remarkable``."""
        return [id_ for id_, _ in await self._ask(_SQL["remarkable"], (json_ids(ids),))]

    async def memory(self) -> Remembered:
        """See ``Stories.memory``."""
        ((images, received, last, since),) = await self._ask(_SQL["memory"], ())
        return Remembered(images, received, last > 0, since)

    async def sources(self, study_uid: str) -> list[tuple[str, int, float, float]]:
        """See ``Stories.sources``."""
        return [(aet, n, first, last) for aet, n, first, last in await self._ask(_SQL["sources"], (clean(study_uid),))]


def _image(row: Row) -> ImageStory:
    id_, calling, called, listener, peer, sop_class, sop_instance, syntax, received_at, size, checksum, *rest = row
    *attributes, hold_reason, in_spool = rest
    source, stored = Source(calling, called, listener, peer), (received_at, size, unsigned(checksum))
    facts = (sop_class, sop_instance, syntax, *stored, *attributes, hold_reason, bool(in_spool))
    return ImageStory(*(id_, source, *facts))


def _delivery(row: Row, awaited: Awaited | None, changed: Sent | None) -> OneDelivery:
    _, destination, route, state, attempts, not_before, status, error, queued_at, first_try_at, settled_at = row
    times = (queued_at, first_try_at, settled_at)
    facts = (destination, route, DeliveryState(state), attempts, not_before, status, error, *times)
    return OneDelivery(*facts, awaited, changed)
