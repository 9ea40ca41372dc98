"""A person's hold and a destination's hours, with the program and a real receiver."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.support import settings, synthetic
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.faked_clock import FakedClock
from tests.support.fixtures import MakeRouter
from tests.support.router import Router, run_cli

KIND = synthetic.Kind(size=20_000)


def told(router: Router, *arguments: object, status: int = 0) -> str:
    done: subprocess.CompletedProcess[str] = run_cli(*arguments, "-c", router.config_file)
    assert done.returncode == status, done
    return done.stdout + done.stderr


def closed_now() -> str:
    """Hours of one minute, half a day from now."""
    then = time.gmtime(time.time() + 12 * 3600)
    later = time.gmtime(time.time() + 12 * 3600 + 60)
    return f"{time.strftime('%H:%M', then)}-{time.strftime('%H:%M', later)} UTC"


def test_a_hold_over_reload_kill_and_restart(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port), settings.folder("copy", tmp_path / "copy")],
        route=[settings.route("all", ["pacs", "copy"])],
    ).start()
    first, second, third = (synthetic.series(name, 5, KIND) for name in ("first", "second", "third"))
    send_all(router.caller(), first)
    router.wait_delivered(10)
    assert told(router, "queue", "hold", "pacs") == "pacs: held\n"
    assert told(router, "queue", "hold", "pacs") == "pacs: was held already\n"
    router.wait_status(lambda s: router.channel("pacs", s)["lanes"] == 0, 10, "its associations are released")
    send_all(router.caller(), second)
    router.wait_delivered(15)
    assert router.channel("pacs")["waiting"] == 5
    router.config["destination"][0]["connect_timeout"] = "9s"
    router.write_config()
    assert "destination pacs: changed" in told(router, "reload")
    shown = told(router, "status", status=1)
    assert "held since 20" in shown
    assert "pacs: held by a person (asyncroute queue release pacs)" in shown
    router.kill()
    assert "held since 20" in told(router, "status", status=1)
    router.start()
    send_all(router.caller(), third)
    router.wait_delivered(20)
    assert router.channel("pacs")["state"] == "held"
    assert_exactly(end, first)
    assert told(router, "queue", "release", "pacs") == "pacs: released\n"
    router.wait_delivered(30)
    assert_exactly(end, [*first, *second, *third])
    assert router.channel("pacs")["state"] == "up"
    assert told(router, "queue", "release", "pacs") == "pacs: was not held\n"
    assert told(router, "status")


def test_unknown_names(make_router: MakeRouter, tmp_path: Path) -> None:
    router = make_router(
        destination=[settings.folder("copy", tmp_path / "copy"), settings.folder("more", tmp_path / "more")],
        route=[settings.route("all", ["copy"])],
    ).start()
    words = 'asyncroute: error: no destination is called "pasc"; there is "copy", "more"\n'
    for verb in ("hold", "release"):
        assert told(router, "queue", verb, "pasc", status=1) == words
    router.stop()
    for verb in ("hold", "release"):
        assert told(router, "queue", verb, "pasc", status=1) == words


def test_a_hold_of_a_stopped_router(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port)], route=[settings.route("all", ["pacs"])]
    ).start()
    router.stop()
    assert told(router, "queue", "hold", "pacs") == "pacs: held\n"
    assert "held since 20" in told(router, "status", status=1)
    router.start()
    images = synthetic.series("stopped", 3, KIND)
    send_all(router.caller(), images)
    assert router.channel("pacs")["state"] == "held"
    router.stop()
    assert end.stored() == []
    assert told(router, "queue", "release", "pacs") == "pacs: released\n"
    router.start()
    router.wait_delivered(3)
    assert_exactly(end, images)


def test_a_destination_of_kind_folder_is_held_too(make_router: MakeRouter, tmp_path: Path) -> None:
    router = make_router(
        destination=[settings.folder("copy", tmp_path / "copy")], route=[settings.route("all", ["copy"])]
    ).start()
    told(router, "queue", "hold", "copy")
    send_all(router.caller(), synthetic.series("folder", 3, KIND))
    router.wait_status(lambda s: router.channel("copy", s)["waiting"] == 3, 10, "they wait")
    assert not list((tmp_path / "copy").rglob("*.dcm"))
    told(router, "queue", "release", "copy")
    router.wait_delivered(3)


def test_outside_the_hours_all_waits_until_a_reload_changes_them(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port, hours="00:00-24:00")], route=[settings.route("all", ["pacs"])]
    ).start()
    early, late = synthetic.series("early", 4, KIND), synthetic.series("late", 4, KIND)
    send_all(router.caller(), early)
    router.wait_delivered(4)
    router.config["destination"][0]["hours"] = ["Mon-Wed 10:00-10:00", closed_now()]
    router.write_config()
    assert "begins and ends at the same time" in told(router, "reload", status=1)
    router.config["destination"][0]["hours"] = [closed_now()]
    router.write_config()
    told(router, "reload")
    send_all(router.caller(), late)
    shown = told(router, "status")
    assert "closed until 20" in shown
    channel = router.channel("pacs")
    assert (channel["state"], channel["waiting"], channel["lanes"]) == ("closed", 4, 0)
    assert 11.9 * 3600 < channel["closed_until"] - time.time() <= 12 * 3600
    del router.config["destination"][0]["hours"]
    router.write_config()
    told(router, "reload")
    router.wait_delivered(8)
    assert_exactly(end, [*early, *late])


def test_hours_that_begin_while_it_runs(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    """It needs no command and no new image to wake."""
    end = receivers.receiver()
    clock = FakedClock(tmp_path)
    clock.jump(round(45 - time.time() % 60))  # a quarter of a minute before a full one
    begin, later = (time.strftime("%H:%M", time.gmtime(clock.now() + seconds)) for seconds in (30, 7200))
    router = make_router(
        destination=[settings.dicom("pacs", end.port, hours=f"{begin}-{later} UTC")],
        route=[settings.route("all", ["pacs"])],
    ).start(True, **clock.environment)
    images = synthetic.series("dawn", 4, KIND)
    send_all(router.caller(), images)
    router.wait_delivered(4)
    assert clock.now() % 60 < 45, "not before the full minute"
    assert_exactly(end, images)


def test_associations_begin_a_gap_apart(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port, min_gap="1s", max_associations=3)],
        route=[settings.route("all", ["pacs"])],
    ).start()
    images = {title: synthetic.series(title, 3, KIND) for title in ("CT_A", "CT_B", "CT_C")}
    for title, some in images.items():
        send_all(router.caller(title), some)
    router.wait_delivered(9)
    assert_exactly(end, [image for some in images.values() for image in some])
    opened = end.events("open")
    assert [event.detail for event in opened] == ["CT_A", "CT_B", "CT_C"]
    assert opened[-1].at - opened[0].at > 1, "at once but for the gap; the first may have taken a while"
