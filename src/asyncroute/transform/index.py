"""Where the elements of a data set, or of an item, stand: all up to some tag, one by one (PS3.5 §7).

Guarantees: plainly encoded elements in ascending order, or `Odd`; sequences of undefined length are skipped, not looked
into, and the number of headers in them is bounded.
Failures: `Odd`.
"""

from __future__ import annotations

from asyncroute.transform.shapes import Fit
from asyncroute.wire.elements import UNDEFINED, Odd, Walk, content_of, skip, tag_text
from asyncroute.wire.syntax import Encoding

END = 1 << 32  # behind every tag
MAX_NESTED = 1 << 21  # headers inside of sequences of undefined length
_ITEM_END = 0xFFFEE00D
_FIRST_VR = 0x4141


def item_end(view: memoryview, pos: int, encoding: Encoding) -> int:
    """Where the Item Delimitation Item of an item of undefined length stands."""
    walk = _bound(view)
    while pos + 8 <= walk.limit:
        group, element, _ = encoding.item(view, pos)
        if group << 16 | element == _ITEM_END:
            return pos
        pos = _next(view, encoding, pos, walk)
    raise Odd("an item without its delimiter")


def _bound(view: memoryview) -> Walk:
    """What `skip` may look at."""
    walk = Walk(view, len(view), frozenset(), END, 0, -1)
    walk.nested = MAX_NESTED
    return walk


def _next(view: memoryview, encoding: Encoding, pos: int, walk: Walk) -> int:
    """The offset behind the element at `pos`; `walk` is only the bound of what `skip` may do."""
    if encoding.implicit:
        start, vr = pos + 8, 0
        length: int = encoding.item(view, pos)[2]
    else:
        _, _, vr, length = encoding.header(view, pos)
        size = encoding.forms[vr]
        start = pos + size
        if size != 8:
            if not size:
                raise Odd(f"no VR at offset {pos + 4}")
            if length or start > walk.limit:
                raise Odd(f"an element that is not plainly encoded at offset {pos}")
            length = encoding.length(view, pos + 8)[0]
    if length == UNDEFINED:
        return skip(walk, start, content_of(encoding, vr))
    return start + length


def indexed(view: memoryview, encoding: Encoding, last: int, fit: Fit | None = None) -> tuple[list[int], list[int]]:
    """The tags of all elements up to `last`; where they begin, and where the last one ends.

    `fit`: what is known of the first ones.
    """
    index = _index_implicit if encoding.implicit else _index
    tags, starts, pos = ([], [], 0) if fit is None else (list(fit.shape.tags), fit.starts(), fit.bases[-1])
    starts.append(index(view, encoding, last, tags, starts, pos))
    return tags, starts


def _index(view: memoryview, encoding: Encoding, last: int, tags: list[int], starts: list[int], pos: int) -> int:
    """Every element from `pos` up to tag `last` in explicit VR; the offset behind them."""
    # The hot loop: see wire/elements.py. Most elements are short ones in order, and cost two appended numbers.
    unpack, forms, limit = encoding.header, encoding.forms, len(view)
    add_tag, add_start = tags.append, starts.append
    prev, room = tags[-1] if tags else -1, limit - 8
    walk: Walk | None = None
    while pos <= room:
        group, element, vr, length = unpack(view, pos)
        tag = group << 16 | element
        if not prev < tag <= last:
            return _passed(tag, prev, pos, forms[vr] == 0)
        add_tag(tag)
        add_start(pos)
        size = forms[vr]
        if size == 8:
            pos += 8 + length
        else:
            walk = walk or _bound(view)
            pos = _next(view, encoding, pos, walk)
        prev = tag
    return _ended(pos, limit)


def _index_implicit(
    view: memoryview, encoding: Encoding, last: int, tags: list[int], starts: list[int], pos: int
) -> int:
    unpack, limit = encoding.item, len(view)
    prev, room = tags[-1] if tags else -1, limit - 8
    walk: Walk | None = None
    while pos <= room:
        group, element, length = unpack(view, pos)
        tag = group << 16 | element
        if length >= _FIRST_VR and prev < 0:
            _check_implicit(view, encoding, pos)
        if not prev < tag <= last:
            return _passed(tag, prev, pos, False)
        tags.append(tag)
        starts.append(pos)
        if length == UNDEFINED:
            walk = walk or _bound(view)
            pos = _next(view, encoding, pos, walk)
        else:
            pos += 8 + length
        prev = tag
    return _ended(pos, limit)


def _check_implicit(view: memoryview, encoding: Encoding, pos: int) -> None:
    if encoding.forms[int.from_bytes(view[pos + 4 : pos + 6], "big" if encoding.big else "little")]:
        raise Odd("explicit VR where implicit VR was agreed")


def _passed(tag: int, prev: int, pos: int, no_vr: bool) -> int:
    if tag <= prev:
        raise Odd(f"{tag_text(tag)} follows {tag_text(prev)}")
    if tag >> 16 == 0xFFFE:
        raise Odd(f"delimiter {tag_text(tag)} outside of a sequence")
    if no_vr:
        raise Odd(f"no VR at offset {pos + 4}")
    return pos


def _ended(pos: int, limit: int) -> int:
    if pos != limit:
        raise Odd("the elements end elsewhere than the data")
    return pos
