"""What the crash tests share: a router with three destinations, what was acknowledged, what must be true then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.support import corpus, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_all_there, received
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, environment
from tests.support.waiting import wait_until

LARGE = synthetic.Kind(size=20_000_000)


def crash_points() -> list[str]:
    """The names that ``python -m asyncroute.crashpoints`` prints."""
    command = [sys.executable, "-m", "asyncroute.crashpoints"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    return done.stdout.split() or ["no-crash-points"]


@dataclass
class Bench:
    """A router that sends everything to a quick peer, a slower one and a folder; and all that its senders saw."""

    router: Router
    ends: Sequence[ExactReceiver]
    folder: Path
    sent: list[Image] = field(default_factory=list)
    acknowledged: list[Image] = field(default_factory=list)

    def start_senders(self, shares: Sequence[Sequence[Image]]) -> Fleet:
        """Begin to send, one association per share."""
        self.sent += [image for share in shares for image in share]
        callers = [self.router.caller(f"SENDER{n}", timeout=20) for n in range(len(shares))]
        return Fleet(zip(callers, shares, strict=True)).start()

    def note(self, fleet: Fleet) -> None:
        """Wait for the senders (the router is dead or done) and remember what they saw acknowledged."""
        fleet.join()
        self.acknowledged += fleet.acknowledged

    def assert_nothing_lost(self) -> None:
        """Everything acknowledged is everywhere, unchanged; nothing came from nowhere; the spool is clean.

        Raises:
            AssertionError: or not.
        """
        self.router.wait_drained(deadline=90)
        assert_all_there(self.ends, self.acknowledged)
        self._assert_nothing_foreign()
        missing = {image.sha256 for image in self.acknowledged} - self._written()
        assert not missing, f"{len(missing)} images lost on the way to the folder"
        wait_until(lambda: not self.router.spool_files(), 20, "no spare file is left", self.router.spool_files)

    def _assert_nothing_foreign(self) -> None:
        known = {image.identity for image in self.sent}
        foreign = [identity for identity in received(*self.ends) if identity not in known]
        assert not foreign, f"never sent like this: {foreign[:3]}"

    def _written(self) -> set[str]:
        contents = (path.read_bytes() for path in self.folder.rglob("*.dcm") if path.is_file())
        return {sha256(content[corpus.read_meta(content).offset :]).hexdigest() for content in contents}


def make_bench(make_router: MakeRouter, receivers: ReceiverHost, folder: Path, **node: Any) -> Bench:
    """A bench whose router is not yet started; ``node``: its [node] table."""
    ends = [receivers.receiver(), receivers.receiver(Behaviour(delay=0.005))]
    router = make_router(
        node=settings.node(**node),
        destination=[
            settings.dicom("quick", ends[0].port, max_associations=4),
            settings.dicom("slower", ends[1].port),
            settings.folder("written", folder),
        ],
        route=[settings.route("all", ["quick", "slower", "written"])],
    )
    return Bench(router, ends, folder)


def shares(seed: object, senders: int = 3, count: int = 12, large: bool = True) -> list[list[Image]]:
    """What each of several senders sends: mixed small images, and one that has to be streamed."""
    made: list[list[Image]] = [synthetic.mixed(f"{seed}/{n}", count) for n in range(senders)]
    if large:
        made.append([synthetic.image(f"{seed}/large", 0, LARGE)])
    return made


def unacknowledged(bench: Bench) -> list[Image]:
    """What a modality would send again."""
    done = {image.sop_instance for image in bench.acknowledged}
    return [image for image in bench.sent if image.sop_instance not in done]
