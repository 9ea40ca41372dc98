"""``asyncroute queue``: deliveries and held images, a person's decisions about them, and holds of destinations."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output, router
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.core.errors import OurFault
from asyncroute.status import render

if TYPE_CHECKING:
    from asyncroute.config.outline import Outline

LIMIT = 1000


class State(StrEnum):
    """States that ``--state`` takes."""

    FAILED = "failed"
    READY = "ready"
    WAITING = "waiting"
    SENDING = "sending"
    HELD = "held"


def _option(*names: str, metavar: str, words: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=words, show_default=False)


To = Annotated[str | None, _option("--to", metavar="NAME", words="Only deliveries to this destination.")]
InState = Annotated[State | None, typer.Option("--state", help="Only what is in this state.", show_default=False)]
Uid = Annotated[str | None, _option("--uid", metavar="UID", words="Only this SOP Instance UID.")]
Study = Annotated[str | None, _option("--study", metavar="UID", words="Only this Study Instance UID.")]
Accession = Annotated[str | None, _option("--accession", metavar="TEXT", words="Only this accession number.")]
Ids = Annotated[list[int] | None, _option("--id", metavar="N", words="Only these numbers of the list; repeatable.")]
Held = Annotated[bool, typer.Option("--held", help="Only images that no route matches; the same as --state held.")]
Error = Annotated[str | None, _option("--error", metavar="TEXT", words="Only where the error has this text in it.")]
Older = Annotated[str | None, _option("--older", metavar="AGE", words="Only what was queued so long ago, such as 2d.")]
Everything = Annotated[bool, typer.Option("--all", help="Really all; needed where nothing else is chosen.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A destination of the configuration.", show_default=False)]
Target = Annotated[str, typer.Argument(metavar="NAME", help="The destination that gets them.", show_default=False)]
HeldName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A destination that is held.", show_default=False)
]
EveryWaiting = Annotated[bool, typer.Option("--all", help="All images that wait for their study.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="List, retry, reroute or discard deliveries and held images; hold destinations.", no_args_is_help=True
    )
    group.command("list", epilog=example("asyncroute queue list --to pacs --state failed"))(list_)
    group.command("retry", epilog=example("asyncroute queue retry --to pacs", "asyncroute queue retry --held"))(retry)
    group.command("discard", epilog=example("asyncroute queue discard --id 17 --id 18 --yes"))(discard)
    group.command("reroute", epilog=example("asyncroute queue reroute pacs2 --to pacs --error 0x0122"))(reroute)
    group.command("hold", epilog=example("asyncroute queue hold pacs"))(hold)
    group.command("release", epilog=example("asyncroute queue release pacs", "asyncroute queue release --study 1.2.3"))(
        release
    )
    app.add_typer(group, name="queue")


def list_(  # noqa: PLR0913, PLR0917 - a command's options
    config: ConfigFile = None,
    to: To = None,
    state: InState = None,
    uid: Uid = None,
    study: Study = None,
    accession: Accession = None,
    ids: Ids = None,
    held: Held = False,
    error: Error = None,
    older: Older = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many lines.")] = LIMIT,
    as_json: AsJson = False,
) -> None:
    """List open deliveries and held images, oldest first; also of a router that does not run."""
    rows = _rows(config, _what(to, state, uid, study, accession, ids, held, error, older), limit)
    if as_json:
        output.facts(rows)
    elif rows:
        _print(rows, limit)
    else:
        output.note("nothing there")


def retry(  # noqa: PLR0913, PLR0917 - a command's options
    config: ConfigFile = None,
    to: To = None,
    state: InState = None,
    uid: Uid = None,
    study: Study = None,
    accession: Accession = None,
    ids: Ids = None,
    held: Held = False,
    error: Error = None,
    older: Older = None,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again, and route held images again under the configuration of now."""
    what = _chosen(_what(to, state, uid, study, accession, ids, held, error, older), everything)
    _report("again", _act(config, "retry", what), as_json)


