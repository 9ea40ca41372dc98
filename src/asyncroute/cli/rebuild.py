"""``asyncroute rebuild``: a new journal from the spool, or orphans back into a sound one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from asyncroute.cli import output, settings
from asyncroute.cli.options import AsJson, ConfigFile, example

if TYPE_CHECKING:
    from asyncroute.rebuild.report import Report


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Make a new journal from the spool; take orphans in.",
        epilog=example("asyncroute rebuild -c /etc/asyncroute.toml", "asyncroute rebuild --anew"),
    )(rebuild)


def rebuild(
    config: ConfigFile = None,
    anew: Annotated[bool, typer.Option("--anew", help="Make a new journal although the old one looks sound.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new journal from the files in the spool if it is damaged or missing; take orphans in. Router stopped.

    Nothing is deleted: what is no good is moved to data_dir/damaged-TIME. What the old journal still shows to be
    delivered is not sent again; what cannot be told is. If the journal is sound, only orphans are taken in.

    Exit status: 0 done, also if there was nothing to do; 1 it cannot be done (a router runs, the disk); 2 wrong use or
    a wrong configuration. If it is interrupted, run it again.
    """
    loaded = settings.load(config)

    from asyncroute.rebuild.journal import rebuild as work

    report = work(loaded, anew)
    if as_json:
        output.facts(asdict(report))
        return
    for line in lines(report):
        output.say(line)


def lines(report: Report) -> list[str]:
    """What was done, for a person."""
    said = [f"new journal: {report.reason}" if report.reason else "the journal is sound and stays"]
    if report.images:
        said.append(f"{report.images} images taken in, {report.orphans} of them orphans")
    elif report.orphans:
        said.append(f"{report.orphans} orphans are back in their places")
    said += [f"queued for {name}: {count}" for name, count in sorted(report.queued.items())]
    counts = (
        (report.over, "deliveries were over and stay so"),
        (report.held, "images are held: no route matches them (asyncroute queue list --held)"),
        (report.failed, "dead letters (asyncroute queue list --state failed)"),
        (report.missing, "images have no file any more; they are among the dead letters or held"),
        (report.damaged, "files are no whole images and were set aside"),
        (report.known, "orphans are known to be dealt with and were set aside"),
    )
    said += [f"{count} {text}" for count, text in counts if count]
    if report.archived is not None:
        said.append(f"new index of the archive: {report.archived} images")
    if report.strange:
        said.append(f"{report.strange} files in the archive are no whole images and stay as they are")
    if report.evidence:
        said.append(f"evidence: {report.evidence}")
    if not report.reason and not report.orphans and not report.damaged and not report.known and report.archived is None:
        said.append("there are no orphans: nothing to do")
    return said
