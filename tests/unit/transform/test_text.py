"""Text under every Specific Character Set: pydicom's reader and our own read what was written."""

from __future__ import annotations

import re
import struct
from functools import cache
from io import BytesIO
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.charset import convert_encodings
from pydicom.config import IGNORE
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from asyncroute.transform.text import Unrepresentable, encoded
from asyncroute.wire.charset import codecs_of
from asyncroute.wire.values import texts_of

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
HIGH = [bytes([byte]) for byte in range(0xA0, 0x100)]
PAIRS = [bytes(pair) for pair in product(range(0xA1, 0xFF), repeat=2)]
PARTS = {100: "latin_1", 101: "iso8859_2", 109: "iso8859_3", 110: "iso8859_4", 144: "iso8859_5", 127: "iso8859_6"}
PARTS |= {126: "iso8859_7", 138: "iso8859_8", 148: "iso8859_9", 166: "tis_620"}


def readable(raws: list[bytes], codec: str) -> str:
    """What a codec reads from each of some byte strings, as far as that is one character of no other meaning."""
    texts = (raw.decode(codec, "ignore") for raw in raws)
    return "".join(dict.fromkeys(text for text in texts if len(text) == 1 and not text.isascii()))


@cache
def characters(place: int) -> str:
    """All characters besides ASCII of ISO-IR ``place``, worked out by decoding."""
    if place == 6:
        return ""
    if place == 13:
        return readable(HIGH, "shift_jis")
    if place in PARTS:
        return readable(HIGH, PARTS[place])
    if place in (149, 58):
        return readable(PAIRS, {149: "euc_kr", 58: "gb2312"}[place])
    escape = {87: b"\x1b$B", 159: b"\x1b$(D"}[place]
    seven = [escape + bytes(byte & 0x7F for byte in pair) for pair in PAIRS]
    return readable(seven, "iso2022_jp_2")


EXTENSIONS = [6, 13, 58, 87, 149, 159, *PARTS]
FIRST = [6, 13, *PARTS]
TAGS = {"LO": (0x0008, 0x0080), "PN": (0x0010, 0x0010), "LT": (0x0010, 0x4000)}
TWO_BYTES = re.compile(rb"\x1b\$(?:B|\(D)([!-~]*)")  # characters of two bytes that may be those of delimiters
LEFT = "\x1b$)A"  # the escape sequence of IR 58, which pydicom leaves in the text


def encode(text: str, vr: str, character_set: bytes) -> bytes:
    """With padding."""
    value = encoded(text, character_set, vr == "PN")
    return value + b" " * (len(value) & 1)


def term(place: int) -> str:
    return f"ISO 2022 IR {place}"


def read(vr: str, value: bytes, character_set: bytes) -> str:
    """What pydicom's reader makes of a data set with this value.

    Of a name, what its class for names makes of the bytes: the reader encodes names again, which pydicom cannot always.
    Nor is it asked how long names may be: it counts bytes, escape sequences included.
    """
    data = b""
    padded = character_set + b" " * (len(character_set) & 1)
    for (group, element), name, raw in (((8, 5), "CS", padded), (TAGS[vr], vr, value)):
        data += struct.pack("<HH2sH", group, element, name.encode(), len(raw)) + raw
    found = dcmread(BytesIO(data), force=True)
    if vr == "PN":
        terms = found.get("SpecificCharacterSet") or ""
        encodings = convert_encodings([terms] if isinstance(terms, str) else list(terms))
        return str(PersonName(value, encodings, validation_mode=IGNORE)).rstrip(" ").replace(LEFT, "")
    read = found[TAGS[vr]].value
    return ("\\".join(map(str, read)) if isinstance(read, MultiValue) else str(read)).replace(LEFT, "")


def hides_delimiters(value: bytes) -> bool:
    """Whether pydicom takes half of a character for a delimiter of names: it splits them before it decodes them."""
    return any(set(run) & set(b"\\^=") for run in TWO_BYTES.findall(value))


def ours(vr: str, value: bytes, character_set: bytes) -> str:
    return "\\".join(texts_of(vr, value, codecs_of(character_set), big=False))


def stripped(text: str) -> str:
    """As readers see it: spaces at the end of a value mean nothing, at the beginning of some neither."""
    return "\\".join(part.strip(" \0") for part in text.split("\\"))


def texts(places: tuple[int, ...], delimiters: str) -> st.SearchStrategy[str]:
    """Text that changes often between some sets, ASCII and delimiters."""
    alphabets = [characters(place) for place in places if characters(place)]
    runs = [st.text(st.sampled_from(alphabet), min_size=1, max_size=3) for alphabet in [*alphabets, PRINTABLE]]
    return st.lists(st.one_of(*runs, st.sampled_from(delimiters)), max_size=9).map("".join)


