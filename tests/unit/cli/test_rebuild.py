"""``asyncroute rebuild``: what it says and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import stored, synthetic
from tests.support.stored import Stored
from tests.unit.cli.running import Cli


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration whose data_dir holds five images, one of which has no route."""
    data = tmp_path / "data"
    with Stored(data, "process-crash") as opened:
        opened.admit(synthetic.mixed("cli", 5))
    path = tmp_path / "asyncroute.toml"
    path.write_text(f'[node]\ndata_dir = "{data}"\n[[listener]]\nport = 0\n{stored.PEERS}{stored.ROUTES}')
    return path


def test_nothing_to_do(cli: Cli, file: Path) -> None:
    done = cli("rebuild", "-c", file)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == ["the journal is sound and stays", "there are no orphans: nothing to do"]


def test_what_was_done(cli: Cli, file: Path) -> None:
    done = cli("rebuild", "--anew", "-c", file)
    (evidence,) = (file.parent / "data").glob("damaged-*")
    assert done.status == 0
    assert done.out.splitlines() == [
        "new journal: asked for",
        "5 images taken in, 0 of them orphans",
        "queued for a: 4",
        "queued for b: 4",
        "1 images are held: no route matches them (asyncroute queue list --held)",
        f"evidence: {evidence}",
    ]


def test_as_facts(cli: Cli, file: Path) -> None:
    (file.parent / "data" / "journal.db").unlink()
    facts = cli("rebuild", "--json", "-c", file).facts
    assert (facts["reason"], facts["images"], facts["queued"]) == ("there is no journal", 5, {"a": 4, "b": 4})
    assert set(facts) == {
        *("reason", "evidence", "images", "orphans", "queued", "held"),
        *("over", "failed", "missing", "damaged", "known", "archived", "strange"),
    }


def test_after_a_damaged_journal_status_says_what_to_do(cli: Cli, file: Path) -> None:
    journal = file.parent / "data" / "journal.db"
    journal.write_bytes(b"not a journal" * 1000)
    asked = cli("status", "-c", file)
    assert (asked.status, '"asyncroute rebuild" keeps it' in asked.error) == (2, True)
    assert cli("rebuild", "-c", file).status == 0
    assert cli("status", "-c", file).status == 1  # a held image


def test_orphans_need_a_person(cli: Cli, file: Path) -> None:
    folder = file.parent / "data" / "orphans"
    folder.mkdir()
    (folder / "x").write_text("no image")
    shown = cli("status", "-c", file)
    assert shown.status == 1
    assert "1 files that the journal does not know are in the folder orphans" in shown.out
    assert cli("status", "--json", "-c", file).facts["orphans"] == 1
    done = cli("rebuild", "-c", file)
    assert "1 files are no whole images and were set aside" in done.out
    assert "orphans" not in cli("status", "-c", file).out


def test_a_running_router(cli: Cli, file: Path) -> None:
    with Stored(file.parent / "data"):
        done = cli("rebuild", "-c", file)
    assert done.status == 1
    assert "in use by another asyncroute (process " in done.error


def test_no_folder(cli: Cli, file: Path) -> None:
    file.write_text(file.read_text().replace("/data", "/nowhere"))
    done = cli("rebuild", "-c", file)
    assert (done.status, "there is no such folder" in done.error) == (1, True)


def test_a_wrong_configuration(cli: Cli, file: Path) -> None:
    file.write_text("[node]\nname = 7\n")
    assert cli("rebuild", "-c", file).status == 2
