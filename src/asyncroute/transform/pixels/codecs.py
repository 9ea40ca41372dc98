"""One frame: from samples to a compressed bit stream and back, by libraries of the extra ``codecs``.

Nearly all by imagecodecs (libjpeg-turbo, CharLS, OpenJPEG, OpenJPH); JPEG-LS of another precision than 8 and 16 bits by
pyjpegls (CharLS), JPEG 2000 of a given ratio by pylibjpeg-openjpeg (OpenJPEG). Frames are
arrays of samples (rows, columns) or (rows, columns, 3), values as they count: signed ones are signed.
Failures: ``Missing`` where a library is not installed, ``Broken`` in the codec's words.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from asyncroute.core.syntaxes import (
    EXTRA,
    HT,
    HT_LOSSLESS,
    HT_RPCL,
    J2K,
    J2K_LOSSLESS,
    JLS,
    JLS_NEAR,
    JPEG,
    JPEG_57,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    NAMES,
    RLE,
    Wish,
    lacking,
    needed,
)
from asyncroute.transform.pixels.errors import Broken, NotPossible
from asyncroute.transform.pixels.image import HALVED, Image

Samples = Any
"""A numpy array; numpy comes with the extra."""

_SSIZ = 42
"""Where a JPEG 2000 code stream has the precision of its first component (ISO/IEC 15444-1 A.5.1)."""


_SCAN, _TILE_PART, _END = b"\xff\xda", b"\xff\x90", b"\xff\xd9"
"""Markers SOS of JPEG, SOT of JPEG 2000, EOI or EOC of both."""
_MORE = b"\0" + b"\x5a\xa5\x3c" * 100
"""Coded data that are no padding."""

_TINY = 256
"""Bytes of a frame below which pyjpegls may lack room."""


class Missing(NotPossible):
    """A codec's library is not installed."""


def missing(syntax: str) -> str:
    """Why nothing can be made or read in this compressed syntax here, naming the extra; empty: it can."""
    return next((lacking(syntax, it) for it in needed(syntax) if find_spec(it) is None), "")


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise Missing(f'a codec is not installed ("{name}"): {EXTRA}') from None


# --- Encoding ---------------------------------------------------------------------------------------------------------


def encode(frame: Samples, image: Image, syntax: str, wish: Wish) -> bytes:
    """A frame in a compressed syntax; ``image`` describes ``frame``.

    Raises:
        NotPossible: the codec cannot.
    """
    try:
        return bytes(_ENCODERS[syntax](frame, image, wish))
    except (NotPossible, MemoryError):
        raise
    except Exception as error:
        raise NotPossible(f"the codec cannot make {NAMES[syntax]} of it: {_words(error)}") from None


def _encode_rle(frame: Samples, image: Image, wish: Wish) -> bytes:
    """PS3.5 annex G: a segment for each byte of each sample, the highest byte first; rows by themselves."""
    np, library = _library("numpy"), _library("imagecodecs")
    cells = frame.astype(f"u{image.allocated // 8}").reshape(image.rows, image.columns, -1)
    segments = []
    for sample in range(cells.shape[2]):
        for shift in range(image.allocated - 8, -1, -8):
            plane = np.ascontiguousarray((cells[:, :, sample] >> shift).astype("u1"))
            packed = bytes(library.packbits_encode(plane, axis=-1))
            segments.append(packed + b"\0" * (len(packed) & 1))
    offsets, at = [], 64
    for segment in segments:
        offsets.append(at)
        at += len(segment)
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def _encode_jls(frame: Samples, image: Image, wish: Wish) -> bytes:
    return _jls(frame, image, 0)


