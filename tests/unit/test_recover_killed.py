"""Recovery after ``kill -9``, at every crash point and at random: what was acknowledged is owed and whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asyncroute.crashpoints import VARIABLE
from asyncroute.recover import recover
from tests.contract.storage_worker import content
from tests.support.router import as_text, environment, starter
from tests.unit.storing import Store

ROOT = Path(__file__).resolve().parents[2]
POINTS = (
    *("file-created", "file-written", "file-synced", "folder-synced", "stream-partly-written", "stream-finished"),
    *("spare-taken", "spare-overwritten"),
    *("journal-begun", "journal-written", "journal-committed", "settle-written", "settle-committed"),
    "release-committed",
)
WORKER = "tests.contract.storage_worker"


def worked(folder: Path, rounds: int, crash: str = "") -> subprocess.CompletedProcess[str]:
    """What a process did that stored, settled and released."""
    env = environment(PYTHONPATH=f"{ROOT}/src:{ROOT}", **{VARIABLE: crash})
    return as_text(starter().run([WORKER, str(folder), str(rounds)], env, ROOT, timeout=60))


def worker(folder: Path, rounds: int) -> subprocess.Popen[str]:
    """A process that stores, settles and releases."""
    return subprocess.Popen(
        [sys.executable, "-m", WORKER, str(folder), str(rounds)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )


def said(output: str, word: str) -> set[int]:
    """The ids in whole lines that begin with ``word``."""
    whole = (line for line in output.splitlines(keepends=True) if line.endswith("\n"))
    return {int(line.split()[1]) for line in whole if line.startswith(word)}


def check(folder: Path, output: str) -> None:
    """After a crash: what was said to be stored is owed and whole, or settled; the spool holds nothing else."""
    store = Store(folder)
    try:
        found = recover(store.journal, store.spool)
        assert found.lost == 0
        owed = {row.instance_id for row in store.rows()}
        done = {instance_id for instance_id, _ in found.releasable}
        kept = {row.id: row for row in store.journal.unreleased(0, 10_000)}
        assert said(output, "stored") - said(output, "settled") - done <= owed
        assert not owed & said(output, "settled")
        paths = {each: store.spool.root / row.path for each, row in kept.items()}
        assert set(store.spool.root.glob("*/*")) <= set(paths.values())
        assert len(set(paths.values())) == len(paths)
        assert all(paths[each].exists() for each in owed)
        for instance_id in owed:
            facts = store.spool.facts(kept[instance_id].path)
            assert facts is not None
            assert store.spool.read(kept[instance_id].path, facts.data_offset, facts.size) == content(instance_id)
            store.spool.verify(kept[instance_id].path, facts.data_offset, facts.size, facts.checksum)
        again = recover(store.journal, store.spool)
        assert (again.cleaned, again.orphans, again.lost) == (0, 0, 0)
    finally:
        store.close()


@pytest.mark.parametrize("passing", [1, 2, 5])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_each_crash_point_loses_nothing(tmp_path: Path, point: str, passing: int) -> None:
    killed = worked(tmp_path, 8, f"{point}:{passing}")
    assert killed.returncode == -signal.SIGKILL
    check(tmp_path, killed.stdout)
    done = worked(tmp_path, 3)
    assert done.returncode == 0
    assert not said(done.stdout, "stored") & said(killed.stdout, "stored")
    check(tmp_path, killed.stdout + done.stdout)


def test_kills_at_random_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(11)
    everything = ""
    for _ in range(8):
        with worker(tmp_path, 100_000) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 400)):
                everything += process.stdout.readline()
            process.kill()
            everything += process.stdout.read()
        check(tmp_path, everything)
