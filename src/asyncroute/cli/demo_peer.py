"""A receiving DICOM peer for ``asyncroute demo``, in a process of its own: digests what comes and says so.

``python -m asyncroute.cli.demo_peer AET`` prints ``{"port": N}``, then one line of JSON per image, and ends when its
standard input does: whoever started it need not be there to stop it.
Guarantees: the digest is of the data set's bytes as they came, in the transfer syntax that was negotiated; nothing is
decoded or kept. Failures: an association that breaks the protocol is aborted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final, cast

from asyncroute.link import negotiate
from asyncroute.wire import command as dimse
from asyncroute.wire.pdata import (
    ABORT,
    ASSOCIATE_RQ,
    COMMAND,
    LAST,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    PduReader,
    ProtocolError,
    data_pdu,
)

HOST: Final = "127.0.0.1"
MAX_PDU: Final = 128 << 10


class Association(asyncio.Protocol):
    """One association, from connection to close (``wire.pdata.Sink``)."""

    number = 0

    def __init__(self, policy: negotiate.AcceptorPolicy) -> None:
        Association.number += 1
        self.number = Association.number
        self._policy = policy
        self._reader = PduReader(self, MAX_PDU)
        self._view = memoryview(b"")
        self._contexts: Mapping[int, negotiate.Context] = {}
        self._calling = ""
        self._command = bytearray()
        self._request: dimse.Command | None = None
        self._digest = hashlib.sha256()
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._view = memoryview(data)
        try:
            self._reader.feed(self._view, 0, len(data))
        except ProtocolError as error:
            self._end(negotiate.abort(2, error.reason))

    def pdu(self, kind: int, body: bytes) -> None:
        """See ``wire.pdata.Sink``."""
        if kind == ASSOCIATE_RQ:
            self._answer(bytes((kind, 0)) + len(body).to_bytes(4, "big") + body)
        elif kind == RELEASE_RQ:
            self._end(RELEASE_RP_PDU)
        elif kind == ABORT:
            self._end(b"")
        else:
            raise ProtocolError(f"unexpected PDU type {kind:02X}H")

    def _answer(self, rq: bytes) -> None:
        answer = negotiate.accept(rq, self._policy)
        if not isinstance(answer, negotiate.Accepted):
            self._end(answer.pdu)
            return
        self._contexts, self._calling = answer.contexts, answer.calling_aet
        self._transport.write(answer.pdu)

    def _end(self, last_pdu: bytes) -> None:
        self._reader.stopped = True
        self._transport.write(last_pdu)
        self._transport.close()

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """See ``wire.pdata.Sink``."""
        if control & COMMAND:
            self._command += self._view[lo:hi]
            if control & LAST:
                self._commanded(context_id)
            return
        self._digest.update(self._view[lo:hi])
        self._size += hi - lo
        if control & LAST:
            self._stored(context_id)

    def _commanded(self, context_id: int) -> None:
        request = dimse.parse(self._command)
        self._command = bytearray()
        if request.number(dimse.FIELD) == dimse.C_STORE_RQ:
            self._request, self._digest, self._size = request, hashlib.sha256(), 0
        else:
            self._respond(context_id, request)

    def _stored(self, context_id: int) -> None:
        request, context = self._request, self._contexts.get(context_id)
        if request is None or context is None:
            raise ProtocolError("a data set without a request")
        tell(
            {
                "association": self.number,
                "calling": self._calling,
                "sop_class": request.text(dimse.AFFECTED_CLASS),
                "sop_instance": request.text(dimse.AFFECTED_INSTANCE),
                "transfer_syntax": context.transfer_syntax,
                "size": self._size,
                "sha256": self._digest.hexdigest(),
            }
        )
        self._request = None
        self._respond(context_id, request)

    def _respond(self, context_id: int, request: dimse.Command) -> None:
        self._transport.write(data_pdu(context_id, COMMAND | LAST, dimse.response(request, dimse.SUCCESS)))


def tell(fact: Mapping[str, Any]) -> None:
    """One line on standard output."""
    print(json.dumps(fact), flush=True)


async def serve(ae_title: str) -> None:
    """Receive until standard input ends."""
    loop = asyncio.get_running_loop()
    policy = negotiate.AcceptorPolicy(ae_title, MAX_PDU)
    server = await loop.create_server(lambda: Association(policy), HOST, 0)
    tell({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this
    asyncio.run(serve(sys.argv[1]))
