"""The requestor against scripted destinations: bytes leave as given, and an association ends in order."""

from __future__ import annotations

import pytest

from asyncroute.forward import association as module
from asyncroute.forward.association import connect
from asyncroute.link.negotiate import Proposal
from tests.support import ul
from tests.unit.answering import Message, Peer, serving, sharing, target
from tests.unit.parts import CT, EXPLICIT_LE, MR, noise, on_loop, until
from tests.unit.requesting import associated, cuts, store

# --- what leaves ------------------------------------------------------------------------------------------------------

ROOM = 4096 - 6
SIZES = [0, 1, 2, 3, 999, 1000, ROOM - 2, ROOM - 1, ROOM, ROOM + 1, ROOM + 2, 2 * ROOM, 2 * ROOM + 1, 100_001]


@pytest.mark.parametrize("piece", [1 << 20, 1000, 4089, 333])
def test_bytes_leave_as_given(piece: int) -> None:
    """Whatever the slices in memory, in PDUs no larger than the peer takes."""
    received: list[Message] = []

    async def script(peer: Peer) -> None:
        await peer.accept(max_pdu=4096)
        for _ in SIZES:
            received.append(await peer.message())
            peer.respond(received[-1])
        await peer.release()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            for count, size in enumerate(SIZES, 1):
                data = noise(size)
                store(requestor, data, cuts(data, piece), f"1.2.{count}")
                await owner.wait(count)
            requestor.release()
            await server.done()
            assert owner.answers == [(0, "")] * len(SIZES)
            assert owner.losses == []

    body()
    assert [message.data for message in received] == [noise(size) for size in SIZES]
    assert [message.command[ul.AFFECTED_INSTANCE] for message in received] == [
        f"1.2.{n + 1}" for n in range(len(SIZES))
    ]
    assert [message.command[ul.MESSAGE_ID] for message in received] == list(range(1, len(SIZES) + 1))
    assert max(length for message in received for length in message.lengths) == 4096
    assert not any(message.odd for message in received)
    assert all(message.context == 1 for message in received)


@pytest.mark.parametrize("max_pdu", [0, 8, 100, 16_384, 1 << 20])
def test_whatever_the_peer_takes(max_pdu: int) -> None:
    """A command set, too, is cut to what it takes."""
    received: list[Message] = []
    size = 5_000 if max_pdu == 8 else 500_001

    async def script(peer: Peer) -> None:
        await peer.accept(max_pdu)
        received.append(await peer.message())
        peer.respond(received[-1])

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            store(requestor, noise(size))
            await until(lambda: owner.told, "the answer")
            await server.done()

    body()
    (message,) = received
    assert message.data == noise(size)
    assert message.command[ul.AFFECTED_CLASS] == CT
    assert max(message.lengths) <= min(max_pdu or 131072, 131072)


@pytest.mark.parametrize("piece", [100_000, 262_144, 65_531])
def test_a_data_set_that_comes_in_pieces(piece: int) -> None:
    """As a file is read: the next piece when the kernel has the last one; several megabytes, a slow reader."""
    data = noise(4_000_001)
    received: list[Message] = []

    async def script(peer: Peer) -> None:
        await peer.accept(max_pdu=16_384)
        received.append(await peer.message())
        peer.respond(received[-1], 0xB000, "changed")

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            first, *owner.rest = cuts(data, piece)
            assert requestor.peer is not None
            requestor.store(requestor.peer.contexts[CT, EXPLICIT_LE], CT, "1.2.3", len(data), [memoryview(first)])
            await until(lambda: owner.told, "the answer")
            await server.done()
            assert owner.answers == [(0xB000, "changed")]
            assert requestor.written > len(data)

    body()
    assert received[0].data == data


def test_echo() -> None:
    received: list[Message] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        received.append(await peer.message())
        peer.respond(received[-1])

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            requestor.echo()
            await until(lambda: owner.told, "the answer")
            await server.done()
            assert owner.answers == [(0, "")]

    body()
    assert received[0].command[ul.COMMAND_FIELD] == ul.C_ECHO_RQ
    assert received[0].context == 3


def test_message_ids_begin_again() -> None:
    received: list[Message] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        for _ in range(3):
            received.append(await peer.message())
            peer.respond(received[-1])
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            requestor._message_id = 65533
            for count in range(1, 4):
                store(requestor, b"12")
                await owner.wait(count)
            requestor.abort()
            await server.done()

    body()
    assert [message.command[ul.MESSAGE_ID] for message in received] == [65534, 65535, 1]


def test_what_is_proposed() -> None:
    found: list[ul.AssociateRQ] = []

    async def script(peer: Peer) -> None:
        await peer.accept(refused=(MR,))
        found.append(peer.request)
        await peer.end()

    @on_loop
    async def body() -> None:
        async with sharing() as shared, serving(script) as server:
            proposal = Proposal("CT_A", "PACS", 20_000, ((CT, (EXPLICIT_LE,)), (MR, (EXPLICIT_LE,))))
            requestor = await connect(target(server.port, max_pdu=20_000), proposal, shared)
            assert requestor.peer is not None
            assert requestor.peer.contexts == {(CT, EXPLICIT_LE): 1}
            assert requestor.peer.rejected == {(MR, EXPLICIT_LE): 3}
            requestor.close()

    body()
    assert (found[0].calling, found[0].called, found[0].max_pdu) == ("CT_A", "PACS", 20_000)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_release() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.release()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            requestor.release()
            requestor.release()
            await until(lambda: requestor.ended, "the end")
            assert owner.told == 0
            await server.done()

    body()


def test_both_release_at_once() -> None:
    """PS3.8 9.2.3: we answer, then wait for theirs."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        kind, _ = await peer.pdu()
        assert kind == ul.RELEASE_RQ
        peer.writer.write(ul.release_rq())
        kind, _ = await peer.pdu()
        assert kind == ul.RELEASE_RP
        peer.writer.write(ul.release_rp())
        assert await peer.end() == b""

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            requestor.release()
            await until(lambda: requestor.ended, "the end")
            assert owner.told == 0
            await server.done()

    body()


@pytest.mark.parametrize("sent", [b"", ul.pdv(1, 3, ul.echo_rq(1)), b"rubbish", ul.abort(0, 0)], ids=repr)
def test_a_release_that_is_not_answered(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELEASE_TIMEOUT", 0.2)

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.pdu()
        peer.writer.write(sent)
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, _):
            requestor.release()
            await until(lambda: requestor.ended, "the end")
            assert owner.told == 0

    body()


def test_abort() -> None:
    ends: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        ends.append(await peer.end())

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            requestor.abort()
            requestor.abort()
            assert requestor.ended
            await server.done()
            assert owner.told == 0

    body()
    assert ends == [ul.abort(0, 0)]


def test_abort_in_the_middle_of_an_image() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            store(requestor, bytes(40_000_000))
            requestor.abort()
            await server.done()
            assert owner.told == 0
            assert not requestor._out

    body()
