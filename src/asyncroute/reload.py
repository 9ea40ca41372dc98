"""A new configuration for a running router, without dropping an association (promise 7).

Everything that can fail happens first: reading the file, TLS files, new listening sockets. Then the change is made in
one go on the loop. Associations that are open go on: those of a listener that is gone end when their callers end them;
lanes finish the image at hand, then reconnect under the new settings. Failures: ``ConfigError`` or ``OurFault``, and
the old configuration goes on untouched.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import ssl
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asyncroute.config import Config, compile_routes, load
from asyncroute.config.groups import choosing
from asyncroute.core.errors import OurFault
from asyncroute.forward.base import Forwarder
from asyncroute.link import certificates
from asyncroute.link.users import Users
from asyncroute.receive.listener import Listener
from asyncroute.route import Router

if TYPE_CHECKING:
    from asyncroute.app import App

log = logging.getLogger(__name__)

FIXED = ("name", "data_dir", "durability", "memory", "max_outbound", "workers", "worker_memory", "crosswalk_key_file")
"""Keys of ``[node]`` that need a restart."""


def reload(app: App) -> list[str]:
    """Read the configuration file again and make it the router's; what changed, one line each.

    Raises:
        ConfigError, OurFault: the old configuration goes on.
    """
    if app.config.path is None:
        raise OurFault("nothing to reload: the router runs on the embedded default")
    new = load(app.config.path)
    for key in FIXED:
        if getattr(new.node, key) != getattr(app.config.node, key):
            raise OurFault(f"{app.config.path}: node.{key}: cannot change while the router runs; restart it")
    forwarders = {d.name: app.outlets.forwarder(d, new) for d in new.destinations}
    proof, peers = app.outlets.proof_terms(new), app.outlets.peers(new)
    transforms = app.outlets.transforms(new)
    table = compile_routes(new)
    changes = _named_changes(app.config, new)
    seen = stamps(new)
    renewed = [place for place, stamp in seen.items() if app.stamps.get(place, stamp) != stamp]
    changes += [f"{place}: other certificates, keys or users in its files" for place in renewed]
    validities = certificates.validities(new.certificates)
    guards = [app.guards(settings) for settings in new.listeners]
    index = app.keeping.index(new)
    try:
        listeners = _listeners(app, new, guards)
    except BaseException:
        if index is not None:
            index.close()
        raise
    _change_listeners(app, new, listeners, guards)
    app.processes.renew()
    app.outlets.change_transforms(new, transforms)
    _change_destinations(app, new, forwarders, renewed)
    app.waiting.change(app.patience(new))
    app.proofs.change(*proof)
    app.pledges.change(peers)
    app.batches.change([watch.terms for watch in new.watches])
    app.stamps, app.certificates = seen, validities
    app.admission.router = Router(table, app.groups.addressed)
    app.admission.unrouted, app.admission.min_free = new.node.unrouted, new.node.min_free
    app.keeping.change(new, index)
    app.config = new
    log.info("configuration reloaded: %s", "; ".join(changes) or "nothing changed")
    return changes


def stamps(config: Config) -> dict[str, bytes]:
    """By place, a digest of all files of its TLS and user tables: these are read anew with the same configuration."""
    found: dict[str, bytes] = {}
    for place, table in config.secrets:
        whole = hashlib.sha256(found.get(place, b""))
        for _, value in table:
            if isinstance(value, Path):
                with contextlib.suppress(OSError):
                    whole.update(value.read_bytes())
            whole.update(b"\0")
        found[place] = whole.digest()
    return found


Guards = Sequence[tuple[ssl.SSLContext | None, Users | None]]


def _listeners(app: App, new: Config, guards: Guards) -> list[Listener]:
    """The listeners of ``new``; those that stay are the old objects, the others are open."""
    known = {(x.settings.host, x.settings.port): x for x in app.intake.listeners if x.listening}
    kept: list[Listener] = []
    opened: list[Listener] = []
    try:
        for settings, guard in zip(new.listeners, guards, strict=True):
            listener = known.get((settings.host, settings.port))
            if listener is None:
                listener = Listener(settings, app.intake, *guard)
                listener.open()
                opened.append(listener)
            kept.append(listener)
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return kept


def _change_destinations(app: App, new: Config, forwarders: Mapping[str, Forwarder], renewed: Container[str]) -> None:
    """Make the channels those of ``new``; ``renewed``: whose TLS files are others now. Nothing here can fail."""
    old = {d.name: d for d in app.config.destinations}
    wanted = {d.name: d for d in new.destinations}

    def retitled(name: str) -> bool:
        return app.config.titles_of_routes(name) != new.titles_of_routes(name)

    for name, before in old.items():
        if name not in wanted or wanted[name].kind != before.kind:
            app.scheduler.retire(name, app.loop.time() + new.node.drain)
    for name, d in wanted.items():
        channel = app.scheduler.channels.get(name)
        if channel is None:
            app.scheduler.add(app.outlets.channel(d, forwarders[name]), start=True)
        elif d != old[name] or f"destination {name}" in renewed or retitled(name):
            app.outlets.change_channel(channel, d, forwarders[name])
    app.groups.change(choosing(new.groups))


def _change_listeners(app: App, new: Config, listeners: list[Listener], guards: Guards) -> None:
    for listener, settings, guard in zip(listeners, new.listeners, guards, strict=True):
        listener.change(settings, *guard)
    gone = [x for x in app.intake.listeners if x not in listeners]
    for listener in gone:
        listener.close()
    # Those that are gone stay known until their last caller has left.
    app.intake.listeners = listeners + [x for x in gone if x.associations]
    app.intake.descriptors = app.share_descriptors(new)
    app.spool.keep_open(app.intake.descriptors.kept)


def _named_changes(old: Config, new: Config) -> list[str]:
    """What is new, gone or different among destinations and routes, and whether ``[node]`` or listeners changed."""
    found = []
    for kind, was, now in (
        ("destination", {d.name: d for d in old.destinations}, {d.name: d for d in new.destinations}),
        ("group", {g.name: g for g in old.groups}, {g.name: g for g in new.groups}),
        ("route", {r.name: r for r in old.routes}, {r.name: r for r in new.routes}),
        ("transform", old.transforms, new.transforms),
        ("listener", {x.label: x for x in old.listeners}, {x.label: x for x in new.listeners}),
        ("peer", {p.ae_title: p for p in old.peers}, {p.ae_title: p for p in new.peers}),
        ("watch", {w.name: w for w in old.watches}, {w.name: w for w in new.watches}),
        ("table", {"node": old.node, "archive": old.archive}, {"node": new.node, "archive": new.archive}),
    ):
        found += [f"{kind} {n}: removed" for n in was if n not in now]
        found += [f"{kind} {n}: added" for n in now if n not in was]
        found += [f"{kind} {n}: changed" for n in now if n in was and now[n] != was[n]]
    before, after = [r.name for r in old.routes], [r.name for r in new.routes]
    if before != after and sorted(before) == sorted(after):
        found.append("routes: another order")
    return found
