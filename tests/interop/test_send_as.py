"""Calling AE titles that are made of who sent an image, and to whom ("send as"), as destinations see them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from pydicom import dcmread

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet, send_all
from tests.support.fixtures import MakeRouter
from tests.support.peers import StoreSCP
from tests.support.router import Router, owed, run_cli

KIND = synthetic.Kind(size=8192)


def reload(router: Router) -> str:
    router.write_config()
    done = run_cli("reload", "-c", router.config_file)
    assert done.returncode == 0, done
    return done.stdout


def titles(end: ExactReceiver) -> Counter[str]:
    """How many images came under each title; none of two titles in one association."""
    seen: dict[int, set[str]] = {}
    for stored in end.stored():
        seen.setdefault(stored.association, set()).add(stored.calling)
    assert all(len(each) == 1 for each in seen.values())
    return Counter(stored.calling for stored in end.stored())


def test_titles_of_destinations_and_of_routes(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    """Two listeners, three senders, busy at the same time: each image comes under the title that belongs to it."""
    first, second, third = receivers.receiver(), receivers.receiver(), receivers.receiver()
    router = make_router(
        listener=[settings.listener(ae_title="EAST"), settings.listener(ae_title="WEST", accept_called=["OLD"])],
        destination=[
            settings.dicom("first", first.port, calling_ae_title="RT_{calling_aet}", max_associations=2),
            settings.dicom("second", second.port, max_associations=1),
            settings.dicom("third", third.port, calling_ae_title="ROUTER"),
        ],
        route=[
            settings.route("b", ["second", "third"], match={"calling_aet": "CT_B"}, calling_ae_title="B@{listener}"),
            settings.route("all", ["first", "second"]),
            settings.route("old", ["third"], match={"called_aet": "OLD"}, calling_ae_title="{called_aet}>{listener}"),
            settings.route("rest", ["third"]),
        ],
    ).start()
    callers = [
        router.caller("CT_A"),
        router.caller("CT_B", listener=1),
        router.caller("CT_C", listener=1, called="OLD"),
    ]
    work = [(caller, synthetic.series(caller.calling, 40, KIND)) for caller in callers]
    Fleet(work).run().assert_clean()
    images = [image for _, share in work for image in share]
    router.wait_delivered(3 * len(images))
    for end in (first, second, third):
        assert_exactly(end, images)
    assert titles(first) == {"RT_CT_A": 40, "RT_CT_B": 40, "RT_CT_C": 40}
    assert titles(second) == {"CT_A": 40, "B@WEST": 40, "CT_C": 40}
    assert titles(third) == {"ROUTER": 40, "B@WEST": 40, "OLD>WEST": 40}


def test_a_title_that_is_too_long_is_a_dead_letter_until_it_is_mended(
    receivers: ReceiverHost, make_router: MakeRouter
) -> None:
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("end", end.port, calling_ae_title="RADIO_{calling_aet}")],
        route=[settings.route("all", ["end"])],
    ).start()
    long, short = synthetic.series("long", 5, KIND), synthetic.series("short", 20, KIND)
    Fleet([(router.caller("CT_IN_ROOM_1"), long), (router.caller("CT_A"), short)]).run().assert_clean()
    router.wait_status(lambda s: s["totals"]["failed"] == 5 and s["totals"]["delivered"] == 20, 30, "25 results")
    router.wait_failed(5)
    assert_exactly(end, short)
    assert titles(end) == {"RADIO_CT_A": 20}
    listed = json.loads(run_cli("queue", "list", "-c", router.config_file, "--json").stdout)
    assert {row["last_error"] for row in listed} == {
        "calling AE title 'RADIO_CT_IN_ROOM_1' (from calling_ae_title 'RADIO_{calling_aet}') has 18 characters; "
        "an AE title has 1 to 16 printable ASCII characters, no backslash (PS3.5 6.2)"
    }
    router.config["destination"][0]["calling_ae_title"] = "RT_{calling_aet}"
    assert "destination end: changed" in reload(router)
    assert run_cli("queue", "retry", "-c", router.config_file, "--to", "end").returncode == 0
    router.wait_delivered(25)
    assert titles(end) == {"RADIO_CT_A": 20, "RT_CT_IN_ROOM_1": 5}


def test_titles_are_those_of_the_moment_of_sending(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    """What waits goes under the titles of a later configuration, also what is only in the journal by then."""
    end = receivers.receiver(Behaviour(reject=(1, 1, 7)))
    routes = [
        settings.route(name, ["end"], match={"calling_aet": f"{name.upper()}_*"}, calling_ae_title=f"{name}-early")
        for name in ("kept", "lost", "bare")
    ]
    destination = settings.dicom("end", end.port, calling_ae_title="DEST_{calling_aet}")
    router = make_router(listener=[settings.listener(ae_title="EAST")], destination=[destination], route=routes).start()
    sent = [image for name in ("kept", "lost", "bare") for image in synthetic.series(name, 3, KIND)]
    for n, name in enumerate(("KEPT_1", "LOST_1", "BARE_1")):
        send_all(router.caller(name), sent[3 * n : 3 * n + 3])
    router.wait_status(lambda s: router.channel("end", s)["state"] == "rejected", 20, "the rejection")
    assert router.status()["totals"]["delivered"] == 0
    routes[0]["calling_ae_title"] = "{called_aet}>{listener}"
    del routes[2]["calling_ae_title"], routes[1]
    router.write_config()
    router.kill()
    end.set(Behaviour())
    router.start()
    router.wait_delivered(9)
    assert_exactly(end, sent)
    assert titles(end) == {"EAST>EAST": 3, "DEST_LOST_1": 3, "DEST_BARE_1": 3}


def test_a_reload_changes_the_titles_of_what_waits(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    """Only a route changes: its destinations go by it at once, also one whose associations are open."""
    end = receivers.receiver(Behaviour(reject=(1, 1, 3), reject_calling=["EARLY_CT_A"]))
    route = settings.route("a", ["end"], match={"calling_aet": "CT_A"}, calling_ae_title="EARLY_{calling_aet}")
    destination = settings.dicom("end", end.port, association={"idle_close": "1h"})
    router = make_router(destination=[destination], route=[route, settings.route("all", ["end"])]).start()
    waiting, open_ = synthetic.series("waiting", 5, KIND), synthetic.series("open", 5, KIND)
    send_all(router.caller("CT_A"), waiting)
    send_all(router.caller("CT_B"), open_)
    router.wait_delivered(5)
    router.wait_status(lambda s: router.channel("end", s)["state"] == "title-rejected", 20, "the title is refused")
    route["calling_ae_title"] = "LATE_{calling_aet}"
    assert "route a: changed" in reload(router)
    router.wait_delivered(10)
    assert_exactly(end, [*waiting, *open_])
    assert titles(end) == {"LATE_CT_A": 5, "CT_B": 5}


def test_only_the_title_that_is_refused_pauses(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver(Behaviour(reject=(1, 1, 3), reject_calling=["RT_BAD"]))
    destination = settings.dicom("end", end.port, max_associations=1, calling_ae_title="RT_{calling_aet}")
    router = make_router(destination=[destination], route=[settings.route("all", ["end"])]).start()
    bad, good = synthetic.series("bad", 5, KIND), synthetic.series("good", 20, KIND)
    send_all(router.caller("BAD"), bad)
    send_all(router.caller("GOOD"), good)
    router.wait_delivered(20)
    assert_exactly(end, good)
    channel = router.channel("end")
    assert (owed(channel), channel["failed"], channel["state"]) == (5, 0, "title-rejected")
    assert "add RT_BAD to the AE titles" in channel["last_error"]
    assert end.tally().rejected == 1


def test_status_shows_the_title(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver()
    destination = settings.dicom("end", end.port, association={"idle_close": "1h"})
    route = settings.route("all", ["end"], calling_ae_title="RT_{calling_aet}")
    router = make_router(destination=[destination], route=[route]).start()
    send_all(router.caller("CT_A"), synthetic.series("shown", 1, KIND))
    status = router.wait_delivered(1)
    assert [a["calling_aet"] for a in status["associations"]["outbound"]] == ["RT_CT_A"]
    assert "RT_CT_A" in run_cli("status", "-c", router.config_file).stdout


def test_storescp_is_told_the_title(make_router: MakeRouter, tmp_path: Path) -> None:
    """dcmtk writes it into its files, as the one that sent them (PS3.10 7.1: Source Application Entity Title)."""
    with StoreSCP(tmp_path / "scp") as scp:
        router = make_router(
            destination=[settings.dicom("scp", scp.port, ae_title="STORESCP", calling_ae_title="RT_{calling_aet}")],
            route=[
                settings.route("b", ["scp"], match={"calling_aet": "CT_B"}, calling_ae_title="{listener}/B"),
                settings.route("all", ["scp"]),
            ],
        ).start()
        for name in ("CT_A", "CT_B"):
            send_all(router.caller(name), synthetic.series(name, 3, KIND))
        router.wait_delivered(6)
        metas = [dcmread(path, stop_before_pixels=True).file_meta for path in scp.wait_files(6)]
        assert Counter(meta.SourceApplicationEntityTitle for meta in metas) == {"RT_CT_A": 3, "ASYNCROUTE/B": 3}
