"""From a pseudonym, or a de-identified image, back to whom it stands for: a question to the crosswalk; what an image's
UID stands for is known to the journal, for as long as it keeps history.

Guarantees: nothing is changed; a running router is not disturbed. Failures: ``OurFault``, ``StorageFault``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asyncroute.core.errors import OurFault
from asyncroute.journal import crosswalk, sent
from asyncroute.journal.sqlite import FILE
from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.part10 import NotPart10, parse_meta

_NAMES = (0x00100020, 0x0020000D, 0x0020000E, 0x00080050)
"""Patient ID, Study and Series Instance UID, Accession Number."""

_HEADER = 1 << 20


def originals(folder: Path, name: str, key: bytes | None) -> list[dict[str, Any]]:
    """Facts on what ``name``, a pseudonym or the path of an image, stands for, from the crosswalk in ``folder``."""
    path = Path(name)
    asked = names_in(path) if path.is_file() else [name]
    return [
        {"pseudonym": each, "kind": kind, "original": original, "since": since}
        for each in asked
        for kind, original, since in (*crosswalk.look_up(folder, each, key), *_images(folder, each))
    ]


def _images(folder: Path, uid: str) -> list[tuple[str, str, float]]:
    return [("image", original, since) for original, since in sent.originals(folder / FILE, uid)]


def names_in(path: Path) -> list[str]:
    """The Patient ID, Study and Series Instance UID, Accession Number and SOP Instance UID of an image.

    Raises:
        OurFault: it is none.
    """
    with path.open("rb") as file:
        data = file.read(_HEADER)
    try:
        meta = parse_meta(data)
    except NotPart10 as wrong:
        raise OurFault(f"{path}: {wrong}") from None
    scan = HeaderScanner(_NAMES).scan(data[meta.data_offset :], meta.transfer_syntax, True)
    texts = [text for tag in _NAMES for text in (scan.texts(tag) if scan else ())]
    return list(dict.fromkeys((*texts, meta.sop_instance_uid)))
