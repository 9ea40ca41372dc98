"""Scan of the beginning of a data set for a few top-level attributes: routing needs a dozen, at once, of every image.

Guarantees: reads every encoding of PS3.5 §7 and annex A (implicit, explicit, big endian, deflated, encapsulated);
stops at the last wanted tag or the pixel data; copies only wanted values; never raises on data; time and memory are
bounded whatever a peer sends. What is plainly encoded is read as pydicom reads it; what is not is read by pydicom's
element reader (`Scan.fallback` says why). What cannot be read for sure is not guessed: `Scan.odd` says why, and holds
only what stands before the odd place. With `alike`, headers that look like earlier ones are recognized (`layouts`),
with the same result for a tenth of the cost.
Not noticed: anything behind the last wanted tag.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Hashable, Iterable
from itertools import count

from asyncroute.wire import charset
from asyncroute.wire.elements import PIXELS, Odd, Walk, tag_text
from asyncroute.wire.layout import Match
from asyncroute.wire.layouts import Key, Layouts
from asyncroute.wire.lenient import WINDOW, actual_encoding, read_leniently
from asyncroute.wire.syntax import EXPLICIT_LE, Encoding, syntax_of
from asyncroute.wire.values import dictionary_vr, short_texts

Data = bytes | bytearray | memoryview

SPECIFIC_CHARACTER_SET = 0x00080005
PIXEL_REPRESENTATION = 0x00280103

_INFLATE_FIRST = 1 << 15  # bytes of inflated header that are made at first
_INFLATE_MOST = 1 << 20
_DEFLATED_PIECE = 1 << 14

_SHARED = 512  # contents that are remembered with their texts
_SHARED_BYTES = 512  # of the values of one

_SENDERS = 256  # whose last images are remembered
_FEW = 8  # attributes that may differ from those of the image before

_tokens = count(1)


class Scan:
    """What was found. `values`: raw value bytes by tag, with padding, as sent; absent attributes are not in it.

    `odd`: why the data set could not be read to the last wanted tag, or why a wanted value is missing; else None.
    `fallback`: why pydicom had to read it; else None. `unknown_encoding`: a private transfer syntax, nothing was read.
    `encoding`: how the elements were found to be encoded (None: unknown). `offset`: where the scan stopped, at the
    beginning of an element (for deflated data in the inflated bytes), for `header_end`. `end`: what that would give, if
    the scan has seen it (for a data set without pixel data its own length); else None. `token`: scans of one scanner
    with the same token, but 0, have the same values, VRs and texts; they share them, so nobody may change them. `base`:
    the token of an earlier scan, of an image from the same sender, from which only the attributes `changed` differ.
    """

    __slots__ = (
        *("_codecs", "_texts", "base", "changed", "encoding", "end", "fallback", "odd", "offset", "token"),
        *("unknown_encoding", "values", "vrs"),
    )

    def __init__(self, values: dict[int, bytes], vrs: dict[int, int], encoding: Encoding | None, offset: int) -> None:
        self.values = values
        self.vrs = vrs
        self.encoding = encoding
        self.offset = offset
        self.odd: str | None = None
        self.fallback: str | None = None
        self.unknown_encoding = encoding is None
        self.end: int | None = None
        self.token = self.base = 0
        self.changed: Collection[int] = ()
        self._texts: dict[int, tuple[str, ...]] = {}
        self._codecs: tuple[str, ...] | None = None

    def texts(self, tag: int) -> tuple[str, ...]:
        """The attribute's values as text, decoded and without padding (PS3.5 §6.2); () if it is absent or empty.

        Binary numbers are decimals, AT is (gggg,eeee); binary data and sequences have no text. Never raises.
        """
        found = self._texts.get(tag)
        if found is None:
            found = self._texts[tag] = self._decode(tag)
        return found

    def vr(self, tag: int) -> str:
        """The VR of a wanted attribute: as sent, else by the dictionary, else "UN"."""
        number = self.vrs.get(tag)
        sent = self.encoding.vr_name(number) if number is not None and self.encoding else "UN"
        if sent != "UN":
            return sent
        vr = dictionary_vr(tag, self._creator(tag))
        return self._signed_or_not() if vr == "US or SS" else vr

    def codecs(self) -> tuple[str, ...]:
        """The Python codecs of the data set's character sets, the initial one first."""
        if self._codecs is None:
            self._codecs = charset.codecs_of(self.values.get(SPECIFIC_CHARACTER_SET, b""))
        return self._codecs

    def _decode(self, tag: int) -> tuple[str, ...]:
        value = self.values.get(tag)
        encoding = self.encoding
        if not value or encoding is None:
            return ()
        number = self.vrs.get(tag)
        vr = encoding.names.get(number, "UN") if number is not None else "UN"
        if vr != "UN":
            return short_texts(vr, value, self.codecs(), encoding.big)
        # The value of an element sent as UN is little endian in any transfer syntax (PS3.5 §6.2.2).
        return short_texts(self.vr(tag), value, self.codecs(), encoding.big and number is None)

    def _creator(self, tag: int) -> str:
        raw = self.values.get(_creator_tag(tag), b"") if tag >> 16 & 1 else b""
        return raw.decode("latin-1").strip(" \0")

    def _signed_or_not(self) -> str:
        raw = self.values.get(PIXEL_REPRESENTATION, b"")
        return "SS" if raw.strip(b"\0") == b"\1" else "US"


