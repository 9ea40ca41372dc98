"""Tiers as ``status`` shows them, whether a router runs or not. Failures: none; what is wrong with a tier is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asyncroute.archive.base import Total
from asyncroute.archive.shelves import Shelf

TROUBLED = frozenset({"missing", "full", "failed"})
"""States of a tier that need a person."""


def described(shelf: Shelf, totals: Mapping[int, Total], states: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """A tier, for ``status``; ``states``: what is done there, by its number in the index."""
    folder, number = shelf.look(), shelf.folder.id if shelf.folder is not None else 0
    total, doing = totals.get(number, Total(number, 0, 0, 0, 0.0, 0)), states.get(number, {})
    return {
        "path": str(shelf.path),
        "state": doing.get("state", "ok") if folder is not None else "missing",
        "why": shelf.why or doing.get("why", ""),
        "studies": total.studies,
        "images": total.images,
        "bytes": total.bytes,
        "wrong": total.wrong,
        "unindexed": shelf.unindexed,
        "oldest": total.oldest or None,
        "free_bytes": folder.free() if folder is not None else None,
        "moving": doing.get("moving"),
        "next": doing.get("next"),
        "closed_until": doing.get("until"),
    }


def problems(tiers: Sequence[Mapping[str, Any]], said: str = "") -> Iterator[str]:
    """What of ``described`` tiers a person should know, one line each; ``said``: what was told already."""
    for n, each in enumerate(tiers, 1):
        if each["state"] in TROUBLED and each["why"] != said:
            yield f"archive: tier {n}: {each['why']}"
        if each["wrong"]:
            yield f"archive: tier {n}: {each['wrong']} files are missing or damaged (asyncroute archive verify)"
        if each["unindexed"]:
            yield f"archive: tier {n}: it has files that are not known here (stop the router: asyncroute rebuild)"
