"""What ``status`` shows, as plain data; the one place that knows the shape of ``status --json``.

``running`` builds it from a live router, ``stopped`` from the journal of one that does not run. Nothing here changes
anything. Ages and durations are seconds, sizes bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from asyncroute.core.completion import Completion
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Counts
from asyncroute.status import incomplete, process

if TYPE_CHECKING:
    from asyncroute.app import App

PENDING = (DeliveryState.WAITING, DeliveryState.READY, DeliveryState.SENDING)


def running(app: App) -> dict[str, Any]:
    """The live router's state."""
    owed = app.waiting.owed()
    channels = [
        _without(line, owed[line["name"]]) | _proof(app, line["name"]) | _transforms(app, line["name"])
        for line in app.scheduler.describe()
    ]
    now = app.loop.time()
    return {
        "node": app.config.node.name,
        "running": True,
        "uptime_s": round(now - app.started, 3),
        "totals": _totals(app.received, app.scheduler.totals["delivered"], channels, app.scheduler.held),
        "associations": {
            "inbound": [
                {
                    "calling_aet": a.source.calling_aet,
                    "called_aet": a.source.called_aet,
                    "user": a.user or None,
                    "peer": a.source.peer,
                    "listener": a.source.listener,
                    "since_s": round(now - a.since, 3),
                    "images": a.images,
                    "bytes": a.bytes,
                }
                for listener in app.intake.listeners
                for a in listener.established
            ],
            "outbound": [line for c in app.scheduler.channels.values() for lane in c.lanes if (line := lane.info())],
        },
        "channels": channels,
        "incomplete": incomplete.facts(app.waiting.completions, time.time(), app.waiting.due_in),
        "watches": app.batches.facts(),
        "groups": _groups(app, {channel["name"]: channel["state"] for channel in channels}),
        "listeners": [
            {
                "ae_title": x.settings.ae_title,
                "host": x.settings.host,
                "port": x.port,
                "tls": x.settings.tls is not None,
            }
            for x in app.intake.listeners
            if x.listening
        ],
        "spool": {
            "files": app.spool.files,
            "bytes": app.spool.bytes,
            "spare_files": app.spool.spare_files,
            "spare_bytes": app.spool.spare_bytes,
            "reused": app.spool.reused,
            "open_files": app.spool.open_files,
            "free_bytes": app.admission.free_bytes,
        },
        "conversions": {"made": app.conversions.made, "running": app.conversions.running},
        "memory": {"used_bytes": app.memory.used, "limit_bytes": app.memory.limit},
        "process": process.figures(app.loop),
        "orphans": app.orphans.count,
        "archive": app.keeping.archive.describe() if app.keeping.archive is not None else None,
        "trouble": app.trouble(),
    }


def _without(line: dict[str, Any], incomplete_: int) -> dict[str, Any]:
    """What waits for a completion is not ready."""
    return line | {"ready": max(line["ready"] - incomplete_, 0), "incomplete": incomplete_}


def _proof(app: App, name: str) -> dict[str, Any]:
    """What of a destination waits for proof, and why it cannot be asked for."""
    return {"unconfirmed": app.proofs.unconfirmed.get(name, 0), "verify_error": app.proofs.trouble(name)}


def _transforms(app: App, name: str) -> dict[str, Any]:
    """By route, the transforms of what goes there; how many images they have refused since the start."""
    routes = (route.name for route in app.config.routes if name in app.config.reached(route))
    found = {route: it.name for route in routes if (it := app.coercions.by_route.get(route)) is not None}
    return {"transforms": found, "refused": app.coercions.refused[name]}


def stopped(
    name: str,
    counts: Counts,
    completions: Sequence[Completion],
    destinations: dict[str, str],
    spool: dict[str, int],
) -> dict[str, Any]:
    """The state that a router which does not run has left. ``destinations``: {name: kind} of the configuration."""
    names = [*destinations, *sorted({*counts.open, *counts.delivered} - set(destinations))]
    channels = [_stopped_channel(n, destinations.get(n, ""), counts) for n in names]
    return {
        "node": name,
        "running": False,
        "uptime_s": 0.0,
        "totals": _totals(counts.totals.get("received", 0), counts.totals.get("delivered", 0), channels, counts.held),
        "associations": {"inbound": [], "outbound": []},
        "channels": channels,
        "incomplete": incomplete.facts(completions, time.time(), lambda _: None),
        "groups": [],
        "listeners": [],
        "spool": spool,
        "trouble": [],
    }


def _groups(app: App, states: dict[str, str]) -> list[dict[str, Any]]:
    """In the order of the file; ``active``: who gets new studies, ``why``: why not those before them."""
    one_of = {line["name"]: line for line in app.groups.describe(states)}
    return [
        one_of.get(group.name)
        or {
            "name": group.name,
            "mode": group.mode,
            "members": [{"name": name, "state": states.get(name, "")} for name in group.members],
            "active": list(group.members),
            "why": "",
            "studies": 0,
        }
        for group in app.config.groups
    ]


def _totals(received: int, delivered: int, channels: list[dict[str, Any]], held: int) -> dict[str, int]:
    return {
        "received": received,
        "delivered": delivered,
        "waiting": sum(c["waiting"] for c in channels),
        "held": held,
        "failed": sum(c["failed"] for c in channels),
    }


def _stopped_channel(name: str, kind: str, counts: Counts) -> dict[str, Any]:
    states = counts.open.get(name, {})
    waiting = sum(states.get(s, 0) for s in PENDING)
    oldest = counts.oldest.get(name)
    held = next((period.at for period in counts.holds.get(name, ()) if period.until is None), None)
    return {
        "name": name,
        "kind": kind,
        "state": ("stopped" if held is None else "held") if kind else "removed",
        "waiting": waiting,
        "ready": waiting - states.get(DeliveryState.WAITING, 0),
        "incomplete": states.get(DeliveryState.WAITING, 0),
        "sending": 0,
        "failed": states.get(DeliveryState.FAILED, 0),
        "delivered": counts.delivered.get(name, 0),
        "unconfirmed": counts.unconfirmed.get(name, 0),
        "verify_error": "",
        "transforms": {},
        "transformed": 0,
        "refused": 0,
        "oldest_s": round(max(time.time() - oldest, 0.0), 1) if oldest is not None and waiting else None,
        "window": 0,
        "window_most": 0,
        "window_why": "",
        "lanes": 0,
        "rate_per_s": 0.0,
        "bandwidth": None,
        "held_since": held,
        "closed_until": None,
        "last_error": "" if kind else "no longer in the configuration",
        "alert": "",
    }
