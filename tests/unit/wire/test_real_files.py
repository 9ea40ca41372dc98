"""The header scan against pydicom, over every readable file of pydicom and pydicom-data, in every encoding."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from pathlib import Path

import pytest
from pydicom import config, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from asyncroute.wire.header import HeaderScanner, header_end
from asyncroute.wire.part10 import Meta, NotPart10, build_meta, parse_meta
from asyncroute.wire.scan import Scan
from tests.support import corpus
from tests.support.alike import recognized, scan_both
from tests.support.encoding import BIG, DEFLATED, EXPLICIT, IMPLICIT, deflate

PIXELS = 0x7FE00000
LEADING = {"AE", "CS", "DS", "IS", "LO", "SH"}
NUMBERS = {"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"}
BINARY = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "OB or OW", "US or OW", "US or SS or OW"}
MAX_VALUE = 1 << 16
TRUNCATED = {"rtplan_truncated.dcm"}
ODD = {
    "winter.dcm": "(0008,0018) follows (0008,0018)",  # twice, with the same value
    "SC_rgb_jpeg.dcm": "no VR at offset 4",  # implicit VR in an encapsulated syntax
}
WALKED = {"image_dfl.dcm", "waveform_ecg.dcm"}  # deflated; with more headers than a layout may have
NO_IMAGES = {"UN_sequence.dcm", "priv_SQ.dcm"}


@lru_cache
def part10_files() -> dict[str, tuple[Path, Meta]]:
    found = {}
    for path in (p for root in corpus.roots() for p in sorted(root.rglob("*")) if p.is_file()):
        try:
            found[f"{path.parent.name}/{path.name}"] = path, parse_meta(path.read_bytes())
        except NotPart10:
            continue
    return found


FILES = sorted(part10_files())
WHOLE = [name for name in FILES if Path(name).name not in TRUNCATED]


def encodings() -> list[object]:
    """Each file in each encoding; in the usual run each in one of them."""
    chosen = enumerate((name, syntax) for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED) for name in FILES)
    marks = {False: [], True: [pytest.mark.long]}
    return [pytest.param(*pair, marks=marks[number % 4 != number // len(FILES)]) for number, pair in chosen]


def test_there_are_files() -> None:
    assert len(FILES) > 150
    syntaxes = {meta.transfer_syntax for _, meta in part10_files().values()}
    assert {IMPLICIT, EXPLICIT, BIG, DEFLATED} < syntaxes
    assert len(syntaxes) > 10


def read(data: bytes) -> Dataset:
    """pydicom's reading of a whole file, without the pixel data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(io.BytesIO(data), stop_before_pixels=True)


def compare(data: bytes, offset: int, syntax: str) -> Scan:
    """Scan a file for all that pydicom finds, but huge values; every value and every text has to be the same."""
    dataset = read(data)
    raw = {tag: dataset.get_item(tag) for tag in dataset.keys() if tag < PIXELS}  # noqa: SIM118
    raw = {tag: element for tag, element in raw.items() if not too_long(element)}
    scan = scan_again(HeaderScanner(raw), data[offset:], syntax)
    for tag, element in raw.items():
        if isinstance(element, RawDataElement):
            assert scan.values[tag] == (element.value or b""), tag
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in raw:
            assert_texts(scan, dataset[tag])
    return scan


def scan_again(scanner: HeaderScanner, data: bytes, syntax: str) -> Scan:
    """The scan of what was scanned before: mostly recognized, always the same."""
    scan_both(scanner, data, syntax)
    scan = scan_both(scanner, data, syntax)
    assert scan is not None
    return scan


def too_long(element: object) -> bool:
    if isinstance(element, RawDataElement):
        return len(element.value or b"") > MAX_VALUE
    return isinstance(element, DataElement) and element.keyword == "WaveformSequence"


def assert_texts(scan: Scan, element: DataElement) -> None:
    tag = int(element.tag)
    if str(element.VR) == "UN":
        assert scan.vr(tag) == "UN"
        return
    expected = () if str(element.VR) in BINARY else expected_texts(element)
    assert without_empty_groups(element, scan.texts(tag)) == without_empty_groups(element, expected), (
        element.tag,
        element.VR,
        scan.values[tag],
    )


def without_empty_groups(element: DataElement, texts: tuple[str, ...]) -> tuple[str, ...]:
    """pydicom leaves out empty component groups at the end of a person name."""
    return tuple(text.rstrip("=") for text in texts) if element.VR == "PN" else texts


