"""What describes an image's pixels (PS3.3 C.7.6.3), and what each transfer syntax can hold of it (PS3.5 §8.2).

Failures: ``NotPossible`` with the attribute's name.
"""

from __future__ import annotations

from dataclasses import dataclass

from asyncroute.core.syntaxes import RLE, lossy
from asyncroute.transform.pixels.elements import Head
from asyncroute.transform.pixels.errors import NotPossible

SAMPLES, PHOTOMETRIC, PLANAR, FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
ROWS, COLUMNS, ALLOCATED, STORED, HIGH, REPRESENTATION = (
    *(0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102),
    0x00280103,
)

_OVERLAYS = 0x60
GREY = ("MONOCHROME1", "MONOCHROME2")
HALVED = "YBR_FULL_422"


@dataclass(frozen=True, slots=True)
class Image:
    """Of one image; ``planar``: its planes are one after the other."""

    rows: int
    columns: int
    samples: int
    photometric: str
    planar: bool
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame of whole bytes as it is stored."""
        cells = self.rows * self.columns * self.samples
        if self.photometric == HALVED:
            cells = self.rows * self.columns * 2
        return cells * self.allocated // 8

    @property
    def native_bytes(self) -> int:
        """Bytes of all frames, of one bit a cell as well."""
        if self.allocated == 1:
            return (self.rows * self.columns * self.samples * self.frames + 7) // 8
        return self.frame_bytes * self.frames


def describe(head: Head) -> Image:
    """The image that a header describes."""
    numbers = {}
    for name, tag in (("Rows", ROWS), ("Columns", COLUMNS), ("Bits Allocated", ALLOCATED)):
        number = head.number(tag)
        if not number:
            raise NotPossible(f"it has no {name}")
        numbers[tag] = number
    allocated = numbers[ALLOCATED]
    stored = head.number(STORED) or allocated
    count = head.text(FRAMES) or "1"
    if not count.isdigit() or not int(count):
        raise NotPossible(f'its Number of Frames is "{count[:20]}"')
    high = head.number(HIGH)
    return Image(
        numbers[ROWS],
        numbers[COLUMNS],
        head.number(SAMPLES) or 1,
        head.text(PHOTOMETRIC),
        head.number(PLANAR) == 1,
        int(count),
        allocated,
        stored,
        stored - 1 if high is None else high,
        head.number(REPRESENTATION) == 1,
    )


def overlay_within(head: Head) -> bool:
    """Whether an overlay is in bits of the pixels that are not stored, having no data of its own (PS3.5 §8.1.2)."""
    tags = head.tags()
    planes = {tag >> 16 for tag in tags if tag >> 24 == _OVERLAYS and not tag >> 16 & 1}
    return any(group << 16 | 0x10 in tags and group << 16 | 0x3000 not in tags for group in planes)


def check_encodable(image: Image, syntax: str, overlay: bool = False) -> None:
    """Whether a compressed ``syntax`` can hold it. ``overlay``: it has one within its pixels.

    Raises:
        NotPossible: it cannot.
    """
    if image.allocated not in (8, 16):
        raise NotPossible(f"Bits Allocated is {image.allocated}, not 8 or 16")
    if not 0 < image.stored <= image.allocated:
        raise NotPossible(f"Bits Stored is {image.stored} with {image.allocated} Bits Allocated")
    _check_colours(image, syntax)
    if syntax == RLE:
        return
    if overlay:
        raise NotPossible("it has an overlay within its pixels")
    if image.high != image.stored - 1:
        raise NotPossible(f"High Bit is {image.high} with {image.stored} Bits Stored")
    if image.stored < 2:
        raise NotPossible("Bits Stored is 1")
    if lossy(syntax) and image.photometric == "PALETTE COLOR":
        raise NotPossible("its colours are a palette's, which are not to be changed")


def _check_colours(image: Image, syntax: str) -> None:
    colours, samples = image.photometric, image.samples
    if samples == 1 and colours in (*GREY, "PALETTE COLOR"):
        if image.signed and colours == "PALETTE COLOR":
            raise NotPossible("a palette with signed indices")
        return
    if samples == 3 and colours in ("RGB", "YBR_FULL", HALVED):
        if image.signed:
            raise NotPossible("signed colours")
        if colours != "RGB" and image.allocated != 8:
            raise NotPossible(f"{colours} with {image.allocated} Bits Allocated")
        return
    raise NotPossible(f"its Photometric Interpretation is {colours or 'missing'} with {samples} Samples per Pixel")
