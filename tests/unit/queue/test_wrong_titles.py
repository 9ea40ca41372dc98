"""Images for which no calling AE title can be made: dead letters at once, and nobody else notices."""

from __future__ import annotations

from pathlib import Path

from asyncroute.core import outcomes
from asyncroute.core.model import Source
from asyncroute.core.outcomes import SUCCESS
from asyncroute.core.states import DeliveryState
from asyncroute.link.buffers import ImageBytes
from asyncroute.queue.refill import READY_MOST
from tests.unit.parts import on_loop, until
from tests.unit.queueing import QUICK, queueing

LONG = Source("LONG", "X", "X@h:1", "")
GOOD = Source("GOOD", "X", "X@h:1", "")


def test_a_wrong_title_is_that_image_s_fault_alone(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1, auto=SUCCESS)
            pacs.wrong = {"LONG"}
            await queue.begin()
            for number in range(1, 21):
                queue.admit([number], source=GOOD if number % 2 else LONG)
            await queue.settled(20)
            assert queue.states() == {n: "delivered" if n % 2 else "failed" for n in range(1, 21)}
            assert sorted(pacs.log) == list(range(1, 21, 2))
            assert pacs.opened == 1  # their association went on
            failed = [s for s in queue.results if s.state is DeliveryState.FAILED]
            assert {(s.error, s.status) for s in failed} == {("no title for LONG", None)}
            line = queue.scheduler.describe()[0]
            assert (line["waiting"], line["failed"], line["delivered"], line["state"]) == (0, 10, 10, "up")
            assert line["last_error"] == "no title for LONG"
            assert queue.ids() == set()

    body()


def test_it_says_nothing_about_a_destination_that_is_down(tmp_path: Path) -> None:
    """Neither that it answers, nor that it fails; and it costs it no try."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            pacs.wrong = {"LONG"}
            channel = queue.scheduler.channels["pacs"]
            await queue.begin()
            queue.admit([1], source=GOOD)
            while not channel.breaker.open:
                await until(lambda: pacs.busy, "a try")
                pacs.finish(1, outcomes.refused(), stays_open=False)
            before = channel.breaker.until, channel.breaker.failures, channel.verdict.state(0.0)
            queue.admit([2], source=LONG)
            await queue.settled(1)
            assert queue.states() == {1: "ready", 2: "failed"}
            assert (channel.breaker.until, channel.breaker.failures, channel.verdict.state(0.0)) == before
            assert set(pacs.log) == {1}

    body()


def test_a_backlog_of_them_holds_up_nobody(tmp_path: Path) -> None:
    """More than a channel holds at a time, from the journal, and a good one behind them."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2, auto=SUCCESS)
            pacs.wrong = {"LONG"}
            count = 3 * READY_MOST
            queue.write(range(1, count), source=LONG)
            queue.write([count], source=GOOD)
            await queue.begin()
            await queue.settled(count)
            states = queue.states()
            assert states.pop(count) == "delivered"
            assert set(states.values()) == {"failed"}
            assert pacs.log == [count]

    body()


def test_a_retry_goes_under_the_title_of_then(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2, auto=outcomes.classify(0x0110))
            await queue.begin()
            queue.admit([1], source=LONG)
            await until(lambda: pacs.log, "the first try")
            pacs.wrong = {"LONG"}
            await until(lambda: queue.states() == {1: "failed"}, "a dead letter")
            await until(lambda: queue.results, "its result")
            assert queue.results[-1].error == "no title for LONG"

    body()


def test_new_settings_apply_to_what_waits_and_to_what_comes_back(tmp_path: Path) -> None:
    """The image in flight ends as it ends; if it comes back, it needs a title like the others."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit([1, 2], source=LONG)
            queue.admit([3], source=GOOD)
            assert pacs.sending == [1]
            pacs.wrong = {"LONG"}
            queue.scheduler.channels["pacs"].change(pacs, QUICK, None, 0.0)
            await queue.settled(1)
            assert queue.states() == {1: "ready", 2: "failed", 3: "ready"}
            pacs.finish(1, outcomes.refused(), stays_open=False)
            await until(lambda: pacs.sending == [3], "the good one")
            pacs.finish(3)
            await queue.settled(3)
            assert queue.states() == {1: "failed", 2: "failed", 3: "delivered"}

    body()


def test_its_memory_is_given_back(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.channel().wrong = {"LONG"}
            await queue.begin()
            (made,) = queue.write([1], source=LONG)
            image = ImageBytes()
            queue.scheduler.admitted(made, image)
            assert image.owed == 0
            await queue.settled(1)

    body()
