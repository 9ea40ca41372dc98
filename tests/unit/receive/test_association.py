"""The acceptor over real sockets: every whole image answered once, and what it must refuse refused in words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncroute.receive.association import MAX_PENDING
from tests.support import ul
from tests.unit.calling import STORE, data_set, receiving, store
from tests.unit.parts import CT, EXPLICIT_LE, on_loop, settle_loop, until


def test_echo(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            assert [await caller.echo() for _ in range(3)] == [0, 0, 0]
            await caller.send(ul.release_rq())
            assert (await caller.pdu())[0] == ul.RELEASE_RP

    body()


SIZES = [0, 1, 2, 100, 8_000, 8_192, 65_536, 100_001, 700_000]


@pytest.mark.parametrize("piece", [500, 16_000, 131_000])
def test_images_of_all_sizes_arrive_as_sent(tmp_path: Path, piece: int) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            for number, size in enumerate(SIZES, 1):
                await caller.send(store(number, data_set(number, size), piece))
                answer = await caller.response()
                assert (answer[ul.RESPONDED_ID], answer[ul.STATUS]) == (number, 0)
                assert (answer[ul.AFFECTED_CLASS], answer[ul.AFFECTED_INSTANCE]) == (CT, f"1.2.3.{number}")
            assert bench.gate.data == [data_set(n, size) for n, size in enumerate(SIZES, 1)]
            (acceptor,) = bench.intake.associations
            assert (acceptor.images, acceptor.bytes) == (len(SIZES), sum(SIZES))

    body()


def test_what_is_handed_on(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            await caller.send(store(7, b"1234", uid="1.2.3.4"))
            await caller.response()
            (received,) = bench.gate.offered
            instance = received.instance
            assert (instance.sop_class_uid, instance.sop_instance_uid) == (CT, "1.2.3.4")
            assert (instance.transfer_syntax, instance.size, instance.path) == (EXPLICIT_LE, 4, "000000/00000001.dcm")
            source = instance.source
            assert (source.calling_aet, source.called_aet, source.peer) == ("CT_A", "ASYNCROUTE", "127.0.0.1")
            assert source.listener == bench.listener.settings.label

    body()


def test_images_in_one_write_are_answered_in_the_order_of_their_fates(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.gate.status = None
            caller = await bench.associated()
            await caller.send(b"".join(store(n, data_set(n, 50 * n), piece=7) for n in range(1, 4)))
            await until(lambda: len(bench.gate.waiting) == 3, "three images")
            for status in (0, 0xA700, 0xB000):
                bench.gate.answer(status, "words" if status else "")
            assert await caller.statuses(3) == [(1, 0), (2, 0xA700), (3, 0xB000)]
            assert bench.gate.data == [data_set(n, 50 * n) for n in range(1, 4)]

    body()


def test_who_does_not_wait_for_answers_is_read_no_further(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.gate.status = None
            caller = await bench.associated()
            sending = asyncio.create_task(caller.send(b"".join(store(n, data_set(n, 300_000)) for n in range(1, 41))))
            await until(lambda: len(bench.gate.waiting) >= MAX_PENDING, "as many as may wait")
            await settle_loop(50)
            assert len(bench.gate.waiting) == MAX_PENDING
            assert not sending.done()
            answered = 0
            while answered < 40:
                await until(lambda: bench.gate.waiting, "the next image")
                assert len(bench.gate.waiting) <= MAX_PENDING
                bench.gate.answer()
                answered += 1
            assert await caller.statuses(40) == [(n, 0) for n in range(1, 41)]
            assert bench.gate.data == [data_set(n, 300_000) for n in range(1, 41)]
            await sending

    body()


def test_a_release_waits_for_the_answers(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.gate.status = None
            caller = await bench.associated()
            await caller.send(store(1, b"12") + store(2, b"34") + ul.release_rq())
            await until(lambda: len(bench.gate.waiting) == 2, "two images")
            bench.gate.answer()
            assert await caller.statuses(1) == [(1, 0)]
            bench.gate.answer()
            assert await caller.statuses(1) == [(2, 0)]
            assert (await caller.pdu())[0] == ul.RELEASE_RP

    body()


def test_an_idle_association_holds_no_buffer(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            await caller.echo()
            await until(lambda: not bench.memory.used, "no buffer in use")
            await caller.send(store(1, data_set(1, 300_000)))
            await caller.response()
            await until(lambda: not bench.memory.used, "no buffer in use")

    body()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 400_000])
def test_what_must_be_refused_is_read_and_answered(tmp_path: Path, size: int) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            bench.gate.refuses = "storage almost full"
            await caller.send(store(1, data_set(1, size)))
            answer = await caller.response()
            assert (answer[ul.STATUS], answer[ul.ERROR_COMMENT]) == (0xA700, "storage almost full")
            bench.gate.refuses = None
            await caller.send(store(2, data_set(2, size)))
            assert await caller.statuses(1) == [(2, 0)]
            assert bench.gate.data == [data_set(2, size)]

    body()


@pytest.mark.parametrize("uid", ["", "x" * 65, "1.2/3", "1.2 3", "1.2\\3", "*"])
def test_an_instance_without_a_usable_uid(tmp_path: Path, uid: str) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            command = ul.store_rq(1, CT, uid)
            await caller.send(ul.pdv(STORE, 3, command) + ul.pdv(STORE, ul.LAST, b"data"))
            assert await caller.statuses(1) == [(1, 0x0117)]
            assert bench.gate.offered == []
            assert await caller.echo() == 0

    body()


def test_an_image_over_the_limit(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, max_image="1 MiB") as bench:
            caller = await bench.associated()
            await caller.send(store(1, data_set(1, (1 << 20) + 1)))
            answer = await caller.response()
            assert answer[ul.STATUS] == 0xA700
            assert "max_image" in str(answer[ul.ERROR_COMMENT])
            await caller.send(store(2, data_set(2, 1 << 20)))
            assert await caller.statuses(1) == [(2, 0)]
            assert len(bench.gate.data) == 1

    body()


def request(field: int, **more: int | str) -> bytes:
    elements: dict[int, int | str] = {ul.AFFECTED_CLASS: CT, ul.COMMAND_FIELD: field, ul.MESSAGE_ID: 5}
    elements[ul.DATA_SET_TYPE] = ul.NO_DATA_SET
    return ul.command(elements | {getattr(ul, name): value for name, value in more.items()})


@pytest.mark.parametrize("field", [0x0020, 0x0010, 0x0021, 0x0130, 0x0100, 0x7777, 0])
@pytest.mark.parametrize("with_data", [False, True])
def test_other_services_are_declined(tmp_path: Path, field: int, with_data: bool) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            sent = ul.pdv(STORE, 3, request(field, DATA_SET_TYPE=0 if with_data else ul.NO_DATA_SET))
            await caller.send(sent + (ul.pdv(STORE, ul.LAST, bytes(99)) if with_data else b""))
            answer = await caller.response()
            assert (answer[ul.STATUS], answer[ul.COMMAND_FIELD]) == (0x0211, field | 0x8000)
            assert await caller.echo() == 0
            assert bench.gate.offered == []

    body()


@pytest.mark.parametrize("field", [0x0FFF, 0x8001, 0x8030])
def test_what_needs_no_answer_gets_none(tmp_path: Path, field: int) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            await caller.send(ul.pdv(STORE, 3, request(field)))
            assert await caller.echo() == 0

    body()


def test_a_store_without_a_data_set(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            await caller.send(ul.pdv(STORE, 3, request(ul.C_STORE_RQ)))
            assert await caller.statuses(1) == [(5, 0x0211)]
            assert await caller.echo() == 0

    body()


@pytest.mark.parametrize("uid", ["abc", "1.2.x", "1" * 65])
def test_a_class_that_is_no_uid(tmp_path: Path, uid: str) -> None:
    """Nobody could be offered it later."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            await caller.send(ul.pdv(STORE, 3, ul.store_rq(1, uid, "1.2.3")) + ul.pdv(STORE, ul.LAST, b"data"))
            assert await caller.statuses(1) == [(1, 0x0118)]
            assert bench.gate.offered == []

    body()
