"""What was negotiated lately, so that the same question costs microseconds: who associates anew repeats it to the byte.

Guarantees: bounded (``KEPT_ENTRIES`` of at most ``KEPT_BYTES`` each); safe in any thread; the answer is the one that
negotiating anew would give.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from asyncroute.link.associate import VARIABLE, Established, Proposal

KEPT_ENTRIES: Final = 256
KEPT_BYTES: Final = 16384

_CALLING: Final = 26
"""Where the calling AE title stands in an A-ASSOCIATE-RQ or -AC (PS3.8 tables 9-11, 9-17)."""

_RESERVED: Final = 42
"""Where it is over."""

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """The latest entries; those used last are kept longest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_K, _V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: _K) -> _V | None:
        """What was kept under ``key``, unless that is too long ago."""
        with self._lock:
            if (answer := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
            return answer

    def keep(self, key: _K, answer: _V) -> None:
        """Keep it; the one that was not asked for the longest time may go."""
        with self._lock:
            self._kept[key] = answer
            if len(self._kept) > KEPT_ENTRIES:
                self._kept.popitem(last=False)


_Asked = tuple[str, int, tuple[tuple[str, tuple[str, ...]], ...], str, str, tuple[str, ...]]


class Agreed:
    """Our requests, and what their acceptance meant. The calling AE title makes no difference to either but for the
    request's bytes, so that hundreds of titles share an entry."""

    def __init__(self) -> None:
        self.requests = Recent[_Asked, bytes]()
        self.conclusions = Recent[tuple[_Asked, bytes], Established]()

    def request(self, proposal: Proposal) -> bytes | None:
        """The A-ASSOCIATE-RQ PDU, if the like was asked lately: microseconds, on any thread."""
        known = self.requests.get(_asked(proposal))
        if known is None:
            return None
        return known[:_CALLING] + proposal.calling_aet.encode().ljust(_RESERVED - _CALLING) + known[_RESERVED:]

    def keep_request(self, proposal: Proposal, pdu: bytes) -> None:
        """``pdu`` is the A-ASSOCIATE-RQ for ``proposal``."""
        if len(pdu) <= KEPT_BYTES:
            self.requests.keep(_asked(proposal), pdu)

    def conclusion(self, proposal: Proposal, pdu: bytes) -> Established | None:
        """What the A-ASSOCIATE-AC means, if the like was accepted lately: microseconds, on any thread."""
        if not VARIABLE <= len(pdu) <= KEPT_BYTES:
            return None
        return self.conclusions.get((_asked(proposal), _untitled(pdu)))

    def keep_conclusion(self, proposal: Proposal, pdu: bytes, conclusion: Established) -> None:
        """This is what ``pdu`` means."""
        if len(pdu) <= KEPT_BYTES:
            self.conclusions.keep((_asked(proposal), _untitled(pdu)), conclusion)


def _asked(proposal: Proposal) -> _Asked:
    return (
        proposal.called_aet,
        proposal.max_pdu,
        proposal.contexts,
        proposal.implementation_uid,
        proposal.implementation_version,
        proposal.scp_of,
    )


def _untitled(pdu: bytes) -> bytes:
    """An A-ASSOCIATE-AC without the titles, which are not to be tested (PS3.8 table 9-17)."""
    return pdu[:10] + pdu[_RESERVED:]
