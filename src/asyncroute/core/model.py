"""The nouns that the stages hand to each other.

Instances are DICOM composite SOP instances as received; a delivery is one instance owed to one destination.
Everything here is plain data: no I/O, no behaviour beyond what the fields imply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from asyncroute.core.batches import Origin
from asyncroute.core.priority import NORMAL
from asyncroute.core.states import DeliveryState

Strand = tuple[int, str, str]
"""(class of priority, the sender's calling AE title, Study Instance UID): deliveries that take turns with others."""


WATCH = "watch:"
"""Begins the ``listener`` of an image that was read from a watched folder. Names of watches have no ``@``."""


def watch_of(listener: str) -> str:
    """The name of the watch that stands in a listener's place; empty: it is a listener."""
    return listener.removeprefix(WATCH) if listener.startswith(WATCH) and "@" not in listener else ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image came from: AE titles without padding, the listener as ``AET@HOST:PORT``, the peer's IP address.

    Of an image that was read from a watched folder ``listener`` is ``watch:NAME``, the called title and the peer empty.
    """

    calling_aet: str
    called_aet: str
    listener: str
    peer: str

    @property
    def watch(self) -> str:
        """The name of the ``[[watch]]`` whose folder it was read from; empty: it was received."""
        return watch_of(self.listener)


@dataclass(frozen=True, slots=True)
class Wait:
    """That an image waits until its study is complete, or its series (``unit``: "study" or "series").

    ``hold_late``: what comes after a completion is held for a person, instead of waiting for another one.
    """

    unit: str
    hold_late: bool = False


@dataclass(frozen=True, slots=True)
class RouteHit:
    """One destination that an image is owed to, the route that said so, and how urgent it is (``core.priority``).

    ``wait`` None: it goes at once. ``groups``: (group, study as groups know it) for which the destination stands as
    their member. ``direct``: a route names the destination itself.
    """

    route: str
    destination: str
    priority: int = NORMAL
    wait: Wait | None = None
    groups: tuple[tuple[str, str], ...] = ()
    direct: bool = True


@dataclass(slots=True)
class Instance:
    """One received SOP instance: a row of the journal and a file of the spool.

    ``id`` is ours, rises with every image and never returns. ``path`` is relative to the spool; ``data_offset`` is the
    length in bytes of preamble and File Meta, ``size`` of the data set behind it, ``checksum`` its XXH3 (64 bits).
    ``received_at`` is seconds since the epoch. Text attributes are decoded; empty where the header has none.
    ``header`` is the data set's beginning as it came, for people; None: it is not known (any more). ``header_length``:
    how many bytes of the data set stand before the pixel data; 0: it is not known.
    """

    id: int
    source: Source
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    received_at: float
    path: str
    data_offset: int = 0
    size: int = 0
    checksum: int = 0
    study_uid: str = ""
    series_uid: str = ""
    patient_id: str = ""
    accession: str = ""
    modality: str = ""
    hold_reason: str | None = None
    header: bytes | None = None
    header_length: int = 0
    hits: tuple[RouteHit, ...] = ()
    origin: Origin | None = None
    """The file that it was read from; None: it was received."""

    def unit_uid(self, wait: Wait) -> str:
        """The UID of the study or series that ``wait`` is for."""
        return self.study_uid if wait.unit == "study" else self.series_uid


class Sent(NamedTuple):
    """What a transform (``transform``: its name) has made of an image for one destination, as far as it is remembered.

    UIDs are those of what is sent. ``changes``: JSON, ``[[attribute, before, after, step], ...]``, for people.
    """

    transform: str
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    changes: str = "[]"


@dataclass(slots=True)
class Delivery:
    """One instance owed to one destination, as claimed from the queue: all that a lane needs to send it.

    ``listener`` is as in ``Source``. ``attempts`` counts charged attempts so far; ``not_before`` is seconds since the
    epoch (0: at once). ``since``: when it was queued, or made ready again by a person, on the journal's clock
    (``journal.base.Writer.clock``).
    """

    instance_id: int
    destination: str
    route: str
    calling_aet: str
    called_aet: str
    listener: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    study_uid: str
    path: str
    data_offset: int
    size: int
    checksum: int
    queued_at: float
    attempts: int = 0
    not_before: float = 0.0
    since: float = 0.0
    priority: int = NORMAL
    image: object | None = field(default=None, repr=False, compare=False)
    """The image's bytes while they are still in memory (a ``link.buffers`` image), else ``None``: read the file."""
    series_uid: str = ""
    patient_id: str = ""
    peer: str = ""
    received_at: float = 0.0
    header_length: int = 0
    sent: Sent | None = field(default=None, repr=False, compare=False)
    """What goes out instead of what came, where a transform makes another image of it; a lane says so."""

    @property
    def strand(self) -> Strand:
        """See ``Strand``."""
        return self.priority, self.calling_aet, self.study_uid


class Settlement(NamedTuple):
    """The result of one attempt at one delivery, on its way into the journal.

    ``state`` is DELIVERED, FAILED, DISCARDED or READY (a retry: with ``not_before``). ``status`` is the DIMSE status,
    ``None`` where there was none. ``error`` is one line for a person; empty on clean success. ``unproven``: where it is
    DELIVERED, the destination has yet to prove it (``core.proof``). ``sent``: what it was sent as; None: as it came.
    """

    instance_id: int
    destination: str
    state: DeliveryState
    attempts: int
    at: float
    status: int | None = None
    error: str = ""
    not_before: float = 0.0
    unproven: bool = False
    sent: Sent | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries or held images a person means: all conditions given must hold; none given means all."""

    states: tuple[DeliveryState, ...] = ()
    destination: str | None = None
    sop_instance_uid: str | None = None
    study_uid: str | None = None
    accession: str | None = None
    instance_ids: Sequence[int] | None = None
    error: str | None = None
    """Part of the last error (of held images: of the reason), in small or capital letters."""
    before: float | None = None
    """Queued (held images: received) before then, in seconds since the epoch."""
