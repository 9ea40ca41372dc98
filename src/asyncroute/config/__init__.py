"""The configuration: TOML in, one frozen object out, or every mistake with its line.

`load`, `loads`, `find` and `embedded_default` give a `Config`; `compile_routes` gives its route table.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncroute.config.conditions import compile_routes
    from asyncroute.config.destinations import (
        Association,
        Backlog,
        Destination,
        DicomDestination,
        FolderDestination,
        Retry,
        TlsClient,
    )
    from asyncroute.config.groups import Group
    from asyncroute.config.listeners import Listener, TlsServer
    from asyncroute.config.loading import embedded_default, find, load, loads
    from asyncroute.config.model import Config, Node, Route
    from asyncroute.config.watching import Watch
    from asyncroute.core.errors import ConfigError

__all__ = [
    "Association",
    "Backlog",
    "Config",
    "ConfigError",
    "Destination",
    "DicomDestination",
    "FolderDestination",
    "Group",
    "Listener",
    "Node",
    "Retry",
    "Route",
    "TlsClient",
    "TlsServer",
    "Watch",
    "compile_routes",
    "embedded_default",
    "find",
    "load",
    "loads",
]

_FROM = {
    "Association": "asyncroute.config.destinations",
    "Backlog": "asyncroute.config.destinations",
    "Config": "asyncroute.config.model",
    "ConfigError": "asyncroute.core.errors",
    "Destination": "asyncroute.config.destinations",
    "DicomDestination": "asyncroute.config.destinations",
    "FolderDestination": "asyncroute.config.destinations",
    "Group": "asyncroute.config.groups",
    "Listener": "asyncroute.config.listeners",
    "Node": "asyncroute.config.model",
    "Retry": "asyncroute.config.destinations",
    "Route": "asyncroute.config.model",
    "TlsClient": "asyncroute.config.destinations",
    "TlsServer": "asyncroute.config.listeners",
    "Watch": "asyncroute.config.watching",
    "compile_routes": "asyncroute.config.conditions",
    "embedded_default": "asyncroute.config.loading",
    "find": "asyncroute.config.loading",
    "load": "asyncroute.config.loading",
    "loads": "asyncroute.config.loading",
}


def __getattr__(name: str) -> object:
    """What is asked for is imported then: many a command needs one small module of this package only."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_FROM[name]), name)
    globals()[name] = found
    return found
