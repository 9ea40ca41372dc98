"""A certificate authority for one test run, and the certificates that peers show each other."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A test CA in ``folder``; ``ca`` is its certificate as a PEM file."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = _new_key()
        self._name = _name(name)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(_pem(self._self_signed()))

    def issue(self, name: str, days: float = 30, begins: float = -1, dns: Sequence[str] = ("localhost",)) -> Identity:
        """A certificate for ``name`` (common name), ``dns`` and 127.0.0.1, good for servers and clients.

        Good until ``days`` from now (less than 0: it has expired) and from ``begins`` days from now, or a day before
        its end. A second one of the same name replaces the files of the first.
        """
        key = _new_key()
        builder = self._builder(_name(name), key, days, begins)
        certificate = builder.add_extension(_names(dns), False).add_extension(_uses(), False)
        identity = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        identity.certificate.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))
        identity.key.write_bytes(_private(key))
        return identity

    def client_context(self, identity: Identity | None = None) -> ssl.SSLContext:
        """A client's context that trusts this CA and shows ``identity``."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.key)
        return context

    def server_context(self, identity: Identity) -> ssl.SSLContext:
        """A server's context that shows ``identity``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        return context

    def _self_signed(self) -> x509.Certificate:
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = self._builder(self._name, self._key, 30).add_extension(constraints, critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def _builder(
        self, name: x509.Name, key: rsa.RSAPrivateKey, days: float, begins: float = -1
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        start = now + datetime.timedelta(days=min(begins, days - 1))
        return builder.not_valid_before(start).not_valid_after(now + datetime.timedelta(days=days))


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _names(dns: Sequence[str]) -> x509.SubjectAlternativeName:
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return x509.SubjectAlternativeName([*map(x509.DNSName, dns), address])


def _uses() -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: rsa.RSAPrivateKey) -> bytes:
    form, no = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, no)
