"""``asyncroute user``: the users of a listener with ``user_identity``, in their file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from asyncroute.cli import output
from asyncroute.cli.options import AsJson, example
from asyncroute.core.errors import OurFault

UsersFile = Annotated[Path, typer.Argument(metavar="FILE", help="The users_file of the configuration.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
FromStandardInput = Annotated[
    bool, typer.Option("--stdin", help="Read the passcode from standard input (one line) instead of asking for it.")
]


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Users who must name themselves to a listener (user_identity): add, remove, list.", no_args_is_help=True
    )
    group.command(
        short_help="Add a user, or change the passcode of one.",
        epilog=example("asyncroute user add /etc/asyncroute.users ct-site-a", "asyncroute user add users ct --stdin"),
    )(add)
    group.command(short_help="Remove a user.", epilog=example("asyncroute user remove /etc/asyncroute.users old"))(
        remove
    )
    group.command("list", short_help="List the users.", epilog=example("asyncroute user list /etc/asyncroute.users"))(
        list_
    )
    app.add_typer(group, name="user")


def add(file: UsersFile, name: Name, stdin: FromStandardInput = False) -> None:
    """Add a user, or change the passcode of one: it is asked for twice, and only its hash is kept.

    FILE is made if it is not there, for its owner only. A running router takes the change over at its next reload.
    Exit status: 0 done, 1 the file or the name cannot be used.
    """
    from asyncroute.link import users

    if problem := users.name_problem(name):
        raise OurFault(problem)
    passcode = _line() if stdin else typer.prompt("Passcode", hide_input=True, confirmation_prompt=True)
    if not passcode:
        raise OurFault("the passcode is empty")
    new = users.put(file, name, passcode.encode("utf-8", "surrogateescape"))
    output.say(f"{file}: {name}: {'added' if new else 'another passcode'}; a running router needs a reload")


def _line() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def remove(file: UsersFile, name: Name) -> None:
    """Remove a user. A running router takes the change over at its next reload.

    Exit status: 0 done, 1 there is no such user, or the file cannot be used.
    """
    from asyncroute.link import users

    if not users.remove(file, name):
        raise OurFault(f"{file}: there is no user {name!r}")
    output.say(f"{file}: {name}: removed; a running router needs a reload")


def list_(file: UsersFile, as_json: AsJson = False) -> None:
    """List the names of the users. Exit status: 0 done, 1 the file cannot be used."""
    from asyncroute.link import users

    names = users.names(file)
    if as_json:
        output.facts(names)
        return
    for name in names:
        output.say(name)
