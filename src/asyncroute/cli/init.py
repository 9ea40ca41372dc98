"""``asyncroute init``: a commented configuration to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from asyncroute.cli import output
from asyncroute.cli.options import example
from asyncroute.core.errors import OurFault

FILE = "asyncroute.toml"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Write a commented configuration to start from.",
        epilog=example("asyncroute init", "asyncroute init /etc/asyncroute.toml"),
    )(init)


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, or a folder for it.")] = Path(FILE),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a commented configuration that works as it is, and says what else there is."""
    target = path / FILE if path.is_dir() else path
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise OurFault(f"{target}: is there already; --force overwrites it") from None
    except OSError as error:
        raise OurFault(f"{target}: cannot be written: {(error.strerror or str(error)).lower()}") from None
    given = "" if target == Path(FILE) else f" -c {target}"
    output.say(f"wrote {target}; next: asyncroute check{given}, then asyncroute serve{given}")


def template() -> str:
    """The text that ``init`` writes."""
    return resources.files("asyncroute.cli").joinpath("template.toml").read_text("utf-8")
