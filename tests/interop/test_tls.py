"""TLS on both sides: dcmtk to the router, the router to dcmtk, ours to ours, with and without client certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.support import peers, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.certs import Authority, Identity
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Closed, send, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import write_part10
from tests.support.peers import KEEP_BYTES, StoreSCP
from tests.support.settings import Table


def listening_with(identity: Identity, **more: object) -> Table:
    """A [[listener]] with TLS."""
    tls = {"certificate": str(identity.certificate), "key": str(identity.key), **more}
    return settings.listener(tls=tls)


def calling_with(authority: Authority, identity: Identity | None = None, **more: object) -> Table:
    """A destination's tls table."""
    own = {} if identity is None else {"certificate": str(identity.certificate), "key": str(identity.key)}
    return {"ca": str(authority.ca), **own, **more}


def test_dcmtk_on_both_sides_mutual(make_router: MakeRouter, authority: Authority, tmp_path: Path) -> None:
    router_id, us, them = (authority.issue(name) for name in ("router", "scu", "scp"))
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES, *peers.tls_options(them, authority.ca)) as scp:
        router = make_router(
            listener=[listening_with(router_id, client_ca=str(authority.ca), require_client=True)],
            destination=[settings.dicom("scp", scp.port, tls=calling_with(authority, router_id))],
            route=[settings.route("all", ["scp"])],
        ).start()
        image = synthetic.image("tls", 0)
        file = write_part10(image, tmp_path)
        peers.storescu(router.caller(), [file], "-xe", *peers.tls_options(us, authority.ca))
        router.wait_delivered(1)
        (kept,) = scp.wait_files(1)
        assert peers.same_content(peers.read(file), peers.read(kept)) == ""
        nobody = peers.echoscu(router.caller(), *peers.tls_options(None, authority.ca))
        assert nobody.returncode != 0


@pytest.mark.parametrize("mutual", [True, False], ids=["mutual", "server-only"])
def test_ours_to_ours(receivers: ReceiverHost, make_router: MakeRouter, authority: Authority, mutual: bool) -> None:
    server, client = authority.issue("second"), authority.issue("first")
    end = receivers.receiver()
    demand = {"client_ca": str(authority.ca)} if mutual else {}
    second = make_router(
        listener=[listening_with(server, **demand)],
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("all", ["end"])],
    ).start()
    first = make_router(
        destination=[
            settings.dicom(
                "second", second.port, ae_title="ASYNCROUTE", tls=calling_with(authority, client if mutual else None)
            )
        ],
        route=[settings.route("all", ["second"])],
    ).start()
    images = [*synthetic.mixed("ours", 10), synthetic.image("ours-large", 0, synthetic.Kind(size=20_000_000))]
    send_all(first.caller(), images, associations=3)
    end.wait_stored(len(images))
    assert_exactly(end, images)


def test_exact_bytes_over_tls_both_sides(
    receivers: ReceiverHost, make_router: MakeRouter, authority: Authority
) -> None:
    server, them = authority.issue("router"), authority.issue("them")
    end = receivers.receiver(Behaviour(tls={"certificate": str(them.certificate), "key": str(them.key)}))
    router = make_router(
        listener=[listening_with(server)],
        destination=[settings.dicom("end", end.port, host="localhost", tls=calling_with(authority))],
        route=[settings.route("all", ["end"])],
    ).start()
    images = synthetic.mixed("tls-bytes", 40)
    send_all(router.caller(tls=authority.client_context()), images, associations=4)
    router.wait_delivered(40)
    assert_exactly(end, images)


def test_a_caller_without_certificate_is_refused(
    receivers: ReceiverHost, make_router: MakeRouter, authority: Authority
) -> None:
    end = receivers.receiver()
    router = make_router(
        listener=[listening_with(authority.issue("router"), client_ca=str(authority.ca))],
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("all", ["end"])],
    ).start()
    image = [synthetic.image("refused", 0)]
    assert send(router.caller(tls=authority.client_context()), image).ended != "released"
    with pytest.raises((Closed, TimeoutError)):
        router.caller(timeout=5).associate(image)
    assert send(router.caller(tls=authority.client_context(authority.issue("known"))), image).ended == "released"


def test_a_stranger_as_destination_gets_nothing(
    receivers: ReceiverHost, make_router: MakeRouter, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "other", "Other CA").issue("stranger")
    end = receivers.receiver(Behaviour(tls={"certificate": str(stranger.certificate), "key": str(stranger.key)}))
    router = make_router(
        destination=[settings.dicom("end", end.port, tls=calling_with(authority))],
        route=[settings.route("all", ["end"])],
    ).start()
    send_all(router.caller(), [synthetic.image("stranger", 0)])
    status = router.wait_status(lambda s: s["channels"][0]["last_error"], 20, "an error of the destination")
    assert "TLS" in status["channels"][0]["last_error"].upper()
    assert (status["totals"]["waiting"], status["totals"]["failed"]) == (1, 0)
    assert end.tally().stored == 0


def test_weak_ciphers_are_refused(receivers: ReceiverHost, make_router: MakeRouter, authority: Authority) -> None:
    end = receivers.receiver()
    router = make_router(
        listener=[listening_with(authority.issue("router"))],
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("all", ["end"])],
    ).start()
    weak = authority.client_context()
    weak.set_ciphers("AES256-SHA256:@SECLEVEL=0")
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError, match=r"alert|EOF|reset"):
        router.caller(tls=weak).connect()
