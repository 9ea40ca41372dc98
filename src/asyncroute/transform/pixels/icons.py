"""Compressed pictures within sequences, such as icons (PS3.3 F.7): decoded, before an image gets another syntax.

They are in the syntax of the image around them or native, which they may be in any syntax (PS3.5 §A.4).
Failures: ``NotPossible``, ``Broken`` with the codec's words.
"""

from __future__ import annotations

from asyncroute.transform.pixels import codecs
from asyncroute.transform.pixels.elements import PIXEL_DATA, Head
from asyncroute.transform.pixels.errors import Broken, NotPossible
from asyncroute.transform.pixels.frames import Fragments, Layout, Memory, Pixels
from asyncroute.transform.pixels.image import PHOTOMETRIC, PLANAR, describe
from asyncroute.wire.elements import Odd
from asyncroute.wire.syntax import Encoding

_MARK = (PIXEL_DATA >> 16).to_bytes(2, "little") + (PIXEL_DATA & 0xFFFF).to_bytes(2, "little")


def decoded(header: bytes, encoding: Encoding, syntax: str) -> bytes:
    """A header whose image is in the compressed ``syntax``, with native pictures only."""
    if _MARK not in header:
        return header
    head = Head(header, encoding)
    try:
        for picture in head.pictures():
            _decode(picture, syntax)
    except Odd as odd:
        raise NotPossible(f"its header cannot be read: {odd.reason}") from None
    except (NotPossible, Broken) as error:
        raise type(error)(f"a picture within it, such as an icon: {error}") from None
    return head.encoded()


def _decode(picture: Head, syntax: str) -> None:
    image = describe(picture)
    if image.allocated not in (8, 16):
        raise NotPossible(f"Bits Allocated is {image.allocated}, not 8 or 16")
    data = Memory(picture.get(PIXEL_DATA) or b"")
    where = Layout(b"", Pixels(PIXEL_DATA, "OB", 0, data.size, True), ())
    frames = Fragments(data, where, image)
    pixels = b"".join(codecs.decode(stream, image, syntax).tobytes() for stream in frames)
    picture.set(PIXEL_DATA, "OW" if image.allocated > 8 else "OB", pixels)
    colours = codecs.decoded_colours(image.photometric, syntax)
    if colours != image.photometric:
        picture.set(PHOTOMETRIC, "CS", colours.encode())
    if image.samples > 1:
        picture.number_set(PLANAR, 0)
