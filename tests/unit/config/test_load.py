"""What a configuration becomes, where it is looked for, and what happens to files that are none."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from asyncroute.config import (
    Config,
    DicomDestination,
    FolderDestination,
    Listener,
    compile_routes,
    embedded_default,
    find,
    load,
    loads,
)
from asyncroute.core.errors import AsyncrouteError, ConfigError, OurFault, Problem
from asyncroute.core.model import RouteHit, Source
from asyncroute.core.outcomes import Action

MINIMAL = """
[[listener]]
[[destination]]
name = "pacs"
kind = "dicom"
host = "10.0.0.5"
port = 104
ae_title = "PACS"
[[destination]]
name = "dir"
kind = "folder"
path = "out"
[[route]]
name = "all"
to = ["pacs", "dir"]
"""

EVERYTHING = """
[node]
name = "edge-1"
data_dir = "data"
durability = "process-crash"
unrouted = "reject"
max_outbound = 7
memory = "64 MiB"
min_free = 0
history = "never"
drain = "0s"

[[listener]]
ae_title = " CT ROUTER "
accept_called = ["A", "B*"]
accept_calling = ["CT_?"]
accept_from = ["10.0.0.0/8", "::1"]
host = "127.0.0.1"
port = 0
prefer = ["1.2.840.10008.1.2.1", "JPEG2000Lossless"]
max_pdu = 4096
max_image = "1 MiB"
max_associations = 3
max_associations_per_peer = 2
association_timeout = "100ms"
pdu_timeout = "1s"
idle_timeout = "never"
tls.certificate = "/dev/null"
tls.key = "/dev/null"
tls.client_ca = "/dev/null"
tls.require_client = false
tls.profile = "bcp195"

[[destination]]
name = "pacs"
kind = "dicom"
host = "pacs.example.org"
port = 104
ae_title = "PACS"
calling_ae_title = "FIXED"
max_associations = 2
max_per_study = 1
adaptive = false
association = { scope = "any", idle_close = "never", max_age = "never" }
connect_timeout = "1s"
response_timeout = "2s"
max_pdu = "1 MiB"
max_contexts = 1
min_gap = "0s"
compress = "keep"
transcode = false
retry = { first = "1s", factor = 1.5, max = "2s", attempts = 3, give_up = "1d" }
outcomes = { A900 = "retry", "c1XX" = "deliver", "0xC100" = "fail" }
max_backlog = { images = 0, bytes = 0 }
verify = "no"
tls = {}

[[destination]]
name = "dir"
kind = "folder"
path = "/srv/x"
layout = "{SOPInstanceUID}"
duplicates = "skip"
retry.first = "1s"
max_backlog.images = 1

