"""``asyncroute reload``: a running router takes over its configuration file as it is now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from asyncroute.cli import output, router
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.core.errors import OurFault
from asyncroute.status.client import Client

if TYPE_CHECKING:
    from asyncroute.config.outline import Outline


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Make a running router take over its changed configuration.",
        epilog=example("asyncroute reload -c /etc/asyncroute.toml"),
    )(reload)


def reload(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Make the running router take over its configuration file, without dropping an association.

    A wrong one is refused and the old one goes on. SIGHUP does the same. Exit status: 0 done, 1 refused or not running.
    """
    changes = router.ask(config, Client.reload, _not_running)
    if as_json:
        output.say(json.dumps({"changes": changes}))
        return
    for change in changes or ["nothing changed"]:
        output.say(change)


def _not_running(outline: Outline) -> list[str]:
    raise OurFault(f"no router is running in {outline.data_dir}")
