"""Attributes inside sequences, and private ones by their creator, out of the beginning of a data set.

A scan (`header`) knows the top level only, and tags; this finds what a path leads to, for the images whose routes ask.
Guarantees: reads every encoding of PS3.5 §7 and annex A; nothing above the pixel data is looked at; never raises on
data; time and memory are bounded as those of a scan. What is not plainly encoded is read by pydicom; what that cannot
read either is not guessed: `Nested.odd` says why.
Failures: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from asyncroute.core.paths import Path, Step
from asyncroute.wire import charset
from asyncroute.wire.elements import (
    MAX_TOP,
    MAX_VALUE,
    PIXELS,
    UNDEFINED,
    Odd,
    Walk,
    content_of,
    item_encoding,
    skip,
    skip_item,
    tag_text,
)
from asyncroute.wire.header import Data, inflate_header
from asyncroute.wire.lenient import WINDOW, actual_encoding
from asyncroute.wire.syntax import EXPLICIT_LE, Encoding, syntax_of
from asyncroute.wire.values import dictionary_vr, texts_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

BINARY = "(binary)"
"""Stands for a value that has no text."""

_CHARACTER_SET = 0x00080005
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_MAX_ITEMS = 10_000


class _Short(Exception):
    """The data ends before what was looked for."""


@dataclass(slots=True)
class Nested:
    """What was found: for each path the values of all attributes that it leads to.

    None at all: there is no such attribute; one that is empty: it has no value. A sequence has one value, which says
    how many items it has. `odd`: why the data set cannot be read; then `values` is empty.
    """

    values: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    odd: str | None = None


class _Element(NamedTuple):
    """`start`, `end`: of its value, the delimiter of an undefined length included. `content`: how its items are."""

    tag: int
    vr: str
    start: int
    end: int
    content: Encoding


def read_nested(data: Data, transfer_syntax: str, paths: Iterable[Path], complete: bool) -> Nested | None:
    """Look for `paths` in `data`, the beginning of a data set; `complete`: it is all of it.

    None: more of it is needed, which cannot be if it is complete. Of an unknown encoding nothing is found.
    """
    syntax = syntax_of(transfer_syntax)
    if syntax is None:
        return Nested()
    encoding = syntax.encoding
    if syntax.deflated:
        data, complete = inflate_header(data, complete)
        encoding = EXPLICIT_LE
    with memoryview(data) as view:
        try:
            return Nested({path: _plain(view, encoding, path, complete) for path in paths})
        except _Short:
            return Nested(odd="the data ends inside of it") if complete else None
        except Odd as odd:
            if not odd.final and (complete or len(view) >= WINDOW):
                return _lenient(view[:WINDOW], encoding, paths, odd.reason)
            return Nested(odd=odd.reason) if complete or odd.final else None


# --- The plain way ---------------------------------------------------------------------------------------------------


def _plain(view: memoryview, encoding: Encoding, path: Path, complete: bool) -> tuple[str, ...]:
    walk = Walk(view, len(view), frozenset(), PIXELS - 1, 0, -1)
    limit = len(view) if complete else None
    return tuple(_find(walk, _elements(walk, 0, limit, encoding), encoding, ("latin_1",), path))


def _elements(walk: Walk, pos: int, end: int | None, encoding: Encoding) -> Iterator[_Element]:
    """Those of a data set or item that begins at `pos`, and ends at `end` or with a delimiter, or at the pixel data.

    `end` None: the data goes on where it ends, so that its end is no end. Raises `Odd`, `_Short`.
    """
    previous = -1
    for _ in range(MAX_TOP):
        if pos == end:
            return
        if pos + 8 > (walk.limit if end is None else end):
            raise _Short
        tag, vr, start, length = _header(walk, pos, encoding)
        if tag == _ITEM_END or tag >= PIXELS:
            return
        if tag <= previous:
            raise Odd(f"{tag_text(tag)} follows {tag_text(previous)}")
        content = content_of(encoding, vr)
        after = skip(walk, start, content) if length == UNDEFINED else start + length
        if after > walk.limit:
            raise _Short
        yield _Element(tag, "" if encoding.implicit else encoding.vr_name(vr), start, after, content)
        previous, pos = tag, after
    raise Odd(f"more than {MAX_TOP} elements", final=True)


def _header(walk: Walk, pos: int, encoding: Encoding) -> tuple[int, int, int, int]:
    """Tag, VR number, where the value begins, its length."""
    if encoding.implicit:
        group, element, length = encoding.header(walk.view, pos)
        return group << 16 | element, 0, pos + 8, length
    group, element, vr, length = encoding.header(walk.view, pos)
    tag = group << 16 | element
    if tag == _ITEM_END or encoding.forms[vr] == 8:
        return tag, vr, pos + 8, length
    if not encoding.forms[vr]:
        raise Odd(f"no VR at offset {pos + 4}")
    if pos + 12 > walk.limit:
        raise _Short
    return tag, vr, pos + 12, encoding.length(walk.view, pos + 8)[0]


def _find(
    walk: Walk, elements: Iterator[_Element], encoding: Encoding, codecs: tuple[str, ...], steps: Path
) -> Iterator[str]:
    """The values at the end of `steps` in one data set or item."""
    step, further = steps[0], steps[1:]
    group, low, high = step.tag >> 16, step.tag & 0xFFFF0000 | 0x10, step.tag & 0xFFFF0000 | 0xFF
    wanted = set() if step.creator else {step.tag}
    for each in elements:
        tag = each.tag
        if tag >> 16 > group:
            return
        if tag == _CHARACTER_SET:
            codecs = charset.codecs_of(walk.view[each.start : each.end].tobytes())
        if step.creator and low <= tag <= high and _is(step.creator, walk.view[each.start : each.end]):
            wanted.add(step.tag & 0xFFFF0000 | (tag & 0xFF) << 8 | step.tag & 0xFF)
        elif tag in wanted:
            if further:
                for item in _items(walk, each, step.item):
                    yield from _find(walk, item, encoding, codecs, further)
            else:
                yield from _values(walk, each, step, encoding, codecs)


def _is(creator: str, value: memoryview) -> bool:
    return len(value) <= 2 * 64 and value.tobytes().decode("latin-1").strip(" \0") == creator


def _items(walk: Walk, sequence: _Element, only: int | None) -> Iterator[Iterator[_Element]]:
    """The elements of each item, or of one of them."""
    pos = sequence.start
    for number in range(_MAX_ITEMS):
        if pos + 8 > sequence.end or (only is not None and number > only):
            return
        group, element, length = sequence.content.item(walk.view, pos)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise Odd(f"{tag_text(tag)} instead of an item at offset {pos}")
        pos += 8
        encoding = sequence.content
        if length and pos + 8 <= walk.limit:
            encoding = item_encoding(walk.view, pos, encoding)
        after = skip_item(walk, pos, encoding) if length == UNDEFINED else pos + length
        if after > sequence.end:
            raise Odd(f"an item that is longer than its sequence at offset {pos}")
        if only in (None, number):
            yield _elements(walk, pos, after, encoding)
        pos = after
    raise Odd(f"more than {_MAX_ITEMS} items", final=True)


def _values(walk: Walk, each: _Element, step: Step, encoding: Encoding, codecs: tuple[str, ...]) -> Iterable[str]:
    vr = each.vr if each.vr not in ("", "UN") else dictionary_vr(each.tag, step.creator)
    if vr == "SQ":
        return [_count(sum(1 for _ in _items(walk, each, None)))]
    if each.end - each.start > MAX_VALUE:
        return [BINARY]
    big = encoding.big and each.vr != "UN"
    return texts_or_binary(vr.split(" or ")[0], walk.view[each.start : each.end].tobytes(), codecs, big)


def _count(items: int) -> str:
    return f"{items} item{'s' if items > 1 else ''}" if items else ""


def texts_or_binary(vr: str, value: bytes, codecs: tuple[str, ...], big: bool) -> tuple[str, ...]:
    """The values as text; of an attribute that is there never none: empty, or `BINARY`."""
    return texts_of(vr, value, codecs, big=big) or present(value)


def present(value: bytes) -> tuple[str, ...]:
    """What stands for a value of which there is no text."""
    return (BINARY,) if value.strip(b" \0") else ("",)


# --- The lenient way -------------------------------------------------------------------------------------------------


def _lenient(view: memoryview, encoding: Encoding, paths: Iterable[Path], reason: str) -> Nested:
    """As pydicom reads it, which knows what writers do in spite of PS3.5."""
    from pydicom.filereader import read_dataset

    actual = actual_encoding(view, encoding)
    try:
        dataset = read_dataset(
            BytesIO(view), actual.implicit, not actual.big, stop_when=lambda tag, vr, length: int(tag) >= PIXELS
        )
        return Nested({path: tuple(_find_decoded(dataset, path, ("latin_1",), actual.big)) for path in paths})
    except Exception as error:  # whatever pydicom raises on such data
        return Nested(odd=f"{reason}; pydicom: {type(error).__name__}: {error}")


def _find_decoded(dataset: Dataset, steps: Path, codecs: tuple[str, ...], big: bool) -> Iterator[str]:
    step, further = steps[0], steps[1:]
    if _CHARACTER_SET in dataset:
        codecs = charset.codecs_of(dataset.get_item(_CHARACTER_SET).value or b"")
    for tag in _tags(dataset, step):
        if tag not in dataset:
            continue
        element = dataset.get_item(tag)
        vr = str(element.VR or "UN")
        vr = vr if vr != "UN" else dictionary_vr(tag, step.creator)
        if vr == "SQ":
            items = dataset[tag].value
            for number, item in enumerate(items if further else ()):
                if step.item in (None, number):
                    yield from _find_decoded(item, further, codecs, big)
            if not further:
                yield _count(len(items))
        elif not further:
            yield from texts_or_binary(vr.split(" or ")[0], element.value or b"", codecs, big)


def _tags(dataset: Dataset, step: Step) -> list[int]:
    if not step.creator:
        return [step.tag]
    group = step.tag >> 16
    blocks = [block for block in range(0x10, 0x100) if group << 16 | block in dataset]
    return [
        group << 16 | block << 8 | step.tag & 0xFF
        for block in blocks
        if str(dataset[group << 16 | block].value).strip(" \0") == step.creator
    ]
