"""The second reading of a data set that the fast scan calls odd: with pydicom's element reader.

pydicom knows what writers do in spite of PS3.5: implicit VR in explicit data sets and the other way round, unknown VRs,
non-zero reserved bytes. It reads one element header at a time; the way from element to element stays here, so that
neither recursion nor thousands of objects follow from what a peer sends.

Guarantees: looks at no more than `WINDOW` bytes and `MAX_TOP` elements. Gives values only if the reading ends where it
should (past the last wanted tag in good order, at the pixel data, or exactly at the end of the data), so that misread
lengths are noticed.
Failures: `Odd`.
"""

from __future__ import annotations

from io import BytesIO

from asyncroute.wire.elements import MAX_VALUE, PIXELS, UNDEFINED, Odd, Walk, check_first, content_of, skip, tag_text
from asyncroute.wire.syntax import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_BE, IMPLICIT_LE, Encoding

WINDOW = 1 << 18  # bytes
MAX_TOP = 4000  # top-level elements (about 15 ms)
_DELIMITERS = 0xFFFE
_TRAILERS = frozenset({0x7FE0, 0x7FE1, 0xFFFA, 0xFFFC})  # groups that may end the scan of unordered elements


def read_leniently(walk: Walk, encoding: Encoding, whole: bool) -> Encoding:
    """Read the beginning of `walk.view` anew into a fresh `walk`; `whole`: the data set ends at `walk.limit`.

    Returns the encoding that was found. `walk.limit` is at most `WINDOW`. Raises `Odd`.
    """
    actual = actual_encoding(walk.view, encoding)
    try:
        _Reader(walk, actual).run(whole)
    except Odd:
        raise
    except Exception as error:  # whatever pydicom raises on such data
        raise Odd(f"pydicom: {type(error).__name__}: {error}") from error
    return actual


def actual_encoding(view: memoryview, encoding: Encoding) -> Encoding:
    """Implicit or explicit, as the first element looks; the byte order is believed."""
    letters = encoding.forms[int.from_bytes(view[4:6], "big" if encoding.big else "little")] != 0
    if letters:
        return EXPLICIT_BE if encoding.big else EXPLICIT_LE
    return IMPLICIT_BE if encoding.big else IMPLICIT_LE


class _Reader:
    """One element after the other; `ordered` until a tag is not greater than the one before."""

    def __init__(self, walk: Walk, encoding: Encoding) -> None:
        from pydicom.filereader import data_element_generator

        self.elements = data_element_generator
        self.walk = walk
        self.encoding = encoding
        self.ordered = True
        self.file = BytesIO(walk.view[: walk.limit])

    def run(self, whole: bool) -> None:
        """Raises `Odd` unless the reading ends in a good place."""
        walk = self.walk
        for _ in range(MAX_TOP):
            if whole and walk.pos == walk.limit:
                return
            tag, vr, length, start = self.header()
            if self.ends(tag, vr):
                return
            if length == UNDEFINED:
                length = skip(walk, start, self.content(vr)) - start
            if start + length > walk.limit:
                raise Odd(f"the data ends inside {tag_text(tag)}")
            if tag in walk.wanted:
                self.keep(tag, vr, start, length)
            self.ordered = self.ordered and tag > walk.prev
            walk.pos, walk.prev = start + length, tag
        raise Odd(f"more than {MAX_TOP} elements")

    def header(self) -> tuple[int, str | None, int, int]:
        """Tag, VR (None: implicit), length and offset of the value of the element at `walk.pos`."""
        found: list[tuple[int, str | None, int, int]] = []

        def stop(tag: int, vr: str | None, length: int) -> bool:
            found.append((int(tag), vr and str(vr), length, self.file.tell()))
            return True

        self.file.seek(self.walk.pos)
        for _ in self.elements(self.file, self.encoding.implicit, not self.encoding.big, stop):
            pass
        if not found:
            raise Odd(f"no element at offset {self.walk.pos}")
        return found[0]

    def ends(self, tag: int, vr: str | None) -> bool:
        if tag >> 16 == _DELIMITERS:
            raise Odd(f"delimiter {tag_text(tag)} outside of a sequence")
        if tag < PIXELS and (tag <= self.walk.last or not self.ordered or tag <= self.walk.prev):
            return False
        if tag >= PIXELS and tag >> 16 not in _TRAILERS:
            raise Odd(f"{tag_text(tag)} is no element that ends a header")
        if self.walk.prev < 0:
            check_first(tag)
        if not self.encoding.implicit and not (vr and self.encoding.forms[self.encoding.vr_number(vr)]):
            raise Odd(f"{tag_text(tag)} without VR")
        return True

    def content(self, vr: str | None) -> Encoding:
        """How the items of an element of undefined length are encoded."""
        if vr is None:
            return IMPLICIT_BE if self.encoding.big else IMPLICIT_LE
        return content_of(self.encoding, self.encoding.vr_number(vr))

    def keep(self, tag: int, vr: str | None, start: int, length: int) -> None:
        walk = self.walk
        if length > MAX_VALUE:
            walk.note = f"the value of {tag_text(tag)} is longer than {MAX_VALUE} bytes"
            return
        value = walk.view[start : start + length].tobytes()
        if walk.values.setdefault(tag, value) != value:
            raise Odd(f"{tag_text(tag)} occurs twice, with different values")
        if vr is not None:
            walk.vrs[tag] = self.encoding.vr_number(vr)
