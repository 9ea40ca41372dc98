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
    assert dimse.store_request(CT, uid, message_id) == ul.store_rq(message_id, CT, uid).replace(
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
