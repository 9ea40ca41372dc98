"""``asyncroute echo``: can we talk to this DICOM peer?"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from asyncroute.cli import output
from asyncroute.cli.options import AsJson, Calling, ConfigFile, example


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = ("asyncroute echo pacs", "asyncroute echo PACS@10.0.0.5:104 --calling CT_A")
    app.command(short_help="Try to talk to one DICOM peer, step by step.", epilog=example(*lines))(echo)


def echo(
    target: Annotated[str, typer.Argument(metavar="NAME|AET@HOST:PORT", show_default=False)],
    calling: Calling = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Try address, TCP, TLS, association and C-ECHO with one peer, and say which side to look at where it fails.

    NAME is a destination of the configuration. Exit status: 0 it answers, 1 it does not.
    """
    import asyncio

    from asyncroute.cli import peer, trials
    from asyncroute.cli.target import find

    found = find(target, calling, config)
    if found.depends:
        output.note(f"{found.name}: the calling AE title depends on the sender; trying {', '.join(found.calling)}")
    began = time.monotonic()

    async def run() -> list[peer.Trial]:
        place = peer.target_of(found.destination)
        async with peer.shared_means() as shared:
            return [await peer.try_out(found.name, place, title, shared) for title in found.calling]

    done = asyncio.run(run())
    seconds = time.monotonic() - began
    good = all(trial.ok for trial in done)
    if as_json:
        output.facts({"ok": good, "seconds": round(seconds, 6), "trials": [trials.as_facts(trial) for trial in done]})
    else:
        for trial in done:
            trials.show(trial)
        output.say(f"{'answers' if good else 'does not answer as it should'}, after {seconds:.2f} s")
    raise typer.Exit(output.OK if good else output.FAILED)
