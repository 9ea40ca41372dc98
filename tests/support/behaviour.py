"""What a receiving peer does, well or badly: plain data that travels to the receiver's process as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.support.ports import HOST

SUCCESS = 0x0000


@dataclass
class Behaviour:
    """One receiver's conduct. The default accepts everything and answers success at once.

    ``trouble_first`` limits the troubles marked (*) to that many associations, counted from when the behaviour was
    set; ``None``: for ever. Times in seconds, sizes in bytes.
    """

    host: str = HOST
    """The address to listen on."""
    called: str | None = None
    """Refuse other called AE titles with RJ 1/1/7."""
    max_pdu: int = 131072
    delay: float = 0.0
    """Before each C-STORE response."""
    echo_status: int = SUCCESS
    status: int = SUCCESS
    status_of: dict[str, int] = field(default_factory=dict)
    """By SOP Instance UID."""
    statuses: list[int] = field(default_factory=list)
    """For the first C-STOREs in order of arrival; then ``status``."""
    comment: str = ""
    """The Error Comment of answers other than success."""
    reject: tuple[int, int, int] | None = None
    """(*) Result, source, reason."""
    reject_calling: list[str] = field(default_factory=list)
    """Only these calling AE titles get ``reject``; empty: all."""
    with_ac: str = ""
    """(*) Sent in one write with the AC: "abort", "release" or "half" (a PDU)."""
    abort_after: int | None = None
    """(*) A-ABORT after so many bytes of data sets in an association."""
    reset_after: int | None = None
    """(*) TCP reset instead."""
    abort_on: list[str] = field(default_factory=list)
    """A-ABORT as soon as a C-STORE-RQ names one of these SOP instances."""
    close_at_connect: bool = False
    """(*)"""
    mute: str = ""
    """(*) "association": no answer to the RQ; "store": none to a C-STORE; "read": stops reading after the AC."""
    only_transfer: list[str] = field(default_factory=list)
    """Transfer syntaxes accepted; empty: all (the first proposed)."""
    refuse_classes: list[str] = field(default_factory=list)
    """Abstract syntaxes answered with result 3."""
    max_associations: int = 0
    """At once; more get RJ 2/3/2. 0: no limit."""
    max_images: int = 0
    """Per association; A-ABORT after the last one's answer. 0: no limit."""
    odd_ac: str = ""
    """(*) Sent in the AC's place, a name of ``odd_answers.ASSOCIATION``; the connection stays."""
    odd_response: str = ""
    """(*) Sent in the place of a C-STORE response, a name of ``odd_answers.RESPONSES``; the connection stays."""
    odd_for: list[str] = field(default_factory=list)
    """Only these SOP instances get ``odd_response``; empty: all."""
    read_rate: float = 0.0
    """Bytes a second that are read in an association; 0: all that come."""
    receive_buffer: int = 0
    """Of the sockets (SO_RCVBUF, from ``start`` on); 0: as the kernel thinks best."""
    keep_in: str = ""
    """A folder: each data set is written there as ``NUMBER.dataset``."""
    trouble_first: int | None = None
    tls: dict[str, str] = field(default_factory=dict)
    """"certificate", "key" and, to demand client certificates, "client_ca": file names."""

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(line: str) -> Behaviour:
        """The reverse of ``to_json``."""
        values: dict[str, Any] = json.loads(line)
        if values["reject"] is not None:
            values["reject"] = tuple(values["reject"])
        return Behaviour(**values)


@dataclass(frozen=True)
class Stored:
    """One C-STORE-RQ that arrived whole. ``at``: the monotonic clock at its last byte; ``status``: the answer."""

    association: int
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    calling: str
    called: str
    size: int
    sha256: str
    status: int
    at: float
    number: int

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """As ``Image.identity``."""
        return self.sop_class, self.sop_instance, self.transfer_syntax, self.sha256


@dataclass(frozen=True)
class Event:
    """Something that happened: connect, open, rejected, echo, released, aborted, closed, reset, we-aborted, ..."""

    at: float
    association: int
    kind: str
    detail: str = ""


@dataclass(frozen=True)
class Tally:
    """Counters since the receiver was made."""

    connections: int
    associations: int
    current: int
    most_at_once: int
    stored: int
    echoes: int
    rejected: int
