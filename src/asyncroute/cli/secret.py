"""``asyncroute secret``: a new file with a secret, for pseudonyms and new UIDs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asyncroute.cli import output
from asyncroute.cli.options import example
from asyncroute.core.errors import OurFault


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Make a file with a new secret.",
        epilog=example("asyncroute secret /etc/asyncroute/research.secret"),
    )(secret)


def secret(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make; it must not be there yet.")],
) -> None:
    """Make a file with a new secret, for ``secret_file`` in a transform. Only its owner may read it.

    Routers with the same secret make the same pseudonyms and UIDs. Keep a copy in a safe place: without it nobody can
    make the same ones again.
    """
    from asyncroute.config import secrets

    try:
        secrets.create(file)
    except OSError as error:
        raise OurFault(f"{file}: {(error.strerror or str(error)).lower()}") from error
    output.say(f"{file}: made; it is readable by you only")
