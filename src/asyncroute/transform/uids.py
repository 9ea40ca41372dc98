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
from asyncroute.transform.pseudonyms import REGISTERED

_KEPT = ("SOPClass", "TransferSyntax", "CodingScheme", "ContextUID", "ContextGroup", "MappingResource", "Template",
         "DeviceClass", "DICOMStandard", "ContextIdentifierUID", "ApplicationUID", "Privatecreator")  # fmt: skip


def uids_step(spec: NewUids) -> Callable[[Editing], None]:
    """``new_uids``."""
    del spec

    def run(e: Editing) -> None:
        e.rewrite(
            lambda tag, vr: vr == "UI" and not keeps(tag),
            lambda name, uid: _other(uid, e.coercion.secret),
        )

    return run


def _other(uid: str, secret: bytes) -> str:
    return uid if not uid or uid.startswith(REGISTERED) else new_uid(uid, secret)


@lru_cache(maxsize=1024)
def keeps(tag: int) -> bool:
    """Whether the UID of this attribute names a kind of thing."""
    name = name_of(tag)
    return any(part in name for part in _KEPT)
