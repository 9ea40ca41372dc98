"""How long studies wait, on a real journal, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path

import pytest

from asyncroute.core.completion import Completion
from asyncroute.core.errors import StorageFault
from asyncroute.core.groups import Move
from asyncroute.core.model import Instance, RouteHit, Selection, Source, Wait
from asyncroute.journal import clock, completions
from asyncroute.journal.base import Complete, Group, SendNow
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.queue import waiting
from asyncroute.queue.waiting import Patience, Waiting
from tests.unit.parts import instance, states
from tests.unit.virtual import VirtualLoop, virtually

PATIENCE = {"studies": Patience(60, 600)}


class Bench:
    """A journal whose clock is the loop's, and a ``Waiting`` over it. ``made``: (when, destinations) made ready."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.folder = folder
        self.made: list[tuple[float, set[str]]] = []
        self.commits: list[Sequence[int]] = []
        self.faults: list[Exception] = []
        self.number = 0
        self.open()

    def open(self) -> None:
        self.journal = SqliteJournal.open(self.folder, "process-crash")
        self.waiting = Waiting(self.complete, self.read, self.ready, self.journal.clock)

    async def complete(self, ids: Sequence[int]) -> int:
        if self.faults:
            raise self.faults.pop(0)
        self.commits.append(ids)
        return self.journal.commit(Group(actions=[Complete(ids)])).acted[0]

    async def read(self) -> list[Completion]:
        return completions.told(self.journal._connection.execute(completions.SQL["waiting"]).fetchall())

    def ready(self, destinations: Iterable[str]) -> None:
        self.made.append((round(self.loop.time() - 1000, 1), set(destinations)))

    def images(self, count: int, study: str = "1.2", source: str = "CT_A", hold_late: bool = False) -> list[Instance]:
        found = []
        for _ in range(count):
            self.number += 1
            wait = Wait("study", hold_late)
            hits = tuple(RouteHit("studies", name, wait=wait) for name in ("pacs", "copy"))
            made = instance(self.number, study_uid=study, source=Source(source, "R", "R@h:1", "p"), hits=hits)
            found.append(made)
        return found

    def come(self, count: int = 1, study: str = "1.2", source: str = "CT_A", hold_late: bool = False) -> None:
        """Images of a study are stored."""
        done = self.journal.commit(Group(self.images(count, study, source, hold_late)))
        self.waiting.joined(done.completions)

    def restart(self) -> None:
        """As after a kill: nothing is closed in good order."""
        self.waiting.stop()
        self.journal._connection.close()
        self.journal._lock_file.close()
        self.open()

    def states(self) -> set[str]:
        return set(states(self.journal, "pacs").values())


Scenario = Callable[[Bench], Coroutine[None, None, None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], Bench]:
    def run(scenario: Scenario) -> Bench:
        kept: list[Bench] = []

        async def main() -> None:
            monkeypatch.setattr(clock, "monotonic", asyncio.get_running_loop().time)
            bench = Bench(tmp_path)
            kept.append(bench)
            await bench.waiting.begin(PATIENCE)
            await scenario(bench)
            bench.waiting.stop()
            bench.journal.close()

        virtually(main)
        return kept[0]

    return run


Play = Callable[[Scenario], Bench]


