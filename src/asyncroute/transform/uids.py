"""The step new_uids: other UIDs for everything that belongs to this patient's images.

Guarantees: the same UID becomes the same new one wherever it stands, in sequences too, on every router with the same
secret (HMAC-SHA-256), so that references within and between images stay right. UIDs that name kinds of things are kept:
all that DICOM has registered (1.2.840.10008...), and those of classes, transfer syntaxes, coding schemes, context
groups, templates and device classes.
Failures: `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from asyncroute.core.coercion import NewUids
from asyncroute.transform.editing import Editing, name_of, new_uid

_REGISTERED = "1.2.840.10008."
_KEPT = ("SOPClass", "TransferSyntax", "CodingScheme", "ContextUID", "ContextGroup", "MappingResource", "Template",
         "DeviceClass", "DICOMStandard", "ContextIdentifierUID", "ApplicationUID", "Privatecreator")  # fmt: skip


def uids_step(spec: NewUids) -> Callable[[Editing], None]:
    """``new_uids``."""
    del spec

    def run(e: Editing) -> None:
        for level in list(e.top.levels()):
            for tag in level.tags():
                vr = level.vr(tag)
                if vr != "UI" or keeps(tag):
                    continue
                entry = level.get(tag)
                if entry is None or not entry.value.strip(b"\0 "):
                    continue
                name = name_of(tag) if level is e.top else f"...{name_of(tag)}"
                before = e.text(level, tag, entry, name)
                new = "\\".join([_other(uid, e.coercion.secret) for uid in before.split("\\")])
                if new != before:
                    e.write(level, tag, name, new, "UI", (entry, before))

    return run


def _other(uid: str, secret: bytes) -> str:
    return uid if not uid or uid.startswith(_REGISTERED) else new_uid(uid, secret)


@lru_cache(maxsize=1024)
def keeps(tag: int) -> bool:
    """Whether the UID of this attribute names a kind of thing."""
    name = name_of(tag)
    return any(part in name for part in _KEPT)
