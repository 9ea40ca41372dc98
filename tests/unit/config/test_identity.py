"""Certificates that AE titles are bound to, and users: what a configuration means."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from asyncroute.config.listeners import CLEAR_TEXT, TlsServer
from asyncroute.config.model import Config

HEX = "0a" * 32


def bound(bind_ae: dict[str, Any], title: str) -> tuple[str, ...]:
    return TlsServer(certificate="c", key="k", client_ca="ca", bind_ae=bind_ae).bound(title)


@pytest.mark.parametrize(
    ("bind_ae", "title", "names"),
    [
        ({}, "CT_1", ()),
        ({"CT_1": "a"}, "CT_1", ("a",)),
        ({"CT_1": "a"}, "CT_2", ()),
        ({"CT_1": "a"}, "CT_10", ()),
        ({"CT_1": ["a", "b"]}, "CT_1", ("a", "b")),
        ({"*": "all", "CT_*": "cts", "CT_1": "one"}, "CT_1", ("one",)),
        ({"*": "all", "CT_*": "cts", "CT_1": "one"}, "CT_2", ("cts",)),
        ({"*": "all", "CT_*": "cts", "CT_1": "one"}, "MR", ("all",)),
        ({"CT_*": "first", "*_1": "second"}, "CT_1", ("first",)),
        ({"*_1": "second", "CT_*": "first"}, "CT_1", ("second",)),
        ({"CT_1": f"SHA256:{HEX.upper()}"}, "CT_1", (f"sha256:{HEX}",)),
        ({"CT_1": "sha256:" + ":".join(["0A"] * 32)}, "CT_1", (f"sha256:{HEX}",)),
    ],
)
def test_the_most_exact_title_counts(bind_ae: dict[str, Any], title: str, names: tuple[str, ...]) -> None:
    assert bound(bind_ae, title) == names


@pytest.mark.parametrize(
    "name", ["", " a", "a\n", "sha256:", "sha256:" + "0" * 63, "sha256:" + "g" * 64, 5, [], ["a", ""]]
)
def test_names_that_no_certificate_has(name: Any) -> None:
    with pytest.raises(ValidationError):
        bound({"CT_1": name}, "CT_1")


def test_places_of_files() -> None:
    tls = {"certificate": "/c.pem", "key": "/k.pem"}
    config = Config.model_validate(
        {
            "listener": [{"tls": tls, "user_identity": {"users_file": "/u"}}, {"port": 1}],
            "destination": [
                {"kind": "dicom", "name": "d", "host": "h", "port": 1, "ae_title": "D", "tls": {"ca": "/ca", **tls}},
                {"kind": "dicom", "name": "e", "host": "h", "port": 1, "ae_title": "D", "tls": {}},
                {"kind": "folder", "name": "f", "path": "/f"},
            ],
        }
    )
    listener = "listener ASYNCROUTE@0.0.0.0:11112"
    assert [place for place, _ in config.secrets] == [listener, listener, "destination d", "destination e"]
    assert [what for what, _ in config.certificates] == [
        f"{listener}: our certificate c.pem",
        "destination d: our certificate c.pem",
    ]
    assert "clear text" in CLEAR_TEXT
