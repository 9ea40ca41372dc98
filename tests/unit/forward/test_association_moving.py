"""What counts as a sign of life while an image is sent, and which answers are answers to it."""

from __future__ import annotations

import asyncio

import pytest

from asyncroute.core import outcomes
from asyncroute.forward import association as module
from asyncroute.forward.association import connect
from asyncroute.wire import command as dimse
from tests.support import ul
from tests.unit.answering import Message, Peer, Script, serving, sharing, target
from tests.unit.parts import CT, noise, on_loop, until
from tests.unit.requesting import PROPOSAL, Owner, associated, store

ANSWER = Message(ul.read_command(ul.store_rq(1, CT, "1.2.3")), b"", 1)


def reading(rate: int, size: int) -> Script:
    """Accept, read ``size`` bytes of P-DATA, ``rate`` in each 20 ms, then answer."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        left = size
        while left > 0:
            left -= len(await peer.reader.readexactly(min(rate, left)))
            await asyncio.sleep(0.02)
        peer.respond(ANSWER)
        await peer.reader.read()

    return script


def outcome_of(script: Script, size: int, timeout: float) -> tuple[Owner, float]:
    """Store an image; what its owner was told, and after how many seconds."""
    owner = Owner()
    took: list[float] = []

    @on_loop
    async def body() -> None:
        async with sharing() as shared, serving(script, buffers=4096) as server:
            requestor = await connect(target(server.port, response_timeout=timeout), PROPOSAL, shared)
            requestor.owner = owner
            begun = requestor.loop.time()
            store(requestor, noise(size))
            await until(lambda: owner.told, "the answer or the end", 30)
            took.append(requestor.loop.time() - begun)
            requestor.close()

    body()
    return owner, took[0]


def test_what_only_the_kernel_still_has_to_send_is_no_silence() -> None:
    """All of it goes into our socket's buffer at once; the peer reads it slowly, and answers when it has it."""
    size = 600_000
    owner, took = outcome_of(reading(8_000, size), size, 0.4)
    assert (owner.answers, owner.losses) == ([(0, "")], [])
    assert took > 1.2


def test_a_few_bytes_are_not_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOVES", 400_000)
    owner, _ = outcome_of(reading(2_000, 1_000_000), 1_000_000, 0.4)
    (loss,) = owner.losses
    assert loss.text.startswith("took only ")
    assert loss.text.endswith(" bytes in 0.4 s")


def test_the_response_has_its_time_after_the_last_byte_was_taken() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.message()
        await asyncio.sleep(0.35)
        peer.respond(ANSWER)
        await peer.reader.read()

    owner, _ = outcome_of(script, 100_000, 0.6)
    assert owner.answers == [(0, "")]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({ul.AFFECTED_INSTANCE: "1.2.4"}, "a response for another SOP instance"),
        ({ul.COMMAND_FIELD: ul.C_ECHO_RSP}, "a message that answers nothing of ours"),
        ({ul.COMMAND_FIELD: ul.C_STORE_RQ}, "a message that answers nothing of ours"),
        ({ul.RESPONDED_ID: 2}, "a message that answers nothing of ours"),
    ],
)
def test_an_answer_to_something_else(more: dict[int, int | str], words: str) -> None:
    said = ul.read_command(ul.response(ANSWER.command, 0)) | more

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.message()
        peer.writer.write(ul.pdv(1, ul.COMMAND | ul.LAST, ul.command(said)))
        await peer.reader.read()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, _):
            store(requestor, b"12")
            await owner.wait(1)
            assert owner.losses == [outcomes.lost(f"protocol error: {words}", image_in_flight=True)]

    body()


@pytest.mark.parametrize("instance", ["", "1.2.3"])
def test_the_instance_may_be_left_out_of_an_answer(instance: str) -> None:
    said = ul.read_command(ul.response(ANSWER.command, 0)) | {ul.AFFECTED_INSTANCE: instance}
    assert dimse.parse(ul.command(said)).text(dimse.AFFECTED_INSTANCE) == instance
    if not instance:
        del said[ul.AFFECTED_INSTANCE]

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.message()
        peer.writer.write(ul.pdv(1, ul.COMMAND | ul.LAST, ul.command(said)))
        await peer.reader.read()

    @on_loop
    async def body() -> None:
        async with associated(script) as (requestor, owner, _):
            store(requestor, b"12")
            await owner.wait(1)
            assert owner.answers == [(0, "")]

    body()
