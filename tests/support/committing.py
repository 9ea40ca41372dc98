"""An archive that a test directs: it stores, takes Storage Commitment requests, and reports when and how it is told.

Made of pynetdicom, which knows nothing of ours.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, build_role, evt

from tests.support.ports import HOST, free_port
from tests.support.waiting import wait_until

PUSH_MODEL = "1.2.840.10008.1.20.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
NATIVE = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]


@dataclass
class Request:
    """What was asked. ``association``: pynetdicom's, on which it came."""

    calling: str
    transaction: str
    references: list[tuple[str, str]]
    association: Any

    @property
    def uids(self) -> list[str]:
        """SOP Instance UIDs."""
        return [uid for _, uid in self.references]


def references_of(data_set: Dataset, sequence: str = "ReferencedSOPSequence") -> list[tuple[str, str]]:
    """(SOP class, SOP instance) of each item."""
    return [
        (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in data_set.get(sequence) or ()
    ]


def report(transaction: str, good: Iterable[tuple[str, str]], bad: Mapping[tuple[str, str], int]) -> Dataset:
    """The Event Information of a report."""
    made = Dataset()
    made.TransactionUID = transaction
    if bad:
        made.FailedSOPSequence = [_item(*names, reason) for names, reason in bad.items()]
    made.ReferencedSOPSequence = [_item(*names) for names in good]
    if not made.ReferencedSOPSequence:
        del made.ReferencedSOPSequence
    return made


def _item(sop_class: str, uid: str, reason: int | None = None) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = sop_class, uid
    if reason is not None:
        made.FailureReason = reason
    return made


class Archive:
    """See module. ``answer``: status of each N-ACTION; ``on_request``: called with it in a thread of its own.
    ``takes``: transfer syntaxes besides the usual ones."""

    def __init__(
        self, title: str = "PACS", reports_to: int = 0, commits: bool = True, port: int = 0, takes: Sequence[str] = ()
    ) -> None:
        self.title, self.reports_to = title, reports_to
        self.port = port or free_port()
        self.stored: list[str] = []
        self.requests: list[Request] = []
        self.answer = 0
        self.on_request: Callable[[Request], None] = lambda request: None
        self._ae = AE(ae_title=title)
        self._ae.supported_contexts = StoragePresentationContexts
        for context in StoragePresentationContexts if takes else ():
            self._ae.add_supported_context(str(context.abstract_syntax), list(takes))
        self._ae.add_supported_context("1.2.840.10008.1.1")
        if commits:
            self._ae.add_supported_context(PUSH_MODEL, NATIVE)
        self._server: Any = None
        self._sockets: list[Any] = []

    def __enter__(self) -> Archive:
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._action),
        ]
        self._server = self._ae.start_server((HOST, self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        for sock in self._sockets:
            sock.close()

    def _opened(self, event: Any) -> None:
        """Remember its socket: pynetdicom forgets to close it where the peer dies."""
        self._sockets.append(event.assoc.dul.socket.socket)

    def _store(self, event: Any) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _action(self, event: Any) -> tuple[int, None]:
        asked = event.action_information
        request = Request(event.assoc.requestor.ae_title, str(asked.TransactionUID), references_of(asked), event.assoc)
        if not self.answer:
            self.requests.append(request)
            threading.Thread(target=self.on_request, args=(request,), daemon=True).start()
        return self.answer, None

    def wait_requests(self, count: int) -> list[Request]:
        """Wait for so many requests in all."""
        wait_until(lambda: len(self.requests) >= count, 30, f"{count} commitment requests", lambda: self.requests)
        return self.requests

    # ---- reports

    def commit(self, request: Request) -> None:
        """Report on a new association that all is committed; insists on success."""
        assert self.say(request.transaction, request.references) == 0

    def say(
        self, transaction: str, good: Iterable[tuple[str, str]], bad: Mapping[tuple[str, str], int] | None = None
    ) -> int:
        """Report on a new association; the status of the answer."""
        ae = AE(ae_title=self.title)
        ae.add_requested_context(PUSH_MODEL)
        role = build_role(PUSH_MODEL, scp_role=True)
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, self._opened)]
        association = ae.associate(HOST, self.reports_to, ae_title="ASYNCROUTE", ext_neg=[role], evt_handlers=handlers)
        try:
            assert association.is_established, "no association for a report"
            return send_report(association, report(transaction, good, bad or {}))
        finally:
            association.release()

    def say_there(self, request: Request) -> int:
        """Report on the association of the request that all is committed; the status of the answer."""
        return send_report(request.association, report(request.transaction, request.references, {}))


