"""The status for people: words, tables, and text that means ill."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from asyncroute.status import render
from asyncroute.status.attention import needs_person
from asyncroute.status.render import Table, clean, moment, plain, size, span

HOSTILE = "EVIL\x1b[2J\x1b]0;owned\x07\r\nfake: line\u202e\u2028[bold red]x[/]:smile:\x9b31m\x00"


def channel(**more: Any) -> dict[str, Any]:
    return {
        "name": "pacs",
        "kind": "dicom",
        "state": "up",
        "waiting": 3,
        "ready": 2,
        "sending": 1,
        "failed": 0,
        "delivered": 17,
        "oldest_s": 61.0,
        "window": 10,
        "window_most": 10,
        "window_why": "",
        "lanes": 2,
        "rate_per_s": 1.25,
        "last_error": "",
        "alert": "",
        **more,
    }


def inbound(**more: Any) -> dict[str, Any]:
    return {
        "calling_aet": "CT_A",
        "called_aet": "ROUTER",
        "peer": "10.0.0.1",
        "since_s": 1.5,
        "images": 2,
        "bytes": 2048,
        **more,
    }


def snapshot(**more: Any) -> dict[str, Any]:
    return {
        "node": "edge-1",
        "running": True,
        "uptime_s": 3725.0,
        "totals": {"received": 20, "delivered": 17, "waiting": 3, "held": 0, "failed": 0},
        "associations": {"inbound": [], "outbound": []},
        "channels": [channel()],
        "spool": {"files": 3, "bytes": 3 << 20, "free_bytes": 5 << 30},
        "trouble": [],
        **more,
    }


def drawn(found: dict[str, Any], width: int = 200) -> str:
    """As rich draws it on a terminal with colours."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, markup=False, highlight=False, emoji=False)
    console.print(render.rich_text(found))
    return stream.getvalue()


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Müller 医院", "Müller 医院"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x9b", "\\x9b"),
        ("\u202eabc\u2028", "\\u202eabc\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("", ""),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (1 << 62, "4096.0 PiB")],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "0.0s"),
        (9.94, "9.9s"),
        (59.4, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h0m"),
        (11520, "3h12m"),
        (86400, "1d0h"),
        (450000, "5d5h"),
    ],
)
def test_span(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_plain_tables_are_aligned() -> None:
    table = Table("title", ("name", "n"), [("a", "1"), ("longer", "1000")], frozenset({1}), "and more")
    assert plain(table).splitlines() == ["title", "  name       n", "  a          1", "  longer  1000", "  and more"]


# --- the whole --------------------------------------------------------------------------------------------------------


def test_a_running_router() -> None:
    lines = render.text(snapshot()).splitlines()
    assert lines[0] == "edge-1: running for 1h2m"
    assert lines[1].split() == ["received", "20", "delivered", "17", "waiting", "3", "held", "0", "failed", "0"]
    assert lines[2] == "spool: 3 files, 3.0 MiB; 5.0 GiB free"
    spare = {"files": 3, "bytes": 3 << 20, "spare_files": 2, "spare_bytes": 1 << 20, "free_bytes": 5 << 30}
    assert render.headline(snapshot(spool=spare))[2] == "spool: 3 files, 3.0 MiB, 2 spare (1.0 MiB); 5.0 GiB free"
    assert lines[-1].split() == ["pacs", "dicom", "up", "3", "1", "0", "17", "1m", "2/10", "1.2"]
    assert "associations" not in render.text(snapshot())


def test_what_the_process_takes_up() -> None:
    figures = {"pid": 4711, "tasks": 14, "threads": 9, "descriptors": 27, "rss_bytes": 52 << 20, "cpu_s": 0.41}
    lines = render.text(snapshot(process=figures)).splitlines()
    assert lines[3] == "process 4711: 52.0 MiB, 14 tasks, 9 threads, 27 descriptors, 0.4s CPU"
    unknown = figures | {"threads": None, "descriptors": None, "rss_bytes": None}
    assert render.text(snapshot(process=unknown)).splitlines()[3] == "process 4711: 14 tasks, 0.4s CPU"


def test_a_stopped_one() -> None:
    assert "not running" in render.text(snapshot(running=False)).splitlines()[0]


def test_associations_of_both_kinds() -> None:
    outbound = {"destination": "pacs", "calling_aet": "CT_A", "since_s": 61, "images": 7, "bytes": 99, "state": "idle"}
    text = render.text(snapshot(associations={"inbound": [inbound()], "outbound": [outbound]}))
    assert "  CT_A  ROUTER  10.0.0.1  1.5s       2  2.0 KiB" in text
    assert "  pacs  CT_A  idle    1m       7  99 B" in text


def test_of_many_associations_some_are_shown() -> None:
    many = [inbound(calling_aet=f"CT_{n}") for n in range(200)]
    text = render.text(snapshot(associations={"inbound": many, "outbound": []}))
    assert f"and {200 - render.MOST_ROWS} more (--json shows all)" in text
    assert text.count("ROUTER") == render.MOST_ROWS


def test_what_needs_a_person() -> None:
    found = snapshot(channels=[channel(failed=2)], trouble=["the disk is broken"])
    for text in (render.text(found), drawn(found)):
        assert "needs a person" in text
        assert "the disk is broken" in text
        assert "2 dead letters" in text
    assert "needs a person" not in render.text(snapshot())


AT = 1_780_000_000.0
SHOWN = time.strftime("%Y-%m-%d %H:%M", time.localtime(AT))


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"state": "held", "held_since": AT, "closed_until": AT}, f"held since {SHOWN}"),
        ({"state": "held"}, "held"),
        ({"state": "closed", "closed_until": AT}, f"closed until {SHOWN}"),
        ({"state": "down", "closed_until": AT}, f"down, closed until {SHOWN}"),
        ({"state": "removed", "held_since": AT}, "removed"),
    ],
)
def test_since_when_and_until_when(facts: dict[str, Any], shown: str) -> None:
    (line,) = [line for line in render.text(snapshot(channels=[channel(**facts)])).splitlines() if "dicom" in line]
    assert f"  {shown}  " in line


