"""Worker processes: what a function does to its process is the trouble of one call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncroute.link import plain
from asyncroute.link.processes import Call, Crashed, Failed, Lasting, Late, NotStarted, Processes, Raised
from tests.unit.parts import on_loop, until

CALLS = "tests.support.calls:"


def call(function: str, *arguments: object, deadline: float = 30.0, group: str = "") -> Call:
    return Call(CALLS + function, arguments, deadline, group)


@contextlib.contextmanager
def processes(most: int = 1, memory: int = 1 << 30) -> Iterator[Processes]:
    pool = Processes(most, memory)
    try:
        yield pool
    finally:
        pool.close()
        assert not pool.alive


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@on_loop
async def test_values_and_bytes_go_there_and_back() -> None:
    big = os.urandom(3 << 20)
    with processes() as pool:
        doubled, number, rest = await pool.run(call("double", memoryview(big), 21))
        assert bytes(doubled) == big * 2
        assert (number, rest["text"]) == (42, "Grüße\n")
        assert rest["pid"] in pool.alive
        assert rest["pid"] != os.getpid()
        assert await pool.run(call("limits")) == [True, True, 19]


@on_loop
async def test_what_is_lasting_goes_once() -> None:
    table, other = Lasting(b"table" * 1000), Lasting(b"another")
    with processes() as pool:
        first, again = await pool.run(call("same", table)), await pool.run(call("same", table))
        assert first == again == [pool.alive[0], first[1], 5000]
        assert (await pool.run(call("same", other)))[2] == 7
        with pytest.raises(Crashed):
            await pool.run(call("leaves", 1))
        assert (await pool.run(call("same", table)))[2] == 5000  # a new process has it anew


@on_loop
async def test_exceptions_end_no_process() -> None:
    with processes() as pool:
        before = await pool.run(call("pid_of", 0))
        with pytest.raises(Raised, match=r"^ValueError: no such thing \(calls.py, line \d+\)$"):
            await pool.run(call("raises", "no\nsuch thing"))
        with pytest.raises(Raised, match="SystemExit: enough"):
            await pool.run(call("exits"))
        with pytest.raises(Raised, match="object is no plain value"):
            await pool.run(call("nonsense"))
        with pytest.raises(Raised, match="has no attribute 'unknown'"):
            await pool.run(call("unknown"))
        with pytest.raises(Raised, match="set is no plain value"):
            await pool.run(call("same", {1}))
        assert await pool.run(call("prints")) == "printed"
        assert await pool.run(call("pid_of", 0)) == before


CRASHES = [
    ("dies", signal.SIGSEGV, "its process was ended by SIGSEGV"),
    ("leaves", 3, "its process ended with status 3"),
    ("eats", 8 << 30, "it needs more memory than a worker process may have"),
]


@pytest.mark.parametrize(("function", "argument", "text"), CRASHES)
@on_loop
async def test_a_crash_is_one_call_s_trouble(function: str, argument: int, text: str) -> None:
    with processes() as pool:
        before = await pool.run(call("pid_of", 0))
        bad = asyncio.ensure_future(pool.run(call(function, int(argument))))
        good = asyncio.ensure_future(pool.run(call("pid_of", 0)))
        with pytest.raises(Crashed, match=text):
            await bad
        assert await good != before
        assert gone(before)


@on_loop
async def test_after_a_crash_it_is_tried_again(tmp_path: Path) -> None:
    with processes() as pool:
        assert await pool.run(call("dies_once", str(tmp_path / "mark"))) == "well"


@on_loop
async def test_a_hanging_call_is_killed_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "child"
    with processes() as pool:
        with pytest.raises(Late, match="not done after 2 s"):
            await pool.run(call("sleeps_for_ever", str(file), deadline=2))
        child = int(file.read_text())
        await until(lambda: gone(child), "the child's end")
        assert await pool.run(call("double", b"x", 1))


@contextlib.contextmanager
def taken(processor: int) -> Iterator[None]:
    """Two programs that count take this processor."""
    count = f"import os; os.sched_setaffinity(0, [{processor}])\nprint(flush=True)\nwhile True: pass"
    counting = [subprocess.Popen([sys.executable, "-c", count], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for each in counting:
            assert each.stdout is not None
            each.stdout.readline()
        yield
    finally:
        for each in counting:
            each.kill()
            each.communicate()


@pytest.mark.alone
@on_loop
async def test_waiting_for_a_processor_does_not_count() -> None:
    processor = min(os.sched_getaffinity(0))
    with processes() as pool:
        pid = await pool.run(call("pid_of", 0))
        os.sched_setaffinity(pid, [processor])
        with taken(processor):
            began = time.monotonic()
            assert await pool.run(call("calculate", 0.03, deadline=0.4)) == pid
            assert time.monotonic() - began > 0.4, "it had the processor all the time: this test shows nothing"
            with pytest.raises(Late):
                await pool.run(call("pid_of", 3600, deadline=0.4))


@on_loop
async def test_a_call_that_never_ends_calculating_is_late() -> None:
    with processes() as pool:
        with pytest.raises(Late):
            await pool.run(call("calculate", 3600, deadline=0.5))
        assert await pool.run(call("double", b"x", 1))


@on_loop
async def test_one_group_leaves_a_process_to_the_others(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with processes(most=3) as pool:
        hanging = [asyncio.ensure_future(pool.run(call("wait_for", str(gate), group="a"))) for _ in range(4)]
        assert await pool.run(call("double", b"x", 1, group="b"))
        assert (pool.running, pool.waiting) == (2, 2)
        gate.touch()
        assert len(set(await asyncio.gather(*hanging))) <= 3


@on_loop
async def test_a_group_has_no_more_than_its_share(tmp_path: Path) -> None:
    pool = Processes(4, 1 << 30, {"few": 1})
    try:
        calls = [asyncio.ensure_future(pool.run(call("wait_for", str(tmp_path / "go"), group="few"))) for _ in range(3)]
        others = [asyncio.ensure_future(pool.run(call("wait_for", str(tmp_path / "go"), group="x"))) for _ in range(3)]
        await until(lambda: len(pool.alive) == 4, "all processes work")
        assert (pool.running, pool.waiting) == (4, 2)
        (tmp_path / "go").touch()
        assert len(set(await asyncio.gather(*calls))) == 1
        await asyncio.gather(*others)
    finally:
        pool.close()


@on_loop
async def test_a_cancelled_call_is_told_to_nobody(tmp_path: Path) -> None:
    told: list[object] = []
    gate = tmp_path / "gate"
    with processes() as pool:
        running, waiting = call("wait_for", str(gate)), call("leaves", 1)
        for each in (running, waiting):
            pool.submit(each, lambda *result: told.append(result))
        running.cancel()
        waiting.cancel()
        gate.touch()
        pid = await pool.run(call("pid_of", 0))
        assert pool.alive == [pid]
        assert not told


@on_loop
async def test_closing_ends_what_runs_and_tells_nobody() -> None:
    told: list[object] = []
    pool = Processes(2)
    for _ in range(3):
        pool.submit(call("pid_of", 100.0), lambda *result: told.append(result))
    await until(lambda: len(pool.alive) >= 1, "a process")
    pids = pool.alive
    pool.close()
    assert all(map(gone, pids))
    await asyncio.sleep(0.05)
    assert not told


@on_loop
async def test_processes_without_work_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncroute.link.processes.IDLE", 0.1)
    with processes() as pool:
        pid = await pool.run(call("pid_of", 0))
        await until(lambda: not pool.alive and gone(pid), "its end")
        assert await pool.run(call("pid_of", 0)) != pid


@on_loop
async def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with processes() as pool:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(NotStarted, match="No such file"):
            await pool.run(call("pid_of", 0))
        monkeypatch.undo()
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(NotStarted, match="its process ended with status 1"):
            await pool.run(call("pid_of", 0))
        monkeypatch.undo()
        assert await pool.run(call("pid_of", 0))


def test_processes_end_with_the_router() -> None:
    """However it ends: nothing is left of what a killed router had started."""
    script = (
        "import asyncio\n"
        "from asyncroute.link.processes import Call, Processes\n"
        "async def main():\n"
        "    pool = Processes(1)\n"
        f"    print(await pool.run(Call('{CALLS}pid_of', (0,))), flush=True)\n"
        f"    await pool.run(Call('{CALLS}pid_of', (1000,)))\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as router:
        assert router.stdout is not None
        pid = int(router.stdout.readline())
        assert not gone(pid)
        router.kill()
        router.wait()

    async def ended() -> None:
        await until(lambda: gone(pid), "its end")

    asyncio.run(ended())


@pytest.mark.parametrize("wrong", [b"\0\0\0\5\0\0\0\0[1,2]", b"\0\0\0\x09\0\0\0\1[[9e9],1]", b"\xff" * 8])
def test_what_is_no_message(wrong: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(wrong)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises((ValueError, TypeError)):
            plain.receive(ours)


def test_failures_are_ours() -> None:
    assert issubclass(Raised, Failed)
    assert str(Raised("KeyError", "", "")) == "KeyError"
