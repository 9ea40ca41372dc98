"""Which calling title each lane serves: bounds on associations and on waiting, in virtual time."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from asyncroute.core import outcomes
from asyncroute.core.model import RouteHit
from asyncroute.core.priority import LOW, NORMAL, STAT
from asyncroute.core.retry import Backoff
from asyncroute.queue import alarm
from asyncroute.queue.channel import Channel
from asyncroute.queue.turns import (
    CROWD,
    DWELL,
    DWELL_BYTES,
    DWELL_COSTS,
    DWELL_LEAST,
    DWELL_MOST,
    GAPS,
    LINGER,
    SLOWER,
    Stint,
    Turns,
)
from tests.unit.lanes import TimedLane, Town, busy
from tests.unit.parts import CT, JPEG, MR
from tests.unit.virtual import virtually

# --- how long a lane stays --------------------------------------------------------------------------------------------

A, B = ("CT_A", CT, "1.2"), ("CT_B", CT, "1.2")


def a_lane(*pairs: tuple[str, ...]) -> TimedLane:
    made = TimedLane(None, None)  # type: ignore[arg-type]
    made.open, made.title, made.pairs = True, "CT_A", set(pairs)
    return made


@pytest.mark.parametrize(
    ("seconds", "dwell", "linger"),
    [
        (0.001, DWELL, LINGER),
        (0.05, DWELL_COSTS * 0.05, 0.05),
        (0.1, DWELL_COSTS * 0.1, 0.1),
        (3.0, DWELL_MOST, DWELL_MOST),
    ],
)
def test_where_associations_are_dear_lanes_stay_longer(seconds: float, dwell: float, linger: float) -> None:
    turns, lane = Turns(), a_lane()
    stint = turns.begins(lane, A, 10.0, 0.0, 1)
    assert stint.until == 10.0 + DWELL
    turns.opened(lane, seconds, 11.0)
    assert turns.dwell == pytest.approx(dwell)
    assert turns.linger == pytest.approx(linger)
    assert stint.until == 11.0 + turns.dwell


def test_the_usual_opening_time_counts_not_a_single_one() -> None:
    turns, lane = Turns(), a_lane()
    for _ in range(20):
        turns.opened(lane, 0.02, 0.0)
    turns.opened(lane, 0.3, 0.0)
    assert turns.dwell < 0.4
    for _ in range(20):
        turns.opened(lane, 0.02, 0.0)
    assert turns.dwell == pytest.approx(max(DWELL, DWELL_COSTS * 0.02), rel=0.05)


@pytest.mark.parametrize(
    ("rate", "opening", "dwell"),
    [
        (10 << 20, 0.001, DWELL),
        (40 << 20, 0.001, DWELL_BYTES / (40 << 20)),
        (1 << 30, 0.001, DWELL_LEAST),
        (1 << 30, 0.05, DWELL_COSTS * 0.05),
    ],
    ids=["little", "much", "very much", "much, but associations are dear"],
)
def test_where_much_is_sent_lanes_stay_shorter(rate: int, opening: float, dwell: float) -> None:
    turns, lane = Turns(), a_lane()
    now = 10.0
    for _ in range(40):
        turns.begins(lane, A, now, 0.0, 1).bytes = rate // 10
        turns.opened(lane, opening, now + opening)
        now += opening + 0.1
    assert turns.dwell == pytest.approx(dwell)


@pytest.mark.parametrize(
    ("waited", "ready", "patience"),
    [(0.0, 1, LINGER), (0.3, 1, 0.0), (0.06, 4, GAPS * 0.015), (0.2, 4, DWELL), (3.0, 4, 0.0), (0.0, 2, LINGER)],
    ids=["unknown", "one image and no more", "busy", "less so", "some now and then", "several at once"],
)
def test_who_is_likely_to_send_more_is_waited_for(waited: float, ready: int, patience: float) -> None:
    turns, lane = Turns(), a_lane()
    stint = turns.begins(lane, A, 0.0, waited, ready)
    stint.until, stint.free = 100.0, 50.0
    assert turns.due(lane, "CT_B", 50.0, CROWD) == 50.0 + patience
    assert turns.over(lane, 50.0) == 100.0


def test_who_sent_again_soon_is_waited_for() -> None:
    """For some of the gaps between its images; a single one that came sooner does not end the patience."""
    turns, lane = Turns(), a_lane()
    stint = turns.begins(lane, A, 0.0, 1.0, 1)
    stint.free = 5.0
    turns.goes_on(stint, A, 6.0)
    assert stint.patience == 0.0
    turns.goes_on(stint, A, 5.0 + DWELL / 2)
    assert stint.patience == DWELL
    turns.goes_on(stint, A, 5.001)
    assert stint.patience == pytest.approx(SLOWER * DWELL)
    for _ in range(20):
        turns.goes_on(stint, A, 5.005)
    assert stint.patience == pytest.approx(GAPS * 0.005)


def test_who_has_ended_is_not_waited_for_a_whole_dwell() -> None:
    """Ten images, one every 5 ms; who comes then need not wait for the rest of the dwell."""

    async def body() -> None:
        town = Town(lanes=1)
        await asyncio.gather(town.sender("CT_A", 10, 0.005), town.sender("CT_B", 1, 0.0, 0.055))
        await town.empty()
        assert max(town.waits["CT_B"]) < DWELL / 4

    virtually(body)


def test_a_lane_that_has_served_long_does_not_leave_for_who_has_only_come() -> None:
    turns, lane = Turns(), a_lane()
    turns.begins(lane, A, 0.0, 0.0, 1)
    assert turns.over(lane, 100.0) == 100.0 + DWELL / 2


def test_who_serves_whom() -> None:
    turns, lane, other = Turns(), a_lane(A[1:]), a_lane(A[1:])
    assert not turns.serves(A)
    turns.begins(lane, A, 0.0, 0.0, 1)
    assert turns.serves(A)
    assert turns.serves(("CT_A", MR, "1.2")), "whatever its association will carry"
    turns.stints[lane].opening = False
    assert (turns.serves(A), turns.serves(("CT_A", MR, "1.2"))) == (True, False)
    turns.begins(other, B, 0.0, 0.0, 1)
    assert (list(turns.lanes("CT_A")), list(turns.lanes("CT_B")), turns.several) == ([lane], [other], True)
    turns.begins(other, A, 0.0, 0.0, 1)
    assert (len(turns.lanes("CT_A")), turns.lanes("CT_B"), turns.several) == (2, (), False)
    assert [turns.leaves(each, 1.0) for each in (lane, other, lane)] == ["CT_A", "CT_A", None]
    assert turns.stints == {}


# --- many titles ------------------------------------------------------------------------------------------------------


def test_ten_busy_titles_over_four_lanes() -> None:
    """Associations by time, not by image; half of the images wait less than a dwell."""

    async def body() -> None:
        town = Town(lanes=4)
        seconds = await busy(town, 10, 300, 0.006)
        assert len(town.order) == 3000
        assert len(town.opened) <= 4 * seconds / (DWELL + town.opening) + 10
        assert town.median < DWELL
        assert town.longest < 3 * DWELL

    virtually(body)


def test_large_images_wait_less_for_a_lane() -> None:
    """They would fill the memory meanwhile, and be read from the disk."""

    async def body() -> None:
        town = Town(lanes=4)
        seconds = await busy(town, 10, 300, 0.006, size=1 << 20)
        assert town.median < DWELL / 3
        assert max(max(waits[50:]) for waits in town.waits.values()) < DWELL, "once that is known"
        assert len(town.opened) <= 4 * seconds / (DWELL_LEAST + town.opening) + 10

    virtually(body)


MIXTURES: list[tuple[int, int, float, list[tuple[str, str, int]]]] = [
    (4, 10, 0.006, [(CT, "1.2", NORMAL)]),
    (4, 5, 0.002, [(CT, "1.2", NORMAL)]),
    (2, 7, 0.02, [(CT, "1.2", NORMAL), (MR, "1.2", NORMAL)]),
    (3, 9, 0.05, [(CT, "1.2", NORMAL)]),
    (4, 8, 0.006, [(CT, "1.2", NORMAL), (CT, JPEG, LOW), (MR, "1.2", STAT)]),
]


@pytest.mark.parametrize(("lanes", "titles", "gap", "kinds"), MIXTURES)
def test_a_look_that_is_spared_would_have_found_nothing(
    lanes: int, titles: int, gap: float, kinds: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All begins as if the channel had looked after every image, but for the grain of its alarm."""
    monkeypatch.setattr(alarm, "SOONEST", 0.0)
    rested: list[float] = []
    real = Channel._rests_until

    def counted(channel: Channel, stint: Stint) -> float:
        rested.append(until := real(channel, stint))
        return until

    def story() -> tuple[object, ...]:
        found: list[object] = []

        async def body() -> None:
            town = Town(lanes)
            rng = Random(titles)

            async def sender(number: int) -> None:
                for _ in range(150):
                    await asyncio.sleep(rng.uniform(0, 2 * gap))
                    sop_class, syntax, priority = rng.choice(kinds)
                    hits = (RouteHit("main", "pacs", priority),)
                    town.send(f"SITE{number}", sop_class_uid=sop_class, transfer_syntax=syntax, hits=hits)

            await asyncio.gather(*map(sender, range(titles)))
            await town.empty()
            found.extend((town.begun, town.order, town.opened))

        virtually(body)
        return tuple(found)

    monkeypatch.setattr(Channel, "_rests_until", lambda *_: 0.0)
    looked = story()
    monkeypatch.setattr(Channel, "_rests_until", counted)
    assert story() == looked
    assert sum(map(bool, rested)) > 20


