"""Headers that differ in few elements each: in values, lengths, VRs, and in what there is; in several encodings.

A header is a choice for each of `TAGS`: one of its values in `ELEMENTS`, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.encoding import BIG, DEFLATED, EXPLICIT, IMPLICIT, element, sequence

JPEG = "1.2.840.10008.1.2.4.50"
ENCODED = {EXPLICIT: EXPLICIT, IMPLICIT: IMPLICIT, BIG: BIG, DEFLATED: EXPLICIT, JPEG: EXPLICIT}
OTHER = "1.2.840.10008.5.1.4.1.1.4"

_Value = tuple[str, bytes] | None

ELEMENTS: dict[int, tuple[_Value, ...]] = {
    0x00080005: (("CS", b"ISO_IR 100"), ("CS", b"ISO_IR 192"), None, ("CS", b"\\ISO 2022 IR 87")),
    0x00080016: (("UI", b"1.2.840.10008.5.1.4.1.1.2\0"), ("UI", OTHER.encode() + b"\0"), None),
    0x00080018: (("UI", b"1.2.3\0"), ("UI", b"1.2.4\0"), ("UI", b"1.2.33")),
    0x00080020: (("DA", b"20240101"), ("DA", b"20240102"), ("DA", b""), None),
    0x00080050: (("SH", b"A1"), ("SH", b"A2"), ("SH", b"A123"), ("SH", b""), None, ("SH", b"  "), ("UN", b"A1")),
    0x00080080: (("LO", b"Here"), ("LO", b"H\xf4pital "), ("LO", b"H\xc3\xb4pital"), ("LO", b"a\\b "), None),
    0x00081140: (("SQ", b"one"), ("SQ", b"two"), None, ("SQ", b"open")),
    0x00090010: (("LO", b"ACME"), ("LO", b"OTHER "), None),
    0x00091001: (("LO", b"p1"), ("UN", b"p1"), None),
    0x00100000: (None, ("UL", b"\x20\0\0\0")),
    0x00100010: (("PN", b"Doe^Jane"), ("PN", b"Roe^Ann "), ("PN", b"M\xfcller"), ("PN", b""), ("LO", b"Doe^Jane")),
    0x00100020: (("LO", b"1 "), ("LO", b"22"), ("LO", b"X-1 "), ("LO", b"4711"), None),
    0x00101000: (None, ("LO", b"9 ")),
    0x0020000D: (("UI", b"1.2.5\0"), ("UI", b"1.2.55"), None),
    0x00200010: (("SH", b"S1"), None, ("SH", b"S2")),
    0x00280103: (("US", b"\0\0"), ("US", b"\1\0"), None),
    0x00280106: (None, ("US", b"\5\0"), ("SS", b"\5\0"), ("US", b"\6\0")),
    0x00400275: (None, ("SQ", b"one"), ("SQ", b"two")),
}
TAGS = tuple(ELEMENTS)


def _items(value: bytes, syntax: str) -> bytes:
    return element(0x00080050, "SH", b"I" + value[:3], syntax) + element(0x00100020, "LO", value[:4], syntax)


def encoded(choices: Sequence[int], syntax: str) -> bytes:
    """The elements in one of the three encodings."""
    out = []
    for tag, choice in zip(TAGS, choices, strict=True):
        value = ELEMENTS[tag][choice % len(ELEMENTS[tag])]
        if value is None:
            continue
        vr, raw = value
        if vr == "SQ":
            out.append(sequence(tag, _items(raw, syntax), syntax=syntax, undefined=raw == b"open"))
        else:
            out.append(element(tag, vr, raw[::-1] if syntax == BIG and vr in ("US", "SS", "UL") else raw, syntax))
    return b"".join(out)


SENDERS: tuple[Sequence[int], ...] = ([0] * len(TAGS), [0] * (len(TAGS) - 1) + [1], [n % 2 for n in range(len(TAGS))])
"""What the images of one have in common, nearly."""
