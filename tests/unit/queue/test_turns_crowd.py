"""Many more calling titles than lanes: bounds on associations and on waiting, in virtual time."""

from __future__ import annotations

import pytest

from asyncroute.queue.turns import CREDIT, CROWD, DWELL, DWELL_MOST, PAID, SHORT, Turns
from tests.unit.lanes import TimedLane, Town, busy
from tests.unit.parts import CT
from tests.unit.virtual import virtually

A = ("CT_A", CT, "1.2")


def a_lane() -> TimedLane:
    return TimedLane(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize(("images", "patience"), [(PAID - 1, 0.02), (PAID, 0.0)])
def test_in_a_crowd_nobody_is_waited_for_longer_than_an_opening_takes(lanes: int, images: int, patience: float) -> None:
    """After a few images not at all."""
    turns, lane = Turns(), a_lane()
    first, *_ = [turns.begins(each, A, 0.0, 0.04, 4) for each in (lane, *(a_lane() for _ in range(lanes - 1)))]
    turns.opened(lane, 0.02, 0.0)
    first.until, first.free, first.images = 100.0, 50.0, images
    few, many = CROWD * lanes, CROWD * lanes + 1
    assert turns.due(lane, "CT_B", None, few) == turns.stays_until(first, few) == 50.04
    assert turns.due(lane, "CT_B", None, many) == turns.stays_until(first, many) == 50.0 + patience


@pytest.mark.parametrize(("images", "paid"), [(PAID - 1, 10.0 + DWELL), (PAID, 0.0)])
def test_a_turn_after_many_images_is_paid_for_however_short_the_processor_is(images: int, paid: float) -> None:
    turns, lane = Turns(), a_lane()
    turns.opened(lane, 0.001, 0.0)
    for _ in range(20):
        turns.opened(lane, 2 * SHORT, 1.0)
    stint = turns.begins(lane, A, 1.0, 0.0, 1)
    stint.images = images
    turns.turned(stint, 10.0 + CREDIT)
    assert turns.paid == pytest.approx(paid)


def test_a_hundred_busy_titles_over_four_lanes() -> None:
    """They send a little less than the lanes can take; none of them waits for long."""

    async def body() -> None:
        town = Town(lanes=4, service=0.002)
        seconds = await busy(town, 100, 10, 0.06)
        assert len(town.order) == 1000
        assert seconds < 1.0
        assert town.median < 0.3
        assert town.longest < 0.6
        assert len(town.opened) < 300

    virtually(body)


def test_thirty_titles_over_ten_lanes() -> None:
    async def body() -> None:
        town = Town(lanes=10)
        await busy(town, 30, 100, 0.01)
        assert len(town.waits) == 30
        assert town.longest < 0.3

    virtually(body)


def test_thirty_titles_over_ten_lanes_to_a_destination_far_away() -> None:
    """Associations that take long to open are kept longer, and still nobody waits for two seconds."""

    async def body() -> None:
        town = Town(lanes=10, service=0.01, opening=0.15)
        seconds = await busy(town, 30, 80, 0.06)
        assert len(town.opened) <= 10 * (seconds / DWELL_MOST + 1)
        assert town.longest < 2

    virtually(body)


def test_thirty_titles_and_one_lane() -> None:
    async def body() -> None:
        town = Town(lanes=1)
        await busy(town, 30, 30, 0.06)
        assert len(town.waits) == 30
        assert town.longest < 30 * DWELL

    virtually(body)


@pytest.mark.parametrize("lanes", [1, 4, 10])
def test_two_hundred_titles_with_an_image_a_second(lanes: int) -> None:
    """An association for each image, as it must be; no lane waits for a second one."""

    async def body() -> None:
        town = Town(lanes)
        await busy(town, 200, 5, 1.0)
        assert len(town.order) == 1000
        assert town.median < 0.05
        assert town.longest < 0.2

    virtually(body)


def test_where_the_processor_is_short_images_gather() -> None:
    """Opening takes longer than it did: of many titles that send little each, lanes take turns once in a dwell, but for
    turns after many images."""

    async def body() -> None:
        town = Town(lanes=4, opening=0.001)
        await busy(town, 100, 3, 1.0)
        assert len(town.opened) == 300
        town.opening = 0.009
        seconds = await busy(town, 100, 20, 0.1)
        assert len(town.opened) - 300 <= 4 * (seconds + CREDIT) / DWELL + 8 + 2000 / PAID
        assert town.longest < 3
        town.opening = 0.001
        await busy(town, 4, 100, 0.01)
        already = len(town.opened)
        await busy(town, 100, 3, 1.0)
        assert len(town.opened) - already > 295

    virtually(body)
