"""Batches for watched folders: Part 10 files in folders, dropped by a rename as senders do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support import control, settings
from tests.support.images import Image, write_part10
from tests.support.router import Router
from tests.support.waiting import wait_until

OVER = ("done", "empty", "error")


def watch(path: Path, **more: Any) -> settings.Table:
    """A [[watch]] that waits for nobody; its folder is made."""
    path.mkdir(parents=True, exist_ok=True)
    return {"name": "incoming", "path": str(path), "settle": "300ms", "poll": "1s", **more}


def drop(base: Path, name: str, images: Iterable[Image], more: Mapping[str, bytes] | None = None) -> Path:
    """A folder of files, renamed when it is whole."""
    writing, final = base / f"{name}.tmp", base / name
    writing.mkdir()
    for image in images:
        write_part10(image, writing)
    for file, data in (more or {}).items():
        (writing / file).parent.mkdir(parents=True, exist_ok=True)
        (writing / file).write_bytes(data)
    writing.rename(final)
    return final


def batches(router: Router, **which: Any) -> list[dict[str, Any]]:
    """What ``asyncroute batch list`` shows."""
    found: list[dict[str, Any]] = control.post(router.data_dir, "/batch/list", which)
    return found


def wait_over(router: Router, number: int = 1, deadline: float = 40) -> list[dict[str, Any]]:
    """Wait until so many batches have ended and nothing is to be done with their sources; all, the oldest first."""
    seen: list[list[dict[str, Any]]] = [[]]

    def over() -> bool:
        seen[0] = batches(router)
        ended = [it for it in seen[0] if it["state"] in OVER and it["source"] != "owed"]
        return len(ended) >= number

    wait_until(over, deadline, f"{number} batches are over", lambda: json.dumps(seen[0], indent=1)[-3000:])
    return seen[0][::-1]


def shown(router: Router, name: str, **which: Any) -> dict[str, Any]:
    """What ``batch show`` tells; nothing while there is no such batch."""
    if not batches(router, name=name):
        return {}
    found: dict[str, Any] = control.post(router.data_dir, "/batch/show", {"name": name, **which})
    return found


def wait_state(router: Router, name: str, state: str, **more: object) -> dict[str, Any]:
    """Wait until the batch is in this state and all of ``more`` is so; it."""
    wait_until(
        lambda: {"state": state, **more}.items() <= shown(router, name).items(),
        40,
        f"{name} is {state}",
        lambda: json.dumps(shown(router, name), indent=1)[-3000:],
    )
    return shown(router, name)


def wait_reading(router: Router, name: str, why: str) -> dict[str, Any]:
    """Wait until the batch is read no further for now, with ``why`` in its words; it."""
    wait_until(
        lambda: why in (shown(router, name).get("progress") or {}).get("waits", ""),
        40,
        f"{name} waits: {why}",
        lambda: json.dumps(shown(router, name), indent=1)[-3000:],
    )
    return shown(router, name)
