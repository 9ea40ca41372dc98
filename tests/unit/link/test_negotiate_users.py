"""Association requests that name a user: who it is said to be, and what the answer promises (PS3.7 D.3.3.7)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asyncroute.link import negotiate
from asyncroute.link.negotiate import Aborted, Named, accept, accept_cached
from tests.unit.link.pdus import (
    CT,
    EVLE,
    POLICY,
    accepted,
    associate,
    context,
    identity,
    information,
    item,
    user,
)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
def test_user_identity_is_accepted_without_a_positive_response_and_never_from_memory(kind: int) -> None:
    rq = associate(context(1, CT, EVLE), last=user(identity(kind)))
    answer = accepted(rq)
    assert answer.named == Named(kind, True, b"user", b"secret")
    assert information(answer.pdu).user_identity is None
    assert accept_cached(rq, POLICY) is None


@pytest.mark.parametrize(("kind", "respond", "promised"), [(2, 1, True), (2, 0, False), (1, 1, False), (3, 1, False)])
def test_a_listener_that_verifies_users_promises_it_where_it_is_asked_for(
    kind: int, respond: int, promised: bool
) -> None:
    """The positive response of a user name with passcode, which has no server response (PS3.7 table D.3-15)."""
    policy = replace(POLICY, verifies_users=True)
    answer = accept(associate(context(1, CT, EVLE), last=user(identity(kind, respond))), policy)
    assert isinstance(answer, negotiate.Accepted)
    response = information(answer.pdu).user_identity
    assert (response is not None) is promised
    assert response is None or getattr(response, "server_response", None) == b""
    assert (
        information(answer.pdu).maximum_length
        == information(accepted(associate(context(1, CT, EVLE))).pdu).maximum_length
    )
    assert (accept_cached(associate(context(1, CT, EVLE), last=user(identity(kind, respond))), policy)) is None


@pytest.mark.parametrize("cut", [1, 3, 6, 8])
def test_a_user_who_is_cut_short_is_a_fault_and_not_an_exception(cut: int) -> None:
    body = identity()[4:-cut]
    assert isinstance(accept(associate(context(1, CT, EVLE), last=user(item(0x58, body))), POLICY), Aborted)


def test_a_kind_of_user_that_nobody_knows_is_nobody() -> None:
    assert accepted(associate(context(1, CT, EVLE), last=user(identity(9)))).named is None
