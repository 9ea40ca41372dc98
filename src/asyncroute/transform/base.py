"""What a transform is to those who use it (forwarding, `explain`, `plan`, tests in the configuration).

Guarantees: `Transform.apply` does no I/O, keeps no state and is the same for the same header, facts and secret, so that
it may run on the loop, in a thread or in a worker process, and as often as an image is tried.
Failures: `Refused`, with a reason for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Facts(NamedTuple):
    """What is known of an image besides its attributes; what templates may name."""

    calling_aet: str = ""
    called_aet: str = ""
    listener: str = ""
    peer: str = ""
    watch: str = ""
    route: str = ""
    destination: str = ""
    received_at: float = 0.0
    """Seconds since the epoch."""


class Header(NamedTuple):
    """The beginning of a data set: every element before the pixel data, as encoded (deflated: inflated)."""

    data: bytes | memoryview
    transfer_syntax: str
    sop_class_uid: str
    sop_instance_uid: str
    whole: bool = True
    """Whether nothing follows it, as in a data set without pixel data."""


class Change(NamedTuple):
    """One attribute that is another now, for people. ``attribute``: a keyword or ``(gggg,eeee)``, nested with ``.``."""

    attribute: str
    before: str | None
    """None: it was not there."""
    after: str | None
    """None: it is there no more."""
    step: str
    """Which one did it: ``site-a, step 2 (prefix)``."""


@dataclass(frozen=True, slots=True)
class Link:
    """What stands for an original value in an image that was de-identified.

    Whoever sends the image makes its links durable first, so that a person can find the way back. ``kind``: one of
    ``patient``, ``name``, ``study``, ``series``, ``accession``, ``shift`` (days by which dates were moved).
    """

    kind: str
    original: str
    pseudonym: str


class Edited(NamedTuple):
    """What ``apply`` made: the header to send instead.

    ``links``: to be durable before it is sent. ``anonymous``: nothing else that goes out with it, such as File Meta,
    may say where it is from (PS3.15 §E.1.1).
    """

    data: bytes | memoryview
    sop_class_uid: str
    sop_instance_uid: str
    changes: tuple[Change, ...] = ()
    links: tuple[Link, ...] = ()
    anonymous: bool = False


class Refused(Exception):
    """This image does not go out like this. ``drop``: by a user's function that wants it discarded, not held."""

    def __init__(self, reason: str, drop: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.drop = drop


class Tail(Protocol):
    """Edits a stream of bytes, piece by piece: what comes behind the header, or a deflated data set. Sans-io.

    Memory is bounded. Both methods raise `Refused` where the bytes cannot be read for sure; what was handed out before
    must then not count as sent.
    """

    def feed(self, data: memoryview) -> Sequence[bytes | memoryview]:
        """The next piece of what was received; what of it goes on."""
        ...

    def finish(self) -> Sequence[bytes | memoryview]:
        """The end was reached."""
        ...


class Transform(Protocol):
    """All steps that one route asks for, in order."""

    @property
    def name(self) -> str:
        """For people: ``site-a`` or ``site-a + research``."""
        ...

    @property
    def quick(self) -> bool:
        """Whether ``apply`` may run on the loop: some 0.1 ms at most, and no code of users."""
        ...

    @property
    def edits_tail(self) -> bool:
        """Whether elements after the pixel data may be changed, so that ``tail`` has to be asked."""
        ...

    def apply(self, header: Header, facts: Facts) -> Edited:
        """The header after all steps.

        Raises:
            Refused: it does not go out like this.
        """
        ...

    def tail(self, header: Header) -> Tail:
        """What edits the rest of that image, from the pixel data on."""
        ...

    def deflated(self, header: Header, edited: Edited) -> Tail:
        """For a deflated transfer syntax: what turns the whole data set, as received, into the one to send.

        `edited` is what ``apply`` made of `header` (the inflated beginning); elements behind it are edited as by
        ``tail``, and everything is inflated and deflated again as a stream.
        """
        ...
