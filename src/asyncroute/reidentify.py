"""From a pseudonym, or a de-identified image, back to whom it stands for: a question to the crosswalk.

Guarantees: nothing is changed; a running router is not disturbed. Failures: ``OurFault``, ``StorageFault``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asyncroute.core.errors import OurFault
from asyncroute.journal import crosswalk
from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.part10 import NotPart10, parse_meta

_PATIENT, _STUDY, _ACCESSION = 0x00100020, 0x0020000D, 0x00080050
_HEADER = 1 << 20


def originals(folder: Path, name: str, key: bytes | None) -> list[dict[str, Any]]:
    """Facts on what ``name``, a pseudonym or the path of an image, stands for, from the crosswalk in ``folder``."""
    path = Path(name)
    asked = names_in(path) if path.is_file() else [name]
    return [
        {"pseudonym": each, "kind": found.kind, "original": found.value, "since": found.since}
        for each in asked
        for found in crosswalk.look_up(folder, each, key)
    ]


def names_in(path: Path) -> list[str]:
    """The Patient ID, Study Instance UID and Accession Number of an image. Raises ``OurFault``."""
    with path.open("rb") as file:
        data = file.read(_HEADER)
    try:
        meta = parse_meta(data)
    except NotPart10 as wrong:
        raise OurFault(f"{path}: {wrong}") from None
    scan = HeaderScanner((_PATIENT, _STUDY, _ACCESSION)).scan(data[meta.data_offset :], meta.transfer_syntax, True)
    texts = [text for tag in (_PATIENT, _STUDY, _ACCESSION) for text in (scan.texts(tag) if scan else ())]
    return list(dict.fromkeys(texts))
