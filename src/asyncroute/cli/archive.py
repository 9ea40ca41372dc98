"""``asyncroute archive``: what was kept, where it lies, whether it is still sound; and ``asyncroute replay``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output, router, settings
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.status import render
from asyncroute.status.client import Client

if TYPE_CHECKING:
    from asyncroute.archive.base import FoundStudy
    from asyncroute.archive.verify import Verified
    from asyncroute.config.outline import Outline

LIMIT = 100
TOLD = 20
"""Files that are told one by one."""
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


def _option(*names: str, metavar: str, words: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=words, show_default=False)


def add_to(app: typer.Typer) -> None:
    """Add the group, and ``replay``."""
    group = typer.Typer(
        help="What was kept: where it is, whether it is sound; move it to later tiers.", no_args_is_help=True
    )
    group.command("status", epilog=example("asyncroute archive status"))(status)
    group.command("find", epilog=example("asyncroute archive find --patient 4711", "asyncroute archive find 1.2.3"))(
        find
    )
    group.command("move", epilog=example("asyncroute archive move --tier 2"))(move)
    group.command("verify", epilog=example('asyncroute archive verify --tier 2 --bandwidth "50 MB/s"'))(verify)
    app.add_typer(group, name="archive")
    app.command(
        "replay",
        short_help="Send archived images again.",
        epilog=example("asyncroute replay 1.2.3 --to pacs", "asyncroute replay --since 2026-06-01 --until 2026-06-02"),
    )(replay)


# --- status -----------------------------------------------------------------------------------------------------------


def status(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the tiers: how they are, what they have, what moves and when; and what is to be sent again.

    Exit status: 0 all is well, 1 something needs a person (a tier is missing or full, files are missing or damaged).
    """
    outline = settings.outline(config)

    from asyncroute.archive.described import TROUBLED
    from asyncroute.rebuild import archive

    archive.need(outline)
    found = router.ask(config, _running, archive.status)
    found = found | {"replays": [it._asdict() for it in archive.replays(outline)]}
    if as_json:
        output.facts(found)
    else:
        _print_status(found)
    needs = any(t["state"] in TROUBLED or t["wrong"] or t["unindexed"] for t in found["tiers"])
    raise typer.Exit(output.FAILED if needs else output.OK)


def _running(client: Client) -> dict[str, Any]:
    found = client.status().get("archive")
    if found is None:  # the running router has not taken the configuration over yet
        from asyncroute.core.errors import OurFault

        raise OurFault("the running router keeps no archive; asyncroute reload takes a changed configuration over")
    return dict(found)


def _print_status(found: Mapping[str, Any]) -> None:
    output.table(render.archive(found))
    if found["waiting"]:
        output.say(f"{found['waiting']} images are delivered and wait in the spool to be archived")
    for it in found["replays"][:TOLD]:
        output.say(_order(it))


def _order(it: Mapping[str, Any]) -> str:
    to = f" to {it['target']}" if it["target"] else ""
    failed = f", {it['failed']} could not ({it['error']})" if it["failed"] else ""
    return (
        f"replay {it['id']} of {render.moment(it['at'])} ({it['what']}){to}: {it['images']} images, "
        f"{it['waiting']} wait{failed}"
    )


# --- find -------------------------------------------------------------------------------------------------------------


def find(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="A Study Instance UID.")] = None,
    accession: Annotated[str | None, _option("--accession", metavar="TEXT", words="An accession number.")] = None,
    patient: Annotated[str | None, _option("--patient", metavar="ID", words="A patient ID.")] = None,
    date: Annotated[
        str | None, _option("--date", metavar="DATE", words="A study date, or a range: 20260601-20260630.")
    ] = None,
    config: ConfigFile = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many studies.")] = LIMIT,
    as_json: AsJson = False,
) -> None:
    """Find archived studies, the last archived first; all that is given must hold. Also while no router runs.

    Exit status: 0 something was found, 1 nothing.
    """
    outline = settings.outline(config)

    from asyncroute.archive.base import Wanted
    from asyncroute.rebuild import archive

    found = archive.find(outline, Wanted(study, accession, patient, _date(date)), limit)
    if as_json:
        output.facts([asdict(it) for it in found])
    elif found:
        _print_found(found, limit)
    else:
        output.note("nothing there")
    raise typer.Exit(output.OK if found else output.FAILED)


def _date(text: str | None) -> str | None:
    """As DICOM writes it; ``2026-06-01`` will do, too."""
    if text is None:
        return None
    plain = _DATE.sub(r"\1\2\3", text)
    if not re.fullmatch(r"\d{8}|\d{8}-(\d{8})?|-\d{8}", plain):
        raise typer.BadParameter("--date must be a date such as 20260601, or a range such as 20260601-20260630")
    return plain


def _print_found(found: Sequence[FoundStudy], limit: int) -> None:
    columns = ("study", "patient", "accession", "date", "images", "size", "archived", "where", "wrong")
    rows = [
        (
            *(it.study_uid, ", ".join(it.patient_ids), ", ".join(it.accessions), ", ".join(it.dates)),
            *(str(it.images), render.size(it.bytes), render.moment(it.last_at)),
            ", ".join(f"{path} ({images})" if len(it.tiers) > 1 else path for path, images in it.tiers.items()),
            str(it.wrong or ""),
        )
        for it in found
    ]
    note = f"there may be more: these are the first {limit} (--limit)" if len(rows) >= limit else ""
    output.table(render.Table("", columns, rows, frozenset({4, 5, 8}), note))


