"""The requestor against scripted destinations: bytes leave as given, and every way to fail has its outcome."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from asyncroute.core import outcomes
from asyncroute.core.outcomes import Kind, Outcome
from asyncroute.forward import association as module
from asyncroute.forward.association import Failed, Requestor, Target, connect
from asyncroute.link import tls
from asyncroute.link.negotiate import Proposal
from tests.support import ul
from tests.support.certs import Authority
from tests.support.ports import BlackHole, free_port
from tests.unit.answering import Message, Peer, Script, Server, serving, sharing, target
from tests.unit.parts import CT, EXPLICIT_LE, MR, noise, on_loop, until

PROPOSAL = Proposal("CT_A", "PACS", 131072, ((CT, (EXPLICIT_LE,)), (ul.VERIFICATION, (ul.IMPLICIT_LE,))))


class Owner:
    """Who uses an association: keeps what it is told, and gives the rest of a data set when there is room."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.early: list[bool] = []
        self.losses: list[Outcome] = []
        self.rest: list[bytes] = []
        self.requestor: Requestor | None = None

    def responded(self, status: int, comment: str, early: bool = False) -> None:
        self.answers.append((status, comment))
        self.early.append(early)

    def room(self) -> None:
        if self.rest:
            assert self.requestor is not None
            self.requestor.more([memoryview(self.rest.pop(0))])

    def lost(self, outcome: Outcome) -> None:
        self.losses.append(outcome)

    @property
    def told(self) -> int:
        return len(self.answers) + len(self.losses)

    async def wait(self, count: int) -> None:
        """Wait until so much has been told."""
        await until(lambda: self.told >= count, f"{count} answers or ends")


@asynccontextmanager
async def associated(
    script: Script, server_tls: ssl.SSLContext | None = None, **more: object
) -> AsyncIterator[tuple[Requestor, Owner, Server]]:
    """An established association with a server that runs ``script``."""
    async with sharing() as shared, serving(script, server_tls) as server:
        requestor = await connect(target(server.port, **more), PROPOSAL, shared)
        owner = requestor.owner = Owner()
        owner.requestor = requestor
        try:
            yield requestor, owner, server
        finally:
            requestor.close()


async def failure(script: Script, **more: object) -> Outcome:
    """The outcome of a connection that is to fail."""
    async with sharing() as shared, serving(script) as server:
        with pytest.raises(Failed) as caught:
            await connect(target(server.port, **more), PROPOSAL, shared)
        return caught.value.outcome


def store(requestor: Requestor, data: bytes, parts: Sequence[bytes] | None = None, uid: str = "1.2.3") -> None:
    """C-STORE from memory."""
    assert requestor.peer is not None
    context = requestor.peer.contexts[CT, EXPLICIT_LE]
    requestor.store(context, CT, uid, len(data), [memoryview(part) for part in parts or [data] if part])


# --- what leaves ------------------------------------------------------------------------------------------------------

ROOM = 4096 - 6
SIZES = [0, 1, 2, 3, 999, 1000, ROOM - 2, ROOM - 1, ROOM, ROOM + 1, ROOM + 2, 2 * ROOM, 2 * ROOM + 1, 100_001]


def cuts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


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
            assert requestor.bytes > len(data)

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


# --- no association ---------------------------------------------------------------------------------------------------

REJECTIONS = [
    ((1, 1, 1), Kind.CONFIG_PAUSE),
    ((1, 1, 2), Kind.CONFIG_PAUSE),
    ((1, 1, 3), Kind.TITLE_PAUSE),
    ((1, 1, 7), Kind.CONFIG_PAUSE),
    ((1, 2, 2), Kind.CONFIG_PAUSE),
    ((1, 3, 1), Kind.CONFIG_PAUSE),
    ((2, 1, 1), Kind.ASSOCIATION_FAILED),
    ((2, 3, 1), Kind.ASSOCIATION_FAILED),
    ((2, 3, 2), Kind.ASSOCIATION_FAILED),
    ((9, 9, 9), Kind.ASSOCIATION_FAILED),
]


@pytest.mark.parametrize(("code", "kind"), REJECTIONS)
def test_rejections(code: tuple[int, int, int], kind: Kind) -> None:
    @on_loop
    async def body() -> None:
        async def script(peer: Peer) -> None:
            await peer.take_request()
            peer.writer.write(ul.associate_rj(*code))
            await peer.end()

        outcome = await failure(script)
        assert outcome.kind is kind
        assert "/".join(map(str, code)) in outcome.text
        assert outcome.narrow == (code in ((2, 3, 1), (2, 3, 2)))
        if code == (1, 1, 3):
            assert "CT_A" in outcome.text

    body()


