"""``asyncroute why``: the whole story of an image, a study or an accession number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output, router
from asyncroute.cli.options import AsJson, ConfigFile, example

if TYPE_CHECKING:
    from asyncroute.config.outline import Outline

LIMIT = 10


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Tell what became of an image, a study or an accession number.",
        epilog=example("asyncroute why 1.2.840.113619.2.1.1", "asyncroute why A12345 --json"),
    )(why)


def why(
    name: Annotated[
        str,
        typer.Argument(
            metavar="UID|ACCESSION", help="A SOP Instance UID, a Study Instance UID or an accession number."
        ),
    ],
    config: ConfigFile = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many images in detail.")] = LIMIT,
    as_json: AsJson = False,
) -> None:
    """Tell from whom an image came, where it had to go, and what happened; also of a router that does not run.

    Of a study: how many images are where, and in detail those that are not plainly delivered.
    """
    asked = {"name": name, "limit": limit}

    def when_stopped(outline: Outline) -> dict[str, Any]:
        from asyncroute.cli import stopped

        return stopped.why(outline, asked)

    found = router.ask(config, lambda client: client.why(asked), when_stopped)
    if as_json:
        output.facts(found)
        return
    from asyncroute.status import story_text

    print(story_text.text(found))
