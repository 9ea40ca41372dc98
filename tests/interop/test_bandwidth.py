"""A destination's bandwidth, with the program and real receivers: bounds on what arrives, never on how soon."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import settings, synthetic
from tests.support.behaviour import Stored
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet, send_all
from tests.support.fixtures import MakeRouter
from tests.support.router import Router, run_cli

RATE = 1_000_000
MARGIN = 1.2
"""Of what arrives: the first may have been under way for a while when the clock was started by its arrival."""

ALL_DAY = {"00:00-24:00": "1 MB/s", "else": "unlimited"}


def routed(make_router: MakeRouter, port: int, bandwidth: Any, **more: Any) -> Router:
    destination = settings.dicom("far", port, bandwidth=bandwidth, max_associations=6, **more)
    return make_router(destination=[destination], route=[settings.route("all", ["far"])]).start()


def rate(stored: Sequence[Stored]) -> float:
    """Bytes a second from the first arrival to the last."""
    return sum(each.size for each in stored[1:]) / (stored[-1].at - stored[0].at)


def told(router: Router, verb: str) -> str:
    done: subprocess.CompletedProcess[str] = run_cli(verb, "-c", router.config_file)
    assert done.returncode == 0, done
    return done.stdout


def test_many_associations_together_are_no_faster(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = routed(make_router, end.port, ALL_DAY)
    images = {f"S{n}": synthetic.series(f"S{n}", 12, synthetic.Kind(size=100_000)) for n in range(5)}
    Fleet([(router.caller(title), some) for title, some in images.items()]).run().assert_clean()
    everything = [image for some in images.values() for image in some]
    router.wait_delivered(len(everything))
    assert rate(end.stored()) < MARGIN * RATE
    assert_exactly(end, everything)


def test_a_large_image_goes_in_pieces(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """Far slower than the receiver would wait for an answer; both go on, and arrive whole."""
    end = receivers.receiver()
    router = routed(make_router, end.port, "1 MB/s", response_timeout="1s")
    large = synthetic.series("large", 2, synthetic.Kind(size=4_000_000))
    reports = Fleet([(router.caller(f"S{n}"), [image]) for n, image in enumerate(large)]).run().reports
    router.wait_delivered(2)
    begun = min(result.sent_at for report in reports for result in report.results)
    paid = sum(each.size for each in end.stored()) - (1 << 20)  # the beginning of the first, at once
    assert paid / (end.stored()[-1].at - begun) < MARGIN * RATE
    assert_exactly(end, large)


def test_another_limit_by_reload(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    end = receivers.receiver()
    router = routed(make_router, end.port, {"00:00-24:00": "10 KB/s"})
    images = synthetic.series("reload", 60, synthetic.Kind(size=100_000))
    send_all(router.caller(), images)
    end.wait_stored(1)
    assert " of 10.0 KB/s until " in told(router, "status")
    pace = router.channel("far")["bandwidth"]
    assert (pace["limit"], pace["slows"]) == (10_000, True)
    assert len(end.stored()) < 30, "ten seconds for each"
    router.config["destination"][0]["bandwidth"] = "100 MB/s"
    router.write_config()
    assert "destination far: changed" in told(router, "reload")
    router.wait_delivered(len(images), 30)
    assert_exactly(end, images)


def test_a_folder_has_a_bandwidth_too(make_router: MakeRouter, tmp_path: Path) -> None:
    router = make_router(
        destination=[settings.folder("copy", tmp_path / "copy", bandwidth="1 MB/s")],
        route=[settings.route("all", ["copy"])],
    ).start()
    images = synthetic.series("folder", 4, synthetic.Kind(size=1_500_000))
    send_all(router.caller(), images)
    router.wait_delivered(len(images))
    written = sorted((tmp_path / "copy").rglob("*.dcm"), key=lambda path: path.stat().st_mtime)
    seconds = written[-1].stat().st_mtime - written[0].stat().st_mtime
    sent = sum(path.stat().st_size for path in written[:-1])
    assert len(written) == len(images)
    assert sent / seconds < MARGIN * RATE
