"""Cut and damaged spool files are never taken for whole ones (hypothesis: any cut, any single bad byte of the head)."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncroute.spool import facts
from asyncroute.spool.local import LocalSpool
from tests.contract.made import image

DATA = b"0123456789" * 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LocalSpool, bytes, int]:
    """A spool with one file: its path, the spool, its bytes, the length of its head."""
    spool = LocalSpool(tmp_path_factory.mktemp("facts") / "spool", "process-crash")
    instance_id, path = spool.allocate()
    instance = image(instance_id, path=path, data_offset=0)
    assert spool.write([(instance, [DATA])]) == {}
    file = spool.root / path
    return file, spool, file.read_bytes(), instance.data_offset


@given(data=st.data())
@settings(max_examples=200)
def test_a_cut_file_is_not_whole(whole: tuple[Path, LocalSpool, bytes, int], data: st.DataObject) -> None:
    file, spool, content, _ = whole
    cut = data.draw(st.integers(0, len(content) - 1))
    file.write_bytes(content[:cut])
    assert spool.facts(f"{file.parent.name}/{file.name}") is None


@given(data=st.data())
@settings(max_examples=200)
def test_a_grown_file_is_not_whole(whole: tuple[Path, LocalSpool, bytes, int], data: st.DataObject) -> None:
    file, spool, content, _ = whole
    file.write_bytes(content + data.draw(st.binary(min_size=1, max_size=50)))
    assert spool.facts(f"{file.parent.name}/{file.name}") is None


@given(data=st.data())
@settings(max_examples=300)
def test_a_bad_byte_in_the_facts_is_seen(whole: tuple[Path, LocalSpool, bytes, int], data: st.DataObject) -> None:
    file, spool, content, offset = whole
    damaged = bytearray(content)
    place = data.draw(st.integers(content.index(b"ASYNCRTE"), offset - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(damaged)
    assert spool.facts(f"{file.parent.name}/{file.name}") is None


@given(data=st.data())
@settings(max_examples=200)
def test_any_damage_of_the_head_raises_nothing(whole: tuple[Path, LocalSpool, bytes, int], data: st.DataObject) -> None:
    file, spool, content, offset = whole
    damaged = bytearray(content)
    place = data.draw(st.integers(0, offset - 1))
    junk = data.draw(st.binary(min_size=1, max_size=20))
    damaged[place : place + len(junk)] = junk
    file.write_bytes(damaged)
    spool.facts(f"{file.parent.name}/{file.name}")


@pytest.mark.parametrize("uid", ["1.2", " 1.2 ", "1.2\0", "", "é\\udc80", "9" * 70])
def test_any_uids_are_their_own(tmp_path: Path, uid: str) -> None:
    spool = LocalSpool(tmp_path / "spool", "process-crash")
    instance_id, path = spool.allocate()
    odd = {"sop_instance_uid": uid, "sop_class_uid": uid}
    assert spool.write([(image(instance_id, path=path, data_offset=0, **odd), [DATA])]) == {}
    found = spool.facts(path)
    assert found is not None
    assert found.sop_instance_uid == uid.strip(" \0").encode("latin-1", "replace").decode("latin-1")


def test_facts_written_before_they_covered_the_uids(tmp_path: Path) -> None:
    instance = image(7)
    now = facts.pack(instance, 5, 6)
    magic, version, length, _, *rest = facts._FIXED.unpack_from(now)
    assert version == 2
    names = now[facts._FIXED.size :]
    crc = crc32(names, crc32(facts._FIXED.pack(magic, 1, length, 0, *rest)))
    before = facts._FIXED.pack(magic, 1, length, crc, *rest) + names
    uids = (instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax)
    assert facts.unpack(before, *uids) == facts.unpack(now, *uids) == (7, 5, 6, instance.received_at, instance.source)
    assert facts.unpack(now, *uids[:2], "1.2") is None
