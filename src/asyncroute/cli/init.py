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
        epilog=example("asyncroute init", "asyncroute init /etc/asyncroute.toml --example thirty-sites"),
    )(init)


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, or a folder for it.")] = Path(FILE),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    scenario: Annotated[
        str | None, typer.Option("--example", metavar="NAME", help="Start from an example.", show_default=False)
    ] = None,
    list_examples: Annotated[bool, typer.Option("--list-examples", help="Show the examples, write nothing.")] = False,
) -> None:
    """Write a commented configuration that works as it is, and says what else there is; or an example."""
    if list_examples:
        for name, each in examples().items():
            output.say(f"{name}: {_question(each)}")
        return
    target = path / FILE if path.is_dir() else path
    texts = {target: template()} if scenario is None else _example(scenario, target)
    for file, text in texts.items():
        _write(file, text, force)
    given = "" if target == Path(FILE) else f" -c {target}"
    output.say(f"wrote {target}; next: asyncroute check{given}, then asyncroute serve{given}")


def _write(target: Path, text: str, force: bool) -> None:
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OurFault(f"{target}: is there already; --force overwrites it") from None
    except OSError as error:
        raise OurFault(f"{target}: cannot be written: {(error.strerror or str(error)).lower()}") from None


def template() -> str:
    """The text that ``init`` writes."""
    return resources.files("asyncroute.cli").joinpath("template.toml").read_text("utf-8")


def examples() -> dict[str, Path]:
    """The examples by name: beside the program's modules where it is installed, else in the sources."""
    package = Path(str(resources.files("asyncroute")))
    folders = (package / "examples", package.parents[1] / "examples")
    return {file.stem: file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.toml"))}


def _example(name: str, target: Path) -> dict[Path, str]:
    """What to write: the example, and files with functions that it names."""
    known = examples()
    if name not in known:
        raise OurFault(f"no example is called {name!r}; there is {', '.join(known)}")
    text = known[name].read_text("utf-8")
    functions = [file for file in known[name].parent.glob("*.py") if f'"{file.name}:' in text]
    return {target: text} | {target.with_name(file.name): file.read_text("utf-8") for file in functions}


def _question(file: Path) -> str:
    """Which question it answers: the first lines of its comment."""
    lines = file.read_text("utf-8").split("\n#\n")[0].splitlines()
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
