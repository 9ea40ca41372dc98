"""Certificates: how long ours are good, what peers' are called, and what is told of those that were refused."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from asyncroute.core.errors import OurFault
from asyncroute.link import certificates, tls
from asyncroute.link.certificates import Certificate, Validity
from asyncroute.link.stream import TlsStream
from tests.support.certs import Authority, Identity
from tests.unit.parts import on_loop, tcp_pair

DAY = 86400.0


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize(("days", "begins"), [(30, -1), (-5, -10), (36500, -1), (20000, 100)])
def test_validity_is_the_certificates(ca: Authority, days: float, begins: float) -> None:
    """UTCTime and, from 2050 on, GeneralizedTime."""
    identity = ca.issue("dated", days, begins)
    known = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    ends, starts = known.not_valid_after_utc.timestamp(), known.not_valid_before_utc.timestamp()
    assert certificates.own(identity.certificate) == Validity(starts, ends)
    with_key = identity.certificate.with_suffix(".both")
    with_key.write_bytes(b"text\n" + identity.key.read_bytes() + identity.certificate.read_bytes() + ca.ca.read_bytes())
    assert certificates.own(with_key).ends == ends


def test_files_without_a_certificate(ca: Authority, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    whole = ca.ca.read_text().splitlines()
    broken.write_text("\n".join([whole[0], *whole[1:3], whole[-1]]))
    for file in (tmp_path / "no", ca.issue("x").key, broken, tmp_path):
        with pytest.raises(OurFault, match="no certificate in"):
            certificates.own(file)
    good = ca.issue("y").certificate
    assert [what for what, _ in certificates.validities([("broken", broken), ("good", good)])] == ["good"]


@pytest.mark.parametrize(
    ("age", "left", "words"),
    [
        (300, 60, ""),
        (300, 29.6, "will expire in 30 days: valid until 1970-01-30 14:24 UTC"),
        (300, 0.2, "will expire in 0 days"),
        (300, -0.1, "has expired: valid until 1969-12-31 21:36 UTC"),
        (-1, 60, "is not valid yet: valid from 1970-01-02 00:00 UTC"),
        (10, 20, ""),  # good for 30 days in all
        (21, 9, "will expire in 9 days"),
    ],
)
def test_trouble_comes_in_time(age: float, left: float, words: str) -> None:
    told = Validity(-age * DAY, left * DAY).trouble(now=0.0)
    assert (words in told) if words else told == ""


def named(subject: str = "ct1", dns: tuple[str, ...] = ("CT1.example.org",), issuer: str = "CA") -> Certificate:
    return Certificate(subject, dns, issuer, 0, 1, "sha256:" + "ab" * 32)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (["ct1"], True),
        (["CT1"], True),
        (["x", "ct1.example.org"], True),
        (["sha256:" + "ab" * 32], True),
        (["sha256:" + "ac" * 32], False),
        (["CA"], False),
        (["ct1.example"], False),
        (["*"], False),
        ([""], False),
    ],
)
def test_names(wanted: list[str], fits: bool) -> None:
    assert named().is_one_of(wanted) is fits


def test_a_certificate_without_names_is_nobodys() -> None:
    empty = named("", ())
    assert not empty.is_one_of(["", " "])
    assert "sha256:abab" in empty.title


def test_what_peers_call_themselves_stays_short_and_printable() -> None:
    hostile = named("x\x1b[2J\n" * 1000, tuple(f"{'y' * 100}{n}" for n in range(1000)), "\u202e")
    assert len(str(hostile)) < 900
    assert str(hostile).isprintable()


def test_what_is_known_of_a_refused_chain(ca: Authority, tmp_path: Path) -> None:
    """At both ends of real handshakes, in both versions: who it was, and the words with names and dates."""
    server, expired = ca.issue("server"), ca.issue("expired", -2)
    other = Authority(tmp_path, "Other CA").issue("stranger")
    cases = [
        (server, expired, "'expired'", "the caller's certificate has expired: 'expired', valid until"),
        (server, other, "'stranger'", "is not trusted: unable to get local issuer certificate: 'stranger', issued by"),
        (server, None, None, "the caller shows no certificate, and client_ca asks for one"),
        (expired, server, "'expired'", "the destination's certificate has expired: 'expired', valid until"),
        (other, server, "'stranger'", "the destination's certificate is not trusted: unable to get local issuer"),
    ]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for shown, own, title, words in cases:
            told, chain = refused(ca, shown, own, version)
            assert words in told
            assert [each.title for each in chain][:1] == ([title] if title else [])


def refused(
    ca: Authority, server: Identity, client: Identity | None, version: ssl.TLSVersion
) -> tuple[str, list[Certificate]]:
    """Of the end that refuses: its words, and what it knows of the other."""
    found: list[tuple[str, list[Certificate]]] = []

    async def shake(stream: TlsStream, other: str) -> None:
        try:
            await stream.handshake()
        except ssl.SSLError as error:
            if not found:
                found.append((tls.words(error, other, stream.refused), stream.refused))
            stream.close()

    @on_loop
    async def body() -> None:
        near, far = tcp_pair()
        theirs = tls.client_context(ca.ca, *((client.certificate, client.key) if client else (None, None)))
        theirs.maximum_version = version
        ours = tls.server_context(server.certificate, server.key, ca.ca, True)
        a = TlsStream(near, "c", ours, server=True)
        b = TlsStream(far, "s", theirs, server=False, server_name="localhost")
        async with asyncio.timeout(10):
            await asyncio.gather(shake(a, "caller"), shake(b, "destination"))
        a.close()
        b.close()

    body()
    return found[0]


def test_dates_for_people() -> None:
    moment = datetime.datetime(2026, 11, 17, 20, 23, 59, tzinfo=datetime.UTC)
    assert certificates.day(moment.timestamp()) == "2026-11-17 20:23 UTC"


def test_a_name_that_looks_like_a_fingerprint_is_none() -> None:
    pinned = "sha256:" + "ab" * 32
    pretender = Certificate(pinned, (pinned,), "CA", 0.0, 0.0, "sha256:" + "cd" * 32)
    assert not pretender.is_one_of([pinned])
    assert pretender.is_one_of(["sha256:" + "CD" * 32])
