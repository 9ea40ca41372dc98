"""The router's log: an event is one line, whatever it says."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest

from asyncroute.cli.logs import OneLine
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
