"""A person's words to a running router: what they change, and that the counters agree with the journal afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asyncroute.administer import Administrator
from asyncroute.app import App
from asyncroute.config import load
from asyncroute.core import outcomes
from asyncroute.core.conditions import Condition
from asyncroute.core.errors import OurFault, StorageFault
from asyncroute.core.model import Settlement, Wait
from asyncroute.core.outcomes import SUCCESS, Kind, Outcome
from asyncroute.core.patterns import Glob
from asyncroute.core.retry import Backoff
from asyncroute.core.rules import RouteTable, Rule
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Group
from asyncroute.queue.channel import Channel
from asyncroute.queue.limits import Backlog, Outbound
from asyncroute.queue.scheduler import Scheduler
from asyncroute.route import Router
from asyncroute.status.asked import selection, states_of
from tests.support import synthetic
from tests.unit.parts import files_in, instance, on_loop, settle_loop, states, until
from tests.unit.queueing import Site

PLAN_LABEL = 0x300A0002
CONFIG = """
[node]
data_dir = "data"
durability = "process-crash"
min_free = "1 MiB"
drain = "1s"
[[listener]]
host = "127.0.0.1"
port = 0
[[destination]]
name = "pacs"
kind = "folder"
path = "{folder}/pacs"
[[destination]]
name = "copy"
kind = "folder"
path = "{folder}/copy"
[[route]]
name = "ct"
match = {{ Modality = "CT" }}
to = ["pacs"]
"""


class Bench:
    """A router whose destinations do what the test says."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.person = Administrator(app)
        self.sites: dict[str, Site] = {}
        for name in ("pacs", "copy"):
            site = self.sites[name] = Site()
            retry, backlog = Backoff(first=0.01, max=0.01), Backlog(0, 0)
            app.scheduler.add(Channel(name, site, 1, retry, backlog, app.reader, app.scheduler, Outbound(9)))

    def write(
        self, count: int, *destinations: str, modality: str = "CT", hold: str | None = None, wait: Wait | None = None
    ) -> list[int]:
        """Images in spool and journal. ``wait``: what all of them wait for."""
        made = []
        for _ in range(count):
            number, path = self.app.spool.allocate()
            kind = synthetic.Kind(synthetic.CT if modality == "CT" else synthetic.MR, size=512)
            source = synthetic.image("person", number, kind)
            one = instance(number, *destinations, path=path, data_offset=0, hold_reason=hold)
            one.sop_instance_uid, one.study_uid = source.sop_instance, f"1.2.{number % 2}"
            one.hits = tuple(replace(hit, wait=wait) for hit in one.hits)
            assert not self.app.spool.write([(one, list(source.chunks(1 << 20)))])
            made.append(one)
        self.app.journal.commit(Group(admits=made))
        return [one.id for one in made]

    def fail(self, numbers: Sequence[int], destination: str = "pacs") -> None:
        """Make deliveries dead letters, as of an earlier run."""
        results = [Settlement(n, destination, DeliveryState.FAILED, 3, time.time(), 0xC000, "no") for n in numbers]
        self.app.journal.commit(Group(settlements=results))

    async def start(self) -> None:
        await self.app.start()
        await until(
            lambda: all(not c._refill.running for c in self.app.scheduler.channels.values()), "the journal is read"
        )

    def states(self, destination: str = "pacs") -> dict[int, str]:
        return states(self.app.journal, destination)

    def files(self) -> int:
        return len(files_in(self.app.spool.root))

    async def agreed(self) -> None:
        """The counters are those that a new start would read from the journal."""
        await self.app.committer.drained()
        await self.app.releaser.drained()
        await self.app.committer.drained()
        fresh = Scheduler(self.app.memory, lambda settlement: None, lambda event: None)
        for channel in self.app.scheduler.channels.values():
            fresh.add(channel)
        waiting = {n: t.backlog.images for n, t in self.app.scheduler.tallies.items()}
        now = {n: (t.failed, t.delivered) for n, t in self.app.scheduler.tallies.items()}
        held = self.app.scheduler.held
        fresh.count_anew(await self.app.reader.counts())
        assert waiting == {n: t.backlog.images for n, t in fresh.tallies.items()}
        assert now == {n: (t.failed, t.delivered) for n, t in fresh.tallies.items()}
        assert held == fresh.held


