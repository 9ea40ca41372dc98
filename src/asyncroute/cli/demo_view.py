"""How far the demo is: a live display on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from asyncroute.cli import output

if TYPE_CHECKING:
    from asyncroute.cli.demo import Scene

Look = Callable[[dict[str, Any]], None]
EVERY = 0.5
"""Seconds between two plain lines."""


@contextmanager
def view(scene: Scene, quiet: bool) -> Iterator[Look]:
    """What is called with each new status of the router."""
    if quiet:
        yield lambda _: None
    elif output.on_terminal():
        with _live(scene) as look:
            yield look
    else:
        yield _plain(scene)


def numbers(scene: Scene) -> list[tuple[str, int, int]]:
    """What there is to watch: its name, how many by now, of how many."""
    arrivals = [(f"arrived at {p.name}", len(p.arrived), scene.expected(p).total()) for p in scene.peers]
    return [("acknowledged by the router", scene.sent, len(scene.samples)), *arrivals]


def router_line(status: dict[str, Any]) -> str:
    """The router's own state in a line."""
    both = status["associations"]
    open_now = f"{len(both['inbound'])} associations in, {len(both['outbound'])} out"
    return f"router: {open_now}; {status['totals']['waiting']} deliveries wait"


def _plain(scene: Scene) -> Look:
    said_at, said = 0.0, ""

    def look(status: dict[str, Any]) -> None:
        nonlocal said_at, said
        line = ", ".join(f"{name} {done}/{total}" for name, done, total in numbers(scene))
        whole = all(done >= total for _, done, total in numbers(scene))
        if line != said and (whole or time.monotonic() - said_at >= EVERY):
            said_at, said = time.monotonic(), line
            output.say(f"{line}; {router_line(status)}")

    return look


@contextmanager
def _live(scene: Scene) -> Iterator[Look]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.text import Text

    bars = Progress(TextColumn("{task.description:<27}"), BarColumn(), MofNCompleteColumn())
    tasks = [bars.add_task(name, total=total) for name, _, total in numbers(scene)]
    with Live(bars, console=Console(highlight=False), refresh_per_second=10) as live:

        def look(status: dict[str, Any]) -> None:
            for task, (_, done, _) in zip(tasks, numbers(scene), strict=True):
                bars.update(task, completed=done)
            live.update(Group(bars, Text(router_line(status))))

        yield look