class Modality:
    """A sender that asks us to commit, and takes reports where it listens. ``answer``: status of its answers."""

    def __init__(self, title: str = "CT", tls: ssl.SSLContext | None = None) -> None:
        """``tls``: it takes reports with TLS only."""
        self.title, self.port, self._tls = title, free_port(), tls
        self.answer = 0
        self.reports: list[Dataset] = []
        self._ae = AE(ae_title=title)
        self._ae.add_supported_context(PUSH_MODEL, NATIVE, scu_role=False, scp_role=True)
        self._server: Any = None
        self._sockets: list[Any] = []

    def __enter__(self) -> Modality:
        where = (HOST, self.port)
        self._server = self._ae.start_server(where, False, evt_handlers=self._handlers(), ssl_context=self._tls)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        for sock in self._sockets:
            sock.close()

    def _handlers(self) -> list[Any]:
        return [(evt.EVT_CONN_OPEN, self._opened), (evt.EVT_N_EVENT_REPORT, self._reported)]

    def _opened(self, event: Any) -> None:
        self._sockets.append(event.assoc.dul.socket.socket)

    def _reported(self, event: Any) -> tuple[int, None]:
        if not self.answer:
            self.reports.append(event.event_information)
        return self.answer, None

    def associate(self, port: int, syntaxes: list[str] | None = None) -> Any:
        """A pynetdicom association with the router."""
        ae = AE(ae_title=self.title)
        ae.add_requested_context(PUSH_MODEL, syntaxes or NATIVE)
        association = ae.associate(HOST, port, ae_title="ASYNCROUTE", evt_handlers=self._handlers())
        assert association.is_established
        return association

    def ask(self, port: int, transaction: str, references: Iterable[tuple[str, str]], **more: Any) -> int:
        """Ask on an association that then ends; the status of the answer."""
        association = self.associate(port, **more)
        try:
            return ask_on(association, transaction, references)
        finally:
            association.release()

    def wait_report(self, count: int = 1, deadline: float = 30) -> tuple[list[str], dict[str, int]]:
        """Wait for so many reports in all; SOP instances that are committed in the last, and failed by reason."""
        wait_until(lambda: len(self.reports) >= count, deadline, f"{count} reports", lambda: self.reports)
        last = self.reports[-1]
        failed = {str(it.ReferencedSOPInstanceUID): int(it.FailureReason) for it in last.get("FailedSOPSequence") or ()}
        return [uid for _, uid in references_of(last)], failed


def ask_on(association: Any, transaction: str, references: Iterable[tuple[str, str]], kind: int = 1) -> int:
    """N-ACTION on a pynetdicom association; the status of the answer."""
    status, _ = association.send_n_action(report(transaction, references, {}), kind, PUSH_MODEL, WELL_KNOWN)
    assert status, "no answer to a request"
    return int(status.Status)


def send_report(association: Any, told: Dataset) -> int:
    """Send a report on a pynetdicom association; the status of the answer."""
    kind = 2 if "FailedSOPSequence" in told else 1
    status, _ = association.send_n_event_report(told, kind, PUSH_MODEL, WELL_KNOWN)
    assert status, "no answer to a report"
    return int(status.Status)
