"""Folders as destinations: each image a whole file under its name, whatever is there already and whatever fails."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest

from asyncroute.config.template import DEFAULT_LAYOUT, parse_layout
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import SUCCESS, Kind, Outcome, Scope
from asyncroute.forward import folder as module
from asyncroute.forward.folder import HEAD, FolderForwarder, FolderLane
from asyncroute.spool.local import LocalSpool
from asyncroute.wire.part10 import parse_meta
from tests.support import synthetic
from tests.support.synthetic import KINDS
from tests.support.synthetic import Kind as ImageKind
from tests.unit.parts import delivery, files_in, instance, noise, on_loop, until


class Bench:
    """A spool and a folder destination over it. ``out``: the folder."""

    def __init__(self, root: Path) -> None:
        self.spool = LocalSpool(root / "spool", "process-crash")
        self.out = root / "out"
        self.pool = ThreadPoolExecutor(4)
        self.number = 0

    def forwarder(
        self, layout: str = DEFAULT_LAYOUT, duplicates: str = "keep-both", sync: bool = False
    ) -> FolderForwarder:
        return FolderForwarder("folder", self.out, parse_layout(layout), duplicates, self.spool, self.pool, sync)

    def stored(self, data: bytes | None = None, **more: Any) -> Delivery:
        """An image in the spool: ``data``, or a made one."""
        self.number += 1
        kind = more.pop("kind", ImageKind())
        source = synthetic.image("folder", more.pop("index", 1), kind)
        made = instance(
            self.number, data_offset=0, sop_class_uid=source.sop_class, transfer_syntax=source.transfer_syntax
        )
        made.sop_instance_uid = source.sop_instance
        data = b"".join(source.chunks(1 << 20)) if data is None else data
        assert self.spool.write([(made, [data])]) == {}
        found = delivery(self.number, "folder", data_offset=made.data_offset, size=made.size, checksum=made.checksum)
        found.sop_class_uid, found.sop_instance_uid = made.sop_class_uid, made.sop_instance_uid
        found.transfer_syntax = made.transfer_syntax
        for name, value in more.items():
            setattr(found, name, value)
        return found

    def data(self, stored: Delivery) -> bytes:
        return self.spool.read(stored.path, stored.data_offset, stored.size)

    def there(self) -> dict[str, bytes]:
        """The data sets of the files that are there, by name."""
        return {name: content[parse_meta(content).data_offset :] for name, content in files_in(self.out).items()}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.pool.shutdown()
    made.spool.close()


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(("sop_class", "syntax"), KINDS)
def test_a_file_that_others_can_read(bench: Bench, sop_class: str, syntax: str, sync: bool) -> None:
    image = bench.stored(kind=ImageKind(sop_class, syntax, 4096))
    assert bench.forwarder(sync=sync).write(image) == SUCCESS
    modality = synthetic.MODALITIES[sop_class]
    name = f"PAT-1/20240229-{modality}/{image.sop_instance_uid}.dcm"
    assert bench.there() == {name: bench.data(image)}
    read = pydicom.dcmread(bench.out / name)
    assert read.file_meta.TransferSyntaxUID == syntax
    assert read.file_meta.MediaStorageSOPInstanceUID == image.sop_instance_uid
    assert read.file_meta.SourceApplicationEntityTitle == "CT_A"
    assert read.SOPInstanceUID == image.sop_instance_uid
    assert (0x0002, 0x0102) not in read.file_meta


@pytest.mark.parametrize("size", [0, 2, HEAD - 1, HEAD, HEAD + 1, 3_000_001])
def test_bytes_are_kept_whatever_they_are(bench: Bench, size: int) -> None:
    image = bench.stored(noise(size, 77))
    assert bench.forwarder().write(image) == SUCCESS
    assert list(bench.there().values()) == [noise(size, 77)]


def test_what_a_header_does_not_say(bench: Bench) -> None:
    """A private syntax cannot be read: the UID is known all the same."""
    image = bench.stored(kind=ImageKind(synthetic.CT, synthetic.PRIVATE_SYNTAX, 512))
    bench.forwarder().write(image)
    assert list(bench.there()) == [f"unknown/unknown-unknown/{image.sop_instance_uid}.dcm"]


@pytest.mark.parametrize("patient", ["../../etc", "/etc/passwd", "..", "a\x00b", "x" * 300, ""])
def test_it_stays_in_its_folder(bench: Bench, patient: str) -> None:
    value = patient.encode().ljust(len(patient) + len(patient) % 2)
    tag = b"\x10\0\x20\0LO" + len(value).to_bytes(2, "little") + value
    assert bench.forwarder("{PatientID}/{SOPInstanceUID}.dcm").write(bench.stored(tag)) == SUCCESS
    assert len(bench.there()) == 1
    inside = {"out", "spool"}
    assert {path.name for path in bench.out.parent.iterdir()} <= inside


def test_folders_that_are_there_and_that_are_not(bench: Bench) -> None:
    forwarder = bench.forwarder("a/b/{Modality}/{SOPInstanceUID}.dcm")
    (bench.out / "a").mkdir(parents=True)
    for index in range(3):
        assert forwarder.write(bench.stored(index=index)) == SUCCESS
    assert len(bench.there()) == 3


# --- what is there already --------------------------------------------------------------------------------------------

ONE = "one.dcm"


@pytest.mark.parametrize("duplicates", ["keep-both", "replace", "skip"])
def test_the_same_bytes_twice_are_one_file(bench: Bench, duplicates: str) -> None:
    forwarder = bench.forwarder(ONE, duplicates)
    first, again = bench.stored(), bench.stored()
    assert forwarder.write(first) == SUCCESS
    inode = (bench.out / ONE).stat().st_ino
    outcome = forwarder.write(again)
    assert outcome == Outcome(Kind.DELIVERED_WITH_WARNING, "one.dcm is there already, with the same bytes")
    assert forwarder.write(first).delivered
    assert bench.there() == {ONE: bench.data(first)}
    assert (bench.out / ONE).stat().st_ino == inode


@pytest.mark.parametrize(
    ("duplicates", "expected", "words"),
    [
        ("keep-both", {"one.dcm": 1, "one~2.dcm": 2}, "kept as one~2.dcm"),
        ("replace", {"one.dcm": 2}, "was replaced"),
        ("skip", {"one.dcm": 1}, "skipped"),
    ],
)
@pytest.mark.parametrize("size", [1000, 2_000_000])
def test_other_bytes_of_the_same_name(
    bench: Bench, duplicates: str, expected: dict[str, int], words: str, size: int
) -> None:
    forwarder = bench.forwarder(ONE, duplicates)
    assert forwarder.write(bench.stored(noise(size, 101))) == SUCCESS
    outcome = forwarder.write(bench.stored(noise(size, 102)))
    assert outcome.kind is Kind.DELIVERED_WITH_WARNING
    assert words in outcome.text
    assert bench.there() == {name: noise(size, 100 + n) for name, n in expected.items()}


def test_copies_are_numbered_and_found_again(bench: Bench) -> None:
    forwarder = bench.forwarder(ONE)
    images = [bench.stored(noise(100, 100 + n)) for n in range(5)]
    for image in (*images, *reversed(images)):
        assert forwarder.write(image).delivered
    assert bench.there() == {"one.dcm" if n == 0 else f"one~{n + 1}.dcm": noise(100, 100 + n) for n in range(5)}


def test_a_strange_file_of_that_name_is_kept(bench: Bench) -> None:
    bench.out.mkdir()
    (bench.out / ONE).write_bytes(b"somebody's notes")
    assert bench.forwarder(ONE).write(bench.stored()).delivered
    assert (bench.out / ONE).read_bytes() == b"somebody's notes"
    assert (bench.out / "one~2.dcm").exists()


def test_too_many_of_one_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COPIES", 4)
    forwarder = bench.forwarder(ONE)
    outcomes = [forwarder.write(bench.stored(noise(100, 100 + n))) for n in range(4)]
    assert [outcome.delivered for outcome in outcomes] == [True, True, True, False]
    assert len(files_in(bench.out)) == 3


def test_many_at_once_under_one_name(bench: Bench) -> None:
    """Lanes race for a name; each image gets one, none is overwritten."""
    forwarder = bench.forwarder(ONE)
    images = [bench.stored(noise(50_000, 100 + n)) for n in range(12)]
    for _ in range(2):
        assert all(outcome.delivered for outcome in bench.pool.map(forwarder.write, images))
    assert sorted(bench.there().values()) == sorted(bench.data(image) for image in images)


@pytest.mark.parametrize("duplicates", ["keep-both", "replace", "skip"])
def test_where_there_are_no_links(bench: Bench, monkeypatch: pytest.MonkeyPatch, duplicates: str) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    forwarder = bench.forwarder(ONE, duplicates)
    for n in (101, 102, 101):
        assert forwarder.write(bench.stored(noise(100, n))).delivered
    assert len(bench.there()) == (2 if duplicates == "keep-both" else 1)


# --- what fails -------------------------------------------------------------------------------------------------------


def blamed(outcome: Outcome) -> None:
    """It is the destination's fault, not the image's."""
    assert (outcome.kind, outcome.scope, outcome.loud) == (Kind.ASSOCIATION_FAILED, Scope.DESTINATION, True), outcome
    assert outcome.text.startswith("cannot write ")
    assert "\n" not in outcome.text


def test_a_file_where_the_folder_should_be(bench: Bench) -> None:
    bench.out.write_text("in the way")
    blamed(bench.forwarder().write(bench.stored()))
    assert bench.out.read_text() == "in the way"


@pytest.mark.parametrize("at", ["open", "write", "link", "sync"])
def test_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Whenever it is noticed: the destination pauses, and nothing half-written is left. Later it goes on."""
    forwarder, image = bench.forwarder(sync=True), bench.stored()

    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if at == "open":
            patch.setattr(Path, "open", no_space)
        elif at == "write":
            patch.setattr(module, "build_meta", no_space)
        else:
            patch.setattr(os, "link" if at == "link" else "fdatasync", no_space)
        blamed(forwarder.write(image))
    assert files_in(bench.out) == {}
    assert forwarder.write(image) == SUCCESS
    assert len(bench.there()) == 1


