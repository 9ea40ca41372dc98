"""What sends to each destination, made from the configuration: channels, forwarders, proofs; reports to senders.

Guarantees: making something changes nothing that runs; only ``change_channel`` does, and it cannot fail.
Failures: ``OurFault`` where TLS files cannot be used.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from asyncroute.config import Config, Destination, DicomDestination, FolderDestination
from asyncroute.config.destinations import TlsClient
from asyncroute.config.peers import Peer
from asyncroute.config.titles import titles_of
from asyncroute.forward.association import Target
from asyncroute.forward.base import Forwarder
from asyncroute.forward.commitment import Committer as Commitments
from asyncroute.forward.commitment import tell
from asyncroute.forward.dicom import DicomForwarder, Means, Policy
from asyncroute.forward.folder import FolderForwarder
from asyncroute.forward.query import Querier
from asyncroute.forward.transformed import TransformedRoutes
from asyncroute.journal.reader import SqliteReader
from asyncroute.link import tls
from asyncroute.queue.channel import Channel
from asyncroute.queue.limits import Backlog, Outbound
from asyncroute.queue.pledge import Tell
from asyncroute.queue.proving import Terms
from asyncroute.queue.scheduler import Scheduler
from asyncroute.spool.local import LocalSpool
from asyncroute.transform.base import Transform
from asyncroute.transform.compiled import compiled
from asyncroute.transform.remote import Remote

FOLDER_LANES = 4
FOLDER_THREADS = 256
"""Of all folder destinations together, started as they are needed: one that hangs keeps ``FOLDER_LANES`` of them."""


class Outlets:
    """See module."""

    def __init__(
        self,
        config: Config,
        means: Means,
        spool: LocalSpool,
        reader: SqliteReader,
        scheduler: Scheduler,
        folder_writers: ThreadPoolExecutor,
    ) -> None:
        """``config``: the first one; only what needs a restart to change is taken from it."""
        self._means = means
        self._spool = spool
        self._reader = reader
        self._scheduler = scheduler
        self._folder_writers = folder_writers
        self._transformed = TransformedRoutes(config.node.data_dir)
        self.change_transforms(config, self.transforms(config))
        self._sync = config.node.durability == "power-loss"
        self._outbound = Outbound(config.node.max_outbound)
        self._loop = asyncio.get_running_loop()

    def channel(self, d: Destination, forwarder: Forwarder) -> Channel:
        """A new channel to ``d``."""
        channel = Channel(
            d.name,
            forwarder,
            _lanes(d),
            d.retry.backoff,
            Backlog(d.max_backlog.images, d.max_backlog.bytes),
            self._reader,
            self._scheduler,
            self._outbound if d.kind == "dicom" else Outbound(FOLDER_LANES),
        )
        self._limit(channel, d)
        channel.times.change(d.open_hours, _gap(d), self._loop.time())
        return channel

    def _limit(self, channel: Channel, d: Destination) -> None:
        channel.window.change(_lanes(d), _adaptive(d))
        channel.pace.change(d.rates, self._loop.time())
        channel.limit_studies(_per_study(d))

    def forwarder(self, d: Destination, config: Config) -> Forwarder:
        """What sends to ``d`` of ``config``.

        Raises:
            OurFault: its TLS files cannot be used.
        """
        if isinstance(d, FolderDestination):
            return self._folder(d)
        title, ends = titles_of(config, d).title, d.association
        policy = Policy(
            title, d.overrides, ends.idle_close, ends.max_age, d.max_contexts, d.min_gap, ends.scope, d.wish
        )
        return DicomForwarder(d.name, target_of(d), policy, self._means)

    def change_channel(self, channel: Channel, d: Destination, forwarder: Forwarder) -> None:
        """New settings for a channel that runs. Nothing here can fail."""
        self._limit(channel, d)
        channel.change(forwarder, d.retry.backoff, d.open_hours, _gap(d))
        channel.backlog.max_images, channel.backlog.max_bytes = d.max_backlog.images, d.max_backlog.bytes

    def transforms(self, config: Config) -> dict[str, Transform]:
        """By route, what ``config`` makes of its images.

        Raises:
            OurFault: a file that one needs cannot be used.
            StorageFault: that they exist could not be written down.
        """
        found: dict[str, Transform] = {
            route.name: compiled(config.coercions(route)) for route in config.routes if route.transform
        }
        self._transformed.remember(found)
        return found

    def change_transforms(self, config: Config, transforms: Mapping[str, Transform]) -> None:
        """From now on what is sent is changed by these, of ``config``. Nothing here can fail."""
        slow = {name: it for name, it in transforms.items() if not it.quick}
        remotes = {name: Remote(it, config.node.worker_deadline) for name, it in slow.items()}
        gone = self._transformed.names.difference(route.name for route in config.routes)
        self._means.coercions.change(transforms, remotes, gone)

    def proof_terms(self, config: Config) -> tuple[dict[str, Terms], list[str]]:
        """Which destinations of ``config`` prove their deliveries, and how; which do not.

        Raises:
            OurFault: the TLS files of one cannot be used.
        """
        proving = [d for d in config.destinations if isinstance(d, DicomDestination) and d.verify != "no"]
        terms = {d.name: self._terms(config, d) for d in proving}
        return terms, [d.name for d in config.destinations if d.name not in terms]

    def peers(self, config: Config) -> dict[str, Tell]:
        """How to report to senders that have a ``[[peer]]``.

        Raises:
            OurFault: the TLS files of one cannot be used.
        """
        return {peer.ae_title: partial(tell, _target_of_peer(peer), self._means.shared) for peer in config.peers}

    def _terms(self, config: Config, d: DicomDestination) -> Terms:
        target, shared, commits = target_of(d), self._means.shared, d.verify == "commit"
        committer = Commitments(target, d.calling_ae_title, shared) if commits else None
        querier = None if commits else Querier(target, shared)
        title = titles_of(config, d).title

        def may() -> bool:
            channel, now = self._scheduler.channels.get(d.name), self._loop.time()
            return channel is not None and not channel.breaker.open and not channel.verdict.paused_until(now)

        return Terms(committer, querier, d.verify_wait, d.association.idle_close, d.retry.backoff, may, title)

    def _folder(self, d: FolderDestination) -> Forwarder:
        forwarder = FolderForwarder(
            d.name,
            d.path,
            d.template,
            d.duplicates,
            self._means.readers.spool,
            self._folder_writers,
            self._sync,
            self._means.coercions,
        )
        forwarder.conversions, forwarder.wish = self._means.conversions, d.wish
        return forwarder


def target_of(d: DicomDestination) -> Target:
    """Where a destination's associations go.

    Raises:
        OurFault: its TLS files cannot be used.
    """
    context, name = _client(d.tls)
    return Target(d.host, d.port, d.ae_title, d.connect_timeout, d.response_timeout, d.max_pdu, context, name)


def _target_of_peer(peer: Peer) -> Target:
    context, name = _client(peer.tls)
    return Target(peer.host, peer.port, peer.ae_title, tls=context, server_name=name)


def _client(table: TlsClient | None) -> tuple[ssl.SSLContext | None, str | None]:
    """How to call with TLS, and the name to expect; None: without."""
    if table is None:
        return None, None
    return tls.client_context(table.ca, table.certificate, table.key), table.server_name


def _gap(d: Destination) -> float:
    return d.min_gap if isinstance(d, DicomDestination) else 0.0


def _per_study(d: Destination) -> int:
    return d.max_per_study if isinstance(d, DicomDestination) else 0


def _adaptive(d: Destination) -> bool:
    return isinstance(d, DicomDestination) and d.adaptive


def _lanes(d: Destination) -> int:
    return d.max_associations if isinstance(d, DicomDestination) else FOLDER_LANES
