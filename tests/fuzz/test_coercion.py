"""Damaged and made-up data sets through every kind of step: edited or refused, and never anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.transform.base import Facts, Header, Refused
from asyncroute.transform.compiled import Compiled
from asyncroute.wire.header import header_end
from asyncroute.wire.syntax import syntax_of
from tests.fuzz.datasets import data_set
from tests.support.coercing import SECRET, transform

STEPS = (
    '{ prefix = "PatientID", with = "é" }, { fill = "AccessionNumber", from = "crc32(StudyInstanceUID)" },'
    '{ copy = "PatientName", to = "OtherPatientNames" }, { upper = "StudyDescription", everywhere = true },'
    '{ set = "(0029,xx10,ACME)", to = "{Modality}", vr = "LO" }',
    "{ new_uids = true }, { shift_dates = true }",
    '{ delete = "private" }, { delete = "(0008,xxxx)" }',
    '{ python = "look.py:look" }',
)
LOOK = """
def look(header, facts):
    header.InstitutionName = str(len([element.VR for element in header]))
    return header
"""


@pytest.mark.parametrize("count", [40, pytest.param(5000, marks=pytest.mark.long)])
@pytest.mark.no_cover
@pytest.mark.filterwarnings("ignore")
def test_whatever_comes_is_edited_or_refused(count: int, tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(LOOK)
    made = [transform(steps, SECRET + "record = true", tmp_path) for steps in STEPS]
    outcomes = {True: 0, False: 0}
    for number in range(count):
        image = data_set("coercion", number)
        data = b"".join(image.chunks(1 << 20))[: 1 << 20]
        syntax = syntax_of(image.transfer_syntax)
        if syntax is None or syntax.deflated:
            continue
        end = header_end(data, image.transfer_syntax, True)
        header = Header(data[: len(data) if end is None else end], image.transfer_syntax, "1.2", "1.3")
        for each in made:
            outcomes[_edited(each, header, data[len(header.data) :])] += 1
    assert min(outcomes.values()) > count // 10


def _edited(made: Compiled, header: Header, rest: bytes) -> bool:
    try:
        made.apply(header, Facts("A", received_at=1.0))
        if made.edits_tail:
            tail = made.tail(header)
            tail.feed(memoryview(rest))
            tail.finish()
    except Refused:
        return False
    return True
