"""What TLS refuses, in both directions, with dcmtk on the other end: the log and the status say why in words, the peer
gets a TLS alert, images are kept, and delivered once the fault is mended."""

from __future__ import annotations

import datetime
import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.test_tls import calling_with, listening_with
from tests.support import peers, settings, synthetic
from tests.support.certs import Authority, Identity
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Caller, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import write_part10
from tests.support.peers import KEEP_BYTES, StoreSCP
from tests.support.ports import HOST
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

ALERT = 0x15


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody here trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "Other CA")


def receiving_router(make_router: MakeRouter, folder: Path, *listeners: settings.Table) -> Router:
    """A router that writes what it gets into ``folder / "out"``."""
    return make_router(
        listener=list(listeners),
        destination=[settings.folder("files", folder / "out")],
        route=[settings.route("all", ["files"])],
    ).start()


def said(router: Router, words: str) -> str:
    """The line of the log that holds these words (a regular expression), once it is there."""
    found: list[str] = []

    def there() -> bool:
        found[:] = [line for line in router.log_tail(400).splitlines() if re.search(words, line)]
        return bool(found)

    wait_until(there, 15, f"a line with {words!r}", router.log_tail)
    return found[-1]


def end_of(identity: Identity) -> str:
    """When a certificate ends, as the log says it."""
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    return f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def start_of(identity: Identity) -> str:
    """When it begins."""
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    return f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"


# --- callers ----------------------------------------------------------------------------------------------------------

Make = Callable[[Authority, Authority], Identity | None]
CALLERS: dict[str, tuple[Make, str, str]] = {
    "expired": (
        lambda ours, _: ours.issue("caller-expired", -3),
        r"the caller's certificate has expired: 'caller-expired', valid until {end}",
        "certificate expired",
    ),
    "not yet valid": (
        lambda ours, _: ours.issue("caller-early", 30, begins=2),
        r"the caller's certificate is not valid yet: 'caller-early', valid from {start}",
        "bad certificate",
    ),
    "wrong CA": (
        lambda _, theirs: theirs.issue("caller-strange"),
        r"the caller's certificate is not trusted: unable to get local issuer certificate: "
        r"'caller-strange', issued by 'Other CA'",
        "unknown ca",
    ),
    "none": (
        lambda ours, theirs: None,
        r"the caller shows no certificate, and client_ca asks for one",
        "(certificate required|handshake failure)",
    ),
}


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_callers_that_are_refused(
    make_router: MakeRouter, authority: Authority, stranger: Authority, tmp_path: Path, version: str
) -> None:
    """dcmtk's storescu with each wrong certificate: nothing is taken; then one with a good certificate is served."""
    server = authority.issue("router")
    router = receiving_router(make_router, tmp_path, listening_with(server, client_ca=str(authority.ca)))
    env = peers.tls_versions(tmp_path / "conf", version, version)
    file = write_part10(synthetic.image("refused", 0), tmp_path)
    caller = router.caller()
    for name, (make, words, alert) in CALLERS.items():
        identity = make(authority, stranger)
        options = peers.tls_options(identity, authority.ca)
        titles = ("-aet", "CT_A", "-aec", caller.called, "-xe")
        done = peers.run("storescu", *titles, *options, HOST, caller.port, file, env=env)
        assert done.returncode != 0, name
        dates = {"end": end_of(identity), "start": start_of(identity)} if identity else {}
        line = said(router, words.format(**dates))
        assert " WARNING ?@127.0.0.1: TLS handshake failed: the caller" in line, line
        if version == "TLSv1.2":  # in 1.3 dcmtk has the alert, too, but says only that the association failed
            assert re.search(f"alert {alert}", done.stdout), f"{name}: no alert at dcmtk: {done.stdout}"
        assert re.search(f"alert {alert}", alert_at(caller, identity, authority, version)), name
    assert router.status()["totals"]["received"] == 0
    peers.assert_ran(peers.run(
        "storescu", "-aec", caller.called, "-xe", *peers.tls_options(authority.issue("good"), authority.ca),
        HOST, caller.port, file, env=env,
    ))  # fmt: skip
    router.wait_delivered(1)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_one_version_only_is_enough(
    make_router: MakeRouter, authority: Authority, tmp_path: Path, version: str
) -> None:
    """dcmtk on both sides of the router, with this version of TLS only; mutual."""
    us, them = authority.issue("router"), authority.issue("peer")
    env = peers.tls_versions(tmp_path / "conf", version, version)
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES, *peers.tls_options(them, authority.ca), env=env) as scp:
        router = make_router(
            listener=[listening_with(us, client_ca=str(authority.ca))],
            destination=[settings.dicom("scp", scp.port, tls=calling_with(authority, us))],
            route=[settings.route("all", ["scp"])],
        ).start()
        file = write_part10(synthetic.image("version", 0), tmp_path)
        caller, options = router.caller(), peers.tls_options(them, authority.ca)
        peers.assert_ran(
            peers.run("storescu", "-aec", caller.called, "-xe", *options, HOST, caller.port, file, env=env)
        )
        router.wait_delivered(1)
        (kept,) = scp.wait_files(1)
        assert peers.same_content(peers.read(file), peers.read(kept)) == ""


