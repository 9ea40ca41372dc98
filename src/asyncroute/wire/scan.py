"""What a scan of a header has found: raw values of a few attributes, and their texts when they are asked for.

Guarantees: never raises. A ``Following`` scan says what one of its own would say, but makes nothing of what it shares
with the one that it follows.
"""

from __future__ import annotations

from collections.abc import Mapping

from asyncroute.wire import charset
from asyncroute.wire.layout import Match
from asyncroute.wire.syntax import Encoding
from asyncroute.wire.values import dictionary_vr, short_texts

SPECIFIC_CHARACTER_SET = 0x00080005
PIXEL_REPRESENTATION = 0x00280103


class Scan:
    """What was found. `values`: raw value bytes by tag, with padding, as sent; absent attributes are not in it.

    `odd`: why the data set could not be read to the last wanted tag, or why a wanted value is missing; else None.
    `fallback`: why pydicom had to read it; else None. `unknown_encoding`: a private transfer syntax, nothing was read.
    `encoding`: how the elements were found to be encoded (None: unknown). `offset`: where the scan stopped, at the
    beginning of an element (for deflated data in the inflated bytes), for `header_end`. `end`: what that would give, if
    the scan has seen it (for a data set without pixel data its own length); else None. `token`: scans of one scanner
    with the same token, but 0, have the same values, VRs and texts; they share them, so nobody may change them. `base`:
    an earlier scan, of an image from the same sender, from which only the attributes `changed` differ; it has a token,
    and no base.
    """

    __slots__ = (
        *("_codecs", "_texts", "_values", "encoding", "end", "fallback", "odd", "offset", "token", "unknown_encoding"),
        "vrs",
    )
    base: Scan | None = None
    changed: tuple[int, ...] = ()

    def __init__(
        self, values: dict[int, bytes] | None, vrs: dict[int, int], encoding: Encoding | None, offset: int
    ) -> None:
        self._values = values
        self.vrs = vrs
        self.encoding = encoding
        self.offset = offset
        self.odd: str | None = None
        self.fallback: str | None = None
        self.unknown_encoding = encoding is None
        self.end: int | None = None
        self.token = 0
        self._texts: dict[int, tuple[str, ...]] = {}
        self._codecs: tuple[str, ...] | None = None

    @property
    def values(self) -> dict[int, bytes]:
        """See the class."""
        if self._values is None:
            self._values = self._all()
        return self._values

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
            self._codecs = charset.codecs_of(self._raw(SPECIFIC_CHARACTER_SET) or b"")
        return self._codecs

    def _decode(self, tag: int) -> tuple[str, ...]:
        value = self._raw(tag)
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
        raw = (self._raw(creator_tag(tag)) if tag >> 16 & 1 else None) or b""
        return raw.decode("latin-1").strip(" \0")

    def _signed_or_not(self) -> str:
        raw = self._raw(PIXEL_REPRESENTATION) or b""
        return "SS" if raw.strip(b"\0") == b"\1" else "US"

    def _all(self) -> dict[int, bytes]:
        """The values, of a scan that was made without them."""
        return {}

    def _raw(self, tag: int) -> bytes | None:
        return self.values.get(tag)


class Following(Scan):
    """A scan of what differs from ``base`` in a few attributes: `changed` are their numbers in the match, by tag.

    What it takes to decode them must not be among them.
    """

    __slots__ = ("_match", "_numbers", "base", "changed")
    base: Scan
    changed: tuple[int, ...]

    def __init__(self, base: Scan, match: Match, changed: tuple[int, ...], numbers: Mapping[int, int]) -> None:
        super().__init__(None, base.vrs, base.encoding, match.offset)
        self.base = base
        self.changed = changed
        self.end = match.end
        self._match = match
        self._numbers = numbers

    def texts(self, tag: int) -> tuple[str, ...]:
        """See ``Scan``."""
        return super().texts(tag) if tag in self._numbers else self.base.texts(tag)

    def codecs(self) -> tuple[str, ...]:
        """See ``Scan``."""
        return self.base.codecs()

    def _all(self) -> dict[int, bytes]:
        value, match = self._match.layout.value, self._match
        return self.base.values | {tag: value(match, n) for tag, n in self._numbers.items()}

    def _raw(self, tag: int) -> bytes | None:
        n = self._numbers.get(tag)
        return self.base.values.get(tag) if n is None else self._match.layout.value(self._match, n)


def creator_tag(tag: int) -> int:
    """The private creator of a private element's block (PS3.5 §7.8.1)."""
    return tag & 0xFFFF0000 | tag >> 8 & 0xFF
