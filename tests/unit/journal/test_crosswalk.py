"""The crosswalk on a real disk: durable, private, encrypted if asked for."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asyncroute.core.errors import OurFault, StorageFault
from asyncroute.journal.crosswalk import FILE, Crosswalk, look_up
from asyncroute.transform.base import Link

KEY = b"k" * 32
PATIENT = Link("patient", "P-4711", "ABCDEFGH12345678")
NAME = Link("name", "Kowalczyk^Anna", "ABCDEFGH12345678")
STUDY = Link("study", "1.2.3", "2.25.42")


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize("key", [None, KEY])
def test_what_was_kept_is_found_again_also_while_it_is_open(tmp_path: Path, key: bytes | None) -> None:
    walk = Crosswalk(tmp_path, key)
    assert not walk.knows([PATIENT])
    walk.keep([PATIENT, NAME, STUDY])
    walk.keep([PATIENT])
    assert walk.knows([PATIENT, NAME, STUDY])
    found = look_up(tmp_path, PATIENT.pseudonym, key)
    assert [(each.kind, each.value) for each in found] == [("name", "Kowalczyk^Anna"), ("patient", "P-4711")]
    walk.close()
    again = Crosswalk(tmp_path, key)
    again.keep([PATIENT])
    again.close()
    assert [each.value for each in look_up(tmp_path, "2.25.42", key)] == ["1.2.3"]
    assert len(look_up(tmp_path, PATIENT.pseudonym, key)) == 2
    assert look_up(tmp_path, "nobody", key) == []


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    (tmp_path / FILE).touch(mode=0o644)
    walk = Crosswalk(tmp_path)
    walk.keep([PATIENT])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    walk.close()
    assert set(modes.values()) == {0o600}


def test_an_encrypted_one_tells_nothing(tmp_path: Path) -> None:
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    for folder, key in ((plain, None), (sealed, KEY)):
        folder.mkdir()
        walk = Crosswalk(folder, key)
        walk.keep([PATIENT, NAME, STUDY])
        assert (b"Kowalczyk" in everything(folder)) is (key is None)
        assert (b"P-4711" in everything(folder)) is (key is None)
        walk.close()
    for folder, key, text in (
        (sealed, None, "encrypted with another key"),
        (sealed, b"x" * 32, "encrypted with another key"),
        (plain, KEY, "not encrypted, but a key is configured"),
    ):
        with pytest.raises(OurFault, match=text):
            look_up(folder, PATIENT.pseudonym, key)
        with pytest.raises(OurFault, match=text):
            Crosswalk(folder, key).open()


def test_many_threads_share_syncs_and_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Crosswalk(tmp_path)
    writes: list[int] = []
    write = walk._write

    def counted(connection: sqlite3.Connection, group: list[tuple[str, str, str]]) -> None:
        writes.append(len(group))
        write(connection, group)

    monkeypatch.setattr(walk, "_write", counted)
    links = [Link("study", f"1.2.{n}", f"2.25.{n}") for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda link: walk.keep([link, PATIENT]), links))
    walk.close()
    assert 1 <= len(writes) <= 400
    assert sum(writes) >= 401
    for link in links[::37]:
        assert [each.value for each in look_up(tmp_path, link.pseudonym)] == [link.original]


def test_what_was_kept_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from asyncroute.journal.crosswalk import Crosswalk; from asyncroute.transform.base import Link\n"
        f"Crosswalk(Path({str(tmp_path)!r})).keep([Link('patient', 'P-4711', 'X')]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [each.value for each in look_up(tmp_path, "X")] == ["P-4711"]


def test_bad_files_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OurFault, match="there is no crosswalk"):
        look_up(tmp_path, "X")
    (tmp_path / FILE).write_bytes(b"no database " * 1000)
    with pytest.raises(StorageFault) as fault:
        Crosswalk(tmp_path).open()
    assert "\n" not in str(fault.value)
