"""``asyncroute status``: how the router is, running or stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output, router
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.core.errors import AsyncrouteError
from asyncroute.status import render
from asyncroute.status.attention import needs_person
from asyncroute.status.client import Client

if TYPE_CHECKING:
    from asyncroute.config.outline import Outline

PERIOD = 1.0
"""Seconds between two looks with ``--watch``."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Show how the router is, running or stopped.",
        epilog=example("asyncroute status -c /etc/asyncroute.toml", "asyncroute status --watch"),
    )(status)


def status(
    config: ConfigFile = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, until Ctrl-C.")] = False,
) -> None:
    """Show channels, associations, backlog and what needs a person; also of a router that does not run.

    Exit status: 0 all is well, 1 something needs a person, 2 it cannot be told.
    """
    if watch:
        _watch(config, as_json)
    raise typer.Exit(_show(config, as_json))


def look(config: Path | None) -> dict[str, Any]:
    """The snapshot, with what needs a person. Raises AsyncrouteError: it cannot be told."""
    found = router.ask(config, Client.status, _stopped)
    return found | {"needs_person": needs_person(found)}


def _stopped(outline: Outline) -> dict[str, Any]:
    from asyncroute.cli import stopped

    return stopped.status(outline)


def _show(config: Path | None, as_json: bool) -> int:
    try:
        found = look(config)
    except AsyncrouteError as error:
        return _cannot_tell(error, as_json)
    if as_json:
        output.facts(found)
    elif output.on_terminal():
        output.console().print(render.rich_text(found))
    else:
        print(render.text(found))
    return output.FAILED if found["needs_person"] else output.OK


def _cannot_tell(error: AsyncrouteError, as_json: bool) -> int:
    output.told(error)
    if as_json:
        output.facts({"error": str(error)})
    return output.UNUSABLE


# --- watching ---------------------------------------------------------------------------------------------------------


def _watch(config: Path | None, as_json: bool) -> None:
    """Until Ctrl-C, which is how it ends well."""
    try:
        if output.on_terminal() and not as_json:
            _watch_live(config)
        while True:
            _print_again(config, as_json)
            time.sleep(PERIOD)
    except KeyboardInterrupt:
        raise typer.Exit(output.OK) from None


def _watch_live(config: Path | None) -> None:
    from rich.live import Live

    with Live(console=output.console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(_picture(config), refresh=True)
            time.sleep(PERIOD)


def _picture(config: Path | None) -> Any:
    from rich.text import Text

    try:
        return render.rich_text(look(config))
    except AsyncrouteError as error:
        return Text(render.clean(" ".join(str(error).splitlines())))


def _print_again(config: Path | None, as_json: bool) -> None:
    """One look: a line of JSON, or a block of text."""
    try:
        found = look(config)
    except AsyncrouteError as error:
        found = {"error": str(error)}
    if as_json:
        print(json.dumps(found), flush=True)
    else:
        shown = found["error"] if "error" in found else render.text(found)
        print(shown if "error" not in found else render.clean(shown), end="\n\n", flush=True)
