"""Transforms on the way, with whole routers: what arrives is what the transform makes, byte for byte, or it is held."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.support import settings, synthetic
from tests.support.exact_receiver import ReceiverHost, assert_all_there, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, run_cli

PREFIX = {"steps": [{"prefix": "PatientID", "with": "AHI-"}]}
SUFFIX = {"steps": [{"suffix": "PatientID", "with": "-B", "everywhere": True}]}
TOO_LONG = {"steps": [{"prefix": "PatientID", "with": "X" * 64}]}


def made(count: int, patient: str = "PAT-1", seed: str = "site") -> list[Image]:
    """Images of all encodings; with another ``patient`` they are what a transform makes of them."""
    kinds = [synthetic.Kind(*synthetic.KINDS[n % len(synthetic.KINDS)], size=20_000) for n in range(count)]
    return [synthetic.image(seed, n, kind, patient=patient) for n, kind in enumerate(kinds)]


def routed(receivers: Iterable[Any], *transforms: str) -> dict[str, Any]:
    """A destination and a route for each of ``receivers``, with these transforms (empty: none)."""
    names = [f"to-{n}" for n, _ in enumerate(receivers)]
    routes = [
        settings.route(f"by-{n}", [name], **({"transform": transform.split()} if transform else {}))
        for n, (name, transform) in enumerate(zip(names, transforms, strict=True))
    ]
    retry = {"retry": {"first": "0.2s", "max": "0.5s"}}
    return {
        "destination": [settings.dicom(n, r.port, **retry) for n, r in zip(names, receivers, strict=True)],
        "route": routes,
        "transform": {"prefix": PREFIX, "suffix": SUFFIX, "long": TOO_LONG},
    }


def cli(router: Router, *words: object) -> str:
    done = run_cli(*words, "-c", router.config_file)
    assert done.returncode == 0, done
    return done.stdout


def test_three_destinations_get_three_versions(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """Also those that are down when the images come, and from their files after a kill."""
    plain, quick, slow = (receivers.receiver() for _ in range(3))
    router = make_router(**routed((plain, quick, slow), "", "prefix", "prefix suffix")).start()
    for receiver in (quick, slow):
        receiver.stop()
    send_all(router.caller(), made(30))
    router.wait_status(lambda s: s["totals"]["delivered"] == 30, 60, "the plain ones are delivered")
    assert_exactly(plain, made(30))
    router.kill()
    for receiver in (quick, slow):
        receiver.start()
    router.start()
    status = router.wait_delivered(90)
    assert_all_there([quick], made(30, "AHI-PAT-1"))
    assert_all_there([slow], made(30, "AHI-PAT-1-B"))
    channels = [router.channel(name, status) for name in ("to-0", "to-1", "to-2")]
    assert [channel["transforms"] for channel in channels] == [{}, {"by-1": "prefix"}, {"by-2": "prefix + suffix"}]
    assert [channel["transformed"] for channel in channels] == [0, 30, 30]
    router.stop()


def test_a_kill_while_they_go_loses_none(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    router = make_router(**routed((receiver,), "prefix suffix")).start()
    send_all(router.caller(), made(30))
    receiver.wait_stored(5)
    router.kill()
    router.start()
    router.wait_drained()
    assert_all_there([receiver], made(30, "AHI-PAT-1-B"))
    assert {stored.identity for stored in receiver.stored()} == {it.identity for it in made(30, "AHI-PAT-1-B")}


def test_what_does_not_fit_is_held_until_it_is_mended(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    router = make_router(**routed((receiver,), "prefix long")).start()
    send_all(router.caller(), made(6))
    router.wait_failed(6)
    (listed, *_) = json.loads(cli(router, "queue", "list", "--json"))
    assert listed["last_error"].startswith("held: transform long, step 1 (prefix): ")
    assert listed["attempts"] == 0
    assert router.channel("to-0")["refused"] == 6
    assert not receiver.events()
    assert "PAT-1" in listed["last_error"]
    log = router.log_file.read_text()
    assert "is a dead letter: held: transform long, step 1 (prefix); asyncroute why tells the reason" in log
    assert "PAT-1" not in log
    assert "to-0: 6 images refused by a transform" in run_cli("status", "-c", router.config_file).stdout

    router.config["transform"]["long"] = SUFFIX
    router.write_config()
    assert "transform long: changed" in cli(router, "reload")
    cli(router, "queue", "retry", "--all")
    router.wait_delivered(6)
    assert_exactly(receiver, made(6, "AHI-PAT-1-B"))

    told = cli(router, "why", made(1)[0].sop_instance)
    assert "held: transform long, step 1 (prefix): " in told
    assert "    sent as transform prefix + long makes it:" in told
    assert '      PatientID: "PAT-1" -> "AHI-PAT-1"  (prefix, step 1 (prefix))' in told
    (image,) = json.loads(cli(router, "why", made(1)[0].sop_instance, "--json"))["detail"]
    transform = image["deliveries"][0]["transform"]
    assert transform["name"] == "prefix + long"
    assert transform["changes"][1]["after"] == "AHI-PAT-1-B"


def test_a_renamed_route_lets_nothing_out_unchanged(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    router = make_router(**routed((receiver,), "prefix")).start()
    receiver.stop()
    send_all(router.caller(), made(3))
    router.wait_status(lambda s: s["totals"]["waiting"] == 3, 20, "three images wait")
    router.stop()
    router.config["route"] = [settings.route("another", ["to-0"])]
    router.write_config()
    receiver.start()
    router.start()
    router.wait_failed(3)
    assert not receiver.stored()
    (listed, *_) = json.loads(cli(router, "queue", "list", "--json"))
    assert "has no route by-0 any more, whose transform this image needs" in listed["last_error"]
    nobody = {"calling_aet": "NOBODY"}
    router.config["route"].append(settings.route("by-0", ["to-0"], transform=["prefix"], match=nobody))
    router.write_config()
    cli(router, "reload")
    cli(router, "queue", "retry", "--all")
    router.wait_delivered(3)
    assert_exactly(receiver, made(3, "AHI-PAT-1"))


def test_folders_are_named_by_what_is_written(make_router: MakeRouter) -> None:
    router = make_router(
        destination=[{"name": "out", "kind": "folder", "path": "out", "layout": "{PatientID}/{SOPInstanceUID}.dcm"}],
        route=[settings.route("all", ["out"], transform=["prefix"])],
        transform={"prefix": PREFIX},
    ).start()
    send_all(router.caller(), made(6))
    router.wait_delivered(6)
    out = router.folder / "out"
    wanted = {f"AHI-PAT-1/{image.sop_instance}.dcm" for image in made(6)}
    assert {str(path.relative_to(out)) for path in out.rglob("*.dcm")} == wanted
