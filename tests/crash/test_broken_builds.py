"""The check of the checks: builds that break a promise are found after some kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import broken_build
from tests.support.exact_receiver import ReceiverHost
from tests.support.fixtures import MakeRouter
from tests.support.killing import Ordeal, Wrong, kills_at, seeded

BUILDS = [
    ("answer-before-commit", "journal-begun", "acknowledged images are not in the journal"),
    ("settle-before-answer", "settle-committed", "settled but did not arrive"),
    ("release-before-commit", "settle-written", "owed but their files are gone"),
    ("settled-again", "settle-committed", "came again although it was settled"),
]
MOST_KILLS, PASSES = 40, 3  # how late each of them is found depends on chance


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("breach", "point", "words"), BUILDS, ids=[build[0] for build in BUILDS])
def test_a_broken_build_is_found(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path, breach: str, point: str, words: str
) -> None:
    chance = seeded()
    ordeal = Ordeal(make_router, receivers, tmp_path / "written", (broken_build.MODULE, breach))
    with pytest.raises(Wrong, match=words) as found:
        kills_at(ordeal, point, PASSES, MOST_KILLS, chance)
    print(f"{breach}: found after {ordeal.kills} kills at {point}: {found.value}")
