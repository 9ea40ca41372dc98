"""A `Level` as de-identification looks at it: every element by its meaning, texts, items; all of them in turn.

Guarantees: as `Level`'s. ``name``: where it is, for people (``ProcedureCodeSequence.0.``).
Failures: `Odd`, for what cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from asyncroute.transform.editing import name_of
from asyncroute.transform.level import Entry, Level, encode, number
from asyncroute.wire.elements import Odd
from asyncroute.wire.lenient import actual_encoding
from asyncroute.wire.syntax import Encoding, syntax_of
from asyncroute.wire.values import texts_of

Content = tuple[tuple[int, str, "bytes | Content"], ...]
"""What one item of a sequence has: tag, VR, and a value or the only item of a sequence (empty: none)."""

_ITEM, _DELIMITER = 0xFFFEE000, 8


class Elements:
    """See module."""

    __slots__ = ("level", "name")

    def __init__(self, level: Level, name: str = "") -> None:
        self.level = level
        self.name = name

    def __contains__(self, tag: int) -> bool:
        return self.level.get(tag) is not None

    def tags(self) -> list[int]:
        """Of all elements, ascending."""
        return self.level.tags()

    def vr(self, tag: int) -> str:
        """As sent, else by the dictionary; "UN": nobody knows."""
        entry = self.level.get(tag)
        return self.level.meaning(tag, entry) if entry is not None else "UN"

    def value(self, tag: int) -> bytes | None:
        """The value as encoded, with padding; None: it is not there."""
        entry = self.level.get(tag)
        return entry.value if entry is not None else None

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values as text, see ``wire.values.texts_of``."""
        level, entry = self.level, self.level.get(tag)
        if entry is None or entry.undefined:
            return ()
        big = level.encoding.big and entry.vr != "UN"
        return texts_of(level.meaning(tag, entry), entry.value, level.codecs, big=big)

    def items(self, tag: int) -> list[Elements] | None:
        """What is in the items of a sequence; None: it is none."""
        sequence = self.level.sequence(tag)
        if sequence is None:
            return None
        name = f"{self.name}{name_of(tag)}"
        return [Elements(item.level, f"{name}.{n}.") for n, item in enumerate(sequence.items)]

    def everywhere(self) -> Iterator[Elements]:
        """This and those in all items of all sequences, at any depth."""
        yield self
        for tag in self.tags():
            for item in self.items(tag) or ():
                yield from item.everywhere()

    def put(self, tag: int, vr: str, value: bytes) -> None:
        """An element with this value (of even length), instead of the one that may be there."""
        self.level.put(tag, Entry(vr, value))

    def put_items(self, tag: int, items: tuple[Content, ...], keep: bool = False) -> None:
        """A sequence of these items; ``keep``: behind those that are there."""
        entry = self.level.get(tag) if keep else None
        content = self.level.encoding
        new = b"".join(_item(item, content) for item in items)
        if entry is None or entry.vr == "UN":
            self.put(tag, "SQ", new)
        elif entry.undefined:
            old, end = entry.value[:-_DELIMITER], entry.value[-_DELIMITER:]
            self.level.put(tag, entry._replace(value=old + new + end))
        else:
            self.put(tag, "SQ", entry.value + new)

    def drop(self, tag: int) -> None:
        """No such element any more."""
        self.level.drop(tag)


def _item(content: Content, encoding: Encoding) -> bytes:
    body = b"".join(encode(tag, Entry(*_value(vr, value, encoding)), encoding) for tag, vr, value in content)
    head = number(_ITEM >> 16, 2, encoding) + number(_ITEM & 0xFFFF, 2, encoding)
    return head + number(len(body), 4, encoding) + body


def _value(vr: str, value: bytes | Content, encoding: Encoding) -> tuple[str, bytes]:
    if isinstance(value, bytes):
        return vr, value
    return "SQ", _item(value, encoding) if value else b""


def top(data: bytes | memoryview, transfer_syntax: str) -> Elements:
    """The elements of a header. Raises `Odd`."""
    syntax = syntax_of(transfer_syntax)
    if syntax is None:
        raise Odd(f"nobody knows how transfer syntax {transfer_syntax} encodes elements")
    view = memoryview(data)
    return Elements(Level(view, actual_encoding(view, syntax.encoding), b""))
