"""Studies move while their channels work: journal, memory and counters agree whatever comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncroute.core import outcomes
from asyncroute.core.errors import StorageFault
from asyncroute.core.groups import Group
from asyncroute.core.model import Instance, RouteHit, Selection
from asyncroute.core.outcomes import SUCCESS, Outcome
from asyncroute.core.states import DeliveryState
from asyncroute.forward.base import Forwarder
from asyncroute.journal.base import Action, Retry
from asyncroute.journal.base import Group as Batch
from asyncroute.queue import keeper
from asyncroute.queue.group import Groups
from asyncroute.queue.keeper import Keeper
from asyncroute.queue.scheduler import Scheduler
from tests.unit.parts import instance, on_loop, states, until
from tests.unit.queueing import Queue, queueing

REFUSED = outcomes.refused()
LOST = outcomes.lost("connection lost", image_in_flight=True)


class Bench:
    """A failover group of "a", "b" and "c", with everything behind admission."""

    def __init__(self, queue: Queue, keep: float = 600.0) -> None:
        self.queue = queue
        self.group = Group("archive", False, ("a", "b", "c"), (1, 1, 1), keep)
        for name in self.group.members:
            queue.channel(name, lanes=1)
        self.sites = queue.sites
        self.fault: Exception | None = None
        self.probed: list[str] = []
        self.answer: Outcome = REFUSED
        self.full = False
        self.restart()

    def restart(self) -> None:
        """As after a restart: nothing is in memory."""
        scheduler = self.queue.scheduler
        self.groups = Groups([self.group], scheduler.ill)
        scheduler.elsewhere = self.groups.elsewhere
        self.keeper = Keeper(self.groups, scheduler, self.queue.reader, self.act, self.probe, lambda: self.full)
        self.queue.committer.on_regrouped = self.keeper.regrouped

    async def act(self, action: Action) -> int:
        if self.fault is not None:
            raise self.fault
        return await self.queue.committer.act(action)

    async def probe(self, forwarder: Forwarder, title: str) -> Outcome:
        assert title == "CT_A"
        self.probed += [name for name, site in self.sites.items() if site is forwarder]
        return self.answer

    def routed(self, numbers: Sequence[int], study: str = "1.2") -> list[Instance]:
        """Images that are on their way in."""
        found = []
        for number in numbers:
            made = instance(number)
            made.study_uid = study
            made.hits = self.groups.addressed(made, (RouteHit("all", "archive"),))
            found.append(made)
        return found

    def safe(self, images: Sequence[Instance]) -> None:
        """They are in the journal by now."""
        done = self.queue.journal.commit(Batch(images))
        for made in images:
            self.queue.scheduler.admitted(made, None)
        if done.regrouped is not None:
            self.keeper.regrouped(done.regrouped)

    def admit(self, numbers: Sequence[int], study: str = "1.2") -> None:
        self.safe(self.routed(numbers, study))

    async def fail(self, name: str = "a") -> None:
        """Three associations in a row cannot be made."""
        channel = self.queue.scheduler.channels[name]
        while not channel.breaker.open:
            await until(lambda: self.sites[name].busy, f"{name} is tried")
            self.sites[name].busy[0].finish(REFUSED, stays_open=False)
        channel.breaker.until = asyncio.get_running_loop().time() + 60

    async def go_astray(self) -> None:
        """Image 2 is safe at "a" only after its study, with image 1, has moved to "b"."""
        self.admit([1])
        late = self.routed([2])
        await self.fail()
        await self.keeper.look()
        self.safe(late)

    async def agreed(self) -> None:
        """The counters are those that a new start would read."""
        await self.queue.committer.drained()
        fresh = Scheduler(self.queue.memory, lambda settlement: None, lambda event: None)
        for channel in self.queue.scheduler.channels.values():
            fresh.add(channel)
        mine = {name: (t.backlog.images, t.backlog.bytes, t.failed) for name, t in self.queue.scheduler.tallies.items()}
        fresh.count_anew(await self.queue.reader.counts())
        assert mine == {name: (t.backlog.images, t.backlog.bytes, t.failed) for name, t in fresh.tallies.items()}

    def states(self, name: str) -> dict[int, str]:
        return states(self.queue.journal, name)


@asynccontextmanager
async def bench(folder: Path, keep: float = 600.0) -> AsyncIterator[Bench]:
    async with queueing(folder) as queue:
        made = Bench(queue, keep)
        await queue.begin()
        yield made


def test_a_failed_member_hands_its_studies_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1, 2, 3])
            it.sites["a"].finish(1)
            await it.fail()
            await it.keeper.look()
            await it.agreed()
            await until(lambda: it.sites["b"].sending, "the next member gets them")
            it.sites["b"].auto = SUCCESS
            it.sites["b"].busy[0].finish()
            await until(lambda: it.states("b") == dict.fromkeys((1, 2, 3), "delivered"), "all of the study")
            assert it.states("a") == {1: "delivered"}
            await it.agreed()
            it.admit([4])
            it.admit([5], "9.9")
            await until(lambda: set(it.states("b").values()) == {"delivered"} and len(it.states("b")) == 5, "the rest")
            assert it.sites["a"].log[-1] != 5

    on_loop(scenario)()


def test_nothing_moves_while_the_member_is_well_or_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1, 2])
            await it.keeper.look()
            it.queue.scheduler.hold("a", 1.0)
            await it.keeper.look()
            assert (it.states("a"), it.states("b")) == ({1: "ready", 2: "ready"}, {})
            it.admit([3], "new")
            assert it.sites["b"].sending == [3]

    on_loop(scenario)()


def test_nothing_moves_while_nobody_is_well(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1])
            await it.fail()
            for name in "bc":
                it.queue.scheduler.channels[name].breaker.failures = 3
            await it.keeper.look()
            assert it.states("a") == {1: "ready"}
            it.queue.scheduler.channels["c"].breaker.failures = 0
            await it.keeper.look()
            assert (it.states("a"), it.states("c")) == ({}, {1: "ready"})
            await it.agreed()

    on_loop(scenario)()


def test_what_is_being_sent_when_its_study_moves_counts_for_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        for number, outcome in enumerate((SUCCESS, LOST, outcomes.classify(0x0110), outcomes.classify(0x0122))):
            async with bench(tmp_path / str(number)) as it:
                channel = it.queue.scheduler.channels["a"]
                it.admit([1, 2])
                channel.breaker.failures = 3
                await it.keeper.look()
                assert it.sites["a"].sending == [1]
                await it.agreed()
                it.sites["a"].busy[0].finish(outcome)
                assert (it.sites["a"].sending, channel.known) == ([], set())
                assert it.states("a") == {}
                assert set(it.states("b")) == {1, 2}
                await it.agreed()

    on_loop(scenario)()


def test_a_dead_letter_moves_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1, 2])
            it.sites["a"].finish(1, outcomes.classify(0x0122))
            await it.queue.settled(1)
            assert it.queue.scheduler.tallies["a"].failed == 1
            await it.fail()
            await it.keeper.look()
            assert (it.states("a"), set(it.states("b"))) == ({}, {1, 2})
            await it.agreed()

    on_loop(scenario)()


def test_what_a_failed_member_is_owed_again_moves(tmp_path: Path) -> None:
    """As after a person's retry, or when it does not prove what it got."""

    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.queue.scheduler.owe = it.groups.owe
            it.admit([1, 2])
            it.sites["a"].finish(1)
            it.sites["a"].finish(2, outcomes.classify(0x0122))
            await it.queue.settled(2)
            for _ in range(3):
                it.queue.scheduler.channels["a"].breaker.failed(asyncio.get_running_loop().time())
            await it.keeper.look()
            assert it.groups.owing == {}
            it.queue.journal.commit(Batch(actions=[Retry(Selection((DeliveryState.FAILED,), "a"))]))
            it.queue.scheduler.undelivered("a", [1000], 0)
            await it.keeper.look()
            assert (it.states("a"), set(it.states("b"))) == ({1: "delivered"}, {1, 2})

    on_loop(scenario)()


