"""``asyncroute watch`` and ``asyncroute batch``: watched folders, and the batches in them."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output, router
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.core.errors import OurFault
from asyncroute.status import render

if TYPE_CHECKING:
    from asyncroute.config.outline import Outline

LIMIT = 100
MOST = 100_000
EVERY = 0.5
"""Seconds between two looks while batches are followed."""

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Watches; without: all.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A watch of the configuration.")]
Which = Annotated[
    str, typer.Argument(metavar="BATCH", help="A batch: its number, its name, or WATCH/NAME; the latest run of it.")
]
OfWatch = Annotated[str | None, typer.Option("--watch", metavar="NAME", help="Only of this watch.")]
Since = Annotated[
    datetime | None,
    typer.Option("--since", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only from then on (local time)."),
]


class State(StrEnum):
    """States that ``--state`` takes."""

    QUEUED = "queued"
    READING = "reading"
    PROCESSING = "processing"
    DONE = "done"
    EMPTY = "empty"
    ERROR = "error"


class Per(StrEnum):
    """What a line of an export is about."""

    BATCH = "batch"
    DAY = "day"


class Form(StrEnum):
    """Forms of an export."""

    CSV = "csv"
    JSON = "json"


def add_to(app: typer.Typer) -> None:
    """Add both groups."""
    watch = typer.Typer(help="Start, stop and show watched folders.", no_args_is_help=True)
    watch.command("start", epilog=example("asyncroute watch start incoming"))(watch_start)
    watch.command("stop", epilog=example("asyncroute watch stop incoming"))(watch_stop)
    watch.command("status", epilog=example("asyncroute watch status"))(watch_status)
    app.add_typer(watch, name="watch")
    batch = typer.Typer(help="Start, list, retry, cancel and export batches.", no_args_is_help=True)
    batch.command("start", epilog=example("asyncroute batch start research --number 20 --follow"))(start)
    batch.command("list", epilog=example("asyncroute batch list --watch incoming --state error"))(list_)
    batch.command("show", epilog=example("asyncroute batch show incoming/study-7"))(show)
    batch.command("retry", epilog=example("asyncroute batch retry incoming/study-7"))(retry)
    batch.command("cancel", epilog=example("asyncroute batch cancel 17"))(cancel)
    batch.command("export", epilog=example("asyncroute batch export --per day --since 2024-01-01 > days.csv"))(export)
    app.add_typer(batch, name="batch")


# --- watches ----------------------------------------------------------------------------------------------------------


def watch_start(names: Names = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Take up batches again from watches that were stopped."""
    _set(config, "start", names, "started", "none was stopped", as_json)