def test_one_title_too_many() -> None:
    """It does not set all lanes turning: one association for each half dwell at most."""

    async def body() -> None:
        town = Town(lanes=10)
        seconds = await busy(town, 11, 300, 0.006)
        assert len(town.opened) <= seconds / (DWELL / 2) + 22
        assert town.longest < 2 * DWELL

    virtually(body)


def test_an_endless_backlog_and_single_images_of_others() -> None:
    """They wait for a dwell and the image at hand, not for 64 images; and the backlog is not held up for them."""

    async def body() -> None:
        town = Town(lanes=1, service=0.004)
        town.send("BACKLOG", 900)
        await asyncio.gather(*(town.sender(f"SITE{n}", 5, 0.5, 0.1 + n * 0.1) for n in range(4)))
        await town.empty()
        singles = [wait for title, waits in town.waits.items() if title != "BACKLOG" for wait in waits]
        assert len(singles) == 20
        assert max(singles) < 2 * DWELL + 3 * (town.opening + town.service)
        assert len(town.opened) <= 41
        assert max(town.waits["BACKLOG"]) < 900 * town.service + 20 * (DWELL + 3 * town.opening)

    virtually(body)


def test_two_backlogs_share_the_lanes() -> None:
    """The later one gets half of them, though every image of the first is older."""

    async def body() -> None:
        town = Town(lanes=4, service=0.01)
        town.send("FIRST", 400)
        await asyncio.sleep(0.2)
        town.send("SECOND", 100)
        await asyncio.sleep(0.2)
        sending = sorted(delivery.calling_aet for delivery in town.channel.sending.values())
        assert sending == ["FIRST", "FIRST", "SECOND", "SECOND"]
        await town.empty()
        assert len(town.opened) < 20

    virtually(body)


