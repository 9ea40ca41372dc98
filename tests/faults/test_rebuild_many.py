"""A journal is lost with many images in the spool: a new one is made in bounded memory, and a start goes by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from asyncroute.core.model import Instance
from asyncroute.spool.local import LocalSpool
from tests.support import stored, synthetic
from tests.support.router import command, environment
from tests.support.stored import Stored

MOST_MEMORY = 200 << 20


def fill(folder: Path, count: int) -> None:
    """``count`` files, and no journal."""
    image = synthetic.image("many", 0, synthetic.Kind(size=512))
    data = b"".join(image.chunks(1 << 20))
    spool = LocalSpool(folder / "spool", "process-crash")
    for first in range(1, count + 1, 100):
        images = []
        for number in range(first, first + 100):
            _, path = spool.allocate()
            uid = f"{image.sop_instance}.{number}"
            made = Instance(number, stored.SOURCE, image.sop_class, uid, image.transfer_syntax, stored.T0, path)
            images.append((made, [data]))
        assert spool.write(images) == {}
    spool.close()


def run(config: Path) -> tuple[dict[str, object], int]:
    """The command's facts, and its highest resident memory in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PEAK, *command("rebuild", "--json", "-c", config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    facts: dict[str, object] = json.loads(out)
    return facts, int(err.split()[-1]) * 1024


_PEAK = """
import os, resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_a_lost_journal_of_many(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "data"
    fill(folder, count)
    config = tmp_path / "asyncroute.toml"
    node = f'[node]\ndata_dir = "{folder}"\ndurability = "process-crash"\n[[listener]]\nport = 0\n'
    config.write_text(f"{node}{stored.PEERS}{stored.ROUTES}")
    begun = monotonic()
    facts, peak = run(config)
    took = monotonic() - begun
    assert (facts["images"], facts["queued"]) == (count, {"a": count, "b": count})
    assert peak < MOST_MEMORY
    begun = monotonic()
    with Stored(folder) as opened:
        assert opened.recover().unsettled == count
    start = monotonic() - begun
    size = os.path.getsize(folder / "journal.db") >> 20
    print(
        f"{count} images: rebuilt in {took:.1f} s with {peak >> 20} MiB of memory; "
        f"looking through its journal of {size} MiB and the spool at a start: {start:.1f} s"
    )
