"""The facts of ``status.story`` for people, as lines of text.

Guarantees: whatever peers wrote cannot forge a line or reach the terminal as control sequences (``render.clean``); the
number of lines is bounded by the number of images in detail. Failures: none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from asyncroute.status.render import clean, fitting, size, span
from asyncroute.status.story import moment

MOST_LINES: Final = 20
"""Events of one delivery that are shown; ``--json`` has all."""

_WORDS: Final = {
    "retry": "not delivered, to be tried again",
    "attempt": "not delivered, no attempt charged",
    "failed": "dead letter",
    "confirmed": "confirmed by the destination",
    "unconfirmed": "not confirmed, to be sent again",
    "warning": "delivered with a warning",
    "conflict": "conflict",
    "file-lost": "file lost",
    "moved": "moved here",
    "down": "the destination is down",
    "up": "the destination",
    "pause": "the destination pauses",
    "held": "the destination is held",
    "released": "released",
    "replayed": "sent again",
    "failover": "its studies move",
}
_ENDS: Final = {"delivered": "delivered", "confirmed": "delivered", "failed": "dead letter", "discarded": "discarded"}
_OPEN: Final = ("ready", "waiting", "sending")
Facts = Mapping[str, Any]


def text(found: Facts) -> str:
    """The whole story."""
    lines = list(_head(found))
    for image in found["detail"]:
        lines += [*([""] if lines else []), *_image(image, found)]
    more = found["remarkable"] - len(found["detail"])
    if more > 0:
        which = "earlier times" if found["kind"] == "image" else "of the images that are not plainly delivered"
        lines += ["", f"{more} more {which} (--limit, --json)"]
    return "\n".join(map(clean, lines))


# --- a study ----------------------------------------------------------------------------------------------------------


def _head(found: Facts) -> Iterator[str]:
    if found["kind"] == "image":
        if found["images"] > 1:
            yield f"{found['name']}: received {found['images']} times"
        return
    word = "study" if found["kind"] == "study" else "accession number"
    yield f"{word} {found['name']}: {found['images']} images, {size(found['bytes'])}"
    for part in found["parts"]:
        facts = _named(("study", part["study_uid"]), ("accession", part["accession"]), ("patient", part["patient_id"]))
        yield f"  {part['images']} from {part['calling_aet']}: {facts}"
    for label in ("oldest", "newest"):
        if found[label] is not None:
            yield f"  {label}: {moment(found[label]['received_at'])} {found[label]['sop_instance_uid']}"
    for destination, states in found["counts"].items():
        yield f"  {destination}: " + ", ".join(f"{number} {state}" for state, number in states.items())
    if found["held"]:
        yield f"  held: {found['held']}"
    if not found["remarkable"]:
        yield "  all were delivered at the first attempt"


def _named(*facts: tuple[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts if value)


# --- one image --------------------------------------------------------------------------------------------------------


def _image(it: Facts, found: Facts) -> Iterator[str]:
    facts = _named(("study", it["study_uid"]), ("accession", it["accession"]), ("patient", it["patient_id"]))
    about = ", ".join(filter(None, (it["modality"], size(it["size"]), facts)))
    yield f"{it['sop_instance_uid']}: {it['state']} ({about})"
    yield (
        f"  received {moment(it['received_at'])} from {it['calling_aet']} at {it['peer']}, "
        f"called {it['called_aet']}, by {it['listener']} (number {it['id']} of the queue)"
    )
    if it.get("differs_from"):
        numbers = ", ".join(map(str, it["differs_from"]))
        yield f"  conflict: number {numbers} has the same SOP Instance UID and other bytes"
    if it["hold_reason"] is not None:
        yield f"  held: {it['hold_reason']}"
    for event in it["events"]:
        yield _happened(event, it["received_at"])
    if not it["deliveries"] and it["hold_reason"] is None:
        yield "  owed to no destination"
    for delivery in it["deliveries"]:
        yield from _delivery(delivery, it["received_at"], found)


def _delivery(delivery: Facts, start: float, found: Facts) -> Iterator[str]:
    yield f"  to {delivery['destination']} by route {delivery['route']}: {delivery['state']}"
    yield "  " + _at(delivery["queued_at"], start, "stored and queued")
    yield from _completed(delivery["awaits"], start)
    story = _between(delivery, found["troubles"])
    if len(story) > MOST_LINES:
        yield f"    {len(story) - MOST_LINES} earlier events are left out (--json)"
    for event in story[-MOST_LINES:]:
        if event["kind"] != "confirmed":
            yield "  " + _happened(event, start)
    yield from _end(delivery, start)
    if delivery["transform"] is not None:
        yield from _changes(delivery["transform"])
    for event in story:
        if event["kind"] == "confirmed":
            yield "  " + _happened(event, start)
    if delivery["proof"] is not None:
        asked = f"asked for in transaction {delivery['proof']}" if delivery["proof"] else "not asked for yet"
        yield f"    now: waits for the destination to confirm it ({asked})"
    if delivery["state"] in _OPEN:
        yield from _next(delivery, found["destinations"].get(delivery["destination"]))


def _changes(transform: Facts) -> Iterator[str]:
    """What was sent instead of what came, attribute by attribute."""
    changes, name = transform["changes"], transform["name"]
    if changes and changes[0]["attribute"] == "TransferSyntaxUID":
        syntax, *changes = changes
        yield f"    sent as {syntax['after']}, was {syntax['before']} ({syntax['step']})"
    if name:
        yield f"    sent as transform {name} makes it" + (":" if changes else ", which changes nothing here")
    for change in changes:
        by = f"  ({change['step']})" if change["step"] else ""
        yield fitting(f"      {change['attribute']}: {_value(change['before'])} -> {_value(change['after'])}{by}")


def _value(value: str | None) -> str:
    return "nothing" if value is None else f'"{value}"'


def _completed(awaits: Facts | None, start: float) -> Iterator[str]:
    if awaits is not None and awaits["complete_at"] is not None:
        first, last = moment(awaits["first_at"]), moment(awaits["last_at"])
        yield "  " + _at(awaits["complete_at"], start, f"{awaits['unit']} complete: images from {first} to {last}")


def _awaits(awaits: Facts) -> str:
    """Why it is not sent yet."""
    if awaits["held"]:
        return f"came after its {awaits['unit']} was complete; held for a person (asyncroute queue release, discard)"
    until = f", until {moment(awaits['due_at'])} if no more come" if awaits["due_at"] is not None else ""
    return f"waits for its {awaits['unit']} to be complete (last image {moment(awaits['last_at'])}){until}"


def _between(delivery: Facts, troubles: Sequence[Facts]) -> list[Facts]:
    """What happened to it, and to its destination while it waited; its end comes afterwards."""
    name, last = delivery["destination"], delivery["settled_at"] or float("inf")
    around = [e for e in troubles if e["destination"] == name and delivery["queued_at"] <= e["at"] <= last]
    own = [e for e in delivery["events"] if e["kind"] not in ("failed", "warning") or e["at"] != last]
    return sorted([*around, *own], key=lambda event: float(event["at"]))


def _end(delivery: Facts, start: float) -> Iterator[str]:
    if delivery["settled_at"] is None or delivery["state"] not in _ENDS:
        return
    tries = f" at attempt {delivery['attempts']}" if delivery["attempts"] else ""
    why = f": {delivery['last_error']}" if delivery["last_error"] else ""
    if delivery["state"] == "discarded":
        tries, why = "", f" (last: {delivery['last_error']})" if delivery["last_error"] else ""
    yield "  " + _at(delivery["settled_at"], start, f"{_ENDS[delivery['state']]}{tries}{why}")


def _next(delivery: Facts, destination: Facts | None) -> Iterator[str]:
    if delivery["state"] == "sending":
        yield "    now: is being sent"
        return
    if delivery["state"] == "waiting" and delivery["awaits"] is not None:
        yield f"    now: {_awaits(delivery['awaits'])}"
        return
    now = time.time()
    wait = (delivery["next_try_at"] or 0) - now
    state = destination["state"] if destination is not None else ""
    if state not in ("", "up"):
        again = destination["again_s"] if destination is not None else None
        words = f", next try in {span(again)}" if again else ""
        error = f": {destination['last_error']}" if destination is not None and destination["last_error"] else ""
        yield f"    now: {delivery['destination']} is {state}{words}{error}"
    if wait > 0:
        yield f"    now: next try in {span(wait)}"
    elif state == "up":
        yield "    now: waits for its turn"


def _happened(event: Facts, start: float) -> str:
    word = _WORDS.get(event["kind"]) or str(event["kind"])
    return _at(event["at"], start, f"{word}: {event['text']}" if event["text"] else word)


def _at(at: float, start: float, words: str) -> str:
    since = at - start
    return f"  {moment(at)}  +{span(since)}  {fitting(words)}" if since >= 0 else f"  {moment(at)}  {fitting(words)}"
