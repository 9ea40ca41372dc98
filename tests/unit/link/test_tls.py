"""TLS contexts: what they demand, shown by real handshakes, and files that cannot be used."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asyncroute.core.errors import OurFault
from asyncroute.link import tls
from asyncroute.link.stream import TlsStream
from tests.support.certs import Authority, Identity
from tests.unit.parts import on_loop, read_exactly, tcp_pair  # noqa: F401  (read_exactly: see shake)

Result = tuple[ssl.SSLSocket | None, list[BaseException]]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "Other CA")


@pytest.fixture(scope="module")
def server(ca: Authority) -> Identity:
    return ca.issue("server")


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> str:
    """The protocol and cipher that the two agree on, a byte exchanged; else the first error's text."""
    found: list[str] = []

    @on_loop
    async def body() -> None:
        near, far = tcp_pair()
        ours = TlsStream(near, "c", server, server=True)
        theirs = TlsStream(far, "s", client, server=False, server_name=name)
        try:
            async with asyncio.timeout(10):
                await asyncio.gather(ours.handshake(), theirs.handshake())
                await _exchange(ours, theirs)
            found.append(f"{theirs._ssl.version()} {(theirs._ssl.cipher() or ('?',))[0]}")
        except OSError as error:
            found.append(f"error: {error}")
        finally:
            ours.close()
            theirs.close()

    body()
    return found[0]


async def _exchange(ours: TlsStream, theirs: TlsStream) -> None:
    """One byte from the server: only now does a TLS 1.3 client know that its certificate was liked."""
    ours.send([b"x"])
    view = memoryview(bytearray(1))
    while True:
        try:
            assert theirs.recv_into(view) == 1
            return
        except BlockingIOError:
            await asyncio.sleep(0.002)
            with pytest.raises(BlockingIOError):
                ours.recv_into(view)


def test_the_newest_protocol(ca: Authority, server: Identity) -> None:
    agreed = shake(
        tls.server_context(server.certificate, server.key, None, False), tls.client_context(ca.ca, None, None)
    )
    assert agreed.startswith("TLSv1.3")


def test_tls_1_2_with_forward_secrecy_only(ca: Authority, server: Identity) -> None:
    ours = tls.server_context(server.certificate, server.key, None, False)
    client = ca.client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(ours, client).startswith("TLSv1.2 ECDHE-RSA-AES256-GCM")
    client.set_ciphers("AES256-GCM-SHA384:AES128-SHA")
    assert shake(ours, client).startswith("error")
    client.set_ciphers("ECDHE-RSA-AES256-SHA")
    assert shake(ours, client).startswith("error")


@pytest.mark.parametrize("side", ["server", "client"])
def test_nothing_older(ca: Authority, server: Identity, side: str) -> None:
    context = (
        tls.server_context(server.certificate, server.key, None, False)
        if side == "server"
        else tls.client_context(ca.ca, None, None)
    )
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    offered = {cipher["name"] for cipher in context.get_ciphers()}
    assert all(name.startswith(("TLS_", "ECDHE-", "DHE-")) for name in offered)
    assert all("GCM" in name or "CHACHA20" in name or "CCM" in name for name in offered)


def test_a_client_checks_whom_it_talks_to(ca: Authority, other_ca: Authority, server: Identity) -> None:
    ours = tls.server_context(server.certificate, server.key, None, False)
    assert "certificate verify failed" in shake(ours, tls.client_context(other_ca.ca, None, None))
    assert "certificate verify failed" in shake(ours, tls.client_context(None, None, None))
    assert "Hostname mismatch" in shake(ours, tls.client_context(ca.ca, None, None), name="elsewhere")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_mutual(ca: Authority, other_ca: Authority, server: Identity, version: ssl.TLSVersion) -> None:
    ours = tls.server_context(server.certificate, server.key, ca.ca, True)
    known, stranger = ca.issue("known"), other_ca.issue("stranger")
    contexts = [
        tls.client_context(ca.ca, known.certificate, known.key),
        tls.client_context(ca.ca, None, None),
        tls.client_context(ca.ca, stranger.certificate, stranger.key),
    ]
    for context in contexts:
        context.maximum_version = version
    answers = [shake(ours, context) for context in contexts]
    assert [answer.startswith("error") for answer in answers] == [False, True, True], answers


