"""Every file in examples/ loads, and does what its comments say."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from asyncroute.cli.cases import run
from asyncroute.config import Config, DicomDestination, FolderDestination, compile_routes, load, secrets
from asyncroute.config.advice import advice
from asyncroute.config.titles import titles_of
from asyncroute.core.archiving import last_moment, next_moment
from asyncroute.core.deidentification import Deidentify
from asyncroute.core.model import Source, Wait
from asyncroute.core.outcomes import Action, Kind, classify
from tests.unit.parts import delivery

EXAMPLES = Path(__file__).parents[3] / "examples"
FOLDERS = ("incoming", "trial/site-a", "trial/site-b")
CERTIFICATES = ("router.pem", "router.key", "sites-ca.pem", "cloud-ca.pem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of examples/, with the files beside it that they name."""
    copy = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copy)
    (copy / "certs").mkdir()
    for name in CERTIFICATES:
        (copy / "certs" / name).touch()
    secrets.create(copy / "research.secret")
    for name in FOLDERS:
        (copy / name).mkdir(parents=True)
    return copy


def example(folder: Path, name: str) -> Config:
    return load(folder / f"{name}.toml")


def destinations(config: Config, attributes: dict[int, tuple[str, ...]], **source: str) -> list[str]:
    facts = {"calling_aet": "CT_A", "called_aet": "ROUTER", "listener": "ASYNCROUTE", "peer": "10.1.2.3"} | source
    return [hit.destination for hit in compile_routes(config).decide(Source(**facts), attributes)]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_an_example_loads(path: Path, folder: Path) -> None:
    config = load(folder / path.name)
    assert config.routes
    assert {name for route in config.routes for name in config.reached(route)} == {d.name for d in config.destinations}


def test_thirty_sites(folder: Path) -> None:
    config = example(folder, "thirty-sites")
    assert [d.max_associations for d in config.destinations if isinstance(d, DicomDestination)] == [20, 10]
    assert destinations(config, {}) == ["pacs", "reading-room"]


def test_send_as(folder: Path) -> None:
    config = example(folder, "send-as")
    titles = {d.name: titles_of(config, d) for d in config.destinations if isinstance(d, DicomDestination)}

    def seen(sender: str) -> dict[str, str]:
        source = Source(sender, "ROUTER", config.listeners[0].label, "10.1.2.3")
        hits = compile_routes(config).decide(source, {})
        return {h.destination: titles[h.destination].title(delivery(route=h.route, calling_aet=sender)) for h in hits}

    assert seen("MR_B") == {"pacs": "MR_B", "backup": "ROUTER", "reading-room": "RT_MR_B"}
    assert seen("ER_CT") == {"pacs": "EMERGENCY", "backup": "EMERGENCY", "reading-room": "RT_ER_CT"}


def test_association_per_study(folder: Path) -> None:
    (pacs,) = example(folder, "association-per-study").destinations
    assert isinstance(pacs, DicomDestination)
    ends = pacs.association
    assert (ends.scope, ends.idle_close, ends.max_age) == ("study", 20, 3600)


def test_slow_line(folder: Path) -> None:
    pacs, archive = example(folder, "slow-line").destinations
    assert pacs.rates is None
    assert archive.rates is not None
    berlin = ZoneInfo("Europe/Berlin")
    moments = [
        datetime.fromisoformat(f"2026-06-{text}:00").replace(tzinfo=berlin) for text in ("12 17", "12 18", "13 12")
    ]
    assert [archive.rates.at(moment.timestamp())[0] for moment in moments] == [5_000_000, 50_000_000, 50_000_000]


def test_night_hours(folder: Path) -> None:
    pacs, archive = example(folder, "night-hours").destinations
    assert pacs.open_hours is None
    assert archive.open_hours is not None
    berlin = ZoneInfo("Europe/Berlin")

    def opened(text: str) -> bool:
        assert archive.open_hours is not None
        return archive.open_hours.at(datetime.fromisoformat(text).replace(tzinfo=berlin).timestamp())[0]

    assert [opened(f"2026-06-12 {hour}") for hour in ("05:59", "06:00", "17:59", "18:00")] == [True, False, False, True]
    assert all(opened(f"2026-06-{day} 12:00") for day in ("13", "14"))
    assert not opened("2026-06-15 05:00"), "the weekend ends at midnight"


def test_study_complete(folder: Path) -> None:
    archive, studies = example(folder, "study-complete").routes
    assert (archive.wait, studies.wait) == (None, Wait("study", hold_late=False))
    assert (studies.quiet, studies.at_latest) == (60, 1800)


def test_several_listeners(folder: Path) -> None:
    config = example(folder, "several-listeners")
    hospital, partners, anything = config.listeners
    assert hospital.accepts_calling("CT_1")
    assert not hospital.accepts_calling("CR_1")
    assert partners.accepts_called("NIGHTHAWK")
    assert not partners.accepts_called("HOSPITAL")
    assert anything.accepts_called("WHATEVER")
    assert destinations(config, {}, listener="PARTNERS") == ["telerad"]
    assert destinations(config, {}, listener=hospital.label) == ["pacs"]


