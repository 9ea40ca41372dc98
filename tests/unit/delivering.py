"""A lane of a DICOM destination: an archive that takes everything at its end, a channel that keeps its reports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Outcome
from asyncroute.forward.association import Shared, Target
from asyncroute.forward.base import Pair
from asyncroute.forward.coercion import Coercions
from asyncroute.forward.dicom import DicomForwarder, DicomLane, Means, Policy
from asyncroute.forward.reading import Readers
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.link.processes import Processes
from asyncroute.spool.local import LocalSpool
from asyncroute.transform.remote import edited_of
from tests.support import ul
from tests.unit.answering import Message, Peer, Server, serving, sharing, target
from tests.unit.parts import delivery, instance, noise, until


@dataclass
class Archive:
    """A destination that takes everything, and says so; ``status``: by image, else success."""

    max_pdu: int = 65536
    refuses: tuple[str, ...] = ()
    status: dict[str, int] = field(default_factory=dict)
    silent: bool = False
    images: list[tuple[int, Message]] = field(default_factory=list)
    echoes: int = 0
    requests: list[ul.AssociateRQ] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    async def __call__(self, peer: Peer) -> None:
        await peer.accept(self.max_pdu, self.refuses)
        number = len(self.requests)
        self.requests.append(peer.request)
        try:
            while True:
                message = await peer.message()
                if message.command[ul.COMMAND_FIELD] == ul.C_ECHO_RQ:
                    self.echoes += 1
                else:
                    self.images.append((number, message))
                if not self.silent:
                    uid = str(message.command.get(ul.AFFECTED_INSTANCE, ""))
                    peer.respond(message, self.status.get(uid, 0), "why" if uid in self.status else "")
        except EOFError as end:
            kind = end.args[0] if isinstance(end.args[0], int) else 0
            self.ends.append({ul.RELEASE_RQ: "released", ul.ABORT: "aborted"}.get(kind, "closed"))
            if kind == ul.RELEASE_RQ:
                peer.writer.write(ul.release_rp())
                await peer.end()
        except ConnectionError:
            self.ends.append("reset")

    @property
    def data(self) -> list[bytes]:
        return [message.data for _, message in self.images]


class Reports:
    """The channel, as a lane sees it."""

    def __init__(self) -> None:
        self.finishes: list[tuple[int, Outcome]] = []
        self.closes = 0
        self.opens: list[float] = []
        self.pairs: list[Pair] = []
        self.spent: list[int] = []
        self.spare: int | None = None
        """Pieces that may be sent; None: any number."""
        self.waiting: list[Callable[[], None]] = []

    def finished(self, lane: object, delivery: Delivery, outcome: Outcome) -> None:
        self.finishes.append((delivery.instance_id, outcome))

    def opened(self, lane: object, seconds: float) -> None:
        self.opens.append(seconds)

    def restarted(self, lane: object) -> None:
        pass

    def closed(self, lane: object) -> None:
        self.closes += 1

    def wanted(self, bond: str) -> Iterable[Pair]:
        return self.pairs

    def spend(self, count: int, resume: Callable[[], None] | None = None) -> bool:
        self.spent.append(count)
        if resume is None or self.spare is None:
            return True
        if not self.spare:
            self.waiting.append(resume)
            return False
        self.spare -= 1
        return True


class Bench:
    def __init__(self, folder: Path, shared: Shared) -> None:
        self.spool = LocalSpool(folder / "spool", "process-crash")
        self.memory = Memory(64 << 20)
        readers = Readers(self.spool, 2)
        self.processes = Processes(2)
        self.coercions = Coercions(readers, self.processes, edited_of)
        self.means = Means(shared, self.memory, readers, self.coercions)
        self.reports = Reports()
        self.archive = Archive()
        self.policy = Policy(attrgetter("calling_aet"), {}, 60.0, 60.0, 128)
        self.server = Server()
        self.lane: DicomLane
        self.number = 0

    def make_lane(self, to: Target | None = None) -> DicomLane:
        forwarder = DicomForwarder("pacs", to or target(self.server.port), self.policy, self.means)
        self.lane = forwarder.lane(self.reports)
        return self.lane

    def stored(self, content: int | bytes = 1000, in_memory: bool = False, **more: object) -> Delivery:
        """An image of noise of that size, or of these bytes, in the spool, and in memory if told so."""
        self.number += 1
        size = content if isinstance(content, int) else len(content)
        uids = {name: more[name] for name in ("sop_class_uid", "sop_instance_uid", "transfer_syntax") if name in more}
        made = instance(self.number, data_offset=0, **uids)
        data = content if isinstance(content, bytes) else noise(size, 100 + self.number)
        assert self.spool.write([(made, [data])]) == {}
        found = delivery(self.number, data_offset=made.data_offset, size=size, checksum=made.checksum)
        for name, value in more.items():
            setattr(found, name, value)
        if in_memory:
            found.image = image = ImageBytes()
            while image.size < size:
                buffer = self.memory.take(size)
                part = data[image.size : image.size + buffer.capacity]
                buffer.view[: len(part)] = part
                image.buffers.append(buffer)
                image.parts.append(buffer.view[: len(part)])
                image.size += len(part)
        return found

    def path(self, stored: Delivery) -> Path:
        return self.spool.root / stored.path

    async def send(self, stored: Delivery, title: str = "CT_A", probe: bool = False) -> Outcome:
        """Let the lane deliver; the outcome."""
        count = len(self.reports.finishes)
        self.lane.begin(stored, title, probe)
        await until(lambda: len(self.reports.finishes) > count, "the outcome")
        number, outcome = self.reports.finishes[-1]
        assert number == stored.instance_id
        return outcome


@asynccontextmanager
async def lane(folder: Path, archive: Archive | None = None, **policy: object) -> AsyncIterator[Bench]:
    """A lane to an archive."""
    async with sharing() as shared:
        bench = Bench(folder, shared)
        bench.archive = archive or Archive()
        bench.policy = replace(bench.policy, **policy)  # type: ignore[arg-type]
        try:
            async with serving(bench.archive) as bench.server:
                bench.make_lane()
                yield bench
                bench.lane.abort()
                await until(lambda: not shared.deadlines.busy, "no association is left")
        finally:
            bench.processes.close()
            bench.means.readers.close()
            bench.spool.close()
