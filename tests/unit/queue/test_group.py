"""Studies and the members of groups: who gets a study, and where its later images go."""

from __future__ import annotations

from asyncroute.core.groups import Group
from asyncroute.core.model import Instance, RouteHit
from asyncroute.core.priority import LOW, STAT
from asyncroute.queue import group as module
from asyncroute.queue.group import HELD, Groups
from tests.unit.parts import instance

ARCHIVE = Group("archive", False, ("a", "b", "c"), (1, 1, 1), 600.0)
READERS = Group("readers", True, ("b", "x"), (1, 1), 600.0)
TO_ARCHIVE = (RouteHit("r", "archive"),)


class Bench:
    """Groups whose members are as ill as ``ill`` says."""

    def __init__(self, *groups: Group) -> None:
        self.ill: dict[str, str] = {}
        self.groups = Groups(groups or (ARCHIVE,), lambda name: self.ill.get(name, ""))

    def to(self, study: str, hits: tuple[RouteHit, ...] = TO_ARCHIVE) -> list[str]:
        return [hit.destination for hit in self.groups.addressed(image(study), hits)]


def image(study: str, number: int = 1) -> Instance:
    made = instance(number)
    made.study_uid = study
    return made


def test_other_hits_are_left_alone() -> None:
    bench = Bench()
    hits = (RouteHit("r", "a"), RouteHit("r", "z"))
    assert bench.groups.addressed(image("1"), hits) is hits


def test_the_first_that_is_well() -> None:
    bench = Bench()
    assert bench.to("1") == ["a"]
    bench.ill = {"a": "down"}
    assert (bench.to("1"), bench.to("2")) == (["a"], ["b"])
    bench.ill = {"a": "down", "b": HELD}
    assert bench.to("3") == ["c"]
    bench.ill = {}
    assert (bench.to("2"), bench.to("3"), bench.to("4")) == (["b"], ["c"], ["a"])


def test_nobody_is_well() -> None:
    bench = Bench()
    bench.ill = {"a": HELD, "b": "down", "c": "down"}
    assert bench.to("1") == ["b"]
    bench.ill = dict.fromkeys("abc", HELD)
    assert bench.to("2") == ["a"]


def test_images_without_a_study_go_by_themselves() -> None:
    bench = Bench()
    (hit,) = bench.groups.addressed(image(""), TO_ARCHIVE)
    assert hit.groups == (("archive", image("").sop_instance_uid),)


def test_a_destination_of_several_reasons_is_one() -> None:
    bench = Bench(ARCHIVE, READERS)
    bench.ill = {"a": "down", "x": "down"}
    hits = (RouteHit("r", "archive"), RouteHit("s", "b"), RouteHit("t", "readers"), RouteHit("t", "z"))
    both = (("archive", "1"), ("readers", "1"))
    assert bench.groups.addressed(image("1"), hits) == (RouteHit("s", "b", groups=both), RouteHit("t", "z"))
    without = bench.groups.addressed(image("1"), (hits[0], hits[2]))
    assert without == (RouteHit("r", "b", groups=both, direct=False),)


def test_a_study_that_is_over_is_a_new_one() -> None:
    bench = Bench()
    bench.ill = {"a": "down"}
    assert bench.to("1") == ["b"]
    bench.ill = {}
    bench.groups.ended("archive", "1")
    assert bench.to("1") == ["a"]


def test_an_image_of_a_study_that_moved_meanwhile() -> None:
    bench = Bench()
    (hit,) = bench.groups.addressed(image("1"), TO_ARCHIVE)
    assert not bench.groups.elsewhere(hit)
    assert list(bench.groups.owing) == [("archive", "a")]
    bench.groups.adopt("archive", "1", "b")
    assert bench.groups.elsewhere(hit)
    assert bench.groups.strays == {("archive", "1"): {"a"}}
    direct = RouteHit("r", "a", groups=hit.groups)
    assert not bench.groups.elsewhere(direct)


def test_the_journal_knows_better() -> None:
    bench = Bench()
    assert bench.to("1") == ["a"]
    bench.groups.corrected("archive", "1", "b", "a")
    assert (bench.to("1"), bench.groups.strays) == (["b"], {("archive", "1"): {"a", "b"}})
    bench.groups.corrected("archive", "1", "gone", "b")
    assert bench.to("1") == ["b"]
    bench.groups.corrected("unknown", "1", "b", "a")
    assert bench.groups.count == 1


def test_memory_is_bounded_and_says_so() -> None:
    bench = Bench()
    most = module.MOST
    for n in range(most):
        bench.to(str(n))
    assert not bench.groups.incomplete
    bench.to("0")  # the last active ones stay
    bench.to("one more")
    assert (bench.groups.count, bench.groups.incomplete) == (most, True)
    bench.ill = {"a": "down"}
    assert (bench.to("0"), bench.to("1")) == (["a"], ["b"])


def test_other_members() -> None:
    bench = Bench(ARCHIVE, READERS)
    bench.to("1")
    bench.groups.change([Group("archive", False, ("b", "c"), (1, 1), 600.0)])
    assert list(bench.groups.owing) == [("archive", "a")]
    assert (bench.groups.changed, bench.to("1")) == (True, ["b"])
    bench.groups.change([])
    assert (bench.groups.count, bench.groups.any) == (0, True)


def test_for_a_person() -> None:
    bench = Bench(ARCHIVE, READERS)
    bench.to("1")
    bench.ill = {"a": "down: no", "x": HELD}
    archive, readers = bench.groups.describe({"a": "down", "b": "up"})
    assert archive == {
        "name": "archive",
        "mode": "failover",
        "members": [{"name": "a", "state": "down"}, {"name": "b", "state": "up"}, {"name": "c", "state": ""}],
        "active": ["b"],
        "why": "a: down: no",
        "studies": 1,
    }
    assert (readers["mode"], readers["active"], readers["why"]) == ("balance", ["b"], "x: held by a person")
    bench.ill = dict.fromkeys("abc", "down")
    (line, _) = bench.groups.describe({})
    assert (line["active"], line["why"]) == ([], "a: down; b: down; c: down")


def test_the_most_urgent_reason_counts() -> None:
    bench = Bench(ARCHIVE)
    hits = (RouteHit("r", "archive", LOW), RouteHit("s", "a", STAT))
    (found,) = bench.groups.addressed(image("1"), hits)
    assert (found.priority, found.route) == (STAT, "s")
    (alone,) = bench.groups.addressed(image("1"), hits[:1])
    assert alone.priority == LOW
