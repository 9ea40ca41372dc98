"""From a data set's header to the facts that the journal keeps and the destinations it is owed to.

Reads only the header, by ``wire.header``'s scan, for the attributes that the journal and the configured routes need.
A header that cannot be read (a private transfer syntax, damage) is routed by its association and UIDs alone:
conditions on attributes then do not hold. Damage that hides an attribute which a route asks for makes the image a held
one.
"""

from __future__ import annotations

from asyncroute.core.model import Instance, RouteHit
from asyncroute.core.rules import RouteTable
from asyncroute.link.buffers import ImageBytes
from asyncroute.wire.header import HeaderScanner, Scan, header_end

STUDY, SERIES, PATIENT_ID, ACCESSION, MODALITY = 0x0020000D, 0x0020000E, 0x00100020, 0x00080050, 0x00080060

LONGEST = 256
"""Characters of a fact that the journal keeps: four times what the longest of them may have."""

KEPT_HEADER = 32 << 10
"""Bytes of a header that the journal keeps at most (compressed)."""

FULL_HEADER = 4 << 20
"""Bytes of a data set that are looked at when its routing attributes do not lie at its very beginning."""


class Router:
    """The routes of one configuration."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._scanner = HeaderScanner({STUDY, SERIES, PATIENT_ID, ACCESSION, MODALITY} | table.tags)

    def route(
        self, instance: Instance, image: ImageBytes | None, head: bytes | memoryview, whole: bool = False
    ) -> tuple[RouteHit, ...]:
        """Fill ``instance``'s facts and hits; the hits again.

        Where the image is not in memory, ``head`` is its beginning (``whole``: all of it).
        """
        scan = self._scan(instance.transfer_syntax, image, head, whole)
        attributes = {tag: scan.texts(tag) for tag in self._table.tags}
        instance.study_uid = _first(scan, STUDY)
        instance.series_uid = _first(scan, SERIES)
        instance.patient_id = _first(scan, PATIENT_ID)
        instance.accession = _first(scan, ACCESSION)
        instance.modality = _first(scan, MODALITY)
        instance.header = _header(head if image is None else image.parts[0] if image.parts else b"", instance, scan)
        instance.hits = () if self._undecidable(instance, scan) else self._table.decide(instance.source, attributes)
        return instance.hits

    def _undecidable(self, instance: Instance, scan: Scan) -> bool:
        """A damaged header hides attributes that conditions ask for: a person decides, not chance."""
        if scan.odd and any(tag not in scan.values for tag in self._table.tags):
            instance.hold_reason = f"routes cannot be decided, the header cannot be read: {scan.odd}"
            return True
        return False

    def _scan(self, transfer_syntax: str, image: ImageBytes | None, head: bytes | memoryview, whole: bool) -> Scan:
        if image is None:
            scan = self._scanner.scan(head, transfer_syntax, whole)
            return scan if scan is not None else self._cut(head, transfer_syntax)
        parts = image.parts
        first = parts[0] if parts else b""
        scan = self._scanner.scan(first, transfer_syntax, len(parts) <= 1)
        if scan is not None:
            return scan
        joined = b"".join(parts)
        scan = self._scanner.scan(joined[:FULL_HEADER], transfer_syntax, len(joined) <= FULL_HEADER)
        return scan if scan is not None else self._cut(joined[:FULL_HEADER], transfer_syntax)

    def _cut(self, data: bytes | memoryview, transfer_syntax: str) -> Scan:
        """What ``data`` shows, though what routing needs may lie behind it."""
        scan = self._scanner.scan(data, transfer_syntax, True)
        assert scan is not None
        scan.odd = scan.odd or f"its attributes lie beyond the first {len(data)} bytes"
        return scan


def _header(data: bytes | memoryview, instance: Instance, scan: Scan) -> bytes:
    """The header as far as ``data`` holds it, for the journal; without pixel data and whatever follows them."""
    end = header_end(data, instance.transfer_syntax, start=scan.offset)
    return bytes(data[: min(KEPT_HEADER, end if end is not None else KEPT_HEADER)])


def _first(scan: Scan, tag: int) -> str:
    """The attribute's first value, as far as the journal keeps it."""
    values = scan.texts(tag)
    return values[0][:LONGEST] if values else ""
