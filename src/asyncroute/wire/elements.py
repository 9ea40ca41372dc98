"""Walks over the elements of a data set: the top level one by one, sequences of undefined length skipped.

Guarantees: nothing is copied but wanted values; no recursion; the number of element headers looked at is bounded
(`MAX_TOP`, `MAX_NESTED`), so is the depth of nesting (`MAX_DEPTH`) and the size of a value (`MAX_VALUE`). The result
for the beginning of some data is never contradicted by the result for more of it.
Failures: `Odd`, with the reason, for anything but plainly encoded elements in ascending order.
"""

from __future__ import annotations

from asyncroute.wire.syntax import EXPLICIT_LE, IMPLICIT_BE, IMPLICIT_LE, UN_CONTENT, Encoding

UNDEFINED = 0xFFFFFFFF
PIXELS = 0x7FE00000  # from here on nothing is scanned: pixel data, signatures, padding
MAX_VALUE = 1 << 16  # bytes of a wanted value that are kept
MAX_TOP = 20_000  # top-level elements (about 6 ms)
MAX_NESTED = 50_000  # element and item headers inside sequences of undefined length (about 25 ms)
MAX_DEPTH = 4096  # sequences in sequences

_DELIMITERS = 0xFFFE
_ITEM = 0xE000
_ITEM_END = 0xE00D
_SEQUENCE_END = 0xE0DD
_FIRST_VR = 0x4141  # "AA" read as a length


class Odd(Exception):
    """The data is not what its transfer syntax says, or beyond a bound; `final` if a lenient reading cannot help."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


def tag_text(tag: int) -> str:
    """A tag as people write it: (0010,0020)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


class Walk:
    """One pass over the top level of a data set: what to look for, and what was found until now.

    `pos` is the offset of the next element, `prev` the tag before it (-1 at the beginning). `values` holds raw value
    bytes by tag (for a sequence of undefined length with the delimiter), `vrs` their VR numbers (explicit VR only; see
    `Encoding.vr_name`). `note` says which wanted value was left out for its size.
    """

    __slots__ = ("last", "limit", "nested", "note", "pos", "prev", "values", "view", "vrs", "wanted")

    def __init__(self, view: memoryview, limit: int, wanted: frozenset[int], last: int, pos: int, prev: int) -> None:
        self.view = view
        self.limit = limit
        self.wanted = wanted
        self.last = last
        self.pos = pos
        self.prev = prev
        self.nested = MAX_NESTED
        self.note: str | None = None
        self.values: dict[int, bytes] = {}
        self.vrs: dict[int, int] = {}

    def run(self, encoding: Encoding) -> bool:
        """Go on to the last wanted tag: True when it is found or passed, False at (or beyond) the end of the data.

        Raises `Odd`; then `values` still holds what came before.
        """
        return _walk_implicit(self, encoding) if encoding.implicit else _walk_explicit(self, encoding)


def _walk_explicit(walk: Walk, encoding: Encoding) -> bool:
    # The hot loop: every line of it costs microseconds per image. Locals instead of attributes, one comparison for
    # order and end together, the VR looked up as a number in a table of header sizes.
    view, limit, wanted, last = walk.view, walk.limit, walk.wanted, walk.last
    unpack, forms = encoding.header, encoding.forms
    prev, pos, room = walk.prev, walk.pos, limit - 8
    for _ in range(MAX_TOP):
        if pos > room:
            walk.pos, walk.prev = pos, prev
            return False
        group, element, vr, length = unpack(view, pos)
        tag = group << 16 | element
        if not prev < tag <= last:
            walk.pos, walk.prev = pos, prev
            return _passed(walk, tag, forms[vr] == 0)
        size = forms[vr]
        start = pos + size
        if size != 8:
            length = _long_length(walk, encoding, pos, vr, length)
        end = start + length
        if tag in wanted:
            if end > limit:
                walk.pos, walk.prev = pos, prev
                return False
            if length <= MAX_VALUE:
                walk.values[tag] = view[start:end].tobytes()
                walk.vrs[tag] = vr
            else:
                walk.note = _too_long(tag)
            if tag == last:
                walk.pos, walk.prev = end, tag
                return True
        pos, prev = end, tag
    raise Odd(f"more than {MAX_TOP} elements", final=True)


