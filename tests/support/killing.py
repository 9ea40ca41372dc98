"""A router that is killed again and again over one data folder, and the account of every image after each kill.

After each kill, with the router dead and its peers at rest, the journal and the spool have to show that nothing is
lost: what was acknowledged is in the journal, what is owed has its file, what is settled has arrived. What arrives
after the next start has to be new at its destination, or one of the few that had arrived but were not settled at the
kill.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from tests.support import corpus, dead_journal, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.ports import listening
from tests.support.router import ROOT, Router, wait_for_exit
from tests.support.waiting import wait_until

VARIABLE = "ASYNCROUTE_CRASH"
SMALL = 3_000
LARGE = synthetic.Kind(size=4_000_000)
Content = tuple[str, str]
"""Transfer syntax and digest of a data set."""


class Wrong(AssertionError):
    """A promise was broken."""


def hold(promise: bool, words: str) -> None:
    """Insist on a promise.

    Raises:
        Wrong: it is not kept.
    """
    if not promise:
        raise Wrong(words)


@dataclass
class Place:
    """One destination: what arrived there, and what may come again since the last kill."""

    name: str
    receiver: ExactReceiver | None
    folder: Path
    before: set[str] = field(default_factory=set)
    now: set[str] = field(default_factory=set)
    may_repeat: set[str] = field(default_factory=set)
    repeats: int = 0
    repeats_allowed: int = 0

    def take(self) -> list[tuple[str, Content]]:
        """What has arrived since the last time: SOP Instance UID and content."""
        if self.receiver is not None:
            return [(s.sop_instance, (s.transfer_syntax, s.sha256)) for s in self.receiver.take() if s.status == 0]
        return [self._take_file(path) for path in self.folder.rglob("*.dcm")]

    def _take_file(self, path: Path) -> tuple[str, Content]:
        content = path.read_bytes()
        meta = corpus.read_meta(content)
        path.unlink()
        hold("~" not in path.name, f"{self.name}: {path.name}: two files for one image")
        return meta.sop_instance, (meta.transfer_syntax, sha256(content[meta.offset :]).hexdigest())

    def arrived(self, uid: str) -> None:
        """Account for one image. Raises Wrong."""
        hold(uid not in self.now, f"{self.name}: {uid} came twice without a kill in between")
        if uid in self.before:
            hold(uid in self.may_repeat, f"{self.name}: {uid} came again although it was settled")
            self.repeats += 1
        self.now.add(uid)

    def killed(self, owed: set[str]) -> None:
        """The router was killed while ``owed`` was not settled."""
        self.before |= self.now
        self.now.clear()
        self.may_repeat = self.before & owed
        self.repeats_allowed += len(self.may_repeat)


class Ordeal:
    """The router, its three destinations, and what its senders saw. The folder gets studies when they are complete."""

    def __init__(
        self, make_router: MakeRouter, receivers: ReceiverHost, folder: Path, program: Sequence[str] = ()
    ) -> None:
        quick, slower = receivers.receiver(), receivers.receiver(Behaviour(delay=0.005))
        self.places = [Place("quick", quick, folder), Place("slower", slower, folder), Place("written", None, folder)]
        self.router: Router = make_router(
            destination=[
                settings.dicom("quick", quick.port, max_associations=4),
                settings.dicom("slower", slower.port, max_associations=4),
                settings.folder("written", folder),
            ],
            route=[
                settings.route("all", ["quick", "slower"]),
                settings.route("studies", ["written"], when="complete", quiet="100ms", at_latest="300ms"),
            ],
        )
        self._environment: dict[str, str] = {}
        if program:
            self.router.program = program
            self._environment = {"PYTHONPATH": f"{ROOT}/src:{ROOT}"}
        self.sent: dict[str, Content] = {}
        self.acknowledged: set[str] = set()
        self.kills = 0
        self.starts_cut_short = 0
        self._unchecked: set[str] = set()
        self._first_open = 0

    # ---- being killed

    def start(self, spec: str = "") -> bool:
        """Start the router, to be killed at ``spec``; False: it died while starting."""
        self.router.start(wait=False, **self._environment, **({VARIABLE: spec} if spec else {}))
        up = wait_until(self._up_or_dead, 40, "the router listens", self.router.log_tail)
        self.starts_cut_short += up == "dead"
        return up == "up"

    def _up_or_dead(self) -> str:
        if not self.router.running:
            return "dead"
        return "up" if listening(self.router.port) else ""

    def send(self, shares: Sequence[Sequence[Image]]) -> Fleet:
        """Begin to send, one association per share."""
        for share in shares:
            self.sent.update((image.sop_instance, (image.transfer_syntax, image.sha256)) for image in share)
        callers = [self.router.caller(f"SENDER{n}", timeout=30) for n in range(len(shares))]
        return Fleet(zip(callers, shares, strict=True)).start()

    def note(self, fleet: Fleet) -> None:
        """Wait for the senders and remember what they saw acknowledged."""
        fleet.join()
        new = {image.sop_instance for image in fleet.acknowledged}
        self.acknowledged |= new
        self._unchecked |= new

    def died(self, fleet: Fleet) -> bool:
        """Whether the router has died of its load; a sender may know before the system does."""
        assert self.router.process is not None
        cut_off = any(report.ended != "released" for report in fleet.reports)
        return wait_for_exit(self.router.process, 2.0 if cut_off else 0.0) is not None

    def after_kill(self) -> None:
        """The router is dead: check what it left, and what has arrived so far. Raises Wrong."""
        hold(self.router.exit_status == -signal.SIGKILL, f"it ended by itself: {self.router.exit_status}")
        self.kills += 1
        self._collect()
        journal = dead_journal.read(self.router.data_dir, self._first_open)
        lost = self._unchecked - journal.admitted
        hold(not lost, f"{len(lost)} acknowledged images are not in the journal")
        hold(not journal.other, f"{len(journal.other)} images are dead letters or held")
        spool = self.router.data_dir / "spool"
        gone = [uid for uid, path in journal.files.items() if not (spool / path).is_file()]
        hold(not gone, f"{len(gone)} images are owed but their files are gone")
        for place in self.places:
            early = journal.delivered[place.name] - place.now - place.before
            hold(not early, f"{place.name}: {len(early)} deliveries are settled but did not arrive")
            place.killed(journal.owed[place.name])
        self._first_open = journal.oldest_owed
        self._unchecked.clear()

    def _collect(self) -> None:
        """Account for what has arrived, once nothing is under way any more."""
        for place in self.places:
            if place.receiver is not None:
                place.receiver.wait_quiet(30)
            for uid, content in place.take():
                hold(self.sent.get(uid) == content, f"{place.name}: {uid} was never sent like this")
                place.arrived(uid)

    # ---- the end

    def finish(self) -> None:
        """Start once more, let it deliver, and see that everything is everywhere. Raises Wrong."""
        hold(self.start(), "it does not start any more")
        status = self.router.wait_drained(90)
        hold(status["totals"]["held"] == status["totals"]["failed"] == 0, f"not all delivered: {status['totals']}")
        self.router.stop()
        self._collect()
        for place in self.places:
            lost = self.acknowledged - place.before - place.now
            hold(not lost, f"{place.name}: {len(lost)} of {len(self.acknowledged)} acknowledged images lost")
        hold(not self.router.spool_files(), "the spool is not empty")

    def figures(self) -> str:
        """One line."""
        repeats = {place.name: f"{place.repeats} of {place.repeats_allowed}" for place in self.places}
        told = ", ".join(f"{name} {text}" for name, text in repeats.items())
        return (
            f"{self.kills} kills ({self.starts_cut_short} while starting): {len(self.sent)} images sent, "
            f"{len(self.acknowledged)} acknowledged, 0 lost; repeated, of those that had arrived unsettled: {told}"
        )


def load(seed: str, senders: int, count: int, large: int = 0) -> list[list[Image]]:
    """What several senders send: small images of every kind, and some that are streamed, one association each."""
    made = [synthetic.mixed(f"{seed}/{n}", count, SMALL) for n in range(senders)]
    return made + [[synthetic.image(f"{seed}/large{n}", 0, LARGE)] for n in range(large)]


def kill_at(ordeal: Ordeal, spec: str, seed: str, large: int) -> None:
    """Start with a crash point and send until the router has died of it."""
    end = time.monotonic() + 60
    if ordeal.start(spec):
        for turn in range(1000):
            fleet = ordeal.send(load(f"{seed}/{turn}", senders=3, count=8, large=large))
            ordeal.note(fleet)
            if ordeal.died(fleet):
                break
            hold(time.monotonic() < end, f"it did not come to {spec}")
    ordeal.router.wait_exit()
    ordeal.after_kill()


def passes(most: int, kills: int, chance: random.Random) -> list[int]:
    """Numbers from 1 to ``most``, as many as ``kills``, spread evenly, in any order: also few are early and late."""
    ends = [most * turn // kills for turn in range(kills + 1)]
    chosen = [chance.randint(min(low + 1, most), max(low + 1, high)) for low, high in pairwise(ends)]
    chance.shuffle(chosen)
    return chosen


def kills_at(ordeal: Ordeal, point: str, most: int, kills: int, chance: random.Random) -> None:
    """So many kills at ``point``, each at another pass of it, from the first to the ``most``-th."""
    for turn, number in enumerate(passes(most, kills, chance)):
        kill_at(ordeal, f"{point}:{number}", f"{point}/{turn}", large=2 * point.startswith("stream"))


def seeded() -> random.Random:
    """A new source of chance, whose seed is printed."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)