# --- orders -----------------------------------------------------------------------------------------------------------


def move(
    tier: Annotated[
        int | None, _option("--tier", metavar="N", words="Only to this tier: 2 is the second of the configuration.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Move everything that is there now to the next tier, as if its time had come; within its hours and bandwidth."""
    outline = settings.outline(config)

    from asyncroute.rebuild import archive

    paths = archive.order_move(outline, tier)
    if as_json:
        output.facts({"tiers": paths})
        return
    for path in paths:
        output.say(f"ordered: everything moves to {path}{_later(outline)}")


def replay(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY]...", help="Study Instance UIDs or accession numbers.")
    ] = None,
    since: Annotated[
        str | None, _option("--since", metavar="TIME", words="Only images received since then: 2026-06-01, or 2d.")
    ] = None,
    until: Annotated[str | None, _option("--until", metavar="TIME", words="Only images received until then.")] = None,
    to: Annotated[str | None, _option("--to", metavar="NAME", words="Only to this destination or group.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Send archived images again: through the routes of now, or with --to to one destination or group only.

    The order is kept until it is done, whatever restarts come; ``asyncroute archive status`` shows how far it is. With
    neither a study nor --since nothing is sent. Exit status: 0 ordered, 1 there is no such image, or no archive.
    """
    if not studies and since is None:
        raise typer.BadParameter("name a study, an accession number, or a time: --since 2026-06-01")
    outline = settings.outline(config)

    from asyncroute.rebuild import archive

    times = (f"--since {since}" if since else "", f"--until {until}" if until else "")
    words = " ".join(filter(None, (*(studies or ()), *times)))
    order = archive.order_replay(outline, studies or [], to or "", _time(since), _time(until), words)
    if as_json:
        output.facts(order._asdict())
    elif order.images:
        output.say(f"ordered: {order.images} images are sent again{f' to {to}' if to else ''}{_later(outline)}")
    else:
        output.complain("no archived image is meant by this")
    raise typer.Exit(output.OK if order.images else output.FAILED)


def _later(outline: Outline) -> str:
    return "" if router.locked(outline.data_dir) else ", when a router runs"


def _time(text: str | None) -> float | None:
    """A date, a date and time (of this machine's zone unless it says another), or so long ago."""
    if text is None:
        return None

    from asyncroute.config.units import parse_duration
    from asyncroute.config.words import Invalid

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - parse_duration(text)
    except Invalid:
        raise typer.BadParameter(f'not a time: {text!r}; write "2026-06-01", "2026-06-01 12:00" or "2d"') from None


# --- verify -----------------------------------------------------------------------------------------------------------


def verify(
    tier: Annotated[int | None, _option("--tier", metavar="N", words="Only this tier: 1 is the first.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look at names, lengths and headers only.")] = False,
    bandwidth: Annotated[
        str, typer.Option("--bandwidth", metavar="RATE", help="Read at most so much a second.")
    ] = "100 MB/s",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Read every archived file and compare it with what was received; look for files that nobody knows.

    What is wrong is noted, so that status tells it; what is right again is noted, too. No file is changed. Works beside
    a running router. Exit status: 0 all is sound, 1 something is not.
    """
    outline, rate = settings.outline(config), _rate(bandwidth)

    from asyncroute.rebuild import archive

    report, told = None, time.monotonic()
    for report in archive.verify(outline, tier, rate, quick):
        if sys.stderr.isatty() and time.monotonic() - told > 1:
            told = time.monotonic()
            print(f"\r{report.images} images, {render.size(report.bytes)} ", end="", file=sys.stderr, flush=True)
    assert report is not None
    if as_json:
        output.facts(asdict(report))
    else:
        _print_verified(report)
    bad = report.damaged or report.missing or report.absent or report.unknown_files
    raise typer.Exit(output.FAILED if bad else output.OK)


def _rate(text: str) -> int:
    from asyncroute.config.bandwidth import bandwidth_value
    from asyncroute.config.words import Invalid

    try:
        return int(bandwidth_value(text)[0][1] or 0)
    except Invalid as wrong:
        raise typer.BadParameter(f"--bandwidth {wrong}") from None


def _print_verified(report: Verified) -> None:
    for path, wrong in report.wrong[:TOLD]:
        output.say(f"{path}: {wrong}")
    for path in report.unknown[:TOLD]:
        output.say(f"{path}: not known to the archive")
    for path in report.absent:
        output.say(path)
    counts = (
        (report.damaged, "damaged"),
        (report.missing, "missing"),
        (report.mended, "sound again"),
        (report.unlooked, "not looked at, because their tier is not there"),
        (report.unknown_files, "files that are not known"),
    )
    odd = "".join(f", {count} {words}" for count, words in counts if count)
    output.say(f"{report.images} images, {render.size(report.bytes)} looked at{odd or ': all are sound'}")
