"""Command sets: read leniently but within their bounds, written as the bench's own decoder reads them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.wire import command as dimse
from asyncroute.wire.command import Command, parse
from asyncroute.wire.pdata import REASON_INVALID, ProtocolError
from tests.support import ul

CT, UID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.45"


def element(number: int, value: bytes, group: int = 0, length: int | None = None) -> bytes:
    return struct.pack("<HHI", group, number, len(value) if length is None else length) + value


def test_a_store_request_of_somebody_else() -> None:
    request = parse(ul.store_rq(7, CT, UID))
    assert request.number(dimse.FIELD) == dimse.C_STORE_RQ
    assert request.number(dimse.MESSAGE_ID) == 7
    assert request.text(dimse.AFFECTED_CLASS) == CT
    assert request.text(dimse.AFFECTED_INSTANCE) == UID
    assert request.has_data_set
    assert not parse(ul.echo_rq(1)).has_data_set


@pytest.mark.parametrize("uid", [UID, UID + "6"], ids=["odd", "even"])
@pytest.mark.parametrize("message_id", [1, 65535])
def test_our_requests(uid: str, message_id: int) -> None:
    assert dimse.store_request(CT, dimse.padded_uid(uid), message_id) == ul.store_rq(message_id, CT, uid).replace(
        element(dimse.DATA_SET_TYPE, b"\0\0"), element(dimse.DATA_SET_TYPE, b"\1\0")
    )
    assert dimse.echo_request(message_id) == ul.echo_rq(message_id)


@pytest.mark.parametrize("comment", ["", "odd", "even", "x" * 100])
@pytest.mark.parametrize("status", [0, 0xA700, 0xFFFF])
def test_a_response_names_what_it_answers(status: int, comment: str) -> None:
    answer = dimse.response(parse(ul.store_rq(4711, CT, UID)), status, comment)
    read = ul.read_command(answer)
    expected = {
        ul.AFFECTED_CLASS: CT,
        ul.COMMAND_FIELD: ul.C_STORE_RSP,
        ul.RESPONDED_ID: 4711,
        ul.DATA_SET_TYPE: ul.NO_DATA_SET,
        ul.STATUS: status,
        ul.AFFECTED_INSTANCE: UID,
    }
    assert read == expected | ({ul.ERROR_COMMENT: comment[:64]} if comment else {})
    assert int.from_bytes(answer[8:12], "little") == len(answer) - 12
    assert len(answer) % 2 == 0


def test_a_response_to_what_names_a_requested_class() -> None:
    request = Command({dimse.REQUESTED_CLASS: CT.encode(), dimse.FIELD: b"\x40\x01", dimse.REQUESTED_INSTANCE: b"1.2"})
    read = ul.read_command(dimse.response(request, 0x0211))
    assert (read[ul.AFFECTED_CLASS], read[ul.AFFECTED_INSTANCE], read[ul.COMMAND_FIELD]) == (CT, "1.2", 0x8140)


def test_a_comment_is_ascii() -> None:
    read = ul.read_command(dimse.response(parse(ul.echo_rq(1)), 1, "voll \N{EM DASH} Platte"))
    assert read[ul.ERROR_COMMENT] == "voll ? Platte"


@pytest.mark.parametrize(
    "data",
    [
        element(0x100, b"\1\0")[:-1],
        element(0x100, b"\1\0", length=0xFFFFFFFF),
        element(0x100, b"\1\0") + b"\0\0\0",
        element(0x100, b"\1\0", group=8),
        b"\xff" * 50,
    ],
    ids=["cut value", "undefined length", "cut head", "group 8", "noise"],
)
def test_what_is_no_command_set(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(data)
    assert caught.value.reason == REASON_INVALID


@given(st.binary(max_size=80))
def test_noise_is_read_or_refused(data: bytes) -> None:
    try:
        found = parse(data)
    except ProtocolError:
        return
    found.number(dimse.FIELD)
    assert found.text(dimse.AFFECTED_CLASS).isascii()


def test_order_unknown_elements_and_paddings_do_not_matter() -> None:
    stream = element(0x1000, b"1.2.3\0") + element(0x9999, b"??") + element(2, b"1.2 \0") + element(0x110, b"\2\1")
    found = parse(bytearray(stream))
    assert (found.text(0x1000), found.text(2), found.number(0x110)) == ("1.2.3", "1.2", 0x102)
    assert (found.text(0x0902), found.number(0x0900), found.number(0x1000)) == ("", -1, -1)


def test_text_that_is_not_ascii_stays_printable() -> None:
    assert parse(element(0x1000, b"1.2\xe4")).text(0x1000) == "1.2\\xe4"


# --- what is like the one before -------------------------------------------------------------------------------------

NUMBERS = st.integers(0, 65535)
UIDS = st.text("0123456789.", min_size=0, max_size=64)
TAILS = st.sampled_from([b"", element(0x1030, b"AET "), element(0x1031, b"\1\0")])


def store_rq(number: int, uid: str, odd: bytes = b"") -> bytes:
    """A C-STORE-RQ as a peer might build it; ``odd``: elements between Message ID and the UID."""
    padded = dimse.padded_uid(uid)
    head = element(2, CT.encode() + b"\0") + element(0x100, b"\1\0") + element(0x110, struct.pack("<H", number))
    body = head + element(0x700, b"\0\0") + element(0x800, b"\1\0") + odd + element(0x1000, padded)
    return element(0, struct.pack("<I", len(body))) + body


@given(NUMBERS, UIDS, NUMBERS, UIDS, st.sampled_from([b"", element(0x9999, b"odd")]))
def test_a_request_like_the_last_one_is_read_alike(n: int, uid: str, m: int, other: str, odd: bytes) -> None:
    usual = dimse.Alike.like(store_rq(n, uid, odd), dimse.MESSAGE_ID)
    data = store_rq(m, other, odd)
    found = usual.match(data)
    assert found is not None
    assert found.values == parse(data).values
    assert usual.made(struct.pack("<H", m), dimse.padded_uid(other)) == data


@given(NUMBERS, UIDS, st.data())
def test_what_differs_anywhere_else_is_parsed(n: int, uid: str, draw: st.DataObject) -> None:
    """Every byte is looked at: what matches is read as ``parse`` reads it, and so is nothing that ``parse`` refuses."""
    usual = dimse.Alike.like(store_rq(7, UID), dimse.MESSAGE_ID)
    data = bytearray(store_rq(n, uid))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= draw.draw(st.integers(1, 255))
    cut = bytes(data[: draw.draw(st.sampled_from([len(data), len(data) - 1, len(data) - 8, at]))])
    found = usual.match(cut)
    if found is not None:
        assert found.values == parse(cut).values


@pytest.mark.parametrize(
    "data",
    [
        store_rq(1, UID) + element(0x1030, b"AET "),
        store_rq(1, UID)[12:],
        element(0, b"\x99\0\0\0") + store_rq(1, UID)[12:],
        store_rq(1, UID).replace(element(0x110, b"\1\0"), b""),
        store_rq(1, UID).replace(element(0x110, b"\1\0"), element(0x110, b"\1\0\0\0")),
        element(0x1000, b"1.2 ") + element(0x110, b"\1\0"),
        b"",
    ],
    ids=["more behind", "no length", "wrong length", "no number", "long number", "other order", "empty"],
)
def test_an_unusual_request_has_none_alike(data: bytes) -> None:
    usual = dimse.Alike.like(data, dimse.MESSAGE_ID)
    assert usual.match(data) is None
    assert usual.made(b"\1\0", b"1.2 ") == b""


@given(NUMBERS, UIDS, TAILS)
def test_success_is_answered_as_any_status_is(n: int, uid: str, tail: bytes) -> None:
    request = parse(store_rq(n, uid) + tail)
    assert dimse.stored(request) == dimse.response(request, 0)


@pytest.mark.parametrize("missing", [dimse.AFFECTED_CLASS, dimse.MESSAGE_ID, dimse.AFFECTED_INSTANCE])
def test_success_is_answered_whatever_a_request_lacks(missing: int) -> None:
    request = parse(store_rq(1, UID))
    del request.values[missing]
    assert dimse.stored(request) == dimse.response(request, 0)
