"""A ``data_dir`` as a router leaves it, made without one: real images, routed and journaled, in every state.

``make`` writes it; ``Expected`` says what must come of it, whatever happens to the journal: each delivery owed is there
to be sent with its very bytes, or is a dead letter, or its file waits as an orphan.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from asyncroute.config import Config, compile_routes, loads
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery, Instance, Selection, Settlement, Source
from asyncroute.core.priority import PRIORITIES
from asyncroute.core.states import DeliveryState
from asyncroute.core.told import QueueRow
from asyncroute.journal.base import Discard, Group
from asyncroute.journal.reader import SqliteReader
from asyncroute.journal.sqlite import FILE, SqliteJournal
from asyncroute.recover import Recovered, recover
from asyncroute.route import Router
from asyncroute.spool.local import LocalSpool
from tests.support import synthetic
from tests.support.images import Image

SOURCE = Source("CT_A", "ASYNCROUTE", "ASYNCROUTE@0.0.0.0:11112", "192.0.2.1")
T0 = 1_700_000_000.0
DESTINATIONS = ("a", "b")
ROUTES = '[[route]]\nname = "all"\nto = ["a", "b"]\nunless = { Modality = "OT" }\n'
PEERS = "".join(
    f'[[destination]]\nname = "{name}"\nkind = "folder"\npath = "/nowhere/{name}"\n' for name in DESTINATIONS
)
HISTORY, LIVE = 240, 48

Key = tuple[int, str]
Answer = TypeVar("Answer")


def config(data_dir: Path, routes: str = ROUTES) -> Config:
    """A configuration with folders ``a`` and ``b``; images of modality OT have no route."""
    node = f'[node]\ndata_dir = "{data_dir}"\nunrouted = "hold"\n[[listener]]\nport = 0\n'
    return loads(f"{node}{PEERS}{routes}", str(data_dir / "asyncroute.toml"))


@dataclass
class Expected:
    """What is in the folder: {instance id: image}; what of it is owed, dead, over (delivered or discarded), held."""

    images: dict[int, Image] = field(default_factory=dict)
    owed: set[Key] = field(default_factory=set)
    dead: set[Key] = field(default_factory=set)
    over: set[Key] = field(default_factory=set)
    held: set[int] = field(default_factory=set)


class Stored:
    """Journal and spool of one folder, open."""

    def __init__(self, data_dir: Path, durability: str = "power-loss") -> None:
        self.data_dir = data_dir
        self.journal = SqliteJournal.open(data_dir, durability)
        try:
            self.spool = LocalSpool(data_dir / "spool", durability)
        except BaseException:
            self.journal.close()
            raise
        self.router = Router(compile_routes(config(data_dir)))

    def recover(self) -> Recovered:
        """As at a start."""
        return recover(self.journal, self.spool)

    def admit(self, images: list[Image]) -> list[Instance]:
        """Write, route and journal ``images``, as a router does when it receives them."""
        made = [self._written(image) for image in images]
        assert self.journal.commit(Group(made)).refused == {}
        return made

    def _written(self, image: Image) -> Instance:
        number, path = self.spool.allocate()
        data = b"".join(image.chunks(1 << 20))
        made = Instance(number, SOURCE, image.sop_class, image.sop_instance, image.transfer_syntax, T0 + number, path)
        assert self.spool.write([(made, [data])]) == {}
        if not self.router.route(made, None, data, True):
            made.hold_reason = "no route matches"
        return made

    def release(self, numbers: list[int]) -> None:
        """Deliver everywhere and forget the file."""
        settled = [Settlement(n, to, DeliveryState.DELIVERED, 1, T0, 0) for n in numbers for to in DESTINATIONS]
        for number, path in self.journal.commit(Group(settlements=settled)).releasable:
            self.spool.remove(path)
            self.journal.commit(Group(released=[number]))

    def claims(self) -> list[Delivery]:
        """Everything that would be sent now."""

        async def ask(reader: SqliteReader) -> list[Delivery]:
            rooms = dict.fromkeys(PRIORITIES.values(), 10_000)
            return [d for to in DESTINATIONS for d in (await reader.claim(to, rooms, T0 * 2, ())).deliveries]

        return self._read(ask)

    def rows(self, held: bool = False) -> list[QueueRow]:
        """What ``queue list`` shows."""
        return self._read(lambda reader: reader.rows(Selection(), 10_000, held))

    def _read(self, ask: Callable[[SqliteReader], Awaitable[Answer]]) -> Answer:
        async def read() -> Answer:
            reader = await SqliteReader.open(self.data_dir)
            try:
                return await ask(reader)
            finally:
                await reader.close()

        return asyncio.run(read())

    def sent(self, delivery: Delivery) -> tuple[str, str, str, str] | None:
        """What a lane would send: the image's identity; None if the file is no good, which is a dead letter."""
        try:
            self.spool.confirm(delivery)
            data = self.spool.read(delivery.path, delivery.data_offset, delivery.size)
            self.spool.verify(delivery.path, delivery.data_offset, delivery.size, delivery.checksum)
        except StorageFault as fault:
            if fault.errno not in (0, errno.ENOENT):
                raise
            return None
        digest = hashlib.sha256(data).hexdigest()
        return delivery.sop_class_uid, delivery.sop_instance_uid, delivery.transfer_syntax, digest

    def orphans(self) -> set[int]:
        """Ids of the files that were set aside."""
        folder = self.data_dir / "orphans"
        return {int(path.name.split(".")[0]) for path in folder.iterdir()} if folder.exists() else set()

    def close(self) -> None:
        """Close both."""
        self.spool.close()
        self.journal.close()

    def __enter__(self) -> Stored:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make(data_dir: Path, crashed: Path | None = None, live: int = LIVE, history: int = HISTORY) -> Expected:
    """Write the folder: ``history`` images that are over and released, then ``live`` ones in all states.

    ``crashed``: a copy of it as a crash leaves it, whose later half is in the write-ahead log alone.
    """
    found = Expected()
    with Stored(data_dir, "process-crash") as stored:
        made = stored.admit(synthetic.series("history", history, synthetic.Kind(size=512)))
        stored.release([it.id for it in made])
        images = synthetic.mixed("live", live, 2048)
        half = live // 2
        for share in (images[:half], images[half:]):
            _note(found, share, stored.admit(share))
            stored.journal.prune(0.0)  # which writes the log back
        for image in synthetic.mixed("last", live, 2048):
            _note(found, [image], stored.admit([image]))
        _settle(stored, found)
        if crashed is not None:
            copy(data_dir, crashed)
    return found


