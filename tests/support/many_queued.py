"""A data folder in which very many images are queued, made through the product's own spool and journal in one go.

``python -m tests.support.many_queued FOLDER COUNT DESTINATION`` (a process of its own, so that its memory is not the
test's). Nothing is synced but once at the end: only the content counts here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from asyncroute.core.model import Instance, RouteHit, Source
from asyncroute.journal.base import Group
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.spool.local import LocalSpool
from tests.support import synthetic
from tests.support.images import Image
from tests.support.router import ROOT, environment

GROUP = 1000
KIND = synthetic.Kind(size=512)
SEED = "queued"


def image(index: int) -> Image:
    """The ``index``-th image that is queued."""
    return synthetic.image(SEED, index, KIND)


def make(folder: Path, count: int, destination: str) -> None:
    """Queue ``count`` images for ``destination`` in the data folder ``folder``."""
    words = [sys.executable, "-m", "tests.support.many_queued", str(folder), str(count), destination]
    subprocess.run(words, cwd=ROOT, env=environment(), check=True, timeout=600)


def _instance(spool: LocalSpool, made: Image, destination: str) -> Instance:
    instance_id, path = spool.allocate()
    source = Source("CT_A", "ASYNCROUTE", "ASYNCROUTE", "127.0.0.1")
    hits = (RouteHit("all", destination),)
    study = synthetic.uid(SEED, "study", 0)
    instance = Instance(instance_id, source, made.sop_class, made.sop_instance, made.transfer_syntax, time.time(), path)
    instance.study_uid, instance.modality, instance.hits, instance.header = study, "CT", hits, b"header" * 50
    return instance


def _main(folder: Path, count: int, destination: str) -> None:
    journal = SqliteJournal.open(folder, "process-crash")
    spool = LocalSpool(folder / "spool", "process-crash")
    for start in range(0, count, GROUP):
        images = [image(n) for n in range(start, min(start + GROUP, count))]
        group = [(_instance(spool, it, destination), list(it.chunks(1 << 20))) for it in images]
        for at in range(0, len(group), 64):
            assert not spool.write(group[at : at + 64])
        assert not journal.commit(Group([it for it, _ in group])).refused
    journal.close()
    os.sync()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
