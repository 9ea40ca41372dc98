"""A folder's files under their names: one each, whole at any moment.

forward/folder.py: ``_link`` without hard links asks whether a name is free and then renames: two lanes may do so at
once. ``_copy`` opens the temporary of an interrupted try for writing, which after a crash between link and unlink is
the finished file itself.
Proposed: a lock (or O_EXCL) around the renaming; unlink the temporary before it is opened.
"""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asyncroute.config.template import parse_layout
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import SUCCESS
from asyncroute.forward.folder import FolderForwarder
from asyncroute.spool.local import LocalSpool
from tests.unit.parts import delivery, files_in, instance, noise


def stored(spool: LocalSpool, number: int, size: int = 1000) -> Delivery:
    made = instance(number, data_offset=0)
    assert spool.write([(made, [noise(size, number)])]) == {}
    return delivery(number, "folder", data_offset=made.data_offset, size=made.size, checksum=made.checksum)


def test_two_of_one_name_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool", "process-crash")
    forwarder = FolderForwarder("f", tmp_path / "out", parse_layout("one.dcm"), "keep-both", spool, None, False)  # type: ignore[arg-type]
    both, exists = threading.Barrier(2), Path.exists

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def exists_together(path: Path) -> bool:
        """As slow as a share: both lanes ask before either acts, unless something keeps them apart."""
        found = exists(path)
        if path.name == "one.dcm" and not found:
            try:
                both.wait(0.3)
            except threading.BrokenBarrierError:
                pass
        return found

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(Path, "exists", exists_together)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(forwarder.write, [stored(spool, 1), stored(spool, 2)]))
    assert all(outcome.delivered for outcome in outcomes)
    assert len(files_in(tmp_path / "out")) == 2
    spool.close()


def test_a_finished_file_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool", "process-crash")
    forwarder = FolderForwarder("f", tmp_path / "out", parse_layout("one.dcm"), "keep-both", spool, None, False)  # type: ignore[arg-type]
    image = stored(spool, 1)
    names: list[Path] = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: names.append(path))  # killed just before
    assert forwarder.write(image) == SUCCESS
    monkeypatch.setattr(Path, "unlink", unlink)
    finished = tmp_path / "out" / "one.dcm"
    whole = finished.read_bytes()
    (temporary,) = {path for path in names if path.exists()}
    assert os.path.samefile(temporary, finished)
    read, calls = spool.read, 0

    def fails_later(path: str, offset: int, length: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StorageFault("the disk reports an I/O error", errno.EIO)
        return read(path, offset, length)

    monkeypatch.setattr(spool, "read", fails_later)
    assert not forwarder.write(image).delivered
    assert finished.read_bytes() == whole
    spool.close()
