"""Commands whose part is not built yet: they say so, and are not shown in the help."""

from __future__ import annotations

from collections.abc import Callable

import typer

from asyncroute.cli import output

COMMANDS = ("explain", "plan", "batch", "watch", "archive", "replay")
QUEUE_COMMANDS = ("reroute",)
_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_to(app: typer.Typer, names: tuple[str, ...] = COMMANDS, prefix: str = "") -> None:
    """Add the commands ``names``; ``prefix``: the name of their group."""
    for name in names:
        app.command(name, hidden=True, context_settings=_ANYTHING)(_not_yet(f"{prefix}{name}"))


def _not_yet(name: str) -> Callable[[typer.Context], None]:
    def command(_: typer.Context) -> None:
        output.complain(f"{name}: not available yet")
        raise typer.Exit(output.UNUSABLE)

    return command
