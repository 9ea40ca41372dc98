"""Threads that work for the loop: every job's end is told once, on the loop, whatever it was."""

from __future__ import annotations

import logging
import threading
from functools import partial

import pytest

from asyncroute.link.workers import Workers
from tests.unit.parts import on_loop, until


@on_loop
async def test_results_and_exceptions_come_back_on_the_loop() -> None:
    workers = Workers(2, "job")
    told: list[tuple[int, object, str, bool]] = []
    where: list[str] = []

    def job(n: int) -> int:
        where.append(threading.current_thread().name)
        if n % 3 == 0:
            raise ValueError(f"no {n}")
        return n * n

    def done(n: int, result: object, error: Exception | None) -> None:
        told.append((n, result, str(error or ""), threading.current_thread() is threading.main_thread()))

    for n in range(300):
        workers.submit(lambda n=n: job(n), lambda result, error, n=n: done(n, result, error))  # type: ignore[misc]
    await until(lambda: len(told) == 300, "all ends")
    expected = [(n, None if n % 3 == 0 else n * n, f"no {n}" if n % 3 == 0 else "", True) for n in range(300)]
    assert sorted(told, key=lambda t: t[0]) == expected
    assert set(where) <= {"job_0", "job_1"}
    workers.close()


@on_loop
async def test_one_thread_keeps_the_order() -> None:
    workers = Workers(1, "one")
    told: list[int] = []
    for n in range(100):
        workers.submit(lambda n=n: n, lambda result, _: told.append(result))  # type: ignore[misc]
    await until(lambda: len(told) == 100, "all ends")
    assert told == list(range(100))
    workers.close()


@on_loop
async def test_closing_lets_what_was_given_end() -> None:
    workers = Workers(1, "last")
    gate = threading.Event()
    ended: list[int] = []

    def last(n: int) -> None:
        gate.wait(20)
        ended.append(n)

    for n in range(5):
        workers.submit(partial(last, n), lambda result, error: None)
    gate.set()
    workers.close()
    workers.close()
    assert ended == [0, 1, 2, 3, 4]
    assert "last_0" not in {thread.name for thread in threading.enumerate()}


def test_who_cannot_take_a_result_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    @on_loop
    async def body() -> None:
        workers = Workers(1, "job")
        told: list[object] = []

        def bad(result: object, error: Exception | None) -> None:
            raise ZeroDivisionError

        with caplog.at_level(logging.ERROR):
            workers.submit(lambda: 1, bad)
            workers.submit(lambda: 2, lambda result, _: told.append(result))
            await until(lambda: told, "the second")
        assert told == [2]
        assert "unexpected error after a thread's work" in caplog.text
        workers.close()

    body()


def test_a_loop_that_is_gone_is_no_fault_of_a_thread(recwarn: pytest.WarningsRecorder) -> None:
    gate = threading.Event()
    made: list[Workers] = []

    @on_loop
    async def body() -> None:
        made.append(Workers(1, "late"))
        made[0].submit(lambda: gate.wait(20), lambda result, error: None)

    body()
    gate.set()
    made[0].close()
    assert not recwarn.list