def answers_with(data: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.take_request()
        peer.writer.write(data)

    return script


NO_ASSOCIATION: dict[str, tuple[bytes, str]] = {
    "closed": (b"", "closed by peer"),
    "aborted": (ul.abort(0, 0), "aborted by the peer"),
    "aborted by its protocol layer": (ul.abort(2, 1), "unrecognized PDU"),
    "text": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unknown PDU type 48H"),
    "data": (ul.pdv(1, 3, ul.echo_rq(1)), "unexpected data"),
    "a request": (ul.associate_rq("A", "B", [ul.Context(1, CT, (EXPLICIT_LE,))]), "unexpected PDU type 01H"),
    "a release": (ul.release_rq(), "unexpected PDU type 05H"),
    "an empty acceptance": (ul.pdu(ul.AC, b"\0\1"), "unusable answer"),
    "a huge acceptance": (b"\x02\0\xff\xff\xff\xff", "PDU type 02H"),
    "half an acceptance": (ul.associate_ac(ul.AssociateRQ("A", "B"), [], 0)[:50], "closed by peer"),
}


@pytest.mark.parametrize("name", NO_ASSOCIATION)
def test_what_is_no_answer(name: str) -> None:
    data, words = NO_ASSOCIATION[name]

    @on_loop
    async def body() -> None:
        outcome = await failure(answers_with(data))
        assert outcome.kind is Kind.ASSOCIATION_FAILED
        assert words in outcome.text

    body()


BEHIND_THE_AC: dict[str, tuple[bytes, str]] = {
    "abort": (ul.abort(2, 2), "unexpected PDU"),
    "release": (ul.release_rq(), "released by the peer"),
    "rubbish": (b"rubbish", "unknown PDU type 72H"),
    "another acceptance": (ul.associate_ac(ul.AssociateRQ("A", "B"), [], 0), "unexpected PDU type 02H"),
    "close": (b"", "closed by peer"),
    "half a PDU": (ul.pdv(1, 3, ul.echo_rq(1))[:20], "closed by peer"),
    "an answer to nothing": (ul.pdv(1, 3, ul.response(ul.read_command(ul.store_rq(1, CT, "1.2")), 0)), ""),
}


@pytest.mark.parametrize("name", BEHIND_THE_AC)
def test_what_comes_in_one_write_with_the_ac(name: str) -> None:
    """It is an association's failure, whenever it is noticed: no image is to blame."""
    data, words = BEHIND_THE_AC[name]

    async def script(peer: Peer) -> None:
        await peer.take_request()
        peer.writer.write(peer.acceptance() + data)

    @on_loop
    async def body() -> None:
        async with sharing() as shared, serving(script) as server:
            try:
                requestor = await connect(target(server.port), PROPOSAL, shared)
            except Failed as failed:
                outcome = failed.outcome
            else:
                owner = requestor.owner = Owner()
                await until(lambda: owner.told or requestor.ended, "the end")
                assert not owner.answers
                (outcome,) = owner.losses or [outcomes.lost(words, image_in_flight=False)]
            assert outcome.kind is Kind.ASSOCIATION_FAILED
            assert words in outcome.text or "as soon as it was accepted" in outcome.text

    body()


def test_half_a_pdu_with_the_ac_and_then_silence() -> None:
    """What was begun must end in time, though nothing is being sent."""

    async def script(peer: Peer) -> None:
        await peer.take_request()
        peer.writer.write(peer.acceptance() + ul.pdv(1, 3, ul.echo_rq(1))[:3])
        await peer.end()

    @on_loop
    async def body() -> None:
        async with associated(script, response_timeout=0.2) as (requestor, owner, _):
            store(requestor, b"12")
            await until(lambda: owner.told, "the end")
            assert "no response within 0.2 s" in owner.losses[0].text

    body()


def test_nobody_there() -> None:
    @on_loop
    async def body() -> None:
        async with sharing() as shared:
            port = free_port()
            with pytest.raises(Failed) as caught:
                await connect(target(port), PROPOSAL, shared)
            assert caught.value.outcome == outcomes.refused(f"connection refused by 127.0.0.1:{port}")
            with pytest.raises(Failed, match=r"cannot find the host.s address: no-such-host\.invalid"):
                await connect(Target("no-such-host.invalid", 104, "PACS"), PROPOSAL, shared)
            with BlackHole() as hole, pytest.raises(Failed) as caught:
                await connect(target(hole.port, connect_timeout=0.2), PROPOSAL, shared)
            assert caught.value.outcome.kind is Kind.ASSOCIATION_FAILED
            assert f"no answer from 127.0.0.1:{hole.port} in 0.2 s" in caught.value.outcome.text

    body()


@pytest.mark.parametrize("sent", [b"", b"\x02\0\0\0\0\xb8" + bytes(40)], ids=["silence", "half an answer"])
def test_an_answer_that_does_not_come(sent: bytes) -> None:
    ends: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.take_request()
        peer.writer.write(sent)
        ends.append(await peer.end())

    @on_loop
    async def body() -> None:
        outcome = await failure(script, connect_timeout=0.3)
        assert outcome.kind is Kind.ASSOCIATION_FAILED
        assert "no answer to the association request in 0.3 s" in outcome.text

    body()
    assert ends in ([ul.abort(0, 0)], [])


def test_given_up_while_connecting() -> None:
    """Cancelled at any moment: nothing may be left open."""

    async def script(peer: Peer) -> None:
        await peer.end()

    @on_loop
    async def body() -> None:
        async with sharing() as shared, serving(script) as server:
            for turns in range(8):
                task = asyncio.create_task(connect(target(server.port), PROPOSAL, shared))
                for _ in range(turns):
                    await asyncio.sleep(0.001)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await server.done()

    body()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_tls_both_ways(ca: Authority) -> None:
    identity = ca.issue("pacs")
    data = noise(1_000_001)
    received: list[Message] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        received.append(await peer.message())
        peer.respond(received[-1])

    @on_loop
    async def body() -> None:
        server_tls = tls.server_context(identity.certificate, identity.key, ca.ca, True)
        client_tls = tls.client_context(ca.ca, identity.certificate, identity.key)
        async with associated(script, server_tls, tls=client_tls, server_name="localhost") as (
            requestor,
            owner,
            server,
        ):
            store(requestor, data, cuts(data, 70_000))
            await until(lambda: owner.told, "the answer")
            await server.done()

    body()
    assert received[0].data == data


def test_tls_that_fails_is_loud(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A stranger's certificate, a wrong name, no TLS at all."""
    identity = ca.issue("pacs2")
    other = Authority(tmp_path_factory.mktemp("other"))

    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.writer.write(ul.abort(2, 1))

    @on_loop
    async def body() -> None:
        context = tls.server_context(identity.certificate, identity.key, None, False)
        trusting, strange = tls.client_context(ca.ca, None, None), tls.client_context(other.ca, None, None)
        cases = [
            (context, strange, "localhost", "not trusted"),
            (context, trusting, "elsewhere", "Hostname mismatch"),
            (None, trusting, "localhost", ""),
        ]
        for server_tls, client_tls, name, words in cases:
            async with sharing() as shared, serving(script, server_tls) as server:
                asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's own complaints
                with pytest.raises(Failed) as caught:
                    await connect(target(server.port, tls=client_tls, server_name=name), PROPOSAL, shared)
                outcome = caught.value.outcome
                assert (outcome.kind, outcome.loud) == (Kind.ASSOCIATION_FAILED, True)
                assert words in outcome.text

    body()


def test_a_server_that_wants_our_certificate_says_so_late(ca: Authority) -> None:
    """In TLS 1.3 after the handshake, when the request is on its way: a matter of TLS all the same."""
    identity = ca.issue("pacs3")
    asking = tls.server_context(identity.certificate, identity.key, ca.ca, True)

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, pytest.raises(ssl.SSLError), asking.wrap_socket(connection, server_side=True):
            pass

    @on_loop
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving_one = asyncio.get_running_loop().run_in_executor(None, serve, listening)
            async with sharing() as shared:
                context = tls.client_context(ca.ca, None, None)
                there = target(listening.getsockname()[1], tls=context, server_name="localhost")
                with pytest.raises(Failed) as caught:
                    await connect(there, PROPOSAL, shared)
            await serving_one
            outcome = caught.value.outcome
            assert (outcome.kind, outcome.loud) == (Kind.ASSOCIATION_FAILED, True)
            assert outcome.text.startswith("TLS: refused by the destination")

    body()


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


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_end_the_association(name: str) -> None:
    """The image being sent may be the cause; the peer is told with an A-ABORT."""
    ends: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.writer.write(wrong(name, await peer.message()))
        ends.append(await peer.end())

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, server):
            store(requestor, b"12")
            await until(lambda: owner.told, "the end")
            assert owner.answers == []
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
