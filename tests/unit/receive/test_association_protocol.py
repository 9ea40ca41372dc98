"""The acceptor over real sockets: what is out of place or late is dealt with as PS3.8's state table says."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from asyncroute.receive import association as module
from asyncroute.receive.association import MAX_PENDING
from asyncroute.wire import pdata
from tests.support import ul
from tests.unit.calling import CONTEXTS, STORE, Bench, Caller, data_set, receiving, store
from tests.unit.parts import CT, on_loop, until

PROVIDER = 2


# --- PS3.8, table 9-10 ------------------------------------------------------------------------------------------------

STORE_COMMAND = ul.store_rq(1, CT, "1.2.3")
WRONG = {
    "a second request": (ul.associate_rq("X", "ASYNCROUTE", CONTEXTS), pdata.REASON_UNEXPECTED),
    "an acceptance": (ul.associate_ac(ul.AssociateRQ("X", "Y"), [], 0), pdata.REASON_UNEXPECTED),
    "a rejection": (ul.associate_rj(1, 1, 1), pdata.REASON_UNEXPECTED),
    "a release answer": (ul.release_rp(), pdata.REASON_UNEXPECTED),
    "an unknown PDU": (ul.pdu(9, b"1234"), pdata.REASON_UNRECOGNIZED),
    "a PDU over the limit": (struct.pack(">BxI", ul.PDATA, (128 << 10) + 1), pdata.REASON_INVALID),
    "a data set first": (ul.pdv(STORE, ul.LAST, b"1234"), pdata.REASON_UNEXPECTED),
    "a context nobody accepted": (ul.pdv(9, 3, ul.echo_rq(1)), pdata.REASON_INVALID),
    "a data set in another context": (
        ul.pdv(STORE, 3, STORE_COMMAND) + ul.pdv(1, ul.LAST, b"12"),
        pdata.REASON_UNEXPECTED,
    ),
    "a command inside a data set": (
        ul.pdv(STORE, 3, STORE_COMMAND) + ul.pdv(STORE, 0, b"12") + ul.pdv(STORE, 3, STORE_COMMAND),
        pdata.REASON_UNEXPECTED,
    ),
    "a command set in two contexts": (
        ul.pdv(STORE, ul.COMMAND, STORE_COMMAND[:20]) + ul.pdv(1, 3, STORE_COMMAND[20:]),
        pdata.REASON_UNEXPECTED,
    ),
    "an endless command set": (
        ul.pdv(STORE, ul.COMMAND, bytes(16_000)) + ul.pdv(STORE, ul.COMMAND, bytes(600)),
        pdata.REASON_INVALID,
    ),
    "a flood of command set": (ul.pdv(STORE, ul.COMMAND, bytes(16_000)) * 2, pdata.REASON_INVALID),
    "a command set that is none": (ul.pdv(STORE, 3, b"\xff" * 40), pdata.REASON_INVALID),
    "an empty command set": (ul.pdv(STORE, 3, b""), pdata.REASON_INVALID),
    "a release in the middle of an image": (
        ul.pdv(STORE, 3, STORE_COMMAND) + ul.pdv(STORE, 0, b"12") + ul.release_rq(),
        pdata.REASON_UNEXPECTED,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_out_of_place_is_answered_with_an_abort(tmp_path: Path, name: str) -> None:
    @on_loop
    async def body() -> None:
        sent, reason = WRONG[name]
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            await caller.send(sent)
            assert await caller.aborted() == (PROVIDER, reason)
            await caller.send(store(1, b"too late"))
            await until(lambda: not bench.memory.used, "no memory in use")
            assert bench.gate.offered == []
            assert not bench.listener.established
            other = await bench.associated()
            assert await other.echo() == 0

    body()


def test_messages_after_the_release_request(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.gate.status = None
            caller = await bench.associated()
            await caller.send(store(1, b"12") + ul.release_rq() + store(2, b"34"))
            assert await caller.aborted() == (PROVIDER, pdata.REASON_UNEXPECTED)
            assert len(bench.gate.offered) == 1

    body()


EARLY = {
    "text": (b"GET / HTTP/1.1\r\n\r\n", pdata.REASON_UNRECOGNIZED),
    "data": (ul.pdv(1, 3, ul.echo_rq(1)), pdata.REASON_UNEXPECTED),
    "a release": (ul.release_rq(), pdata.REASON_UNEXPECTED),
    "a huge request": (struct.pack(">BxI", ul.RQ, 2 << 20), pdata.REASON_INVALID),
    "an empty request": (ul.pdu(ul.RQ, bytes(2)), pdata.REASON_INVALID),
}


@pytest.mark.parametrize("name", EARLY)
def test_what_is_no_request_is_answered_with_an_abort(tmp_path: Path, name: str) -> None:
    @on_loop
    async def body() -> None:
        sent, reason = EARLY[name]
        async with receiving(tmp_path) as bench:
            caller = await bench.caller()
            await caller.send(sent)
            assert await caller.aborted() == (PROVIDER, reason)

    body()


def test_data_before_the_answer_is_answered_with_an_abort(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.caller()
            contexts = [ul.Context(1, ul.VERIFICATION, ("1.2.840.10008.1.2.9", ul.IMPLICIT_LE))]
            await caller.send(ul.associate_rq("EARLY", "ASYNCROUTE", contexts) + ul.pdv(1, 3, ul.echo_rq(1)))
            assert await caller.aborted() == (PROVIDER, pdata.REASON_UNEXPECTED)

    body()


def test_the_peer_s_abort_ends_it_at_once(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            await caller.send(store(1, data_set(1, 50_000))[:-100])
            await until(lambda: bench.memory.used, "half an image")
            await caller.send(b"")
            half = await bench.associated()
            await half.send(ul.abort(0, 0))
            await half.ended()
            caller.sock.shutdown(socket.SHUT_RDWR)
            await bench.quiet()
            assert bench.gate.offered == []

    body()


def test_a_lost_sender_s_image_is_dealt_with_all_the_same(tmp_path: Path) -> None:
    """It was whole: nothing may go wrong when its answer finds nobody."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.gate.status = None
            caller = await bench.associated()
            await caller.send(store(1, b"12"))
            await until(lambda: bench.gate.waiting, "the image")
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.close()
            await until(lambda: not bench.associations, "the end of the association")
            bench.gate.answer()

    body()