def test_slow_images() -> None:
    """Half a second each: a dwell is over after each one, and the lane turns to who has waited longest."""

    async def body() -> None:
        town = Town(lanes=1, service=0.5)
        await asyncio.sleep(0.1)
        for title in ("A", "A", "A", "B", "C", "B"):
            town.send(title)
        await town.empty()
        assert town.order == ["A", "B", "C", "A", "B", "A"]

    virtually(body)


def test_nobody_waits_nothing_turns() -> None:
    async def body() -> None:
        town = Town(lanes=4)
        await busy(town, 4, 200, 0.05)
        assert (len(town.opened), town.closed) == (4, 0)

    virtually(body)


def test_a_class_that_the_association_does_not_carry_is_not_kept_waiting() -> None:
    """The next association of the same title carries both, so nothing is lost by turning at once."""

    async def body() -> None:
        town = Town(lanes=1)
        await asyncio.sleep(0.1)
        town.send("A")
        await town.empty()
        town.send("A", transfer_syntax=JPEG)
        await town.empty()
        assert len(town.opened) == 2
        assert town.waits["A"][-1] == pytest.approx(town.opening + town.service)
        town.send("A")
        town.send("A", transfer_syntax=JPEG)
        await town.empty()
        assert len(town.opened) == 2

    virtually(body)


def test_a_paused_title_keeps_its_place_and_nobody_waits_for_it() -> None:
    async def body() -> None:
        town = Town(lanes=1)
        await asyncio.sleep(0.1)
        verdict = town.channel.verdict
        verdict._titles["A"] = town.loop.time() + 1.0
        verdict.calm = False
        town.send("A")
        town.send("B", 3)
        await asyncio.sleep(0.5)
        assert town.order == ["B", "B", "B"]
        town.send("C")
        await asyncio.sleep(0.4)
        assert town.order == ["B", "B", "B", "C"]
        await town.empty()
        assert town.order[-1] == "A"

    virtually(body)


