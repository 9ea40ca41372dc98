"""``asyncroute serve``: run the router."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from asyncroute.cli import output, settings
from asyncroute.cli.options import ConfigFile, example

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from asyncroute.app import App
    from asyncroute.config import Config, Destination


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(short_help="Run the router.", epilog=example("asyncroute serve -c /etc/asyncroute.toml"))(serve)


def serve(config: ConfigFile = None) -> None:
    """Run the router, until SIGTERM or Ctrl-C: then what is under way is finished (a second one ends it at once).

    The log goes to standard error. Exit status: 0 after an orderly stop, 1 it cannot run, 2 wrong configuration.
    """
    from asyncroute.cli import logs

    loaded = settings.load(config)
    logs.set_up(output.debugging())
    _allow_many_files()

    import uvloop

    with _without_numpy():
        from asyncroute import app

    _leave(uvloop.run(app.serve(loaded, _announce)))


@contextlib.contextmanager
def _without_numpy() -> Iterator[None]:
    """pydicom imports numpy and what decodes pixels where they are installed, an eighth of the memory that the router
    needs. It does not use them: worker processes do, and they import them for themselves."""
    import sys

    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: such an import fails
    if "numpy" in modules:
        yield
        return
    modules["numpy"] = None
    try:
        yield
    finally:
        del modules["numpy"]


def _leave(status: int) -> None:
    """End the process. A thread that hangs (a dead mount) must not keep it: all that matters is durable by now."""
    import logging
    import os
    import sys
    import threading

    if threading.active_count() > 1:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)
    raise typer.Exit(status)


def _allow_many_files() -> None:
    """Each association takes a descriptor, and 1,024, the usual soft limit, is meant for programs that select()."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _announce(app: App) -> None:
    """Say what runs now. Nobody need read it: a closed standard output is no reason not to run."""
    try:
        for line in announcement(app.config, [listener.port for listener in app.intake.listeners]):
            output.say(line)
        print(end="", flush=True)
    except OSError:
        output.reader_went_away()


def announcement(config: Config, ports: list[int]) -> list[str]:
    """One line for the node, for each listener (its port: where it really listens) and for each destination."""
    source = config.path or "no configuration file: the embedded default"
    lines = [f"node: {config.node.name} ({source}), data in {config.node.data_dir}"]
    for listener, port in zip(config.listeners, ports, strict=True):
        tls = " with TLS" if listener.tls else ""
        lines.append(f"listening: {listener.ae_title} on {_address(listener.host, port)}{tls}")
    lines += [f"destination: {destination.name} ({describe(destination)})" for destination in config.destinations]
    lines += [f"group: {group.name} ({group.mode}: {', '.join(group.members)})" for group in config.groups]
    if not config.routes:
        lines.append(f"no [[route]]: what is received has nowhere to go (unrouted = {config.node.unrouted!r})")
    return lines


def describe(destination: Destination) -> str:
    """A destination in a few words: ``dicom PACS@10.0.0.5:104, 10 associations``."""
    if destination.kind == "folder":
        return f"folder {destination.path}"
    tls = ", TLS" if destination.tls else ""
    where = f"{destination.ae_title}@{_address(destination.host, destination.port)}"
    return f"dicom {where}, {destination.max_associations} associations{tls}"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
