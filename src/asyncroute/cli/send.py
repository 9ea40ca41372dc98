"""``asyncroute send``: send files and folders to a DICOM peer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output
from asyncroute.cli.options import AsJson, Calling, ConfigFile, example
from asyncroute.core.errors import OurFault
from asyncroute.status import render

if TYPE_CHECKING:
    from asyncroute.cli.files import Found
    from asyncroute.cli.sending import Tally
    from asyncroute.cli.target import Peer

MOST_LINES = 20
"""Files of a kind that are listed by name; ``--json`` lists all."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = ("asyncroute send ~/images --to pacs", "asyncroute send a.dcm b.dcm --to PACS@10.0.0.5:104 --calling CT_A")
    app.command(short_help="Send files and folders to a DICOM peer.", epilog=example(*lines))(send)


def send(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="NAME|AET@HOST:PORT", help="The receiver.", show_default=False)],
    calling: Calling = None,
    associations: Annotated[int, typer.Option("--associations", min=1, max=64, help="How many at a time.")] = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Send DICOM files, and those in folders and their sub-folders, byte for byte as they are.

    NAME is a destination of the configuration. Files that are not DICOM are listed and left out. Exit status: 0 all
    images were sent, 1 some were not.
    """
    from asyncroute.cli import files
    from asyncroute.cli.target import find

    peer = find(to, calling, config)
    found = files.find(paths)
    if not found.images and not found.failed:
        raise OurFault(f"no DICOM file among the {len(found.skipped)} files in {', '.join(map(str, paths))}")
    began = time.monotonic()
    tally = _send(peer, found, associations, quiet=as_json)
    seconds = time.monotonic() - began
    tally.failed[:0] = found.failed
    if as_json:
        output.facts(_facts(peer, found, tally, seconds))
    else:
        _summarize(peer, found, tally, seconds)
    raise typer.Exit(output.FAILED if tally.failed else output.OK)


def _send(peer: Peer, found: Found, associations: int, quiet: bool) -> Tally:
    import uvloop

    from asyncroute.cli.peer import shared_means, target_of
    from asyncroute.cli.sending import Sending

    async def run() -> Tally:
        total = sum(image.size for image in found.images)
        async with shared_means() as shared:
            with _progress(total, len(found.images), quiet) as moved:
                sending = Sending(target_of(peer.destination), peer.calling[0], shared, lambda: moved(sending.tally))
                return await sending.run(found.images, associations)

    return uvloop.run(run())


@contextmanager
def _progress(total: int, images: int, quiet: bool) -> Iterator[Callable[[Tally], None]]:
    """A progress bar on standard error, if a person sees it; what moves it."""
    if quiet or not output.on_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        *(TextColumn("{task.fields[images]}"), BarColumn(), DownloadColumn(binary_units=True)),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, images=f"0/{images} images")

        def moved(tally: Tally) -> None:
            bar.update(task, completed=tally.bytes, images=f"{tally.done}/{images} images")

        yield moved


# --- what is said -----------------------------------------------------------------------------------------------------


def _summarize(peer: Peer, found: Found, tally: Tally, seconds: float) -> None:
    _list("skipped", found.skipped)
    _list("sent, with a warning", tally.warned)
    _list("NOT sent", tally.failed)
    rate = tally.bytes / seconds if seconds else 0
    output.say(
        f"{tally.sent} of {tally.sent + len(tally.failed)} images sent to {peer.name} as {peer.calling[0]}: "
        f"{render.size(tally.bytes)} in {seconds:.2f} s ({render.size(rate)}/s), {tally.associations} associations"
    )


def _list(title: str, lines: Sequence[tuple[Path, str]]) -> None:
    for path, why in lines[:MOST_LINES]:
        output.say(f"{title}: {path}: {why}")
    if len(lines) > MOST_LINES:
        output.say(f"{title}: and {len(lines) - MOST_LINES} more (--json lists all)")


def _facts(peer: Peer, found: Found, tally: Tally, seconds: float) -> dict[str, Any]:
    def listed(lines: Sequence[tuple[Path, str]]) -> list[dict[str, str]]:
        return [{"path": str(path), "reason": why} for path, why in lines]

    return {
        "to": peer.name,
        "calling_aet": peer.calling[0],
        "sent": tally.sent,
        "bytes": tally.bytes,
        "seconds": round(seconds, 6),
        "associations": tally.associations,
        "warned": listed(tally.warned),
        "failed": listed(tally.failed),
        "skipped": listed(found.skipped),
    }