def _note(found: Expected, images: list[Image], made: list[Instance]) -> None:
    for image, instance in zip(images, made, strict=True):
        found.images[instance.id] = image
        found.owed |= {(instance.id, hit.destination) for hit in instance.hits}
        if not instance.hits:
            found.held.add(instance.id)


def _settle(stored: Stored, found: Expected) -> None:
    """A third of what goes to ``a`` is delivered, some is dead or discarded; ``b`` has had nothing yet."""
    first = sorted(key for key in found.owed if key[1] == "a")
    delivered, dead, gone = first[0::4], first[1::8], first[5::8]
    settled = [Settlement(number, to, DeliveryState.DELIVERED, 1, T0, 0) for number, to in delivered]
    settled += [Settlement(number, to, DeliveryState.FAILED, 3, T0, 0xA900, "no") for number, to in dead]
    stored.journal.commit(Group(settlements=settled))
    chosen = Selection((DeliveryState.READY,), "a", instance_ids=[number for number, _ in gone])
    stored.journal.commit(Group(actions=[Discard(chosen)]))
    found.dead, found.over = set(dead), {*delivered, *gone}
    found.owed -= found.dead | found.over


def copy(template: Path, to: Path) -> Path:
    """A copy of a folder; the images' files are the same ones (nothing may write into them)."""
    shutil.copytree(template, to, copy_function=_copy)
    return to


def _copy(source: str, to: str) -> None:
    if source.endswith(".dcm"):
        os.link(source, to)
    else:
        shutil.copyfile(source, to)


@dataclass
class Verdict:
    """What came of a start: deliveries (and held images) by what happens to them; ``wrong``: sent as they must not."""

    sent: Counter[str] = field(default_factory=Counter)
    lost: list[Any] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)


def judge(stored: Stored, expected: Expected) -> Verdict:
    """Hold what a started router would do against ``expected``."""
    found = Verdict()
    going: set[Key] = set()
    visible = {(row.instance_id, row.destination) for row in stored.rows() if row.state == "failed"}
    for delivery in stored.claims():
        key = (delivery.instance_id, delivery.destination)
        identity = stored.sent(delivery)
        if identity is None:
            visible.add(key)
            continue
        going.add(key)
        image = expected.images.get(delivery.instance_id)
        if image is None or identity != image.identity or key not in expected.owed | expected.dead | expected.over:
            found.wrong.append((key, identity))
    held = {row.instance_id for row in stored.rows(held=True)}
    orphans = stored.orphans()
    for key in expected.owed:
        _place(found, key, key in going, key in visible or key[0] in held, key[0] in orphans)
    for key in expected.dead:
        _place(found, key, key in going, key in visible or key[0] in held, key[0] in orphans)
    for number in expected.held:
        seen = number in held or any(number == other for other, _ in visible | going)
        _place(found, number, False, seen, number in orphans)
    return found


def _place(found: Verdict, key: Any, going: bool, visible: bool, orphan: bool) -> None:
    if going:
        found.sent["sent"] += 1
    elif visible:
        found.sent["shown"] += 1
    elif orphan:
        found.sent["orphans"] += 1
    else:
        found.lost.append(key)


def evidence(data_dir: Path) -> dict[str, bytes]:
    """The bytes of the journal and of its log; an empty log (which looking at a journal leaves) is none."""
    found = {name: data_dir / name for name in (FILE, f"{FILE}-wal")}
    kept = {name: path.read_bytes() for name, path in found.items() if path.exists()}
    return {name: data for name, data in kept.items() if data or name == FILE}


def image_files(data_dir: Path) -> set[str]:
    """Names of all image files below a folder, wherever they are."""
    return {path.name.split(".dcm")[0] for path in data_dir.rglob("*.dcm*")}


def query(path: Path, statement: str) -> list[Any]:
    """Ask a closed journal."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()