def test_a_client_certificate_may_be_optional(ca: Authority, other_ca: Authority, server: Identity) -> None:
    ours = tls.server_context(server.certificate, server.key, ca.ca, False)
    stranger = other_ca.issue("stranger")
    assert shake(ours, tls.client_context(ca.ca, None, None)).startswith("TLSv1.3")
    assert shake(ours, tls.client_context(ca.ca, stranger.certificate, stranger.key)).startswith("error")


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used(ca: Authority, server: Identity, tmp_path: Path) -> None:
    other = ca.issue("other")
    nothing, noise = tmp_path / "nothing.pem", tmp_path / "noise.pem"
    noise.write_text("noise")
    wrong = [
        (nothing, server.key, None, str(nothing)),
        (server.certificate, nothing, None, str(nothing)),
        (noise, server.key, None, str(noise)),
        (server.certificate, noise, None, str(noise)),
        (server.certificate, other.key, None, str(other.key)),
        (server.certificate, server.key, nothing, f"cannot read {nothing}"),
        (server.certificate, server.key, noise, f"no certificates in {noise}"),
    ]
    for certificate, key, client_ca, words in wrong:
        with pytest.raises(OurFault) as caught:
            tls.server_context(certificate, key, client_ca, True)
        assert words in str(caught.value)
        assert str(caught.value).startswith("tls: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(OurFault, match="no certificates"):
        tls.client_context(noise, None, None)
    with pytest.raises(OurFault, match="cannot read"):
        tls.client_context(ca.ca, nothing, server.key)


def test_files_that_cannot_be_used_are_told_in_words(ca: Authority, server: Identity, tmp_path: Path) -> None:
    """No word of OpenSSL's where we know better."""
    other, noise, damaged = ca.issue("another"), tmp_path / "noise.pem", tmp_path / "damaged.pem"
    noise.write_text("noise")
    lines = server.certificate.read_text().splitlines()
    damaged.write_text("\n".join([*lines[:3], *lines[5:]]))
    swapped = Identity(server.key, server.certificate)
    for identity, words in (
        (Identity(server.certificate, other.key), f"tls: {other.key} is not the key of {server.certificate}"),
        (Identity(noise, server.key), f"tls: {noise} holds no certificate (PEM)"),
        (Identity(server.certificate, noise), f"tls: {noise} holds no private key (PEM)"),
        (swapped, f"tls: {server.key} holds no certificate (PEM)"),
        (Identity(damaged, server.key), f"tls: {damaged} and {server.key} cannot be used: one of them is damaged ("),
        (Identity(tmp_path / "no", server.key), f"tls: cannot read {tmp_path / 'no'}: No such file or directory"),
        (Identity(server.certificate, tmp_path / "no"), f"tls: cannot read {tmp_path / 'no'}: No such file"),
    ):
        with pytest.raises(OurFault) as caught:
            tls.server_context(identity.certificate, identity.key, None, False)
        assert str(caught.value).startswith(words)
    with pytest.raises(OurFault, match="it is not a PEM file of them"):
        tls.client_context(noise, None, None)


def test_every_failure_has_words() -> None:
    """Also those that no table knows."""
    unknown = ssl.SSLError(1, "[SSL: ODD_THING] odd thing (_ssl.c:1)")
    unknown.reason = "ODD_THING"
    assert tls.words(unknown, "caller") == "odd thing"
    assert tls.words(ssl.SSLError(1, "no reason\nat all"), "caller") == "no reason at all"
    assert tls.words(ConnectionResetError(104, "Connection reset by peer"), "caller") == "Connection reset by peer"
    assert tls.words(TimeoutError(), "caller") == "TimeoutError"
    alert = ssl.SSLError(1, "x")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert tls.words(alert) == "it asks for a certificate of ours"
    assert tls.words(alert, "destination") == "the destination asks for a certificate of ours"


def test_a_key_with_a_password_is_refused_without_asking(server: Identity, tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal, and a service would wait there for ever."""
    locked = tmp_path / "locked.key"
    arguments = ["openssl", "pkcs8", "-topk8", "-in", str(server.key), "-out", str(locked), "-passout", "pass:secret"]
    subprocess.run(arguments, check=True, capture_output=True, timeout=20)
    with pytest.raises(OurFault, match="without a password"):
        tls.server_context(server.certificate, locked, None, False)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_callers_certificate_is_verified_each_time(ca: Authority, server: Identity, version: ssl.TLSVersion) -> None:
    """A session that is taken up again would skip that."""
    ours = tls.server_context(server.certificate, server.key, ca.ca, True)
    one = ca.issue("client")
    theirs = tls.client_context(ca.ca, one.certificate, one.key)
    theirs.minimum_version = theirs.maximum_version = version
    first = _session(ours, theirs, None)
    assert first is None or not first.has_ticket
    again = _session(ours, theirs, first)
    assert again is None or not again.has_ticket


def _session(server: ssl.SSLContext, client: ssl.SSLContext, known: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """The session after a handshake and a byte, which has to be a new one."""
    near, far = socket.socketpair()

    def answer() -> None:
        with server.wrap_socket(near, server_side=True) as sock:
            assert not sock.session_reused
            sock.sendall(sock.recv(1))

    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(answer)
        with client.wrap_socket(far, server_hostname="localhost", session=known) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            session = sock.session
        answered.result(10)
    return session