@asynccontextmanager
async def running(folder: Path, more: str = "") -> AsyncIterator[Bench]:
    """``more``: of its configuration."""
    file = folder / "asyncroute.toml"
    file.write_text(CONFIG.format(folder=folder) + more)
    app = App(load(file))
    await app.build()
    bench = Bench(app)
    try:
        yield bench
        await bench.agreed()
    finally:
        for site in bench.sites.values():
            for hand in site.busy:
                hand.connecting = True  # which a stop does not wait for
        await app.stop()


# --- retry ------------------------------------------------------------------------------------------------------------


def test_dead_letters_go_again(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            numbers = bench.write(5, "pacs", "copy")
            bench.fail(numbers[:3])
            await bench.start()
            pacs = bench.sites["pacs"]
            assert bench.app.scheduler.tallies["pacs"].failed == 3
            assert await bench.person.queue_retry({}) == {"deliveries": 3, "images": 0}
            await bench.agreed()
            assert bench.app.scheduler.tallies["pacs"].failed == 0
            pacs.auto = SUCCESS
            pacs.busy[0].finish()
            await until(lambda: set(bench.states().values()) == {"delivered"}, "all are delivered")
            assert sorted(pacs.log) == numbers

    body()


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({"to": "copy"}, ["copy"]),
        ({"to": "pacs", "ids": [1]}, ["pacs"]),
        ({"state": "failed"}, ["pacs", "copy"]),
        ({"state": "held"}, []),
        ({"ids": [77]}, []),
        ({"study_uid": "1.2.0"}, []),
        ({"study_uid": "1.2.1"}, ["pacs", "copy"]),
    ],
    ids=str,
)
def test_what_is_named_and_nothing_else(tmp_path: Path, what: dict[str, Any], expected: list[str]) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            numbers = bench.write(1, "pacs", "copy")
            bench.fail(numbers)
            bench.fail(numbers, "copy")
            await bench.start()
            found = await bench.person.queue_retry(what)
            assert found == {"deliveries": len(expected), "images": 0}
            assert [name for name in ("pacs", "copy") if bench.states(name) == {1: "ready"}] == expected

    body()