def _long_length(walk: Walk, encoding: Encoding, pos: int, vr: int, reserved: int) -> int:
    """The length of the value of an element with a 12-byte header, a delimiter at its end included."""
    if not encoding.forms[vr]:
        raise Odd(f"no VR at offset {pos + 4}")
    if reserved:
        raise Odd(f"reserved bytes are not zero at offset {pos + 6}")
    start = pos + 12
    if start > walk.limit:
        return walk.limit + 1 - start  # beyond the data: the loop ends there
    length: int = encoding.length(walk.view, pos + 8)[0]
    if length != UNDEFINED:
        return length
    return skip(walk, start, content_of(encoding, vr)) - start


def _walk_implicit(walk: Walk, encoding: Encoding) -> bool:
    view, limit, wanted, last = walk.view, walk.limit, walk.wanted, walk.last
    unpack = encoding.header
    prev, pos, room = walk.prev, walk.pos, limit - 8
    for _ in range(MAX_TOP):
        if pos > room:
            walk.pos, walk.prev = pos, prev
            return False
        group, element, length = unpack(view, pos)
        tag = group << 16 | element
        start = pos + 8
        if length >= _FIRST_VR and prev < 0:
            _check_implicit(walk, encoding, pos)
        if not prev < tag <= last:
            walk.pos, walk.prev = pos, prev
            return _passed(walk, tag, False)
        if length == UNDEFINED:
            length = skip(walk, start, encoding) - start
        end = start + length
        if tag in wanted:
            if end > limit:
                walk.pos, walk.prev = pos, prev
                return False
            if length <= MAX_VALUE:
                walk.values[tag] = view[start:end].tobytes()
            else:
                walk.note = _too_long(tag)
            if tag == last:
                walk.pos, walk.prev = end, tag
                return True
        pos, prev = end, tag
    raise Odd(f"more than {MAX_TOP} elements", final=True)


def _check_implicit(walk: Walk, encoding: Encoding, pos: int) -> None:
    """Raise `Odd` if the long length of the first element is a VR: no data set begins with an element of 16 KiB."""
    if encoding.forms[int.from_bytes(walk.view[pos + 4 : pos + 6], "big" if encoding.big else "little")]:
        raise Odd("explicit VR where implicit VR was agreed")


def _passed(walk: Walk, tag: int, no_vr: bool) -> bool:
    """True for an element behind the last wanted one; raises `Odd` if it cannot be trusted to be that."""
    if tag <= walk.prev:
        raise Odd(f"{tag_text(tag)} follows {tag_text(walk.prev)}")
    if tag >> 16 == _DELIMITERS:
        raise Odd(f"delimiter {tag_text(tag)} outside of a sequence")
    if no_vr:
        raise Odd(f"no VR at offset {walk.pos + 4}")
    if walk.prev < 0:
        check_first(tag)
    return True


def check_first(tag: int) -> None:
    """Raise `Odd` if a data set that begins with `tag`, behind all that is wanted, can be no stored object.

    Those have a SOP Class UID (PS3.3 §C.12.1), so they begin with group 0008, or a careless sender's File Meta. Not
    called for data in which something was passed: wrong encodings and noise do not get that far.
    """
    group = tag >> 16
    if not group & 0xFF and 0 < group >> 8 <= 8:
        raise Odd("the other byte order than agreed", final=True)
    if group > 8:
        raise Odd(f"a data set that begins with {tag_text(tag)}", final=True)


def _too_long(tag: int) -> str:
    return f"the value of {tag_text(tag)} is longer than {MAX_VALUE} bytes"


