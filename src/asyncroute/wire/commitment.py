"""Data sets of Storage Commitment (PS3.4 annex J) and of image queries (PS3.4 annex C), to and from bytes.

Guarantees: what is made is implicit VR little endian; what is read may be in any native encoding. Nothing is guessed:
bytes that are no such data set raise ``Odd``. Work is linear in the number of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from asyncroute.core.proof import Commitment, Failed, Reference
from asyncroute.wire.elements import UNDEFINED, Odd, Walk, content_of, skip
from asyncroute.wire.syntax import Encoding, syntax_of

PUSH_MODEL = "1.2.840.10008.1.20.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
"""The SOP class, and the one SOP instance that all requests are about (PS3.4 J.3.5)."""

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"

REQUEST_COMMITMENT = 1
"""Action type (PS3.4 J.3.2)."""

ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event types (PS3.4 J.3.3)."""

_SOP_INSTANCE, _LEVEL, _STUDY, _SERIES = 0x00080018, 0x00080052, 0x0020000D, 0x0020000E
_CLASS, _INSTANCE, _TRANSACTION = 0x00081150, 0x00081155, 0x00081195
_REASON, _FAILED, _REFERENCED = 0x00081197, 0x00081198, 0x00081199
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_HEADER = struct.Struct("<HHI")
_US = struct.Struct("<H")


# --- made -------------------------------------------------------------------------------------------------------------


def request(transaction_uid: str, references: Iterable[Reference]) -> bytes:
    """The Action Information of an N-ACTION-RQ (PS3.4 table J.3-1)."""
    return _uid(_TRANSACTION, transaction_uid) + _sequence(_REFERENCED, map(_reference, references))


def event_type(done: Commitment) -> int:
    """Of its report (PS3.4 J.3.3)."""
    return SOME_FAILED if done.failed else ALL_COMMITTED


def report(done: Commitment) -> bytes:
    """The Event Information of an N-EVENT-REPORT-RQ (PS3.4 table J.3-2)."""
    body = _uid(_TRANSACTION, done.transaction_uid)
    if done.failed:
        items = (_reference(f[:2]) + _element(_REASON, _US.pack(f.reason)) for f in done.failed)
        body += _sequence(_FAILED, items)
    return body + _sequence(_REFERENCED, map(_reference, done.references)) if done.references else body


def images_of(study_uid: str, series_uid: str) -> bytes:
    """The Identifier of a C-FIND-RQ for the SOP Instance UIDs of a series (PS3.4 C.6.2)."""
    level = _element(_LEVEL, b"IMAGE ")
    return _element(_SOP_INSTANCE, b"") + level + _uid(_STUDY, study_uid) + _uid(_SERIES, series_uid)


def _reference(uids: Iterable[str]) -> bytes:
    sop_class, instance = uids
    return _uid(_CLASS, sop_class) + _uid(_INSTANCE, instance)


def _element(tag: int, value: bytes) -> bytes:
    return _HEADER.pack(tag >> 16, tag & 0xFFFF, len(value)) + value


def _uid(tag: int, uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    return _element(tag, value + b"\0" if len(value) & 1 else value)


def _sequence(tag: int, items: Iterable[bytes]) -> bytes:
    return _element(tag, b"".join(_element(_ITEM, item) for item in items))


# --- read -------------------------------------------------------------------------------------------------------------


def parse(data: bytes, transfer_syntax: str) -> Commitment:
    """A request's Action Information or a report's Event Information.

    Raises:
        Odd: it is neither.
    """
    reader = _Reader(data, transfer_syntax)
    transaction, references, failed = "", [], []
    for tag, lo, hi in reader.elements(0, len(data), reader.encoding):
        if tag == _TRANSACTION:
            transaction = reader.text(lo, hi)
        elif tag == _REFERENCED:
            references = [Reference(sop_class, uid) for sop_class, uid, _ in reader.items(lo, hi)]
        elif tag == _FAILED:
            failed = [Failed(*item) for item in reader.items(lo, hi)]
    if not transaction:
        raise Odd("no Transaction UID")
    return Commitment(transaction, tuple(references), tuple(failed))


def instance_of(data: bytes, transfer_syntax: str) -> str:
    """The SOP Instance UID of a C-FIND response's Identifier; empty: it has none.

    Raises:
        Odd: it is no data set.
    """
    reader = _Reader(data, transfer_syntax)
    for tag, lo, hi in reader.elements(0, len(data), reader.encoding):
        if tag == _SOP_INSTANCE:
            return reader.text(lo, hi)
    return ""


class _Reader:
    """The elements of one data set, by offsets."""

    def __init__(self, data: bytes, transfer_syntax: str) -> None:
        syntax = syntax_of(transfer_syntax)
        if syntax is None or syntax.deflated:
            raise Odd("a transfer syntax in which this is not read")
        self.encoding = syntax.encoding
        self._view = memoryview(data)
        self._walk = Walk(self._view, len(data), frozenset(), 0, 0, -1)

    def elements(self, pos: int, end: int, encoding: Encoding) -> Iterator[tuple[int, int, int]]:
        """(tag, beginning and end of the value) up to ``end``; an Item Delimitation Item is the last."""
        while pos < end:
            if pos + 8 > end:
                raise Odd("it ends within an element")
            tag, start, length, vr = self._header(pos, encoding)
            known = length != UNDEFINED
            stop = start + length if known else skip(self._walk, start, content_of(encoding, vr))
            if stop > end:
                raise Odd("it ends within an element")
            yield tag, start, stop
            if tag == _ITEM_END:
                return
            pos = stop

    def _header(self, pos: int, encoding: Encoding) -> tuple[int, int, int, int]:
        """Tag, where the value begins, its length, VR number."""
        group, element, length = encoding.item(self._view, pos)
        tag = group << 16 | element
        if encoding.implicit or group == 0xFFFE:
            return tag, pos + 8, length, 0
        _, _, vr, length = encoding.header(self._view, pos)
        size = encoding.forms[vr]
        if not size:
            raise Odd(f"no VR at offset {pos + 4}")
        if size != 8:
            if pos + 12 > len(self._view):
                raise Odd("it ends within an element")
            length = encoding.length(self._view, pos + 8)[0]
        return tag, pos + size, length, vr

    def items(self, pos: int, end: int) -> Iterator[tuple[str, str, int]]:
        """SOP class, SOP instance and failure reason (0 without one) of each item of a sequence."""
        while pos + 8 <= end:
            group, element, length = self.encoding.item(self._view, pos)
            tag, pos = group << 16 | element, pos + 8
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise Odd(f"something else instead of an item at offset {pos - 8}")
            stop = end if length == UNDEFINED else pos + length
            if stop > end:
                raise Odd("it ends within an item")
            found = {_CLASS: "", _INSTANCE: ""}
            reason, behind = 0, pos
            for inner, lo, hi in self.elements(pos, stop, self.encoding):
                behind = hi
                if inner in found:
                    found[inner] = self.text(lo, hi)
                elif inner == _REASON and hi - lo == 2:
                    reason = int.from_bytes(self._view[lo:hi], "big" if self.encoding.big else "little")
            yield found[_CLASS], found[_INSTANCE], reason
            pos = behind if length == UNDEFINED else stop

    def text(self, lo: int, hi: int) -> str:
        """A UID; bytes that are not ASCII come as ``\\xNN``."""
        return bytes(self._view[lo:hi]).strip(b"\0 ").decode("ascii", "backslashreplace")
