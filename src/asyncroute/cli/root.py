"""The command ``asyncroute``: its sub-commands, and what becomes of their failures.

Guarantees: no traceback unless ``ASYNCROUTE_DEBUG=1``: what went wrong is one line on standard error (a configuration:
one line per problem), and the exit status is not 0.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from asyncroute import __version__
from asyncroute.cli import output
from asyncroute.core.errors import AsyncrouteError

# Typer brings its own copy of click or uses the installed one, depending on its version.
_ClickException: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

MODULES: Mapping[str, tuple[str, ...]] = {
    "serve": ("serve",),
    "status": ("status",),
    "why": ("why",),
    "reload": ("reload",),
    "rebuild": ("rebuild",),
    "check": ("check",),
    "explain": ("explain",),
    "plan": ("plan",),
    "init": ("init",),
    "echo": ("echo",),
    "send": ("send",),
    "demo": ("demo",),
    "secret": ("secret",),
    "reidentify": ("reidentify",),
    "queue": ("queue",),
    "archive": ("archive", "replay"),
    "user": ("user",),
    "batches": ("watch", "batch"),
}
"""Which module of this folder has which commands, in the order of the help."""


def application(word: str = "") -> typer.Typer:
    """The command line with the commands of the one module that knows ``word``; if none does, with all of them.

    To make what typer needs of all commands takes longer than most commands take.
    """
    made = typer.Typer(
        help="A DICOM router: receives images from many senders, keeps them safe, delivers them in parallel.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    made.callback()(_root)
    for name in [name for name, words in MODULES.items() if word in words] or MODULES:
        import_module(f"asyncroute.cli.{name}").add_to(made)
    return made


def _show_version(wanted: bool) -> None:
    if wanted:
        output.say(f"asyncroute {__version__}")
        raise typer.Exit


def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if not sys.platform.startswith("linux"):
        output.complain("asyncroute runs on Linux only; docs/platforms.md tells how to use it in containers and WSL2")
        raise typer.Exit(output.FAILED)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; its exit status."""
    output.prepare_streams()
    try:
        return _run(list(arguments))
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted()
    except AsyncrouteError as error:
        return output.told(error)
    except BrokenPipeError:
        return output.reader_went_away()
    except Exception as error:
        return _misused(error) if isinstance(error, _ClickException) else output.unexpected(error)


def _run(arguments: list[str]) -> int:
    app = application(arguments[0] if arguments else "")
    status = app(args=arguments, prog_name=output.PROGRAM, standalone_mode=False)
    sys.stdout.flush()
    if status == output.INTERRUPTED:  # as some versions of typer tell of Ctrl-C
        return _interrupted()
    return status if isinstance(status, int) else output.OK


def _interrupted() -> int:
    output.note("interrupted")
    return output.INTERRUPTED


def _misused(error: Any) -> int:
    """A wrong command line; one without a command shows the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)
    else:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else output.PROGRAM
        output.complain(f"{error.format_message().rstrip('.')}; see {path} --help")
    return int(error.exit_code)
