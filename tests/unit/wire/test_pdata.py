"""P-DATA in and out: any split of a stream reads the same, limits are kept, what is cut can be read again."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.wire import pdata
from asyncroute.wire.pdata import COMMAND, LAST, REASON_UNEXPECTED, DataCutter, PduReader, ProtocolError
from tests.support import ul

Fragment = tuple[int, int, bytes]
Stream = list[bytes]

MAX = 16384


class Log:
    """A sink that keeps what it is told, with the bytes that were meant."""

    def __init__(self) -> None:
        self.view = memoryview(b"")
        self.found: list[tuple[int, int, bytes] | tuple[str, int, bytes]] = []
        self.fragments = 0

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        self.fragments += 1
        self.found.append((context_id, control, bytes(self.view[lo:hi])))

    def pdu(self, kind: int, body: bytes) -> None:
        self.found.append(("pdu", kind, body))

    def whole(self) -> list[object]:
        """Neighbouring fragments of one context and kind joined, up to each LAST."""
        joined: list[object] = []
        pending: list[bytes] = []
        now: tuple[int, int] | None = None
        for first, second, data in self.found:
            if isinstance(first, str):
                joined.append((first, second, data))
                continue
            kind = (first, second & COMMAND)
            if pending and kind != now:
                joined.append((now, 0, b"".join(pending)))
                pending = []
            now = kind
            pending.append(data)
            if second & LAST:
                joined.append((now, LAST, b"".join(pending)))
                pending = []
        return joined + ([(now, 0, b"".join(pending))] if pending else [])


def data(*values: Fragment) -> bytes:
    """A P-DATA-TF PDU of these (context, control, bytes)."""
    body = b"".join(struct.pack(">IBB", len(v) + 2, context, control) + v for context, control, v in values)
    return ul.pdu(ul.PDATA, body)


def read(stream: bytes, cuts: list[int], max_pdu: int = MAX, one_buffer: bool = True) -> tuple[Log, PduReader]:
    """Feed ``stream`` cut at these places, as pieces of one receive buffer or of a buffer each."""
    log = Log()
    reader = PduReader(log, max_pdu)
    whole = memoryview(bytearray(stream))
    for lo, hi in pairwise([0, *cuts, len(stream)]):
        if one_buffer:
            log.view = whole
            reader.feed(whole, lo, hi)
        else:
            log.view = memoryview(bytearray(b"\xee" * 3 + stream[lo:hi]))
            reader.feed(log.view, 3, 3 + hi - lo)
    return log, reader


fragments = st.tuples(
    st.sampled_from([1, 3, 255]), st.sampled_from([0, COMMAND, LAST, COMMAND | LAST]), st.binary(max_size=40)
)
data_pdus = st.lists(fragments, min_size=1, max_size=4).map(lambda values: data(*values))
others = st.one_of(
    st.sampled_from([ul.release_rq(), ul.release_rp(), ul.abort(2, 6)]),
    st.tuples(st.sampled_from([ul.RQ, ul.AC, ul.RJ]), st.binary(min_size=1, max_size=60)).map(lambda x: ul.pdu(*x)),
)
streams = st.lists(st.one_of(data_pdus, others), min_size=1, max_size=6).map(b"".join)


@given(streams, st.data(), st.booleans())
def test_any_split_reads_the_same(stream: bytes, draw: st.DataObject, one_buffer: bool) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    at_once, _ = read(stream, [])
    in_pieces, reader = read(stream, cuts, one_buffer=one_buffer)
    assert in_pieces.whole() == at_once.whole()
    assert not reader.mid_pdu


@given(streams)
def test_byte_by_byte_reads_the_same(stream: bytes) -> None:
    at_once, _ = read(stream, [])
    in_pieces, _ = read(stream, list(range(1, len(stream))), one_buffer=False)
    assert in_pieces.whole() == at_once.whole()


def test_what_is_said_at_once_is_what_was_sent() -> None:
    """Against the bench's own encoder, so that reading and cutting cannot be wrong together."""
    stream = data((1, COMMAND, b"ab"), (1, COMMAND | LAST, b"")) + data((3, 0, b"xyz")) + ul.abort(2, 6)
    log, _ = read(stream + data((3, LAST, b"!")), [])
    assert log.found == [
        (1, COMMAND, b"ab"),
        (1, COMMAND | LAST, b""),
        (3, 0, b"xyz"),
        ("pdu", ul.ABORT, b"\0\0\2\6"),
        (3, LAST, b"!"),
    ]


def test_last_comes_only_with_the_last_byte_of_a_fragment() -> None:
    log, reader = read(data((1, LAST, b"abcdef")), [14, 16])
    assert log.found == [(1, 0, b"ab"), (1, 0, b"cd"), (1, LAST, b"ef")]
    assert not reader.mid_pdu


def test_a_fragment_that_is_there_is_told_without_being_put_together() -> None:
    """No copy: offsets point into the caller's view, whole fragments come in one call."""
    log, _ = read(data((1, 0, bytes(1000))) * 8, [])
    assert log.fragments == 8


