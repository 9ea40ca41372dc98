"""What a scripted destination answers to an image, wrongly or never, and whose fault it is."""

from __future__ import annotations

import asyncio

import pytest

from asyncroute.core import outcomes
from asyncroute.core.outcomes import Kind
from asyncroute.forward.association import connect
from tests.support import ul
from tests.unit.answering import Message, Peer, serving, sharing, target
from tests.unit.parts import CT, noise, on_loop, until
from tests.unit.requesting import PROPOSAL, Owner, associated, store

# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "comment"), [(0, ""), (0xA700, "disk full"), (0xB007, ""), (0x0122, "no")])
def test_the_answer_and_its_comment(status: int, comment: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.respond(await peer.message(), status, comment)
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, _):
            store(requestor, noise(100_000))
            await until(lambda: owner.told, "the answer")
            assert (owner.answers, owner.early) == ([(status, comment)], [False])
            assert not requestor.busy
            assert requestor.deadline == float("inf")
            assert not requestor.ended

    body()


def test_answers_alike_and_unlike_the_ones_before() -> None:
    """A whole series' answers, most of them alike to the byte, some with a comment, in pieces, or in another form."""
    sent = [
        (0, ""),
        (0, ""),
        (0xB007, ""),
        (0, "odd"),
        (0, ""),
        (0xA700, "full"),
        (0, ""),
        (0, ""),
        (0xB000, ""),
        (0, ""),
    ]

    async def script(peer: Peer) -> None:
        await peer.accept()
        for n, (status, comment) in enumerate(sent):
            message = await peer.message()
            if n == 6:  # the same answer, in two PDUs
                whole = ul.response(message.command, status, comment)
                peer.writer.write(ul.pdv(1, ul.COMMAND, whole[:20]) + ul.pdv(1, ul.COMMAND | ul.LAST, whole[20:]))
            else:
                peer.respond(message, status, comment)
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, _):
            for n in range(len(sent)):
                store(requestor, noise(1000 * n), uid=f"1.2.{10**n}")
                await owner.wait(n + 1)
            assert owner.answers == sent
            assert not requestor.busy
            assert requestor.deadline == float("inf")

    body()


def test_pending_answers_are_not_the_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        message = await peer.message()
        peer.respond(message, 0xFF00)
        peer.respond(message, 0xFF01)
        peer.respond(message, 0)
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, _):
            store(requestor, b"12")
            await until(lambda: owner.told, "the answer")
            assert owner.answers == [(0, "")]

    body()


def test_an_answer_byte_by_byte() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        message = await peer.message()
        answer = ul.response(message.command, 0, "slowly")
        stream = b"".join(ul.pdv(1, ul.COMMAND, answer[n : n + 1]) for n in range(len(answer) - 1))
        for at in range(0, len(stream), 7):
            peer.writer.write(stream[at : at + 7])
            await peer.writer.drain()
        peer.writer.write(ul.pdv(1, ul.COMMAND | ul.LAST, answer[-1:]))
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, _):
            store(requestor, b"12")
            await until(lambda: owner.told, "the answer")
            assert owner.answers == [(0, "slowly")]

    body()


def wrong(name: str, message: Message) -> bytes:
    """What a peer sends instead of its answer."""
    answer = ul.read_command(ul.response(message.command, 0))
    without_status = {tag: value for tag, value in answer.items() if tag != ul.STATUS}
    wrongs = {
        "another message's": ul.command(answer | {ul.RESPONDED_ID: 999}),
        "a request": ul.store_rq(1, CT, "1.2.3"),
        "no status": ul.command(without_status),
        "empty": b"",
        "cut": ul.response(message.command, 0)[:-3],
    }
    if name in wrongs:
        return ul.pdv(1, ul.COMMAND | ul.LAST, wrongs[name])
    return {
        "a data set": ul.pdv(1, ul.LAST, b"1234"),
        "without end": ul.pdv(1, ul.COMMAND, bytes(9000)) * 2,
        "rubbish": b"rubbish!",
        "an acceptance": ul.associate_ac(ul.AssociateRQ("A", "B"), [], 0),
        "a release answer": ul.release_rp(),
        "4 GiB": b"\x04\0\xff\xff\xff\xff",
    }[name]


WRONG = [
    *("another message's", "a request", "no status", "empty", "cut"),
    *("a data set", "without end", "rubbish", "an acceptance", "a release answer", "4 GiB"),
]