def watch_stop(names: Names = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Begin no more batches, also after a restart; those under way are carried to their end."""
    _set(config, "stop", names, "stopped", "all were stopped already", as_json)


def watch_status(names: Names = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show watches and the batches that are under way."""
    found: list[dict[str, Any]] = _ask(config, "/watch/status", {"names": names or []})
    if as_json:
        output.facts(found)
        return
    for table in render.watches(found):
        output.table(table)
    if not found:
        output.note("nothing is watched")


def _set(config: Path | None, verb: str, names: Sequence[str] | None, done: str, nothing: str, as_json: bool) -> None:
    found = _ask(config, f"/watch/{verb}", {"names": list(names or [])})
    if as_json:
        output.facts(found)
        return
    for name in found["changed"]:
        output.say(f"{name}: {done}")
    if not found["changed"]:
        output.say(nothing)


# --- batches ----------------------------------------------------------------------------------------------------------


def start(
    name: Name,
    config: ConfigFile = None,
    number: Annotated[int | None, typer.Option("--number", metavar="N", min=1, help="At most so many.")] = None,
    subfolder: Annotated[
        str | None, typer.Option("--subfolder", metavar="S", help="Those in this folder of each base go first.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show progress until all of them are over.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue batches of a watch with mode "batch"; only when those before are finished."""
    found = _ask(config, "/batch/start", {"name": name, "number": number, "subfolder": subfolder})
    if as_json:
        output.facts(found)
    else:
        output.say(f"{name}: {found['queued']} batches queued")
    if found["stopped"] and not as_json:
        output.note(f"{name} is stopped: they begin after asyncroute watch start {name}")
    if follow and found["queued"] and not found["stopped"]:
        failed = _follow(config, name, found["queued"])
        raise typer.Exit(output.FAILED if failed else output.OK)


def list_(
    config: ConfigFile = None,
    watch: OfWatch = None,
    state: Annotated[State | None, typer.Option("--state", help="Only those in this state.")] = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST, help="At most so many.")] = LIMIT,
    as_json: AsJson = False,
) -> None:
    """List batches, the newest first; also of a router that does not run."""
    asked = _filter(watch, since) | {"state": state.value if state else None, "limit": limit}
    found = _read(config, "list", asked)
    if as_json:
        output.facts(found)
    elif found:
        output.table(_table(found, limit))
    else:
        output.note("no batches")


def show(
    batch: Which,
    config: ConfigFile = None,
    run: Annotated[int | None, typer.Option("--run", min=1, help="Another run than the latest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one batch with its counts, errors and warnings; also of a router that does not run."""
    found = _read(config, "show", {"name": batch, "run": run})
    if as_json:
        output.facts(found)
        return
    for line in _story(found):
        output.say(line)


def retry(batch: Which, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Queue a batch again that ended in error: only what was not delivered goes again."""
    found = _ask(config, "/batch/retry", {"name": batch})
    output.facts(found) if as_json else output.say(f"{found['batch']}: queued again")


def cancel(batch: Which, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Read a batch no further, or dismiss one that ended in error; what is admitted is still delivered."""
    found = _ask(config, "/batch/cancel", {"name": batch})
    output.facts(found) if as_json else output.say(f"{found['batch']}: {found['became']}")


def export(
    config: ConfigFile = None,
    per: Annotated[Per, typer.Option("--per", help="What a line is about.")] = Per.BATCH,
    form: Annotated[Form, typer.Option("--form", help="CSV or JSON.")] = Form.CSV,
    watch: OfWatch = None,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Print metrics of all batches, or by day, as CSV or JSON; also of a router that does not run."""
    asked = _filter(watch, since)
    found = _read(config, "days" if per is Per.DAY else "list", asked if per is Per.DAY else asked | {"limit": MOST})
    if as_json or form is Form.JSON:
        output.facts(found)
    elif found:
        writer = csv.DictWriter(sys.stdout, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in found)
    else:
        output.note("no batches")


def _cell(value: object) -> object:
    """Text that a spreadsheet takes for text: names of folders come from anybody."""
    if isinstance(value, str):
        shown = render.clean(value)
        return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown
    return value


# --- asking -----------------------------------------------------------------------------------------------------------


def _ask(config: Path | None, path: str, what: dict[str, Any]) -> Any:
    def when_stopped(outline: Outline) -> Any:
        raise OurFault(f"no router is running in {outline.data_dir}")

    return router.ask(config, lambda client: client.ask(path, what), when_stopped)


def _read(config: Path | None, verb: str, what: dict[str, Any]) -> Any:
    def when_stopped(outline: Outline) -> Any:
        from asyncroute.cli import stopped

        return stopped.batches(outline, verb, what)

    return router.ask(config, lambda client: client.ask(f"/batch/{verb}", what), when_stopped)


def _filter(watch: str | None, since: datetime | None) -> dict[str, Any]:
    return {"watch": watch, "since": since.timestamp() if since is not None else None}


# --- showing ----------------------------------------------------------------------------------------------------------


def _table(found: Sequence[Mapping[str, Any]], limit: int) -> render.Table:
    note = f"there may be more: these are the last {limit} (--limit)" if len(found) >= limit else ""
    columns = ("id", "batch", "run", "state", "files", "images", "size", "delivered", "errors", "warnings", "queued")
    rows = [
        (
            *(str(it["id"]), f"{it['watch']}/{it['name']}", str(it["run"]), it["state"]),
            *(str(it["files"]), str(it["images"]), render.size(it["bytes"]), str(it["delivered"])),
            *(str(it["errors"]), str(it["warnings"]), render.moment(it["queued_at"])),
            it["reason"],
        )
        for it in found
    ]
    return render.Table("", (*columns, "reason"), rows, frozenset({0, 2, 4, 5, 6, 7, 8, 9}), note)


def _story(it: Mapping[str, Any]) -> list[str]:
    """One batch in lines."""
    lines = [
        f"{it['watch']}/{it['name']}, run {it['run']} (number {it['id']}): {it['state']}"
        + (f": {it['reason']}" if it["reason"] else ""),
        f"source: {it['path']} ({it['source']})",
    ]
    times = [("queued", "queued_at"), ("begun", "begun_at"), ("read", "read_at"), ("ended", "ended_at")]
    told = [f"{word} {render.moment(it[key])}" for word, key in times if it[key] is not None]
    counts = it.get("progress") or it
    now = it["now"]
    lines += [
        ", ".join(told),
        f"files: {counts['files']}, images: {counts['images']} ({render.size(counts['bytes'])}), not DICOM: "
        f"{it['not_dicom']}, skipped: {it['skipped']}, duplicates: {it['duplicates']}",
        f"deliveries: {now['delivered']} delivered, {now['failed']} failed; images: {now['pending']} on their way, "
        f"{now['held']} held",
    ]
    if it.get("progress") and it["progress"]["waits"]:
        lines.append(f"waits: {it['progress']['waits']}")
    for each in it["troubles"]:
        where = f"{each['file']}: " if each["file"] else ""
        lines.append(f"{'error' if each['error'] else 'warning'}: {where}{each['text']}")
    lines += [f"failed: {each['file']} to {each['destination']}: {each['error']}" for each in it["failures"]]
    return lines


def _follow(config: Path | None, name: str, number: int) -> int:
    """Show progress until the ``number`` batches queued last are over; how many ended in error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    asked = {"watch": name, "limit": number}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=output.console(), disable=not output.on_terminal()) as bars:
        whole = bars.add_task("batches", total=number)
        shown: dict[int, Any] = {}
        while True:
            found = _ask(config, "/batch/list", asked)
            over = [it for it in found if it["ended_at"] is not None]
            bars.update(whole, completed=len(over))
            _show_carried(bars, shown, _ask(config, "/watch/status", {"names": [name]})[0]["carried"])
            if len(over) >= number:
                break
            time.sleep(EVERY)
    errors = sum(1 for it in found if it["state"] == State.ERROR.value)
    output.say(f"{name}: {number} batches are over, {errors} of them with errors")
    return errors


def _show_carried(bars: Any, shown: dict[int, Any], carried: Sequence[Mapping[str, Any]]) -> None:
    """A bar for each batch that is under way."""
    now = {it["id"]: it for it in carried}
    for gone in shown.keys() - now.keys():
        bars.remove_task(shown.pop(gone))
    for number, it in now.items():
        if number not in shown:
            shown[number] = bars.add_task("", total=None)
        words = render.clean(f"{it['name']}: {it['state']}" + (f" ({it['waits']})" if it["waits"] else ""))
        bars.update(shown[number], description=words, completed=it["images"], total=it["files"] or None)
