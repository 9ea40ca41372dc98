"""A full disk, really full: a tmpfs of some megabytes under the real router.

Nothing that did not fit was acknowledged, nothing of it is left, and everything goes on when there is space again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from time import monotonic

import pytest

from tests.support import settings, synthetic
from tests.support.corpus import read_meta
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Rejected, Result, send
from tests.support.images import Image
from tests.support.router import Router
from tests.support.small_disk import MIB, Filler, SmallDisk
from tests.support.waiting import wait_until

OUT_OF_RESOURCES = 0xA700
LIMIT = (2, 3, 2)
RECOVERY = 10.0
KIND = synthetic.Kind(size=300_000)
LARGE = synthetic.image("large", 0, synthetic.Kind(size=20_000_000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the disk is mounted: the router's data folder."""
    return tmp_path / "disk"


@pytest.fixture
def disk(folder: Path) -> Iterator[SmallDisk]:
    """One disk of 64 MiB."""
    with SmallDisk({folder: "64m"}) as made:
        yield made


def router_on(disk: SmallDisk, folder: Path, port: int, **node: object) -> Router:
    return disk.router(
        folder.parent / "router",
        {
            "node": settings.node(data_dir=str(folder), min_free=0, **node),
            "destination": [settings.dicom("end", port)],
            "route": [settings.route("all", ["end"])],
        },
    )


@pytest.fixture
def routers() -> Iterator[list[Router]]:
    """Routers that are killed after the test."""
    made: list[Router] = []
    yield made
    for router in made:
        router.kill()
        Router.made.remove(router)


def seconds_until_stored(router: Router, seed: str) -> tuple[float, Image]:
    """How long until an image is taken again, trying without a pause."""
    begun = monotonic()
    image = synthetic.image(seed, 0, KIND)
    wait_until(lambda: send(router.caller(), [image]).acknowledged, RECOVERY, "one is taken again", router.log_tail)
    return monotonic() - begun, image


def spooled(router: Router) -> set[str]:
    """The digests of the data sets in the spool."""
    contents = [path.read_bytes() for path in router.spool_files()]
    return {sha256(content[read_meta(content).offset :]).hexdigest() for content in contents}


def test_what_does_not_fit_is_refused_and_leaves_nothing(
    disk: SmallDisk, folder: Path, routers: list[Router], receivers: ReceiverHost
) -> None:
    end = receivers.receiver(start=False)
    routers.append(router := router_on(disk, folder, end.port).start())
    filler = Filler(disk.inside(folder))
    filler.fill(leave=6 * MIB)
    images = synthetic.series("full", 30, KIND)
    taken, refused = offer(router, [LARGE, *images])
    assert taken
    assert refused[0].image == LARGE
    assert {it.status for it in refused} == {OUT_OF_RESOURCES}
    assert all(it.comment for it in refused)
    assert spooled(router) == {image.sha256 for image in taken}
    assert len(router.spool_files()) == len(taken)
    filler.remove()
    seconds, later = seconds_until_stored(router, "later")
    end.start()
    router.wait_delivered(len(taken) + 1)
    assert_exactly(end, [*taken, later])
    status = router.wait_drained()
    assert (status["totals"]["received"], status["totals"]["failed"]) == (len(taken) + 1, 0)
    print(f"disk full: {len(taken)} taken, {len(refused)} refused, taken again after {seconds:.1f} s")


def test_below_min_free(disk: SmallDisk, folder: Path, routers: list[Router], receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_on(disk, folder, end.port)
    router.config["node"]["min_free"] = "16 MiB"
    router.write_config()
    routers.append(router.start())
    image = synthetic.image("below", 0, KIND)
    filler = Filler(disk.inside(folder))
    with router.caller().associate([image, LARGE]) as association:
        filler.fill(leave=12 * MIB)
        router.wait_status(lambda s: s["trouble"], RECOVERY, "the trouble is told")
        answers = [association.store(image), association.store(LARGE)]
        assert [it.status for it in answers] == [OUT_OF_RESOURCES] * 2
        assert all("min_free" in it.comment for it in answers)
        assert association.echo() == 0
        with pytest.raises(Rejected) as rejected:
            router.caller().associate()
        assert rejected.value.code == LIMIT
        assert not router.spool_files()
        filler.remove()
        seconds, later = seconds_until_stored(router, "after")
        assert association.store(image).status == 0
    router.wait_delivered(2)
    assert_exactly(end, [image, later])
    print(f"below min_free: refused, taken again after {seconds:.1f} s")


def test_the_disk_of_the_journal_alone(tmp_path: Path, routers: list[Router], receivers: ReceiverHost) -> None:
    folder = tmp_path / "data"
    with SmallDisk({folder: "48m", folder / "spool": "64m"}) as disk:
        end = receivers.receiver(start=False)
        routers.append(router := router_on(disk, folder, end.port).start())
        before = synthetic.series("before", 80, KIND)
        assert send(router.caller(), before).acknowledged == before
        filler = Filler(disk.inside(folder))
        filler.fill()
        taken, refused = offer(router, synthetic.series("meanwhile", 20, KIND))
        assert {it.status for it in refused} == {OUT_OF_RESOURCES}
        kept = [*before, *taken]
        assert spooled(router) == {image.sha256 for image in kept}
        end.start()
        router.wait_delivered(len(kept))  # results can be written: they have the reserve
        assert router.wait_drained()["totals"]["failed"] == 0
        filler.remove()
        seconds, later = seconds_until_stored(router, "later")
        router.wait_delivered(len(kept) + 1)
        assert_exactly(end, [*kept, later])
        router.wait_status(lambda s: not s["trouble"], RECOVERY, "no trouble any more")
        router.stop()
    print(f"journal's disk full: {len(refused)} refused, {len(kept)} delivered, taken again after {seconds:.1f} s")


def offer(router: Router, images: list[Image]) -> tuple[list[Image], list[Result]]:
    """Send all ``images``; those acknowledged, and the other answers."""
    with router.caller().associate(images) as association:
        results = [association.store(image) for image in images]
    return [it.image for it in results if it.status == 0], [it for it in results if it.status]


def test_a_start_on_a_full_disk(disk: SmallDisk, folder: Path, routers: list[Router], receivers: ReceiverHost) -> None:
    end = receivers.receiver(start=False)
    routers.append(router := router_on(disk, folder, end.port).start())
    images = synthetic.series("queued", 60, KIND)
    assert send(router.caller(), images).acknowledged == images
    router.stop()
    filler = Filler(disk.inside(folder))
    filler.fill()
    router.start()
    assert re.search("reserve", " ".join(router.status()["trouble"]))
    with pytest.raises(Rejected) as rejected:
        router.caller().associate()
    assert rejected.value.code == LIMIT
    end.start()
    router.wait_delivered(len(images))
    router.wait_drained()
    seconds, later = seconds_until_stored(router, "again")
    router.wait_delivered(len(images) + 1)
    assert_exactly(end, [*images, later])
    filler.remove()
    router.wait_status(lambda s: not s["trouble"], RECOVERY, "the reserve is back")
    router.stop()
    print(f"start on a full disk: {len(images)} delivered, taken again {seconds:.1f} s later")