[[route]]
name = "ct"
match = { Modality = "CT" }
unless = { PatientID = "TEST*" }
to = ["pacs"]
final = true
when = "now"
priority = "normal"
"""


def test_the_defaults() -> None:
    config = loads(MINIMAL)
    node, listener, pacs, folder = config.node, config.listeners[0], *config.destinations
    assert (node.data_dir, node.durability, node.unrouted) == (Path("/var/lib/asyncroute"), "power-loss", "hold")
    assert (node.max_outbound, node.memory, node.min_free) == (200, 256 << 20, 1 << 30)
    assert (node.history, node.drain) == (30 * 86400, 30)
    assert (listener.ae_title, listener.host, listener.port) == ("ASYNCROUTE", "0.0.0.0", 11112)
    assert (listener.accept_called, listener.accept_calling, listener.accept_from) == ((), ("*",), ("*",))
    assert (listener.max_pdu, listener.max_image) == (128 << 10, 8 << 30)
    assert (listener.max_associations, listener.max_associations_per_peer) == (300, 0)
    assert (listener.association_timeout, listener.pdu_timeout, listener.idle_timeout) == (30, 30, 600)
    assert (listener.prefer, listener.tls) == ((), None)
    assert isinstance(pacs, DicomDestination)
    assert (pacs.calling_ae_title, pacs.max_associations) == ("{calling_aet}", 10)
    assert (pacs.connect_timeout, pacs.response_timeout, pacs.max_pdu, pacs.max_contexts) == (10, 60, 128 << 10, 128)
    assert (pacs.association.idle_close, pacs.association.max_age, pacs.association.scope) == (5, 3600, "any")
    assert (pacs.retry.first, pacs.retry.factor, pacs.retry.max, pacs.retry.attempts) == (5, 2, 600, 0)
    assert pacs.retry.give_up == math.inf
    assert (pacs.max_backlog.images, pacs.max_backlog.bytes) == (500_000, 200 << 30)
    assert (pacs.adaptive, pacs.transcode, pacs.compress, pacs.verify, pacs.tls) == (True, False, "keep", "no", None)
    assert isinstance(folder, FolderDestination)
    assert (folder.layout, folder.duplicates) == (
        "{PatientID}/{StudyDate}-{Modality}/{SOPInstanceUID}.dcm",
        "keep-both",
    )
    assert config.path is None


def test_every_key(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(EVERYTHING)
    config = load(path)
    node, listener, pacs, folder = config.node, config.listeners[0], *config.destinations
    assert config.path == path
    assert (node.name, node.data_dir, node.durability) == ("edge-1", tmp_path / "data", "process-crash")
    assert (node.memory, node.min_free, node.history, node.drain) == (64 << 20, 0, math.inf, 0)
    assert (listener.ae_title, listener.label) == ("CT ROUTER", "CT ROUTER@127.0.0.1:0")
    assert listener.prefer == ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90")
    assert (listener.max_pdu, listener.association_timeout, listener.idle_timeout) == (4096, 0.1, math.inf)
    assert listener.accept_from == ("10.0.0.0/8", "::1/128")
    assert listener.tls is not None
    assert not listener.tls.require_client
    assert isinstance(pacs, DicomDestination)
    assert pacs.calling_ae_title == "FIXED"
    assert (pacs.overrides[0xA900], pacs.overrides[0xC1FF], pacs.overrides[0xC100]) == (
        Action.RETRY,
        Action.DELIVER,
        Action.FAIL,
    )
    assert len(pacs.overrides) == 1 + 256
    assert (pacs.retry.backoff.factor, pacs.retry.backoff.give_up) == (1.5, 86400)
    assert pacs.tls is not None
    assert isinstance(folder, FolderDestination)
    assert (folder.path, folder.retry.first, folder.max_backlog.images) == (Path("/srv/x"), 1, 1)
    assert config.destination("dir") is folder
    assert config.destination("nothing") is None
    assert config.routes[0].final


def test_client_certificates_are_asked_for_where_an_authority_is_named() -> None:
    text = "\n[listener.tls]\ncertificate = '/dev/null'\nkey = '/dev/null'\n"
    plain = loads(MINIMAL.replace("[[listener]]", "[[listener]]" + text))
    mutual = loads(MINIMAL.replace("[[listener]]", "[[listener]]" + text + "client_ca = '/dev/null'\n"))
    assert [config.listeners[0].tls.require_client for config in (plain, mutual) if config.listeners[0].tls] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("called", "accepted"),
    [("CT ROUTER", True), ("A", True), ("AB", False), ("B", True), ("BCD", True), ("", False), ("ct router", False)],
)
def test_called_titles(called: str, accepted: bool) -> None:
    assert bool(loads(EVERYTHING).listeners[0].accepts_called(called)) is accepted


def test_a_title_with_pattern_characters_is_taken_literally() -> None:
    listener = Listener(ae_title="A[1]*")
    assert listener.accepts_called("A[1]*")
    assert not listener.accepts_called("A1*")
    assert not listener.accepts_called("A1X")


@pytest.mark.parametrize(
    ("peer", "accepted"),
    [("10.255.0.1", True), ("11.0.0.1", False), ("::1", True), ("::ffff:10.0.0.1", True), ("nonsense", False)],
)
def test_peers(peer: str, accepted: bool) -> None:
    assert bool(loads(EVERYTHING).listeners[0].accepts_from(peer)) is accepted
    assert loads(MINIMAL).listeners[0].accepts_from(peer)


def test_a_configuration_cannot_be_changed_and_equals_its_repetition() -> None:
    config = loads(EVERYTHING)
    with pytest.raises(ValidationError):
        setattr(config.listeners[0], "port", 1)  # noqa: B010 - type checkers know that it cannot be done
    assert config.listeners[0].accepts_calling("CT_1")  # what is computed on demand does not count
    assert config == loads(EVERYTHING)
    assert config != loads(EVERYTHING.replace("edge-1", "edge-2"))


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "x.toml").write_text(MINIMAL.replace('"out"', '"../out"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    folder = load("etc/x.toml").destinations[1]
    assert isinstance(folder, FolderDestination)
    assert folder.path == tmp_path / "etc" / ".." / "out"
    home = loads(MINIMAL.replace('"out"', '"~/out"')).destinations[1]
    assert isinstance(home, FolderDestination)
    assert home.path == Path("/home/somebody/out")


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert len(load(path).destinations) == 2
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").replace("104", "0").encode())
    with pytest.raises(ConfigError, match=re.escape(f"{path}:7: destination[0].port: must be 1..65535, not 0")):
        load(path)


def test_ports_of_different_addresses_do_not_clash() -> None:
    other = '[[listener]]\nhost = "127.0.0.2"\n'
    assert loads(MINIMAL.replace("[[listener]]", '[[listener]]\nhost = "127.0.0.1"\n' + other)).listeners
    free = "[[listener]]\nport = 0\n"
    assert len(loads(free + free + MINIMAL).listeners) == 3
    assert loads(MINIMAL.replace("[[listener]]", '[[listener]]\n[[listener]]\nhost = "::"\n')).listeners


@pytest.mark.parametrize(
    ("listening", "host", "called", "loop"),
    [
        ("0.0.0.0", "127.0.0.1", "ASYNCROUTE", True),
        ("0.0.0.0", "localhost", "ASYNCROUTE", True),
        ("127.0.0.1", "localhost", "ASYNCROUTE", True),
        ("router.example.org", "ROUTER.example.org", "ASYNCROUTE", True),
        ("::", "::1", "ASYNCROUTE", True),
        ("0.0.0.0", "::1", "ASYNCROUTE", False),
        ("127.0.0.2", "127.0.0.1", "ASYNCROUTE", False),
        ("0.0.0.0", "10.0.0.5", "ASYNCROUTE", False),
        ("0.0.0.0", "127.0.0.1", "OTHER", False),
    ],
)
def test_loops(listening: str, host: str, called: str, loop: bool) -> None:
    text = MINIMAL.replace("[[listener]]", f'[[listener]]\nhost = "{listening}"').replace("104", "11112")
    text = text.replace("10.0.0.5", host).replace('"PACS"', f'"{called}"')
    if loop:
        with pytest.raises(ConfigError, match="own listener"):
            loads(text)
    else:
        assert loads(text).destinations


def test_the_shape_of_the_benchmarks_configuration() -> None:
    text = """
