"""Storage Commitment as SCU: with Orthanc, and with an archive that misbehaves as it is told."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import corpus, settings, synthetic
from tests.support.committing import Archive, Modality, Request
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.killing import VARIABLE
from tests.support.peers import Orthanc
from tests.support.ports import HOST, free_port, listening
from tests.support.router import ROOT, Router, run_cli
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=2_000)
QUICK: settings.Table = {"verify_wait": "60s", "association": {"idle_close": "500ms"}}

# A pynetdicom that is refused a connection forgets its socket without closing it.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def archive() -> Iterator[Archive]:
    with Archive(reports_to=free_port()) as made:
        yield made


def routed(make_router: MakeRouter, archive: Archive, **more: Any) -> Router:
    """A router whose one destination commits to it; where the archive reports to."""
    table = settings.dicom("pacs", archive.port, verify="commit", calling_ae_title="ASYNCROUTE", **{**QUICK, **more})
    return make_router(
        listener=[settings.listener(port=archive.reports_to)],
        destination=[table],
        route=[settings.route("all", ["pacs"])],
    )


def wait_confirmed(router: Router, delivered: int) -> None:
    router.wait_status(
        lambda s: s["totals"]["delivered"] == delivered and not router.channel("pacs", s)["unconfirmed"],
        30,
        f"{delivered} deliveries are confirmed",
    )
    router.wait_drained()


def why(router: Router, uid: str) -> str:
    done = run_cli("why", uid, "-c", router.config_file)
    assert done.returncode == 0, done
    return str(done.stdout)


def test_files_stay_until_the_archive_has_committed_them(make_router: MakeRouter, archive: Archive) -> None:
    router = routed(make_router, archive).start()
    images = synthetic.series("first", 5, KIND)
    send_all(router.caller("CT"), images)
    (request,) = archive.wait_requests(1)
    assert request.calling == "ASYNCROUTE"
    assert sorted(request.references) == sorted((image.sop_class, image.sop_instance) for image in images)
    status = router.wait_delivered(5)
    assert (router.channel("pacs", status)["unconfirmed"], status["spool"]["files"]) == (5, 5)
    assert "unconfirmed" in run_cli("status", "-c", router.config_file).stdout
    assert f"asked for in transaction {request.transaction}" in why(router, images[0].sop_instance)
    archive.commit(request)
    wait_confirmed(router, 5)
    story = why(router, images[0].sop_instance)
    assert f"confirmed by the destination: Storage Commitment, transaction {request.transaction}" in story
    assert "now:" not in story
    assert len(archive.requests) == 1


def test_a_report_on_the_same_association(make_router: MakeRouter, archive: Archive) -> None:
    answers: list[int] = []
    archive.on_request = lambda request: answers.append(archive.say_there(request))
    router = routed(make_router, archive).start()
    send_all(router.caller(), synthetic.series("there", 4, KIND))
    wait_confirmed(router, 4)
    wait_until(lambda: answers == [0], 10, "the report is answered")
    router.wait_quiet()


def test_what_failed_is_sent_again(make_router: MakeRouter, archive: Archive) -> None:
    router = routed(make_router, archive).start()
    images = synthetic.series("some", 4, KIND)
    send_all(router.caller(), images)
    (request,) = archive.wait_requests(1)
    bad, *good = request.references
    assert archive.say(request.transaction, good, {bad: 0x0112}) == 0
    second = archive.wait_requests(2)[1]
    assert second.references == [bad]
    assert archive.stored.count(bad[1]) == 2
    assert len(archive.stored) == 5
    story = why(router, bad[1])
    assert "not confirmed, to be sent again: not committed by the destination: 0112 (no such object instance)" in story
    archive.commit(second)
    wait_confirmed(router, 4)


def test_what_can_never_be_committed_is_a_dead_letter(make_router: MakeRouter, archive: Archive) -> None:
    router = routed(make_router, archive).start()
    (image,) = synthetic.series("never", 1, KIND)
    send_all(router.caller(), [image])
    (request,) = archive.wait_requests(1)
    assert archive.say(request.transaction, [], dict.fromkeys(request.references, 0x0122)) == 0
    status = router.wait_status(lambda s: s["totals"]["failed"] == 1, 10, "a dead letter")
    assert (status["totals"]["delivered"], status["spool"]["files"]) == (0, 1)
    assert router.channel("pacs", status)["unconfirmed"] == 0
    assert "0122 (referenced SOP class not supported)" in why(router, image.sop_instance)
    done = run_cli("queue", "retry", "--to", "pacs", "-c", router.config_file)
    assert done.returncode == 0, done
    archive.commit(archive.wait_requests(2)[1])
    wait_confirmed(router, 1)


def test_no_report_in_time(make_router: MakeRouter, archive: Archive) -> None:
    """It is asked again; the late report on the first transaction counts, twice, and one on another does not."""
    router = routed(make_router, archive, verify_wait="1s").start()
    images = synthetic.series("late", 3, KIND)
    send_all(router.caller(), images)
    first, second = archive.wait_requests(2)[:2]
    assert first.transaction != second.transaction
    assert sorted(first.references) == sorted(second.references)
    assert archive.say("1.2.3.4.5", first.references) == 0x0110
    assert archive.say(first.transaction, [(synthetic.CT, "1.2.3")]) == 0, "of an image that was not asked for"
    assert router.channel("pacs")["unconfirmed"] == 3
    archive.commit(first)
    archive.commit(first)
    wait_confirmed(router, 3)
    archive.commit(second)
    assert archive.say(second.transaction, [], dict.fromkeys(second.references, 0x0112)) == 0, "too late to be wrong"
    assert router.status()["totals"]["delivered"] == 3
    assert len(archive.stored) == 3


def test_killed_and_restarted_in_between(make_router: MakeRouter, archive: Archive) -> None:
    router = routed(make_router, archive).start()
    images = synthetic.series("killed", 3, KIND)
    send_all(router.caller(), images)
    (request,) = archive.wait_requests(1)
    router.wait_status(lambda s: router.channel("pacs", s)["unconfirmed"] == 3, 10, "they are delivered")
    router.kill()
    assert router.channel("pacs")["unconfirmed"] == 3
    router.start()
    archive.commit(request)
    wait_confirmed(router, 3)
    assert len(archive.stored) == 3


@pytest.mark.parametrize("point", ["proof-unasked", "proof-asked", "proof-reported", "proof-taken"])
def test_killed_at_each_step(make_router: MakeRouter, archive: Archive, point: str) -> None:
    """The archive reports until it has an answer, as archives do."""

    def say(request: Request) -> None:
        wait_until(lambda: answered(request), 60, "an answer")

    def answered(request: Request) -> bool:
        try:
            return listening(archive.reports_to) and archive.say(request.transaction, request.references) == 0
        except AssertionError:
            return False

    archive.on_request = say
    router = routed(make_router, archive, verify_wait="3s")
    router.start(True, **{VARIABLE: point})
    send_all(router.caller(), synthetic.series(point, 3, KIND))
    wait_until(lambda: not router.running, 30, f"the crash at {point}", router.log_tail)
    router.start()
    wait_confirmed(router, 3)
    assert len(archive.stored) == 3


def test_an_archive_that_does_not_commit(make_router: MakeRouter) -> None:
    """It is told, nothing is lost, and without `verify` the files go."""
    with Archive(reports_to=free_port(), commits=False) as archive:
        router = routed(make_router, archive).start()
        send_all(router.caller(), synthetic.series("none", 2, KIND))
        router.wait_status(
            lambda s: router.channel("pacs", s)["verify_error"] == "does not accept Storage Commitment",
            20,
            "it is told",
        )
        shown = run_cli("status", "-c", router.config_file)
        assert shown.returncode == 1
        assert "pacs: 2 deliveries wait for proof: does not accept Storage Commitment" in shown.stdout
        router.config["destination"][0]["verify"] = "no"
        router.write_config()
        assert run_cli("reload", "-c", router.config_file).returncode == 0
        wait_confirmed(router, 2)


def test_a_refused_request_is_made_again(make_router: MakeRouter, archive: Archive) -> None:
    archive.answer = 0x0213
    router = routed(make_router, archive).start()
    send_all(router.caller(), synthetic.series("refused", 2, KIND))
    router.wait_status(
        lambda s: "refuses to commit: 0x0213" in router.channel("pacs", s)["verify_error"], 20, "it is told"
    )
    archive.on_request = archive.commit
    archive.answer = 0
    wait_confirmed(router, 2)
    assert router.channel("pacs")["verify_error"] == ""


def test_many_go_in_several_transactions(make_router: MakeRouter, archive: Archive) -> None:
    archive.on_request = archive.commit
    router = routed(make_router, archive).start()
    images = synthetic.series("many", 700, synthetic.Kind(size=512))
    send_all(router.caller(), images, associations=4)
    wait_confirmed(router, 700)
    assert max(len(request.references) for request in archive.requests) <= 300
    assert sorted(uid for request in archive.requests for uid in request.uids) == sorted(i.sop_instance for i in images)


def test_the_example_of_the_documentation(make_router: MakeRouter, archive: Archive, tmp_path: Path) -> None:
    """An archive that commits, one that is queried, and a modality that hears of it."""
    with Orthanc(tmp_path / "orthanc", {"router": ("CT_A", free_port())}) as backup, Modality("CT_A") as modality:
        config = tomllib.loads((ROOT / "examples/proof.toml").read_text("utf-8"))
        ports = {"pacs": archive.port, "backup": backup.port}
        config["listener"][0] |= {"host": HOST, "port": archive.reports_to}
        config["peer"][0] |= {"host": HOST, "port": modality.port}
        for table in config["destination"]:
            table |= {"host": HOST, "port": ports[table["name"]]}
        router = make_router(**config).start()
        images = corpus.named("CT_small.dcm", "MR_small.dcm")
        send_all(router.caller("CT_A"), images)
        assert modality.ask(router.port, "2.25.77", [(image.sop_class, image.sop_instance) for image in images]) == 0
        (request,) = archive.wait_requests(1)
        router.wait_status(lambda s: not router.channel("backup", s)["unconfirmed"], 30, "the backup is queried")
        assert not modality.reports
        archive.commit(request)
        assert modality.wait_report() == ([image.sop_instance for image in images], {})
        wait_confirmed(router, 4)


def test_orthanc_commits(make_router: MakeRouter, tmp_path: Path) -> None:
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", {"router": ("ASYNCROUTE", port)})
    with orthanc:
        table = settings.dicom(
            "pacs", orthanc.port, ae_title="ORTHANC", verify="commit", verify_wait="60s", calling_ae_title="ASYNCROUTE"
        )
        router = make_router(
            listener=[settings.listener(port=port)], destination=[table], route=[settings.route("all", ["pacs"])]
        ).start()
        images = corpus.named("CT_small.dcm", "MR_small.dcm", "examples_palette.dcm")
        send_all(router.caller(), images)
        wait_confirmed(router, 3)
        assert len(orthanc.instances()) == 3
        assert "confirmed by the destination" in why(router, images[0].sop_instance)