def test_quiet_is_measured_from_the_last_image(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(3):
            bench.come(2)
            await asyncio.sleep(50)
        assert (bench.made, bench.states()) == ([], {"waiting"})
        assert bench.waiting.due_in(1) == pytest.approx(10)
        await asyncio.sleep(60)
        assert bench.states() == {"ready"}
        assert not bench.waiting.completions

    assert play(scenario).made == [(160.0, {"pacs", "copy"})]


def test_at_latest_is_measured_from_the_first_image(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(25):
            bench.come()
            await asyncio.sleep(30)
        await asyncio.sleep(100)

    assert [at for at, _ in play(scenario).made] == [600.0, 780.0], "then those that came late"


def test_studies_and_sources_wait_for_themselves(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come(3, "1.2", "CT_A")
        await asyncio.sleep(10)
        bench.come(2, "1.3", "CT_A")
        await asyncio.sleep(10)
        bench.come(1, "1.2", "CT_B")
        assert sorted(it.images for it in bench.waiting.completions) == [1, 2, 3]
        assert bench.waiting.owed() == {"pacs": 6, "copy": 6}
        await asyncio.sleep(45)
        assert bench.waiting.owed() == {"pacs": 3, "copy": 3}
        await asyncio.sleep(100)

    assert [at for at, _ in play(scenario).made] == [60.0, 70.0, 80.0]


def test_an_early_image_of_another_study_is_not_forgotten(play: Play) -> None:
    """The one timer is set anew for whatever is due before."""

    async def scenario(bench: Bench) -> None:
        bench.waiting.change({"studies": Patience(60, 600), "quick": Patience(5, 600)})
        bench.come()
        quick = bench.images(1, "1.9")
        quick[0].hits = (RouteHit("quick", "pacs", wait=Wait("study")),)
        bench.waiting.joined(bench.journal.commit(Group(quick)).completions)
        await asyncio.sleep(100)

    assert play(scenario).made == [(5.0, {"pacs"}), (60.0, {"pacs", "copy"})]


def test_after_a_restart_it_waits_for_what_was_left(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come(2)
        await asyncio.sleep(45)
        bench.restart()
        assert isinstance(bench.loop, VirtualLoop)
        bench.loop.now += 1000  # no router runs
        bench.journal.close()
        bench.open()
        await bench.waiting.begin(PATIENCE)
        due = bench.waiting.due_in(1)
        assert due is not None
        assert 15 <= due <= 25, "a kill may cut off the last ten seconds"
        await asyncio.sleep(due + 1)
        assert bench.states() == {"ready"}

    play(scenario)


def test_after_a_kill_nobody_waits_longer_than_quiet(play: Play) -> None:
    """What a kill cut off the clock is not waited for in addition."""

    async def scenario(bench: Bench) -> None:
        await asyncio.sleep(9)
        bench.come()
        bench.restart()
        await bench.waiting.begin(PATIENCE)
        assert bench.journal.clock() < 9, "the clock was not written down"
        assert bench.waiting.due_in(1) == pytest.approx(60)

    play(scenario)


def test_kills_again_and_again_do_not_keep_it_for_ever(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come()
        kills = 0
        while not bench.made:
            await asyncio.sleep(25)
            if not bench.made:
                kills += 1
                assert kills < 8
                bench.restart()
                await bench.waiting.begin(PATIENCE)
        assert kills >= 2

    play(scenario)


def test_other_settings_count_for_what_waits(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come(1, "1.2")
        await asyncio.sleep(30)
        bench.waiting.change({"studies": Patience(35, 600)})
        await asyncio.sleep(6)
        bench.come(1, "1.3")
        bench.waiting.change({})
        await asyncio.sleep(1)

    assert [at for at, _ in play(scenario).made] == [35.0, 36.0]


def test_what_comes_late_waits_for_itself(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come(3)
        await asyncio.sleep(100)
        bench.come(2)
        await asyncio.sleep(50)
        bench.come(2)
        await asyncio.sleep(100)

    assert [at for at, _ in play(scenario).made] == [60.0, 210.0]


def test_what_comes_late_may_be_held(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come(3, hold_late=True)
        await asyncio.sleep(100)
        bench.come(2, hold_late=True)
        await asyncio.sleep(10_000)
        (late,) = bench.waiting.completions
        assert (late.held, late.images, bench.waiting.due_in(late.id)) == (True, 2, None)
        bench.restart()
        await bench.waiting.begin(PATIENCE)
        await asyncio.sleep(10_000)
        (late,) = bench.waiting.completions
        assert (late.held, late.images) == (True, 2)
        bench.journal.commit(Group(actions=[SendNow(Selection(), late=True)]))
        await bench.waiting.refresh()
        assert not bench.waiting.completions

    assert len(play(scenario).made) == 1


def test_a_journal_that_fails_is_tried_again(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come(3)
        bench.come(1, "1.3")
        await asyncio.sleep(59)
        bench.faults = [StorageFault("the disk is full"), RuntimeError("a mistake of ours")]
        await asyncio.sleep(20)
        assert bench.states() == {"ready"}

    bench = play(scenario)
    assert [at for at, _ in bench.made] == [62.0]
    assert not bench.faults


def test_what_is_told_after_its_end_is_no_new_study(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come(3)
        told = bench.journal.commit(Group(bench.images(1))).completions
        await asyncio.sleep(61)
        bench.waiting.joined(told)
        assert not bench.waiting.completions
        assert bench.states() == {"ready"}

    play(scenario)


def test_images_that_come_while_a_person_acts_are_not_forgotten(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come(3)
        read = bench.read

        async def slowly() -> list[Completion]:
            found = await read()
            await asyncio.sleep(1)
            return found

        bench.waiting._read = slowly
        bench.journal.commit(Group(actions=[SendNow(Selection(instance_ids=[1, 2]))]))
        refreshed = asyncio.ensure_future(bench.waiting.refresh())
        await asyncio.sleep(0.5)
        bench.come(2, "1.3")
        await refreshed
        assert sorted(it.images for it in bench.waiting.completions) == [1, 2]
        await asyncio.sleep(100)
        assert not bench.waiting.completions
        assert bench.states() == {"ready"}

    play(scenario)


def test_many_are_made_ready_in_bounded_groups(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_TOGETHER", 10)

    async def scenario(bench: Bench) -> None:
        for number in range(12):
            bench.come(5, f"1.2.{number}")
        await asyncio.sleep(61)
        assert bench.states() == {"ready"}

    bench = play(scenario)
    assert [len(ids) for ids in bench.commits if ids] == [2] * 6


def test_nothing_is_done_where_nothing_waits(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.come()
        await asyncio.sleep(100)
        bench.commits.clear()
        await asyncio.sleep(10_000)

    assert play(scenario).commits == []


def test_a_study_that_moves_while_it_becomes_ready(play: Play) -> None:
    """Its new destination is told, too."""

    async def scenario(bench: Bench) -> None:
        (made,) = bench.images(1)
        hit = RouteHit("studies", "pacs", wait=Wait("study"), groups=(("archive", "1.2"),), direct=False)
        made.hits = (hit,)
        bench.waiting.joined(bench.journal.commit(Group([made])).completions)
        moved = asyncio.Event()

        async def complete(ids: Sequence[int]) -> int:
            if ids:
                await moved.wait()
            return await bench.complete(ids)

        bench.waiting._complete = complete
        await asyncio.sleep(61)
        bench.journal.commit(Group(actions=[Move("archive", "1.2", "copy", "it is down")]))
        await bench.waiting.refresh()
        moved.set()
        await asyncio.sleep(1)
        assert states(bench.journal, "copy") == {1: "ready"}
        ((_, told),) = bench.made
        assert "copy" in told

    play(scenario)
