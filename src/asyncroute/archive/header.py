"""What an archived image is named by and found by, from its file's beginning.

Guarantees: never raises on data; what cannot be read is empty. Failures: none. For one thread.
"""

from __future__ import annotations

from asyncroute.archive.base import Arrival
from asyncroute.core.archiving import Layout
from asyncroute.spool.base import Facts
from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.scan import Scan

STUDY, PATIENT_ID, ACCESSION, STUDY_DATE, SOP_INSTANCE = 0x0020000D, 0x00100020, 0x00080050, 0x00080020, 0x00080018
LONGEST = 256
"""Characters of a name that the index keeps."""


class Headers:
    """See module."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._scanner = HeaderScanner({STUDY, PATIENT_ID, ACCESSION, STUDY_DATE} | layout.tags)

    def read(self, facts: Facts, head: bytes) -> tuple[str, Arrival]:
        """The place that the layout wants, and the arrival without its place. ``head``: the data set's beginning."""
        scan = self._scanner.scan(head, facts.transfer_syntax, True, (facts.source.calling_aet, facts.sop_class_uid))
        values = {tag: scan.texts(tag) for tag in self._layout.tags} if scan is not None else {}
        if SOP_INSTANCE in self._layout.tags and not any(values.get(SOP_INSTANCE, ())):
            values[SOP_INSTANCE] = (facts.sop_instance_uid,)
        study, patient, accession, date = (_first(scan, tag) for tag in (STUDY, PATIENT_ID, ACCESSION, STUDY_DATE))
        return self._layout.render(values), Arrival(0, "", facts, study, patient, accession, date, 0.0)


def _first(scan: Scan | None, tag: int) -> str:
    values = scan.texts(tag) if scan is not None else ()
    return values[0].strip()[:LONGEST] if values else ""
