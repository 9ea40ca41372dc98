"""A new configuration for a running router: what changes, what goes on, what is refused."""

from __future__ import annotations

import signal

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import send, send_all
from tests.support.fixtures import MakeRouter
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=20_000)


def reload(router: Router, status: int = 0) -> str:
    done = run_cli("reload", "-c", router.config_file)
    assert done.returncode == status, done
    return done.stdout + done.stderr


def test_routes_destinations_and_listeners_change_while_associations_go_on(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    first, second = receivers.receiver(), receivers.receiver()
    router = make_router(
        destination=[settings.dicom("first", first.port)], route=[settings.route("all", ["first"])]
    ).start()
    early, late, other = (synthetic.series(name, 4, KIND) for name in ("early", "late", "other"))
    with router.caller().associate([*early, *late]) as association:
        assert all(association.store(image).status == 0 for image in early)
        router.wait_delivered(4)
        extra = settings.listener(ae_title="EXTRA")
        router.config["listener"].append(extra)
        router.config["destination"] = [settings.dicom("second", second.port, calling_ae_title="ROUTER")]
        router.config["route"] = [settings.route("all", ["second"])]
        router.write_config()
        told = reload(router)
        assert all(association.store(image).status == 0 for image in late)
        association.release()
    assert "destination first: removed" in told
    assert "destination second: added" in told
    send_all(router.caller(listener=1), other)
    router.wait_delivered(12)
    assert_exactly(first, early)
    assert_exactly(second, [*late, *other])
    assert {stored.calling for stored in second.stored()} == {"ROUTER"}


def test_a_changed_destination_is_reached_under_its_new_address(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    wrong, right = receivers.receiver(Behaviour(reject=(1, 1, 7))), receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", wrong.port)], route=[settings.route("all", ["pacs"])]
    ).start()
    images = synthetic.series("moved", 6, KIND)
    send_all(router.caller(), images)
    wait_until(lambda: router.channel("pacs")["state"] == "rejected", 20, "the rejection is noticed", router.log_tail)
    router.config["destination"] = [settings.dicom("pacs", right.port)]
    router.write_config()
    assert router.process is not None
    router.process.send_signal(signal.SIGHUP)
    router.wait_delivered(6)
    assert_exactly(right, images)


def test_a_wrong_configuration_is_refused_and_the_old_one_goes_on(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    receiver = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", receiver.port)], route=[settings.route("all", ["pacs"])]
    ).start()
    good = router.config_file.read_text()
    router.config_file.write_text(good + "\n[nonsense]\nx = 1\n")
    assert "nonsense" in reload(router, status=1)
    router.config_file.write_text(good.replace("data_dir = ", 'memory = "512 MiB"\ndata_dir = ', 1))
    assert "node.memory" in reload(router, status=1)
    router.config_file.write_text(good)
    assert "nothing changed" in reload(router)
    images = synthetic.series("still", 3, KIND)
    assert send(router.caller(), images).ended == "released"
    router.wait_delivered(3)
    assert_exactly(receiver, images)