def test_an_image_that_was_routed_before_the_move_and_safe_after_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            await it.go_astray()
            assert it.queue.ids("a") == set()
            await it.keeper.look()
            assert (it.states("a"), set(it.states("b"))) == ({}, {1, 2})
            assert it.groups.strays == {}
            await it.agreed()

    on_loop(scenario)()


def test_an_image_that_is_safe_while_earlier_ones_are_gathered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1])
            late, later = it.routed([2]), it.routed([3])
            await it.fail()
            await it.keeper.look()
            it.safe(late)

            async def moved() -> None:
                if later:
                    it.safe([later.pop()])

            it.keeper._moved = moved
            await it.keeper.look()
            await it.keeper.look()
            assert (it.states("a"), set(it.states("b"))) == ({}, {1, 2, 3})
            assert it.groups.strays == {}
            await it.agreed()

    on_loop(scenario)()


def test_a_stray_of_a_group_that_is_gone_stays_where_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            await it.go_astray()
            it.groups.change([])
            await it.keeper.look()
            await until(lambda: it.queue.ids("a") == {2}, "its destination knows it")

    on_loop(scenario)()


def test_strays_wait_until_their_channel_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            await it.go_astray()
            monkeypatch.setattr(keeper, "REST", 0.01)
            it.queue.scheduler.channels["a"].known.add(99)  # a result that is not durable
            with pytest.raises(TimeoutError):
                await it.keeper.look()
            it.queue.scheduler.channels["a"].known.discard(99)
            monkeypatch.undo()
            await it.keeper.look()
            assert (it.states("a"), set(it.states("b"))) == ({}, {1, 2})

    on_loop(scenario)()


