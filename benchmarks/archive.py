"""How long the commands take on an archive of many studies: ``python -m benchmarks.archive [STUDIES [IMAGES]]``.

Makes an index of so many studies (10,000) of so many images (50) in a temporary folder, without their files, and runs
each command several times, a new process each time, as a person would. Prints the median of processor and wall time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from asyncroute.archive import tier
from asyncroute.archive.base import Arrival
from asyncroute.core.model import Source
from asyncroute.journal.archive import ArchiveIndex
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.spool.base import Facts
from benchmarks.commands import measure

CONFIG = """\
[node]
data_dir = "{folder}/data"
[[listener]]
[[destination]]
name = "out"
kind = "folder"
path = "{folder}/out"
[archive]
tiers = [{{ path = "{folder}/t1" }}, {{ path = "{folder}/t2", move_in = {{ at = "02:00" }} }}]
"""


def arrival(folder: int, study: int, image: int, now: float) -> Arrival:
    """One made-up image."""
    uid = f"1.2.826.{study}.{image}"
    facts = Facts(
        study * 1000 + image, Source("CT", "R", "R", ""), "1.2", uid, "1.2.1", now - study, 500, 500_000, study
    )
    date = time.strftime("%Y%m%d", time.gmtime(now - study * 3600))
    return Arrival(folder, f"{date}/{study}/{uid}.dcm", facts, f"1.2.826.{study}", f"P{study}", f"A{study}", date, now)


def fill(folder: Path, studies: int, images: int) -> None:
    """The index, a tenth of it in the first tier."""
    SqliteJournal.open(folder / "data", "process-crash").close()
    index = ArchiveIndex.open(folder / "data", "process-crash")
    tiers = [
        index.add_tier(tier.found(folder / name, "process-crash"), str(folder / name), False) for name in ("t1", "t2")
    ]
    now = time.time()
    for study in range(studies):
        index.arrived(
            [(None, arrival(tiers[study % 10 > 0].id, study, n, now - studies + study)) for n in range(images)]
        )
    index.close()


def main(studies: int = 10_000, images: int = 50) -> None:
    """See module."""
    middle = f"1.2.826.{studies // 2}"
    commands = [
        ["archive", "status"],
        ["archive", "find", middle],
        ["archive", "find", "--patient", f"P{studies // 3}"],
        ["archive", "find", "--accession", f"A{studies // 3}"],
        ["archive", "find", "--date", time.strftime("%Y%m%d")],
        ["archive", "find"],
        ["archive", "move"],
        ["replay", middle, "--to", "out"],
        ["status"],
        ["queue", "list"],
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "asyncroute.toml").write_text(CONFIG.format(folder=folder))
        fill(folder, studies, images)
        size = (folder / "data" / "archive.db").stat().st_size
        print(f"{studies} studies of {images} images; the index has {size / 1e6:.0f} MB")
        measure(folder / "asyncroute.toml", commands)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
