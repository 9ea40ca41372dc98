"""The Original Attributes Sequence (0400,0561): what was there before (PS3.3 §C.12.1.1.9).

One item for each image and all steps together: the original elements as they were encoded, elements that were not there
empty, private ones with their creators; of sequences the whole original. Appended to the items that are there.
Guarantees: the same for the same header and facts: the time is that of reception, so that an image which is sent again
is the same.
Failures: `Refused` where what is there already is no sequence.
"""

from __future__ import annotations

from datetime import UTC, datetime

from asyncroute.transform import text
from asyncroute.transform.editing import Editing
from asyncroute.transform.level import Entry, Level, encode, number
from asyncroute.wire.elements import UNDEFINED

ORIGINAL_ATTRIBUTES = 0x04000561
_MODIFIED_ATTRIBUTES = 0x04000550
_REASON = b"COERCE"
_ITEM = (0xFFFE, 0xE000)
_DELIMITER = 8


def record(editing: Editing, system: str) -> None:
    """Append an item that tells what all steps until now have changed, if they have changed anything."""
    top = editing.top
    changed = [tag for tag in sorted(top.changed()) if tag != ORIGINAL_ATTRIBUTES and tag & 0xFFFF]
    if not changed:
        return
    modified = _item(top, b"".join(_originals(top, changed)))
    at = datetime.fromtimestamp(editing.facts.received_at, UTC).strftime("%Y%m%d%H%M%S.%f+0000")
    parts = {
        _MODIFIED_ATTRIBUTES: ("SQ", modified),
        0x04000562: ("DT", at.encode()),
        0x04000563: ("LO", _text(top, system)),
        0x04000564: ("LO", _text(top, editing.facts.calling_aet)),
        0x04000565: ("CS", _REASON),
    }
    item = _item(top, b"".join(encode(tag, Entry(*it), top.encoding) for tag, it in sorted(parts.items())))
    top.put(ORIGINAL_ATTRIBUTES, _appended(editing, item))


def _appended(editing: Editing, item: bytes) -> Entry:
    old = editing.top.get(ORIGINAL_ATTRIBUTES)
    if old is None or not old.value:
        return Entry("SQ", item)
    if old.vr != "SQ" or editing.top.sequence(ORIGINAL_ATTRIBUTES) is None:
        raise editing.refused("OriginalAttributesSequence", f"has VR {old.vr}: nothing can be added to it")
    if old.undefined:
        cut = len(old.value) - _DELIMITER
        return old._replace(value=old.value[:cut] + item + old.value[cut:])
    return old._replace(value=old.value + item)


def _originals(top: Level, tags: list[int]) -> list[bytes]:
    creators = {tag & 0xFFFF0000 | tag >> 8 & 0xFF for tag in tags if tag >> 16 & 1 and tag & 0xFF00}
    out = []
    for tag in sorted({*tags, *creators}):
        entry = top.original(tag)
        if entry is None:
            now = top.get(tag)
            entry = now if tag in creators else Entry(now.vr if now else "UN", b"")
        if entry is not None:
            out.append(encode(tag, entry, top.encoding))
    return out


def _item(top: Level, body: bytes) -> bytes:
    head = b"".join(number(part, 2, top.encoding) for part in _ITEM)
    assert len(body) < UNDEFINED
    return head + number(len(body), 4, top.encoding) + body


def _text(top: Level, value: str) -> bytes:
    """Cut, and with question marks where the character set lacks something: these are our own words."""
    value = value[:64]
    try:
        raw = text.encoded(value, top.character_set, False)
    except text.Unrepresentable:
        raw = value.replace("\x1b", "?").encode("ascii", "replace")
    return raw + b" " * (len(raw) & 1)
