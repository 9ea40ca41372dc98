"""Element values as text: padding, numbers, character sets."""

from __future__ import annotations

import logging
import struct
import warnings

import pytest

from asyncroute.wire.charset import codecs_of, decode
from asyncroute.wire.values import dictionary_vr, texts_of

LATIN = ("latin_1",)

TEXTS = [
    ("UI", b"1.2.3\0", ("1.2.3",)),
    ("UI", b"1.2.3 ", ("1.2.3",)),
    ("UI", b"1.2\\1.3\0", ("1.2", "1.3")),
    ("AE", b"  PACS  ", ("PACS",)),
    ("CS", b" CT\\MR ", ("CT", "MR")),
    ("CS", b"ORIGINAL \\ PRIMARY\\", ("ORIGINAL", "PRIMARY", "")),
    ("DS", b" 1.50 \\-2", ("1.50", "-2")),
    ("IS", b" 7 ", ("7",)),
    ("SH", b"  a b  ", ("a b",)),
    ("LO", b" a \\ b ", ("a", "b")),
    ("LO", b"\\", ("", "")),
    ("LO", b"nul\0", ("nul",)),
    ("PN", b" Doe^John  ", (" Doe^John",)),
    ("PN", b"A^B\\C^D ", ("A^B", "C^D")),
    ("DA", b"20240229", ("20240229",)),
    ("TM", b"101500  ", ("101500",)),
    ("DT", b"2024 ", ("2024",)),
    ("AS", b"030Y", ("030Y",)),
    ("LT", b"  one\\two ", ("  one\\two",)),
    ("ST", b"a\\b", ("a\\b",)),
    ("UT", b" x\\y\r\n ", (" x\\y\r\n",)),
    ("UR", b"http://a\\b ", ("http://a\\b",)),
    ("UC", b" a\\b ", (" a", "b")),
    ("SH", b"", ()),
    ("SH", b"   ", ()),
    ("UI", b"\0\0", ()),
    ("OB", b"ab", ()),
    ("SQ", b"ab", ()),
    ("ZZ", b"ab", ()),
    ("UN", b"ab ", ("ab",)),
    ("UN", b"a\nb", ()),
]


@pytest.mark.parametrize(("vr", "value", "expected"), TEXTS)
def test_texts(vr: str, value: bytes, expected: tuple[str, ...]) -> None:
    assert texts_of(vr, value, LATIN, big=False) == expected
    assert texts_of(vr, value, LATIN, big=True) == expected


NUMBERS = [
    ("US", "HH", (1, 65535)),
    ("SS", "hh", (-1, 32767)),
    ("UL", "I", (4294967295,)),
    ("SL", "ii", (-2147483648, 5)),
    ("UV", "Q", (1 << 63,)),
    ("SV", "q", (-(1 << 63),)),
    ("FL", "f", (0.5,)),
    ("FD", "dd", (0.1, -1e300)),
]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("vr", "form", "numbers"), NUMBERS)
def test_numbers(vr: str, form: str, numbers: tuple[float, ...], big: bool) -> None:
    value = struct.pack((">" if big else "<") + form, *numbers)
    assert texts_of(vr, value, LATIN, big=big) == tuple(map(str, numbers))
    assert texts_of(vr, value + b"\0", LATIN, big=big) == ()


def test_tags() -> None:
    assert texts_of("AT", b"\x18\0\x63\x10\x08\0\x3e\x10", LATIN, big=False) == ("(0018,1063)", "(0008,103E)")
    assert texts_of("AT", b"\0\x18\x10\x63", LATIN, big=True) == ("(0018,1063)",)
    assert texts_of("AT", b"\0\x18\x10", LATIN, big=True) == ()


@pytest.mark.parametrize(
    ("tag", "creator", "vr"),
    [
        (0x00100020, "", "LO"),
        (0x00100000, "", "UL"),
        (0x60020010, "", "US"),
        (0x00090010, "", "LO"),
        (0x00091001, "", "UN"),
        (0x00291008, "SIEMENS CSA HEADER", "CS"),
        (0x00291008, "SOMEBODY", "UN"),
        (0x00101234, "", "UN"),
        (0x00280106, "", "US or SS"),
    ],
)
def test_dictionary(tag: int, creator: str, vr: str) -> None:
    assert dictionary_vr(tag, creator) == vr


# Names from PS3.5 annexes H, I, J, K.
NAMES = [
    (b"", b"Adams^John", "Adams^John"),
    (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    (b"ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    (b"ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
    (b"ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
    (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    (b"GBK", "镕".encode("gbk"), "镕"),
    (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        b"ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    ),
    (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (b"\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东="),
    (b"ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1b-F\xc4\xe9\xef\xed^J\xe9r", "Διον^Jér"),
]


@pytest.mark.parametrize(("charset", "value", "expected"), NAMES)
def test_names_of_the_standard(charset: bytes, value: bytes, expected: str) -> None:
    assert texts_of("PN", value, codecs_of(charset), big=False) == (expected,)


SPELLINGS = [
    b"ISO_IR 192 ",
    b"ISO-IR 192",
    b"ISO IR 192",
    b"iso_ir_192",
    b"ISO_IR 192\\ISO 2022 IR 87",
    b"UTF-8",
    b"utf8\0",
]


@pytest.mark.parametrize("charset", SPELLINGS)
def test_common_misspellings(charset: bytes) -> None:
    assert codecs_of(charset) == ("UTF8",)


@pytest.mark.parametrize("charset", [b"", b" ", b"\\", b"ISO_IR 999", b"\xff\xfe", b"os", b"rot13", b"X" * 100_000])
def test_unknown_character_sets_read_as_latin(charset: bytes) -> None:
    assert decode(b"\xe9", codecs_of(charset)) == "é"


def test_code_extensions_do_not_go_with_utf_8() -> None:
    assert codecs_of(b"ISO 2022 IR 100\\ISO_IR 192\\ISO 2022 IR 87") == ("latin_1", "iso2022_jp")
    assert decode(b"\x1b$B\xc3\xa9", ("UTF8",)) == "\x1b$Bé"


def test_a_backslash_inside_of_a_character_separates_nothing() -> None:
    value = "表\\十".encode("gb18030")
    double = b"\x81\x5c"  # one GBK character whose second byte is a backslash
    assert texts_of("LO", value, ("GB18030",), big=False) == ("表", "十")
    assert texts_of("LO", double, ("GBK",), big=False) == (double.decode("gbk"),)


@pytest.mark.parametrize(
    "value", [b"\x1b", b"\x1b$", b"\x1b$B!", b"\x1b-Z\xe9", b"\xff\x1b(B\xff", b"\x1b$)C\xff", b"a\x1b\x1b$)A\x80"]
)
@pytest.mark.parametrize("charset", [b"", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"ISO 2022 IR 6\\ISO 2022 IR 149"])
def test_broken_text_neither_raises_nor_warns(charset: bytes, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        assert isinstance(decode(value, codecs_of(charset)), str)
        assert isinstance(decode(value, codecs_of(charset), name=True), str)
    assert not caplog.records
