"""What is kept of outbound negotiations: the same as negotiating anew, for whatever calling title, and bounded."""

from __future__ import annotations

import pytest

from asyncroute.link import negotiate
from asyncroute.link.negotiate import Established, Proposal, conclude, conclude_cached, request, request_cached
from asyncroute.link.recent import KEPT_BYTES, KEPT_ENTRIES, Agreed
from tests.unit.link.pdus import CT, EVLE, JPEG, MR, accepted


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    for kept in (negotiate._agreed.requests, negotiate._agreed.conclusions):
        kept._kept.clear()


def proposal(title: str = "CT_A", called: str = "PACS", *more: str) -> Proposal:
    return Proposal(title, called, 65536, ((CT, (EVLE,)), (MR, (JPEG,)), *((name, (EVLE,)) for name in more)))


@pytest.mark.parametrize("title", ["CT_A", "X", "SIXTEEN_LETTERS_"])
def test_a_request_of_another_title_is_the_one_that_would_be_made(title: str) -> None:
    wanted = proposal(title)
    made = request(wanted)
    negotiate._agreed.requests._kept.clear()
    assert request_cached(wanted) is None
    request(proposal("SOMEBODY_ELSE"))
    assert request_cached(wanted) == request(wanted) == made


def test_other_contexts_or_another_called_title_are_another_request() -> None:
    request(proposal())
    for other in (proposal("CT_A", "OTHER"), proposal("CT_A", "PACS", "1.2.3"), Proposal("CT_A", "PACS", 16384, TWO)):
        assert request_cached(other) is None
        assert request(other) != request(proposal())


TWO = ((CT, (EVLE,)), (MR, (JPEG,)))


def test_an_acceptance_of_another_title_means_the_same() -> None:
    first, second = proposal(), proposal("MR_B")
    pdu, other = accepted(request(first)).pdu, accepted(request(second)).pdu
    assert pdu != other
    assert conclude_cached(first, pdu) is None
    meant = conclude(first, pdu)
    assert isinstance(meant, Established)
    assert conclude_cached(first, pdu) is meant
    assert conclude_cached(second, other) is meant
    assert conclude(second, other) is meant


def test_another_answer_or_another_proposal_is_another_conclusion() -> None:
    pdu = bytearray(accepted(request(proposal())).pdu)
    conclude(proposal(), bytes(pdu))
    more = proposal("CT_A", "PACS", "1.2.3")
    assert conclude_cached(more, bytes(pdu)) is None
    pdu[-1] ^= 1
    assert conclude_cached(proposal(), bytes(pdu)) is None


@pytest.mark.parametrize("pdu", [negotiate.reject(1, 1, 3), negotiate.abort(2, 6), b"", b"\2\0\0\0\0\4abcd"])
def test_only_acceptances_are_kept(pdu: bytes) -> None:
    for _ in range(2):
        conclude(proposal(), pdu)
        assert conclude_cached(proposal(), pdu) is None
    assert len(negotiate._agreed.conclusions) == 0


def test_it_is_bounded() -> None:
    agreed = Agreed()
    for number in range(KEPT_ENTRIES + 50):
        agreed.keep_request(proposal("A", "PACS", f"1.{number}"), b"x")
    agreed.keep_request(proposal(), bytes(KEPT_BYTES + 1))
    agreed.keep_conclusion(proposal(), bytes(KEPT_BYTES + 1), Established({}, {}, 0, "", ""))
    assert len(agreed.requests) == KEPT_ENTRIES
    assert len(agreed.conclusions) == 0
    assert agreed.request(proposal()) is None
    assert agreed.request(proposal("A", "PACS", "1.0")) is None
