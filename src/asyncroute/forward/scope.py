"""Which images may share an association: ``[destination.association] scope``, as bonds of deliveries.

``any``: all of one calling AE title; ``source``: those of one sender; ``patient``, ``study``, ``series``: those of one.
What an image does not tell is taken from the next larger: without a Series Instance UID it goes with its study, without
a Patient ID, too; without any it goes with those of its title that have none, either. ``image`` needs no bond: the
association ends with the image. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from asyncroute.core.model import Delivery
from asyncroute.forward.base import Bond

_SHARED: Mapping[str, Callable[[Delivery], str]] = {
    "source": lambda delivery: delivery.calling_aet,
    "patient": lambda delivery: delivery.patient_id or delivery.study_uid,
    "study": lambda delivery: delivery.study_uid,
    "series": lambda delivery: delivery.series_uid or delivery.study_uid,
}


def bonds(scope: str, title: Callable[[Delivery], str]) -> Callable[[Delivery], Bond]:
    """What tells a delivery's bond. ``title``: its calling AE title; may raise ``core.titles.WrongTitle``."""
    shared = _SHARED.get(scope)
    if shared is None:
        return title
    return lambda delivery: f"{title(delivery)}\\{shared(delivery)}"
