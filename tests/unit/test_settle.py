"""Results on their way to the journal, with an event where there is something to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.commit import Committer
from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Event
from asyncroute.settle import Settler
from tests.unit.parts import on_loop
from tests.unit.queueing import queueing

S = DeliveryState


class Notes(Committer):
    """A committer that only writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Settlement, Event | None]] = []

    def settle(self, settlement: Settlement, event: Event | None = None) -> None:
        self.told.append((settlement, event))


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        (S.DELIVERED, "", None),
        (S.DELIVERED, "0xB000 coercion", "warning"),
        (S.READY, "0x0110 processing failure", "retry"),
        (S.FAILED, "no context", "failed"),
        (S.DISCARDED, "", "discarded"),
    ],
)
def test_events(state: DeliveryState, error: str, kind: str | None) -> None:
    notes = Notes()
    settlement = Settlement(7, "pacs", state, 2, 12.5, 0x0110, error)
    Settler(notes).settle(settlement)
    ((told, event),) = notes.told
    assert told is settlement
    assert event == (Event(12.5, kind, error, 7, "pacs") if kind else None)


def test_they_are_in_the_journal_together(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.channel("pacs")
            queue.write([1])
            Settler(queue.committer).settle(Settlement(1, "pacs", S.FAILED, 1, 1.0, 0x0122, "not supported"))
            await queue.settled(1)
            assert queue.states() == {1: "failed"}
            events = queue.journal._connection.execute("SELECT kind, text, instance, destination FROM event").fetchall()
            assert events == [("failed", "not supported", 1, "pacs")]

    body()
