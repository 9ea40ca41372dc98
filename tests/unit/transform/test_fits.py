"""Which text a value representation takes (PS3.5 §6.2), and what a cut makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.transform.fits import TEXT, cut, problem

FIT = [
    ("AE", "PACS-1"), ("AE", " PACS 1"), ("AS", "045Y"), ("CS", "ORIGINAL_1 A"), ("DA", "20240229"), ("DS", "-1.5e3"),
    ("DS", " .5 "), ("DT", "2024"), ("DT", "202402"), ("DT", "2024022923"), ("DT", "20240229235960.123456-1130"),
    ("DT", "2024+0100"), ("DT", "2024+1400"), ("DT", "202402-1200"), ("DT", "2024+0000"), ("IS", "-2147483648"),
    ("TM", "10"), ("TM", "101560.5"), ("UI", "1.2.3"), ("UI", "1.30.0"), ("UI", "1." + "2" * 62),
    ("UR", "http://a/b?c=1"), ("LO", "漢" * 64), ("SH", "é" * 16), ("LT", "one\r\ntwo\tthree\\four"),
    ("ST", "a\\b"), ("UT", "x" * 70001), ("UC", "x" * 70001), ("PN", "a^b^c^d^e=f=g"), ("PN", "=".join(["x" * 64] * 3)),
    ("PN", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
]  # fmt: skip


@pytest.mark.parametrize(("vr", "text"), FIT)
def test_a_value_that_fits(vr: str, text: str) -> None:
    assert problem(vr, text) is None


def test_an_empty_value_fits() -> None:
    assert {problem(vr, "") for vr in TEXT} == {None}


MISFITS = [
    ("AE", "A" * 17, "has 17 characters, AE takes 16"), ("AE", "A\x07", "is not an AE title (AE)"),
    ("AE", "   ", "is not an AE title (AE)"), ("AE", "É", "is not an AE title (AE)"),
    ("AS", "30Y", "is not an age such as 045Y (AS)"),
    ("CS", "m", "is not capital letters, digits, spaces and underscores (CS)"), ("CS", "A" * 17, "CS takes 16"),
    ("DA", "2026-1-1", "is not a date, YYYYMMDD (DA)"), ("DA", "20261301", "is not a date"),
    ("DA", "20250229", "is not a date"), ("DA", "20250431", "is not a date"), ("DA", "00000101", "is not a date"),
    ("DA", "２０２５０１０１", "is not a date"), ("DS", "1,5", "is not a decimal number (DS)"), ("DS", "nan", "is not"),
    ("DS", "1.2345678901234567", "has 18 characters, DS takes 16"), ("DT", "20250230", "is not a date and time (DT)"),
    ("DT", "20250230+0100", "is not a"), ("DT", "2025010124", "is not a"), ("DT", "20250101120", "is not a"),
    ("DT", "2025+1500", "is not a"), ("DT", "2025+1401", "is not a"), ("DT", "2025-1300", "is not a"),
    ("DT", "2025-1201", "is not a"), ("DT", "2025-0000", "is not a"), ("DT", "2025+0060", "is not a"),
    ("IS", "1.0", "is not a whole number (IS)"), ("IS", "2147483648", "is beyond the numbers that IS allows"),
    ("LO", "x" * 65, "has 65 characters, LO takes 64"), ("LO", "a\tb", "has characters that LO does not allow"),
    ("LO", "a\x1b(B", "has characters that LO"), ("LO", "a\x85", "has characters that LO"),
    ("LT", "a\0b", "has characters that LT"), ("LT", "x" * 10241, "has 10241 characters, LT takes 10240"),
    ("PN", "x" * 65, "has 65 characters, PN takes 64 in a component group"), ("PN", "a=b=c=d", "more than three"),
    ("PN", "a^b^c^d^e^f", "has more than five components (PN)"), ("SH", "x" * 17, "has 17 characters, SH takes 16"),
    ("ST", "x" * 1025, "has 1025 characters, ST takes 1024"), ("TM", "10:15", "is not a time, HHMMSS (TM)"),
    ("TM", "2400", "is not a time"), ("UI", "1.02", "is not a UID (UI)"), ("UI", "1..2", "is not a UID"),
    ("UI", "1." + "2" * 63, "has 65 characters, UI takes 64"), ("UR", "http://a b", "is not a URI (UR)"),
]  # fmt: skip


@pytest.mark.parametrize(("vr", "text", "reason"), MISFITS)
def test_a_value_that_does_not_fit(vr: str, text: str, reason: str) -> None:
    found = problem(vr, text)
    assert found is not None
    assert reason in found


CUTS = [
    ("SH", "x" * 17, "x" * 16), ("LO", "é" * 65, "é" * 64), ("ST", "a\\" * 513, "a\\" * 512),
    ("PN", "x" * 65 + "=" + "y" * 60 + "=" + "z" * 70, "x" * 64 + "=" + "y" * 60 + "=" + "z" * 64),
]  # fmt: skip


@pytest.mark.parametrize(("vr", "text", "shorter"), CUTS)
def test_descriptive_text_is_cut(vr: str, text: str, shorter: str) -> None:
    assert cut(vr, text) == shorter
    assert problem(vr, shorter) is None


@pytest.mark.parametrize(
    ("vr", "text"), [("CS", "X" * 17), ("UI", "1." + "2" * 63), ("AE", "x" * 17), ("IS", "1" * 13), ("DA", "202401011")]
)
def test_what_would_become_another_value_is_not_cut(vr: str, text: str) -> None:
    assert problem(vr, text)
    assert cut(vr, text) == text


@given(st.lists(st.text(st.sampled_from("aé"), max_size=100), min_size=1, max_size=3).map("=".join))
def test_a_name_is_cut_no_more_than_it_must(name: str) -> None:
    shorter = cut("PN", name)
    assert problem("PN", shorter) is None
    for before, after in zip(name.split("="), shorter.split("="), strict=True):
        assert after == before[:64]