def test_a_folder_that_cannot_be_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    outcome = bench.forwarder().write(bench.stored())
    blamed(outcome)
    assert "Permission denied" in outcome.text
    assert str(bench.out) in outcome.text


@pytest.mark.parametrize("size", [1000, HEAD, HEAD + 1, 2_000_001])
@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_a_damaged_spool_file_is_the_image_s_end(bench: Bench, size: int, damage: str) -> None:
    image = bench.stored(noise(size, 77))
    path = bench.spool.root / image.path
    if damage == "missing":
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] if damage == "short" else whole[:-1] + bytes([whole[-1] ^ 1]))
    outcome = bench.forwarder().write(image)
    assert (outcome.kind, outcome.ours, outcome.loud) == (Kind.IMAGE_FAILED, True, True)
    assert files_in(bench.out) == {}


def test_trouble_with_our_own_disk_is_nobody_s_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    image = bench.stored()

    def busy(*_: object) -> bytes:
        raise StorageFault("reading: too many open files", errno.EMFILE)

    monkeypatch.setattr(bench.spool, "read", busy)
    outcome = bench.forwarder().write(image)
    assert (outcome.kind, outcome.ours, outcome.charge) == (Kind.IMAGE_RETRY, True, False)


# --- crashes ----------------------------------------------------------------------------------------------------------