def test_old_versions_are_refused_in_both_directions(
    make_router: MakeRouter, authority: Authority, tmp_path: Path
) -> None:
    us, them = authority.issue("router"), authority.issue("peer")
    old = peers.tls_versions(tmp_path / "conf", "TLSv1", "TLSv1.1")
    options = [*peers.tls_options(them, authority.ca), "+px"]
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES, *options, env=old) as scp:
        router = make_router(
            listener=[listening_with(us), settings.listener()],
            destination=[settings.dicom("scp", scp.port, tls=calling_with(authority, us))],
            route=[settings.route("all", ["scp"])],
        ).start()
        done = peers.echoscu(router.caller(), *options, env=old)
        assert done.returncode != 0
        assert "alert protocol version" in done.stdout
        said(router, r"handshake failed: the caller knows only TLS versions before 1\.2 \(unsupported protocol\)")
        done = peers.echoscu(router.caller(), *options[:-1], "+pa", env=old)  # TLS 1.2 all the same, without ECDHE
        assert "alert handshake failure" in done.stdout
        said(router, r"handshake failed: the caller knows no cipher suite .* \(no shared cipher\)")
        send_all(router.caller(listener=1), [synthetic.image("old", 0)])
        status = router.wait_status(lambda s: s["channels"][0]["last_error"], 20, "an error")
        assert status["channels"][0]["last_error"].startswith("TLS: the destination")
        assert re.search("no version of TLS in common", status["channels"][0]["last_error"])
        assert (status["totals"]["waiting"], scp.files()) == (1, [])


def alert_at(caller: Caller, identity: Identity | None, authority: Authority, version: str) -> str:
    """What a caller who writes first and reads then is told by TLS; nothing, if the connection just ends."""
    context = authority.client_context(identity)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    try:
        with Caller(caller.port, tls=context).connect() as sock:
            sock.sendall(bytes(100_000))
            sock.recv(1)
    except OSError as error:
        return str(error)
    return ""


# --- destinations -----------------------------------------------------------------------------------------------------

DESTINATIONS: dict[str, tuple[Callable[[Authority, Authority], Identity], str]] = {
    "expired": (
        lambda ours, _: ours.issue("pacs", -3),
        "TLS: the destination's certificate has expired: 'pacs', valid until {end}",
    ),
    "not yet valid": (
        lambda ours, _: ours.issue("pacs", 30, begins=2),
        "TLS: the destination's certificate is not valid yet: 'pacs', valid from {start}",
    ),
    "wrong CA": (
        lambda _, theirs: theirs.issue("pacs"),
        "TLS: the destination's certificate is not trusted: unable to get local issuer certificate: "
        "'pacs', issued by 'Other CA'",
    ),
    "wrong name": (
        lambda ours, _: ours.issue("pacs", dns=["pacs.example.org"]),
        "TLS: the destination's certificate is not trusted: Hostname mismatch, certificate is not valid for "
        "'localhost'. It has pacs.example.org",
    ),
}


@pytest.mark.parametrize("fault", DESTINATIONS)
def test_a_destination_with_a_wrong_certificate_gets_nothing_until_it_is_mended(
    make_router: MakeRouter, authority: Authority, stranger: Authority, tmp_path: Path, fault: str
) -> None:
    """dcmtk's storescp: refused and loud; the image is kept, and delivered after the certificate was replaced there."""
    make, words = DESTINATIONS[fault]
    wrong = make(authority, stranger)
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES, *peers.tls_options(wrong, authority.ca), "-vc") as scp:
        destination = settings.dicom("pacs", scp.port, host="localhost", tls=calling_with(authority))
        router = make_router(destination=[destination], route=[settings.route("all", ["pacs"])]).start()
        image = synthetic.image("kept", 0)
        send_all(router.caller(), [image])
        told = words.format(end=end_of(wrong), start=start_of(wrong))
        status = router.wait_status(lambda s: s["channels"][0]["state"] == "down", 30, "the destination is down")
        assert status["channels"][0]["last_error"] == told
        assert (status["totals"]["waiting"], status["totals"]["failed"], scp.files()) == (1, 0, [])
        assert any(told in line for line in router.cli_status()["needs_person"])
        assert told in said(router, "the destination's certificate")
        wait_until(lambda: "alert" in scp.log_file.read_text(), 10, "the alert at storescp", scp.log_file.read_text)
        scp.stop()
        good = authority.issue("pacs")
        with StoreSCP(tmp_path / "mended", *KEEP_BYTES, *peers.tls_options(good, authority.ca), "-vc") as mended:
            router.config["destination"][0]["port"] = mended.port
            router.write_config()
            assert run_cli("reload", "-c", router.config_file).returncode == 0
            router.wait_delivered(1)
            (kept,) = mended.wait_files(1)
            assert peers.same_content(peers.read(write_part10(image, tmp_path)), peers.read(kept)) == ""


