"""What every spool promises: spool.base.Spool and Incoming."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
import xxhash

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Instance
from asyncroute.spool.base import Buffer, Spool
from asyncroute.wire.part10 import parse_meta
from tests.contract.made import CT, EXPLICIT, SOURCE, T0, image


def allocated(spool: Spool, **changes: object) -> Instance:
    """A new image that has its id and path from the spool, and no length yet."""
    instance_id, path = spool.allocate()
    return image(instance_id, **{"path": path, "size": 0, "data_offset": 0, "checksum": 0} | changes)


def stored(spool: Spool, parts: Sequence[Buffer]) -> Instance:
    """An image written as a group of its own."""
    instance = allocated(spool)
    assert spool.write([(instance, parts)]) == {}
    return instance


def content(spool: Spool, instance: Instance) -> bytes:
    """The data set as the spool gives it back."""
    return spool.read(instance.path, instance.data_offset, instance.size)


PARTS = [
    [b"whole"],
    [b"a", bytearray(b"bc"), memoryview(b"xdefx")[1:-1]],
    [b"", b"odd", b""],
    [bytes([n % 256]) for n in range(5000)],
    [bytes(3 << 20), b"end"],
    [],
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: f"{len(parts)} parts")
def test_bytes_come_back(spool: Spool, parts: list[Buffer]) -> None:
    whole = b"".join(parts)
    instance = stored(spool, parts)
    assert content(spool, instance) == whole
    assert (instance.size, instance.checksum) == (len(whole), xxhash.xxh3_64_intdigest(whole))
    spool.verify(instance.path, instance.data_offset, instance.size, instance.checksum)
    assert spool.read(instance.path, instance.data_offset + 1, 2) == whole[1:3] if len(whole) > 3 else True


def test_a_file_is_part_10_with_the_titles_of_its_source(spool: Spool) -> None:
    instance = stored(spool, [b"data set"])
    meta = parse_meta(spool.read(instance.path, 0, instance.data_offset))
    assert (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax) == (
        CT,
        instance.sop_instance_uid,
        EXPLICIT,
    )
    assert (meta.source_aet, meta.sending_aet, meta.receiving_aet) == ("CT_A", "CT_A", "ASYNCROUTE")
    assert meta.data_offset == instance.data_offset


def test_a_file_tells_its_facts(spool: Spool) -> None:
    instance = stored(spool, [b"data set"])
    facts = spool.facts(instance.path)
    assert facts is not None
    assert (facts.instance_id, facts.source, facts.received_at) == (instance.id, SOURCE, T0 + instance.id)
    assert (facts.sop_class_uid, facts.sop_instance_uid, facts.transfer_syntax) == (
        CT,
        instance.sop_instance_uid,
        EXPLICIT,
    )
    assert (facts.data_offset, facts.size, facts.checksum) == (instance.data_offset, 8, instance.checksum)


def test_paths_do_not_come_from_the_image(spool: Spool) -> None:
    hostile = allocated(spool, sop_instance_uid="../../etc/passwd\0\n", study_uid="/tmp/x")
    assert spool.write([(hostile, [b"x"])]) == {}
    assert content(spool, hostile) == b"x"
    assert [found.path for found in spool.sweep()] == [hostile.path]
    assert ".." not in hostile.path


def test_ids_rise_and_are_unique_over_threads(spool: Spool) -> None:
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.extend(spool.allocate()[0] for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 2000
    assert spool.allocate()[0] > max(got)


def test_start_at_never_goes_back(spool: Spool) -> None:
    spool.start_at(5000)
    first = spool.allocate()[0]
    spool.start_at(10)
    assert first == 5000
    assert spool.allocate()[0] > first


def test_an_existing_file_is_never_overwritten(spool: Spool, open_spool: Callable[[], Spool]) -> None:
    instance = stored(spool, [b"first"])
    again = open_spool()
    clash, fine = allocated(again), allocated(again)
    assert clash.path == instance.path
    assert list(again.write([(clash, [b"other"]), (fine, [b"fine"])])) == [clash.id]
    assert content(again, instance) == b"first"
    assert content(again, fine) == b"fine"
    again.start_at(clash.id)
    with pytest.raises(StorageFault, match="exists"):
        open_spool().incoming(image(instance.id, path=instance.path))
    assert content(again, instance) == b"first"


# --- reading ----------------------------------------------------------------------------------------------------------


def test_reading_beyond_the_end_is_a_fault(spool: Spool) -> None:
    instance = stored(spool, [b"12345"])
    with pytest.raises(StorageFault, match=r"ends after \d+ bytes"):
        spool.read(instance.path, instance.data_offset, 6)


def test_a_missing_file_is_a_fault(spool: Spool) -> None:
    for ask in (lambda: spool.read("000000/00000009.dcm", 0, 1), lambda: spool.verify("000000/00000009.dcm", 0, 1, 1)):
        with pytest.raises(StorageFault, match="No such file"):
            ask()


@pytest.mark.parametrize(("size", "checksum", "words"), [(4, 0, "longer"), (6, 0, "shorter"), (5, 1, "damaged")])
def test_verify_says_what_is_wrong(spool: Spool, size: int, checksum: int, words: str) -> None:
    instance = stored(spool, [b"12345"])
    with pytest.raises(StorageFault, match=words):
        spool.verify(instance.path, instance.data_offset, size, instance.checksum ^ checksum)


# --- removing and counting --------------------------------------------------------------------------------------------


def test_usage_is_counted(spool: Spool, open_spool: Callable[[], Spool]) -> None:
    images = [stored(spool, [bytes(100)]) for _ in range(3)]
    length = images[0].data_offset + 100
    assert (spool.files, spool.bytes) == (3, 3 * length)
    spool.remove(images[0].path)
    spool.remove(images[0].path)
    spool.remove("000777/00777777.dcm")
    assert (spool.files, spool.bytes) == (2, 2 * length)
    again = open_spool()
    assert [found.number for found in again.sweep()] == [images[1].id, images[2].id]
    assert (again.files, again.bytes) == (2, 2 * length)
    with pytest.raises(StorageFault):
        spool.read(images[0].path, 0, 1)


def test_free_bytes_is_a_sensible_number(spool: Spool) -> None:
    assert 0 < spool.free_bytes() < 1 << 60


def test_sweep_is_in_order_over_folders(spool: Spool, open_spool: Callable[[], Spool]) -> None:
    ids = [5, 998, 999, 1000, 1001, 2500, 123_456_789, 9_999_999_999]
    for instance_id in ids:
        spool.start_at(instance_id)
        assert stored(spool, [b"x"]).id == instance_id
    found = list(open_spool().sweep())
    assert [it.number for it in found] == ids
    assert all(it.length == len(spool.read(it.path, 0, it.length)) for it in found)


def test_images_set_aside_leave_the_spool_and_stay_whole(spool: Spool, open_spool: Callable[[], Spool]) -> None:
    first = stored(spool, [b"first"])
    spool.set_aside(first.path)
    assert (spool.files, list(spool.sweep())) == (0, [])
    again = open_spool()
    second = stored(again, [b"second"])
    assert second.path == first.path
    again.set_aside(second.path)
    assert list(again.sweep()) == []


def test_emptied_folders_can_be_written_again(spool: Spool) -> None:
    late = [allocated(spool) for _ in range(3)]
    early = stored(spool, [b"x"])
    spool.start_at(5000)
    stored(spool, [b"next folder"])
    spool.remove(early.path)
    assert spool.write([(instance, [b"late"]) for instance in late]) == {}
    assert [content(spool, instance) for instance in late] == [b"late"] * 3


def test_two_threads_write_at_once(spool: Spool) -> None:
    images = [allocated(spool) for _ in range(1400)]
    failed: dict[int, StorageFault] = {}

    def write(mine: list[Instance]) -> None:
        for start in range(0, len(mine), 7):
            group = mine[start : start + 7]
            failed.update(spool.write([(it, [b"%d" % it.id]) for it in group]))
            for it in group[:6]:
                spool.remove(it.path)

    threads = [threading.Thread(target=write, args=(images[n::2],)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == {}
    left = list(spool.sweep())
    counted = (spool.files, spool.bytes)
    assert counted == (len(left), sum(it.length for it in left))
    assert all(spool.facts(it.path) is not None for it in left)


# --- streamed images --------------------------------------------------------------------------------------------------


def streamed(spool: Spool, pieces: Sequence[bytes]) -> Instance:
    """An image written as it arrives, then synced with its group."""
    instance = allocated(spool)
    incoming = spool.incoming(instance)
    for piece in pieces:
        incoming.append([piece[:10], piece[10:]])
    incoming.finish()
    assert spool.write([(instance, ())]) == {}
    return instance


def test_a_streamed_image_is_as_a_written_one(spool: Spool) -> None:
    pieces = [bytes([n]) * 100_000 for n in range(7)]
    one, other = streamed(spool, pieces), stored(spool, pieces)
    assert content(spool, one) == content(spool, other) == b"".join(pieces)
    assert (one.size, one.data_offset, one.checksum) == (other.size, other.data_offset, other.checksum)
    facts = spool.facts(one.path)
    assert facts is not None
    assert (facts.size, facts.checksum) == (one.size, one.checksum)
    assert (spool.files, spool.bytes) == (2, 2 * (one.data_offset + one.size))


def test_a_streamed_image_beyond_a_sync_interval(spool: Spool) -> None:
    instance = streamed(spool, [bytes(7 << 20)] * 5)
    assert instance.size == 35 << 20
    spool.verify(instance.path, instance.data_offset, instance.size, instance.checksum)


def test_an_unfinished_image_is_not_whole(spool: Spool) -> None:
    instance = allocated(spool)
    incoming = spool.incoming(instance)
    incoming.append([b"some"])
    assert spool.facts(instance.path) is None
    assert [found.path for found in spool.sweep()] == [instance.path]
    incoming.abandon()
    incoming.abandon()
    assert list(spool.sweep()) == []


def test_groups_mix_written_and_streamed_images(spool: Spool) -> None:
    large = allocated(spool)
    incoming = spool.incoming(large)
    incoming.append([b"large"])
    incoming.finish()
    small = allocated(spool)
    assert spool.write([(small, [b"small"]), (large, None)]) == {}
    assert (content(spool, small), content(spool, large)) == (b"small", b"large")
    assert spool.files == 2