PATIENT, MODALITY, STUDY, DATE, SERIES, ACCESSION, CLASS = (
    0x00100020,
    0x00080060,
    0x00081030,
    0x00080020,
    0x00200011,
    0x00080050,
    0x00080016,
)
HEART = {MODALITY: ("CT",), STUDY: ("CT Cardiac",), ACCESSION: ("1",)}


@pytest.mark.parametrize(
    ("attributes", "source", "expected"),
    [
        ({PATIENT: ("PHANTOM 3",), ACCESSION: ("1",)}, {}, ["quality"]),
        (HEART, {}, ["cardiology", "pacs"]),
        (HEART, {"calling_aet": "ER_CT"}, ["pacs"]),
        ({DATE: ("20240101",), SERIES: ("3",), ACCESSION: ("1",)}, {"peer": "10.2.9.9"}, ["quality", "pacs"]),
        ({DATE: ("20231231",), SERIES: ("3",), ACCESSION: ("1",)}, {"peer": "10.2.9.9"}, ["pacs"]),
        ({MODALITY: ("MR",)}, {}, ["quality", "pacs"]),
        ({CLASS: ("1.2.840.10008.5.1.4.1.1.88.67",), ACCESSION: ("1",)}, {}, []),
    ],
)
def test_rules(
    folder: Path, attributes: dict[int, tuple[str, ...]], source: dict[str, str], expected: list[str]
) -> None:
    assert destinations(example(folder, "rules"), attributes, **source) == expected


def test_research_folder(folder: Path) -> None:
    destination = example(folder, "research-folder").destination("study-data")
    assert isinstance(destination, FolderDestination)
    values = {PATIENT: ("P1",), DATE: ("20240131",), MODALITY: ("CT",), SERIES: ("2",), 0x00080018: ("1.2.3",)}
    assert destination.template.render(values) == "P1/20240131-CT/2/1.2.3.dcm"


def test_tls(folder: Path) -> None:
    config = example(folder, "tls")
    tls = config.listeners[0].tls
    assert tls is not None
    assert tls.require_client
    assert tls.client_ca == folder / "certs" / "sites-ca.pem"


def test_retry(folder: Path) -> None:
    (pacs,) = example(folder, "retry").destinations
    assert isinstance(pacs, DicomDestination)
    assert [pacs.retry.backoff.ceiling(n) for n in (1, 2, 8)] == [5, 10, 600]
    assert pacs.retry.backoff.exhausted(8, 0)
    assert pacs.overrides[0xC1FF] is Action.PAUSE
    assert classify(0xC000, pacs.overrides).kind is Kind.DELIVERED_WITH_WARNING
    assert classify(0xC200, pacs.overrides).kind is Kind.IMAGE_RETRY


def test_two_archives(folder: Path) -> None:
    config = example(folder, "two-archives")
    archive, readers = (group.one_of for group in config.groups)
    assert destinations(config, {}) == ["archive", "readers"]
    assert archive is not None
    assert (archive.ranked("1.2.3"), archive.keep) == (("pacs", "pacs2"), 600.0)
    assert readers is not None
    assert (readers.balance, readers.weights) == (True, (3, 1))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_an_example_passes_its_own_tests_and_nothing_is_odd_about_it(path: Path, folder: Path) -> None:
    config = load(folder / path.name)
    assert [result for result in run(config) if result.failures] == []
    assert advice(config) == []
    assert path.read_text("utf-8").startswith("# "), "says which question it answers"


@pytest.mark.parametrize("name", ["one-site", "no-accession-number", "tested-rules", "compress", "python-function"])
def test_these_have_tests(folder: Path, name: str) -> None:
    assert len(example(folder, name).cases) >= 2


def test_compress(folder: Path) -> None:
    config = example(folder, "compress")
    wishes = {d.name: d.compress for d in config.destinations if isinstance(d, DicomDestination)}
    assert wishes == {"archive": "jpeg-ls", "old-workstation": "none", "teleradiology": "j2k"}
    _, studies = config.routes
    assert (studies.wait, studies.quiet) == (Wait("study", hold_late=False), 60)


def test_deidentify(folder: Path) -> None:
    config = example(folder, "deidentify")
    (care, study) = config.routes
    assert config.coercions(care) == ()
    (coercion,) = config.coercions(study)
    assert coercion.steps == (Deidentify(frozenset({"patient"}), "shift"),)
    assert destinations(config, {0x00080060: ("CT",)}) == ["archive", "research"]
    assert destinations(config, {0x00080060: ("US",)}) == ["archive"]


def test_archive_tiers(folder: Path) -> None:
    config = example(folder, "archive-tiers")
    assert config.archive is not None
    ssd, raid = config.archive.terms.tiers
    assert (str(ssd.path), ssd.move_in, str(raid.path)) == ("/ssd/arc", None, "/raid/arc")
    assert raid.move_in is not None
    night = datetime(2026, 6, 12, 2, 0).astimezone().timestamp()
    assert last_moment(raid.move_in.at, night + 3600) == night
    assert next_moment(raid.move_in.at, night) == datetime(2026, 6, 13, 2, 0).astimezone().timestamp()
    assert (raid.move_in.below_free, config.archive.terms.keep) == (50 << 30, float("inf"))