def test_our_expired_certificate_is_loud_and_a_new_one_is_taken_over_by_reload(
    make_router: MakeRouter, authority: Authority, tmp_path: Path
) -> None:
    """Both our roles: storescp refuses what we show, storescu what we are. Then new files under the same names."""
    ours, them = authority.issue("own", -3), authority.issue("peer")
    ended = end_of(ours)
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES, *peers.tls_options(them, authority.ca)) as scp:
        router = make_router(
            listener=[settings.listener(), listening_with(ours)],
            destination=[settings.dicom("pacs", scp.port, host="localhost", tls=calling_with(authority, ours))],
            route=[settings.route("all", ["pacs"])],
        ).start()
        send_all(router.caller(), [synthetic.image("ours", 0)])
        status = router.wait_status(lambda s: s["channels"][0]["state"] == "down", 30, "the destination is down")
        error = "TLS: refused by the destination: it says that our certificate has expired"
        assert status["channels"][0]["last_error"] == error
        own = [line for line in status["trouble"] if f"has expired: valid until {ended}" in line]
        assert len(own) == 2, status["trouble"]
        done = peers.echoscu(router.caller(listener=1), *peers.tls_options(None, authority.ca))
        assert "certificate verify failed" in done.stdout
        said(router, "handshake failed: the caller says that our certificate has expired")
        authority.issue("own")
        assert run_cli("reload", "-c", router.config_file).returncode == 0
        router.wait_delivered(1)
        assert peers.echoscu(router.caller(listener=1), *peers.tls_options(None, authority.ca)).returncode == 0
        assert router.status()["trouble"] == []


def test_a_destination_that_wants_a_certificate_of_ours(
    make_router: MakeRouter, authority: Authority, tmp_path: Path
) -> None:
    """TLS 1.3: refused only after our side of the handshake is done; nothing counts as sent."""
    them = authority.issue("peer")
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES, *peers.tls_options(them, authority.ca)) as scp:
        router = make_router(
            destination=[settings.dicom("pacs", scp.port, host="localhost", tls=calling_with(authority))],
            route=[settings.route("all", ["pacs"])],
        ).start()
        send_all(router.caller(), [synthetic.image("wants", 0)])
        status = router.wait_status(lambda s: s["channels"][0]["state"] == "down", 30, "the destination is down")
        assert re.match(
            r"TLS: refused by the destination: it (asks for a certificate of ours|refuses \(handshake failure\))",
            status["channels"][0]["last_error"],
        )
        assert (status["totals"]["waiting"], status["totals"]["delivered"], scp.files()) == (1, 0, [])


# --- TLS here, none there ---------------------------------------------------------------------------------------------


def test_plaintext_and_tls_at_the_wrong_ports(
    receivers: ReceiverHost, make_router: MakeRouter, authority: Authority, tmp_path: Path
) -> None:
    end = receivers.receiver()
    ours = authority.issue("router")
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES, *peers.tls_options(ours, authority.ca), "-vc") as scp:
        router = make_router(
            listener=[settings.listener(), listening_with(ours)],
            destination=[
                settings.dicom("no-tls-there", end.port, tls=calling_with(authority)),
                settings.dicom("tls-there", scp.port),
            ],
            route=[settings.route("all", ["no-tls-there", "tls-there"])],
        ).start()
        plain, secure = router.caller(listener=1), router.caller()
        assert peers.echoscu(plain).returncode != 0
        said(router, r"handshake failed: the caller does not speak TLS \(wrong version number\)")
        assert first_bytes(plain)[:2] == bytes((ALERT, 3))
        assert peers.echoscu(secure, *peers.tls_options(None, authority.ca)).returncode != 0
        said(router, r"aborting: unknown PDU type 16H \(the other side speaks TLS\)")
        image = synthetic.image("ports", 0)
        send_all(router.caller(), [image])
        status = router.wait_status(lambda s: all(c["last_error"] for c in s["channels"]), 30, "two errors")
        errors = {channel["name"]: channel["last_error"] for channel in status["channels"]}
        assert errors["no-tls-there"] == "TLS: the destination does not speak TLS (wrong version number)"
        assert re.search(r"unknown PDU type 15H \(the other side speaks TLS\)|closed|reset", errors["tls-there"])
        assert status["totals"]["waiting"] == 2
        del router.config["destination"][0]["tls"]
        router.config["destination"][1].update(host="localhost", tls=calling_with(authority))
        router.write_config()
        assert run_cli("reload", "-c", router.config_file).returncode == 0
        router.wait_delivered(2)
        assert_exactly(end, [image])
        scp.wait_files(1)