def expected_texts(element: DataElement) -> tuple[str, ...]:
    """pydicom's value as text, with what PS3.5 6.2 calls padding taken away."""
    value, vr = element.value, str(element.VR)
    if value is None:
        return ()
    many = list(value) if isinstance(value, (MultiValue, list)) else [value]
    texts = [one_text(vr, each) for each in many]
    return tuple(texts) if texts != [""] else ()


def one_text(vr: str, value: object) -> str:
    if isinstance(value, BaseTag):
        return f"({value.group:04X},{value.element:04X})"
    text = str(getattr(value, "original_string", value) if vr in ("DS", "IS") else value)
    if vr in NUMBERS:
        return text
    return text.strip(" \0") if vr in LEADING else text.rstrip(" \0")


@pytest.mark.parametrize("name", WHOLE)
def test_as_they_are(name: str) -> None:
    path, meta = part10_files()[name]
    data = path.read_bytes()
    scan = compare(data, meta.data_offset, meta.transfer_syntax)
    assert scan.odd is None
    assert scan.fallback == ODD.get(path.name)


@pytest.mark.parametrize("name", FILES)
def test_every_plain_file_is_recognized(name: str) -> None:
    """By what routing needs of it, when it comes again; with the end of its header."""
    path, meta = part10_files()[name]
    data = path.read_bytes()[meta.data_offset :]
    scanner = HeaderScanner([0x00080050, 0x00080060, 0x00100020, 0x0020000D, 0x0020000E])
    plain = path.name not in {*ODD, *TRUNCATED, *WALKED, *NO_IMAGES}
    assert [recognized(scanner, data, meta.transfer_syntax) for _ in range(3)] == [False, plain, plain]
    scan = scan_both(scanner, data, meta.transfer_syntax)
    assert scan is not None
    assert scan.end == (header_end(data, meta.transfer_syntax, complete=True) if plain else None)


def test_a_truncated_file_gives_what_is_whole_and_says_so() -> None:
    path, meta = part10_files()["test_files/rtplan_truncated.dcm"]
    view = memoryview(path.read_bytes())[meta.data_offset :]
    scan = HeaderScanner([0x00100020, 0x300A0070, 0x300A00B0]).scan(view, meta.transfer_syntax, complete=True)
    assert scan is not None
    assert "the data ends inside (300A,00B0)" in str(scan.odd)
    assert scan.texts(0x00100020) == ("id00001",)
    assert 0x300A0070 in scan.values
    assert 0x300A00B0 not in scan.values


@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "syntax"), encodings())
def test_written_anew(name: str, syntax: str) -> None:
    path, meta = part10_files()[name]
    data = encode(read(path.read_bytes()), syntax)
    packed = deflate(data) if syntax == DEFLATED else data
    head = build_meta(meta.sop_class_uid, meta.sop_instance_uid, syntax)
    scan = compare(head + packed, len(head), syntax)
    assert scan.odd is None
    assert scan.fallback is None


def encode(dataset: Dataset, syntax: str) -> bytes:
    """The data set without pixel data, every element decoded and encoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = Dataset()
        for each in dataset:
            if each.tag < PIXELS:
                copy.add(each)
        buffer = DicomBytesIO()
        buffer.is_implicit_VR = syntax == IMPLICIT
        buffer.is_little_endian = syntax != BIG
        write_dataset(buffer, copy)
        return buffer.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_header_end(name: str) -> None:
    """What stands before that offset is the header: pydicom reads the same elements from it alone."""
    path, meta = part10_files()[name]
    data = path.read_bytes()
    view = memoryview(data)[meta.data_offset :]
    end = header_end(view, meta.transfer_syntax, complete=True)
    if meta.transfer_syntax == DEFLATED or path.name in TRUNCATED | {"winter.dcm"}:
        assert end is None
        return
    assert end is not None
    scan = HeaderScanner([0x00100020]).scan(view, meta.transfer_syntax, complete=True)
    assert scan is not None
    assert header_end(view, meta.transfer_syntax, complete=True, start=scan.offset) == end
    whole, alone = read(data), read(data[: meta.data_offset + end])
    assert [t for t in whole.keys() if t < PIXELS] == list(alone.keys())  # noqa: SIM118


def test_validation_is_off_by_default() -> None:
    """pydicom only warns on odd values; were it to raise, the comparison above would mean nothing."""
    assert config.settings.reading_validation_mode == config.WARN
