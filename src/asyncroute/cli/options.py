"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="The configuration; without it ./asyncroute.toml, else the embedded default.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
Calling = Annotated[
    str | None,
    typer.Option("--calling", metavar="AET", help="Our AE title towards the other side.", show_default=False),
]


def example(*lines: str) -> str:
    """The end of a command's help; ``\\b`` keeps its lines as they are."""
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])