[node]
name = "bench"
data_dir = "/tmp/bench"
durability = "process-crash"

[[listener]]
ae_title = "ROUTER"
host = "127.0.0.1"
port = 11112
max_associations = 2000

[[route]]
name = "all"
to = ["D1", "D2"]
"""
    for n in (1, 2):
        text += f'[[destination]]\nname = "D{n}"\nkind = "dicom"\nhost = "127.0.0.1"\nport = {1104 + n}\n'
        text += f'ae_title = "D{n}"\nmax_associations = 4\n'
    assert compile_routes(loads(text)).decide(Source("X", "ROUTER", "ROUTER", "127.0.0.1"), {}) == (
        RouteHit("all", "D1"),
        RouteHit("all", "D2"),
    )


# --- Where a configuration comes from --------------------------------------------------------------------------------


def test_the_embedded_default_keeps_everything(tmp_path: Path) -> None:
    config = embedded_default(tmp_path / "data")
    assert (config.listeners[0].ae_title, config.listeners[0].port) == ("ASYNCROUTE", 11112)
    (folder,) = config.destinations
    assert isinstance(folder, FolderDestination)
    assert (folder.name, folder.path) == ("images", tmp_path / "data" / "images")
    assert (config.node.durability, config.node.data_dir) == ("power-loss", tmp_path / "data")
    hits = compile_routes(config).decide(Source("A", "B", "C", "127.0.0.1"), {})
    assert hits == (RouteHit("all", "images"),)


def test_find_prefers_the_file_it_is_given_then_the_one_that_is_there(tmp_path: Path) -> None:
    assert find(folder=tmp_path).node.data_dir == tmp_path / "asyncroute-data"
    (tmp_path / "asyncroute.toml").write_text('[node]\nname = "here"\n' + MINIMAL)
    (tmp_path / "other.toml").write_text('[node]\nname = "other"\n' + MINIMAL)
    assert find(folder=tmp_path).node.name == "here"
    assert find("other.toml", tmp_path).node.name == "other"
    assert find(tmp_path / "other.toml").node.name == "other"


def test_find_does_not_fall_back_from_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        find("missing.toml", tmp_path)
    (tmp_path / "asyncroute.toml").write_text("x")
    with pytest.raises(ConfigError, match="not valid TOML"):
        find(folder=tmp_path)


# --- Files that are none ---------------------------------------------------------------------------------------------


def told(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    assert told(path) == f'{path}: no such file; "asyncroute init" writes one to start from'


def test_a_folder(tmp_path: Path) -> None:
    assert told(tmp_path) == f"{tmp_path}: cannot be read: is a directory"


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert told(tmp_path / "x" / "y.toml") == f"{tmp_path}/x/y.toml: cannot be read: not a directory"


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(MINIMAL)
    path.chmod(0)
    program = (
        "import os, sys\n"
        "from asyncroute.config import ConfigError, load\n"
        "os.geteuid() or os.seteuid(65534)\n"  # root may read everything
        "try: load(sys.argv[1])\n"
        "except ConfigError as error: print(error)\n"
    )
    tmp_path.chmod(0o755)
    relative = os.path.relpath(path, tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", program, relative],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout == "x.toml: cannot be read: permission denied\n", run.stderr


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"[node]\nname = 'M\xfcnchen'\n")
    assert told(path) == f"{path}:2: is not UTF-8 text (byte 0xfc)"


def test_a_file_without_end() -> None:
    assert told(Path("/dev/zero")) == "/dev/zero: is larger than 4 MiB: not a configuration"


# --- Anything at all --------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.sampled_from(
        [
            *("1", "-1", "0x" + "f" * 5000, "1.5", "nan", "inf", "true", '"x"', '"*"', '"re:("', '""', '"1s"'),
            *("2024-01-01", "08:30:00", "2024-01-01T08:30:00Z", "[]", "{}", '"dicom"', '"folder"', '"1.."'),
            *('"\\u0000"', '"..\\u00e9"'),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: "[" + ", ".join(values) + "]")
        | st.dictionaries(st.sampled_from(["first", "kind", "Modality", "'a b'", "any"]), inner, max_size=2).map(
            lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
        )
    ),
    max_leaves=4,
)
KEYS = [
    *Listener.model_fields,
    *DicomDestination.model_fields,
    *FolderDestination.model_fields,
    *("match", "unless", "to", "final", "match.Modality", "match.StudyDate", "match.SeriesNumber", "match.peer"),
    *("match.listener", "match.PatientAge", "match.SOPClassUID", "match.'(0019,1010)'", "data_dir", "memory", "drain"),
    *("retry.first", "tls.certificate", "outcomes.A900", "association.scope", "''", "hours", "[key]"),
]
TABLES = st.sampled_from(["[node]", "[[listener]]", "[[destination]]", "[[route]]", "[peer]", "[x]", "[listener.tls]"])
PAIRS = st.lists(st.tuples(st.sampled_from(KEYS), VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"), max_size=4)
FILES = st.lists(st.tuples(TABLES, PAIRS).map(lambda part: "\n".join([part[0], *part[1]])), max_size=5).map("\n".join)


@given(FILES | FILES.map(lambda text: MINIMAL + text) | st.text())
def test_any_text_is_a_configuration_or_a_list_of_lines(text: str) -> None:
    try:
        assert isinstance(loads(text, "x.toml"), Config)
    except ConfigError as caught:
        error = caught
    else:
        return
    problems = str(error).split("\n")
    assert len(problems) == len(error.problems) > 0
    assert all(re.match(r"x\.toml:(\d+:)* ", problem) and problem.isprintable() for problem in problems)
    assert not re.search(r"pydantic|validation|Input should|NoneType|something else", str(error))


def test_errors_belong_to_their_family() -> None:
    error = ConfigError([Problem("f", "k", "t", 3, 4), Problem("f", "", "t")])
    assert isinstance(error, OurFault)
    assert isinstance(error, AsyncrouteError)
    assert str(error) == "f:3:4: k: t\nf: t"