def test_an_interrupted_try_is_never_seen_as_an_image_and_the_next_one_takes_its_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As if the process had ended here."""

    dead: list[bool] = []
    unlink, read = Path.unlink, bench.spool.read

    def killed(*_: object, **__: object) -> None:
        dead.append(True)
        raise Killed

    def unlink_while_alive(path: Path, missing_ok: bool = False) -> None:
        if not dead:
            unlink(path, missing_ok)

    def read_some(path: str, offset: int, length: int) -> bytes:
        if offset > 2_000_000:
            killed()
        return read(path, offset, length)

    forwarder, image = bench.forwarder(ONE), bench.stored(noise(3_000_000, 77))
    for point in ("read", "link"):
        with monkeypatch.context() as patch:
            dead.clear()
            patch.setattr(Path, "unlink", unlink_while_alive)
            if point == "link":
                patch.setattr(os, "link", killed)
            else:
                patch.setattr(bench.spool, "read", read_some)
            with pytest.raises(Killed):
                forwarder.write(image)
        left = list(files_in(bench.out))
        assert len(left) == 1
        assert all(name.startswith(".") and name.endswith(".part") for name in left)
    assert forwarder.write(image) == SUCCESS
    assert bench.there() == {ONE: noise(3_000_000, 77)}


def test_at_no_moment_half_a_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks between any two pieces finds nothing or a whole file under the name, also while it is replaced."""
    forwarder = bench.forwarder(ONE, "replace")
    wholes = [noise(3_000_000, 101), noise(3_000_000, 102)]
    images = [bench.stored(data) for data in wholes]
    read = bench.spool.read
    seen: set[int] = set()

    def looked(path: str, offset: int, length: int) -> bytes:
        place = bench.out / ONE
        if place.exists():
            content = place.read_bytes()
            seen.add(wholes.index(content[parse_meta(content).data_offset :]))
        return read(path, offset, length)

    monkeypatch.setattr(bench.spool, "read", looked)
    for image in images:
        assert forwarder.write(image).delivered
    assert seen == {0}
    assert bench.there() == {ONE: wholes[1]}


def test_names_are_durable_before_it_is_delivered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, new folders' parents, and the folder: all synced, the folder last."""
    synced: list[str] = []

    def note(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}").removeprefix(str(bench.out.parent)))

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "fdatasync", note)
    bench.forwarder("a/b/one.dcm", sync=True).write(bench.stored())
    assert synced[:3] == ["", "/out", "/out/a"]
    assert synced[3].endswith(".part")
    assert synced[4:] == ["/out/a/b"]


