"""One destination's queue while it reads the journal: arrivals, results and a person's word in the meantime."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from asyncroute.core import outcomes
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Settlement
from asyncroute.core.outcomes import SUCCESS
from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Committed, Group
from asyncroute.link.buffers import ImageBytes
from asyncroute.queue import refill as module
from tests.unit.parts import on_loop, settle_loop, until
from tests.unit.queueing import Queue, queueing

RETRY = outcomes.classify(0x0110)


# --- the journal and the channel at the same time ---------------------------------------------------------------------


def test_what_arrives_during_a_refill_is_neither_lost_nor_doubled(tmp_path: Path) -> None:
    """Written before the claim reads, after it, and while it asks what is due: each goes once."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2, auto=SUCCESS)
            queue.write([1, 2])
            reader = queue.reader
            for event in (reader.before, reader.after, reader.due):
                event.clear()
            await queue.begin()
            queue.admit([3, 4])
            reader.before.set()
            await until(lambda: reader.claims == 1, "the claim")
            await asyncio.sleep(0.05)
            queue.admit([5, 6])
            reader.after.set()
            await until(lambda: reader.asked, "the question what is due")
            queue.admit([7, 8])
            reader.due.set()
            await queue.settled(8)
            await until(queue.idle, "no refill")
            assert sorted(pacs.log) == list(range(1, 9))
            assert set(queue.states().values()) == {"delivered"}
            assert queue.scheduler.tallies["pacs"].backlog.images == 0
            assert queue.ids() == set()

    body()


def image(queue: Queue) -> ImageBytes:
    made = ImageBytes()
    buffer = queue.memory.take(8 << 10)
    made.buffers, made.parts, made.size = [buffer], [buffer.view[:1000]], 1000
    return made


@pytest.mark.parametrize("when", ["before", "after", "due"])
def test_an_image_in_memory_is_sent_from_there_and_let_go_once(tmp_path: Path, when: str) -> None:
    """Two destinations owe it, one of them while it refills: its memory is free when both have it, not before."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs, copy = queue.channel("pacs"), queue.channel("copy")
            getattr(queue.reader, when).clear()
            await queue.begin()
            await settle_loop(20)
            await asyncio.sleep(0.02)
            (made,) = queue.write([1], "pacs", "copy")
            bytes_ = image(queue)
            queue.memory.keep_for_sending(1, bytes_)
            queue.scheduler.admitted(made, bytes_)
            queue.reader.go_on()
            await until(lambda: pacs.busy and copy.busy, "both send it")
            pacs.finish(1)
            assert bytes_.alive == any(x is bytes_ for x in copy.images)
            copy.finish(1)
            await queue.settled(2)
            assert not bytes_.alive
            assert queue.memory.used == 0

    body()


def test_offers_do_not_keep_a_channel_refilling(tmp_path: Path) -> None:
    """An arrival while the refill asks what is due is taken, with its bytes: nothing is before it in the journal."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel()
            queue.reader.due.clear()
            await queue.begin()
            await until(lambda: queue.reader.asked, "the question what is due")
            (made,) = queue.write([1])
            bytes_ = image(queue)
            queue.memory.keep_for_sending(1, bytes_)
            queue.scheduler.admitted(made, bytes_)
            queue.reader.go_on()
            await until(lambda: pacs.busy, "it is sent")
            assert pacs.images == [bytes_]
            assert queue.reader.claims == 1

    body()


def test_a_result_that_comes_while_the_journal_is_read(tmp_path: Path) -> None:
    """The claim saw it ready; by the time it answers the delivery is over: it must not be sent again."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit([1])
            channel = queue.scheduler.channels["pacs"]
            channel.known.discard(1)
            queue.reader.after.clear()
            channel.look_again()
            await until(lambda: queue.reader.claims == 2, "a refill")
            await asyncio.sleep(0.05)
            pacs.finish(1)
            await queue.settled(1)
            queue.reader.go_on()
            await until(queue.idle, "no refill")
            assert pacs.log == [1]

    body()


def test_an_arrival_that_is_over_before_the_reading_ends_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim brought it, too; it was sent while the question what is due was slow."""
    monkeypatch.setattr(module, "FIRST_MOST", 0)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs, channel = queue.channel(lanes=1), queue.scheduler.channels["pacs"]
            await queue.begin()
            queue.admit([1])
            queue.reader.before.clear()
            queue.reader.due.clear()
            asked = queue.reader.asked
            channel.look_again()
            await until(lambda: queue.reader.claims == 2, "a refill")
            (made,) = queue.write([2])
            bytes_ = image(queue)
            queue.memory.keep_for_sending(2, bytes_)
            queue.scheduler.admitted(made, bytes_)
            assert [it.instance_id for it in channel._refill.arrivals] == [2]
            queue.reader.before.set()
            await until(lambda: queue.reader.asked > asked, "the question what is due")
            pacs.finish(1)
            await until(lambda: pacs.sending == [2], "what the claim brought")
            pacs.finish(2)
            await queue.settled(2)
            queue.reader.go_on()
            await until(queue.idle, "no refill")
            await settle_loop(20)
            assert pacs.log == [1, 2]
            assert not bytes_.alive

    body()