def content_of(encoding: Encoding, vr: int) -> Encoding:
    """How the items of an element of undefined length are encoded."""
    if not encoding.implicit and encoding.vr_name(vr) == "UN":
        return UN_CONTENT
    return encoding


def skip(walk: Walk, pos: int, content: Encoding) -> int:
    """The offset behind the Sequence Delimitation Item that belongs to the items at `pos` (PS3.5 §7.5, §A.4).

    Beyond `walk.limit` if the data ends before it. Items of defined length are jumped over. Raises `Odd`.
    """
    stack = [content]  # of sequences and items in turn: an odd number of entries means that items come next
    while stack:
        pos = _skip_items(walk, pos, stack) if len(stack) & 1 else _skip_elements(walk, pos, stack)
        if pos > walk.limit:
            break
        if len(stack) > 2 * MAX_DEPTH:
            raise Odd(f"sequences nested more than {MAX_DEPTH} deep", final=True)
    return pos


def skip_item(walk: Walk, pos: int, encoding: Encoding) -> int:
    """The offset behind the Item Delimitation Item that ends the elements at `pos`; as `skip`."""
    stack = [encoding, encoding]
    while len(stack) > 1:
        pos = _skip_items(walk, pos, stack) if len(stack) & 1 else _skip_elements(walk, pos, stack)
        if pos > walk.limit:
            break
        if len(stack) > 2 * MAX_DEPTH:
            raise Odd(f"sequences nested more than {MAX_DEPTH} deep", final=True)
    return pos


def _skip_items(walk: Walk, pos: int, stack: list[Encoding]) -> int:
    view, limit, content = walk.view, walk.limit, stack[-1]
    unpack = content.item
    for _ in range(walk.nested):
        if pos + 8 > limit:
            return limit + 1
        walk.nested -= 1
        group, element, length = unpack(view, pos)
        if group != _DELIMITERS or element not in (_ITEM, _SEQUENCE_END):
            raise Odd(f"{tag_text(group << 16 | element)} instead of an item at offset {pos}")
        pos += 8
        if element == _SEQUENCE_END:
            stack.pop()
            return pos
        if length == UNDEFINED:
            if pos + 8 > limit:
                return limit + 1
            stack.append(item_encoding(view, pos, content))
            return pos
        pos += length
    raise _too_many()


def item_encoding(view: memoryview, pos: int, content: Encoding) -> Encoding:
    """How the item whose first element is at `pos` is encoded: some writers switch inside explicit VR data sets."""
    number = int.from_bytes(view[pos + 4 : pos + 6], "big" if content.big else "little")
    letters = content.forms[number] != 0
    if content.mixed:
        return EXPLICIT_LE if letters else content
    if content.implicit or letters:
        return content
    return IMPLICIT_BE if content.big else IMPLICIT_LE


def _skip_elements(walk: Walk, pos: int, stack: list[Encoding]) -> int:
    encoding = stack[-1]
    view, limit, unpack, implicit = walk.view, walk.limit, encoding.header, encoding.implicit
    vr = 0
    for _ in range(walk.nested):
        if pos + 8 > limit:
            return limit + 1
        walk.nested -= 1
        if implicit:
            group, element, length = unpack(view, pos)
            start = pos + 8
        else:
            group, element, vr, length = unpack(view, pos)
            start = pos + encoding.forms[vr]
        if group == _DELIMITERS:
            if element != _ITEM_END:
                raise Odd(f"{tag_text(group << 16 | element)} inside of an item at offset {pos}")
            stack.pop()
            return pos + 8
        if start != pos + 8:
            if start == pos or length:
                raise Odd(f"no VR in an item at offset {pos + 4}")
            if start > limit:
                return limit + 1
            length = encoding.length(view, pos + 8)[0]
        pos = start + length
        if length == UNDEFINED:
            stack.append(content_of(encoding, vr))
            return start
    raise _too_many()


def _too_many() -> Odd:
    return Odd(f"more than {MAX_NESTED} headers inside of sequences", final=True)
