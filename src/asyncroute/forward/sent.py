"""What the journal keeps of a transformed image: its new UIDs, and what was changed.

Guarantees: at most ``MOST`` changes of ``LONGEST`` characters a value, so that a journal does not grow by what
strangers send. Failures: none.
"""

from __future__ import annotations

import json

from asyncroute.core.model import Delivery, Sent
from asyncroute.transform.base import Change, Edited

MOST = 100
"""Changes of one image that are kept; how many more there are is said."""

LONGEST = 200
"""Characters of one value."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def sent_as(delivery: Delivery, transform: str, edited: Edited) -> Sent:
    """What is kept of ``edited``, which the transform of that name has made for ``delivery``."""
    study, series = delivery.study_uid, delivery.series_uid
    rows: list[tuple[str, str | None, str | None, str]] = []
    for change in edited.changes[:MOST]:
        if change.attribute == "StudyInstanceUID":
            study = change.after or ""
        elif change.attribute == "SeriesInstanceUID":
            series = change.after or ""
        rows.append((change.attribute, _short(change.before), _short(change.after), change.step))
    if len(edited.changes) > MOST:
        rows.append((f"and {len(edited.changes) - MOST} more", None, None, ""))
        study, series = _units(edited.changes, study, series)
    return Sent(transform, edited.sop_class_uid, edited.sop_instance_uid, study, series, _encode(rows))


def _units(changes: tuple[Change, ...], study: str, series: str) -> tuple[str, str]:
    after = {change.attribute: change.after or "" for change in changes}
    return after.get("StudyInstanceUID", study), after.get("SeriesInstanceUID", series)


def _short(value: str | None) -> str | None:
    return value if value is None or len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"
