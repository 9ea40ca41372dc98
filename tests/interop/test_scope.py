"""What ends an association, per destination: counted where they arrive, with the program and a real receiver."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.support import settings, synthetic
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image

KIND = synthetic.Kind(size=2_000)
NEVER = {"idle_close": "never", "max_age": "never"}


@dataclass(frozen=True)
class Sent:
    """One image and where it belongs."""

    image: Image
    source: str
    patient: str
    study: int
    series: int


def made() -> list[Sent]:
    """Two senders, of each two patients with two studies of two series of two images; all in turns."""
    found = []
    for number in range(32):
        source, patient, study, series = (number & bit > 0 for bit in (1, 2, 4, 8))
        place = source * 4 + patient * 2 + study
        image = synthetic.image("scope", number, KIND, place, f"PAT-{source:d}{patient:d}", 1 + series)
        found.append(Sent(image, f"SITE{source:d}", f"{source:d}{patient:d}", place, place * 2 + series))
    return found


ONE: dict[str, tuple[int, Callable[[Sent], object]]] = {
    "image": (32, lambda sent: sent.image.sop_instance),
    "series": (16, lambda sent: sent.series),
    "study": (8, lambda sent: sent.study),
    "patient": (4, lambda sent: sent.patient),
    "source": (2, lambda sent: sent.source),
    "any": (1, lambda sent: None),
}


@pytest.mark.parametrize("scope", ONE)
def test_one_after_the_other(make_router: MakeRouter, receivers: ReceiverHost, scope: str) -> None:
    """Each waits until the last one has arrived, so that no two need an association at the same time."""
    end = receivers.receiver()
    association = NEVER | {"scope": scope}
    destination = settings.dicom(
        "end", end.port, max_associations=16, calling_ae_title="ROUTER", association=association
    )
    router = make_router(destination=[destination], route=[settings.route("all", ["end"])]).start()
    images = made()
    open_now = {source: router.caller(source).associate([x.image for x in images]) for source in ("SITE0", "SITE1")}
    for number, sent in enumerate(images):
        assert open_now[sent.source].store(sent.image).status == 0
        end.wait_stored(number + 1)
        router.wait_delivered(number + 1)
    for association_in in open_now.values():
        association_in.release()
    expected, what = ONE[scope]
    carried = defaultdict(set)
    belongs = {sent.image.sop_instance: what(sent) for sent in images}
    for stored in end.stored():
        carried[stored.association].add(belongs[stored.sop_instance])
    assert len(carried) == end.tally().associations == expected
    assert all(len(several) == 1 for several in carried.values()), carried
    assert_exactly(end, [sent.image for sent in images])


@pytest.mark.parametrize("scope", ["image", "series", "study", "patient"])
def test_all_at_once_over_few_associations(make_router: MakeRouter, receivers: ReceiverHost, scope: str) -> None:
    end = receivers.receiver()
    destination = settings.dicom("end", end.port, max_associations=3, association={"scope": scope})
    router = make_router(destination=[destination], route=[settings.route("all", ["end"])]).start()
    images = made()
    shares = [(router.caller(s), [x.image for x in images if x.source == s]) for s in ("SITE0", "SITE1")]
    Fleet(shares).run().assert_clean()
    router.wait_delivered(len(images))
    _, what = ONE[scope]
    belongs = {sent.image.sop_instance: what(sent) for sent in images}
    carried = defaultdict(set)
    for stored in end.stored():
        carried[stored.association].add(belongs[stored.sop_instance])
    assert all(len(several) == 1 for several in carried.values()), carried
    assert end.tally().most_at_once <= 3
    assert_exactly(end, [sent.image for sent in images])


def test_a_backlog_from_the_journal_and_another_scope_by_reload(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    """What was read from the journal knows its series, too."""
    end = receivers.receiver(start=False)
    destination = settings.dicom("end", end.port, max_associations=2, association={"scope": "any"})
    router = make_router(destination=[destination], route=[settings.route("all", ["end"])]).start()
    images = made()
    shares = [(router.caller(s), [x.image for x in images if x.source == s]) for s in ("SITE0", "SITE1")]
    Fleet(shares).run().assert_clean()
    router.stop()
    router.config["destination"][0]["association"] = {"scope": "series"}
    router.write_config()
    end.start()
    router.start()
    router.wait_delivered(len(images))
    belongs = {sent.image.sop_instance: sent.series for sent in images}
    carried = defaultdict(set)
    for stored in end.stored():
        carried[stored.association].add(belongs[stored.sop_instance])
    assert all(len(several) == 1 for several in carried.values()), carried
    assert_exactly(end, [sent.image for sent in images])