def _encode_jls_near(frame: Samples, image: Image, wish: Wish) -> bytes:
    if image.signed:
        raise NotPossible("signed pixels cannot be near-lossless: the code knows no negative ones")
    return _jls(frame, image, min(wish.error, (1 << image.stored) // 2 - 1))


def _jls(frame: Samples, image: Image, error: int) -> bytes:
    """imagecodecs is the quicker one, but knows no other precision than 8 and 16; the other one has no room for its
    markers if a frame is tiny."""
    np = _library("numpy")
    bits = image.stored if error else _coded_bits(image)
    if error and bits <= 8 < image.allocated:
        raise NotPossible(f"Bits Stored is {bits} with 16 Bits Allocated: few programs read that near-lossless")
    cells = np.ascontiguousarray(frame.astype(f"u{image.allocated // 8}") & _mask(bits))
    if bits in (8, 16) or (cells.nbytes < _TINY and not error):
        return bytes(_library("imagecodecs").jpegls_encode(cells, level=error))
    encoded: bytearray = _library("jpeg_ls").encode_pixel_data(
        cells.tobytes(),
        error,
        rows=image.rows,
        columns=image.columns,
        samples_per_pixel=image.samples,
        bits_stored=bits,
        planar_configuration=0,
    )
    return bytes(encoded)


def _coded_bits(image: Image) -> int:
    """The precision of a code stream: Bits Stored, but all bits of the cell where other programs would not give back
    the same cell otherwise: they do not repeat the sign above Bits Stored, and take 8 bits for a byte."""
    if image.signed or image.stored <= 8:
        return image.allocated
    return image.stored


def _encode_jpeg_lossless(frame: Samples, image: Image, wish: Wish) -> bytes:
    np = _library("numpy")
    bits = _coded_bits(image)
    cells = np.ascontiguousarray(frame.astype(f"u{image.allocated // 8}") & _mask(bits))
    space = "RGB" if image.samples == 3 else None
    encoded: bytes = _library("imagecodecs").jpeg8_encode(
        cells, lossless=True, predictor=1, bitspersample=bits, colorspace=space, outcolorspace=space
    )
    return encoded


def _encode_j2k_lossless(frame: Samples, image: Image, wish: Wish) -> bytes:
    least = min(image.rows, image.columns)
    encoded: bytes = _library("imagecodecs").jpeg2k_encode(
        frame,
        codecformat="j2k",
        bitspersample=image.stored,
        reversible=True,
        mct=image.photometric == "RGB",
        resolutions=max(1, min(6, least.bit_length())),
        numthreads=1,
    )
    return encoded


def _encode_j2k(frame: Samples, image: Image, wish: Wish) -> bytes:
    if min(image.rows, image.columns) < 32:
        raise NotPossible("it is too small for JPEG 2000 with a loss (32 by 32 pixels)")
    ratio = max(wish.ratio * image.stored / image.allocated, 1.0)
    encoded: bytes = _library("openjpeg.utils").encode_array(
        frame,
        bits_stored=image.stored,
        photometric_interpretation=1 if image.photometric == "RGB" else 0,
        compression_ratios=[ratio],
    )
    return encoded


def _encode_htj2k(frame: Samples, image: Image, wish: Wish) -> bytes:
    """The encoder knows no precision but 8 and 16: others are coded as signed numbers, which are not shifted, and
    declared as what they are (the exponents of the sub-bands say how many bit planes there are)."""
    library, np = _library("imagecodecs"), _library("numpy")
    if image.stored in (8, 16):
        encoded = library.htj2k_encode(np.ascontiguousarray(frame), reversible=True, rgb=image.photometric == "RGB")
        return bytes(encoded)
    middle = 0 if image.signed else 1 << image.stored - 1
    centred = np.ascontiguousarray((frame.astype("i4") - middle).astype("i2"))
    stream = bytearray(library.htj2k_encode(centred, reversible=True, rgb=image.photometric == "RGB"))
    for component in range(image.samples):
        stream[_SSIZ + 3 * component] = image.stored - 1 | (0x80 if image.signed else 0)
    return bytes(stream)


def _mask(bits: int) -> int:
    return (1 << bits) - 1


_ENCODERS: dict[str, Callable[[Samples, Image, Wish], bytes]] = {
    RLE: _encode_rle,
    JLS: _encode_jls,
    JLS_NEAR: _encode_jls_near,
    JPEG_LOSSLESS: _encode_jpeg_lossless,
    J2K_LOSSLESS: _encode_j2k_lossless,
    J2K: _encode_j2k,
    HT_LOSSLESS: _encode_htj2k,
}


# --- Decoding ---------------------------------------------------------------------------------------------------------


def decode(stream: bytes, image: Image, syntax: str, ours: bool = False) -> Samples:
    """A frame of an image in a compressed syntax: cells of ``image.allocated`` bits, unsigned as they are stored.

    libjpeg makes up what is missing in a stream, and imagecodecs does not pass its warning on: so a JPEG stream that is
    not ``ours`` is decoded once more with something behind it.

    Raises:
        Broken: the stream cannot be read, or is of another image.
    """
    np = _library("numpy")
    try:
        samples = _DECODERS[syntax](stream, image)
        if syntax in _MADE_UP and not ours and not np.array_equal(samples, _DECODERS[syntax](_longer(stream), image)):
            raise Broken("a frame is cut off: its JPEG stream ends before its last pixel")
    except (NotPossible, Broken, MemoryError):
        raise
    except Exception as error:
        raise Broken(f"a frame is not {NAMES[syntax]}: {_words(error)}") from None
    shape = (image.rows, image.columns) if image.samples == 1 else (image.rows, image.columns, image.samples)
    if samples.shape != shape:
        raise Broken(f"a frame has the shape {samples.shape}, the header says {shape}")
    if syntax == RLE:
        return samples
    return np.ascontiguousarray(_cells(samples, image, _precision(stream, syntax) or image.stored))


def _cells(samples: Samples, image: Image, precision: int) -> Samples:
    """Samples of ``precision`` bits as cells; the header says whether they are signed (many a code stream errs)."""
    wide = samples.astype("i8") & _mask(precision)
    if precision > image.allocated and (wide >> image.allocated).any():
        raise Broken(f"a frame has {precision} bits a sample, Bits Allocated is {image.allocated}")
    if image.signed:
        sign = 1 << precision - 1
        wide = (wide ^ sign) - sign
    return wide.astype(f"i{image.allocated // 8}").view(f"u{image.allocated // 8}")


def _decode_rle(stream: bytes, image: Image) -> Samples:
    np, library = _library("numpy"), _library("imagecodecs")
    size, pixels = image.allocated // 8, image.rows * image.columns
    count, *offsets = struct.unpack_from("<16I", stream)
    if count != size * image.samples:
        raise Broken(f"a frame has {count} RLE segments instead of {size * image.samples}")
    bounds = [*offsets[:count], len(stream)]
    cells = np.zeros((image.samples, pixels), f"u{size}")
    for number in range(count):
        if not 64 <= bounds[number] <= bounds[number + 1] <= len(stream):
            raise Broken(f"RLE segment {number + 1} of a frame is not within it")
        plane = np.frombuffer(library.packbits_decode(stream[bounds[number] : bounds[number + 1]]), "u1")
        if plane.size < pixels or plane[pixels:].any():  # zeros are padding
            raise Broken(f"RLE segment {number + 1} of a frame has {plane.size} bytes instead of {pixels}")
        sample, byte = divmod(number, size)
        cells[sample] |= plane[:pixels].astype(f"u{size}") << (8 * (size - 1 - byte))
    if image.samples == 1:
        return cells.reshape(image.rows, image.columns)
    return np.ascontiguousarray(cells.T).reshape(image.rows, image.columns, image.samples)


def _decode_jpeg(stream: bytes, image: Image) -> Samples:
    """To RGB where colours are transformed, as every viewer shows it."""
    return _jpeg(stream, image, "YCBCR" if _transformed(stream, image) else "RGB")


def _jpeg(stream: bytes, image: Image, colours: str) -> Samples:
    decoder = _library("imagecodecs").jpeg8_decode
    return decoder(stream) if image.samples == 1 else decoder(stream, colorspace=colours, outcolorspace="RGB")


def _longer(stream: bytes) -> bytes:
    """A JPEG stream with more data at the end of its last scan, of which nothing comes out where it was whole."""
    end = stream.rfind(_END)
    return (stream[:end] if end > stream.rfind(_SCAN) else stream) + _MORE + _END


def _transformed(stream: bytes, image: Image) -> bool:
    """Whether colours are YCbCr: the stream's own markers say so, else the header (many a writer errs there)."""
    adobe = stream.find(b"\xff\xee\x00\x0eAdobe", 0, 4096)
    if adobe >= 0:
        return stream[adobe + 15] == 1
    return stream.find(b"JFIF\0", 0, 64) >= 0 or image.photometric.startswith("YBR")


def _decode_jpeg_lossless(stream: bytes, image: Image) -> Samples:
    return _jpeg(stream, image, "RGB")


def _decode_jls(stream: bytes, image: Image) -> Samples:
    samples = _library("imagecodecs").jpegls_decode(stream)
    at = stream.find(b"\xff\xda", 0, 8192)
    if image.samples == 3 and at >= 0 and stream[at + 4] == 1:  # a scan for each component: planes
        return _library("numpy").moveaxis(samples, 0, 2)
    return samples


def _decode_j2k(stream: bytes, image: Image) -> Samples:
    return _library("imagecodecs").jpeg2k_decode(stream, planar=False if image.samples > 1 else None, numthreads=1)


def _check_tile_parts(stream: bytes) -> None:
    """Whether each tile-part is as long as it says (ISO/IEC 15444-1 A.4.2), and the stream has its end."""
    at = stream.find(_TILE_PART + b"\0\x0a")
    while 0 <= at <= len(stream) - 12 and stream.startswith(_TILE_PART, at):
        length = int.from_bytes(stream[at + 6 : at + 10], "big")
        at = at + max(length, 12) if length else stream.rfind(_END)
    if at < 0 or not stream.startswith(_END, at):
        raise Broken("a frame is cut off: its JPEG 2000 stream is not as long as it says")


def _decode_htj2k(stream: bytes, image: Image) -> Samples:
    _check_tile_parts(stream)  # OpenJPH makes up what is missing
    return _library("imagecodecs").htj2k_decode(stream, planar=False if image.samples > 1 else None)


_DECODERS: dict[str, Callable[[bytes, Image], Samples]] = {
    RLE: _decode_rle,
    JPEG: _decode_jpeg,
    JPEG_EXTENDED: _decode_jpeg,
    JPEG_57: _decode_jpeg_lossless,
    JPEG_LOSSLESS: _decode_jpeg_lossless,
    JLS: _decode_jls,
    JLS_NEAR: _decode_jls,
    J2K_LOSSLESS: _decode_j2k,
    J2K: _decode_j2k,
    HT_LOSSLESS: _decode_htj2k,
    HT_RPCL: _decode_htj2k,
    HT: _decode_htj2k,
}


_MADE_UP = frozenset({JPEG, JPEG_EXTENDED, JPEG_57, JPEG_LOSSLESS})
"""Syntaxes of libjpeg."""


def _precision(stream: bytes, syntax: str) -> int:
    """Bits of a sample by the code stream itself; 0: it does not say."""
    if syntax in (J2K_LOSSLESS, J2K, HT_LOSSLESS, HT_RPCL, HT):
        start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
        return (stream[start + _SSIZ] & 0x7F) + 1 if start >= 0 else 0
    pos = 2
    while pos + 5 <= len(stream) and stream[pos] == 0xFF:
        marker = stream[pos + 1]
        if marker in _FRAMES:
            return stream[pos + 4]
        pos += 1 if marker == 0xFF else 2 + int.from_bytes(stream[pos + 2 : pos + 4], "big")
    return 0


_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})
"""Markers of a JPEG or JPEG-LS frame (SOF)."""


