"""A transform of few words, for what sends: it splices the Patient ID of explicit VR little endian headers.

``PatientID`` becomes ``prefix`` and what it was; with ``uid`` the SOP Instance UID, too. ``trouble``: what goes wrong.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncroute.transform.base import Change, Edited, Facts, Header, Refused, Tail

Data = bytes | memoryview
PATIENT_ID, SOP_INSTANCE = b"\x10\x00\x20\x00LO", b"\x08\x00\x18\x00UI"
PRIVATE = b"\xe1\x7f\x10\x00OB\0\0"


@dataclass(frozen=True)
class Splice:
    """See module; ``transform.base.Transform``."""

    prefix: str = "X-"
    uid: str = ""
    sop_class: str = ""
    trouble: str = ""
    quick: bool = True
    edits_tail: bool = False
    name: str = "site-a"
    wholes: list[bool] = field(default_factory=list, compare=False)

    def apply(self, header: Header, facts: Facts) -> Edited:
        """See ``transform.base.Transform``."""
        self.wholes.append(header.whole)
        self._fail()
        data, before = spliced(bytes(header.data), PATIENT_ID, self.prefix)
        changes = [Change("PatientID", before, self.prefix + before, f"{self.name}, step 1 (prefix)")]
        uid = self.uid or header.sop_instance_uid
        if self.uid:
            at = data.index(SOP_INSTANCE)
            length = int.from_bytes(data[at + 6 : at + 8], "little")
            value = uid.encode() + b"\0" * (len(uid) % 2)
            data = data[: at + 6] + len(value).to_bytes(2, "little") + value + data[at + 8 + length :]
            changes.append(Change("SOPInstanceUID", header.sop_instance_uid, uid, f"{self.name}, step 2 (set)"))
        return Edited(data, self.sop_class or header.sop_class_uid, uid, tuple(changes))

    def _fail(self) -> None:
        match self.trouble:
            case "refuse":
                raise Refused(f"{self.name}, step 2 (prefix): 65 characters, LO has 64")
            case "drop":
                raise Refused(f"{self.name}, step 3 (python): not for research", drop=True)
            case "raise":
                raise ValueError("a bug")
            case "hang":
                time.sleep(1000)
            case "crash":
                os.abort()

    def tail(self, header: Header) -> Tail:
        """See ``transform.base.Transform``: takes the private element behind the pixel data away."""
        return _Tail(b"")

    def deflated(self, header: Header, edited: Edited) -> Tail:
        """See ``transform.base.Transform``."""
        return _Deflated(len(header.data), bytes(edited.data), self.tail(header) if self.edits_tail else None)


def spliced(data: bytes, element: bytes, prefix: str) -> tuple[bytes, str]:
    """The header with ``prefix`` before the element's value, and what that was."""
    at = data.index(element)
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    before = data[at + 8 : at + 8 + length].decode().rstrip(" ")
    value = (prefix + before).encode()
    value += b" " * (len(value) % 2)
    return data[: at + 6] + len(value).to_bytes(2, "little") + value + data[at + 8 + length :], before


class _Tail:
    def __init__(self, kept: bytes) -> None:
        self._kept = kept

    def feed(self, data: memoryview) -> Sequence[Data]:
        whole = self._kept + bytes(data)
        self._kept = whole[-64:]
        return [whole[:-64]] if whole[:-64] else []

    def finish(self) -> Sequence[Data]:
        at = self._kept.find(PRIVATE)
        return [self._kept[:at] if at >= 0 else self._kept]


class _Deflated:
    def __init__(self, skip: int, header: bytes, tail: Tail | None) -> None:
        self._data = bytearray()
        self._skip, self._header, self._tail = skip, header, tail

    def feed(self, data: memoryview) -> Sequence[Data]:
        self._data += data
        return ()

    def finish(self) -> Sequence[Data]:
        rest: bytes = zlib.decompress(bytes(self._data), -15)[self._skip :]
        if self._tail is not None:
            rest = b"".join([*self._tail.feed(memoryview(rest)), *self._tail.finish()])
        return [deflated(self._header + rest)]


def deflated(plain: bytes) -> bytes:
    """A data set as one deflated stream of an even length (PS3.5 A.5)."""
    machine = zlib.compressobj(wbits=-15)
    data = machine.compress(plain) + machine.flush()
    return data + b"\0" * (len(data) % 2)