def test_mid_pdu_from_the_first_byte_to_the_last() -> None:
    stream = data((1, 0, b"abcd"), (1, LAST, b"")) + ul.release_rq()
    log, reader = Log(), PduReader(Log(), MAX)
    ends = {len(data((1, 0, b"abcd"), (1, LAST, b""))), len(stream)}
    view = log.view = memoryview(stream)
    assert not reader.mid_pdu
    for at in range(len(stream)):
        reader.feed(view, at, at + 1)
        assert reader.mid_pdu == (at + 1 not in ends), at


def test_count_tells_a_new_pdu_from_more_of_the_old_one() -> None:
    pdu = data((1, 0, b"abcd"))
    reader = PduReader(Log(), MAX)
    view = memoryview(pdu * 3 + ul.release_rq())
    reader.feed(view, 0, len(pdu) - 1)
    assert reader.count == 1
    reader.feed(view, len(pdu) - 1, len(pdu))
    assert reader.count == 1
    reader.feed(view, len(pdu), len(view))
    assert reader.count == 4


def test_a_sink_that_has_enough_stops_the_reader() -> None:
    class Once(Log):
        def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
            super().fragment(context_id, control, lo, hi)
            reader.stopped = True

    sink = Once()
    reader = PduReader(sink, MAX)
    stream = sink.view = memoryview(data((1, 0, b"ab"), (1, 0, b"cd")) + b"rubbish")
    reader.feed(stream, 0, len(stream))
    reader.feed(stream, 0, len(stream))
    assert sink.found == [(1, 0, b"ab")]


# --- limits -----------------------------------------------------------------------------------------------------------


def header(kind: int, length: int) -> bytes:
    return struct.pack(">BxI", kind, length)


WRONG = {
    "4 GiB of data": (header(ul.PDATA, 0xFFFFFFFF), pdata.REASON_INVALID, "4294967295"),
    "one byte over our limit": (header(ul.PDATA, MAX + 1), pdata.REASON_INVALID, str(MAX)),
    "no fragment": (header(ul.PDATA, 0), pdata.REASON_INVALID, "holds no fragment"),
    "less than a fragment": (header(ul.PDATA, 5), pdata.REASON_INVALID, "holds no fragment"),
    "fragment longer than its PDU": (ul.pdu(ul.PDATA, struct.pack(">IBB", 9, 1, 0)), pdata.REASON_INVALID, "9 bytes"),
    "4 GiB fragment": (ul.pdu(ul.PDATA, struct.pack(">IBB", 0xFFFFFFFF, 1, 0)), pdata.REASON_INVALID, "fragment"),
    "fragment too short for its own head": (
        ul.pdu(ul.PDATA, struct.pack(">IBB", 1, 1, 0)),
        pdata.REASON_INVALID,
        "fragment of 1 bytes",
    ),
    "second fragment too long": (
        ul.pdu(ul.PDATA, struct.pack(">IBBH", 4, 1, 0, 7) + struct.pack(">IBB", 3, 1, 0)),
        pdata.REASON_INVALID,
        "fragment of 3 bytes",
    ),
    **{
        f"{stray} stray bytes": (
            ul.pdu(ul.PDATA, struct.pack(">IBB", 2, 1, 0) + bytes(stray)),
            pdata.REASON_INVALID,
            f"{stray} stray bytes",
        )
        for stray in (1, 5)
    },
    "type 0": (header(0, 4), pdata.REASON_UNRECOGNIZED, "00H"),
    "type 8": (header(8, 4), pdata.REASON_UNRECOGNIZED, "08H"),
    "text": (b"GET / ", pdata.REASON_UNRECOGNIZED, "47H"),
    **{
        f"type {kind} of {length} bytes": (header(kind, length), pdata.REASON_INVALID, "instead of 4")
        for kind in (ul.RELEASE_RQ, ul.RELEASE_RP, ul.ABORT)
        for length in (0, 3, 5, 0xFFFFFFFF)
    },
    **{
        f"type {kind} of {length} bytes": (header(kind, length), pdata.REASON_INVALID, f"{kind:02X}H")
        for kind in (ul.RQ, ul.AC, ul.RJ)
        for length in (0, pdata.MAX_ASSOCIATE + 1, 0xFFFFFFFF)
    },
}