def loses(stream: bytes, syntax: str) -> bool:
    """Whether a stream in a syntax that may be either has lost something."""
    if syntax in (J2K, HT):  # the last byte of COD: 1 is the reversible wavelet
        at = stream.find(b"\xff\x52", 0, 8192)
        return at >= 0 and stream[at + 13] == 0
    if syntax == JLS_NEAR:
        at = stream.find(b"\xff\xda", 0, 8192)
        return at >= 0 and stream[at + 5 + 2 * stream[at + 4]] != 0
    return syntax in (JPEG, JPEG_EXTENDED)


def decoded_colours(photometric: str, syntax: str) -> str:
    """Photometric Interpretation of what ``decode`` returns for a frame of that one."""
    if photometric.startswith("YBR") and syntax in (JPEG, JPEG_EXTENDED):
        return "RGB"
    return "RGB" if photometric in ("YBR_RCT", "YBR_ICT") else photometric if photometric != HALVED else "YBR_FULL"


def encoded_colours(photometric: str, syntax: str) -> str:
    """Photometric Interpretation of a frame of that one when it is compressed (PS3.5 §8.2)."""
    if photometric == "RGB" and syntax in (J2K_LOSSLESS, HT_LOSSLESS):
        return "YBR_RCT"
    return "YBR_ICT" if photometric == "RGB" and syntax == J2K else photometric


def _words(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
