"""The configuration: TOML in, one frozen object out, or every mistake with its line.

`load`, `loads`, `find` and `embedded_default` give a `Config`; `compile_routes` gives its route table.
"""

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
from asyncroute.config.load import embedded_default, find, load, loads
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
