"""What of a status snapshot needs a person.

Apart from ``snapshot``, and with no imports of its own: commands look at what a running router tells them, and start
quickly. Guarantees: pure. Failures: none.
"""

from __future__ import annotations

from typing import Any

ATTENTION = frozenset({"down", "rejected", "title-rejected", "held", "removed"})
"""Channel states that need a person."""


def needs_person(snapshot: dict[str, Any]) -> list[str]:
    """Why somebody should look, one line each; empty: healthy."""
    found = list(snapshot.get("trouble", []))
    totals = snapshot["totals"]
    if totals["held"]:
        found.append(f"{totals['held']} images are held: no route matches them (asyncroute queue list --held)")
    late = snapshot.get("incomplete")
    if late and late["late_images"]:
        found.append(
            f"{late['late_images']} images of {late['late_studies']} studies came late and are held "
            "(asyncroute queue list --state waiting, asyncroute queue retry --held)"
        )
    if snapshot.get("orphans"):
        found.append(
            f"{snapshot['orphans']} files that the journal does not know are in the folder orphans "
            "(stop the router, then: asyncroute rebuild)"
        )
    for channel in snapshot["channels"]:
        if channel["failed"]:
            found.append(
                f"{channel['name']}: {channel['failed']} dead letters (asyncroute queue list --to {channel['name']})"
            )
            if channel.get("refused"):
                found.append(f"{channel['name']}: {channel['refused']} images refused by a transform since the start")
        if channel.get("held_since") is not None and channel["state"] == "held":
            found.append(f"{channel['name']}: held by a person (asyncroute queue release {channel['name']})")
        elif channel["state"] in ATTENTION and (channel["state"] != "removed" or channel["waiting"]):
            found.append(f"{channel['name']}: {channel['state']}: {channel['last_error']}")
        if channel.get("verify_error"):
            waiting = f"{channel['unconfirmed']} deliveries wait for proof"
            found.append(f"{channel['name']}: {waiting}: {channel['verify_error']}")
        if channel.get("alert"):
            found.append(f"{channel['name']}: {channel['alert']}")
    return found
