"""Attributes inside sequences and of private creators, in all encodings, by comparison with what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from asyncroute.config.attributes import find_path
from asyncroute.core.paths import Path
from asyncroute.wire.nested import BINARY, Nested, read_nested

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, PRIVATE = "1.2.840.10008.1.2.1.99", "1.3.6.1.4.1.99999.1"
REQUEST = "RequestAttributesSequence"
CREATOR = "ACME 1.1 (X)"


def example(undefined: bool = False) -> Dataset:
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.Modality = "CT"
    made.PatientName = "M\u00fcller"
    block = made.private_block(0x0029, "OTHER", create=True)
    block.add_new(0x10, "LO", "not this one")
    block = made.private_block(0x0029, CREATOR, create=True)
    block.add_new(0x10, "LO", ["one", "two"])
    block.add_new(0x11, "OB", b"\1\2\3\4")
    first, second = Dataset(), Dataset()
    first.AccessionNumber = "A1"
    first.RequestedProcedureDescription = "Sch\u00e4del"
    second.SpecificCharacterSet = "ISO_IR 192"
    second.AccessionNumber = "A2"
    second.RequestedProcedureDescription = "\u9aa8"
    code = Dataset()
    code.CodeValue = "T-1"
    second.RequestedProcedureCodeSequence = Sequence([code])
    made.RequestAttributesSequence = Sequence([first, second])
    made.ReferencedStudySequence = Sequence([])
    if undefined:
        for sequence in (made[REQUEST], second["RequestedProcedureCodeSequence"]):
            sequence.is_undefined_length = True
        for item in (first, second, code):
            item.is_undefined_length_sequence_item = True
    made.PixelData = b"\0" * 8
    made["PixelData"].VR = "OW"
    return made


def encoded(dataset: Dataset, syntax: str) -> bytes:
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = syntax == IMPLICIT, syntax != BIG
    write_dataset(out, dataset)
    data = out.getvalue()
    if syntax != DEFLATED:
        return data
    import zlib

    machine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return machine.compress(data) + machine.flush()


def read(data: bytes, syntax: str, *names: str, complete: bool = True) -> Nested | None:
    return read_nested(data, syntax, [find_path(name).path for name in names], complete)


FOUND: list[tuple[str, tuple[str, ...]]] = [
    (f"{REQUEST}.AccessionNumber", ("A1", "A2")),
    (f"{REQUEST}.0.AccessionNumber", ("A1",)),
    (f"{REQUEST}.1.AccessionNumber", ("A2",)),
    (f"{REQUEST}.2.AccessionNumber", ()),
    (f"{REQUEST}.RequestedProcedureDescription", ("Sch\u00e4del", "\u9aa8")),
    (f"{REQUEST}.RequestedProcedureCodeSequence.CodeValue", ("T-1",)),
    (f"{REQUEST}.1.RequestedProcedureCodeSequence.0.CodeValue", ("T-1",)),
    (f"{REQUEST}.RequestedProcedureCodeSequence", ("1 item",)),
    (f"{REQUEST}.ScheduledProtocolCodeSequence", ()),
    (REQUEST, ("2 items",)),
    ("ReferencedStudySequence", ("",)),
    ("ReferencedStudySequence.ReferencedSOPInstanceUID", ()),
    ("Modality", ("CT",)),
    ("PatientName", ("M\u00fcller",)),
    (f"(0029,xx10,{CREATOR})", ("one", "two")),
    (f"(0029,xx11,{CREATOR})", (BINARY,)),
    (f"(0029,xx12,{CREATOR})", ()),
    ("(0029,xx10,OTHER)", ("not this one",)),
    ("(0029,xx10,NOBODY)", ()),
]


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
def test_what_was_written_is_found(syntax: str, undefined: bool) -> None:
    found = read(encoded(example(undefined), syntax), syntax, *(name for name, _ in FOUND))
    assert found is not None
    assert found.odd is None
    assert {name: found.values[find_path(name).path] for name, _ in FOUND} == dict(FOUND)


@given(st.integers(0, 2000), st.sampled_from([IMPLICIT, EXPLICIT, BIG]), st.booleans())
def test_a_part_says_the_same_or_asks_for_more(cut: int, syntax: str, undefined: bool) -> None:
    data = encoded(example(undefined), syntax)
    names = [name for name, _ in FOUND]
    found = read(data[:cut], syntax, *names, complete=False)
    if found is not None:
        assert (found.odd, found.values) == (None, {find_path(name).path: values for name, values in FOUND})


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_cut_data_is_odd_where_it_is_all_there_is(syntax: str) -> None:
    data = encoded(example(), syntax)
    place = data.index(b"A2")
    found = read(data[: place + 1], syntax, f"{REQUEST}.AccessionNumber")
    assert found is not None
    assert found.odd
    assert found.values == {}
    assert read(data[: place + 1], syntax, "Modality", complete=False) == Nested({find_path("Modality").path: ("CT",)})


def test_a_private_transfer_syntax_shows_nothing() -> None:
    assert read(encoded(example(), EXPLICIT), PRIVATE, REQUEST) == Nested()


def test_implicit_data_where_explicit_was_agreed_is_read_by_pydicom() -> None:
    found = read(encoded(example(), IMPLICIT), EXPLICIT, *(name for name, _ in FOUND if "29,xx1" not in name))
    assert found is not None
    assert found.odd is None
    expected = {find_path(name).path: values for name, values in FOUND if "29,xx1" not in name}
    assert found.values == expected


def test_one_creator_may_have_several_blocks() -> None:
    made = Dataset()
    for block in (0x10, 0x20):
        made.add_new(0x00290000 | block, "LO", CREATOR)
        made.add_new(0x00290001 | block << 8, "LO", f"block {block:x}")
    found = read(encoded(made, EXPLICIT), EXPLICIT, f"(0029,xx01,{CREATOR})")
    assert found == Nested({find_path(f"(0029,xx01,{CREATOR})").path: ("block 10", "block 20")})


def paths() -> list[Path]:
    return [find_path(name).path for name, _ in FOUND]


@given(st.binary(max_size=400), st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED]), st.booleans())
def test_noise_never_raises(data: bytes, syntax: str, complete: bool) -> None:
    found = read_nested(data, syntax, paths(), complete)
    assert found is not None or not complete


@given(st.data(), st.sampled_from([IMPLICIT, EXPLICIT, BIG]), st.booleans())
def test_damage_never_raises(drawn: st.DataObject, syntax: str, undefined: bool) -> None:
    data = bytearray(encoded(example(undefined), syntax))
    for _ in range(drawn.draw(st.integers(1, 3))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    found = read_nested(bytes(data), syntax, paths(), True)
    assert found is not None
    assert bool(found.odd) is not bool(found.values)