class HeaderScanner:
    """Scans data sets for the same attributes again and again.

    `wanted`: tags as numbers, (gggg << 16) + eeee. Attributes from group 7FE0 on are never found. Specific Character
    Set is always looked for, and what else the wanted ones need (private creators, Pixel Representation).
    """

    __slots__ = ("_context", "_last", "_latest", "_shared", "_wanted", "layouts")

    def __init__(self, wanted: Iterable[int]) -> None:
        tags = {SPECIFIC_CHARACTER_SET, *wanted}
        creators = {_creator_tag(tag) for tag in tags if tag >> 16 & 1 and tag & 0xFFFF > 0xFF}
        self._context = frozenset({SPECIFIC_CHARACTER_SET, PIXEL_REPRESENTATION, *creators})
        tags |= creators
        if any(dictionary_vr(tag, "") == "US or SS" for tag in tags):
            tags.add(PIXEL_REPRESENTATION)
        self._wanted = frozenset(tag for tag in tags if tag < PIXELS)
        self._last = max(self._wanted)
        self.layouts = Layouts()
        self._shared: dict[tuple[int, tuple[bytes, ...]], Scan] = {}
        self._latest: dict[tuple[int, Hashable], tuple[tuple[bytes, ...], Scan]] = {}

    @property
    def wanted(self) -> frozenset[int]:
        """All tags that are looked for."""
        return self._wanted

    def scan(self, data: Data, transfer_syntax: str, complete: bool, alike: Hashable = None) -> Scan | None:
        """Scan `data`, the beginning of a data set (no File Meta Information); `complete`: it is all of it.

        Returns None if more of it is needed, which cannot be if it is complete. Every call begins anew: with data that
        arrives in pieces, wait for twice as much before the next call. `alike`: what images whose headers probably look
        alike have in common, such as their sender: the same result sooner; from one thread only. Never raises on data.
        """
        syntax = syntax_of(transfer_syntax)
        if syntax is None:
            return Scan({}, {}, None, 0)
        key = None if alike is None or syntax.deflated else (transfer_syntax, alike)
        if key is not None and (match := self.layouts.match(key, data, complete)) is not None:
            return self._recognized(match, alike)
        with memoryview(data) as view:
            if syntax.deflated:
                return self._scan_deflated(view, complete)
            return self._scan(view, syntax.encoding, whole=complete, final=complete, key=key)

    def _recognized(self, match: Match, alike: Hashable) -> Scan:
        """The scan that a walk would have given, with the texts of the last one of the same values."""
        twin = self._shared.get((match.layout.number, match.key))
        if twin is None:
            scan = self._remember(match, alike)
        else:
            scan = Scan(twin.values, twin.vrs, twin.encoding, match.offset)
            scan.token, scan._texts, scan._codecs = twin.token, twin._texts, twin._codecs
            scan.base, scan.changed = twin.base, twin.changed
        scan.end = match.end
        return scan

    def _remember(self, match: Match, alike: Hashable) -> Scan:
        layout, key = match.layout, match.key
        latest = self._latest.get((layout.number, alike))
        scan = self._following(match, *latest) if latest is not None else None
        if scan is None:
            values = dict(zip(layout.tags, layout.values(match), strict=True))
            scan = Scan(values, layout.vrs, layout.encoding, match.offset)
        if sum(map(len, key)) <= _SHARED_BYTES:
            if len(self._shared) >= _SHARED:
                self._shared.clear()
            if len(self._latest) >= _SENDERS:
                self._latest.clear()
            scan.token = next(_tokens)
            self._shared[layout.number, key] = scan
            self._latest[layout.number, alike] = key, scan
        return scan

    def _following(self, match: Match, before: tuple[bytes, ...], base: Scan) -> Scan | None:
        """Of what is nearly the same as `base`, the scan of a match of the key `before`; None where much differs."""
        layout, key = match.layout, match.key
        if len(key) != len(before):
            return None
        new = {tag: n for n, (tag, a, b) in enumerate(zip(layout.tags, key, before, strict=False)) if a != b}
        if len(new) > _FEW or not self._context.isdisjoint(new):
            return None
        scan = Scan(base.values.copy(), layout.vrs, layout.encoding, match.offset)
        scan.base, scan.changed, scan._codecs, scan._texts = base.token, new, base._codecs, base._texts.copy()
        for tag, n in new.items():
            scan.values[tag] = layout.value(match, n)
            scan._texts.pop(tag, None)
        return scan

    def _scan(
        self, view: memoryview, encoding: Encoding, *, whole: bool, final: bool, key: Key | None = None
    ) -> Scan | None:
        """`whole`: the data set ends with `view`; `final`: there will not be more of it in any case."""
        limit = len(view)
        walk = Walk(view, limit, self._wanted, self._last, 0, -1)
        try:
            over = walk.run(encoding)
        except Odd as odd:
            return self._scan_odd(walk, encoding, odd, whole=whole, final=final)
        if not (over or (whole and walk.pos == limit)):
            if not final:
                return None
            return self._scan_odd(walk, encoding, Odd(f"the data ends inside {_place(walk)}"), whole=whole, final=final)
        scan = Scan(walk.values, walk.vrs, encoding, walk.pos)
        scan.odd = walk.note
        if key is not None and not walk.note:
            self.layouts.learn(key, walk, encoding, whole)
        return scan

    def _scan_odd(self, walk: Walk, encoding: Encoding, odd: Odd, *, whole: bool, final: bool) -> Scan | None:
        reason = odd.reason
        if not odd.final:
            if not final and walk.limit < WINDOW:
                return None  # what pydicom makes of a part is not to be trusted
            limit = min(walk.limit, WINDOW)
            again = Walk(walk.view, limit, self._wanted, self._last, 0, -1)
            try:
                actual = read_leniently(again, encoding, whole and limit == walk.limit)
            except Odd as second:
                reason = f"{reason}; {second.reason}"
            else:
                scan = Scan(again.values, again.vrs, actual, again.pos)
                scan.odd, scan.fallback = again.note, reason
                return scan
        scan = Scan(walk.values, walk.vrs, encoding, walk.pos)
        scan.odd = reason
        return scan

    def _scan_deflated(self, view: memoryview, complete: bool) -> Scan | None:
        """First with little output, which nearly always does; then with as much as is ever made."""
        scan, more = self._scan_inflated(view, complete, _INFLATE_FIRST, most=False)
        if more and (scan is None or scan.odd):
            scan, _ = self._scan_inflated(view, complete, _INFLATE_MOST, most=True)
        return scan

    def _scan_inflated(self, view: memoryview, complete: bool, cap: int, most: bool) -> tuple[Scan | None, bool]:
        """The scan of `cap` bytes of inflated data, and whether it could be had of more."""
        inflated, ended, error = _inflate(view, cap)
        full = len(inflated) >= cap
        final = ended or complete or bool(error) or (full and most)
        with memoryview(inflated) as plain:
            scan = self._scan(plain, EXPLICIT_LE, whole=ended, final=final)
        if scan and scan.odd and not ended:
            scan.odd += f" ({error or f'in the first {len(inflated)} bytes inflated'})"
        return scan, full