def first_bytes(caller: Caller) -> bytes:
    """What comes back for an association request in plain text, until the end."""
    with socket.create_connection((HOST, caller.port), 10) as sock:
        sock.sendall(b"\x01\x00\x00\x00\x00\xca\x00\x01" + bytes(200))
        return b"".join(iter(lambda: sock.recv(4096), b""))


# --- attacks and accidents --------------------------------------------------------------------------------------------


def test_renegotiation_is_refused_and_hurts_nobody(
    make_router: MakeRouter, authority: Authority, tmp_path: Path
) -> None:
    router = receiving_router(make_router, tmp_path, listening_with(authority.issue("router")))
    caller = router.caller(tls=authority.client_context())
    with caller.associate() as bystander:
        connect = ["openssl", "s_client", "-connect", f"{HOST}:{caller.port}", "-tls1_2", "-CAfile", str(authority.ca)]
        done = subprocess.run(connect, input=b"R\n", capture_output=True, timeout=30, check=False)
        assert b"RENEGOTIATING" in done.stdout + done.stderr
        assert re.search(rb"no renegotiation|handshake failure", done.stdout + done.stderr)
        assert bystander.echo() == 0


def test_a_huge_chain_of_certificates_is_refused(make_router: MakeRouter, authority: Authority, tmp_path: Path) -> None:
    """More than 100 KB of certificates, which a caller without any right to be here may show."""
    server, client = authority.issue("router"), authority.issue("caller")
    router = receiving_router(make_router, tmp_path, listening_with(server, client_ca=str(authority.ca)))
    long = tmp_path / "long.pem"
    ballast = authority.issue("ballast", dns=[f"{'x' * 50}.example.org"] * 200).certificate.read_bytes()
    long.write_bytes(client.certificate.read_bytes() + 10 * ballast)
    done = peers.echoscu(router.caller(), *peers.tls_options(Identity(long, client.key), authority.ca))
    assert done.returncode != 0
    said(router, "handshake failed: the caller shows a chain of certificates that is too long")
    with router.caller(tls=authority.client_context(client)).associate() as association:
        assert association.echo() == 0


def test_silence_after_the_handshake_ends_at_the_deadline(
    make_router: MakeRouter, authority: Authority, tmp_path: Path
) -> None:
    listener = listening_with(authority.issue("router"))
    router = receiving_router(make_router, tmp_path, {**listener, "association_timeout": "500ms"})
    with router.caller(tls=authority.client_context()).connect() as sock:
        sock.settimeout(20)
        assert sock.recv(1) == b""
    said(router, "no association request in time")


def test_probes_of_the_port_do_not_fill_the_log(make_router: MakeRouter, authority: Authority, tmp_path: Path) -> None:
    """A load balancer that connects and leaves is not worth a line; what goes wrong again and again is counted."""
    router = receiving_router(make_router, tmp_path, listening_with(authority.issue("router")))
    caller = router.caller()
    for _ in range(50):
        socket.create_connection((HOST, caller.port), 10).close()
    for _ in range(50):
        assert first_bytes(caller)
    said(router, "does not speak TLS")
    lines = [line for line in router.log_tail(400).splitlines() if "WARNING" in line]
    assert len(lines) == 1, lines
    print(f"probes: 100 connections without TLS, {len(lines)} line in the log")


def test_certificates_near_their_end_are_told(make_router: MakeRouter, authority: Authority, tmp_path: Path) -> None:
    soon = authority.issue("soon", 5, begins=-300)
    router = receiving_router(make_router, tmp_path, listening_with(soon))
    (line,) = router.status()["trouble"]
    assert re.search(rf"soon\.pem will expire in [45] days: valid until {end_of(soon)}", line)
    assert run_cli("status", "-c", router.config_file).returncode == 1
    done = run_cli("check", "-c", router.config_file)
    assert (done.returncode, "soon.pem will expire in" in done.stdout) == (0, True)
    later = datetime.timedelta(days=400)
    authority.issue("soon", later.days)
    assert run_cli("reload", "-c", router.config_file).returncode == 0
    assert router.status()["trouble"] == []
