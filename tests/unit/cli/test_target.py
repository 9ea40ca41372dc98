"""``NAME|AET@HOST:PORT``."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.cli.target import calling_titles, find, parse_address
from asyncroute.config import Config, DicomDestination, loads
from asyncroute.config.titles import known_titles
from asyncroute.core.errors import OurFault

GOOD = [
    ("PACS@10.0.0.5:104", ("PACS", "10.0.0.5", 104)),
    ("PACS@pacs.example.org:11112", ("PACS", "pacs.example.org", 11112)),
    ("A B@localhost:1", ("A B", "localhost", 1)),
    ("A@B@localhost:65535", ("A@B", "localhost", 65535)),
    ("A:1@localhost:104", ("A:1", "localhost", 104)),
    ("PACS@[::1]:104", ("PACS", "::1", 104)),
    ("PACS@[2001:db8::5]:104", ("PACS", "2001:db8::5", 104)),
    (" PACS @10.0.0.5:104", ("PACS", "10.0.0.5", 104)),
]

BAD = [
    ("@10.0.0.5:104", "not a target"),
    ("PACS@10.0.0.5", "not a target"),
    ("PACS@:104", "not a target"),
    ("PACS@", "not a target"),
    ("PACS@10.0.0.5:", "port is a number"),
    ("PACS@10.0.0.5:dicom", "port is a number"),
    ("PACS@10.0.0.5:0", "port is a number"),
    ("PACS@10.0.0.5:65536", "port is a number"),
    ("PACS@10.0.0.5:-1", "port is a number"),
    ("PACS@10.0.0.5:٣", "port is a number"),
    ("PACS@10.0.0.5:" + "1" * 5000, "port is a number"),
    ("PACS@2001:db8::5:104", "stands in brackets"),
    ("SEVENTEEN_LETTERS@10.0.0.5:104", "at most 16 characters"),
    ("PA\\CS@10.0.0.5:104", "AE title"),
    ("PÄCS@10.0.0.5:104", "AE title"),
    (" @10.0.0.5:104", "must not be empty"),
]

CONFIG = """
[node]
data_dir = "data"
[[listener]]
ae_title = "ROUTER"
accept_calling = ["CT_A", "MR_*"]
[[listener]]
port = 11113
accept_calling = ["US_1", "re:X"]
[[destination]]
name = "fixed"
kind = "dicom"
host = "h"
port = 104
ae_title = "FIXED"
calling_ae_title = "US"
[[destination]]
name = "mimic"
kind = "dicom"
host = "h"
port = 105
ae_title = "MIMIC"
[[destination]]
name = "other"
kind = "dicom"
host = "h"
port = 106
ae_title = "OTHER"
[[destination]]
name = "folder"
kind = "folder"
path = "out"
[[route]]
name = "one"
match = { calling_aet = ["CR_1", "CT_A", "DX_?"] }
to = ["mimic"]
[[route]]
name = "two"
match = { calling_aet = "XA_1" }
to = ["other"]
"""


@pytest.mark.parametrize(("text", "parts"), GOOD)
def test_addresses(text: str, parts: tuple[str, str, int]) -> None:
    assert parse_address(text) == parts


@pytest.mark.parametrize(("text", "words"), BAD)
def test_what_is_no_address_is_explained_in_one_line(text: str, words: str) -> None:
    with pytest.raises(OurFault, match=words) as error:
        parse_address(text)
    assert len(str(error.value).splitlines()) == 1


def test_a_host_that_is_none() -> None:
    with pytest.raises(OurFault, match="host must be a host name"):
        find("PACS@10.0.0.5/8:104", None, None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def test_a_name_is_looked_up(file: Path) -> None:
    peer = find("fixed", None, file)
    assert (peer.destination.ae_title, peer.calling, peer.depends) == ("FIXED", ("US",), False)
    assert find("fixed", "ME", file).calling == ("ME",)


@pytest.mark.parametrize(("name", "words"), [("nobody", "fixed, mimic, other, folder"), ("folder", "of kind 'folder'")])
def test_names_that_are_no_peers(file: Path, name: str, words: str) -> None:
    with pytest.raises(OurFault, match=words):
        find(name, None, file)


def test_a_name_needs_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OurFault, match=r"no asyncroute\.toml here"):
        find("pacs", None, None)


def test_the_calling_title_of_an_address(file: Path) -> None:
    assert find("PACS@h:1", None, None).calling == ("ASYNCROUTE",)
    assert find("PACS@h:1", None, file).calling == ("ROUTER",)
    assert find("PACS@h:1", " CT_A ", file).calling == ("CT_A",)
    with pytest.raises(OurFault, match="at most 16"):
        find("PACS@h:1", "SEVENTEEN_LETTERS", file)


def titles(config: Config, name: str) -> tuple[tuple[str, ...], bool]:
    destination = config.destination(name)
    assert isinstance(destination, DicomDestination)
    return calling_titles(config, destination)


def test_the_calling_titles_that_routes_may_use() -> None:
    config = loads(CONFIG)
    assert titles(config, "fixed") == (("US",), False)
    assert titles(config, "mimic") == (("CT_A", "CR_1"), False)
    assert titles(config, "other") == (("XA_1",), False)
    routeless = loads(CONFIG[: CONFIG.index("[[route]]")])
    assert titles(routeless, "mimic") == (("CT_A", "US_1"), False)


def test_titles_that_templates_and_routes_make() -> None:
    more = """
