"""The configuration that ``init`` writes."""

from __future__ import annotations

import re
from pathlib import Path

from asyncroute.cli.init import template
from asyncroute.config import Config, DicomDestination, load, loads
from asyncroute.config.destinations import FolderDestination, Retry
from asyncroute.config.groups import Group
from asyncroute.config.listeners import Listener
from asyncroute.config.model import LATER_KEYS, TODAY, Node, Route
from asyncroute.config.table import Table
from tests.unit.cli.running import Cli


def with_everything() -> str:
    """The template with every setting that it names switched on."""
    return re.sub(r"^#(?=\S)(?!#)", "", template(), flags=re.MULTILINE)


def test_it_is_valid_as_written(cli: Cli, tmp_path: Path) -> None:
    assert cli("init").status == 0
    config = load(tmp_path / "asyncroute.toml")
    assert [listener.label for listener in config.listeners] == ["ASYNCROUTE@0.0.0.0:11112"]
    assert config.node.data_dir == tmp_path / "asyncroute-data"
    assert cli("check").status == 0


def test_every_setting_in_its_comments_is_one() -> None:
    plain, full = loads(template()), loads(with_everything())
    assert len(full.destinations) == len(plain.destinations) + 1
    assert len(full.routes) == len(plain.routes) + 1
    assert isinstance(full.destinations[1], DicomDestination)


def test_what_its_comments_call_a_default_is_one() -> None:
    plain, full = loads(template()), loads(with_everything())
    assert full.node == plain.node
    examples = {"accept_called", "accept_calling", "accept_from", "prefer"}
    assert differing(full.listeners[0], plain.listeners[0]) == examples
    assert differing(full.destinations[0], plain.destinations[0]) == set()
    assert differing(full.destinations[1], DicomDestination(name="pacs", host="h", port=1, ae_title="A")) == {
        *("host", "port", "ae_title", "outcomes", "hours", "bandwidth")
    }


def differing(one: Table, other: Table) -> set[str]:
    return {key for key, value in one if value != getattr(other, key)}


def test_it_names_every_setting_that_works_today() -> None:
    text = template()
    for table in (Config, Node, Listener, FolderDestination, DicomDestination, Group, Route, Retry):
        today = TODAY.get(table, {})
        for key, field in table.model_fields.items():
            name = field.alias or key
            later = key in today or key in LATER_KEYS.get(table, ())
            if not later and name != "path":
                assert re.search(rf"\b{name}\b", text), f"{table.__name__}: {name}"


def test_it_overwrites_only_when_told(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "asyncroute.toml"
    file.write_text("mine", encoding="utf-8")
    done = cli("init")
    assert done.status == 1
    assert "--force" in done.error
    assert file.read_text("utf-8") == "mine"
    assert cli("init", "--force").status == 0
    assert file.read_text("utf-8") == template()


def test_a_folder_gets_the_usual_name_and_the_next_steps_fit(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = cli("init", tmp_path / "etc")
    assert (tmp_path / "etc" / "asyncroute.toml").exists()
    assert f"asyncroute check -c {tmp_path}/etc/asyncroute.toml" in done.out


def test_a_folder_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    done = cli("init", tmp_path / "none" / "a.toml")
    assert done.status == 1
    assert "cannot be written: no such file or directory" in done.error


def test_an_example_to_start_from(cli: Cli, tmp_path: Path) -> None:
    done = cli("init", "--example", "thirty-sites")
    assert done.status == 0
    assert cli("check", "--json").facts["summary"]["destinations"] == ["pacs", "reading-room"]
    listed = cli("init", "--list-examples").out.splitlines()
    assert any(line.startswith('one-site: "Prefix on the MRN, ') for line in listed)
    other = cli("init", "other.toml", "--example", "thirty")
    assert other.status == 1
    assert "no example is called 'thirty'; there is " in other.error
    assert not (tmp_path / "other.toml").exists()


def test_an_example_brings_the_functions_that_it_names(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert cli("init", "etc", "--example", "python-function").status == 0
    assert {file.name for file in (tmp_path / "etc").iterdir()} == {"asyncroute.toml", "python_function.py"}
    done = cli("check", "-c", "etc/asyncroute.toml")
    assert (done.status, done.err) == (0, "")
    assert "  tests: 3 of 3 as expected" in done.out.splitlines()
