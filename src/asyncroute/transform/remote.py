"""Transforms in a worker process (``link.processes``): how a call is made of one, and what comes back is read.

A transform goes to each process once (pickled: from the router to its own processes only); what comes back is plain
values. Guarantees: the same as ``Transform.apply`` here. Failures: ``Refused``; ``link.processes.Failed``.
"""

from __future__ import annotations

import pickle
from functools import lru_cache
from typing import Any

from asyncroute.link.processes import Call, Lasting, Raised
from asyncroute.transform.base import Change, Edited, Facts, Header, Link, Refused, Transform

_FUNCTION = f"{__name__}:apply"
_NONSENSE = Raised("TypeError", "its worker process answered nonsense", "")


class Remote:
    """One transform, for calls in worker processes."""

    def __init__(self, transform: Transform, deadline: float) -> None:
        """``deadline``: seconds that one image may take."""
        self._transform = Lasting(pickle.dumps(transform))
        self._name = transform.name
        self._deadline = deadline

    def call(self, header: Header, facts: Facts) -> Call:
        """What a worker process has to do."""
        about = [header.transfer_syntax, header.sop_class_uid, header.sop_instance_uid, header.whole]
        arguments = (self._transform, header.data, about, list(facts))
        return Call(_FUNCTION, arguments, self._deadline, self._name)


def edited_of(answer: Any) -> Edited:
    """What a call has made of the header.

    Raises:
        Refused: it does not go out like this.
        link.processes.Failed: that is no answer.
    """
    try:
        if "refused" in answer:
            raise Refused(str(answer["refused"]), answer["drop"] is True)
        data, sop_class_uid, sop_instance_uid, changes, links, anonymous = answer["edited"]
        if not isinstance(data, memoryview):
            raise _NONSENSE
        told = tuple(Change(*it) for it in changes), tuple(Link(*it) for it in links)
        return Edited(data, str(sop_class_uid), str(sop_instance_uid), *told, anonymous is True)
    except (TypeError, ValueError, KeyError):
        raise _NONSENSE from None


def apply(transform: bytes, data: memoryview, about: list[Any], facts: list[Any]) -> dict[str, Any]:
    """In the worker process."""
    try:
        edited = _unpacked(transform).apply(Header(data, *about), Facts(*facts))
    except Refused as refused:
        return {"refused": refused.reason, "drop": refused.drop}
    links = [[link.kind, link.original, link.pseudonym] for link in edited.links]
    told = [edited.changes, links, edited.anonymous]
    return {"edited": [edited.data, edited.sop_class_uid, edited.sop_instance_uid, *told]}


@lru_cache(64)
def _unpacked(transform: bytes) -> Transform:
    made: Transform = pickle.loads(transform)
    return made
