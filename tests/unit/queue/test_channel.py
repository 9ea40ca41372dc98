"""One destination's queue over a real journal: nothing lost, nothing twice, nothing beyond its bounds."""

from __future__ import annotations

import asyncio
import random
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
from asyncroute.queue import breaker as breaker_module
from asyncroute.queue import channel as module
from asyncroute.queue.breaker import THRESHOLD
from asyncroute.queue.channel import READY_LOW, READY_MOST, SKIPS
from tests.unit.parts import CT, JPEG, MR, delivery, instance, on_loop, settle_loop, until
from tests.unit.queueing import Queue, Site, queueing

GONE = outcomes.refused()
LOST = outcomes.lost("aborted by the peer", image_in_flight=True)
RETRY = outcomes.classify(0x0110)


# --- what goes on which lane ------------------------------------------------------------------------------------------


def test_as_many_at_once_as_the_window_in_order(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=3)
            await queue.begin()
            queue.admit(range(1, 8))
            assert pacs.sending == [1, 2, 3]
            pacs.finish(2)
            assert pacs.log == [1, 2, 3, 4]
            for number in (4, 1, 3, 5, 6, 7):
                pacs.finish(number)
            assert pacs.log == [1, 2, 3, 4, 5, 6, 7]
            assert pacs.opened == pacs.open == 3
            await queue.settled(7)
            assert set(queue.states().values()) == {"delivered"}
            assert queue.ids() == set()

    body()


def test_what_the_journal_holds_at_the_start(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.write(range(1, 6))
            pacs = queue.channel(lanes=2, auto=SUCCESS)
            await queue.begin()
            await queue.settled(5)
            assert pacs.log == [1, 2, 3, 4, 5]
            assert queue.scheduler.tallies["pacs"].backlog.images == 0

    body()


def test_a_backlog_beyond_memory_goes_in_its_order(tmp_path: Path) -> None:
    """New arrivals wait behind what is in the journal; what is held in memory stays bounded."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.write(range(1, 2001))
            pacs = queue.channel(lanes=4)
            await queue.begin()
            queue.admit(range(2001, 2501))
            assert len(queue.ids()) <= READY_MOST + 4
            pacs.auto = SUCCESS
            for hand in pacs.busy:
                hand.finish()
            most = 0
            while len(queue.results) < 2500:
                await asyncio.sleep(0)
                most = max(most, len(queue.ids()))
                assert len(queue.scheduler.channels["pacs"]._flows) <= READY_MOST
            assert most <= 3 * READY_MOST + READY_LOW
            assert sorted(pacs.log) == list(range(1, 2501))
            assert max(abs(place - number) for place, number in enumerate(pacs.log, 1)) <= 8
            assert set(queue.states().values()) == {"delivered"}

    body()


def test_a_lane_that_carries_it_comes_first(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            await queue.begin()
            queue.admit([1])
            queue.admit([2], sop_class_uid=MR)
            ct, mr = pacs.hands
            pacs.finish(1)
            pacs.finish(2)
            queue.admit([3], sop_class_uid=MR)
            queue.admit([4])
            assert (mr.delivery and mr.delivery.instance_id, ct.delivery and ct.delivery.instance_id) == (3, 4)
            assert pacs.opened == 2

    body()


def test_younger_ones_may_pass_but_not_for_ever(tmp_path: Path) -> None:
    """One lane; what it carries keeps coming: what needs another association goes after ``SKIPS`` at the latest."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit([1])
            queue.admit([2], sop_class_uid=MR)
            for number in range(3, 200):
                queue.admit([number])
                pacs.busy[0].finish()
                if 2 in pacs.log:
                    break
            assert pacs.log.index(2) == SKIPS + 1
            assert pacs.log[:-1] == [1, *range(3, SKIPS + 3)]
            assert pacs.opened == 2

    body()


def test_what_associations_should_offer(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit([1])
            queue.admit([2], transfer_syntax=JPEG)
            queue.admit([3], sop_class_uid=MR)
            channel = queue.scheduler.channels["pacs"]
            explicit = "1.2.840.10008.1.2.1"
            assert list(channel.wanted("CT_A")) == [(CT, JPEG), (MR, explicit), (CT, explicit)]
            assert set(channel.wanted("OTHER")) == {(CT, explicit)}
            pacs.finish(1)
            pacs.finish(2)
            pacs.finish(3)
            assert set(channel.wanted("CT_A")) == {(CT, JPEG), (MR, explicit), (CT, explicit)}
            for number in range(600):
                channel._remember(("CT_A", f"1.{number}", explicit))
            assert len(list(channel.wanted("CT_A"))) == module.REMEMBERED_PAIRS

    body()


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_destination_that_is_down_is_probed_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "SHORT", 0.01)
    monkeypatch.setattr(breaker_module, "LEAST", 0.05)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=4)
            channel = queue.scheduler.channels["pacs"]
            channel.breaker._random = lambda: 0.0
            await queue.begin()
            queue.admit(range(1, 21))
            assert pacs.sending == [1, 2, 3, 4]
            for number in (1, 2, 3, 4):
                pacs.finish(number, GONE, stays_open=False)
            assert channel.breaker.open
            assert pacs.sending == []
            assert channel.describe()["state"] == "down"
            assert pacs.open == len(channel.lanes) == 0
            await until(lambda: pacs.busy, "a probe")
            await settle_loop(20)
            assert len(pacs.busy) == 1
            assert pacs.probes == [False] * 4 + [True]
            assert pacs.sending[0] in (1, 2, 3, 4)
            pacs.finish(pacs.sending[0], GONE, stays_open=False)
            await until(lambda: pacs.busy, "the next probe")
            assert len(pacs.busy) == 1
            pacs.busy[0].finish()
            assert len(pacs.busy) == 2
            pacs.auto = SUCCESS
            for hand in pacs.busy:
                hand.finish()
            await queue.settled(20)
            assert pacs.most == 4
            assert {s.attempts for s in queue.results} == {1}
            assert set(queue.states().values()) == {"delivered"}

    body()


