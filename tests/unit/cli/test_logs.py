"""The router's log: an event is one line, whatever it says."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest

from asyncroute.cli.logs import LONGEST, MOST, WITHIN, Limit, OneLine
from tests.support.router import environment

AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} ")


def line(message: str, *arguments: object, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("asyncroute.x", logging.WARNING, "x.py", 1, message, arguments, info)
    return OneLine("%(asctime)s %(levelname)s %(message)s").format(record)


def test_a_line() -> None:
    text = line("%s: %d images", "CT_A@10.0.0.1", 3)
    assert AT.match(text)
    assert AT.sub("", text) == "WARNING CT_A@10.0.0.1: 3 images"


EVIL = ["\n2026-01-01T00:00:00 ERROR forged", "\r\x1b[2K", "\x1b]0;x\x07", "\x85\u2028\u202e", "\0"]


@pytest.mark.parametrize("evil", EVIL)
def test_peers_cannot_forge_lines(evil: str) -> None:
    text = line("%s: refused", f"CT{evil}A")
    assert text.isprintable()
    assert text.endswith("A: refused")


def test_a_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("bad\nvalue\x1b[31m")
    except ValueError as error:
        text = line("unexpected", error=error)
    assert text.isprintable()
    assert "unexpected | Traceback" in text
    assert "ValueError: bad | value\\x1b[31m" in text


def test_a_line_has_an_end() -> None:
    text = line("%s: refused", "A" * 100_000)
    assert len(text) < LONGEST + 100
    assert text.endswith("A: refused")
    assert "characters left out" in text


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record(message: str, *arguments: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("asyncroute.x", level, "x.py", 1, message, arguments, None)


def flood(limit: Limit, count: int, who: str = "EVIL{}@10.0.0.1") -> int:
    """How many of so many lines of one kind pass; the caller has a new title each time."""
    return sum(limit.passes(record("%s: aborting: %s", who.format(n), f"reason {n}")) for n in range(count))


def test_a_flood_of_lines_is_counted_and_told() -> None:
    clock = Clock()
    limit = Limit(clock)
    assert flood(limit, 1000) == MOST
    assert not list(limit.due())
    clock.now += WITHIN
    (told,) = limit.due()
    assert told.levelno == logging.WARNING
    assert told.getMessage() == (
        f"EVIL999@10.0.0.1: aborting: reason 999 (and {1000 - MOST - 1} more like this in the last 60 s)"
    )
    assert flood(limit, 1000) == MOST
    assert len(list(limit.due(everything=True))) == 1
    assert not list(limit.due(everything=True))


def test_others_are_heard_during_a_flood() -> None:
    limit = Limit(Clock())
    flood(limit, 1000)
    assert flood(limit, 5, "CT_{}@10.0.0.2") == 5
    assert limit.passes(record("%s: something else", "EVIL@10.0.0.1"))
    assert limit.passes(record("a line without arguments"))
    assert all(limit.passes(record("%s", "the disk", level=logging.CRITICAL)) for _ in range(100))


def test_the_count_of_kinds_is_limited() -> None:
    limit = Limit(Clock())
    told = 0
    for n in range(5000):
        flood(limit, MOST + 1, f"EVIL{{}}@10.0.{n // 250}.{n % 250}")
        told += len(list(limit.due()))
    assert 3900 < told < 5000
    assert len(list(limit.due(everything=True))) < 1100


PROGRAM = """
import logging, os, sys
from asyncroute.cli.logs import set_up
set_up({debug})
{before}
logging.getLogger("asyncroute.part").debug("a detail")
logging.getLogger("asyncroute.part").warning("an event\\n")
print("alive")
"""


@pytest.mark.parametrize(("debug", "lines"), [(False, 1), (True, 2)])
def test_where_it_goes(debug: bool, lines: int) -> None:
    program = PROGRAM.format(debug=debug, before="")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), timeout=30, check=True
    )
    assert done.stdout == "alive\n"
    assert len(done.stderr.splitlines()) == lines
    assert ("asyncroute.part" in done.stderr) is debug


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    before = "read, write = os.pipe(); os.close(read); os.dup2(write, 2)"
    program = PROGRAM.format(debug=False, before=before)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), timeout=30, check=False
    )
    assert done.stdout == "alive\n"


FLOOD = """
import logging
from asyncroute.cli.logs import set_up
set_up({debug})
for n in range(1000):
    logging.getLogger("asyncroute.part").warning("%s: aborting: %s", f"EVIL{{n}}@10.0.0.1", n)
"""


@pytest.mark.parametrize(("debug", "lines"), [(False, MOST + 1), (True, 1000)])
def test_a_flood_on_standard_error(debug: bool, lines: int) -> None:
    """What was kept back is told at the end of the program; who asks for details gets all."""
    program = [sys.executable, "-c", FLOOD.format(debug=debug)]
    done = subprocess.run(program, capture_output=True, text=True, env=environment(), timeout=30, check=True)
    assert len(done.stderr.splitlines()) == lines
    assert debug or f"(and {999 - MOST} more like this" in done.stderr.splitlines()[-1]