def bounded(text: str, vr: str) -> str:
    """Made to fit: no more groups or components than the VR takes, and none that pydicom takes for nothing."""
    if vr == "PN":
        text = text.replace("=", "^", max(text.count("=") - 2, 0)).replace("\\", "/")
        return "=".join("^".join(group.split("^")[:5]) for group in text.split("="))[:64].strip(" ").rstrip("=")
    return text.strip(" ") if vr == "LT" else stripped(text)


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    st.sampled_from(FIRST),
    st.lists(st.sampled_from(EXTENSIONS), max_size=2),
    st.sampled_from(["LO", "PN", "LT"]),
)
def test_code_extensions(data: st.DataObject, first: int, more: list[int], vr: str) -> None:
    places = (first, *more)
    character_set = "\\".join(map(term, places)) if more else f"ISO_IR {first}"
    raw_set = character_set.encode()
    text = bounded(data.draw(texts(places, {"LO": "\\", "PN": "^=", "LT": "\n\t\\"}[vr])), vr)
    value = encode(text, vr, raw_set)
    assert len(value) % 2 == 0
    assert ours(vr, value, raw_set) == text
    if vr != "PN" or not hides_delimiters(value):
        assert read(vr, value, raw_set) == text


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["ISO_IR 192", "GB18030", "GBK", "ISO 2022 GBK"]))
def test_sets_without_code_extensions(data: st.DataObject, character_set: str) -> None:
    raw_set = character_set.encode()
    codec = codecs_of(raw_set)[0]
    letters = st.characters(codec="gbk" if "GBK" in character_set else "utf-8", categories=("L", "N", "P", "S"))
    text = stripped(data.draw(st.text(letters, max_size=40)))
    for vr in ("LO", "LT"):
        value = encode(text, vr, raw_set)
        assert value.decode(codec).rstrip(" ") == text
        assert ours(vr, value, raw_set) == text.rstrip(" ")
        assert read(vr, value, raw_set) == text


@settings(max_examples=300, deadline=None)
@given(st.characters(exclude_categories=["Cc"]), st.lists(st.sampled_from(EXTENSIONS), min_size=1, max_size=3))
def test_what_is_in_none_of_the_sets_is_refused(char: str, places: list[int]) -> None:
    raw_set = "\\".join(map(term, places)).encode()
    if char.isascii() or any(char in characters(place) for place in places):
        assert ours("LT", encode("x" + char, "LT", raw_set), raw_set) == ("x" + char).rstrip(" ")
    else:
        with pytest.raises(Unrepresentable, match="cannot be written"):
            encode("x" + char, "LT", raw_set)


@pytest.mark.parametrize("place", [place for place in EXTENSIONS if place != 6])
def test_every_character_of_a_set_is_written_and_read(place: int) -> None:
    raw_set = f"\\{term(place)}".encode()
    every = characters(place)
    assert len(every) > 30
    for start in range(0, len(every), 10_000):
        text = every[start : start + 10_000].strip()
        assert ours("LT", encode(text, "LT", raw_set), raw_set) == text


NOT_ALONE = [
    (b"", "é"),
    (b"ISO_IR 100", "\x1b"),
    (b"\\ISO 2022 IR 87", "\x1b"),
    (b"ISO_IR 6", "é"),
    (b"ISO 2022 IR 6", "é"),
    (b"ASCII", "é"),
    (b"NO SUCH SET", "é"),
    (b"ISO_IR 13", "¥"),
    (b"ISO_IR 13", "‾"),
    (b"ISO_IR 13", "山"),
    (b"ISO_IR 100", "ą"),
    (b"ISO_IR 100", "\x85"),
    (b"ISO_IR 192", "\ud800"),
    (b"GBK", "\U0001f600"),
    (b"\\ISO 2022 IR 149", "똠"),
    (b"\\ISO_IR 192", "é"),
]


@pytest.mark.parametrize(("character_set", "char"), NOT_ALONE)
def test_refused(character_set: bytes, char: str) -> None:
    with pytest.raises(Unrepresentable, match="cannot be written"):
        encode("a" + char, "LO", character_set)


def test_a_reason_names_the_character_set() -> None:
    for character_set, name in [
        (b"", "ISO_IR 6"),
        (b"ISO_IR 100", "ISO_IR 100"),
        (b"\\ISO 2022 IR 87", "\\ISO 2022 IR 87"),
        (b"ISO_IR 4711", "ISO_IR 4711"),
    ]:
        with pytest.raises(Unrepresentable) as caught:
            encode("aฏ", "LO", character_set)
        assert str(caught.value) == f"'ฏ' cannot be written in the image's character set ({name})"


# PS3.5 annexes H, I and K, and what people write that is not in there.
EXAMPLES = [
    (
        rb"\ISO 2022 IR 87",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    (
        rb"ISO 2022 IR 13\ISO 2022 IR 87",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    (
        rb"\ISO 2022 IR 149",
        "Hong^Gildong=洪^吉洞=홍^길동",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    (
        rb"\ISO 2022 IR 58",
        "Zhang^XiaoDong=张^小东=",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
    ),
    (b"ISO_IR 192", "Wang^XiaoDong=王^小东=", "Wang^XiaoDong=王^小东=".encode()),
    (b"GB18030", "Wang^XiaoDong=王^小东=", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab="),
    (b"ISO_IR 100", "Äneas^Rüdiger", b"\xc4neas^R\xfcdiger"),
    (b"ISO_IR 144", "Люкceмбypг", b"\xbb\xee\xdace\xdc\xd1yp\xd3"),
]


@pytest.mark.parametrize(("character_set", "name", "value"), EXAMPLES)
def test_examples_of_the_standard(character_set: bytes, name: str, value: bytes) -> None:
    written = encode(name, "PN", character_set)
    assert written == value + b" " * (len(value) & 1)
    assert ours("PN", written, character_set) == name