class Syncs:
    """Folder syncs, noted by folder; ``failing``: those, by number from 1, that fail. The real ones are not made."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, *failing: int) -> None:
        self.seen: list[str] = []
        self._failing = failing
        self._root = str(bench.out.parent)
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, number: int) -> None:
        self.seen.append(os.readlink(f"/proc/self/fd/{number}").removeprefix(self._root))
        if len(self.seen) in self._failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_names_that_another_process_left_are_synced_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been killed before it could."""
    (bench.out / "a").mkdir(parents=True)
    syncs = Syncs(bench, monkeypatch)
    forwarder = bench.forwarder("a/{SOPInstanceUID}.dcm", sync=True)
    for index in (1, 2):
        assert forwarder.write(bench.stored(index=index)) == SUCCESS
    assert syncs.seen == ["", "/out", "/out/a", "/out/a"]
    shutil.rmtree(bench.out / "a")
    assert forwarder.write(bench.stored(index=3)) == SUCCESS
    assert syncs.seen[4:] == ["/out", "/out/a"]


def test_the_folders_that_are_known_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FOLDERS", 2)
    syncs = Syncs(bench, monkeypatch)
    forwarder = bench.forwarder("{InstanceNumber}/one.dcm", sync=True)
    for folder in "abcab":
        forwarder._make_folders(bench.out / folder)
    assert len(forwarder._durable) <= 2
    assert set(syncs.seen) == {"", "/out"}


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_after_a_failed_sync_every_name_is_made_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The next sync succeeds, but the system does not try again to write what it could not."""
    Syncs(bench, monkeypatch, failing)
    forwarder = bench.forwarder("a/one.dcm", sync=True)
    image = bench.stored()
    outcome = forwarder.write(image)
    assert (outcome.kind, outcome.scope) == (Kind.ASSOCIATION_FAILED, Scope.DESTINATION)
    assert "syncing it: Input/output error" in outcome.text
    place = bench.out / "a" / "one.dcm"
    lost = [path for path in (bench.out, place.parent, place)[failing - 1 :] if path.exists()]
    assert lost == ([place] if failing == 3 else [])
    before = place.stat().st_ino if failing == 3 else 0
    assert forwarder.write(image).delivered
    assert place.stat().st_ino != before
    assert list(bench.there().values()) == [bench.data(image)]


# --- the lane ---------------------------------------------------------------------------------------------------------


class Reports:
    """The channel, as far as a lane sees it."""

    def __init__(self) -> None:
        self.finishes: list[tuple[int, Outcome]] = []
        self.spent: list[int] = []

    def finished(self, lane: object, delivery: Delivery, outcome: Outcome) -> None:
        self.finishes.append((delivery.instance_id, outcome))

    def opened(self, lane: object, seconds: float) -> None:
        raise AssertionError("a folder has no associations")

    def restarted(self, lane: object) -> None:
        raise AssertionError

    def closed(self, lane: object) -> None:
        raise AssertionError

    def wanted(self, bond: str) -> list[tuple[str, str]]:
        return []

    def spend(self, count: int, resume: object = None) -> bool:
        self.spent.append(count)
        return True


def test_a_lane_reports_each_delivery_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        reports = Reports()
        forwarder = bench.forwarder()
        lane = forwarder.lane(reports)
        assert isinstance(lane, FolderLane)
        assert lane.carries(forwarder.key(bench.stored()))
        lane.begin(bench.stored(), "", False)
        assert reports.finishes == []
        await until(lambda: reports.finishes, "the outcome")
        assert reports.finishes == [(2, SUCCESS)]

        def bug(delivery: Delivery) -> Outcome:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(forwarder, "write", bug)
        lane.begin(bench.stored(), "", False)
        await until(lambda: len(reports.finishes) == 2, "the outcome")
        assert reports.finishes[1][1].kind is Kind.ASSOCIATION_FAILED
        assert lane.info() is None
        lane.close()

    body()


def test_aborted_it_reports_nothing(bench: Bench) -> None:
    @on_loop
    async def body() -> None:
        reports = Reports()
        lane = bench.forwarder().lane(reports)
        lane.begin(bench.stored(), "", False)
        lane.abort()
        await asyncio.get_running_loop().run_in_executor(bench.pool, lambda: None)
        await until(
            lambda: any(not name.endswith(".part") for name in files_in(bench.out)) and len(bench.there()) == 1,
            "the file is finished",
        )
        await asyncio.sleep(0.01)
        assert reports.finishes == []

    body()