@pytest.mark.parametrize("good", [0, 3], ids=["first", "after good ones"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_end_the_association(name: str, good: int) -> None:
    """The image being sent may be the cause; the peer is told with an A-ABORT."""
    ends: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        for _ in range(good):
            peer.respond(await peer.message())
        peer.writer.write(wrong(name, await peer.message()))
        ends.append(await peer.end())

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            for n in range(good + 1):
                store(requestor, b"12", uid=f"1.2.{n}")
                await owner.wait(n + 1)
            assert owner.answers == [(0, "")] * good
            (outcome,) = owner.losses
            assert outcome.kind is Kind.POISON_COUNT
            assert outcome.text.startswith("protocol error: ")
            assert requestor.ended
            await server.done()

    body()
    assert ends[0] == b"reset" or ends[0][:1] == bytes([ul.ABORT])


@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (ul.abort(0, 0), "aborted by the peer"),
        (ul.abort(2, 6), "invalid PDU parameter value"),
        (ul.release_rq(), "released by the peer"),
        (b"", "closed by peer"),
    ],
)
def test_a_peer_that_leaves(sent: bytes, words: str, busy: bool) -> None:
    """With an image under way that image may be the cause; between images nobody is."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        if busy:
            await peer.message()
        else:
            await go.wait()
        peer.writer.write(sent)

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, _):
            if busy:
                store(requestor, noise(100_000))
            else:
                go.set()
            await until(lambda: owner.told, "the end")
            (outcome,) = owner.losses
            assert outcome.kind is (Kind.POISON_COUNT if busy else Kind.ASSOCIATION_FAILED)
            assert words in outcome.text

    body()


@pytest.mark.parametrize("status", [0xA700, 0xC000, 0])
def test_an_answer_before_the_end_of_the_image(status: int) -> None:
    """A peer may refuse early (PS3.7 9.1.1); the rest cannot be taken back, so the association ends."""
    ends: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        kind, body = await peer.pdu()
        assert kind == ul.PDATA
        ((context, _, fragment),) = ul.pdvs(memoryview(body))
        peer.respond(Message(ul.read_command(bytes(fragment)), b"", context), status, "early")
        ends.append(await peer.end())

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            first = noise(1_000_000)
            assert requestor.peer is not None
            requestor.store(1, CT, "1.2.3", 50_000_000, [memoryview(first)])
            await until(lambda: owner.told, "the answer")
            assert (owner.answers, owner.early, owner.losses) == ([(status, "early")], [True], [])
            assert requestor.ended
            await server.done()

    body()


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_peer_that_never_answers() -> None:
    ends: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.message()
        ends.append(await peer.end())

    @on_loop
    async def body() -> None:
        async with associated(script, response_timeout=0.2) as (requestor, owner, server):
            store(requestor, noise(100_000))
            await until(lambda: owner.told, "the end")
            assert owner.losses == [outcomes.lost("no response within 0.2 s", image_in_flight=True)]
            await server.done()

    body()
    assert ends == [ul.abort(0, 0)]


def test_a_peer_that_drips_its_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        message = await peer.message()
        for byte in ul.pdv(1, 3, ul.response(message.command, 0, "x" * 60)):
            peer.writer.write(bytes([byte]))
            try:
                await peer.writer.drain()
            except ConnectionError:
                return
            await asyncio.sleep(0.02)

    @on_loop
    async def body() -> None:
        async with associated(script, response_timeout=0.3) as (requestor, owner, _):
            store(requestor, b"12")
            await until(lambda: owner.told, "the end")
            assert owner.answers == []

    body()


def test_a_peer_that_never_reads() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(20)

    @on_loop
    async def body() -> None:
        async with associated(script, response_timeout=0.3) as (requestor, owner, _):
            store(requestor, bytes(40_000_000))
            await until(lambda: owner.told, "the end")
            assert owner.losses == [outcomes.lost("took no bytes for 0.3 s", image_in_flight=True)]

    body()


def test_a_slow_reader_only_has_to_move() -> None:
    """An image that takes much longer than the response timeout arrives, as long as some of it does all the time."""
    found: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        while sum(found) < 20_000_000:
            _, body = await peer.pdu()
            found.append(len(body) - 6)
            await asyncio.sleep(0.005)
        peer.respond(Message(ul.read_command(ul.store_rq(1, CT, "1.2.3")), b"", 1))
        await peer.end()

    @on_loop
    async def body() -> None:
        async with sharing() as shared, serving(script, buffers=64 << 10) as server:
            requestor = await connect(target(server.port, response_timeout=0.7), PROPOSAL, shared)
            owner = requestor.owner = Owner()
            begun = requestor.loop.time()
            store(requestor, bytes(20_000_000))
            await until(lambda: owner.told, "the answer")
            assert (owner.answers, owner.losses) == ([(0, "")], [])
            assert requestor.loop.time() - begun > 1.2
            requestor.close()

    body()


def test_our_own_disk_s_time_is_not_the_peer_s() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.respond(await peer.message())
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script, response_timeout=0.2) as (requestor, owner, _):
            requestor.store(1, CT, "1.2.3", 2000, [memoryview(bytes(1000))])
            begun = requestor.loop.time()
            await until(lambda: requestor.loop.time() > begun + 0.6, "a slow disk")
            assert owner.told == 0
            requestor.more([memoryview(bytes(1000))])
            await until(lambda: owner.told, "the answer")
            assert owner.answers == [(0, "")]

    body()