def test_a_hold_needs_a_person_who_is_told_how_to_end_it() -> None:
    assert needs_person(snapshot(channels=[channel(name="pacs", state="held", held_since=AT)])) == [
        "pacs: held by a person (asyncroute queue release pacs)"
    ]


def test_no_channels_at_all() -> None:
    assert render.text(snapshot(channels=[])).startswith("edge-1")


# --- text that means ill ----------------------------------------------------------------------------------------------


@pytest.fixture
def hostile() -> dict[str, Any]:
    associations = {
        "inbound": [inbound(calling_aet=HOSTILE, called_aet=HOSTILE, peer=HOSTILE)],
        "outbound": [
            {"destination": HOSTILE, "calling_aet": HOSTILE, "since_s": 1, "images": 1, "bytes": 1, "state": HOSTILE}
        ],
    }
    channels = [channel(name=HOSTILE, state="down", last_error=HOSTILE, alert=HOSTILE)]
    return snapshot(node=HOSTILE, associations=associations, channels=channels, trouble=[HOSTILE])


def test_plain_text_cannot_be_forged(hostile: dict[str, Any]) -> None:
    lines = render.text(hostile).splitlines()
    assert all(line.isprintable() for line in lines)
    assert not any(line.lstrip().startswith("fake:") for line in lines)


def test_the_terminal_cannot_be_reached(hostile: dict[str, Any]) -> None:
    """Every control sequence in the output is one of rich's own colours; markup and emoji codes stay text."""
    import re

    text = drawn(hostile, width=600)
    assert "\\x1b[2J" in text
    assert "[bold red]x[/]:smile:" in text
    rest = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert all(line.isprintable() for line in rest.splitlines())
    assert not any(line.lstrip().startswith("fake:") for line in rest.splitlines())


def test_a_narrow_terminal_is_no_error(hostile: dict[str, Any]) -> None:
    assert drawn(hostile, width=20)


# --- what limits a destination ----------------------------------------------------------------------------------------


def test_a_small_window_is_shown_while_images_wait() -> None:
    small = {"window": 3, "window_why": "association rejected 2/3/2: local limit exceeded"}
    line = "  pacs  3 of 10 associations: association rejected 2/3/2: local limit exceeded"
    shown = render.text(snapshot(channels=[channel(**small), channel(name="backup")]))
    assert shown.split("\n\n")[2].splitlines() == ["limited", "  name  by", line]
    assert "2/3" in shown
    assert "limited" not in render.text(snapshot(channels=[channel(**small, waiting=0)]))
    assert "limited" not in render.text(snapshot())


@pytest.mark.parametrize(
    ("pace", "line"),
    [
        (
            {"limit": 5_000_000, "until": None, "rate": 4_960_000, "slows": True},
            "  pacs  bandwidth: 5.0 MB/s of 5.0 MB/s",
        ),
        (
            {"limit": 500_000, "until": 1781517600.0, "rate": 900, "slows": True},
            f"  pacs  bandwidth: 900 B/s of 500.0 KB/s until {moment(1781517600.0)}",
        ),
        ({"limit": 5_000_000, "until": None, "rate": 10_000, "slows": False}, ""),
        ({"limit": None, "until": 1781517600.0, "rate": 10_000, "slows": False}, ""),
    ],
)
def test_the_bandwidth_is_shown_while_it_slows(pace: dict[str, Any], line: str) -> None:
    shown = render.text(snapshot(channels=[channel(bandwidth=pace)])).split("\n\n")
    assert (shown[2].splitlines()[2] if len(shown) > 2 else "") == line
