"""``queue`` and ``status`` of a router that does not run: what its journal says, and a person's decisions."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Group
from asyncroute.journal.sqlite import SqliteJournal
from tests.support import settings
from tests.unit.cli.running import Cli
from tests.unit.parts import instance, states

EVIL = "no\x1b[2J\nfake"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images: 1 and 2 dead letters at "a", 1 and 3 ready for "b", 4 held."""
    folder = tmp_path / "data"
    config = {
        "node": {"data_dir": "data"},
        "listener": [settings.listener()],
        "destination": [settings.folder("a", "a"), settings.folder("b", "b")],
        "route": [settings.route("all", ["a", "b"])],
    }
    (tmp_path / "asyncroute.toml").write_text(settings.to_toml(config), encoding="utf-8")
    journal = SqliteJournal.open(folder)
    images = [
        instance(1, "a", "b", study_uid="1.1", accession="A1", patient_id=EVIL),
        instance(2, "a", study_uid="1.2", accession="A2"),
        instance(3, "b", study_uid="1.1", accession="A1"),
        instance(4, hold_reason="no route matches", accession="A4"),
    ]
    journal.commit(Group(admits=images))
    failed = [Settlement(n, "a", DeliveryState.FAILED, 3, 10.0, 0xC000, EVIL) for n in (1, 2)]
    journal.commit(Group(settlements=failed))
    journal.close()
    return folder


def listed(cli: Cli, *arguments: object) -> set[tuple[int, str, str]]:
    done = cli("queue", "list", "--json", *arguments)
    assert done.status == 0
    return {(row["instance_id"], row["destination"], row["state"]) for row in done.facts}


def after(data: Path, destination: str) -> dict[int, str]:
    journal = SqliteJournal.open(data)
    try:
        return states(journal, destination)
    finally:
        journal.close()


# --- list -------------------------------------------------------------------------------------------------------------

EVERYTHING = {(1, "a", "failed"), (2, "a", "failed"), (1, "b", "ready"), (3, "b", "ready"), (4, "", "held")}


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ((), EVERYTHING),
        (("--to", "a"), {(1, "a", "failed"), (2, "a", "failed")}),
        (("--to", "nobody"), set()),
        (("--state", "ready"), {(1, "b", "ready"), (3, "b", "ready")}),
        (("--held",), {(4, "", "held")}),
        (("--state", "held"), {(4, "", "held")}),
        (("--uid", "1.2.3.2"), {(2, "a", "failed")}),
        (("--study", "1.1"), {(1, "a", "failed"), (1, "b", "ready"), (3, "b", "ready")}),
        (("--accession", "A1", "--to", "b"), {(1, "b", "ready"), (3, "b", "ready")}),
        (("--id", 2, "--id", 4), {(2, "a", "failed"), (4, "", "held")}),
        (("--error", "FAKE"), {(1, "a", "failed"), (2, "a", "failed")}),
        (("--error", "no route", "--older", "0s"), {(4, "", "held")}),
        (("--to", "b", "--older", "1d"), set()),
    ],
)
@pytest.mark.usefixtures("data")
def test_list_chooses(cli: Cli, arguments: tuple[object, ...], ids: set[tuple[int, str, str]]) -> None:
    assert listed(cli, *arguments) == ids


@pytest.mark.usefixtures("data")
def test_list_for_people_cannot_be_forged(cli: Cli) -> None:
    done = cli("queue", "list", "--state", "failed")
    lines = done.out.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:4] == ["id", "to", "state", "tries"]
    assert all(line.isprintable() for line in lines)
    assert "no\\x1b[2J\\x0afake" in lines[1]


@pytest.mark.usefixtures("data")
def test_list_says_when_there_may_be_more(cli: Cli) -> None:
    assert "the first 2" in cli("queue", "list", "--limit", 2).out
    done = cli("queue", "list", "--to", "nobody")
    assert (done.status, done.out, done.error) == (0, "", "nothing there")


# --- retry and discard ------------------------------------------------------------------------------------------------


def test_retry_makes_dead_letters_ready(cli: Cli, data: Path) -> None:
    done = cli("queue", "retry", "--id", 1)
    assert (done.status, done.out) == (0, "1 deliveries, 0 held images: again\n")
    assert after(data, "a") == {1: "ready", 2: "failed"}
    assert cli("queue", "retry", "--all", "--json").facts == {"deliveries": 1, "images": 0}
    assert after(data, "a") == {1: "ready", 2: "ready"}