def test_a_retry_of_a_paused_destination_ends_the_pause(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            bench.write(2, "pacs")
            await bench.start()
            pacs = bench.sites["pacs"]
            pacs.finish(1, outcomes.rejected(1, 1, 7))
            assert pacs.sending == []
            await bench.person.queue_retry({"to": "copy"})
            assert pacs.sending == []
            await bench.person.queue_retry({"to": "pacs"})
            assert pacs.sending == [1]

    body()


def test_attempts_begin_anew(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            bench.write(1, "pacs")
            bench.fail([1])
            await bench.start()
            await bench.person.queue_retry({})
            pacs = bench.sites["pacs"]
            await until(lambda: pacs.busy, "it is sent")
            (hand,) = pacs.busy
            assert hand.delivery is not None
            assert hand.delivery.attempts == 0

    body()


def test_a_retry_ends_though_everything_fails_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            bench.fail(bench.write(20, "pacs"))
            pacs, committer = bench.sites["pacs"], bench.app.committer
            pacs.auto = Outcome(Kind.IMAGE_FAILED, "no", charge=True, limit=1)
            await bench.start()
            act = committer.act

            async def act_slowly(action: Any) -> int:
                done, wanted = await act(action), len(pacs.log) + 20
                bench.app.scheduler.channels["pacs"].look_again()
                await until(lambda: len(pacs.log) >= wanted, "all were tried again")
                await committer.drained()
                return done

            monkeypatch.setattr(committer, "act", act_slowly)
            async with asyncio.timeout(20):
                assert await bench.person.queue_retry({}) == {"deliveries": 20, "images": 0}
            assert len(pacs.log) == 20

    body()


# --- held images ------------------------------------------------------------------------------------------------------


def test_held_images_are_routed_by_the_present_routes(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            held = bench.write(3, modality="MR", hold="no route matches")
            routed = bench.write(2, hold="no route matches")
            await bench.start()
            assert bench.app.scheduler.held == 5
            assert await bench.person.queue_retry({}) == {"deliveries": 0, "images": 2}
            assert set(bench.states()) == set(routed)
            assert bench.app.scheduler.held == 3
            await bench.agreed()
            bench.app.admission.router = Router(RouteTable([Rule("all", ("pacs", "copy"))]))
            assert await bench.person.queue_retry({"state": "held"}) == {"deliveries": 0, "images": 3}
            assert set(bench.states("copy")) == set(held)
            await until(lambda: bench.sites["copy"].busy, "it is sent")

    body()


def test_one_whose_file_is_gone_does_not_keep_the_others(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            first, second = bench.write(2, hold="no route matches")
            await bench.start()
            (bench.app.spool.root / f"000000/{first:08d}.dcm").unlink()
            assert await bench.person.queue_retry({}) == {"deliveries": 0, "images": 1}
            assert set(bench.states()) == {second}
            assert bench.app.scheduler.held == 1

    body()


def test_a_small_image_is_read_to_its_end(tmp_path: Path) -> None:
    """Routes ask for an attribute behind its last one: it has none, which is an answer."""

    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            (number,) = bench.write(1, hold="no route matches")
            await bench.start()
            rules = [
                Rule("plans", ("copy",), (Condition(PLAN_LABEL, (Glob("*"),)),)),
                Rule("rest", ("pacs",), (Condition(PLAN_LABEL, (Glob(""),)),)),
            ]
            bench.app.admission.router = Router(RouteTable(rules))
            assert await bench.person.queue_retry({}) == {"deliveries": 0, "images": 1}
            assert set(bench.states()) == {number}

    body()


def test_discarding_held_images(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            bench.write(3, hold="no route matches")
            bench.write(1, "pacs")
            bench.fail([4])
            await bench.start()
            assert await bench.person.queue_discard({"state": "held", "ids": [1]}) == {"deliveries": 0, "images": 1}
            await bench.agreed()
            assert bench.files() == 3
            assert await bench.person.queue_discard({}) == {"deliveries": 1, "images": 2}
            await bench.agreed()
            assert bench.files() == 0

    body()


# --- reroute ----------------------------------------------------------------------------------------------------------


def test_rerouting_dead_letters_and_what_waits(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            numbers = bench.write(5, "pacs")
            bench.fail(numbers[:2])
            await bench.start()
            pacs, copy = bench.sites["pacs"], bench.sites["copy"]
            assert pacs.sending == [3]
            what = {"to": "pacs", "target": "copy"}
            assert await bench.person.queue_reroute(what) == {"deliveries": 2, "images": 0}
            await bench.agreed()
            await until(lambda: copy.busy, "it is sent there")
            assert await bench.person.queue_reroute(what | {"state": "ready"}) == {"deliveries": 2, "images": 0}
            assert bench.states() == {1: "discarded", 2: "discarded", 3: "ready", 4: "discarded", 5: "discarded"}
            await bench.agreed()
            copy.auto = pacs.auto = SUCCESS
            for site in (copy, pacs):
                site.busy[0].finish()
            await until(lambda: set(bench.states("copy").values()) == {"delivered"}, "all are delivered there")
            assert (sorted(copy.log), pacs.log) == ([1, 2, 4, 5], [3])
            await bench.agreed()
            assert bench.files() == 0

    body()


def test_rerouting_held_images(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            bench.write(3, modality="MR", hold="no route matches")
            await bench.start()
            what = {"state": "held", "target": "copy", "ids": [1, 3]}
            assert await bench.person.queue_reroute(what) == {"deliveries": 0, "images": 2}
            assert (set(bench.states("copy")), bench.app.scheduler.held) == ({1, 3}, 1)
            await until(lambda: bench.sites["copy"].busy, "it is sent")

    body()


def test_rerouting_to_nobody(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            await bench.start()
            with pytest.raises(OurFault, match='no destination is called "else"; there is "pacs", "copy"'):
                await bench.person.queue_reroute({"target": "else"})
            with pytest.raises(OurFault, match="target: must be the name"):
                await bench.person.queue_reroute({})

    body()


# --- discard ----------------------------------------------------------------------------------------------------------


def test_discarding_dead_letters(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            numbers = bench.write(4, "pacs", "copy")
            bench.fail(numbers[:2])
            await bench.start()
            assert await bench.person.queue_discard({"to": "pacs"}) == {"deliveries": 2, "images": 0}
            assert [bench.states()[n] for n in numbers] == ["discarded", "discarded", "ready", "ready"]
            assert set(bench.states("copy").values()) == {"ready"}
            await bench.agreed()
            assert bench.files() == 4
            assert bench.app.scheduler.tallies["pacs"].failed == 0

    body()


def test_discarding_what_waits_but_not_what_is_being_sent(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            bench.write(6, "pacs")
            await bench.start()
            pacs = bench.sites["pacs"]
            assert pacs.sending == [1]
            assert await bench.person.queue_discard({"to": "pacs", "state": "ready"}) == {"deliveries": 5, "images": 0}
            tally = bench.app.scheduler.tallies["pacs"]
            assert tally.backlog.images == 1
            pacs.finish(1)
            await bench.agreed()
            assert (tally.backlog.images, tally.backlog.bytes, tally.delivered) == (0, 0, 1)
            assert pacs.log == [1]
            assert bench.files() == 0

    body()


def test_discarding_a_long_backlog_while_it_is_sent(tmp_path: Path) -> None:
    """The channel refills meanwhile: nothing that was discarded may come back by that."""

    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            numbers = [instance(n, "pacs") for n in range(1, 2501)]
            bench.app.journal.commit(Group(admits=numbers))
            await bench.start()
            pacs = bench.sites["pacs"]
            pacs.auto = SUCCESS
            pacs.busy[0].finish()
            await settle_loop()
            await bench.person.queue_discard({"to": "pacs", "state": "ready"})
            await until(lambda: "ready" not in bench.states().values() and not pacs.busy, "nothing is left")
            await bench.agreed()
            found = bench.states()
            assert set(found.values()) == {"delivered", "discarded"}
            assert set(pacs.log) == {n for n, state in found.items() if state == "delivered"}

    body()


def test_a_discard_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncroute.commit.RETRY", 0.05)

    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            bench.write(3, "pacs")
            await bench.start()
            real = bench.app.journal.commit

            def fails(group: Group) -> Any:
                raise StorageFault("no space left on the disk", 28)

            monkeypatch.setattr(bench.app.journal, "commit", fails)
            with pytest.raises(StorageFault, match="no space"):
                await bench.person.queue_discard({"to": "pacs", "state": "ready"})
            monkeypatch.setattr(bench.app.journal, "commit", real)
            pacs = bench.sites["pacs"]
            pacs.auto = SUCCESS
            pacs.busy[0].finish()
            await until(lambda: set(bench.states().values()) == {"delivered"}, "all are sent after all")

    body()


# --- looking ----------------------------------------------------------------------------------------------------------


def test_listing(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            bench.write(2, "pacs")
            (failed,) = bench.write(1, "pacs", "copy")
            bench.fail([failed], "copy")
            (held,) = bench.write(1, hold="no route matches")
            await bench.start()

            async def listed(**what: Any) -> list[tuple[int, str, str]]:
                rows = await bench.person.queue_list(what)
                return [(row["instance_id"], row["destination"], row["state"]) for row in rows]

            everything = [
                (1, "pacs", "sending"),
                (2, "pacs", "ready"),
                (failed, "pacs", "ready"),
                (failed, "copy", "failed"),
                (held, "", "held"),
            ]
            assert sorted(await listed()) == sorted(everything)
            assert await listed(state="failed") == [(failed, "copy", "failed")]
            assert await listed(state="held") == [(held, "", "held")]
            assert await listed(to="copy") == [(failed, "copy", "failed")]
            assert len(await listed(limit=2)) == 2
            assert await listed(ids=[2]) == [(2, "pacs", "ready")]

    body()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"to": 5}, "to: must be text"),
        ({"accession": ["x"]}, "accession: must be text"),
        ({"ids": "5"}, "ids: must be a list of numbers"),
        ({"ids": ["5"]}, "ids: must be a list of numbers"),
    ],
)
def test_requests_that_make_no_sense(what: dict[str, Any], words: str) -> None:
    with pytest.raises(OurFault, match=words):
        selection(what, ())


def test_states() -> None:
    assert states_of({}, (DeliveryState.FAILED,)) == (DeliveryState.FAILED,)
    assert states_of({"state": "ready"}, ()) == (DeliveryState.READY,)
    for word in ("delivered", "nonsense", "held"):
        with pytest.raises(OurFault, match="state: must be one of failed, ready, sending, waiting or held"):
            states_of({"state": word}, ())


def test_more_requests_that_make_no_sense(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            await bench.start()
            for limit in (0, -1, "5", None):
                with pytest.raises(OurFault, match="limit"):
                    await bench.person.queue_list({"limit": limit})
            with pytest.raises(OurFault, match="not ready ones"):
                await bench.person.queue_retry({"state": "ready"})
            with pytest.raises(OurFault, match="state"):
                await bench.person.queue_discard({"state": "delivered"})
            assert bench.person.status()["running"] is True

    body()
