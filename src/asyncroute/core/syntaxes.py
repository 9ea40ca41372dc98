"""Transfer syntaxes by the words of ``compress``, and in which order a destination is offered them. Pure.

``order``: what is wanted first, then as stored, then decoded. What has lost something already stays as it is where that
is accepted: to compress it once more would lose more, and what is decoded becomes larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG = "1.2.840.10008.1.2.2"
JPEG, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_57, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JLS, JLS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
J2K_LOSSLESS, J2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
HT_LOSSLESS, HT_RPCL, HT = "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"
RLE = "1.2.840.10008.1.2.5"

BY_WORD: Mapping[str, str] = {
    "none": EXPLICIT,
    "rle": RLE,
    "jpeg-ls": JLS,
    "jpeg-ls-near": JLS_NEAR,
    "jpeg-lossless": JPEG_LOSSLESS,
    "j2k-lossless": J2K_LOSSLESS,
    "j2k": J2K,
    "htj2k-lossless": HT_LOSSLESS,
}

NAMES: Mapping[str, str] = {
    IMPLICIT: "Implicit VR Little Endian",
    EXPLICIT: "Explicit VR Little Endian",
    DEFLATED: "Deflated Explicit VR Little Endian",
    BIG: "Explicit VR Big Endian",
    JPEG: "JPEG Baseline",
    JPEG_EXTENDED: "JPEG Extended",
    JPEG_57: "JPEG Lossless, Process 14",
    JPEG_LOSSLESS: "JPEG Lossless",
    JLS: "JPEG-LS Lossless",
    JLS_NEAR: "JPEG-LS Near-lossless",
    J2K_LOSSLESS: "JPEG 2000 Lossless",
    J2K: "JPEG 2000",
    HT_LOSSLESS: "High-Throughput JPEG 2000 Lossless",
    HT_RPCL: "High-Throughput JPEG 2000 Lossless, RPCL",
    HT: "High-Throughput JPEG 2000",
    RLE: "RLE Lossless",
}

PLAIN = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG})
"""Those whose frames are not compressed."""

DECODED = (EXPLICIT, IMPLICIT)
_LOSSY = frozenset({JPEG, JPEG_EXTENDED, JLS_NEAR, J2K, HT})

METHODS: Mapping[str, str] = {
    JPEG: "ISO_10918_1",
    JPEG_EXTENDED: "ISO_10918_1",
    JLS_NEAR: "ISO_14495_1",
    J2K: "ISO_15444_1",
    HT: "ISO_15444_15",
}
"""Lossy Image Compression Method (0028,2114) (PS3.3 C.7.6.1.1.5)."""


def lossy(syntax: str) -> bool:
    """Whether what is in it may have lost something."""
    return syntax in _LOSSY


def named(syntax: str) -> str:
    """A transfer syntax for people: ``JPEG-LS Lossless (1.2.840.10008.1.2.4.80)``."""
    name = NAMES.get(syntax)
    return f"{name} ({syntax})" if name else syntax


@dataclass(frozen=True, slots=True)
class Wish:
    """One destination's ``compress`` with what belongs to it.

    ``error``: greatest difference of a pixel (JPEG-LS near-lossless). ``ratio``: to one (JPEG 2000). ``keep_uid``: no
    new SOP Instance UID for what has lost something. ``verify``: compare what is made without a loss with what it is
    made of.
    """

    compress: str = "keep"
    transcode: bool = False
    error: int = 2
    ratio: float = 10.0
    keep_uid: bool = False
    verify: bool = True

    @property
    def changes(self) -> bool:
        """Whether anything may be converted for it."""
        return self.compress != "keep" or self.transcode

    def order(self, stored: str) -> tuple[str, ...]:
        """The syntaxes to offer for an image that is stored in ``stored``, best first; without it none is."""
        if not self.changes or stored not in NAMES:
            return (stored,)
        wanted = BY_WORD.get(self.compress)
        if wanted is None:
            first: tuple[str, ...] = (stored,)
        elif wanted == EXPLICIT:
            first = (*DECODED, stored) if stored not in DECODED else (stored,)
        elif lossy(stored) or stored == wanted:
            first = (stored, wanted)
        else:
            first = (wanted, stored)
        return tuple(dict.fromkeys((*first, *DECODED)))


AS_STORED = Wish()
"""Nothing is converted."""

EXTRA = 'pip install "asyncroute[codecs]"'
_NEEDED = {JLS: ("jpeg_ls",), JLS_NEAR: ("jpeg_ls",), J2K: ("openjpeg",)}


def needed(syntax: str) -> tuple[str, ...]:
    """The modules that make or read a compressed syntax; they come with ``EXTRA``."""
    return () if syntax in PLAIN else ("numpy", "imagecodecs", *_NEEDED.get(syntax, ()))


def lacking(syntax: str, module: str) -> str:
    """That one of them is not installed."""
    name = NAMES.get(syntax, syntax)
    return f'{name} needs a codec that is not installed ("{module}"): {EXTRA}'
