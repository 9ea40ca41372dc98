"""The requestor over TLS: images arrive as without it, and every failure of TLS is told as one."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from asyncroute.core.outcomes import Kind
from asyncroute.forward.association import Failed, connect
from asyncroute.link import tls
from tests.support import ul
from tests.support.certs import Authority
from tests.unit.answering import Message, Peer, serving, sharing, target
from tests.unit.parts import noise, on_loop, until
from tests.unit.requesting import PROPOSAL, associated, cuts, store


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
