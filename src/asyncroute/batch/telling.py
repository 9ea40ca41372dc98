"""What the journal tells people of batches, as plain data: the shape of ``batch list``, ``show`` and ``export --json``.

For a running router and a stopped one. Failures: ``OurFault`` for what a person asks and cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from asyncroute.batch.base import Batches, BatchFilter
from asyncroute.core.batches import MOST_PROBLEMS, OPEN, Batch, BatchState, Leftover, plain
from asyncroute.core.errors import OurFault

What = dict[str, Any]
MOST = 1000
REMEMBERED = 10
"""Batches that ended last, for status."""
_FAILURES = 100
_SOURCES = {Leftover.LEFT: "left", Leftover.OWED: "owed", Leftover.GONE: "gone"}


async def listed(journal: Batches, what: What) -> list[What]:
    """The last batches that ``what`` (watch, name, run, state, since, limit) chooses, the newest first."""
    return [row(batch) for batch in await journal.list(which(what), _limit(what))]


async def shown(journal: Batches, what: What) -> What:
    """One batch with all that is known of it."""
    batch = await named(journal, what)
    tally = await journal.tally(batch.id)
    return row(batch) | {
        "now": tally._asdict(),
        "troubles": [asdict(it) for it in await journal.troubles(batch.id, MOST_PROBLEMS)],
        "failures": [
            {"file": file, "destination": to, "error": why}
            for file, to, why in await journal.failures(batch.id, _FAILURES)
        ],
    }


async def days(journal: Batches, what: What) -> list[What]:
    """Figures by day and watch."""
    return list(await journal.days(_text(what, "watch"), _since(what)))


async def watches(journal: Batches, configured: Sequence[tuple[str, str, Sequence[str]]]) -> list[What]:
    """What a router that does not run has left of its watches, as ``batches.BatchRoom.facts`` has it.

    ``configured``: (name, mode, paths). Watches that are not, but have batches that are not over, come last.
    """
    stopped, open_, errors = await journal.stopped(), await journal.open(), await journal.errors()
    known = {name for name, _, _ in configured}
    gone = sorted(({name for name, _ in open_} | set(errors)) - known)
    found = []
    for name, mode, paths in [*configured, *((name, "", ()) for name in gone)]:
        counts = {state.word: open_.get((name, state), 0) for state in OPEN}
        last = [it for it in await journal.list(BatchFilter(watch=name), REMEMBERED) if it.state not in OPEN]
        found.append(
            {
                "name": name,
                "mode": mode,
                "paths": list(paths),
                "stopped": name in stopped,
                "trouble": "",
                "settling": 0,
                **counts,
                "errors": errors.get(name, 0),
                "carried": [],
                "last": [ended(it) for it in sorted(last, key=lambda it: it.ended_at or 0)],
            }
            | (removed({state: n for (watch, state), n in open_.items() if watch == name}) if not mode else {})
        )
    return found


def removed(open_: Mapping[BatchState, int], reading: int = 0) -> What:
    """What to tell of a watch that is not in the configuration any more.

    ``open_``: its batches that are not over, of which so many are just being read.
    """
    unread = open_.get(BatchState.QUEUED, 0) + open_.get(BatchState.READING, 0) - reading
    words = f"it is no longer in the configuration, and {unread} batches of it are not read" if unread else ""
    return {"mode": "", "paths": [], "trouble": words}


def ended(batch: Batch) -> What:
    """One that is over, in short."""
    return {"id": batch.id, "name": batch.name, "run": batch.run, "state": batch.state.word}


def trouble(watched: Sequence[What]) -> list[str]:
    """What of watches a person should know, one line each."""
    found = [f"watch {it['name']}: {it['trouble']}" for it in watched if it["trouble"]]
    return found + [
        f"watch {it['name']}: {it['errors']} batches ended in error "
        f"(asyncroute batch list --watch {it['name']} --state error)"
        for it in watched
        if it["errors"]
    ]


async def named(journal: Batches, what: What) -> Batch:
    """The batch that is meant: by its number, or by name, then its latest run. Raises OurFault."""
    name = _text(what, "name") or ""
    if name.isdecimal() and (one := await journal.one(int(name))) is not None:
        return one
    watch, slash, rest = name.partition("/")
    chosen = which({**what, "watch": watch, "name": rest} if slash else what)
    found = await journal.list(chosen, MOST)
    watches = sorted({batch.watch for batch in found})
    if not found:
        raise OurFault(f"there is no batch {name!r}")
    if len(watches) > 1:
        raise OurFault(f"several watches have a batch {name!r}: say {' or '.join(f'{w}/{name}' for w in watches)}")
    return found[0]


def which(what: What) -> BatchFilter:
    """The filter that a request means. Raises OurFault."""
    run, state = what.get("run"), _text(what, "state")
    if run is not None and not isinstance(run, int):
        raise OurFault("run: must be a number")
    words = {each.word: each for each in BatchState}
    if state is not None and state not in words:
        raise OurFault(f"state: must be one of {', '.join(words)}, not {state!r}")
    chosen = words[state] if state is not None else None
    return BatchFilter(_text(what, "watch"), _text(what, "name"), run, chosen, _since(what))


def _text(what: What, key: str) -> str | None:
    value = what.get(key)
    if not isinstance(value, str | None):
        raise OurFault(f"{key}: must be text")
    return value


def _since(what: What) -> float | None:
    value = what.get("since")
    if value is not None and not isinstance(value, int | float):
        raise OurFault("since: must be seconds since the epoch")
    return value


def _limit(what: What) -> int:
    limit = what.get("limit", MOST)
    if not isinstance(limit, int) or limit < 1:
        raise OurFault("limit: must be a positive number")
    return limit


def row(batch: Batch) -> What:
    """A batch as plain data. Times are seconds since the epoch."""
    tally = batch.tally
    return {
        "id": batch.id,
        "watch": batch.watch,
        "name": batch.name,
        "run": batch.run,
        "state": batch.state.word,
        "reason": batch.reason,
        "path": plain(batch.path),
        "source": _SOURCES[batch.leftover],
        "dismissed": batch.dismissed,
        "queued_at": batch.queued_at,
        "begun_at": batch.begun_at,
        "read_at": batch.read_at,
        "ended_at": batch.ended_at,
        **asdict(batch.counts),
        "delivered": tally.delivered,
        "held": tally.held,
        "failed": tally.failed,
        "given_up": tally.discarded,
    }
