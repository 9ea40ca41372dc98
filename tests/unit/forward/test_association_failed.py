"""Associations that cannot be made: every way to fail has its outcome."""

from __future__ import annotations

import asyncio

import pytest

from asyncroute.core import outcomes
from asyncroute.core.outcomes import Kind, Outcome
from asyncroute.forward.association import Failed, Target, connect
from tests.support import ul
from tests.support.ports import BlackHole, free_port
from tests.unit.answering import Peer, Script, serving, sharing, target
from tests.unit.parts import CT, EXPLICIT_LE, on_loop, until
from tests.unit.requesting import PROPOSAL, Owner, associated, store


async def failure(script: Script, **more: object) -> Outcome:
    """The outcome of a connection that is to fail."""
    async with sharing() as shared, serving(script) as server:
        with pytest.raises(Failed) as caught:
            await connect(target(server.port, **more), PROPOSAL, shared)
        return caught.value.outcome


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
