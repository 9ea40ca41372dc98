"""Commands whose part is not built yet: they say so, and are not shown in the help."""

from __future__ import annotations

from collections.abc import Callable

import typer

from asyncroute.cli import output

COMMANDS = ("batch", "watch")
_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_to(app: typer.Typer) -> None:
    """Add them."""
    for name in COMMANDS:
        app.command(name, hidden=True, context_settings=_ANYTHING)(_not_yet(name))


def _not_yet(name: str) -> Callable[[typer.Context], None]:
    def command(_: typer.Context) -> None:
        output.complain(f"{name}: not available yet")
        raise typer.Exit(output.UNUSABLE)

    return command
