"""Rounds over one disk: the router works until the power fails; what its senders saw acknowledged is remembered."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from hashlib import sha256

from tests.support import corpus
from tests.support.crashing import Bench, make_bench, shares
from tests.support.exact_receiver import ReceiverHost, received
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.ports import listening
from tests.support.power_fs import Lost, PowerDisk
from tests.support.router import ROOT
from tests.support.waiting import wait_until

DOWN = 60.0


@dataclass
class Rounds:
    """A bench whose data folder and folder destination are on ``disk``. ``tear``: a cut keeps a random part."""

    bench: Bench
    disk: PowerDisk
    chance: random.Random
    tear: bool = False
    cuts: int = 0
    reused: int = 0
    lost: Lost = field(default_factory=lambda: Lost(0, 0))

    # ---- one round each: from a start to a power cut

    def under_load(self, changes: int, large: bool) -> None:
        """The power fails after so many changes and syncs while senders send, or when they are done."""
        self.start(wait=True)
        self.disk.freeze_after(changes)
        fleet = self.send(large)
        self._until_frozen(lambda: done(fleet))
        self.cut(fleet)

    def while_starting(self, changes: int) -> None:
        """The power fails during the recovery from the last time."""
        self.disk.freeze_after(changes)
        self.start(wait=False)
        self._until_frozen(lambda: not self.bench.router.running or listening(self.bench.router.port))
        self.cut()

    def while_settling(self, changes: int) -> None:
        """The power fails while results are written and files released, or when all of that is done."""
        self.start(wait=True)
        fleet = self.send(large=False)
        self.bench.note(fleet)
        self.disk.freeze_after(changes)
        self._until_frozen(self._drained)
        self.cut()

    def while_reusing(self, changes: int) -> None:
        """The power fails while images are written over those of a delivered wave, or when they are done."""
        self.start(wait=True)
        self.wave()
        self.disk.freeze_after(changes)
        fleet = self.send(large=False)
        self._until_frozen(lambda: done(fleet))
        self.count_reused()
        self.cut(fleet)

    # ---- steps

    def wave(self) -> None:
        """Three senders; all that they send is delivered, and some of its files are spare."""
        fleet = self.bench.start_senders(shares(f"wave{self.cuts}", senders=3, count=6, large=False))
        self.bench.note(fleet)
        self.bench.router.wait_status(
            lambda s: not s["totals"]["waiting"] and s["spool"]["spare_files"], 60, "all is delivered, files are spare"
        )

    def count_reused(self) -> None:
        """Note how many images were written over others since the start."""
        self.reused += self.bench.router.status()["spool"]["reused"]

    def start(self, wait: bool) -> None:
        """Start the router; a safe build, unless ``program`` was changed."""
        self.bench.router.start(wait=wait, PYTHONPATH=f"{ROOT}/src:{ROOT}")

    def send(self, large: bool) -> Fleet:
        """Three senders, and one of a large image if so wanted."""
        return self.bench.start_senders(shares(f"cut{self.cuts}", senders=3, count=6, large=large))

    def cut(self, fleet: Fleet | None = None) -> None:
        """Freeze the disk, kill the router, lose what was not synced."""
        self.disk.freeze()
        self.bench.router.kill()
        if fleet is not None:
            self.bench.note(fleet)
        lost = self.disk.cut(self.chance.randrange(1 << 32) if self.tear else None)
        self.lost = Lost(self.lost.pending + lost.pending, self.lost.lost + lost.lost)
        self.cuts += 1

    def _until_frozen(self, done: object) -> None:
        assert callable(done)
        wait_until(lambda: self.disk.frozen or done(), DOWN, "the power cut", self.bench.router.log_tail, every=0.005)

    def _drained(self) -> bool:
        try:
            status = self.bench.router.status()
        except (OSError, ValueError, KeyError):  # on its way down with the disk
            return False
        return not status["totals"]["waiting"] and not status["spool"]["files"]

    # ---- afterwards

    def settle(self) -> dict[str, int]:
        """Start once more and wait until nothing is owed; the totals."""
        self.start(wait=True)
        status = self.bench.router.wait_status(lambda s: not s["totals"]["waiting"], 90, "nothing owed any more")
        totals: dict[str, int] = status["totals"]
        return totals

    def missing(self) -> list[Image]:
        """What was acknowledged and is not, byte for byte, at each of the destinations."""
        there = [received(end) for end in self.bench.ends]
        written = {digest for digest, _ in self.written()}
        return [
            image
            for image in self.bench.acknowledged
            if image.sha256 not in written or not all(image.identity in one for one in there)
        ]

    def written(self) -> list[tuple[str, str]]:
        """(digest of the data set, name) of every file that the folder destination has."""
        files = [path for path in self.bench.folder.rglob("*.dcm") if path.is_file()]
        return [(data_digest(path.read_bytes()), path.name) for path in files]

    def assert_nothing_foreign(self) -> None:
        """Check that nothing came out that had not been sent exactly so, also of what was never acknowledged."""
        known = {image.identity for image in self.bench.sent}
        foreign = [identity for identity in received(*self.bench.ends) if identity not in known]
        digests = {image.sha256 for image in self.bench.sent}
        orphans = [path for path in (self.bench.router.data_dir / "orphans").rglob("*") if path.is_file()]
        foreign_files = [name for digest, name in self.written() if digest not in digests]
        foreign_files += [path.name for path in orphans if data_digest(path.read_bytes()) not in digests]
        assert not foreign, f"never sent like this: {foreign[:3]}"
        assert not foreign_files, f"never sent like this: {foreign_files[:3]}"


def make_rounds(
    make_router: MakeRouter, receivers: ReceiverHost, disk: PowerDisk, seed: int, tear: bool = False
) -> Rounds:
    """Rounds over an empty disk; the data folder is some levels deep, all of them new."""
    folder = disk.path / "archive" / "written"
    bench = make_bench(make_router, receivers, folder, data_dir=str(disk.path / "site" / "node" / "data"))
    return Rounds(bench, disk, random.Random(seed), tear)


def done(fleet: Fleet) -> bool:
    """Whether every sender has ended."""
    return all(report.ended_at for report in fleet.reports)


def data_digest(content: bytes) -> str:
    """The digest of the data set in a Part 10 file; of all of it where it is none."""
    try:
        return sha256(content[corpus.read_meta(content).offset :]).hexdigest()
    except corpus.NotStorable:
        return "no Part 10 file"
