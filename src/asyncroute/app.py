"""The composition root: builds the router from a configuration, runs it, drains it. The only importer of
concrete parts.

Start: journal (lock, migrations), spool, recovery, channels, control socket, listeners. Stop (promise 7), in this
order: listeners, negotiations, intake, lanes, committing, journal, loop. A side task that dies brings the process
down cleanly with its cause. Faults while starting are ``AsyncrouteError``s and leave nothing running.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from asyncroute import administer
from asyncroute.admit import Admission, free_space
from asyncroute.batch.batches import BatchRoom
from asyncroute.batch.means import Means as BatchMeans
from asyncroute.batch.words import Words
from asyncroute.commit import Committer
from asyncroute.config import Config, compile_routes
from asyncroute.config.groups import choosing
from asyncroute.config.listeners import CLEAR_TEXT
from asyncroute.config.listeners import Listener as ListenerSettings
from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.model import Settlement
from asyncroute.core.outcomes import SLOW
from asyncroute.forward import conversions, probe
from asyncroute.forward.association import Shared
from asyncroute.forward.coercion import Coercions
from asyncroute.forward.conversions import Conversions, ConvertedSpool, Limits
from asyncroute.forward.dicom import Means
from asyncroute.forward.reading import Readers
from asyncroute.journal.base import Complete
from asyncroute.journal.crosswalk import Crosswalk
from asyncroute.journal.place import on_network
from asyncroute.journal.pruning import keep_pruned
from asyncroute.journal.reader import MAX_AHEAD, SqliteReader
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.keeping import Keeping
from asyncroute.link import certificates, descriptors, tls
from asyncroute.link.answers import Answers
from asyncroute.link.buffers import Memory
from asyncroute.link.deadlines import Deadlines
from asyncroute.link.processes import Processes
from asyncroute.link.resolve import Resolver
from asyncroute.link.users import Users
from asyncroute.link.users import load as load_users
from asyncroute.outlets import FOLDER_THREADS, Outlets
from asyncroute.queue.group import Groups
from asyncroute.queue.keeper import Keeper
from asyncroute.queue.pledge import Pledges
from asyncroute.queue.proof import Proofs
from asyncroute.queue.scheduler import Scheduler
from asyncroute.queue.waiting import Patience, Waiting
from asyncroute.receive.listener import Intake, Listener
from asyncroute.recover import Recovered, done_with, recover, tell_of
from asyncroute.release import Releaser
from asyncroute.reload import reload, stamps
from asyncroute.route import Router
from asyncroute.settle import Settler
from asyncroute.spool.local import LocalSpool
from asyncroute.status.control import Control
from asyncroute.status.local import Orphans
from asyncroute.transform.remote import edited_of

log = logging.getLogger(__name__)

HOUSEKEEPING = 1.0
STOPS = (signal.SIGTERM, signal.SIGINT)
MOST_TOLD = 10
BATCH_THREADS = 4
LAST_WORDS = 1.0
"""Seconds for A-RELEASE-RPs at the end."""


class App:
    """One running router. ``build`` makes it, ``start`` opens it to the world, ``stop`` drains it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.started = self.loop.time()
        self.failure: BaseException | None = None
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = AsyncExitStack()

    # ---- building

    async def build(self) -> None:
        """Make every part and read what an earlier run left.

        Raises:
            AsyncrouteError: it cannot run; nothing is left open.
        """
        try:
            await self._build()
        except BaseException:
            await self._closing.aclose()
            raise

    async def _build(self) -> None:
        node = self.config.node
        guards = [self.guards(x) for x in self.config.listeners]
        self.certificates = certificates.validities(self.config.certificates)
        self.stamps = stamps(self.config)
        self.journal = SqliteJournal.open(node.data_dir, node.durability, reserved=True)
        self._closing.callback(self.journal.close)
        shared_out = self.share_descriptors(self.config)
        self.spool = LocalSpool(node.data_dir / "spool", node.durability, shared_out.kept)
        self._closing.callback(self.spool.close)
        self.recovered: Recovered = recover(self.journal, self.spool)
        self.orphans = Orphans(node.data_dir)
        self.orphans.look()
        tell_of(self.recovered)
        longest = max((SLOW, *(d.retry.max for d in self.config.destinations)))
        self.reader = await self.another_reader(longest + 60.0)
        self._closing.push_async_callback(self.reader.close)
        self.memory = Memory(node.memory)
        self.deadlines = Deadlines()
        self.answers = Answers()
        self.committer = Committer(self.spool, self.journal, shared_out.files)
        self._closing.callback(self.committer.close)
        self._build_queues()
        self._build_release()
        self.resolver = Resolver()
        self._closing.callback(self.resolver.close)
        self.negotiators = self.pool(2, "negotiate")
        converted = node.data_dir / "converted"
        self.readers = Readers(ConvertedSpool(self.spool, converted))
        self._closing.callback(self.readers.close)
        self.processes = Processes(node.workers, node.worker_memory, {conversions.GROUP: conversions.share()})
        self._closing.callback(self.processes.close)
        self.conversions = Conversions(self.processes, node.data_dir / "spool", converted, self._conversion_limits())
        self._closing.callback(self.conversions.close)
        self.coercions = Coercions(self.readers, self.processes, edited_of, self._crosswalk())
        self._build_channels()
        router = Router(compile_routes(self.config), self.groups.addressed)
        writers = self.pool(4, "stream")
        self.admission = Admission(
            self.spool, self.committer, self.memory, self.scheduler, router, node.unrouted, node.min_free, writers
        )
        self.keeper = Keeper(
            *(self.groups, self.scheduler, self.reader, self.committer.act, probe.probe),
            short=self.admission.almost_full,
            moved=self.waiting.refresh,
        )
        self.committer.on_regrouped = self.keeper.regrouped
        self.intake = Intake(self.admission, self.memory, self.deadlines, self.negotiators, shared_out, self.answers)
        self.intake.listeners = [
            Listener(x, self.intake, *guard) for x, guard in zip(self.config.listeners, guards, strict=True)
        ]
        self._closing.callback(self.intake.identities.close)
        self.intake.services.reported = self.proofs.report
        self.intake.services.requested = self.pledges.request
        self._build_batches()
        self.admission.free_bytes = self._measure_space()

    def _conversion_limits(self) -> Limits:
        return Limits(
            lambda: self.admission.free_bytes < self.admission.min_free,
            lambda: self.admission.min_free,
            lambda: self.config.node.worker_deadline,
        )

    def _build_release(self) -> None:
        self.keeping = Keeping(self)
        self._closing.callback(self.keeping.close)
        self.releaser = Releaser(self.spool, self.committer.release)
        self._closing.callback(self.releaser.close)
        self.releaser.remember = partial(done_with, self.journal)
        self.committer.on_releasable = self.releaser.release
        self.committer.on_released = self.releaser.committed
        self.keeping.open(self.config)

    def _build_queues(self) -> None:
        settler = Settler(self.committer)
        self.scheduler = Scheduler(self.memory, settler.settle, self.committer.record, self.journal.clock)
        self.proofs = Proofs(self.reader.proofs, self.committer.act, self.scheduler)
        settler.proving, settler.on_unproven = self.proofs.destinations, self.proofs.delivered
        self.pledges = Pledges(self.reader.proofs, self.committer.act)
        self.committer.on_settled = self.scheduler.settled
        self.groups = Groups(choosing(self.config.groups), self.scheduler.ill)
        self.scheduler.elsewhere, self.scheduler.owe = self.groups.elsewhere, self.groups.owe
        self.committer.on_trouble = self.scheduler.stall
        self.waiting = Waiting(self._complete, self.reader.completions, self.look_now, self.journal.clock)
        self.committer.on_waiting = self.waiting.joined

    def _build_batches(self) -> None:
        """Batches, and what people may say to the router."""
        self.batches = BatchRoom(self._batch_means())
        self.committer.on_settled = self._settled
        person = administer.Administrator(self)
        words = Words(self.batches, self.reader.batches, person.queue_retry)
        self.control = Control(self.config.node.data_dir, person, words.calls())

    def _batch_means(self) -> BatchMeans:
        """What batches need."""
        return BatchMeans(
            self.admission,
            self.memory,
            self.reader.batches,
            self.committer.act,
            self.scheduler.full,
            lambda: self.spool.bytes,
            lambda: free_space(str(self.config.node.data_dir), self.spool),
            self.pool(BATCH_THREADS, "batch"),
            self.config.node.data_dir / "unpacked",
            on_network,
        )

    def _settled(self, settlements: list[Settlement]) -> None:
        self.scheduler.settled(settlements)
        self.batches.settled(settlements)

    async def another_reader(self, max_ahead: float = MAX_AHEAD) -> SqliteReader:
        """A reader of the journal; whoever asks for it closes it. ``max_ahead``: see ``SqliteReader``."""
        reader = await SqliteReader.open(self.config.node.data_dir, max_ahead)
        reader.on_damage = self.journal.condemn
        return reader

    async def _complete(self, ids: Sequence[int]) -> int:
        return await self.committer.act(Complete(ids))

    def look_now(self, destinations: Iterable[str]) -> None:
        """The journal has more for these destinations, which may be next."""
        for name in destinations:
            channel = self.scheduler.channels.get(name)
            if channel is not None:
                channel.look_now()

    @staticmethod
    def share_descriptors(config: Config) -> descriptors.Descriptors:
        """How many descriptors callers may take; a limit that is too low for ``config`` is told."""
        callers = sum(x.max_associations for x in config.listeners)
        return descriptors.shared_out(callers, config.node.max_outbound)

    def pool(self, threads: int, name: str) -> ThreadPoolExecutor:
        """Threads that end with the router."""
        pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._closing.callback(pool.shutdown, wait=False, cancel_futures=True)
        return pool

    def _crosswalk(self) -> Crosswalk:
        crosswalk = Crosswalk(self.config.node.data_dir, self.config.node.crosswalk_key())
        self._closing.callback(crosswalk.close)
        if any(map(self.config.deidentifies, self.config.routes)):
            crosswalk.open()
        return crosswalk

    def _build_channels(self) -> None:
        shared = Shared(self.deadlines, self.negotiators, self.resolver, self.answers)
        self.outlets = Outlets(
            self.config,
            Means(shared, self.memory, self.readers, self.coercions, self.conversions),
            self.spool,
            self.reader,
            self.scheduler,
            self.pool(FOLDER_THREADS, "folder"),
        )
        for d in self.config.destinations:
            self.scheduler.add(self.outlets.channel(d, self.outlets.forwarder(d, self.config)))

    @staticmethod
    def patience(config: Config) -> dict[str, Patience]:
        """By name, the routes whose images wait for a completion, and how long."""
        return {r.name: Patience(r.quiet, r.at_latest) for r in config.routes if r.wait is not None}

    @staticmethod
    def guards(settings: ListenerSettings) -> tuple[ssl.SSLContext | None, Users | None]:
        """A listener's TLS context, and its users.

        Raises:
            OurFault: its files cannot be used.
        """
        t, identity = settings.tls, settings.user_identity
        if identity and not t:
            log.warning("listener %s: %s", settings.label, CLEAR_TEXT)
        context = tls.server_context(t.certificate, t.key, t.client_ca, t.require_client) if t else None
        return context, load_users(identity.users_file) if identity else None

    # ---- running

    async def start(self) -> None:
        """Go on where the last run ended, then listen.

        Raises:
            AsyncrouteError: an address is taken; everything is closed again.
        """
        counts = await self.reader.counts()
        self._received_before = counts.totals.get("received", 0)
        await self.keeper.begin()
        self.scheduler.begin(counts)
        self.proofs.begin(counts.unconfirmed, *self.outlets.proof_terms(self.config))
        self.pledges.begin(self.outlets.peers(self.config))
        self.keeping.begin()
        self.releaser.release(self.recovered.releasable)
        await self.waiting.begin(self.patience(self.config))
        self.deadlines.start()
        try:
            await self.control.start()
            for listener in self.intake.listeners:
                listener.open()
        except BaseException:
            await self.stop()
            raise
        self._side_task(self._housekeeping(), "housekeeping")
        self._side_task(keep_pruned(self.journal, lambda: self.config.node.history), "pruning")
        self._side_task(self.keeper.run(), "groups")
        await self.batches.begin(watch.terms for watch in self.config.watches)

    def _side_task(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = self.loop.create_task(work, name=name)
        task.add_done_callback(self._side_task_ended)
        self._tasks.append(task)

    def _side_task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.critical("%s ended: %r; stopping", task.get_name(), self.failure)
            self.request_stop()

    async def _housekeeping(self) -> None:
        """Free space, and a broken spool made loud."""
        said = False
        while True:
            try:
                self.admission.free_bytes = await self.loop.run_in_executor(None, self._measure_space)
                await self.loop.run_in_executor(None, self.orphans.look)
            except OSError as error:
                log.error("cannot tell the free space: %s", error.strerror)
            if self.spool.broken and not said:
                log.critical("intake stopped: %s; repair the disk, then restart asyncroute", self.spool.broken)
                said = True
            await asyncio.sleep(HOUSEKEEPING)

    def _measure_space(self) -> int:
        """Bytes that images may take, less what the journal keeps; looks after the spool, too. Blocks.

        Raises:
            OSError: it cannot be told.
        """
        self.spool.left_place()
        self.spool.tidy()
        free = free_space(str(self.config.node.data_dir), self.spool)
        if free < self.config.node.min_free:
            self.spool.tidy(everything=True)
        reserve = self.journal.reserve
        if reserve is None:
            return free
        reserve.restore()
        return free_space(str(self.config.node.data_dir), self.spool) - reserve.missing

    @property
    def received(self) -> int:
        """Images received since the journal began."""
        return self._received_before + self.admission.received

    def trouble(self) -> list[str]:
        """What a person should know that no channel says, one line each."""
        found = [t for t in (self.spool.broken, self.journal.broken, self.committer.trouble) if t]
        if self.keeping.archive is not None:
            found += self.keeping.archive.trouble()
        if self.admission.free_bytes < self.admission.min_free:
            found.append("storage almost full: below min_free, images are refused")
        if self.journal.reserve is not None and self.journal.reserve.used:
            found.append("storage full: the journal's reserve is in use, no image is taken until there is space again")
        found += [
            f"{name} waits for a report on Storage Commitment, but no [[peer]] says where it listens"
            for name in self.pledges.nowhere[:MOST_TOLD]
        ]
        found += self.batches.trouble()
        return found + [f"{ours} {trouble}" for ours, good in self.certificates if (trouble := good.trouble())]

    def reload(self) -> list[str]:
        """Take over the configuration file as it is now; what changed.

        Raises:
            ConfigError, OurFault: the old configuration goes on.
        """
        return reload(self)

    def hangup(self) -> None:
        """SIGHUP: reload, and say so in the log if that is refused."""
        try:
            self.reload()
        except AsyncrouteError as error:
            for line in str(error).splitlines():
                log.error("not reloaded, the old configuration goes on: %s", line)
        except Exception:
            log.exception("not reloaded: unexpected error")

    # ---- stopping

    def request_stop(self) -> None:
        """Begin to drain; a second time: exit at once."""
        self._stop.set()
        for number in STOPS:  # from now on a Python handler: it runs even while the loop waits for a thread
            self.loop.remove_signal_handler(number)
            signal.signal(number, _exit_at_once)

    async def run_until_stopped(self) -> None:
        """Wait for ``request_stop``, then drain."""
        await self._stop.wait()
        log.info("stopping: draining for up to %g s", self.config.node.drain)
        await self.stop()

    async def stop(self) -> None:
        """Drain and close everything, in the order of promise 7. Idempotent."""
        deadline = self.loop.time() + self.config.node.drain
        for listener in self.intake.listeners:
            listener.close()
        self.admission.stopping = True
        self.waiting.stop()
        await self.batches.stop()
        for task in self._tasks:
            task.cancel()
        await self.keeping.stop_replays()
        await self.intake.drain(self.config.node.drain)
        await asyncio.gather(
            self.proofs.stop(), self.pledges.stop(), *(c.stop(deadline) for c in self.scheduler.channels.values())
        )
        try:
            async with asyncio.timeout(max(deadline - self.loop.time(), 5.0)):
                await self.committer.drained()
                await self.releaser.drained()
                await self.committer.drained()
        except TimeoutError:
            log.error("results could not be written before the stop; their images will be sent again")
        self.keeping.halt()
        last = self.loop.time() + LAST_WORDS
        while self.deadlines.busy and self.loop.time() < last:
            await asyncio.sleep(0.02)
        self.deadlines.stop()
        await self.control.stop()
        await self._closing.aclose()


async def serve(config: Config, ready: Callable[[App], None] | None = None) -> int:
    """Run a router until SIGTERM or Ctrl-C; the exit status. ``ready`` is called once it listens.

    Raises:
        AsyncrouteError: it cannot start.
    """
    app = App(config)
    await app.build()
    gc.collect()
    gc.freeze()  # what is loaded by now stays: a full collection need not stop everything for 0.1 s to look at it
    loop = asyncio.get_running_loop()
    for number in STOPS:
        loop.add_signal_handler(number, app.request_stop)
    await app.start()
    loop.add_signal_handler(signal.SIGHUP, app.hangup)
    if ready is not None:
        ready(app)
    await app.run_until_stopped()
    return 0 if app.failure is None else 1


def _exit_at_once(*_: object) -> None:
    """The second signal."""
    log.warning("stopped again while draining: exiting at once")
    os._exit(1)
