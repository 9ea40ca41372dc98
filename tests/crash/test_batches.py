"""kill -9 at every step of a batch: nothing is lost, what was admitted is not submitted twice, the source goes last."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import settings, synthetic
from tests.support.dropping import drop, wait_over, watch
from tests.support.exact_receiver import ReceiverHost, assert_all_there
from tests.support.fixtures import MakeRouter
from tests.support.killing import VARIABLE
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=4_000)
LARGE = synthetic.Kind(size=1_500_000)
SPECS = [
    *(
        "batch-begun",
        "batch-offered",
        "batch-offered:3",
        "journal-committed",
        "admitted-unanswered",
        "stream-finished",
        "batch-read",
    ),
    *("batch-ended", "batch-source-aside", "batch-source-checked", "batch-source-gone"),
]


@pytest.mark.parametrize("spec", SPECS)
def test_killed_in_the_middle(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path, spec: str) -> None:
    base = tmp_path / "incoming"
    images = [*synthetic.series("small", 6, KIND), *synthetic.series("large", 1, LARGE)]
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port)],
        route=[settings.route("all", ["pacs"], match={"watch": "incoming"})],
        watch=[watch(base, after="delete", settle="0s")],
    )
    drop(base, "set", images)
    router.start(wait=False, **{VARIABLE: spec})
    wait_until(lambda: not router.running, 40, f"the crash at {spec}", router.log_tail)
    assert router.exit_status == -signal.SIGKILL
    router.start()
    (it,) = wait_over(router)
    assert (it["state"], it["source"], it["run"]) == ("done", "gone", 1)
    assert (it["images"], it["delivered"]) == (7, 7)
    assert not [path for path in base.iterdir() if "asyncroute" in path.name or path.name == "set"]
    assert_all_there([end], images)
    assert router.status()["totals"]["received"] == 7
