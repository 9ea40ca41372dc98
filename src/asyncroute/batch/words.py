"""A person's words about watches and batches to a running router: what the control socket's requests do.

Failures: ``OurFault``, ``StorageFault``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asyncroute.batch import telling
from asyncroute.batch.base import Batches
from asyncroute.batch.batches import BatchRoom
from asyncroute.core.errors import OurFault

What = dict[str, Any]
AT_ONCE = 10_000


class Words:
    """See module. ``again``: sends images with dead letters again, and routes held ones anew, by their ids."""

    def __init__(self, room: BatchRoom, journal: Batches, again: Callable[[What], Awaitable[What]]) -> None:
        self._room = room
        self._journal = journal
        self._again = again

    def calls(self) -> Mapping[str, Callable[[What], Awaitable[Any]]]:
        """By the path of the request."""
        return {
            "/watch/start": lambda what: self._set(what, False),
            "/watch/stop": lambda what: self._set(what, True),
            "/watch/status": self.watches,
            "/batch/start": self.start,
            "/batch/list": lambda what: telling.listed(self._journal, what),
            "/batch/show": self.show,
            "/batch/retry": self.retry,
            "/batch/cancel": self.cancel,
            "/batch/days": lambda what: telling.days(self._journal, what),
        }

    async def _set(self, what: What, stopped: bool) -> What:
        return {"changed": await self._room.set_watch(_names(what), stopped)}

    async def watches(self, what: What) -> list[What]:
        """All, or those that are named."""
        names = _names(what)
        for name in names:
            self._room.watch(name)
        return [facts for facts in self._room.facts() if not names or facts["name"] in names]

    async def start(self, what: What) -> What:
        """Queue batches of a watch with mode "batch"."""
        watch = self._room.watch(str(what.get("name")))
        if watch.terms.stream:
            raise OurFault(f'{watch.terms.name} has mode "stream": its batches begin by themselves')
        number = what.get("number")
        if number is not None and not (isinstance(number, int) and number > 0):
            raise OurFault("number: must be a positive number")
        subfolder = what.get("subfolder") or ""
        if not isinstance(subfolder, str) or subfolder.startswith("/") or ".." in subfolder.split("/"):
            raise OurFault("subfolder: must be a folder below the watch's paths")
        queued = await watch.start_batches(number, subfolder.strip("/"))
        return {"queued": queued, "stopped": watch.stopped}

    async def show(self, what: What) -> What:
        """One batch, with how far it is."""
        found = await telling.shown(self._journal, what)
        return found | {"progress": self._room.progress(found["id"])}

    async def retry(self, what: What) -> What:
        """One that ended in error: what failed goes again, what was not taken is read."""
        batch = await telling.named(self._journal, what)
        await self._room.retry(batch)
        held, failed = await self._journal.unwell(batch.id, 0, AT_ONCE)
        while held or failed:
            for ids, state in ((failed, "failed"), (held, "held")):
                if ids:
                    await self._again({"ids": list(ids), "state": state})
            held, failed = await self._journal.unwell(batch.id, max((*held, *failed)), AT_ONCE)
        return {"batch": batch.label}

    async def cancel(self, what: What) -> What:
        """A batch is read no further; one in error is dismissed."""
        batch = await telling.named(self._journal, what)
        return {"batch": batch.label, "became": await self._room.cancel(batch)}


def _names(what: What) -> list[str]:
    names = what.get("names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise OurFault("names: must be a list of names")
    return names
