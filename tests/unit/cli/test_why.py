"""``why`` of a router that does not run: each kind of story, from its journal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from asyncroute.core.model import RouteHit, Selection, Settlement
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal.base import Action, Discard, Event, FileLost, Group, Retry
from asyncroute.journal.sqlite import SqliteJournal
from tests.support import settings
from tests.unit.cli.running import Cli
from tests.unit.pages import blocks
from tests.unit.parts import instance

EVIL = "no\x1b[2J\nfake"
T = 1_700_000_000.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    """An open journal, and a configuration with the destinations "a" and "b"."""
    config = {
        "node": {"data_dir": "data", "history": "2d"},
        "listener": [settings.listener()],
        "destination": [settings.folder("a", "a"), settings.folder("b", "b"), settings.folder("pacs", "p")],
        "route": [settings.route("all", ["a", "b"])],
    }
    (tmp_path / "asyncroute.toml").write_text(settings.to_toml(config), encoding="utf-8")
    made = SqliteJournal.open(tmp_path / "data")
    yield made
    made.close()


def admit(journal: SqliteJournal, number: int, *destinations: str, **more: object) -> None:
    """An image whose first bytes came at T and which was stored two seconds later."""
    journal.commit(Group([instance(number, *destinations, received_at=T, checksum=number, **more)], at=T + 2))


def result(journal: SqliteJournal, number: int, to: str, state: S, at: float, error: str = "", tries: int = 1) -> None:
    """A result with its event, as ``settle`` writes them."""
    kind = {S.READY: "retry", S.FAILED: "failed"}.get(state) or ("warning" if error else None)
    status = int(error[2:6], 16) if error.startswith("0x") else 0
    wait = time.time() + 3600 if state is S.READY else 0.0
    events = [Event(at, kind, error, number, to)] if kind else []
    journal.commit(Group(settlements=[Settlement(number, to, state, tries, at, status, error, wait)], events=events))


def act(journal: SqliteJournal, action: Action, at: float) -> None:
    journal.commit(Group(actions=[action], at=at))


# --- one image --------------------------------------------------------------------------------------------------------


def test_a_delivered_image(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, "a", accession="A1", patient_id="P", modality="CT")
    result(journal, 1, "a", S.DELIVERED, T + 5)
    done = cli("why", "1.2.3.1")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "1.2.3.1: delivered (CT, 1000 B, study 1.2.3, accession A1, patient P)"
    assert "from CT_A at 127.0.0.1, called ASYNCROUTE, by ASYNCROUTE@0.0.0.0:11112 (number 1" in lines[1]
    assert lines[2] == "  to a by route all: delivered"
    assert lines[3].endswith("+2.0s  stored and queued")
    assert lines[4].endswith("+5.0s  delivered at attempt 1")
    assert len(lines) == 5


def test_the_stages_in_json(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, "a")
    result(journal, 1, "a", S.READY, T + 3, "0xA900 does not match")
    result(journal, 1, "a", S.DELIVERED, T + 13, tries=2)
    found = cli("why", "1.2.3.1", "--json").facts
    (image,) = found["detail"]
    (delivery,) = image["deliveries"]
    assert (found["kind"], image["calling_aet"], image["peer"], image["state"]) == (
        "image",
        "CT_A",
        "127.0.0.1",
        "delivered",
    )
    assert (delivery["route"], delivery["attempts"], delivery["last_status"]) == ("all", 2, "0x0000")
    assert delivery["stages"] == {"stored_s": 2.0, "first_try_s": 1.0, "settled_s": 10.0}
    (event,) = delivery["events"]
    assert (event["at"], event["kind"], event["text"]) == (T + 3, "retry", "0xA900 does not match")


def test_a_retried_image_says_when_it_is_next(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, "a")
    result(journal, 1, "a", S.READY, T + 3, '0xA900 data set does not match SOP class: "bad"')
    out = cli("why", "1.2.3.1").out
    assert '+3.0s  not delivered, to be tried again: 0xA900 data set does not match SOP class: "bad"' in out
    assert "now: a is stopped" in out
    assert "now: next try in 59m" in out


def test_a_dead_letter_is_told_once(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, "a", "b")
    result(journal, 1, "a", S.FAILED, T + 3, "0x0122 SOP class not supported", 3)
    result(journal, 1, "b", S.DELIVERED, T + 4, "0xB000 coercion of data elements")
    out = cli("why", "1.2.3.1").out
    assert out.startswith("1.2.3.1: failed (")
    assert out.count("0x0122") == 1
    assert "dead letter at attempt 3: 0x0122 SOP class not supported" in out
    assert "delivered at attempt 1: 0xB000 coercion of data elements" in out


def test_what_a_person_did(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, "a")
    result(journal, 1, "a", S.FAILED, T + 3, "0x0122 no", 3)
    act(journal, Retry(Selection()), T + 10)
    result(journal, 1, "a", S.FAILED, T + 20, "0x0122 still no")
    act(journal, Discard(Selection()), T + 30)
    out = cli("why", "1.2.3.1").out
    told = [line.partition("  +")[2] for line in out.splitlines() if "  +" in line]
    assert [each.partition("  ")[0] for each in told] == ["2.0s", "3.0s", "10s", "20s", "30s", "30s"]
    assert "retried: sent again at a person's word" in told[2]
    assert "discarded" in told[-1]


def test_a_held_image_and_a_lost_one(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, hold_reason="no route matches")
    admit(journal, 2, "a")
    act(journal, FileLost(2, "spool file missing: 2.dcm", T + 5), T + 5)
    assert "\n  held: no route matches\n" in cli("why", "1.2.3.1").out
    out = cli("why", "1.2.3.2").out
    assert "file lost: spool file missing: 2.dcm" in out
    assert "to a by route all: failed" in out


def test_every_time_that_it_came_and_the_conflict(cli: Cli, journal: SqliteJournal) -> None:
    for number in (1, 2, 3):
        admit(journal, number, "a", sop_instance_uid="1.2.3.1")
    out = cli("why", "1.2.3.1", "--limit", 2).out
    assert out.startswith("1.2.3.1: received 3 times\n")
    assert "conflict: number 3 has the same SOP Instance UID and other bytes" in out
    assert "1 more earlier times" in out
    assert [it["id"] for it in cli("why", "1.2.3.1", "--json").facts["detail"]] == [1, 2, 3]


def test_a_destination_that_was_down_meanwhile(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, "a")
    result(journal, 1, "a", S.DELIVERED, T + 60)
    troubles = [(T, "before"), (T + 10, "refused"), (T + 70, "after")]
    journal.commit(Group(events=[Event(at, "down", text, None, "a") for at, text in troubles]))
    out = cli("why", "1.2.3.1").out
    assert "+10s  the destination is down: refused" in out
    assert "before" not in out
    assert "after" not in out


def test_what_peers_say_cannot_forge_lines(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, "a", patient_id=EVIL, accession=EVIL)
    result(journal, 1, "a", S.READY, T + 3, EVIL)
    for name in ("1.2.3.1", "1.2.3"):
        lines = cli("why", name).out.splitlines()
        assert all(line.isprintable() for line in lines)
        assert not any(line.startswith("fake") for line in lines)


# --- studies ----------------------------------------------------------------------------------------------------------


def test_a_study_counts_and_tells_what_is_odd(cli: Cli, journal: SqliteJournal) -> None:
    for number in range(1, 7):
        admit(journal, number, "a", accession="A1")
    admit(journal, 7, accession="A1", hold_reason="no route matches")
    for number in (1, 2, 3):
        result(journal, number, "a", S.DELIVERED, T + 3)
    result(journal, 4, "a", S.FAILED, T + 3, "0x0122 no")
    for name, kind in (("1.2.3", "study"), ("A1", "accession")):
        found = cli("why", name, "--json", "--limit", 3).facts
        assert (found["kind"], found["images"], found["held"], found["remarkable"]) == (kind, 7, 1, 4)
        assert found["counts"] == {"a": {"ready": 2, "delivered": 3, "failed": 1}}
        assert [it["id"] for it in found["detail"]] == [4, 7, 5]
        assert (found["oldest"]["id"], found["newest"]["id"]) == (1, 7)
    out = cli("why", "A1", "--limit", 1).out
    assert out.startswith("accession number A1: 7 images")
    assert "\n  a: 2 ready, 3 delivered, 1 failed\n" in out
    assert "3 more of the images that are not plainly delivered (--limit, --json)" in out


def test_a_study_without_trouble_is_short(cli: Cli, journal: SqliteJournal) -> None:
    for number in (1, 2):
        admit(journal, number, "a")
        result(journal, number, "a", S.DELIVERED, T + 3)
    lines = cli("why", "1.2.3").out.splitlines()
    assert lines[0] == "study 1.2.3: 2 images, 2.0 KiB"
    assert lines[-2:] == ["  a: 2 delivered", "  all were delivered at the first attempt"]


# --- what is not known ------------------------------------------------------------------------------------------------


def test_a_name_that_was_never_seen(cli: Cli, journal: SqliteJournal) -> None:
    done = cli("why", "9.9")
    assert (done.status, done.out) == (1, "")
    assert done.error.endswith("among 0 images: none was ever received")
    admit(journal, 1, "a")
    done = cli("why", "9.9")
    assert done.status == 1
    assert done.error.startswith("asyncroute: error: 9.9: no SOP instance, study or accession number of this name")
    assert "among 1 images received since 2023-11-1" in done.error
    assert done.error.endswith("none is forgotten yet")


def test_a_name_that_may_be_forgotten(cli: Cli, journal: SqliteJournal) -> None:
    for number in (1, 2):
        admit(journal, number, "a")
        result(journal, number, "a", S.DELIVERED, T + 3)
    journal.commit(Group(released=[1, 2]))
    admit(journal, 3, "a", study_uid="1.4")
    assert journal.prune(T + 1) == 2
    done = cli("why", "1.2.3.1")
    assert (done.status, done.out) == (1, "")
    assert done.error.endswith("; 2 earlier ones are over and forgotten, as history is kept for 2 days")


def test_a_study_whose_images_are_forgotten(cli: Cli, journal: SqliteJournal) -> None:
    admit(journal, 1, "a")
    result(journal, 1, "a", S.DELIVERED, T + 3)
    journal.commit(Group(released=[1]))
    journal._pruner._forget([1])  # its study is forgotten some time later
    done = cli("why", "1.2.3")
    assert done.status == 1
    assert "1 images of this study came from CT_A" in done.error
    assert "are forgotten" in done.error


@pytest.mark.parametrize("name", ["", "  ", "x" * 201])
@pytest.mark.usefixtures("journal")
def test_what_is_no_name(cli: Cli, name: str) -> None:
    done = cli("why", name)
    assert done.status == 1
    assert "must be a UID or an accession number" in done.error


def test_there_is_no_journal(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "asyncroute.toml").write_text(
        settings.to_toml({"listener": [settings.listener()], "node": {"data_dir": "none"}})
        + '\n[[destination]]\nname = "a"\nkind = "folder"\npath = "a"\n',
        encoding="utf-8",
    )
    done = cli("why", "1.2")
    assert done.status == 1
    assert "there is no journal here" in done.error


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_story_that_the_documentation_shows(
    cli: Cli, journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(time.tzset)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    start = 1_772_352_000.0  # 2026-03-01 08:00:00
    image = instance(7, sop_instance_uid="1.2.840.99.1.7", study_uid="1.2.840.99.1", accession="A12345")
    image.patient_id, image.modality, image.size, image.received_at = "P-1", "CT", 512 << 10, start
    image.source = replace(image.source, peer="10.0.0.7")
    image.hits = (RouteHit("ct", "pacs"), RouteHit("all", "archive"))
    journal.commit(Group([image], at=start + 0.2))
    result(journal, 7, "archive", S.DELIVERED, start + 0.5)
    refused = '0xC211 cannot understand: "disk quota"'
    settled = Settlement(7, "pacs", S.READY, 1, start + 2, 0xC211, refused, start + 602)
    down = Event(start + 120, "down", "cannot connect: connection refused", None, "pacs")
    journal.commit(Group(settlements=[settled], events=[Event(start + 2, "retry", refused, 7, "pacs"), down]))
    (shown,) = [block.text for block in blocks("text") if "stored and queued" in block.text]
    assert cli("why", "1.2.840.99.1.7").out == shown
