"""``send``: bytes, associations, and what is said when something goes wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from asyncroute.cli.files import ImageFile
from asyncroute.cli.peer import Target, shared_means
from asyncroute.cli.sending import PIECE, Sending, groups
from tests.support import corpus, settings
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.images import write_part10
from tests.support.ports import free_port
from tests.support.router import command, environment
from tests.support.synthetic import CT, KINDS, Kind, image, series
from tests.unit.cli.running import Cli, part10_files
from tests.unit.parts import EXPLICIT_LE, on_loop


def test_every_real_image_leaves_byte_for_byte(cli: Cli, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    files = [corpus.path_of(real) for real in corpus.storable()]
    done = cli("send", *files, "--to", f"ANY@127.0.0.1:{receiver.port}", "--associations", 3, "--json")
    assert done.status == 0, done.err
    assert_exactly(receiver, corpus.storable())
    facts = done.facts
    assert (facts["sent"], facts["associations"], facts["failed"]) == (len(files), 3, [])
    assert facts["bytes"] == sum(real.size for real in corpus.storable())


def test_folders_titles_and_the_summary(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    images = part10_files(tmp_path / "in", 3)
    (tmp_path / "in" / "notes.txt").write_text("not an image", encoding="utf-8")
    done = cli("send", "in", "--to", f"PACS@127.0.0.1:{receiver.port}", "--calling", "CT_A")
    assert done.status == 0
    assert "skipped: in/notes.txt: not a DICOM Part 10 file" in done.out
    assert "3 of 3 images sent to PACS@127.0.0.1" in done.out
    assert {(stored.calling, stored.called) for stored in receiver.stored()} == {("CT_A", "PACS")}
    assert_exactly(receiver, images)
    receiver.wait_events("released")


def test_a_destination_by_name(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    table = settings.dicom("pacs", receiver.port, calling_ae_title="OURS", max_pdu="4 KiB")
    config = {"node": {"data_dir": "d"}, "listener": [settings.listener()], "destination": [table]}
    (tmp_path / "asyncroute.toml").write_text(settings.to_toml(config), encoding="utf-8")
    images = part10_files(tmp_path / "in", 2)
    assert cli("send", "in", "--to", "pacs").status == 0
    assert {stored.calling for stored in receiver.stored()} == {"OURS"}
    assert_exactly(receiver, images)


def test_large_images_pass_in_pieces(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    """Sizes around the piece's, and PDUs of another size than theirs."""
    receiver = receivers.receiver(Behaviour(max_pdu=30_000))
    folder = tmp_path / "in"
    folder.mkdir()
    images = [image("large", n, Kind(size=size)) for n, size in enumerate((PIECE - 512, PIECE, 5 * PIECE + 1024))]
    for each in images:
        write_part10(each, folder)
    assert cli("send", "in", "--to", f"ANY@127.0.0.1:{receiver.port}").status == 0
    assert_exactly(receiver, images)


