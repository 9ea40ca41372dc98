"""What a journal tells people: rows of lists, and sums. Plain data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class QueueRow:
    """One line of ``queue list``: a delivery, or a held image (``destination`` empty)."""

    instance_id: int
    destination: str
    route: str
    state: str
    attempts: int
    not_before: float
    queued_at: float
    last_status: int | None
    last_error: str
    calling_aet: str
    sop_instance_uid: str
    study_uid: str
    accession: str
    patient_id: str
    modality: str
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """Images of one study, accession number, patient and source; ``bytes`` of their data sets."""

    study_uid: str
    accession: str
    patient_id: str
    calling_aet: str
    images: int
    bytes: int
    held: int
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """How much the journal remembers: ``images`` of those ``received``; all since ``since`` (None: nothing is there).

    ``pruned``: some were forgotten, because they were over and older than the history that is kept.
    """

    images: int
    received: int
    pruned: bool
    since: float | None
