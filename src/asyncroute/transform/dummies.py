"""Values that say nothing, where an attribute may not be empty (action D of PS3.15 Table E.1-1).

Guarantees: every value is valid for its VR (PS3.5 §6.2) and the same for everybody; an item of a sequence has what its
macro requires (PS3.3), as far as one item for all objects can.
Failures: none.
"""

from __future__ import annotations

from asyncroute.transform.elements import Content, Elements

TEXT = "REMOVED"
_SCHEME = "99ASYNCROUTE"

_VALUES = {
    "AS": b"000Y",
    "DA": b"19000101",
    "DT": b"19000101000000",
    "TM": b"000000",
    "DS": b"0 ",
    "IS": b"0 ",
    "UR": b"urn:x-removed ",
    "AT": bytes(4),
    "US": bytes(2),
    "SS": bytes(2),
    "UL": bytes(4),
    "SL": bytes(4),
    "FL": bytes(4),
    "OF": bytes(4),
    "OL": bytes(4),
    "FD": bytes(8),
    "OD": bytes(8),
    "OV": bytes(8),
    "SV": bytes(8),
    "UV": bytes(8),
    "OB": bytes(2),
    "OW": bytes(2),
    "UN": bytes(2),
}


def padded(text: str, vr: str = "LO") -> bytes:
    """ASCII text with its padding (PS3.5 §6.2)."""
    raw = text.encode("ascii", "replace")
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) & 1)


def _coded(value: str, scheme: str, meaning: str) -> Content:
    return (
        (0x00080100, "SH", padded(value)),
        (0x00080102, "SH", padded(scheme)),
        (0x00080104, "LO", padded(meaning)),
    )


_PADDED = padded(TEXT)
_CODE = _coded(TEXT, _SCHEME, "Removed")
_COMMENT = _coded("121106", "DCM", "Comment")
_ANNOTATION: Content = (
    (0x00700004, "CS", b"PIXEL "),
    (0x00700006, "ST", _PADDED),
    (0x00700014, "FL", bytes(8)),
    (0x00700015, "CS", b"N "),
)
_ITEMS: dict[int, Content] = {
    0x0040A730: (
        (0x0040A010, "CS", b"CONTAINS"),
        (0x0040A040, "CS", b"TEXT"),
        (0x0040A043, "SQ", _COMMENT),
        (0x0040A160, "UT", _PADDED),
    ),
    0x00700001: ((0x00700002, "CS", _PADDED), (0x00700008, "SQ", _ANNOTATION)),
    0x00080082: _CODE,
    0x00401101: _CODE,
    0x00081072: ((0x00080080, "LO", _PADDED), (0x00401101, "SQ", _CODE)),
    0x0040A073: (
        (0x0040A027, "LO", _PADDED),
        (0x0040A030, "DT", b"19000101000000"),
        (0x0040A075, "PN", _PADDED),
        (0x0040A088, "SQ", ()),
    ),
    0x0040B020: ((0x0040A0B0, "US", bytes(4)), (0x00700006, "ST", _PADDED)),
}
"""Sequences that are replaced by one item. Others keep their items, in which everything is treated by itself."""


def value(vr: str) -> bytes:
    """A value of that VR, of even length."""
    return _VALUES.get(vr) or padded(TEXT)


def has_items(tag: int) -> bool:
    """Whether a sequence gets a dummy item."""
    return tag in _ITEMS


def put_items(elements: Elements, tag: int) -> None:
    """One dummy item instead of those that are there."""
    elements.put_items(tag, (_ITEMS[tag],))


def coded(value: str, meaning: str) -> Content:
    """A coded item of the DICOM Controlled Terminology (PS3.3 §8.8, PS3.16)."""
    return _coded(value, "DCM", meaning)
