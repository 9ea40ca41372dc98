"""What two configurations' transforms make of the same images, for ``plan``: where, which attributes, how many.

Guarantees: memory is bounded by what is told apart. Where both make the same bytes, nothing is told.
Failures: none; of an image whose header was not kept whole it is said that it cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncroute.route import KEPT_HEADER

if TYPE_CHECKING:
    from asyncroute.cli.preview import Outcome, Previewer, Subject
    from asyncroute.core.model import RouteHit

MOST = 1000
"""Differences that are told apart; further ones are counted together."""

HELD = "(held)"
_DISCARDED = "discarded: "
OTHERS = "(others)"


class Kind(NamedTuple):
    """Images sent to ``destination`` would have another ``attribute``; the steps that make it, today and then.

    A step of None: the attribute is not changed there. ``attribute`` `HELD`: one of both holds (or discards) the image.
    """

    destination: str
    attribute: str
    today: str | None
    then: str | None


class Value(NamedTuple):
    """Of one attribute: the step that made it what it is (None: none did), what came, and what goes out."""

    step: str | None
    received: str | None
    sent: str | None


_NOTHING = Value(None, None, None)


@dataclass(slots=True)
class Example:
    """How many images, and one of them."""

    sop_instance_uid: str
    study_uid: str
    today: Value
    then: Value
    images: int = 0


class Differences:
    """See module."""

    def __init__(self, old: Previewer, new: Previewer) -> None:
        self._old, self._new = old, new
        self.images = self.unknown = 0
        self.kinds: dict[Kind, Example] = {}

    def compare(self, subject: Subject, before: Iterable[RouteHit], after: Iterable[RouteHit]) -> None:
        """One image, on its ways under both configurations; ways that only one of them has are not compared."""
        then = {hit.destination: hit for hit in after}
        pairs = [(hit, then[hit.destination]) for hit in before if hit.destination in then]
        pairs = [(one, other) for one, other in pairs if self._may_differ(one, other)]
        if pairs and len(subject.head) >= KEPT_HEADER:
            self.unknown += 1
            return
        found = [self._differs(subject, one, other) for one, other in pairs]
        self.images += any(found)

    def _may_differ(self, one: RouteHit, other: RouteHit) -> bool:
        today, then = self._old.transform(one.route), self._new.transform(other.route)
        coercions = [() if each is None else each.coercions for each in (today, then)]
        return coercions[0] != coercions[1] or (one.route != other.route and today is not None)

    def _differs(self, subject: Subject, one: RouteHit, other: RouteHit) -> bool:
        today, then = self._old.edited(subject, one), self._new.edited(subject, other)
        if today.refused or then.refused:
            if (today.refused, today.dropped) == (then.refused, then.dropped):
                return False
            self._count(subject, one.destination, HELD, _held(today), _held(then))
            return True
        if today.subject.head == then.subject.head:
            return False
        olds, news = _values(today), _values(then)
        told = False
        for name in dict.fromkeys((*olds, *news)):
            received = (olds.get(name) or news[name]).received
            as_it_came = Value(None, received, received)
            old, new = olds.get(name, as_it_came), news.get(name, as_it_came)
            if old.sent != new.sent:
                self._count(subject, one.destination, name, old, new)
                told = True
        if not told:  # values so long that they are not shown whole, or how they are encoded
            self._count(subject, one.destination, OTHERS, _NOTHING, _NOTHING)
        return True

    def _count(self, subject: Subject, destination: str, attribute: str, today: Value, then: Value) -> None:
        kind = Kind(destination, attribute, today.step, then.step)
        if kind not in self.kinds and len(self.kinds) >= MOST:
            kind = Kind(OTHERS, OTHERS, None, None)
        image = subject.instance
        found = self.kinds.setdefault(kind, Example(image.sop_instance_uid, image.study_uid, today, then))
        found.images += 1

    def facts(self) -> list[dict[str, Any]]:
        """All of it, the most frequent first."""
        return [
            kind._asdict()
            | {
                "images": example.images,
                "example": {
                    "sop_instance_uid": example.sop_instance_uid,
                    "study_uid": example.study_uid,
                    "received": example.today.received,
                    "today": example.today.sent,
                    "then": example.then.sent,
                },
            }
            for kind, example in sorted(self.kinds.items(), key=lambda item: -item[1].images)
        ]


def _held(outcome: Outcome) -> Value:
    """The transform, or step, that holds it."""
    step = outcome.refused.partition(": ")[0] or None
    return Value(step, None, f"{_DISCARDED}{outcome.refused}" if outcome.dropped else outcome.refused or None)


def _values(outcome: Outcome) -> dict[str, Value]:
    """What becomes of each attribute that is changed, possibly by several steps."""
    found: dict[str, Value] = {}
    for change in outcome.changes:
        first = found.get(change.attribute)
        found[change.attribute] = Value(change.step, first.received if first else change.before, change.after)
    return found


def words(found: Mapping[str, Any]) -> str:
    """One difference of ``facts`` in a line."""
    example = found["example"]
    if found["attribute"] == HELD:
        today, then = (_fate(example[key]) for key in ("today", "then"))
        return f"{found['destination']}: {found['images']} images {today} -> {then}"
    values = [f"{_shown(example[key])} ({found[key] or 'as received'})" for key in ("today", "then")]
    return f"{found['destination']}: {found['attribute']} of {found['images']} images, such as {' -> '.join(values)}"


def _fate(why: str | None) -> str:
    if why is None:
        return "sent"
    return f"discarded ({why.removeprefix(_DISCARDED)})" if why.startswith(_DISCARDED) else f"held ({why})"


def _shown(value: str | None) -> str:
    return "absent" if value is None else f'"{value}"'