def test_retries_wait_and_others_go_on(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1, retry=Backoff(first=0.2, factor=1, max=0.2))
            queue.scheduler.channels["pacs"].verdict._retry = Backoff(first=0.2, factor=1, max=0.2)
            await queue.begin()
            queue.admit([1, 2, 3])
            pacs.finish(1, RETRY)
            assert pacs.sending == [2]
            pacs.finish(2)
            pacs.finish(3)
            await until(lambda: pacs.busy, "the second attempt")
            pacs.finish(1)
            await queue.settled(4)
            assert pacs.log == [1, 2, 3, 1]
            assert queue.states() == {1: "delivered", 2: "delivered", 3: "delivered"}
            assert [s.attempts for s in queue.results if s.instance_id == 1] == [1, 2]

    body()


def test_a_paused_title_does_not_pause_the_others(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            other = instance(9, "pacs").source
            queue.admit([1, 2])
            queue.admit([3, 4], source=type(other)("MR_B", "X", "", ""))
            pacs.finish(1, outcomes.rejected(1, 1, 3), stays_open=False)
            assert pacs.sending == [3]
            pacs.finish(3)
            assert pacs.sending == [4]
            pacs.finish(4)
            assert pacs.sending == []
            channel = queue.scheduler.channels["pacs"]
            assert channel.describe()["state"] == "title-rejected"
            channel.verdict.resume()
            channel.look_again()
            assert pacs.sending == [1]

    body()


@pytest.mark.parametrize("outcome", [outcomes.classify(0xA700), outcomes.rejected(1, 1, 7)], ids=["full", "rejected"])
def test_a_pause_of_the_destination(tmp_path: Path, outcome: outcomes.Outcome) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            await queue.begin()
            queue.admit(range(1, 6))
            pacs.finish(1, outcome)
            pacs.finish(2)
            assert pacs.sending == []
            queue.admit([6])
            assert pacs.sending == []
            channel = queue.scheduler.channels["pacs"]
            if outcome.kind is outcomes.Kind.DESTINATION_PAUSE:
                await until(lambda: pacs.busy, "it goes on by itself")
            else:
                assert channel._timer is not None
                channel.verdict.resume()
                channel.look_again()
            assert len(pacs.busy) == 2

    body()


def test_a_poisonous_image_ends_as_a_dead_letter_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "SHORT", 0.005)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit(range(1, 6))
            number = 5
            while queue.scheduler.tallies["pacs"].failed == 0:
                number += 1
                queue.admit([number])
                await until(lambda: pacs.busy, "the next")
                (sent,) = pacs.sending
                pacs.finish(sent, LOST if sent == 3 else SUCCESS, stays_open=sent != 3)
                assert number < 60
            pacs.auto = SUCCESS
            if pacs.busy:
                pacs.busy[0].finish()
            await queue.settled(number)
            assert queue.states() == {n: "failed" if n == 3 else "delivered" for n in range(1, number + 1)}
            assert pacs.log.count(3) == 3
            assert not queue.scheduler.channels["pacs"].breaker.open

    body()


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
            channel._known.discard(1)
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
            pacs = queue.channel(lanes=4, retry=Backoff(first=0.3, factor=1, max=0.3), auto=RETRY)
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


