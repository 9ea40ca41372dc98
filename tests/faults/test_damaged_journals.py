"""A hundred damaged journals: each is refused, as it is, with the command that mends it, or nothing is lost by it."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.journal.sqlite import FILE
from asyncroute.rebuild.journal import rebuild
from tests.support import stored
from tests.support.stored import Expected, Stored

PAGE = 4096
HEAD, FRAME = 32, 24
LOG = f"{FILE}-wal"
Spoil = Callable[[Path, random.Random], None]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Expected]:
    """A folder after an orderly stop, the same after a crash, and what has to come of both."""
    folder = tmp_path_factory.mktemp("stored")
    expected = stored.make(folder / "stopped", folder / "crashed")
    return folder / "stopped", folder / "crashed", expected


# --- damage -----------------------------------------------------------------------------------------------------------


def write(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def a_page(path: Path, chance: random.Random) -> int:
    return chance.randrange(path.stat().st_size // PAGE) * PAGE


def noise_pages(count: int, first: int = 0) -> Spoil:
    def spoil(folder: Path, chance: random.Random) -> None:
        path = folder / FILE
        for _ in range(count):
            write(path, max(a_page(path, chance), first), chance.randbytes(PAGE))

    return spoil


def empty_page(folder: Path, chance: random.Random) -> None:
    write(folder / FILE, a_page(folder / FILE, chance), bytes(PAGE))


def page_of_elsewhere(folder: Path, chance: random.Random) -> None:
    """A write that went to the wrong place: sound as a page, wrong as this one."""
    path = folder / FILE
    content = path.read_bytes()
    there = a_page(path, chance)
    write(path, a_page(path, chance), content[there : there + PAGE])


def half_a_page(folder: Path, chance: random.Random) -> None:
    write(folder / FILE, a_page(folder / FILE, chance) + PAGE // 2, bytes(PAGE // 2))


def header_page(folder: Path, chance: random.Random) -> None:
    write(folder / FILE, chance.randrange(100), chance.randbytes(60))


def flips(count: int, name: str = FILE) -> Spoil:
    """Single bits, anywhere."""

    def spoil(folder: Path, chance: random.Random) -> None:
        data = bytearray((folder / name).read_bytes())
        for _ in range(count):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (folder / name).write_bytes(data)

    return spoil


def flip_in_a_row(folder: Path, chance: random.Random) -> None:
    """One bit in a text or number of a live row: no structure is hurt."""
    data = bytearray((folder / FILE).read_bytes())
    words = (b"2.25.", b"1.2.840.10008", b"000000/000002", b"CT_A", b"ASYNCROUTE")
    places = [at for word in words for at in _all(data, word)]
    at = chance.choice(places) + chance.randrange(24)
    data[at] ^= 1 << chance.randrange(8)
    (folder / FILE).write_bytes(data)


def _all(data: bytearray, word: bytes) -> list[int]:
    found, at = [], data.find(word)
    while at >= 0:
        found.append(at)
        at = data.find(word, at + 1)
    return found


def cut(name: str) -> Spoil:
    def spoil(folder: Path, chance: random.Random) -> None:
        os.truncate(folder / name, chance.randrange((folder / name).stat().st_size))

    return spoil


def emptied(name: str) -> Spoil:
    return lambda folder, _: os.truncate(folder / name, 0)


def gone(name: str) -> Spoil:
    return lambda folder, _: (folder / name).unlink()


def log_frame(folder: Path, chance: random.Random) -> None:
    frames = ((folder / LOG).stat().st_size - HEAD) // (FRAME + PAGE)
    write(folder / LOG, HEAD + chance.randrange(frames) * (FRAME + PAGE) + FRAME, chance.randbytes(PAGE))


def log_header(folder: Path, chance: random.Random) -> None:
    write(folder / LOG, chance.randrange(HEAD), chance.randbytes(1))


STOPPED: dict[str, tuple[Spoil, int]] = {
    "a page of noise": (noise_pages(1), 14),
    "three pages of noise": (noise_pages(3), 4),
    "twenty pages of noise": (noise_pages(20), 2),
    "an empty page": (empty_page, 6),
    "a page of elsewhere": (page_of_elsewhere, 12),
    "half a page": (half_a_page, 6),
    "the header": (header_page, 4),
    "a bit": (flips(1), 12),
    "ten bits": (flips(10), 4),
    "a bit in a row": (flip_in_a_row, 14),
    "cut": (cut(FILE), 4),
    "emptied": (emptied(FILE), 1),
    "gone": (gone(FILE), 1),
}
CRASHED: dict[str, tuple[Spoil, int]] = {
    "a page of noise, with log": (noise_pages(1), 4),
    "a bit, with log": (flips(1), 4),
    "a frame of the log": (log_frame, 4),
    "a bit of the log": (flips(1, LOG), 3),
    "the header of the log": (log_header, 2),
    "the log cut": (cut(LOG), 3),
    "the log emptied": (emptied(LOG), 1),
    "the log gone": (gone(LOG), 1),
    "the shared memory": (flips(10, f"{FILE}-shm"), 1),
    "emptied, with log": (emptied(FILE), 1),
    "gone, with log": (gone(FILE), 1),
}


# --- what has to come of it -------------------------------------------------------------------------------------------


def note_refusal(text: str, tally: Counter[str]) -> None:
    """One line; the command that mends it, unless the header says that the journal is not ours."""
    words = ("asyncroute rebuild", "another program's database", "written by a newer asyncroute")
    assert any(word in text for word in words), text
    assert "\n" not in text
    tally["refused"] += 1


def started(folder: Path, expected: Expected, tally: Counter[str]) -> bool:
    """Start on the folder; False: refused, and everything is as it was."""
    before, files = stored.evidence(folder), stored.image_files(folder)
    try:
        opened = Stored(folder)
    except StorageFault as fault:
        note_refusal(str(fault), tally)
        assert stored.evidence(folder) == before
        return False
    with opened:
        try:
            opened.recover()
        except StorageFault as fault:
            note_refusal(str(fault), tally)
            return False
        finally:
            assert stored.image_files(folder) == files
        verdict = stored.judge(opened, expected)
    assert verdict.lost == verdict.wrong == []
    tally["started"] += 1
    tally.update(verdict.sent)
    return True


def rebuilt(folder: Path, expected: Expected, tally: Counter[str]) -> None:
    """Whatever the damage: everything is there again, and the old journal was kept."""
    before = stored.evidence(folder)
    files = stored.image_files(folder)
    report = rebuild(stored.config(folder), anew=True)
    kept = {name: Path(report.evidence, name).read_bytes() for name in before}
    assert kept == before
    assert stored.image_files(folder) == files
    with Stored(folder) as opened:
        opened.recover()
        verdict = stored.judge(opened, expected)
        again = {(d.instance_id, d.destination) for d in opened.claims()} & expected.over
    assert verdict.lost == verdict.wrong == []
    assert verdict.sent["orphans"] == 0
    tally["over, sent again"] += len(again)
    tally["over"] += len(expected.over)


def trial(template: Path, folder: Path, spoil: Spoil, seed: str, expected: Expected, tally: Counter[str]) -> None:
    """One damage: a start, then a rebuild of what was refused."""
    stored.copy(template, folder)
    spoil(folder, random.Random(seed))
    stored.copy(folder, folder.with_suffix(".twin"))
    if not started(folder, expected, tally):
        rebuilt(folder.with_suffix(".twin"), expected, tally)


@pytest.mark.no_cover
@pytest.mark.parametrize("times", [1, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_damaged_journals_lose_nothing(templates: tuple[Path, Path, Expected], tmp_path: Path, times: int) -> None:
    stopped, crashed, expected = templates
    tally: Counter[str] = Counter()
    trials = [(stopped, name, *entry) for name, entry in STOPPED.items()]
    trials += [(crashed, name, *entry) for name, entry in CRASHED.items()]
    done = 0
    for template, name, spoil, count in trials:
        for number in range(count * times):
            seed = f"{name} {number}"
            try:
                trial(template, tmp_path / f"{done}", spoil, seed, expected, tally)
            except Exception as error:
                raise AssertionError(f"damage {seed!r}: {error!r}") from error
            done += 1
    assert done >= 100 * times
    assert tally["refused"] > done // 3
    print(f"{done} damaged journals: {dict(tally)}, 0 lost, 0 sent wrongly")
