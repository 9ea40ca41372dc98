"""A person's words about images that wait for their study: journal, memory, counters and channels agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncroute.core.model import Wait
from asyncroute.journal.base import Complete, Group
from tests.unit.parts import on_loop, until
from tests.unit.test_administer import Bench, running

ROUTE = """
[[route]]
name = "all"
match = { Modality = "NONE" }
to = ["pacs", "copy"]
when = "complete"
quiet = "1h"
at_latest = "2h"
"""
STUDY, HELD = Wait("study"), Wait("study", hold_late=True)


async def agreed(bench: Bench) -> dict[str, int]:
    """Deliveries that wait, by destination: the same in memory and in the journal."""
    found = await bench.app.reader.completions()
    known = {it.id: (it.images, dict(it.owed)) for it in bench.app.waiting.completions}
    assert {it.id: (it.images, it.owed) for it in found} == known
    return dict(bench.app.waiting.owed())


async def began(bench: Bench, *numbers: int) -> None:
    """These, one after the other, are sent to the destination."""
    site = bench.sites["pacs"]
    for number in numbers:
        await until(lambda wanted=number: site.sending == [wanted], f"image {number} is sent")  # type: ignore[misc]
        site.finish(number)


@pytest.mark.parametrize(
    ("what", "sent", "left"),
    [
        ({}, [1, 2, 3, 4], {}),
        ({"study_uid": "1.2.1"}, [1, 3], {"pacs": 2, "copy": 2}),
        ({"ids": [2]}, [2], {"pacs": 3, "copy": 3}),
        ({"ids": [2], "to": "pacs"}, [2], {"pacs": 3, "copy": 4}),
        ({"to": "copy"}, [], {"pacs": 4}),
        ({"study_uid": "1.9"}, [], {"pacs": 4, "copy": 4}),
    ],
)
def test_what_waits_is_sent_now(tmp_path: Path, what: dict[str, Any], sent: list[int], left: dict[str, int]) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path, ROUTE) as bench:
            bench.write(4, "pacs", "copy", wait=STUDY)
            await bench.start()
            assert await agreed(bench) == {"pacs": 4, "copy": 4}
            touched = 8 - sum(left.values())
            assert await bench.person.queue_release({"waiting": True, **what}) == {"deliveries": touched}
            assert await agreed(bench) == left
            await began(bench, *sent)
            assert await bench.person.queue_release({"waiting": True, **what}) == {"deliveries": 0}

    body()


def test_late_images_are_retried_with_what_is_held(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path, ROUTE) as bench:
            bench.write(2, "pacs", wait=HELD)
            bench.app.journal.commit(Group(actions=[Complete([1, 2])]))
            bench.write(2, "pacs", wait=HELD)
            bench.write(1, "pacs")
            await bench.start()
            assert [it.held for it in bench.app.waiting.completions] == [True, True]
            await began(bench, 1, 2, 5)
            assert await bench.person.queue_retry({"ids": [3]}) == {"deliveries": 1, "images": 0}
            assert await agreed(bench) == {"pacs": 1}
            await began(bench, 3)
            assert await bench.person.queue_retry({"state": "failed"}) == {"deliveries": 0, "images": 0}
            assert await bench.person.queue_retry({"state": "held"}) == {"deliveries": 1, "images": 0}
            assert await agreed(bench) == {}

    body()


def test_what_waits_is_discarded(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path, ROUTE) as bench:
            bench.write(4, "pacs", wait=STUDY)
            await bench.start()
            what = {"state": "waiting", "study_uid": "1.2.0"}
            assert await bench.person.queue_discard(what) == {"deliveries": 2, "images": 0}
            assert await agreed(bench) == {"pacs": 2}
            assert await bench.person.queue_discard({"ids": [1, 3]}) == {"deliveries": 0, "images": 0}

    body()


def test_when_it_is_due_is_told(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path, ROUTE) as bench:
            bench.write(2, "pacs", wait=STUDY)
            await bench.start()
            status = bench.person.status()
            incomplete = status["incomplete"]
            assert (incomplete["studies"], incomplete["images"], len(incomplete["list"])) == (2, 2, 2)
            assert 0 < incomplete["next_due_s"] <= 3600
            (pacs,) = (line for line in status["channels"] if line["name"] == "pacs")
            assert (pacs["waiting"], pacs["incomplete"], pacs["ready"]) == (2, 2, 0)
            story = await bench.person.why({"name": "1.2.1"})
            (delivery,) = story["detail"][0]["deliveries"]
            awaits = delivery["awaits"]
            assert (delivery["state"], awaits["unit"], awaits["uid"]) == ("waiting", "study", "1.2.1")
            assert 0 < awaits["due_at"] - awaits["last_at"] <= 3601

    body()
