"""Answers of destinations are served between the reads of many senders."""

from __future__ import annotations

import socket

from asyncroute.link.answers import EVERY, Answers
from asyncroute.link.stream import Stream
from tests.unit.parts import on_loop, tcp_pair


def watched(answers: Answers, served: list[str], name: str) -> tuple[Stream, socket.socket]:
    """A stream that notes when it is served, and the peer's end."""
    near, far = tcp_pair()
    stream = Stream(near, name)

    def read() -> None:
        near.recv(100)
        served.append(name)

    stream.attach(read, lambda: None, lambda error: None)
    answers.watch(stream)
    return stream, far


@on_loop
async def test_after_so_many_reads_whoever_has_answered_is_served() -> None:
    answers, served = Answers(), list[str]()
    first, first_far = watched(answers, served, "first")
    second, second_far = watched(answers, served, "second")
    second_far.send(b"x")
    for _ in range(EVERY - 1):
        answers.read()
    assert not served
    answers.read()
    assert served == ["second"]
    first_far.send(b"x")
    for _ in range(EVERY):
        answers.read()
    assert served == ["second", "first"]
    for each in (first, second, first_far, second_far):
        each.close()


@on_loop
async def test_who_is_over_is_not_served() -> None:
    answers, served = Answers(), list[str]()
    gone, gone_far = watched(answers, served, "gone")
    gone_far.send(b"x")
    gone.close()  # before it is forgotten, as after an error
    answers.forget(gone)
    answers.forget(gone)
    new, new_far = watched(answers, served, "new")  # it may have the descriptor of the one that is gone
    for _ in range(2 * EVERY):
        answers.read()
    assert not served
    new_far.send(b"x")
    for _ in range(EVERY):
        answers.read()
    assert served == ["new"]
    for each in (new, new_far, gone_far):
        each.close()


@on_loop
async def test_one_that_ends_another_while_it_is_served() -> None:
    answers, served = Answers(), list[str]()
    pairs = [watched(answers, served, str(number)) for number in range(3)]

    def end_all() -> None:
        for stream, _ in pairs:
            answers.forget(stream)
            stream.close()
        served.append("end")

    for stream, far in pairs:
        stream.attach(end_all, lambda: None, lambda error: None)
        far.send(b"x")
    for _ in range(2 * EVERY):
        answers.read()
    assert served == ["end"]
    for _, far in pairs:
        far.close()


@on_loop
async def test_an_error_in_one_ends_only_that_one() -> None:
    answers, served = Answers(), list[str]()
    bad, bad_far = watched(answers, served, "bad")
    good, good_far = watched(answers, served, "good")
    faults: list[BaseException] = []

    def fail() -> None:
        raise RuntimeError("no")

    bad.attach(fail, lambda: None, faults.append)
    for far in (bad_far, good_far):
        far.send(b"x")
    for _ in range(EVERY):
        answers.read()
    assert served == ["good"]
    assert [str(fault) for fault in faults] == ["no"]
    assert bad.closed
    for each in (good, bad_far, good_far):
        each.close()
