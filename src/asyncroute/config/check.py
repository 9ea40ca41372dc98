"""What must be right between the tables of a configuration.

Purpose: names that must exist or differ, ports that clash, files that must be there, routers that would send to
themselves.
Guarantees: works on what could be read, with the indexes of the file, so that a mistake in one table does not hide
those in others. Looks at the file system, but opens nothing and asks no name server.
Failures: none; problems are reported through `report(loc, text)`.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asyncroute.config.archive import Archive, check_archive
from asyncroute.config.cases import Case, compile_case
from asyncroute.config.codecs import check_codecs
from asyncroute.config.conditions import compile_route
from asyncroute.config.destinations import Destination, DicomDestination, FolderDestination
from asyncroute.config.fields import title_template
from asyncroute.config.groups import Group
from asyncroute.config.listeners import Listener
from asyncroute.config.model import Node, Route
from asyncroute.config.peers import Peer
from asyncroute.config.table import Table
from asyncroute.config.transforms import Transform
from asyncroute.config.watching import Watch, check_watch_names, check_watches
from asyncroute.config.words import Loc, did_you_mean, quote

Report = Callable[[Loc, str], None]


@dataclass
class Parts:
    """What could be read of a file: tables with their index in it, and the names that the unreadable ones have."""

    node: Node | None = None
    archive: Archive | None = None
    listeners: list[tuple[int, Listener]] = field(default_factory=list)
    destinations: list[tuple[int, Destination]] = field(default_factory=list)
    groups: list[tuple[int, Group]] = field(default_factory=list)
    routes: list[tuple[int, Route]] = field(default_factory=list)
    peers: list[tuple[int, Peer]] = field(default_factory=list)
    transforms: dict[str, Transform] = field(default_factory=dict)
    transform_names: tuple[str, ...] = ()
    """Those of unreadable ones as well."""
    cases: list[tuple[int, Case]] = field(default_factory=list)
    watches: list[tuple[int, Watch]] = field(default_factory=list)
    names: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """The names of all tables of an array that have one, readable or not: ``names["destination"]``."""
    all_listeners: bool = True
    """Whether every listener of the file could be read."""


def check(parts: Parts, report: Report) -> None:
    """Report everything that is wrong between the tables."""
    _check_ports(parts.listeners, report)
    _check_names(parts, report)
    _check_groups(parts, report)
    _check_routes(parts, report)
    _check_files(parts, report)
    _check_folders(parts, report)
    _check_loops(parts, report)
    _check_proof(parts, report)
    check_codecs(parts.destinations, report)
    _check_cases(parts, report)
    if parts.archive is not None:
        folders = [(d.name, d.path) for _, d in parts.destinations if isinstance(d, FolderDestination)]
        check_archive(parts.archive, parts.node.data_dir if parts.node else None, folders, report)
    check_watches(parts.watches, parts.node.data_dir if parts.node else None, parts.destinations, report)
    _check_watch_conditions(parts, report)


# --- Listeners -------------------------------------------------------------------------------------------------------


def _check_ports(listeners: Sequence[tuple[int, Listener]], report: Report) -> None:
    for n, (index, one) in enumerate(listeners):
        for earlier, other in listeners[:n]:
            if one.port and one.port == other.port and _same_address(one.host, other.host):
                report(("listener", index, "port"), f"{one.port} is already used by listener[{earlier}]")
                break


def _same_address(one: str, other: str) -> bool:
    return one.lower() == other.lower() or (_version(one) == _version(other) and (_is_any(one) or _is_any(other)))


def _version(host: str) -> int:
    return 6 if ":" in host else 4


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")


# --- Names -----------------------------------------------------------------------------------------------------------


def _check_names(parts: Parts, report: Report) -> None:
    for array, names in parts.names.items():
        seen: dict[str, int] = {}
        for index, name in names:
            if name in seen:
                report((array, index, "name"), f"{quote(name)} is already the name of {array}[{seen[name]}]")
            seen.setdefault(name, index)


def _check_groups(parts: Parts, report: Report) -> None:
    destinations = [name for _, name in parts.names.get("destination", [])]
    groups = [name for _, name in parts.names.get("group", [])]
    for index, name in parts.names.get("group", []):
        if name in destinations:
            report(("group", index, "name"), f"{quote(name)} is already the name of a destination")
    for index, group in parts.groups:
        for n, name in enumerate(group.members):
            place = ("group", index, "members", n)
            if name in group.members[:n]:
                report(place, f"{quote(name)} is a member already")
            elif name in groups and name not in destinations:
                report(place, f"{quote(name)} is a group: members must be destinations")
            elif name not in destinations:
                report(place, _nobody("destination", name, destinations))


def _nobody(what: str, name: str, known: Sequence[str]) -> str:
    there_is = f"; there is {', '.join(map(quote, known))}" if 0 < len(known) <= 5 else ""
    return f"no {what} is called {quote(name)}{did_you_mean(name, known, there_is)}"


def _check_routes(parts: Parts, report: Report) -> None:
    known = [name for array in ("destination", "group") for _, name in parts.names.get(array, [])]
    what = "destination or group" if parts.names.get("group") else "destination"
    listeners = [listener for _, listener in parts.listeners] if parts.all_listeners else None
    for index, route in parts.routes:
        for n, name in enumerate(route.to):
            if name not in known:
                report(("route", index, "to", n), _nobody(what, name, known))
        for n, name in enumerate(route.transform):
            if name not in parts.transform_names:
                report(("route", index, "transform", n), _nobody("transform", name, parts.transform_names))
            elif name in route.transform[:n]:
                report(("route", index, "transform", n), f"{quote(name)} is there already")
        compile_route(route, listeners, _below(("route", index), report))


def _check_watch_conditions(parts: Parts, report: Report) -> None:
    """Routes that ask for a watch which does not exist."""
    names = [name for _, name in parts.names.get("watch", [])]
    for index, route in parts.routes:
        for where, table in (("match", route.match), ("unless", route.unless)):
            value = table.get("watch", ())
            for text in value if isinstance(value, list | tuple) else [value]:
                what = check_watch_names(names, text) if isinstance(text, str) else ""
                if what:
                    report(("route", index, where, "watch"), what)


def _below(place: Loc, report: Report) -> Report:
    return lambda loc, text: report(place + loc, text)


# --- Files and folders -----------------------------------------------------------------------------------------------


def _check_files(parts: Parts, report: Report) -> None:
    for index, listener in parts.listeners:
        _check_tls(listener.tls, ("listener", index, "tls"), report)
        _check_tls(listener.user_identity, ("listener", index, "user_identity"), report)
    for index, destination in parts.destinations:
        if isinstance(destination, DicomDestination):
            _check_tls(destination.tls, ("destination", index, "tls"), report)


def _check_tls(tls: Table | None, loc: Loc, report: Report) -> None:
    for key, value in tls or ():
        if isinstance(value, Path) and not os.path.exists(value):
            report((*loc, key), f"no such file: {quote(str(value))}")
        elif isinstance(value, Path) and os.path.isdir(value):
            report((*loc, key), f"is a folder, not a file: {quote(str(value))}")


def _check_folders(parts: Parts, report: Report) -> None:
    if parts.node is None:
        return
    data_dir = _plain(parts.node.data_dir)
    if data_dir == "/":
        report(("node", "data_dir"), "cannot be the root folder")
    elif os.path.lexists(data_dir) and not os.path.isdir(data_dir):
        report(("node", "data_dir"), f"is not a folder: {quote(data_dir)}")
    for index, destination in parts.destinations:
        if isinstance(destination, FolderDestination):
            _check_folder(index, _plain(destination.path), data_dir, report)


def _check_folder(index: int, path: str, data_dir: str, report: Report) -> None:
    spool = os.path.join(data_dir, "spool")
    if path in (data_dir, spool) or path.startswith(spool + "/"):
        report(("destination", index, "path"), f"must not be where this router keeps its own files: {quote(path)}")
    elif os.path.lexists(path) and not os.path.isdir(path):
        report(("destination", index, "path"), f"is not a folder: {quote(path)}")


def _plain(path: Path) -> str:
    return os.path.normpath(path)


# --- Loops -----------------------------------------------------------------------------------------------------------


def _check_loops(parts: Parts, report: Report) -> None:
    for index, destination in parts.destinations:
        if isinstance(destination, DicomDestination):
            _check_loop(index, destination, parts.listeners, report)


def _check_loop(
    index: int, destination: DicomDestination, listeners: Iterable[tuple[int, Listener]], report: Report
) -> None:
    """A destination that is one of our listeners: every image would be received again, for ever."""
    for n, listener in listeners:
        same = destination.port == listener.port and _reaches(destination.host, listener.host)
        if same and listener.accepts_called(destination.ae_title):
            report(("destination", index), f"is this router's own listener[{n}]: images would go round for ever")


def _reaches(host: str, listening: str) -> bool:
    """Whether a connection to `host` certainly arrives at a socket that is bound to `listening`."""
    if host.lower() == listening.lower():
        return True
    if not _is_loopback(host):
        return _is_any(listening) and _version(host) == _version(listening) and _is_own_address(host)
    named = "localhost" in (host.lower(), listening.lower())
    return (_is_any(listening) and (named or _version(host) == _version(listening))) or (
        named and _is_loopback(listening)
    )


def _is_own_address(host: str) -> bool:
    """Whether ``host`` is an IP address of this machine; only such a one can be bound."""
    try:
        ipaddress.ip_address(host)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (ValueError, OSError):
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


# --- Proof of deliveries ---------------------------------------------------------------------------------------------


def _check_proof(parts: Parts, report: Report) -> None:
    seen: dict[str, int] = {}
    for index, peer in parts.peers:
        if seen.setdefault(peer.ae_title, index) != index:
            words = f"{quote(peer.ae_title)} is already the AE title of peer[{seen[peer.ae_title]}]"
            report(("peer", index, "ae_title"), words)
    for index, destination in parts.destinations:
        if isinstance(destination, DicomDestination) and destination.verify == "commit":
            _check_commitment(index, destination, parts, report)


def _check_commitment(index: int, destination: DicomDestination, parts: Parts, report: Report) -> None:
    """Reports come to the AE title under which they were asked for, on an association that the destination opens."""
    place, title = ("destination", index, "calling_ae_title"), destination.calling_ae_title
    if title_template(title).facts:
        words = 'must be one fixed title where verify = "commit", because the destination reports to it'
        report(place, f"{words}; {quote(title)} is none")
    elif parts.all_listeners and not any(x.accepts_called(title) for _, x in parts.listeners):
        words = f"no listener accepts {quote(title)} as called AE title, so the destination could not report to it"
        report(place, f'{words} (verify = "commit"): add it to accept_called')


# --- Test cases ------------------------------------------------------------------------------------------------------


def _check_cases(parts: Parts, report: Report) -> None:
    names = [name for array in ("destination", "group") for _, name in parts.names.get(array, [])]
    listeners = [listener for _, listener in parts.listeners] if parts.all_listeners else []
    for index, case in parts.cases:
        compile_case(case, names, listeners, _below(("test", index), report))
