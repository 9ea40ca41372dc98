"""Nothing that went wrong escapes the benchmark's proof, and its percentiles are the ones of the books."""

from __future__ import annotations

import pytest

from benchmarks.corpus import Corpus
from benchmarks.evaluate import Evidence, Outcome, Proof, Stored, quantile

COUNT = 6


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 10.0), (25, 10.0), (26, 20.0), (50, 20.0), (75, 30.0), (99, 40.0), (100, 40.0)]
)  # fmt: skip
def test_quantile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert quantile([40.0, 10.0, 30.0, 20.0], percent) == expected


def test_quantile_of_many() -> None:
    assert [quantile([float(n) for n in range(1, 1001)], percent) for percent in (50, 95, 99)] == [500, 950, 990]


def evidence(*sinks: Stored, statuses: list[int] | None = None) -> Evidence:
    """Image n was begun at second n and answered half a second later."""
    corpus = Corpus("tiny", COUNT)
    report = {
        "started": [float(n + 1) for n in range(COUNT)],
        "answered": [n + 1.5 for n in range(COUNT)],
        "statuses": statuses or [0] * COUNT,
        "digests": [corpus[n].digest() for n in range(COUNT)],
        "bytes": 4000,
    }
    return Evidence(corpus, report, sinks)


def came(*numbers: int) -> list[tuple[str, int, int, float]]:
    corpus = Corpus("tiny", COUNT)
    images = [(n, corpus[n]) for n in numbers]
    return [(image.uid, image.digest(), image.size, n + 3.0) for n, image in images]


ALL = tuple(range(COUNT))


def test_a_run_in_which_all_went_well_is_clean() -> None:
    assert evidence(came(*ALL), came(*reversed(ALL))).proof() == Proof()


def test_what_is_missing_at_one_sink_is_lost() -> None:
    assert evidence(came(*ALL), came(*ALL[1:])).proof() == Proof(lost=1)


def test_what_comes_again_is_doubled() -> None:
    assert evidence(came(*ALL, 2, 2)).proof() == Proof(doubled=2)


def test_other_bytes_are_a_change() -> None:
    stored = came(*ALL)
    uid, digest, size, at = stored[3]
    stored[3] = (uid, digest ^ 1, size, at)
    assert evidence(stored).proof() == Proof(changed=1)
    assert evidence(stored).proof(coerced=True) == Proof(changed=COUNT - 1)  # all were to be changed


def test_a_uid_that_nobody_sent_is_foreign() -> None:
    assert evidence([*came(*ALL), ("1.2.3", 1, 1, 9.0)]).proof() == Proof(foreign=1)


def test_what_was_refused_need_not_come() -> None:
    proof = evidence(came(*ALL[1:]), statuses=[0xA700, *[0] * (COUNT - 1)]).proof()
    assert proof == Proof(refused=1)
    assert not proof.clean


def test_figures() -> None:
    figures = evidence(came(*ALL)).figures(cpu_s=1.2, peak=50_000_000)
    assert figures["wall_s"] == 7.0  # from second 1 to second 8
    assert figures["images_per_s"] == pytest.approx(COUNT / 7)
    assert figures["cpu_ms_per_image"] == pytest.approx(200.0)
    assert figures["cpu_s_per_gb"] == pytest.approx(300_000)
    assert (figures["ack_p50_ms"], figures["e2e_p99_ms"], figures["peak_mb"]) == (500.0, 2000.0, 50.0)


def test_images_to_several_destinations_count_once() -> None:
    assert evidence(came(*ALL), came(*ALL)).figures(1.2, 0)["images"] == COUNT


def test_an_outcome_survives_json() -> None:
    outcome = Outcome({"wall_s": 1.5}, Proof(lost=2), "stuck")
    assert Outcome.from_json(outcome.to_json()) == outcome
