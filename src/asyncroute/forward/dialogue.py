"""Associations of the rarer services: requests with a data set, and what a peer asks on the same association.

A ``Dialogue`` is a ``Requestor`` whose messages are awaited one at a time (N-ACTION, N-EVENT-REPORT, C-FIND). It takes
N-EVENT-REPORT requests of the peer, too, at any time, and pending responses with their data sets.
Guarantees: a data set from the peer is at most ``MAX_DATA`` bytes. Failures: ``Failed`` with the outcome, as in
``forward.association``.
"""

from __future__ import annotations

from collections.abc import Callable

from asyncroute.core import outcomes
from asyncroute.forward.association import Answer, Requestor
from asyncroute.forward.dial import Failed, Shared, Target
from asyncroute.link.stream import Stream
from asyncroute.wire import command as dimse
from asyncroute.wire.elements import Odd
from asyncroute.wire.pdata import (
    COMMAND,
    LAST,
    REASON_INVALID,
    REASON_UNEXPECTED,
    DataCutter,
    ProtocolError,
    command_pdus,
    pdu_room,
)

MAX_DATA = 4 << 20

Event = Callable[[int, dimse.Command, bytes], None]
"""A peer's N-EVENT-REPORT request: context id, command set, data set. ``Dialogue.respond`` is to follow."""


class Dialogue(Requestor):
    """See module; made by ``forward.association.connect_as``."""

    def __init__(self, stream: Stream, target: Target, shared: Shared) -> None:
        super().__init__(stream, target, shared)
        self.on_event: Event | None = None
        self.on_match: Callable[[bytes], None] | None = None
        self._incomplete: tuple[int, dimse.Command, bytes] | None = None
        self._data = bytearray()

    async def exchange(
        self, context_id: int, field: int, instance: str, command: bytes, data: bytes
    ) -> tuple[int, str]:
        """Send a request and its data set; status and comment of the response. ``command`` has ``next_message``.

        Raises:
            Failed: the association is over.
        """
        if self.ended or self.peer is None:
            raise Failed(outcomes.lost("the association is over", image_in_flight=False))
        self.owner = answer = Answer()
        self._begin(field, instance)
        self._all_sent = False
        room = pdu_room(self.peer.peer_max_pdu, self.target.max_pdu)
        self._cutter, self._to_cut = DataCutter(context_id, len(data), room), len(data)
        self._send((memoryview(data),), [command_pdus(context_id, command, room)])
        return await answer.came

    def respond(self, context_id: int, command: dimse.Command, status: int, comment: str = "") -> None:
        """The response to a request of the peer."""
        if not self.ended and self.peer is not None:
            room = pdu_room(self.peer.peer_max_pdu, self.target.max_pdu)
            self.write(command_pdus(context_id, dimse.response(command, status, comment), room))

    # ---- reading

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """A piece of a command set or of a data set."""
        if self._releasing:
            return
        if control & COMMAND:
            self._command_piece(context_id, control, self.piece(lo, hi))
        else:
            self._data_piece(context_id, control, self.piece(lo, hi))

    def _command_piece(self, context_id: int, control: int, piece: bytes) -> None:
        if self.peer is None or self._incomplete or len(self._command) + len(piece) > dimse.MAX_COMMAND:
            raise ProtocolError("unexpected command set", REASON_UNEXPECTED)
        self._command += piece
        if control & LAST:
            data, self._command = self._command, b""
            command = dimse.parse(data)
            if command.has_data_set:
                self._incomplete = context_id, command, data
            else:
                self._message(context_id, command, data, b"")

    def _data_piece(self, context_id: int, control: int, piece: bytes) -> None:
        if self._incomplete is None or self._incomplete[0] != context_id:
            raise ProtocolError("unexpected data set", REASON_UNEXPECTED)
        if len(self._data) + len(piece) > MAX_DATA:
            raise ProtocolError(f"a data set over {MAX_DATA} bytes", REASON_INVALID)
        self._data += piece
        if control & LAST:
            (_, command, raw), self._incomplete = self._incomplete, None
            data, self._data = bytes(self._data), bytearray()
            self._message(context_id, command, raw, data)

    def _message(self, context_id: int, command: dimse.Command, raw: bytes, data: bytes) -> None:
        field = command.number(dimse.FIELD)
        if field == dimse.N_EVENT_REPORT_RQ and self.on_event is not None:
            self.on_event(context_id, command, data)
        elif not field & dimse.RESPONSE:
            self.respond(context_id, command, dimse.UNRECOGNIZED_OPERATION)
        elif command.number(dimse.STATUS) & 0xFF00 == 0xFF00 and self.on_match is not None and self.busy:
            if command.number(dimse.RESPONDED_TO) != self._message_id:
                raise ProtocolError("a message that answers nothing of ours", REASON_UNEXPECTED)
            self._wait()  # it is alive
            self._match(data)
        else:
            self._responded(raw)

    def _match(self, data: bytes) -> None:
        assert self.on_match is not None
        try:
            self.on_match(data)
        except Odd as odd:
            raise ProtocolError(f"a response that cannot be read: {odd}", REASON_INVALID) from None
