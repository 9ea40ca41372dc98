"""``asyncroute reidentify``: from a pseudonym back to whom it stands for."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from asyncroute.cli import output
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.core.errors import OurFault


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Find whom a pseudonym stands for.",
        epilog=example("asyncroute reidentify 88VEE41DNS3HSS8F", "asyncroute reidentify image.dcm --json"),
    )(reidentify)


def reidentify(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PSEUDONYM|UID|FILE", help="A pseudonym, a new UID of a study, series or image, or a file."
        ),
    ],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Find whom or what a pseudonym of this router stands for: in its crosswalk, of an image's UID in its journal.

    Exit status: 0 found, 1 nobody knows it.
    """
    from asyncroute.cli import settings
    from asyncroute.reidentify import originals

    loaded = settings.load(config)
    found = originals(loaded.node.data_dir, name, loaded.node.crosswalk_key())
    if as_json:
        output.facts({"originals": found})
    else:
        for row in found:
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["since"]))
            output.say(f"{row['pseudonym']}  {row['kind']}: {row['original']}  (since {since})")
    if not found:
        raise OurFault(f"{name}: neither in the crosswalk nor in the journal in {loaded.node.data_dir}")
