"""A tier as ``status`` shows it, whether a router runs or not. Failures: ``StorageFault`` from the index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncroute.archive.base import Total
from asyncroute.archive.shelves import Shelf


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