def test_a_reload_while_titles_wait() -> None:
    async def body() -> None:
        town = Town(lanes=1, service=0.05)
        await asyncio.sleep(0.1)
        for title in ("A", "B", "C"):
            town.send(title, 2)
        town.channel.window.change(2, False)
        town.channel.change(town, Backoff(), None, 0.0)
        await asyncio.sleep(0.03)
        assert len(town.channel.sending) == 2
        await town.empty()
        assert sorted(town.order) == ["A", "A", "B", "B", "C", "C"]
        assert len(town.channel.lanes) <= 2

    virtually(body)


def test_a_destination_that_went_away_finds_all_that_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        town = Town(lanes=2)
        await asyncio.sleep(0.1)
        town.channel.breaker._random = lambda: 0.0
        lost = outcomes.refused()
        answers = [lost, lost, lost, lost]
        sent = TimedLane._sent

        def some_fail(self: TimedLane, delivery: object) -> None:
            if not answers:
                sent(self, delivery)  # type: ignore[arg-type]
                return
            self.open = False
            self.reports.finished(self, delivery, answers.pop())  # type: ignore[arg-type]

        monkeypatch.setattr(TimedLane, "_sent", some_fail)
        for n in range(20):
            town.send(f"SITE{n % 5}")
        await town.empty()
        assert len(town.order) == 20
        assert town.channel.verdict.calm
        assert not town.channel._flows.lined or town.channel._flows.first() is None

    virtually(body)


def test_associations_that_others_want_are_shared() -> None:
    """Two channels, one association between them: each has its turn, whatever its lanes' dwell."""

    async def body() -> None:
        town = Town(lanes=2, outbound=1)
        other = Town(lanes=2)
        other.channel._outbound = other.outbound = town.outbound
        await asyncio.sleep(0.1)
        town.send("A", 3)
        other.send("A", 3)
        await asyncio.gather(town.empty(), other.empty())
        assert (town.order, other.order) == (["A"] * 3, ["A"] * 3)
        assert town.outbound._left + sum(len(t.channel._opened) for t in (town, other)) == 1

    virtually(body)


# --- what else an association may be for ------------------------------------------------------------------------------


def test_thirty_titles_and_as_many_studies_over_ten_lanes() -> None:
    """An association for one study at a time: nobody waits long for a lane, and none is opened without need."""

    async def body() -> None:
        town = Town(lanes=10)
        town.scope = "study"
        town.channel.window.change(10, True)

        async def sender(title: str, gap: float, after: float) -> None:
            await asyncio.sleep(after)
            for study in range(3):
                for _ in range(40):
                    town.send(title, study_uid=f"{title}.{study}")
                    await asyncio.sleep(gap)

        begun = town.loop.time()
        await asyncio.gather(*(sender(f"SITE{n}", 0.02, n / 1500) for n in range(30)))
        await town.empty()
        seconds = town.loop.time() - begun
        assert len(town.order) == 30 * 3 * 40
        assert town.longest < 2.0
        assert len(town.opened) <= 10 * seconds / (DWELL + town.opening) + 90, "by time, and one for each study"
        assert {title.partition("\\")[0] for _, title in town.opened} == {f"SITE{n}" for n in range(30)}

    virtually(body)


def test_no_association_ends_for_others_while_there_are_lanes() -> None:
    async def body() -> None:
        town = Town(lanes=10)
        town.scope = "study"
        for image in range(100):
            town.send("A", study_uid=f"1.{image % 8}")
            await asyncio.sleep(0.02)
        await town.empty()
        assert [title for _, title in town.opened] == [f"A\\1.{n}" for n in range(8)]
        assert town.closed == 0

    virtually(body)


def test_a_title_that_is_not_known_there_pauses_for_all_its_studies() -> None:
    async def body() -> None:
        town = Town(lanes=2)
        town.scope = "study"
        town.channel.verdict._titles["A"] = town.loop.time() + 60
        for study in ("1.1", "1.2"):
            town.send("A", study_uid=study)
            town.send("B", study_uid=study)
        await asyncio.sleep(1)
        assert town.order == ["B", "B"]
        await town.empty()

    virtually(body)
