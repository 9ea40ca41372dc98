"""A hundred thousand images queued: the router listens soon, in little memory, and delivers.

How soon is printed beside what looking at or renaming so many files takes on this machine; that the work for one of
them does not grow with their number is in ``tests/unit/test_recover.py``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.support import many_queued, procfs, settings
from tests.support.exact_receiver import ExactReceiver, ReceiverHost
from tests.support.fixtures import MakeRouter
from tests.support.router import Router

COUNT = 100_000
MEMORY = 300 << 20
SOME = 2000

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with so many images for the destination ``end``."""
    folder = tmp_path_factory.mktemp("many") / "data"
    many_queued.make(folder, COUNT, "end")
    yield folder
    shutil.rmtree(folder.parent)


def started(make_router: MakeRouter, queued: Path, end: ExactReceiver) -> tuple[Router, float]:
    """A router on the folder, and the seconds until it listened."""
    router = make_router(
        node=settings.node(data_dir=str(queued)),
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("all", ["end"])],
    )
    begun = monotonic()
    router.start()
    return router, monotonic() - begun


def seconds_to_look(spool: Path) -> float:
    """What it takes this machine to look at every file of the spool, in Python."""
    began = monotonic()
    assert sum(path.stat().st_size > 0 for path in spool.rglob("*.dcm")) == COUNT
    return monotonic() - began


def test_it_listens_at_once_and_delivers(make_router: MakeRouter, receivers: ReceiverHost, queued: Path) -> None:
    end = receivers.receiver(start=False)
    bare = seconds_to_look(queued / "spool")
    router, seconds = started(make_router, queued, end)
    status = router.status()
    assert (status["totals"]["waiting"], status["spool"]["files"]) == (COUNT, COUNT)
    router.wait_status(lambda s: s["channels"][0]["state"] == "down", 60, "the destination is found down")
    end.start()
    stored = end.wait_stored(SOME, 120)
    memory = procfs.memory(router.pid)
    print(f"{COUNT} images queued: listening after {seconds:.2f} s, {memory / procfs.MIB:.0f} MiB at most")
    print(f"{COUNT} files are looked at in {bare:.2f} s here")
    wanted = {many_queued.image(n).identity for n in range(COUNT // 20)}
    assert {it.identity for it in stored[:SOME]} <= wanted, "not these images, or not the oldest first"
    assert memory < MEMORY
    router.kill()


def seconds_per_move(spool: Path) -> float:
    """What it takes this machine to rename a file of the spool, measured there and back."""
    files = [path for _, path in zip(range(5000), spool.rglob("*.dcm"), strict=False)]
    began = monotonic()
    for path in files:
        aside = spool.parent / path.name
        path.rename(aside)
        aside.rename(path)
    return (monotonic() - began) / (2 * len(files))


def test_the_journal_is_lost(make_router: MakeRouter, receivers: ReceiverHost, queued: Path) -> None:
    """All those files are orphans then: set aside, before it listens."""
    for name in os.listdir(queued):
        if name.startswith("journal.db"):
            (queued / name).unlink()
    before = sum(len(names) for _, _, names in os.walk(queued / "spool"))
    bare = before * seconds_per_move(queued / "spool")
    router, seconds = started(make_router, queued, receivers.receiver())
    memory = procfs.memory(router.pid)
    print(f"{before} files are moved in {bare:.2f} s here")
    print(f"{before} orphans: listening after {seconds:.2f} s, {memory / procfs.MIB:.0f} MiB at most")
    assert router.status()["orphans"] == before
    assert before >= COUNT - 2 * SOME
    assert len(os.listdir(queued / "orphans")) == before
    assert not router.spool_files()
    assert memory < MEMORY
    router.stop()