def test_a_journal_that_cannot_be_read_is_asked_again_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READER_RETRY", 0.1)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(auto=SUCCESS)
            queue.write([1])
            queue.reader.error = StorageFault("the disk reports an I/O error")
            begun = asyncio.get_running_loop().time()
            await queue.begin()
            await until(lambda: queue.reader.claims >= 3, "three tries")
            assert asyncio.get_running_loop().time() - begun > 0.19
            assert queue.reader.claims == 3
            queue.reader.error = None
            await queue.settled(1)
            assert pacs.log == [1]

    body()


def test_what_the_journal_alone_remembers_goes_when_it_is_due(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.write([1, 2])
            postpone(queue, 2, 0.3)
            pacs = queue.channel(auto=SUCCESS)
            begun = time.time()
            await queue.begin()
            assert pacs.log == [1]
            await queue.settled(2)
            assert pacs.log == [1, 2]
            assert time.time() - begun >= 0.25

    body()


def test_what_becomes_due_between_two_questions_is_not_forgotten(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.write([1])
            pacs = queue.channel(auto=SUCCESS)
            queue.reader.after.clear()
            postpone(queue, 1, 0.2)
            due = time.time() + 0.2
            await queue.begin()
            await until(lambda: time.time() > due + 0.05, "it is due")
            assert pacs.log == []
            queue.reader.go_on()
            await queue.settled(1)

    body()


def postpone(queue: Queue, number: int, seconds: float) -> None:
    now = time.time()
    settlement = Settlement(number, "pacs", DeliveryState.READY, 1, now, 0x0110, "busy", now + seconds)
    queue.journal.commit(Group(settlements=[settlement]))


def test_more_retries_than_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READY_MOST", 50)
    monkeypatch.setattr(module, "READY_LOW", 10)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=4, retry=Backoff(first=1.0, factor=1, max=1.0), auto=RETRY)
            queue.write(range(1, 201))
            await queue.begin()
            await until(lambda: set(pacs.log) == set(range(1, 201)), "all have been tried")
            assert len(queue.scheduler.channels["pacs"]._delayed) <= 50
            pacs.auto = SUCCESS
            await until(lambda: set(queue.states().values()) == {"delivered"}, "all are delivered")
            await until(lambda: not queue.ids(), "all results have come back")
            assert sum(s.state is DeliveryState.DELIVERED for s in queue.results) == 200

    body()


def test_results_that_are_slow_to_become_durable_hold_it_up_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent but not written yet is bounded; as soon as it is written sending goes on."""
    monkeypatch.setattr(module, "READY_MOST", 20)
    monkeypatch.setattr(module, "READY_LOW", 5)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(auto=SUCCESS)
            queue.write(range(1, 201))
            gate, commit = threading.Event(), queue.journal.commit

            def slowly(group: Group) -> Committed:
                assert gate.wait(20)
                return commit(group)

            monkeypatch.setattr(queue.journal, "commit", slowly)
            await queue.begin()
            await until(lambda: len(pacs.log) >= 45 and not pacs.busy, "as many as may wait for the journal")
            await settle_loop(50)
            assert len(pacs.log) <= 2 * 20 + 5 + 20
            gate.set()
            await queue.settled(200)
            assert sorted(pacs.log) == list(range(1, 201))

    body()


# --- a person ---------------------------------------------------------------------------------------------------------


def test_taking_back(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1, retry=Backoff(first=100, max=100))
            await queue.begin()
            queue.admit(range(1, 7))
            pacs.finish(1, RETRY)
            channel = queue.scheduler.channels["pacs"]
            assert pacs.sending == [2]
            assert channel.take_back([1, 2, 3, 5, 77]) == {1, 3, 5, 77}
            for number in (2, 4, 6):
                pacs.finish(number)
            assert pacs.log == [1, 2, 4, 6]

    body()


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_taken_back_does_not_come_again_by_a_refill(tmp_path: Path, when: str) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            queue.write([1, 2])
            getattr(queue.reader, when).clear()
            await queue.begin()
            await until(lambda: queue.reader.claims == 1, "a refill")
            await asyncio.sleep(0.05)
            queue.admit([3, 4])
            assert queue.scheduler.channels["pacs"].take_back([1, 3]) == {1, 3}
            queue.reader.go_on()
            for number in (2, 4):
                await until(lambda: pacs.busy, "the next")
                pacs.finish(number)
            await until(queue.idle, "no refill")
            await settle_loop(20)
            assert pacs.sending == []

    body()
