"""A file is held against the journal before it is sent; the spool notices when its folder is taken away."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery, Instance, Source
from asyncroute.spool.local import LocalSpool, free_name, orphans
from asyncroute.wire import part10
from tests.unit.parts import delivery, noise

ODD = Source("A" * 16, "B\\é", "AET@[::1]:104", "::1")


def stored(spool: LocalSpool, **changes: object) -> Delivery:
    """An image in the spool, as a lane gets it."""
    number, path = spool.allocate()
    facts = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance_uid": f"1.2.3.{number}",
        "transfer_syntax": "1.2",
    }
    source = changes.pop("source", Source("CT_A", "ASYNCROUTE", "x", "y"))
    assert isinstance(source, Source)
    made = Instance(number, source, received_at=1.0, path=path, **facts | changes)  # type: ignore[arg-type]
    assert spool.write([(made, [noise(1000, number)])]) == {}
    same = {name: getattr(made, name) for name in (*facts, "path", "data_offset", "size", "checksum")}
    return delivery(number, calling_aet=source.calling_aet, called_aet=source.called_aet, **same)


@pytest.fixture
def spool(tmp_path: Path) -> LocalSpool:
    return LocalSpool(tmp_path / "spool", "process-crash")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"source": ODD},
        {"sop_instance_uid": "../x\n" + "9" * 300},
        {"sop_instance_uid": ""},
        {"transfer_syntax": "1"},
    ],
)
def test_what_was_written_is_confirmed(spool: LocalSpool, changes: dict[str, object]) -> None:
    spool.confirm(stored(spool, **changes))


def test_every_bit_of_the_header_counts(spool: LocalSpool) -> None:
    one = stored(spool)
    path = spool.root / one.path
    whole = path.read_bytes()
    version = whole.index(b"ASYNCROUTE_0") + len("ASYNCROUTE_")  # see the next test
    for at in sorted(set(range(one.data_offset)) - {version}):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(StorageFault, match="is damaged") as caught:
            spool.confirm(one)
        assert caught.value.errno == 0
    path.write_bytes(whole)
    spool.confirm(one)


def test_what_another_version_wrote_is_confirmed(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(part10, "IMPLEMENTATION_VERSION", "ASYNCROUTE_9.9")
        part10._constant_parts.cache_clear()
        one = stored(spool)
    part10._constant_parts.cache_clear()
    assert b"ASYNCROUTE_9.9" in (spool.root / one.path).read_bytes()
    spool.confirm(one)
    for change in ({"sop_instance_uid": "1.2.3.9"}, {"calling_aet": "CT_B"}, {"checksum": 7}):
        with pytest.raises(StorageFault):
            spool.confirm(replace(one, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"sop_instance_uid": "1.2.3.9"},
        {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"},
        {"transfer_syntax": "1.2.840.10008.1.2.5"},
        {"calling_aet": "CT_B"},
        {"called_aet": "OTHER"},
        {"checksum": 7},
        {"size": 999},
        {"data_offset": 499},
        {"data_offset": -1},
        {"data_offset": 1 << 50, "size": -(1 << 50)},
        {"instance_id": 77},
    ],
)
def test_every_fact_of_the_journal_counts(spool: LocalSpool, change: dict[str, object]) -> None:
    with pytest.raises(StorageFault):
        spool.confirm(replace(stored(spool), **change))  # type: ignore[arg-type]


def test_the_file_of_another_image(spool: LocalSpool) -> None:
    one, two = stored(spool), stored(spool)
    shutil.copyfile(spool.root / two.path, spool.root / one.path)
    with pytest.raises(StorageFault, match=r"it is the file of another image \(number 2\)"):
        spool.confirm(one)
    with pytest.raises(StorageFault):
        spool.confirm(replace(one, path=two.path))


def test_a_path_that_cannot_be(spool: LocalSpool) -> None:
    for path in ("\0", "000000", "/dev/null", "gone/x.dcm"):
        with pytest.raises(StorageFault):
            spool.confirm(replace(stored(spool), path=path))


def test_a_streamed_file_that_is_refused_is_removed(spool: LocalSpool) -> None:
    number, path = spool.allocate()
    made = Instance(number, ODD, "1", "1", "1", 1.0, path)
    incoming = spool.incoming(made)
    incoming.append([b"x" * 1000])
    incoming.finish()
    assert spool.files == 1
    spool._tree.broken = "a sync failed"
    assert spool.write([(made, None)]).keys() == {number}
    assert spool.files == 0
    assert not (spool.root / path).exists()


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_nothing_is_written_into_a_folder_without_its_name(spool: LocalSpool, tmp_path: Path, how: str) -> None:
    stored(spool)
    assert not spool.left_place()
    spool.root.rename(tmp_path / "moved")
    if how == "removed":
        shutil.rmtree(tmp_path / "moved")
    if how == "replaced":
        spool.root.mkdir()
    made = Instance(9, ODD, "1", "1", "1", 1.0, "000000/00000009.dcm")
    (fault,) = spool.write([(made, [b"x"])]).values()
    assert "the spool was removed or replaced" in str(fault)
    with pytest.raises(StorageFault, match="removed or replaced"):
        spool.incoming(made)
    assert spool.broken
    assert not list(spool.root.glob("*/*"))


# --- orphans ----------------------------------------------------------------------------------------------------------


def test_orphans_are_listed_and_taken_in(spool: LocalSpool, tmp_path: Path) -> None:
    one, two = stored(spool), stored(spool)
    content = (spool.root / one.path).read_bytes()
    spool.set_aside(one.path)
    (tmp_path / "orphans" / "letter").write_text("x")
    (tmp_path / "orphans" / "00000009.dcm").mkdir()
    assert sorted(number for number, _ in orphans(tmp_path)) == [0, 1]
    assert (spool.last_orphan(), spool.files) == (1, 1)
    file = tmp_path / "orphans" / "00000001.dcm"
    facts = spool.facts_outside(file)
    assert facts is not None
    assert (facts.instance_id, facts.checksum) == (1, one.checksum)
    assert not spool.take_in(file, two.path)
    assert not spool.take_in(file, "000000/nowhere")
    assert spool.take_in(file, one.path)
    assert ((spool.root / one.path).read_bytes(), spool.files, file.exists()) == (content, 2, False)
    spool.sync_folders([one.path, two.path])
    spool.confirm(one)


@pytest.mark.parametrize("word", [b"1.2.840", b"1.2.3.", b"CT_A", b"ASYNCRTE", noise(8, 1)])
def test_an_orphan_that_is_not_whole(spool: LocalSpool, tmp_path: Path, word: bytes) -> None:
    spool.set_aside(stored(spool).path)
    ((_, file),) = orphans(tmp_path)
    content = bytearray(file.read_bytes())
    content[content.rindex(word) + 1] ^= 4
    file.write_bytes(content)
    assert spool.facts_outside(file) is None


def test_no_orphans(spool: LocalSpool, tmp_path: Path) -> None:
    assert (list(orphans(tmp_path)), spool.last_orphan()) == ([], 0)


def test_a_free_name_is_one_that_nobody_has(tmp_path: Path) -> None:
    for expected in ("x", "x.1", "x.2"):
        free = free_name(tmp_path / "f", "x")
        assert free.name == expected
        os.symlink("nowhere", free)