def test_memory_does_not_grow_with_the_image(tmp_path: Path, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    peaks = []
    for n, size in enumerate((1 << 20, 200 << 20)):
        path = write_part10(image("huge", n, Kind(size=size)), tmp_path)
        program = command("send", path, "--to", f"ANY@127.0.0.1:{receiver.port}")
        process = subprocess.Popen(program, env=environment(), stdout=subprocess.DEVNULL)
        peaks.append(_wait_for_peak(process))
        path.unlink()
    assert peaks[1] - peaks[0] < 16 << 10, f"peak memory in KiB: {peaks}"


def _wait_for_peak(process: subprocess.Popen[bytes]) -> int:
    """The largest resident set of an ended process, in KiB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss


def test_more_pairs_than_an_association_has_contexts() -> None:
    images = [ImageFile(Path(str(n)), f"1.2.{n % 300}", str(n), "1.2.840.10008.1.2", 0, 1) for n in range(900)]
    parts = groups(images)
    assert [len({(i.sop_class, i.transfer_syntax) for i in part}) for part in parts] == [128, 128, 44]
    assert sorted(i.path for part in parts for i in part) == sorted(i.path for i in images)
    assert groups([]) == []


@on_loop
async def _send_many_classes(folder: Path, port: int) -> None:
    paths = [write_part10(each, folder) for each in series("many", 1)]
    size = paths[0].stat().st_size
    made = [ImageFile(paths[0], f"{CT}.{n}", f"1.2.3.{n}", EXPLICIT_LE, 0, size) for n in range(150)]
    async with shared_means() as shared:
        tally = await Sending(Target("127.0.0.1", port, "ANY"), "ME", shared).run(made, 2)
    assert (tally.sent, tally.failed, tally.associations) == (150, [], 4)


def test_many_classes_take_several_associations(tmp_path: Path, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    _send_many_classes(tmp_path, receiver.port)
    assert len({stored.sop_class for stored in receiver.stored()}) == 150
    assert receiver.tally().most_at_once <= 2


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_answers_other_than_success(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    images = part10_files(tmp_path / "in", 4)
    status_of = {images[0].sop_instance: 0xA700, images[1].sop_instance: 0xB000, images[2].sop_instance: 0xC123}
    receiver = receivers.receiver(Behaviour(status_of=status_of, comment="disk \x1b[31mfull"))
    done = cli("send", "in", "--to", f"ANY@127.0.0.1:{receiver.port}", "--json")
    assert done.status == 1
    facts = done.facts
    assert facts["sent"] == 2
    assert [Path(w["path"]).stem for w in facts["warned"]] == [images[1].sop_instance]
    reasons = {Path(f["path"]).stem: f["reason"] for f in facts["failed"]}
    assert set(reasons) == {images[0].sop_instance, images[2].sop_instance}
    assert reasons[images[0].sop_instance].startswith("0xA700 out of resources")
    assert "\x1b" not in done.out


def test_a_comment_cannot_forge_lines(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    part10_files(tmp_path / "in", 1)
    receiver = receivers.receiver(Behaviour(status=0xA900, comment="x\n99 of 99 images sent\x1b[2J"))
    done = cli("send", "in", "--to", f"ANY@127.0.0.1:{receiver.port}")
    assert done.status == 1
    assert all(line.isprintable() for line in done.out.splitlines())
    assert not any(line.startswith("99 of 99") for line in done.out.splitlines())


def test_nobody_listens(cli: Cli, tmp_path: Path) -> None:
    part10_files(tmp_path / "in", 25)
    done = cli("send", "in", "--to", f"ANY@127.0.0.1:{free_port()}", "--associations", 4)
    assert done.status == 1
    assert "not sent: cannot connect: connection refused" in done.out
    assert "and 5 more" in done.out
    assert "0 of 25 images sent" in done.out


def test_a_refused_transfer_syntax_fails_only_its_images(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    for n, kind in enumerate(KINDS[:2]):
        part10_files(tmp_path / "in", 2, Kind(*kind), seed=f"kind{n}")
    receiver = receivers.receiver(Behaviour(only_transfer=[KINDS[1][1]]))
    done = cli("send", "in", "--to", f"ANY@127.0.0.1:{receiver.port}", "--json")
    assert done.status == 1
    assert done.facts["sent"] == 2
    assert ["no presentation context accepted" in f["reason"] for f in done.facts["failed"]] == [True, True]


def test_fewer_associations_than_wanted_are_enough(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    images = part10_files(tmp_path / "in", 12)
    receiver = receivers.receiver(Behaviour(max_associations=1, delay=0.02))
    done = cli("send", "in", "--to", f"ANY@127.0.0.1:{receiver.port}", "--associations", 4, "--json")
    assert done.status == 0, done.out
    assert done.facts["associations"] == 1
    assert receiver.tally().rejected == 3
    assert_exactly(receiver, images)


def test_an_image_that_ends_its_association_is_tried_once_more(
    cli: Cli, tmp_path: Path, receivers: ReceiverHost
) -> None:
    images = part10_files(tmp_path / "in", 6)
    poison = sorted(images, key=lambda each: each.sop_instance)[2]
    receiver = receivers.receiver(Behaviour(abort_on=[poison.sop_instance]))
    done = cli("send", "in", "--to", f"ANY@127.0.0.1:{receiver.port}", "--json")
    assert done.status == 1
    facts = done.facts
    assert [Path(f["path"]).stem for f in facts["failed"]] == [poison.sop_instance]
    assert (facts["sent"], facts["associations"]) == (5, 3)
    assert facts["bytes"] == sum(each.size for each in images if each is not poison)
    assert_exactly(receiver, [each for each in images if each is not poison])


def test_an_association_lost_once_loses_no_image(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    images = part10_files(tmp_path / "in", 8, Kind(size=3 << 20))
    receiver = receivers.receiver(Behaviour(reset_after=5 << 20, trouble_first=1))
    done = cli("send", "in", "--to", f"ANY@127.0.0.1:{receiver.port}", "--json")
    assert done.status == 0, done.out
    assert_exactly(receiver, images)


def test_a_peer_that_always_aborts_is_given_up(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    part10_files(tmp_path / "in", 10)
    receiver = receivers.receiver(Behaviour(abort_after=0))
    done = cli("send", "in", "--to", f"ANY@127.0.0.1:{receiver.port}", "--json")
    assert done.status == 1
    assert (done.facts["sent"], len(done.facts["failed"])) == (0, 10)
    assert receiver.tally().connections <= 4
    assert "associations in a row were lost" in done.facts["failed"][-1]["reason"]


@on_loop
async def _send_shrunk(folder: Path, port: int) -> None:
    """Files that became shorter after they were looked at."""
    good, small, large = (write_part10(image("shrunk", n, Kind(size=3 << 20)), folder) for n in range(3))
    size = good.stat().st_size
    files = [ImageFile(path, CT, f"1.2.{n}", EXPLICIT_LE, 0, size) for n, path in enumerate((large, small, good))]
    with small.open("ab") as file:
        file.truncate(1000)
    with large.open("ab") as file:
        file.truncate(PIECE + 1000)
    async with shared_means() as shared:
        tally = await Sending(Target("127.0.0.1", port, "ANY"), "ME", shared).run(files, 1)
    assert [(path, "became shorter" in why) for path, why in tally.failed] == [(large, True), (small, True)]
    assert (tally.sent, tally.bytes) == (1, size)


def test_a_file_that_shrinks_is_never_sent_as_whole(tmp_path: Path, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    _send_shrunk(tmp_path, receiver.port)
    assert [stored.sop_instance for stored in receiver.stored()] == ["1.2.2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.dcm", "--to", "A@127.0.0.1:1"), "none.dcm: no such file or folder"),
        ((".", "--to", "A@127.0.0.1:1"), "no DICOM file among the 1 files"),
        ((".", "--to", "pacs"), "asyncroute.toml"),
    ],
)
def test_nothing_to_send(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "a.txt").touch()
    done = cli("send", *arguments)
    assert (done.status, done.out) == (1, "")
    assert words in done.error
