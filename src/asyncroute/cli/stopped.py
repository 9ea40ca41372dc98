"""What can be asked of a router that does not run: its journal is read, or changed under its lock.

The only command module that knows the journal's concrete parts. Guarantees: reading changes nothing and needs no write
access; a change is refused while any process holds the journal. Files of images that are done with stay in the spool
until the next start, whose recovery removes them.
Failures: ``StorageFault`` (no journal, damage, in use), ``OurFault`` for what only a running router can do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from asyncroute.batch import telling
from asyncroute.cli.router import locked
from asyncroute.core.errors import OurFault, StorageFault
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Action, Discard, Group, Hold, Reader, Redirect, Release, Retry, SendNow
from asyncroute.status import asked, local, story

if TYPE_CHECKING:
    from asyncroute.config.outline import Outline
    from asyncroute.core.model import Instance
    from asyncroute.journal.reader import SqliteReader

Answer = TypeVar("Answer")
What = dict[str, Any]


def status(outline: Outline) -> dict[str, Any]:
    """See ``status.snapshot.stopped``; whether somebody holds the journal all the same is told as trouble."""
    folder = outline.data_dir

    async def look(reader: SqliteReader) -> dict[str, Any]:
        found = await local.read(reader, outline.name, dict(outline.destinations), folder)
        return found | {"watches": await telling.watches(reader.batches, outline.watches)}

    found = _reading(folder, look)
    found["trouble"] += telling.trouble(found["watches"])
    found["archive"], troubles = _archive(outline)
    found["trouble"] += troubles
    if locked(folder):
        found["trouble"] += [f"a router holds {folder}, but does not answer: it is starting or stopping"]
    return found


def _archive(outline: Outline) -> tuple[dict[str, Any] | None, list[str]]:
    """Its tiers, and what is wrong with them; None: there is none, or no router has run with it yet."""
    if not outline.tiers:
        return None, []
    from asyncroute.archive.described import problems
    from asyncroute.rebuild import archive

    if not archive.exists(outline):
        return None, []
    try:
        found = archive.status(outline)
    except StorageFault as fault:
        return None, [f"archive: {fault}"]
    return found, list(problems(found["tiers"]))


def queue_list(outline: Outline, what: What) -> list[dict[str, Any]]:
    """See ``status.control.Administration.queue_list``."""
    return _reading(outline.data_dir, lambda reader: _rows(reader, what))


async def _rows(reader: Reader, what: What) -> list[dict[str, Any]]:
    state, limit = what.get("state"), int(what.get("limit", 1000))
    rows = []
    if state != "held":
        rows += await reader.rows(asked.selection(what, asked.states_of(what, ())), limit)
    if state in (None, "held") and not what.get("to"):
        rows += await reader.rows(asked.selection(what, ()), limit, held=True)
    return [asdict(row) for row in rows[:limit]]


def batches(outline: Outline, verb: str, what: What) -> Any:
    """``verb``: list, show or days, of ``batch.telling``."""
    calls = {"list": telling.listed, "show": telling.shown, "days": telling.days}
    return _reading(outline.data_dir, lambda reader: calls[verb](reader.batches, what))


def why(outline: Outline, what: What) -> dict[str, Any]:
    """See ``status.control.Administration.why``."""
    found = _reading(outline.data_dir, lambda reader: story.tell(reader, what, outline.history))
    found["destinations"] = {
        name: {"state": "stopped" if name in outline.destinations else "removed", "last_error": "", "again_s": None}
        for name in sorted(story.destinations(found))
    }
    return found


def replay(data_dir: Path, since: float, limit: int, tell: Callable[[list[Instance]], None]) -> None:
    """Tell of images with their headers, the newest first, in stretches; also beside a running router."""

    async def walk(reader: SqliteReader) -> None:
        async for images in reader.replay.images(since, limit):
            tell(images)

    _reading(data_dir, walk)


def queue_act(outline: Outline, verb: str, what: What) -> dict[str, int]:
    """See ``status.control.Administration``; Held images cannot be retried here."""
    acts = {"retry": _retry, "discard": _discard, "reroute": _reroute, "hold": _hold, "release": _release}
    return acts[verb](outline, what)


def _hold(outline: Outline, what: What) -> dict[str, int]:
    name = asked.name_of(what)
    if name not in outline.destinations:
        raise asked.unknown(name, list(outline.destinations))
    return {"destinations": _commit(outline, [Hold(name)])[0]}


def _release(outline: Outline, what: What) -> dict[str, int]:
    if what.get("waiting"):
        return {"deliveries": _commit(outline, [SendNow(asked.selection(what, ()))])[0]}
    name = asked.name_of(what)
    (changed,) = _commit(outline, [Release(name)])
    if not changed and name not in outline.destinations:
        raise asked.unknown(name, list(outline.destinations))
    return {"destinations": changed}


def _retry(outline: Outline, what: What) -> dict[str, int]:
    state = what.get("state")
    if state == "held":
        raise OurFault("held images are routed again by a running router only; start it first (asyncroute serve)")
    if state not in (None, "failed"):
        raise OurFault(f"only failed deliveries and held images can be retried, not {state} ones")
    actions: list[Action] = [Retry(asked.selection(what, (DeliveryState.FAILED,)))]
    if state is None:
        actions.append(SendNow(asked.selection(what, ()), late=True))
    return {"deliveries": sum(_commit(outline, actions)), "images": 0}


def _discard(outline: Outline, what: What) -> dict[str, int]:
    state = what.get("state")
    actions: list[Action] = []
    if state != "held":
        states = asked.states_of(what, (DeliveryState.FAILED,))
        actions.append(Discard(asked.selection(what, states)))
    if state == "held" or (state is None and not what.get("to")):
        actions.append(Discard(asked.selection(what, ()), held=True))
    done = {"deliveries": 0, "images": 0}
    for action, touched in zip(actions, _commit(outline, actions), strict=True):
        done["images" if isinstance(action, Discard) and action.held else "deliveries"] += touched
    return done


def _reroute(outline: Outline, what: What) -> dict[str, int]:
    state, target = what.get("state"), asked.name_of(what, "target")
    if target not in outline.destinations:
        raise asked.unknown(target, list(outline.destinations))
    if state == "held":
        raise OurFault("held images are sent elsewhere by a running router only; start it first (asyncroute serve)")
    states = asked.states_of(what, (DeliveryState.FAILED,))
    (deliveries,) = _commit(outline, [Redirect(asked.selection(what, states), target)])
    return {"deliveries": deliveries, "images": 0}


def _commit(outline: Outline, actions: list[Action]) -> list[int]:
    """The number of deliveries or images that each action touched."""
    from asyncroute.journal.sqlite import FILE, SqliteJournal

    if not (outline.data_dir / FILE).exists():
        raise OurFault(f"{outline.data_dir}: there is no journal here")
    journal = SqliteJournal.open(outline.data_dir, outline.durability)
    try:
        return journal.commit(Group(actions=actions)).acted
    finally:
        journal.close()


def _reading(data_dir: Path, ask: Callable[[SqliteReader], Awaitable[Answer]]) -> Answer:
    async def read() -> Answer:
        from asyncroute.journal.reader import read_stopped

        reader = await read_stopped(data_dir)
        try:
            return await ask(reader)
        finally:
            await reader.close()

    return asyncio.run(read())
