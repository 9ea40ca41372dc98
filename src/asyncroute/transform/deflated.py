"""Deflated data sets (PS3.5 §A.5): inflated, edited and deflated again as a stream.

Guarantees: sans-io; memory is bounded, whatever a stream would inflate to; what is inflated again from the result is
the edited header and what followed the original one, as its ``Tail`` hands it on. Padded to even length.
Failures: `Refused` for a stream that is damaged, cut short, or does not begin with the header that was edited.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from asyncroute.transform.base import Refused, Tail

_PIECE = 1 << 16  # bytes that are inflated at a time
_LEVEL = 6


class Rewriting:
    """A ``Tail`` for a whole deflated data set. `original` is its inflated header, `header` what stands there instead.

    `rest` edits what follows; None: nothing is edited there.
    """

    def __init__(self, name: str, original: bytes | memoryview, header: bytes | memoryview, rest: Tail | None) -> None:
        self._name = name
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._original = memoryview(original)
        self._seen = 0  # bytes of the original header that came
        self._header: bytes | memoryview = header
        self._rest = rest
        self._written = 0

    def feed(self, data: memoryview) -> Sequence[bytes | memoryview]:
        """See ``base.Tail``."""
        out: list[bytes] = []
        waiting: bytes | memoryview = data
        while waiting and not self._inflater.eof:
            try:
                piece = self._inflater.decompress(waiting, _PIECE)
            except zlib.error as error:
                raise self._refused(f"is damaged: {error}") from None
            waiting = self._inflater.unconsumed_tail
            self._plain(memoryview(piece), out)
        return self._counted(out)

    def finish(self) -> Sequence[bytes | memoryview]:
        """See ``base.Tail``."""
        out: list[bytes] = []
        while not self._inflater.eof:
            piece = self._inflater.decompress(self._inflater.unconsumed_tail, _PIECE)
            if not piece:
                raise self._refused("is cut short")
            self._plain(memoryview(piece), out)
        if self._seen < len(self._original):
            raise self._refused("is shorter than its header")
        out += [self._deflater.compress(part) for part in (self._rest.finish() if self._rest is not None else ())]
        out.append(self._deflater.flush())
        made = self._counted(out)
        return [*made, b"\0"] if self._written & 1 else made

    def _plain(self, piece: memoryview, out: list[bytes]) -> None:
        """What was inflated: first the header, which is replaced."""
        if self._seen < len(self._original):
            expected = self._original[self._seen : self._seen + len(piece)]
            if piece[: len(expected)] != expected:
                raise self._refused("does not begin with the header that was edited")
            if not self._seen and expected:
                out.append(self._deflater.compress(self._header))
            self._seen += len(expected)
            piece = piece[len(expected) :]
        if piece:
            parts = self._rest.feed(piece) if self._rest is not None else (piece,)
            out += [self._deflater.compress(part) for part in parts]

    def _counted(self, out: list[bytes]) -> list[bytes]:
        made = [part for part in out if part]
        self._written += sum(map(len, made))
        return made

    def _refused(self, why: str) -> Refused:
        return Refused(f"{self._name}: the deflated data set {why}")