# --- time -------------------------------------------------------------------------------------------------------------


def test_who_never_asks_is_cleared(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, association_timeout="200ms") as bench:
            silent, three, dripping = [await bench.caller() for _ in range(3)]
            await three.send(b"\1\0\0")
            drip = asyncio.create_task(_drip(dripping, ul.associate_rq("X", "ASYNCROUTE", CONTEXTS)))
            for caller in (silent, three):
                await caller.ended()
            await drip
            await bench.quiet()

    body()


async def _drip(caller: Caller, data: bytes) -> None:
    """Send a byte at a time, until the other side has had enough."""
    try:
        for at in range(len(data)):
            await caller.send(data[at : at + 1])
            await asyncio.sleep(0.01)
    except ConnectionError:
        return
    raise AssertionError("it was let drip to the end")


def test_who_says_nothing_is_sent_away(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, idle_timeout="200ms") as bench:
            caller = await bench.associated()
            assert await caller.aborted() == (PROVIDER, 0)

    body()


@pytest.mark.parametrize("cut", [8, 100, 10_000])
def test_who_stops_inside_a_pdu_is_sent_away(tmp_path: Path, cut: int) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, pdu_timeout="200ms") as bench:
            caller = await bench.associated()
            await caller.send(store(1, data_set(1, 60_000), piece=60_000)[:cut])
            assert await caller.aborted() == (PROVIDER, 0)

    body()


def test_who_is_sent_away_holds_no_memory(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, pdu_timeout="200ms") as bench:
            caller = await bench.associated()
            await caller.send(store(1, data_set(1, 60_000), piece=60_000)[:10_000])
            assert await caller.aborted() == (PROVIDER, 0)
            await until(lambda: not bench.memory.used, "its memory is free", 3)

    body()


def test_who_breaks_the_protocol_while_we_pause_is_closed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers that come later must not give it back the time that it had before."""
    monkeypatch.setattr(module, "CLOSING", 0.3)

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.gate.status = None
            caller = await bench.associated()
            await caller.send(b"".join(store(n, b"12") for n in range(1, MAX_PENDING + 1)) + b"rubbish")
            await until(lambda: len(bench.gate.waiting) == MAX_PENDING, "as many as may wait")
            assert (await caller.pdu())[0] == ul.ABORT
            while bench.gate.waiting:
                bench.gate.answer()
            await caller.ended()

    body()


@pytest.mark.parametrize("last", ["rejected", "released", "aborted"])
def test_who_does_not_close_is_closed(tmp_path: Path, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sta13 and its timer; what comes meanwhile is ignored (PS3.8 9.2.3, AA-6, AR-2)."""
    monkeypatch.setattr(module, "CLOSING", 0.3)

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await _left(bench, last)
            await caller.send(ul.release_rq() + ul.pdv(1, 3, ul.echo_rq(1)) + b"rubbish")
            assert not bench.listener.established
            await caller.ended()

    body()


async def _left(bench: Bench, how: str) -> Caller:
    """A caller whose association is over, but for its connection."""
    if how == "rejected":
        caller = await bench.caller()
        assert (await caller.request(called="WRONG"))[0] == ul.RJ
        return caller
    caller = await bench.associated()
    await caller.send(ul.release_rq() if how == "released" else ul.release_rp())
    assert (await caller.pdu())[0] == (ul.RELEASE_RP if how == "released" else ul.ABORT)
    return caller


def test_our_slowness_is_not_the_sender_s(tmp_path: Path) -> None:
    """Four images wait for their answers longer than any deadline; the sender must not be sent away for it."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, idle_timeout="100ms", pdu_timeout="100ms") as bench:
            bench.gate.status = None
            loop = asyncio.get_running_loop()
            caller = await bench.associated()
            await caller.send(b"".join(store(n, data_set(n, 70_000)) for n in range(1, 6)))
            await until(lambda: len(bench.gate.waiting) >= MAX_PENDING, "as many as may wait")
            begun = loop.time()
            await until(lambda: loop.time() > begun + 0.5, "five times the deadline")
            bench.gate.status = 0
            while bench.gate.waiting:
                bench.gate.answer()
            assert await caller.statuses(5) == [(n, 0) for n in range(1, 6)]

    body()
