"""What a person's request means: which deliveries, in which states, which destination; to a running router or not.

Failures: ``OurFault`` for what is not of its kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import time
from typing import Any

from asyncroute.core.errors import OurFault
from asyncroute.core.model import Selection
from asyncroute.core.states import OPEN, DeliveryState
from asyncroute.core.words import quote


def selection(what: dict[str, Any], states: tuple[DeliveryState, ...]) -> Selection:
    """The ``Selection`` that a request means.

    Raises:
        OurFault: a value is not of its kind.
    """
    for key in ("to", "sop_instance_uid", "study_uid", "accession", "state", "error"):
        if not isinstance(what.get(key), str | None):
            raise OurFault(f"{key}: must be text")
    ids = what.get("ids")
    if ids is not None and not (isinstance(ids, list) and all(isinstance(i, int) for i in ids)):
        raise OurFault("ids: must be a list of numbers")
    older = what.get("older")
    if older is not None and not (isinstance(older, int | float) and older >= 0):
        raise OurFault("older: must be a number of seconds")
    return Selection(
        states,
        what.get("to"),
        what.get("sop_instance_uid"),
        what.get("study_uid"),
        what.get("accession"),
        ids,
        what.get("error"),
        time() - older if older is not None else None,
    )


def states_of(what: dict[str, Any], default: tuple[DeliveryState, ...]) -> tuple[DeliveryState, ...]:
    """The delivery states that a request names.

    Raises:
        OurFault: no such state, or one that is over.
    """
    word = what.get("state")
    if not word:
        return default
    for state in OPEN:
        if state.word == word:
            return (state,)
    raise OurFault(f"state: must be one of {', '.join(sorted(s.word for s in OPEN))} or held, not {word!r}")


def name_of(what: dict[str, Any], key: str = "to") -> str:
    """The destination that a request names.

    Raises:
        OurFault: it names none.
    """
    name = what.get(key)
    if not isinstance(name, str) or not name:
        raise OurFault(f"{key}: must be the name of a destination")
    return name


def unknown(name: str, known: Iterable[str]) -> OurFault:
    """There is no destination of this name."""
    return OurFault(f"no destination is called {quote(name)}; there is {', '.join(map(quote, known)) or 'none'}")
