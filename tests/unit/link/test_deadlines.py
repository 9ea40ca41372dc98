"""The sweep: who is late is told, a stall of ours is nobody's fault, one failure does not stop the others."""

from __future__ import annotations

import asyncio
import socket
import time

from asyncroute.link.deadlines import NEVER, Deadlines
from tests.unit.parts import on_loop, tcp_pair, until

PERIOD = 0.01


class Late:
    """Expires at ``deadline``; a deadline ``moved_to`` then."""

    def __init__(self, deadline: float, moved_to: float = NEVER, error: Exception | None = None) -> None:
        self.deadline = deadline
        self.moved_to = moved_to
        self.error = error
        self.at: list[float] = []

    def expired(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        self.deadline = self.moved_to
        if self.error is not None:
            raise self.error


@on_loop
async def test_who_is_late_is_told_and_nobody_else() -> None:
    deadlines, now = Deadlines(PERIOD), asyncio.get_running_loop().time()
    soon, later, never, gone = Late(now + 0.05), Late(now + 1000), Late(NEVER), Late(now)
    for thing in (soon, later, never, gone):
        deadlines.add(thing)
    deadlines.remove(gone)
    deadlines.remove(gone)
    deadlines.start()
    await until(lambda: soon.at, "the first deadline")
    assert soon.at[0] >= now + 0.05
    assert later.at == never.at == gone.at == []
    deadlines.stop()


@on_loop
async def test_a_deadline_is_told_until_it_is_moved() -> None:
    deadlines = Deadlines(PERIOD)
    late = Late(0.0, moved_to=0.0)
    deadlines.add(late)
    deadlines.start()
    await until(lambda: len(late.at) >= 3, "three sweeps")
    deadlines.remove(late)
    count = len(late.at)
    assert not deadlines.busy
    other = Late(0.0)
    deadlines.add(other)
    await until(lambda: other.at, "another sweep")
    assert len(late.at) == count
    deadlines.stop()


@on_loop
async def test_one_that_fails_does_not_keep_the_others_waiting() -> None:
    deadlines = Deadlines(PERIOD)
    broken, sound = Late(0.0, error=ZeroDivisionError()), Late(0.0)
    deadlines.add(broken)
    deadlines.add(sound)
    deadlines.start()
    await until(lambda: sound.at, "the sound one is told")
    assert len(broken.at) == 1
    deadlines.stop()


@on_loop
async def test_one_may_leave_while_it_is_told() -> None:
    deadlines = Deadlines(PERIOD)

    class Leaving(Late):
        def expired(self) -> None:
            super().expired()
            deadlines.remove(self)

    things = [Leaving(0.0, moved_to=0.0) for _ in range(3)]
    for thing in things:
        deadlines.add(thing)
    deadlines.start()
    await until(lambda: not deadlines.busy, "all have left")
    assert [len(thing.at) for thing in things] == [1, 1, 1]
    deadlines.stop()


@on_loop
async def test_after_a_stall_of_ours_who_answered_meanwhile_is_read_first() -> None:
    deadlines, loop = Deadlines(0.05), asyncio.get_running_loop()
    near, far = tcp_pair()
    peer = Late(NEVER)

    def answered() -> None:
        near.recv(10)
        peer.deadline = NEVER

    loop.add_reader(near, answered)
    deadlines.add(peer)
    deadlines.start()
    peer.deadline = loop.time() + 0.1
    far.send(b"in time")
    time.sleep(0.5)  # the loop stands still: what a slow disk or a long computation would do
    await until(lambda: peer.deadline == NEVER, "the answer is read")
    assert peer.at == []
    _done(deadlines, near, far)


@on_loop
async def test_after_a_stall_who_did_not_answer_is_told_all_the_same() -> None:
    deadlines, loop = Deadlines(0.05), asyncio.get_running_loop()
    peer = Late(loop.time() + 0.1)
    deadlines.add(peer)
    deadlines.start()
    time.sleep(0.5)
    awake = loop.time()
    await until(lambda: peer.at, "the deadline")
    assert peer.at[0] >= awake + 0.025
    _done(deadlines)


def _done(deadlines: Deadlines, *sockets: socket.socket) -> None:
    deadlines.stop()
    deadlines.stop()
    for sock in sockets:
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()


@on_loop
async def test_stopped_it_sweeps_no_more() -> None:
    deadlines, loop = Deadlines(PERIOD), asyncio.get_running_loop()
    late = Late(0.0, moved_to=0.0)
    deadlines.add(late)
    deadlines.start()
    await until(lambda: late.at, "one sweep")
    deadlines.stop()
    count, end = len(late.at), loop.time() + 5 * PERIOD
    await until(lambda: loop.time() > end, "five periods")
    assert len(late.at) == count