@pytest.mark.parametrize("whole", [True, False], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", WRONG)
def test_what_breaks_the_protocol(name: str, whole: bool) -> None:
    stream, reason, words = WRONG[name]
    stream = data((1, 0, b"good")) + stream
    with pytest.raises(ProtocolError, match=words) as caught:
        read(stream + bytes(64), [] if whole else list(range(1, len(stream) + 64)))
    assert caught.value.reason == reason


def test_limits_are_limits_and_not_less() -> None:
    at_most = data((1, LAST, bytes(MAX - 6)))
    assert read(at_most, [])[0].found == [(1, LAST, bytes(MAX - 6))]
    assert read(data((1, LAST, b"")), [])[0].found == [(1, LAST, b"")]
    log, _ = read(header(ul.RQ, pdata.MAX_ASSOCIATE) + bytes(pdata.MAX_ASSOCIATE), [])
    assert log.found == [("pdu", ul.RQ, bytes(pdata.MAX_ASSOCIATE))]


def test_no_limit() -> None:
    log, _ = read(data((1, 0, bytes(1 << 20))), [], max_pdu=0)
    assert log.found == [(1, 0, bytes(1 << 20))]


def test_a_header_that_claims_much_costs_nothing() -> None:
    """Bytes are collected as they come, not reserved by what a header says."""
    reader = PduReader(Log(), MAX)
    view = memoryview(header(ul.RQ, pdata.MAX_ASSOCIATE) + b"x")
    reader.feed(view, 0, len(view))
    assert len(reader._collected) == 1


# --- cutting ----------------------------------------------------------------------------------------------------------


def cut(parts: list[bytes], room: int, calls: int = 1) -> bytes:
    cutter = DataCutter(5, sum(map(len, parts)), room)
    out: list[bytes | memoryview] = []
    step = -(-len(parts) // calls) or 1
    for at in range(0, len(parts), step):
        cutter.cut([memoryview(part) for part in parts[at : at + step]], out)
    return b"".join(out)


def sent(stream: bytes) -> list[tuple[int, int, int, bytes]]:
    """(length of the PDU, context, control, bytes) of each fragment, read with the bench's decoder."""
    found = []
    while stream:
        length = int.from_bytes(stream[2:6], "big")
        assert stream[0] == ul.PDATA
        found += [(length, c, b, bytes(v)) for c, b, v in ul.pdvs(memoryview(stream)[6 : 6 + length])]
        stream = stream[6 + length :]
    return found


@given(st.lists(st.binary(max_size=70), max_size=8), st.integers(1, 20).map(lambda n: 2 * n), st.integers(1, 4))
def test_cutting(parts: list[bytes], room: int, calls: int) -> None:
    found = sent(cut(parts, room, calls))
    assert b"".join(value for *_, value in found) == b"".join(parts)
    assert all(context == 5 for _, context, _, _ in found)
    assert all(length == len(value) + 6 <= room + 6 for length, _, _, value in found)
    assert all(len(value) == room for _, _, _, value in found[:-1])
    assert [control for _, _, control, _ in found] == [0] * (len(found) - 1) + [LAST] * bool(found)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 20).map(lambda n: 2 * n), st.data())
def test_what_was_cut_is_read_again(data_set: bytes, room: int, draw: st.DataObject) -> None:
    stream = cut([data_set], room)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    log, _ = read(stream, cuts, max_pdu=room + 6)
    assert log.whole() == [((5, 0), LAST, data_set)]


def test_large_parts_are_not_copied() -> None:
    data_set = memoryview(bytes(100_000))
    out: list[bytes | memoryview] = []
    DataCutter(1, len(data_set), 16378).cut([data_set], out)
    pieces = [piece for piece in out if isinstance(piece, memoryview)]
    assert sum(map(len, pieces)) == 100_000
    assert all(piece.obj is data_set.obj for piece in pieces)


def test_a_pdu_of_one_fragment() -> None:
    assert sent(pdata.data_pdu(7, LAST, b"")) == [(6, 7, LAST, b"")]
    assert sent(pdata.data_pdu(9, COMMAND | LAST, b"abc")) == [(9, 9, 3, b"abc")]


@pytest.mark.parametrize(
    ("theirs", "ours", "room"),
    [
        (0, 131072, 131066),
        (16384, 131072, 16378),
        (16385, 131072, 16378),
        (131072, 16384, 16378),
        (16383, 131072, 16376),
        (8, 131072, 2),
        (9, 131072, 2),
        (10, 131072, 4),
    ],
)
def test_room(theirs: int, ours: int, room: int) -> None:
    assert pdata.pdu_room(theirs, ours) == room


@pytest.mark.parametrize("kind", [ul.RQ, ul.AC, ul.RJ])
def test_once_associated_no_further_request_is_collected(kind: int) -> None:
    """Nor an answer: refused by its header, so that none of its up to 1 MiB is held."""
    log = Log()
    reader = PduReader(log, MAX)
    reader.associated = True
    view = memoryview(ul.release_rq() + ul.pdu(kind, bytes(500))[:20])
    with pytest.raises(ProtocolError, match="unexpected PDU type") as caught:
        reader.feed(view, 0, len(view))
    assert caught.value.reason == REASON_UNEXPECTED
    assert reader.collected == 0
    assert log.found == [("pdu", ul.RELEASE_RQ, bytes(4))]


def test_what_is_collected_can_be_counted_and_let_go() -> None:
    reader = PduReader(Log(), MAX)
    view = memoryview(ul.pdu(ul.RQ, bytes(500))[:300])
    reader.feed(view, 0, 300)
    assert reader.collected == 294
    reader.stop()
    assert reader.collected == 0
    reader.feed(view, 0, 300)
    assert reader.collected == 0