# --- associations in all ----------------------------------------------------------------------------------------------


def test_channels_share_what_there_is(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 3
            sites = [queue.channel(name, lanes=2) for name in ("a", "b", "c")]
            await queue.begin()
            queue.admit(range(1, 31), "a", "b", "c")
            most = 0
            while any(site.busy for site in sites):
                assert sum(site.open for site in sites) <= 3
                most = max(most, sum(len(site.busy) for site in sites))
                random.choice([hand for site in sites for hand in site.busy]).finish()
            assert most == 3
            assert [sorted(site.log) for site in sites] == [list(range(1, 31))] * 3
            assert sum(site.open for site in sites) + queue.outbound._left == 3

    body()


def test_who_has_nothing_to_send_makes_room(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 1
            first, second = queue.channel("first", lanes=1), queue.channel("second", lanes=1)
            await queue.begin()
            queue.admit([1, 2], "first")
            queue.admit([3], "second")
            assert (first.sending, second.sending) == ([1], [])
            first.finish(1)
            assert (first.sending, second.sending) == ([2], [])
            first.finish(2)
            assert (first.open, second.sending) == (0, [3])
            assert first.hands[0].ended == "closed"

    body()


def test_room_is_not_lost_with_a_connection(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 2
            pacs = queue.channel("pacs", lanes=2)
            await queue.begin()
            for round_ in range(10):
                queue.admit([10 * round_ + 1, 10 * round_ + 2])
                pacs.busy[0].finish(stays_open=False)
                pacs.busy[0].finish()
                next(hand for hand in pacs.hands if hand.open).lose()
                assert queue.outbound._left == 2
                assert queue.scheduler.channels["pacs"].lanes == []

    body()


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_stopping_waits_for_what_is_under_way(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            channel = queue.scheduler.channels["pacs"]
            await queue.begin()
            queue.admit([1, 2, 3, 4])
            stopping = asyncio.create_task(channel.stop(asyncio.get_running_loop().time() + 20))
            await settle_loop(20)
            pacs.finish(1)
            assert pacs.sending == [2]
            queue.admit([5])
            pacs.finish(2)
            await stopping
            assert [hand.ended for hand in pacs.hands] == ["closed", "closed"]
            assert pacs.log == [1, 2]
            await queue.settled(2)
            assert queue.states() == {1: "delivered", 2: "delivered", 3: "ready", 4: "ready", 5: "ready"}
            await channel.stop(0.0)
            assert channel._timer is None or channel._timer.cancelled()

    body()


def test_stopping_at_the_deadline_cuts_off(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            await queue.begin()
            queue.admit([1])
            await queue.scheduler.channels["pacs"].stop(asyncio.get_running_loop().time() + 0.05)
            assert [hand.ended for hand in pacs.hands] == ["aborted"]
            assert queue.states() == {1: "ready"}

    body()


def test_stopping_does_not_wait_for_connections_being_made(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit([1])
            pacs.hands[0].connecting = True
            async with asyncio.timeout(5):
                await queue.scheduler.channels["pacs"].stop(asyncio.get_running_loop().time() + 20)
            assert pacs.hands[0].ended == "aborted"

    body()


def test_stopping_during_a_refill(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel()
            queue.write([1])
            queue.reader.after.clear()
            await queue.begin()
            await until(lambda: queue.reader.claims, "a refill")
            channel = queue.scheduler.channels["pacs"]
            await channel.stop(0.0)
            queue.reader.go_on()
            await until(queue.idle, "no refill")
            assert not channel.offer(delivery(2)) or channel.stopping
            await settle_loop(20)
            assert pacs.log == []

    body()


# --- everything at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Arrivals, results of all kinds, lost connections and refills in a random order: each image is settled once."""
    monkeypatch.setattr(module, "READY_MOST", 40)
    monkeypatch.setattr(module, "READY_LOW", 10)
    monkeypatch.setattr(breaker_module, "SHORT", 0.002)
    monkeypatch.setattr(breaker_module, "LEAST", 0.002)
    rng = random.Random(seed)
    ends = [(SUCCESS, 12), (outcomes.classify(0xB000), 3), (RETRY, 3), (LOST, 1), (GONE, 2)]
    ends.append((outcomes.no_context("1", "2"), 1))
    kinds = [outcome for outcome, weight in ends for _ in range(weight)]

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 5
            sites = {name: queue.channel(name, lanes=3) for name in ("a", "b")}
            for channel in queue.scheduler.channels.values():
                channel.breaker._random = lambda: 0.0
            queue.write(range(1, 61), "a", "b")
            await queue.begin()
            number = 61
            while not over(queue, number):
                if number <= 200 and rng.random() < 0.4:
                    some = range(number, number + rng.randint(1, 8))
                    queue.admit(some, *rng.choice([("a",), ("b",), ("a", "b")]), sop_class_uid=rng.choice([CT, MR]))
                    number = some.stop
                busy = [hand for site in sites.values() for hand in site.busy]
                if busy:
                    outcome = rng.choice(kinds)
                    rng.choice(busy).finish(outcome, stays_open=outcome not in (LOST, GONE))
                idle = [hand for site in sites.values() for hand in site.hands if hand.open and hand.delivery is None]
                if idle and rng.random() < 0.1:
                    idle[0].lose()
                await asyncio.sleep(0 if rng.random() < 0.9 else 0.002)
            await until(lambda: all(not queue.ids(name) for name in sites), "all is durable")
            check(queue, sites)

    body()


def over(queue: Queue, number: int) -> bool:
    return number > 200 and all(tally.backlog.images == 0 for tally in queue.scheduler.tallies.values())


def check(queue: Queue, sites: dict[str, Site]) -> None:
    for name, site in sites.items():
        found = queue.states(name)
        finals = [s.instance_id for s in queue.results if s.destination == name and s.state is not DeliveryState.READY]
        assert sorted(finals) == sorted(found)
        assert set(found.values()) <= {"delivered", "failed"}
        assert set(site.log) == set(found)
        assert site.most <= 3
        tally = queue.scheduler.tallies[name]
        assert tally.delivered == list(found.values()).count("delivered")
        assert tally.failed == list(found.values()).count("failed")
        assert tally.backlog.bytes == 0


def test_the_breaker_needs_as_many_failures_as_it_says() -> None:
    assert THRESHOLD == 3
