"""The reserve for a full disk: made where there is plenty, given up once, and back later."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from asyncroute.journal.reserve import PLENTY, SIZE, Reserve

SMALL = 1 << 16


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=size, f_frsize=1))


def test_it_takes_up_room_and_gives_it_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert not reserve.give_up()
    reserve.restore()
    assert reserve.path.stat().st_blocks * 512 >= SIZE
    assert (reserve.used, reserve.missing) == (False, 0)
    assert reserve.give_up()
    assert not reserve.path.exists()
    assert (reserve.used, reserve.missing) == (True, SIZE)
    assert not reserve.give_up()
    reserve.restore()
    assert (reserve.path.exists(), reserve.used, reserve.missing) == (True, False, 0)


def test_it_is_found_again(tmp_path: Path) -> None:
    Reserve(tmp_path, SMALL).restore()
    assert Reserve(tmp_path, SMALL).give_up()


@pytest.mark.parametrize("content", [b"", b"half", bytes(SMALL)[:-1]])
def test_half_a_reserve_is_made_anew(tmp_path: Path, content: bytes) -> None:
    reserve = Reserve(tmp_path, SMALL)
    reserve.path.write_bytes(content)
    again = Reserve(tmp_path, SMALL)
    assert not again.give_up()
    again.restore()
    assert again.path.stat().st_size == SMALL
    assert again.give_up()


def test_a_file_with_holes_is_no_reserve(tmp_path: Path) -> None:
    with (tmp_path / "reserve").open("wb") as file:
        file.truncate(SIZE)
    assert not Reserve(tmp_path).give_up()


def test_a_nearly_full_disk_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(tmp_path, SMALL)
    free(monkeypatch, PLENTY * SMALL - 1)
    reserve.restore()
    assert not reserve.path.exists()
    free(monkeypatch, PLENTY * SMALL)
    reserve.restore()
    assert reserve.path.exists()


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fails)
    reserve = Reserve(tmp_path, SMALL)
    reserve.restore()
    assert not reserve.path.exists()
    assert not reserve.give_up()