def discard(  # noqa: PLR0913, PLR0917 - a command's options
    config: ConfigFile = None,
    to: To = None,
    state: InState = None,
    uid: Uid = None,
    study: Study = None,
    accession: Accession = None,
    ids: Ids = None,
    held: Held = False,
    error: Error = None,
    older: Older = None,
    everything: Everything = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give up dead letters (or what --state names) and held images for good; asks first."""
    what = _chosen(_what(to, state, uid, study, accession, ids, held, error, older), everything)
    if not yes:
        _confirm(config, what)
    _report("discarded", _act(config, "discard", what), as_json)


def reroute(  # noqa: PLR0913, PLR0917 - a command's options
    target: Target,
    config: ConfigFile = None,
    to: To = None,
    state: InState = None,
    uid: Uid = None,
    study: Study = None,
    accession: Accession = None,
    ids: Ids = None,
    held: Held = False,
    error: Error = None,
    older: Older = None,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters (or what --state names) and held images to another destination instead."""
    what = _chosen(_what(to, state, uid, study, accession, ids, held, error, older), everything)
    _report(f"on their way to {target}", _act(config, "reroute", what | {"target": target}), as_json)


def hold(name: Name, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Send nothing more to a destination until it is released; its images wait, also over restarts."""
    done = _act(config, "hold", {"to": name})
    _tell(done, f"{name}: held", f"{name}: was held already", as_json)


def release(  # noqa: PLR0913, PLR0917 - a command's options
    name: HeldName = None,
    config: ConfigFile = None,
    to: To = None,
    uid: Uid = None,
    study: Study = None,
    accession: Accession = None,
    ids: Ids = None,
    everything: EveryWaiting = False,
    as_json: AsJson = False,
) -> None:
    """Go on sending to a destination that is held; or, with options, send images now that wait for their study."""
    what = _what(to, None, uid, study, accession, ids, False, None, None)
    chosen = everything or any(value is not None for value in what.values())
    if name is not None and chosen:
        raise typer.BadParameter("name a destination that is held, or choose images that wait, not both")
    if name is None:
        done = _act(config, "release", _chosen(what, everything) | {"waiting": True})
        _tell_released(done, as_json)
        return
    done = _act(config, "release", {"to": name})
    _tell(done, f"{name}: released", f"{name}: was not held", as_json)


# --- what is meant ----------------------------------------------------------------------------------------------------


def _what(  # noqa: PLR0913, PLR0917 - see above
    to: str | None,
    state: State | None,
    uid: str | None,
    study: str | None,
    accession: str | None,
    ids: Sequence[int] | None,
    held: bool,
    error: str | None,
    older: str | None,
) -> dict[str, Any]:
    """The selection as the control socket takes it."""
    if held and state not in (None, State.HELD):
        raise typer.BadParameter(f"--held and --state {state} exclude each other")
    if to is not None and (held or state is State.HELD):
        raise typer.BadParameter("held images have no destination: leave --to out")
    word = State.HELD if held else state
    return {
        "to": to,
        "state": str(word) if word is not None else None,
        "sop_instance_uid": uid,
        "study_uid": study,
        "accession": accession,
        "ids": list(ids) if ids else None,
        "error": error,
        "older": _seconds(older),
    }


def _seconds(age: str | None) -> float | None:
    if age is None:
        return None
    from asyncroute.config.units import parse_duration
    from asyncroute.config.words import Invalid

    try:
        seconds = parse_duration(age)
    except Invalid as wrong:
        raise typer.BadParameter(f"--older {wrong}") from None
    if seconds == inf:
        raise typer.BadParameter('--older must be a duration such as "30m" or "2d"')
    return seconds


def _chosen(what: dict[str, Any], everything: bool) -> dict[str, Any]:
    if everything or any(value is not None for value in what.values()):
        return what
    raise typer.BadParameter("nothing is chosen; use --to, --state, --id and others, or --all")


def _rows(config: Path | None, what: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """See ``status.control.Administration.queue_list``."""
    asked = what | {"limit": limit}

    def when_stopped(outline: Outline) -> list[dict[str, Any]]:
        from asyncroute.cli import stopped

        return stopped.queue_list(outline, asked)

    return router.ask(config, lambda client: client.queue_list(asked), when_stopped)


def _act(config: Path | None, verb: str, what: dict[str, Any]) -> dict[str, int]:
    """See ``status.control.Administration``."""

    def when_stopped(outline: Outline) -> dict[str, int]:
        from asyncroute.cli import stopped

        return stopped.queue_act(outline, verb, what)

    return router.ask(config, lambda client: client.queue_act(verb, what), when_stopped)


# --- what is said -----------------------------------------------------------------------------------------------------


def _confirm(config: Path | None, what: dict[str, Any]) -> None:
    if not sys.stdin.isatty():
        raise OurFault("discarding is for good: without a terminal to ask on it needs --yes")
    narrowed = what if what["state"] else what | {"state": "failed"}
    rows = _rows(config, narrowed, LIMIT)
    if not what["state"] and not what["to"]:
        rows += _rows(config, what | {"state": "held"}, LIMIT)
    more = " or more" if len(rows) >= LIMIT else ""
    if not rows:
        raise OurFault("nothing there to discard")
    if not typer.confirm(f"Discard {len(rows)}{more} (deliveries and held images) for good?", err=True):
        output.note("nothing was discarded")
        raise typer.Exit(output.FAILED)


def _report(word: str, done: Mapping[str, int], as_json: bool) -> None:
    if as_json:
        output.facts(done)
    else:
        output.say(f"{done['deliveries']} deliveries, {done['images']} held images: {word}")


def _tell(done: Mapping[str, int], changed: str, as_before: str, as_json: bool) -> None:
    if as_json:
        output.facts(done)
    else:
        output.say(changed if done["destinations"] else as_before)


def _tell_released(done: Mapping[str, int], as_json: bool) -> None:
    if as_json:
        output.facts(done)
    else:
        output.say(f"{done['deliveries']} deliveries wait no longer")


def _print(rows: Sequence[Mapping[str, Any]], limit: int) -> None:
    note = f"there may be more: these are the first {limit} (--limit)" if len(rows) >= limit else ""
    columns = ("id", "to", "state", "tries", "age", "next", "from", "patient", "accession", "mod.", "size", "error")
    output.table(render.Table("", columns, [_row(row) for row in rows], frozenset({0, 3, 4, 5, 10}), note))


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    now = time.time()
    wait = row["not_before"] - now
    return (
        str(row["instance_id"]),
        row["destination"],
        row["state"],
        str(row["attempts"]),
        render.span(max(now - row["queued_at"], 0)),
        f"in {render.span(wait)}" if wait > 0 and row["state"] in ("ready", "waiting") else "",
        *(row[key] or "" for key in ("calling_aet", "patient_id", "accession", "modality")),
        render.size(row["size"]),
        row["last_error"] or "",
    )
