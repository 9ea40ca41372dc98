"""The story of an image, or of a study's images, as plain data; the one place that knows ``why --json``.

Guarantees: nothing is changed; however many images a name has, only counts of them are told, and a few in detail. Times
are seconds since the epoch, durations seconds, sizes bytes.
Failures: ``OurFault``: the name is not known, with what was searched and how far back; the reader's ``StorageFault``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from asyncroute.core.completion import Awaited
from asyncroute.core.errors import OurFault
from asyncroute.core.model import Sent
from asyncroute.core.states import PENDING, DeliveryState
from asyncroute.core.told import Part
from asyncroute.journal.base import Event, ImageStory, OneDelivery, Reader, Stories
from asyncroute.status import render

LIMIT: Final = 10
MOST: Final = 1000
LONGEST_NAME: Final = 200
DAY: Final = 86400.0
MOST_TROUBLES: Final = 50
"""Events of destinations that are told with one answer."""

Facts = dict[str, Any]
_OVER = (DeliveryState.DELIVERED, DeliveryState.CONFIRMED)


async def tell(reader: Reader, what: Facts, history: float) -> Facts:
    """All that is known of ``what["name"]``: a SOP Instance UID, a Study Instance UID or an accession number.

    ``what["limit"]``: so many images in detail. ``history``: seconds that the router keeps what is over.
    """
    name, limit = _asked(what)
    stories = reader.stories
    ids = await stories.copies(name)
    if ids:
        found = await _copies(stories, name, ids, limit)
    else:
        ids = await stories.belonging(name)
        if not ids:
            raise OurFault(await _unknown(stories, name, history))
        found = await _study(stories, name, ids, limit)
    waiting = await reader.proofs.of([it["id"] for it in found["detail"]])
    for instance_id, delivery in deliveries(found):
        delivery["proof"] = waiting.get((instance_id, delivery["destination"]))
    found["troubles"] = [_event(e) for e in await _troubles(stories, found["detail"])]
    return found


def _asked(what: Facts) -> tuple[str, int]:
    name, limit = what.get("name"), what.get("limit", LIMIT)
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise OurFault(f"name: must be a UID or an accession number, of at most {LONGEST_NAME} characters")
    if not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise OurFault(f"limit: must be a number from 1 to {MOST}")
    return name.strip(), limit


# --- what was found ---------------------------------------------------------------------------------------------------


async def _copies(stories: Stories, name: str, ids: Sequence[int], limit: int) -> Facts:
    """Each time that one image was received; of very many, the last."""
    told = await stories.images(ids[-limit:])
    detail = [_image(it) for it in told]
    for facts, it in zip(detail, told, strict=True):
        facts["differs_from"] = [o.id for o in told if (o.checksum, o.size) != (it.checksum, it.size)]
    return {"kind": "image", "name": name, "images": len(ids), "remarkable": len(ids), "detail": detail}


async def _study(stories: Stories, name: str, ids: Sequence[int], limit: int) -> Facts:
    """Counts, and what is not plainly delivered in detail."""
    parts = await stories.parts(ids)
    counts: dict[str, dict[str, int]] = {}
    for destination, state, number in await stories.tallies(ids):
        counts.setdefault(destination, {})[state.word] = number
    odd = await stories.remarkable(ids)
    return {
        "kind": "study" if any(part.study_uid == name for part in parts) else "accession",
        "name": name,
        "images": len(ids),
        "bytes": sum(part.bytes for part in parts),
        "held": sum(part.held for part in parts),
        "parts": [_part(part) for part in parts],
        "counts": counts,
        "oldest": _brief(await stories.images(ids[:1])),
        "newest": _brief(await stories.images(ids[-1:])),
        "remarkable": len(odd),
        "detail": [_image(it) for it in await stories.images(odd[:limit])],
    }


def _part(part: Part) -> Facts:
    return asdict(part)


def _brief(found: Sequence[ImageStory]) -> Facts | None:
    for it in found:
        return {"id": it.id, "sop_instance_uid": it.sop_instance_uid, "received_at": it.received_at}
    return None  # pruned since it was found


async def _troubles(stories: Stories, detail: Iterable[Facts]) -> list[Event]:
    """What befell the destinations while these images waited for them."""
    waits = [(d, d["settled_at"] or time.time()) for _, d in deliveries({"detail": detail})]
    if not waits:
        return []
    names = {d["destination"] for d, _ in waits}
    since = min(d["queued_at"] for d, _ in waits)
    return await stories.troubles(names, since, max(until for _, until in waits), MOST_TROUBLES)


def deliveries(found: Facts) -> Iterator[tuple[int, Facts]]:
    """Instance id and delivery of all that is told in detail."""
    return ((it["id"], delivery) for it in found["detail"] for delivery in it["deliveries"])


def destinations(found: Facts) -> set[str]:
    """Those to which something told in detail is still owed."""
    pending = {state.word for state in PENDING}
    return {d["destination"] for _, d in deliveries(found) if d["state"] in pending}


# --- one image --------------------------------------------------------------------------------------------------------


def _image(it: ImageStory) -> Facts:
    source = it.source
    return {
        "id": it.id,
        "state": _state(it),
        "sop_instance_uid": it.sop_instance_uid,
        "sop_class_uid": it.sop_class_uid,
        "transfer_syntax": it.transfer_syntax,
        "study_uid": it.study_uid,
        "series_uid": it.series_uid,
        "patient_id": it.patient_id,
        "accession": it.accession,
        "modality": it.modality,
        "size": it.size,
        "checksum": f"{it.checksum:016x}",
        "calling_aet": source.calling_aet,
        "called_aet": source.called_aet,
        "listener": source.listener,
        "peer": source.peer,
        "received_at": it.received_at,
        "in_spool": it.in_spool,
        "hold_reason": it.hold_reason,
        "deliveries": [_delivery(it, delivery) for delivery in it.deliveries],
        "events": [_event(event) for event in it.events if event.destination is None],
    }


def _state(it: ImageStory) -> str:
    """One word for the image."""
    states = {delivery.state for delivery in it.deliveries}
    if it.hold_reason is not None:
        return "held"
    if DeliveryState.FAILED in states:
        return "failed"
    if states & PENDING:
        return "waiting"
    return "delivered" if states.intersection(_OVER) else "discarded"


def _delivery(it: ImageStory, delivery: OneDelivery) -> Facts:
    events = [event for event in it.events if event.destination == delivery.destination]
    tries = [event.at for event in events if event.kind in ("attempt", "retry", "failed", "warning")]
    firsts = [at for at in (delivery.first_try_at, *tries[:1]) if at is not None]
    first, settled = min(firsts, default=None), delivery.settled_at
    return {
        "destination": delivery.destination,
        "route": delivery.route,
        "state": delivery.state.word,
        "attempts": delivery.attempts,
        "next_try_at": delivery.not_before or None if delivery.state in PENDING else None,
        "last_status": f"0x{delivery.last_status:04X}" if delivery.last_status is not None else None,
        "last_error": delivery.last_error,
        "awaits": _awaits(delivery.awaited),
        "transform": _transform(delivery.sent),
        "queued_at": delivery.queued_at,
        "first_try_at": first,
        "settled_at": settled,
        "stages": {
            "stored_s": round(delivery.queued_at - it.received_at, 3),
            "first_try_s": round(first - delivery.queued_at, 3) if first is not None else None,
            "settled_s": round(settled - (first or delivery.queued_at), 3) if settled is not None else None,
        },
        "events": [_event(event) for event in events],
    }


def _transform(sent: Sent | None) -> Facts | None:
    """What a transform made of the image when it was last sent; None: it went as it came, or not yet."""
    if sent is None:
        return None
    keys = ("attribute", "before", "after", "step")
    changes = [dict(zip(keys, change, strict=True)) for change in json.loads(sent.changes)]
    return {"name": sent.transform, "sop_instance_uid": sent.sop_instance_uid, "changes": changes}


def _awaits(awaited: Awaited | None) -> Facts | None:
    """What a delivery waits or waited for; ``due_at``: when it is due as things are, if that is known."""
    return None if awaited is None else {**asdict(awaited), "due_at": None}


def _event(event: Event) -> Facts:
    return {"at": event.at, "kind": event.kind, "text": event.text, "destination": event.destination}


# --- what is not known ------------------------------------------------------------------------------------------------


async def _unknown(stories: Stories, name: str, history: float) -> str:
    """One line: what was searched, and whether it may have been there before."""
    memory = await stories.memory()
    forgotten = max(memory.received - memory.images, 0)
    for aet, images, first, last in await stories.sources(name):
        return (
            f"{name}: {images} images of this study came from {aet} ({moment(first)} to {moment(last)}); "
            f"all were delivered or discarded and are forgotten, as history is kept for {history / DAY:g} days"
        )
    searched = f"no SOP instance, study or accession number of this name among {memory.images} images"
    if memory.since is None:
        return f"{name}: {searched}" + (_gone(forgotten, history) if memory.pruned else ": none was ever received")
    since = f"{searched} received since {moment(memory.since)}"
    return f"{name}: {since}{_gone(forgotten, history)}" if memory.pruned else f"{name}: {since}; none is forgotten yet"


def _gone(forgotten: int, history: float) -> str:
    return f"; {forgotten} earlier ones are over and forgotten, as history is kept for {history / DAY:g} days"


def moment(at: float) -> str:
    """A time in words, in the local zone: ``2026-03-01 12:00:00``."""
    return render.moment(at, "%Y-%m-%d %H:%M:%S")