def test_a_crash_before_a_stray_was_gathered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            await it.go_astray()
            it.restart()
            await it.keeper.begin()
            await it.keeper.look()
            assert (it.states("a"), set(it.states("b"))) == ({}, {1, 2})
            await it.agreed()

    on_loop(scenario)()


def test_a_restart_goes_on_where_studies_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1])
            await it.fail()
            await it.keeper.look()
            it.queue.scheduler.channels["a"].breaker.failures = 0
            it.restart()
            await it.keeper.begin()
            it.admit([2])
            it.admit([3], "new")
            assert (set(it.states("b")), set(it.states("a"))) == ({1, 2}, {3})

    on_loop(scenario)()


def test_a_journal_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1, 2])
            await it.fail()
            it.fault = StorageFault("disk full")
            try:
                await it.keeper.look()
            except StorageFault:
                pass
            else:
                raise AssertionError("the fault was not told")
            assert it.states("a") == {1: "ready", 2: "ready"}
            it.fault = None
            await it.keeper.look()
            await it.keeper.look()
            assert (it.states("a"), set(it.states("b"))) == ({}, {1, 2})
            await it.agreed()

    on_loop(scenario)()


def test_many_studies_move_in_several_transactions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            for study in range(250):
                it.admit([study * 3 + n for n in (1, 2, 3)], f"1.{study}")
            await it.fail()
            await it.keeper.look()
            assert (it.states("a"), len(it.states("b"))) == ({}, 750)
            await it.agreed()

    on_loop(scenario)()


def test_results_that_are_not_durable_are_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1, 2, 3])
            it.sites["a"].finish(1)
            it.queue.scheduler.channels["a"].breaker.failures = 3
            await it.keeper.look()
            assert it.states("a") == {1: "delivered"}
            assert set(it.states("b")) == {1, 2, 3}
            await it.agreed()

    on_loop(scenario)()


def test_a_failed_member_is_asked_until_it_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1])
            await it.fail()
            breaker = it.queue.scheduler.channels["a"].breaker
            await it.keeper.look()
            assert it.probed == []
            channel = it.queue.scheduler.channels["a"]
            await until(lambda: channel.handover.empty, "nothing waits for it")
            breaker.until = 0.0
            await it.keeper.look()
            await until(lambda: it.probed == ["a"] and breaker.until > 0, "it is asked, and pauses")
            assert breaker.open
            breaker.until = 0.0
            it.answer = SUCCESS
            await it.keeper.look()
            await until(lambda: not breaker.open, "it is well")
            it.admit([2], "new")
            it.admit([3])
            assert (it.sites["a"].sending, set(it.states("b"))) == ([2], {1, 3})

    on_loop(scenario)()


def test_studies_end_and_let_their_files_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path, keep=0.0) as it:
            released: list[int] = []
            it.queue.committer.on_releasable = lambda done: released.extend(number for number, _ in done)
            it.admit([1, 2])
            it.sites["a"].finish(1)
            await it.keeper.look()
            assert it.groups.count == 1
            it.sites["a"].finish(2)
            await it.queue.settled(2)
            it.groups.changed = True
            await it.keeper.look()
            assert (sorted(released), it.groups.count) == ([1, 2], 0)

    on_loop(scenario)()


def test_a_full_disk_ends_what_is_only_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1])
            it.admit([2], "other")
            it.sites["a"].finish(1)
            await it.queue.settled(1)
            await it.keeper.look()
            assert it.groups.count == 2
            it.full = True
            await it.keeper.look()
            assert it.groups.count == 1

    on_loop(scenario)()


def test_a_member_that_is_removed_while_it_sends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as it:
            it.admit([1, 2])
            it.groups.change([Group("archive", False, ("b", "c"), (1, 1), 600.0)])
            it.queue.scheduler.retire("a", asyncio.get_running_loop().time() + 5)
            await it.keeper.look()
            assert (it.states("a"), set(it.states("b"))) == ({}, {1, 2})
            it.sites["a"].finish(1)
            await it.queue.committer.drained()
            left = it.queue.scheduler.tallies["a"]
            assert (left.backlog.images, left.backlog.bytes, left.delivered) == (0, 0, 0)

    on_loop(scenario)()