[[route]]
name = "three"
match = { calling_aet = "CT_*", Modality = "CT" }
to = ["mimic", "other"]
calling_ae_title = "RT_{calling_aet}"
[[route]]
name = "four"
match = { listener = 11113 }
unless = { called_aet = "SECOND" }
to = ["other"]
calling_ae_title = "{called_aet}>{listener}"
[[route]]
name = "five"
to = ["other"]
calling_ae_title = "OTHERS"
"""
    text = CONFIG.replace("port = 11113\n", 'port = 11113\naccept_called = ["SECOND", "THIRD", "F*"]\n')
    config = loads(text + more)
    assert titles(config, "mimic") == (("CT_A", "CR_1", "RT_CT_A"), False)
    assert known_titles(config, DicomDestination(name="other", host="h", port=1, ae_title="O")).wrong.keys() == {
        "calling AE title 'ASYNCROUTE>ASYNCROUTE' (from calling_ae_title '{called_aet}>{listener}') has 21 characters; "
        "an AE title has 1 to 16 printable ASCII characters, no backslash (PS3.5 6.2)"
    }
    assert titles(config, "other") == (("XA_1", "RT_CT_A", "THIRD>ASYNCROUTE", "OTHERS"), False)


def test_what_depends_on_the_senders_is_tried_as_if_it_were_ours() -> None:
    text = CONFIG.replace('"CT_A", "MR_*"', '"*"').replace('"US_1", ', "")
    more = """
[[route]]
name = "three"
to = ["fixed"]
calling_ae_title = "RT_{calling_aet}"
[[route]]
name = "four"
to = ["fixed"]
calling_ae_title = "TOO_MUCH_FOR_{calling_aet}"
[[route]]
name = "five"
to = ["fixed"]
"""
    assert titles(loads(text + more), "fixed") == (("US", "RT_ROUTER", "ROUTER"), True)


def test_calling_titles_that_depend_on_the_senders() -> None:
    text = CONFIG.replace('"CT_A", "MR_*"', '"MR_*"').replace('"US_1", ', "").replace('"CR_1", "CT_A", ', "")
    config = loads(text)
    assert titles(config, "mimic") == (("ROUTER",), True)
    assert titles(config, "other") == (("XA_1",), False)
    assert titles(config, "fixed") == (("US",), False)
