"""The documentation of the configuration is true: every key, its default and what it allows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from asyncroute.config import archive, destinations, groups, listeners, model
from asyncroute.config.cases import Case
from asyncroute.config.peers import Peer
from asyncroute.config.steps import Step, Upper
from asyncroute.config.table import Table
from asyncroute.config.transforms import Transform
from asyncroute.config.watching import Watch
from asyncroute.core.titles import FACTS as TITLE_FACTS
from asyncroute.reload import FIXED
from tests.unit.pages import codes, own_section, page, rows, section, toml

SECTIONS: dict[str, type[Table]] = {
    "[node]": model.Node,
    "[[listener]]": listeners.Listener,
    "[listener.tls]": listeners.TlsServer,
    "[listener.user_identity]": listeners.UserIdentity,
    '[[destination]] of kind "dicom"': destinations.DicomDestination,
    "[destination.association]": destinations.Association,
    "[destination.compression]": destinations.Compression,
    "[destination.tls]": destinations.TlsClient,
    "[destination.retry]": destinations.Retry,
    "[destination.max_backlog]": destinations.Backlog,
    '[[destination]] of kind "folder"': destinations.FolderDestination,
    "[[group]]": groups.Group,
    "[[route]]": model.Route,
    "[[peer]]": Peer,
    "[[watch]]": Watch,
    "[transform.NAME]": Transform,
    "[[test]]": Case,
    "[archive]": archive.Archive,
    "[[archive.tiers]]": archive.Tier,
    "[archive.tiers.move_in]": archive.MoveIn,
}
LEAST: Mapping[type[Table], Mapping[str, Any]] = {
    listeners.TlsServer: {"certificate": "c.pem", "key": "k.pem"},
    listeners.UserIdentity: {"users_file": "users"},
    destinations.DicomDestination: {"name": "n", "host": "h", "port": 104, "ae_title": "A"},
    destinations.FolderDestination: {"name": "n", "path": "p"},
    groups.Group: {"name": "n", "mode": "balance", "members": ["a", "b"]},
    model.Route: {"name": "n", "to": ["d"]},
    Peer: {"ae_title": "A", "host": "h", "port": 104},
    Watch: {"name": "n", "path": "p"},
    Transform: {"steps": [Upper(upper="Modality")]},
    Case: {"name": "n", "given": {}, "expect": {"held": True}},
    archive.Archive: {"tiers": [{"path": "p"}]},
    archive.Tier: {"path": "p"},
}
WITH: Mapping[tuple[type[Table], str], Mapping[str, Any]] = {
    (listeners.TlsServer, "require_client"): {"client_ca": "ca.pem"},
    (listeners.TlsServer, "bind_ae"): {"client_ca": "ca.pem"},
    (archive.MoveIn, "at"): {"older_than": "1d"},
    **{(archive.MoveIn, key): {"at": "02:00"} for key in ("below_free", "older_than", "hours", "bandwidth")},
    (Watch, "path"): {"mode": "batch", "paths": ["p"], "path": None},
    **{(model.Route, key): {"when": "complete"} for key in ("complete", "quiet", "at_latest", "late")},
}
KEYS = [(title, cells) for title in SECTIONS for cells in rows(own_section("configuration.md", title))]
key_rows = pytest.mark.parametrize(("title", "cells"), KEYS, ids=[f"{t} {c[0]}" for t, c in KEYS])


def build(table: type[Table], key: str, **more: Any) -> Any:
    return getattr(table(**{**LEAST.get(table, {}), **WITH.get((table, key), {}), **more}), key)


def test_every_table_has_a_section() -> None:
    def below(table: type[Table]) -> Iterator[type[Table]]:
        for each in table.__subclasses__():
            yield each
            yield from below(each)

    public = {table for table in below(Table) if not table.__name__.startswith("_") and not issubclass(table, Step)}
    assert set(SECTIONS.values()) == public - {model.Config}


@pytest.mark.parametrize("title", SECTIONS)
def test_every_key_is_documented_and_no_other(title: str) -> None:
    documented = [codes(cells[0]) for documented_in, cells in KEYS if documented_in == title]
    assert sorted(documented) == sorted([key] for key in SECTIONS[title].model_fields)


@key_rows
def test_a_default_is_what_is_documented(title: str, cells: Sequence[str]) -> None:
    table, (key,), default = SECTIONS[title], codes(cells[0]), cells[1]
    field = table.model_fields[key]
    if default == "required":
        assert field.is_required() or key == "kind"
    elif default == "not set":
        assert build(table, key) is None
    elif default in ("see above", "see below"):
        assert isinstance(field.default, Table)
        assert field.default == type(field.default)()
    elif key == "require_client":
        assert default == "`true` with `client_ca`, else `false`"
        server = {"certificate": "c.pem", "key": "k.pem"}
        assert (build(table, key), listeners.TlsServer(**server).require_client) == (True, False)
    else:
        (value,) = codes(default)
        assert build(table, key) == build(table, key, **{key: toml(value)})
        assert not field.is_required()


@key_rows
def test_what_is_allowed_is_allowed_and_nothing_else(title: str, cells: Sequence[str]) -> None:
    table, (key,) = SECTIONS[title], codes(cells[0])
    allowed, _, refused = cells[2].partition("not ")
    good, bad = [], [toml(value) for value in codes(refused)]
    for code in codes(allowed):
        if limits := re.fullmatch(r"(\d+)\.\.(\d+)", code):
            low, high = map(int, limits.groups())
            good += [low, high]
            bad += [low - 1, high + 1]
        else:
            good.append(toml(code))
    for value in good:
        build(table, key, **{key: value})
    for value in bad:
        with pytest.raises(ValidationError):
            build(table, key, **{key: value})


def test_what_is_not_available_yet_is_listed() -> None:
    listed = {cells[0]: set(codes(cells[1])) for cells in rows(section("configuration.md", "Not available yet"))}
    assert listed == {
        "tables of the file": model.LATER_TABLES,
        "kinds of destinations": set(destinations.LATER_KINDS),
    }
    assert len(listed) == len(model.LATER_KEYS) + 2


@key_rows
def test_a_key_with_one_value_says_so(title: str, cells: Sequence[str]) -> None:
    one_value = codes(cells[0])[0] in model.TODAY.get(SECTIONS[title], {})
    assert ("Only the default works today" in cells[3]) == one_value


def test_what_a_calling_title_may_name_is_documented_whole() -> None:
    listed = rows(own_section("configuration.md", "Calling titles"))
    assert [codes(written) for written, _ in listed] == [[f"{{{fact}}}"] for fact in TITLE_FACTS]


def test_what_a_reload_cannot_change_is_listed() -> None:
    (line,) = [line for line in page("configuration.md").split("\n- ") if "need a restart" in line]
    assert [key for key in codes(line) if key != "[node]"] == list(FIXED)
