"""An association with a scripted destination, and one who uses it and keeps what he is told."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from asyncroute.core.outcomes import Outcome
from asyncroute.forward.association import Requestor, connect
from asyncroute.link.negotiate import Proposal
from tests.support import ul
from tests.unit.answering import Script, Server, serving, sharing, target
from tests.unit.parts import CT, EXPLICIT_LE, until

PROPOSAL = Proposal("CT_A", "PACS", 131072, ((CT, (EXPLICIT_LE,)), (ul.VERIFICATION, (ul.IMPLICIT_LE,))))


class Owner:
    """Who uses an association: keeps what it is told, and gives the rest of a data set when there is room."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.early: list[bool] = []
        self.losses: list[Outcome] = []
        self.rest: list[bytes] = []
        self.requestor: Requestor | None = None

    def responded(self, status: int, comment: str, early: bool = False) -> None:
        self.answers.append((status, comment))
        self.early.append(early)

    def room(self) -> None:
        if self.rest:
            assert self.requestor is not None
            self.requestor.more([memoryview(self.rest.pop(0))])

    def lost(self, outcome: Outcome) -> None:
        self.losses.append(outcome)

    @property
    def told(self) -> int:
        return len(self.answers) + len(self.losses)

    async def wait(self, count: int) -> None:
        """Wait until so much has been told."""
        await until(lambda: self.told >= count, f"{count} answers or ends")


@asynccontextmanager
async def associated(
    script: Script, server_tls: ssl.SSLContext | None = None, **more: object
) -> AsyncIterator[tuple[Requestor, Owner, Server]]:
    """An established association with a server that runs ``script``."""
    async with sharing() as shared, serving(script, server_tls) as server:
        requestor = await connect(target(server.port, **more), PROPOSAL, shared)
        owner = requestor.owner = Owner()
        owner.requestor = requestor
        try:
            yield requestor, owner, server
        finally:
            requestor.close()


def store(requestor: Requestor, data: bytes, parts: Sequence[bytes] | None = None, uid: str = "1.2.3") -> None:
    """C-STORE from memory."""
    assert requestor.peer is not None
    context = requestor.peer.contexts[CT, EXPLICIT_LE]
    requestor.store(context, CT, uid, len(data), [memoryview(part) for part in parts or [data] if part])


def cuts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
