"""What the journal keeps of a transformed image: its new UIDs, and what was changed.

Guarantees: at most ``MOST`` changes of ``LONGEST`` characters a value, so that a journal does not grow by what
strangers send. Failures: none.
"""

from __future__ import annotations

import json
from functools import lru_cache

from asyncroute.core.model import Delivery, Sent
from asyncroute.transform.base import Change, Edited

MOST = 100
"""Changes of one image that are kept; how many more there are is said."""

LONGEST = 200
"""Characters of one value."""

FEW = 20
"""Changes that are told in the same words for all images of which the same was changed."""

_UNITS = frozenset({"StudyInstanceUID", "SeriesInstanceUID"})
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def sent_as(delivery: Delivery, transform: str, edited: Edited) -> Sent:
    """What is kept of ``edited``, which the transform of that name has made for ``delivery``."""
    changes = edited.changes
    text, study, series = _told_of_few(changes) if len(changes) <= FEW else _told(changes)
    study = delivery.study_uid if study is None else study
    series = delivery.series_uid if series is None else series
    return Sent(transform, edited.sop_class_uid, edited.sop_instance_uid, study, series, text)


def _told(changes: tuple[Change, ...]) -> tuple[str, str | None, str | None]:
    """All that is kept of them, as JSON; the new UIDs of study and series, where there are any."""
    rows = [(change.attribute, _short(change.before), _short(change.after), change.step) for change in changes[:MOST]]
    if len(changes) > MOST:
        rows.append((f"and {len(changes) - MOST} more", None, None, ""))
    units = {change.attribute: change.after or "" for change in changes if change.attribute in _UNITS}
    return _encode(rows), units.get("StudyInstanceUID"), units.get("SeriesInstanceUID")


_told_of_few = lru_cache(256)(_told)


def _short(value: str | None) -> str | None:
    return value if value is None or len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"