def header_end(data: Data, transfer_syntax: str, complete: bool = False, start: int = 0) -> int | None:
    """The offset of the first top-level element of group 7FE0 or above: pixel data, signatures, padding.

    `complete`: `data` is the whole data set; one without such elements then ends at its own length. `start`: the
    `offset` of an earlier scan of the same data, to go on from there. None if the place is not within the data, or
    cannot be told: deflated data, a private transfer syntax, elements out of order or otherwise odd. Never raises.
    """
    syntax = syntax_of(transfer_syntax)
    if syntax is None or syntax.deflated:
        return None
    with memoryview(data) as view:
        walk = Walk(view, len(view), frozenset(), PIXELS - 1, start, 0 if start else -1)
        try:
            over = walk.run(actual_encoding(view, syntax.encoding))
        except Odd:
            return None
        return walk.pos if over or (complete and walk.pos == len(view)) else None


def inflate_header(data: Data, complete: bool) -> tuple[bytes, bool]:
    """As much of a deflated data set as is ever looked at, and whether it ends there; `complete`: `data` is all of it.

    What is no deflated data ends where it is wrong.
    """
    with memoryview(data) as view:
        inflated, ended, error = _inflate(view, _INFLATE_MOST)
    return inflated, ended or complete or bool(error) or len(inflated) >= _INFLATE_MOST


def _inflate(view: memoryview, cap: int) -> tuple[bytes, bool, str]:
    """At most `cap` bytes of a raw deflate stream (RFC 1951), whether it ended, and what is wrong with it, if so."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    pieces: list[bytes] = []
    room = cap
    for start in range(0, len(view), _DEFLATED_PIECE):
        try:
            piece = inflater.decompress(view[start : start + _DEFLATED_PIECE], room)
        except zlib.error as error:
            return b"".join(pieces), False, f"not deflated data: {error}"
        pieces.append(piece)
        room -= len(piece)
        if inflater.eof or room <= 0:
            break
    return b"".join(pieces), inflater.eof, ""


def _creator_tag(tag: int) -> int:
    """The private creator of a private element's block (PS3.5 §7.8.1)."""
    return tag & 0xFFFF0000 | tag >> 8 & 0xFF


def _place(walk: Walk) -> str:
    """The element in which a walk met the end of the data."""
    if walk.pos > walk.limit:
        return tag_text(walk.prev)
    return "the first element" if walk.prev < 0 else f"the element after {tag_text(walk.prev)}"
