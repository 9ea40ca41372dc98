"""Whatever bytes a peer sends, negotiation returns a result that can be sent, after bounded work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC

from asyncroute.link import associate as module
from asyncroute.link import negotiate
from asyncroute.link.associate import item, items
from asyncroute.link.negotiate import (
    Aborted,
    Accepted,
    AcceptorPolicy,
    Broken,
    Established,
    Malformed,
    Proposal,
    Refused,
    Rejected,
)
from tests.support.work import TooMuch, within

T = TypeVar("T")

CAP = 2_000_000  # calls of functions for one PDU, three times what the worst known one takes
POLICY = AcceptorPolicy("ASYNCROUTE", 131072, ("1.2.840.10008.1.2.1",))
CT, VERIFICATION, WORKLIST = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.31"
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70")
PROPOSAL = Proposal("CT_A", "PACS", 65536, ((CT, SYNTAXES), (VERIFICATION, SYNTAXES[:1]), (WORKLIST, SYNTAXES[:1])))


def within_cap(function: Callable[[], T]) -> T:
    return within(CAP, function)


def associate(kind: int, body: bytes, head: bytes = b"\0\1\0\0" + b"ASYNCROUTE".ljust(16) + b"CT_A".ljust(48)) -> bytes:
    return bytes((kind, 0)) + (len(head) + len(body)).to_bytes(4, "big") + head + body


def sized(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


uids = st.one_of(
    st.sampled_from([CT, VERIFICATION, WORKLIST, *SYNTAXES, "1.2.007", "1", ".", ""]).map(str.encode),
    st.from_regex(rb"[0-9.]{1,70}", fullmatch=True),
    st.binary(max_size=80),
)
names = st.lists(
    st.one_of(st.tuples(st.sampled_from([0x30, 0x40, 0x40, 0x40]), uids), st.tuples(st.integers(0, 255), uids)),
    max_size=6,
)
roles = st.builds(
    lambda uid, ends: sized(uid) + ends, uids, st.one_of(st.binary(min_size=2, max_size=3), st.binary(max_size=1))
)
identities = st.builds(
    lambda kind, first, second: bytes((kind, 1)) + sized(first) + sized(second),
    st.integers(0, 7),
    st.binary(max_size=20),
    st.binary(max_size=20),
)
user_items = st.lists(
    st.one_of(
        st.tuples(st.just(0x51), st.one_of(st.just(b"\0\0\x40\0"), st.binary(max_size=5))),
        st.tuples(st.just(0x53), st.binary(min_size=4, max_size=4)),
        st.tuples(st.just(0x54), roles),
        st.tuples(st.just(0x58), identities),
        st.tuples(st.integers(0x50, 0x5A), st.binary(max_size=30)),
    ),
    max_size=6,
)


def together(parts: list[tuple[int, bytes]]) -> bytes:
    return b"".join(item(kind, body) for kind, body in parts)


requested = st.builds(
    lambda number, subs: item(0x20, bytes((number, 0, 0, 0)) + together(subs)), st.integers(0, 255), names
)
answered = st.builds(
    lambda number, result, subs: item(0x21, bytes((number, 0, result, 0)) + together(subs)),
    st.sampled_from([1, 1, 3, 5, 7, 2]),
    st.integers(0, 5),
    names,
)
informed = st.builds(lambda subs: item(0x50, together(subs)), user_items)
application = st.just(item(0x10, b"1.2.840.10008.3.1.1.1"))
others = st.builds(item, st.integers(0, 255), st.binary(max_size=10))


def pdus(kind: int, contexts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    bodies = st.builds(
        lambda first, middle, last: first + b"".join(middle) + last,
        application,
        st.lists(st.one_of(contexts, contexts, contexts, informed, others), max_size=8),
        st.one_of(informed, st.just(b"")),
    )
    return st.one_of(
        bodies.map(lambda body: associate(kind, body)), bodies.flatmap(lambda body: mutations(associate(kind, body)))
    )


def mutations(good: bytes) -> st.SearchStrategy[bytes]:
    """`good` with some of its bytes replaced, and perhaps cut, its length field then right or not."""

    def mutate(changes: list[tuple[int, int]], cut: int, repair: bool) -> bytes:
        data = bytearray(good)
        for place, value in changes:
            data[place % len(data)] = value
        del data[len(data) - cut :]
        if repair and len(data) > 6:
            data[0] = good[0]
            data[2:6] = (len(data) - 6).to_bytes(4, "big")
        return bytes(data)

    changes = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8)
    return st.builds(mutate, changes, st.one_of(st.just(0), st.integers(0, len(good))), st.booleans())


def check_accepted(rq: bytes, answer: Accepted) -> None:
    ac = A_ASSOCIATE_AC()
    ids = []
    for kind, whole in items(answer.pdu, 74, 300):
        if kind == 0x21:
            ids.append(whole[4])
    assert len(set(ids)) == len(ids)
    assert answer.contexts.keys() <= set(ids)
    assert all(number % 2 for number in answer.contexts)
    if all(number % 2 for number in ids):  # pynetdicom's class refuses to read the others
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of UIDs with leading zeros
            ac.decode(answer.pdu)
        assert {cx.context_id for cx in ac.presentation_context if cx.result == 0} == answer.contexts.keys()
    assert answer.pdu[10:74] == rq[10:74]


@given(pdus(1, requested))
def test_any_request_gets_an_answer(rq: bytes) -> None:
    answer = within_cap(lambda: negotiate.accept(rq, POLICY))
    assert int.from_bytes(answer.pdu[2:6], "big") == len(answer.pdu) - 6
    if isinstance(answer, Accepted):
        check_accepted(rq, answer)
        assert answer.pdu[0] == 2
        assert (answer.called_aet, answer.calling_aet) == negotiate.peek(rq)
        assert all(title.isprintable() and title.isascii() for title in (answer.called_aet, answer.calling_aet))
    else:
        assert answer.pdu[0] == (3 if isinstance(answer, Rejected) else 7)
        assert isinstance(answer, Rejected | Aborted)
        assert answer.text.isprintable()


@given(st.binary(max_size=200))
@example(b"")
@example(b"\1")
def test_any_bytes_get_an_answer(junk: bytes) -> None:
    assert isinstance(negotiate.accept(junk, POLICY), Aborted | Rejected)
    assert isinstance(negotiate.conclude(PROPOSAL, junk), Broken | Refused)


@given(st.one_of(pdus(2, answered), mutations(negotiate.reject(1, 1, 7)), mutations(negotiate.abort(2, 2))))
def test_any_answer_has_a_meaning(pdu: bytes) -> None:
    outcome = within_cap(lambda: negotiate.conclude(PROPOSAL, pdu))
    if isinstance(outcome, Established):
        pairs = {(abstract, syntax) for abstract, syntaxes in PROPOSAL.contexts for syntax in syntaxes}
        assert outcome.contexts.keys() | outcome.rejected.keys() <= pairs
        assert not outcome.contexts.keys() & outcome.rejected.keys()
        by_id = {number: (abstract, syntaxes) for number, abstract, syntaxes in PROPOSAL.numbered()}
        for (abstract, syntax), number in outcome.contexts.items():
            assert by_id[number][0] == abstract
            assert syntax in by_id[number][1]
    else:
        assert outcome.text.isprintable()


many = b"".join(item(0x40, str(i).encode()) for i in range(255))
HOSTILE = {
    "512 contexts of 254 syntaxes": associate(
        1,
        b"".join(
            item(0x20, bytes((i % 256, 0, 0, 0)) + item(0x30, CT.encode()) + many[: -len(item(0x40, b"254"))])
            for i in range(511)
        ),
    ),
    "128 contexts, all with roles, 254 syntaxes": associate(
        1,
        item(0x10, b"1.2.840.10008.3.1.1.1")
        + b"".join(
            item(0x20, bytes((2 * i + 1, 0, 0, 0)) + item(0x30, f"1.2.{i}".encode()) + many[: -len(item(0x40, b"254"))])
            for i in range(128)
        )
        + item(0x50, b"".join(item(0x54, sized(f"1.2.{i}".encode()) + b"\1\1") for i in range(128)) * 8),
    ),
    "a megabyte of empty items": associate(1, item(0x7F, b"") * 250_000),
    "long items": associate(1, item(0x7F, bytes(65535)) * 16),
    "long names": associate(1, item(0x20, b"\1\0\0\0" + item(0x30, b"1" * 30000) + item(0x40, b"2" * 30000)) * 16),
}


@pytest.mark.parametrize("rq", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_worst_requests_are_cheap(rq: bytes) -> None:
    within_cap(lambda: negotiate.accept(rq, POLICY))
    within_cap(lambda: negotiate.conclude(PROPOSAL, b"\2" + rq[1:].replace(b"\x20\0", b"\x21\0")))


def test_a_walk_from_the_start_for_each_item_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is able to fail: it does where the work grows with the square of the number of items."""

    def squared(data: bytes, at: int, most: int) -> Iterator[tuple[int, bytes]]:
        for number, found in enumerate(items(data, at, most)):
            assert list(islice(items(data, at, most), number))[number:] == []
            yield found

    for user in (module, negotiate):
        monkeypatch.setattr(user, "items", squared)
    with pytest.raises(TooMuch):
        test_the_worst_requests_are_cheap(HOSTILE["512 contexts of 254 syntaxes"])


@given(st.binary(max_size=100))
def test_peek_raises_nothing_else(junk: bytes) -> None:
    try:
        titles = negotiate.peek(junk)
    except Malformed:
        return
    assert all(title.isascii() and title.isprintable() and len(title) <= 16 for title in titles)
