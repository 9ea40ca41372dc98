"""``strict``: whether all images of a batch are of one patient, one study and one accession number, before any is sent.

Looks at headers only. Guarantees: bounded memory; files that are no images, or cannot be read, are left for the reading
to tell. Failures: ``OSError`` where a folder cannot be listed.
"""

from __future__ import annotations

from asyncroute.batch.files import HEAD, Found, Opened, Walk
from asyncroute.wire.bare import NotDicom
from asyncroute.wire.header import HeaderScanner

_NAMES = {0x00100020: "patients", 0x0020000D: "studies", 0x00080050: "accession numbers"}
_MORE = 1 << 20


def disagreement(root: str) -> str:
    """What images below ``root`` do not have in common, in words; empty: nothing. Blocks."""
    scanner = HeaderScanner(_NAMES)
    seen: dict[int, str] = {}
    walk = Walk(root)
    while some := walk.next(256):
        for file in some:
            if file.hidden or file.problem:
                continue
            for tag, value in _values(file, scanner).items():
                if seen.setdefault(tag, value) != value:
                    return f"images of several {_NAMES[tag]}: {seen[tag]} and {value} ({file.name})"
    return ""


def _values(file: Found, scanner: HeaderScanner) -> dict[int, str]:
    """Those that the header has, and that are not empty."""
    try:
        with Opened(file) as opened:
            start = opened.start()
            for length in (HEAD, _MORE):
                view = memoryview(bytearray(min(length, file.size - start.data_offset)))
                opened.fill(view, start.data_offset)
                whole = start.data_offset + len(view) == file.size
                scan = scanner.scan(view, start.transfer_syntax, whole or length == _MORE)
                if scan is not None:
                    return {tag: texts[0] for tag in _NAMES if (texts := scan.texts(tag)) and texts[0]}
    except (NotDicom, OSError):
        pass
    return {}