def test_reroute(cli: Cli, data: Path) -> None:
    done = cli("queue", "reroute", "b", "--to", "a", "--error", "fake")
    assert (done.status, done.out) == (0, "1 deliveries, 0 held images: on their way to b\n")
    assert (after(data, "a"), after(data, "b")) == (
        {1: "failed", 2: "discarded"},
        {1: "ready", 2: "ready", 3: "ready"},
    )
    assert cli("queue", "reroute", "a", "--state", "ready", "--id", 3, "--json").facts == {"deliveries": 1, "images": 0}
    assert after(data, "b")[3] == "discarded"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("elsewhere", "--all"), 'no destination is called "elsewhere"; there is "a", "b"'),
        (("b",), "nothing is chosen"),
        (("b", "--held"), "start it first"),
        (("b", "--older", "2"), '--older must have a unit, such as "2s"'),
        (("b", "--older", "never"), '--older must be a duration such as "30m"'),
        (("b", "--to", "a", "--held"), "held images have no destination"),
    ],
)
@pytest.mark.usefixtures("data")
def test_what_reroute_refuses(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = cli("queue", "reroute", *arguments)
    assert done.status in (1, 2)
    assert words in done.error


@pytest.mark.usefixtures("data")
def test_held_images_need_a_running_router(cli: Cli) -> None:
    done = cli("queue", "retry", "--held")
    assert done.status == 1
    assert "start it first" in done.error
    assert "only failed deliveries and held images" in cli("queue", "retry", "--state", "ready").error


def test_discard_gives_up_dead_letters_only_unless_told(cli: Cli, data: Path) -> None:
    assert cli("queue", "discard", "--to", "a", "--yes", "--json").facts == {"deliveries": 2, "images": 0}
    assert cli("queue", "discard", "--to", "b", "--yes", "--json").facts == {"deliveries": 0, "images": 0}
    assert set(after(data, "b").values()) == {"ready"}
    done = cli("queue", "discard", "--state", "ready", "--id", 3, "--yes", "--json")
    assert done.facts == {"deliveries": 1, "images": 0}
    assert after(data, "b")[3] == "discarded"
    assert listed(cli) == {(1, "b", "ready"), (4, "", "held")}


@pytest.mark.usefixtures("data")
def test_discard_of_held_images(cli: Cli) -> None:
    assert cli("queue", "discard", "--held", "--yes", "--json").facts == {"deliveries": 0, "images": 1}
    assert listed(cli) == EVERYTHING - {(4, "", "held")}


@pytest.mark.usefixtures("data")
def test_discard_of_all_takes_dead_letters_and_held_images(cli: Cli) -> None:
    assert cli("queue", "discard", "--all", "--yes", "--json").facts == {"deliveries": 2, "images": 1}
    assert listed(cli) == {(1, "b", "ready"), (3, "b", "ready")}


@pytest.mark.parametrize("verb", ["retry", "discard"])
@pytest.mark.usefixtures("data")
def test_nothing_chosen_changes_nothing(cli: Cli, verb: str) -> None:
    done = cli("queue", verb, *(["--yes"] if verb == "discard" else []))
    assert done.status == 2
    assert "--all" in done.error
    assert listed(cli) == EVERYTHING


@pytest.mark.parametrize("arguments", [("--held", "--state", "failed"), ("--held", "--to", "a")])
@pytest.mark.usefixtures("data")
def test_choices_that_exclude_each_other(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("queue", "list", *arguments).status == 2


# --- asking -----------------------------------------------------------------------------------------------------------


class Keyboard:
    """A terminal at standard input, on which somebody types ``line``."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self, *_: object) -> str:
        return self._line + "\n"


@pytest.mark.usefixtures("data")
def test_discard_without_a_terminal_needs_yes(cli: Cli) -> None:
    done = cli("queue", "discard", "--to", "a")
    assert done.status == 1
    assert "--yes" in done.error
    assert listed(cli) == EVERYTHING


@pytest.mark.parametrize(("typed", "left"), [("y", 3), ("n", 5), ("", 5)])
@pytest.mark.usefixtures("data")
def test_discard_asks(cli: Cli, monkeypatch: pytest.MonkeyPatch, typed: str, left: int) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(typed))
    done = cli("queue", "discard", "--to", "a")
    assert "Discard 2 (deliveries and held images) for good?" in done.err + done.out
    assert done.status == (0 if typed == "y" else 1)
    assert ("nothing was discarded" in done.err) is (typed != "y")
    assert len(listed(cli)) == left


@pytest.mark.usefixtures("data")
def test_discard_does_not_ask_about_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard("y"))
    assert "nothing there to discard" in cli("queue", "discard", "--to", "b").error


# --- a journal that is not there, or in use ---------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("queue", "list"), ("queue", "retry", "--all"), ("status",)])
def test_no_journal(cli: Cli, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.status == (2 if arguments == ("status",) else 1)
    assert "there is no journal here" in done.error
    assert not (tmp_path / "asyncroute-data").exists()


def test_a_journal_in_use_is_not_changed(cli: Cli, data: Path) -> None:
    with (data / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = cli("queue", "discard", "--all", "--yes")
        assert done.status == 1
        assert "in use by another asyncroute" in done.error
        found = cli("status", "--json").facts
        assert "starting or stopping" in found["needs_person"][0]
    assert listed(cli) == EVERYTHING
    assert "starting or stopping" not in cli("status").out


# --- status -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("data")
def test_status_of_a_stopped_router(cli: Cli) -> None:
    done = cli("status", "--json")
    assert done.status == 1
    assert done.facts["totals"] == {"received": 4, "delivered": 0, "waiting": 2, "held": 1, "failed": 2}
    assert [c["name"] for c in done.facts["channels"]] == ["a", "b"]
    assert len(done.facts["needs_person"]) == 2
    text = cli("status")
    assert text.status == 1
    assert "asyncroute: not running" in text.out
    assert "needs a person" in text.out


@pytest.mark.usefixtures("data")
def test_status_is_0_when_nobody_is_needed(cli: Cli) -> None:
    assert cli("queue", "discard", "--all", "--yes").status == 0
    assert cli("status").status == 0


def test_status_with_a_wrong_configuration(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "asyncroute.toml").write_text("[node]\ncolour = 1\n", encoding="utf-8")
    done = cli("status")
    assert (done.status, done.out) == (2, "")
    assert any("node.colour" in line for line in done.err.splitlines())


def test_status_of_a_damaged_journal(cli: Cli, data: Path) -> None:
    (data / "journal.db").write_bytes(b"this is no journal at all" * 100)
    done = cli("status", "--json")
    assert done.status == 2
    assert "damaged" in done.error
    assert "damaged" in json.loads(done.out)["error"]
