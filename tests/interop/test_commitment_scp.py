"""Storage Commitment as SCP: senders ask us, and hear when every destination has their images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import corpus, settings, synthetic
from tests.support.certs import Authority
from tests.support.committing import Archive, Modality, ask_on
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.peers import Orthanc
from tests.support.ports import HOST, free_port
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=2_000)
EXPLICIT = "1.2.840.10008.1.2.1"

# A pynetdicom that is refused a connection forgets its socket without closing it.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def modality() -> Iterator[Modality]:
    with Modality() as made:
        yield made


def peer(modality: Modality) -> settings.Table:
    return {"ae_title": modality.title, "host": HOST, "port": modality.port}


def routed(make_router: MakeRouter, tmp_path: Path, *peers: settings.Table, **listener: Any) -> Router:
    return make_router(
        listener=[settings.listener(**listener)],
        destination=[settings.folder("copy", tmp_path / "copy")],
        route=[settings.route("all", ["copy"], match={"calling_aet": ["CT", "ORTHANC"]})],
        peer=list(peers),
    ).start()


def named(images: Iterable[Image]) -> list[tuple[str, str]]:
    return [(image.sop_class, image.sop_instance) for image in images]


def uids(images: Iterable[Image]) -> list[str]:
    return [image.sop_instance for image in images]


def test_what_is_delivered_is_committed(make_router: MakeRouter, tmp_path: Path, modality: Modality) -> None:
    router = routed(make_router, tmp_path, peer(modality))
    images = synthetic.series("good", 4, KIND)
    send_all(router.caller("CT"), images)
    assert modality.ask(router.port, "2.25.1", named(images)) == 0
    assert modality.wait_report() == (uids(images), {})
    assert str(modality.reports[0].TransactionUID) == "2.25.1"
    router.wait_quiet()
    assert len(modality.reports) == 1


def test_each_image_that_is_not_has_its_reason(make_router: MakeRouter, tmp_path: Path, modality: Modality) -> None:
    router = routed(make_router, tmp_path, peer(modality), commit_wait="3s")
    good, other, held = synthetic.series("reasons", 3, KIND)
    send_all(router.caller("CT"), [good, other])
    send_all(router.caller("MR"), [held])
    asked = [*named([good]), (synthetic.MR, other.sop_instance), *named([held]), (synthetic.CT, "1.2.3")]
    assert modality.ask(router.port, "2.25.2", asked) == 0
    reasons = {other.sop_instance: 0x0119, held.sop_instance: 0x0110, "1.2.3": 0x0112}
    assert modality.wait_report() == ([good.sop_instance], reasons)


def test_nothing_is_committed_before_the_destination_has_committed_it(
    make_router: MakeRouter, modality: Modality
) -> None:
    with Archive(reports_to=free_port()) as archive:
        router = make_router(
            listener=[settings.listener(port=archive.reports_to)],
            destination=[settings.dicom("pacs", archive.port, verify="commit", calling_ae_title="ASYNCROUTE")],
            route=[settings.route("all", ["pacs"])],
            peer=[peer(modality)],
        ).start()
        images = synthetic.series("through", 3, KIND)
        send_all(router.caller("CT"), images)
        assert modality.ask(router.port, "2.25.3", named(images)) == 0
        (request,) = archive.wait_requests(1)
        assert not modality.reports
        archive.commit(request)
        assert modality.wait_report() == (uids(images), {})


def test_a_destination_that_is_down_and_a_restart(make_router: MakeRouter, tmp_path: Path, modality: Modality) -> None:
    router = routed(make_router, tmp_path, peer(modality))
    assert run_cli("queue", "hold", "copy", "-c", router.config_file).returncode == 0
    images = synthetic.series("restart", 2, KIND)
    send_all(router.caller("CT"), images)
    assert modality.ask(router.port, "2.25.4", named(images)) == 0
    router.kill()
    router.start()
    assert not modality.reports
    assert run_cli("queue", "release", "copy", "-c", router.config_file).returncode == 0
    assert modality.wait_report() == (uids(images), {})


def test_what_a_person_rerouted_is_committed_where_it_went(
    make_router: MakeRouter, tmp_path: Path, modality: Modality
) -> None:
    router = make_router(
        listener=[settings.listener()],
        destination=[settings.folder("copy", tmp_path / "copy"), settings.folder("other", tmp_path / "other")],
        route=[settings.route("all", ["copy"]), settings.route("none", ["other"], match={"calling_aet": "NOBODY"})],
        peer=[peer(modality)],
    ).start()
    for held in ("copy", "other"):
        assert run_cli("queue", "hold", held, "-c", router.config_file).returncode == 0
    images = synthetic.series("rerouted", 2, KIND)
    send_all(router.caller("CT"), images)
    assert modality.ask(router.port, "2.25.10", named(images)) == 0
    moved = run_cli("queue", "reroute", "other", "--to", "copy", "--state", "ready", "-c", router.config_file)
    assert moved.returncode == 0, moved.stderr
    assert not modality.reports
    assert run_cli("queue", "release", "other", "-c", router.config_file).returncode == 0
    assert modality.wait_report() == (uids(images), {})


def test_a_report_goes_with_tls(make_router: MakeRouter, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with Modality(tls=authority.server_context(authority.issue("ct"))) as modality:
        strange = Authority(tmp_path / "other", "Other CA")
        router = routed(make_router, tmp_path, {**peer(modality), "tls": {"ca": str(strange.ca)}})
        images = synthetic.series("tls", 1, KIND)
        send_all(router.caller("CT"), images)
        assert modality.ask(router.port, "2.25.11", named(images)) == 0
        wait_until(lambda: "CT: commitment report not delivered: TLS" in router.log_tail(), 20, "no trust")
        router.config["peer"] = [{**peer(modality), "tls": {"ca": str(authority.ca)}}]
        router.write_config()
        assert "peer CT: changed" in run_cli("reload", "-c", router.config_file).stdout
        assert modality.wait_report() == (uids(images), {})
        strange.ca.unlink()
        router.config["peer"] = [{**peer(modality), "tls": {"ca": str(strange.ca)}}]
        router.write_config()
        refused = run_cli("reload", "-c", router.config_file)
        assert refused.returncode != 0
        assert str(strange.ca) in refused.stderr


def test_a_report_that_is_refused_is_made_again(make_router: MakeRouter, tmp_path: Path, modality: Modality) -> None:
    modality.answer = 0x0110
    router = routed(make_router, tmp_path, peer(modality))
    images = synthetic.series("again", 1, KIND)
    send_all(router.caller("CT"), images)
    assert modality.ask(router.port, "2.25.5", named(images)) == 0
    wait_until(lambda: "refused with" in router.log_tail(), 20, "a refused report", router.log_tail)
    modality.answer = 0
    assert modality.wait_report() == (uids(images), {})


def test_without_a_peer_it_goes_on_the_same_association(
    make_router: MakeRouter, tmp_path: Path, modality: Modality
) -> None:
    router = routed(make_router, tmp_path)
    images = synthetic.series("same", 2, KIND)
    send_all(router.caller("CT"), images)
    association = modality.associate(router.port)
    assert ask_on(association, "2.25.6", named(images)) == 0
    assert modality.wait_report() == (uids(images), {})
    association.release()


def test_without_a_peer_and_association_a_person_is_told(
    make_router: MakeRouter, tmp_path: Path, modality: Modality
) -> None:
    router = routed(make_router, tmp_path)
    images = synthetic.series("nowhere", 2, KIND)
    send_all(router.caller("CT"), images)
    assert modality.ask(router.port, "2.25.7", named(images)) == 0
    words = "CT waits for a report on Storage Commitment, but no [[peer]] says where it listens"
    router.wait_status(lambda s: words in s["trouble"], 20, "it is told")
    router.config["peer"] = [peer(modality)]
    router.write_config()
    assert "peer CT: added" in run_cli("reload", "-c", router.config_file).stdout
    assert modality.wait_report() == (uids(images), {})
    router.wait_status(lambda s: not s["trouble"], 20, "nothing is left to tell")


def test_a_request_made_twice_is_one(make_router: MakeRouter, tmp_path: Path, modality: Modality) -> None:
    router = routed(make_router, tmp_path, peer(modality))
    assert run_cli("queue", "hold", "copy", "-c", router.config_file).returncode == 0
    images = synthetic.series("twice", 2, KIND)
    send_all(router.caller("CT"), images)
    for _ in range(2):
        assert modality.ask(router.port, "2.25.8", named(images), syntaxes=[EXPLICIT]) == 0
    assert run_cli("queue", "release", "copy", "-c", router.config_file).returncode == 0
    assert modality.wait_report() == (uids(images), {})
    router.wait_quiet()
    assert len(modality.reports) == 1


def test_what_is_no_request(make_router: MakeRouter, tmp_path: Path, modality: Modality) -> None:
    router = routed(make_router, tmp_path, peer(modality))
    association = modality.associate(router.port)
    assert ask_on(association, "2.25.9", []) == 0x0115
    assert ask_on(association, "2.25.9", [(synthetic.CT, "1.2.3")], kind=2) == 0x0123
    assert ask_on(association, "2.25.9", [(synthetic.CT, f"1.2.{n}") for n in range(40_000)]) == 0x0213
    association.release()


def test_orthanc_asks(make_router: MakeRouter, tmp_path: Path) -> None:
    port = free_port()
    with Orthanc(tmp_path / "orthanc", {"router": ("ASYNCROUTE", port)}) as orthanc:
        there = {"ae_title": "ORTHANC", "host": HOST, "port": orthanc.port}
        router = routed(make_router, tmp_path, there, port=port)
        images = corpus.named("CT_small.dcm", "MR_small.dcm")
        orthanc.store("router", [orthanc.upload(corpus.path_of(image)) for image in images])
        router.wait_delivered(2)
        asked = {"DicomInstances": [*named(images), (synthetic.CT, "1.2.3")]}
        answer = orthanc.request("POST", "/modalities/router/storage-commitment", json.dumps(asked).encode())
        where = json.loads(answer)["Path"]

        def state() -> Any:
            return json.loads(orthanc.request("GET", where))

        wait_until(lambda: state()["Status"] != "Pending", 30, "Orthanc has the report", state)
        told = state()
        assert told["Status"] == "Failure"
        assert sorted(it["SOPInstanceUID"] for it in told["Success"]) == sorted(uids(images))
        assert [it["SOPInstanceUID"] for it in told["Failures"]] == ["1.2.3"]
