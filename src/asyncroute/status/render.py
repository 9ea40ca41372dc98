"""A status snapshot for people: tables in plain text, or through rich on a terminal.

Guarantees: titles, host names and error texts come from peers; here they cannot forge lines or reach the terminal as
control sequences or markup (``clean``, ``grid``). Only this module knows the layout; the facts are ``snapshot``'s.
Failures: none.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncroute.status.attention import needs_person

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable

MOST_ROWS = 30
"""Associations of a kind that are shown; ``status --json`` has all."""

LONGEST_CELL = 400
"""Characters of one fact in a table."""

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_RATES = ("B/s", "KB/s", "MB/s", "GB/s")
_SPANS = (("d", 86400), ("h", 3600), ("m", 60))


# --- words ------------------------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """Text in one line, with everything that is not printable (controls, bidirectional marks, ...) escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def fitting(text: str) -> str:
    """``clean``, as long as a table can bear; ``--json`` has all of it."""
    shown = clean(text)
    return shown if len(shown) <= LONGEST_CELL else f"{shown[:LONGEST_CELL]}..."


def _escaped(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def size(count: float) -> str:
    """Bytes: ``812 B``, ``33.5 KiB``, ``1.4 GiB``."""
    power = 0
    while count >= 1024 and power < len(_SIZES) - 1:
        count /= 1024
        power += 1
    return f"{count:.1f} {_SIZES[power]}" if power else f"{count:.0f} B"


def rate(count: float) -> str:
    """Bytes a second, in the units of networks: ``812 B/s``, ``5.0 MB/s``."""
    power = 0
    while count >= 1000 and power < len(_RATES) - 1:
        count /= 1000
        power += 1
    return f"{count:.1f} {_RATES[power]}" if power else f"{count:.0f} {_RATES[0]}"


def moment(at: float, form: str = "%Y-%m-%d %H:%M") -> str:
    """Seconds since the epoch in the system's time: ``2026-03-29 18:00``."""
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, ValueError, OSError):  # a clock that was wrong
        return f"{at:.0f} s after 1970"


def span(seconds: float | None) -> str:
    """Seconds: ``0.4s``, ``12s``, ``3h12m``, ``5d2h``; empty for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    rest = int(seconds)
    parts: list[str] = []
    for unit, length in _SPANS:
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title. ``right``: the columns aligned to the right. ``note``: a last line."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: frozenset[int] = frozenset()
    note: str = ""


def plain(table: Table) -> str:
    """A table as lines of text, columns two blanks apart."""
    rows = [table.columns, *([fitting(text) for text in row] for row in table.rows)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(table.columns))]
    lines = [table.title] if table.title else []
    lines += ["  " + _line(row, widths, table.right) for row in rows]
    return "\n".join([*lines, f"  {table.note}"] if table.note else lines)


def _line(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    cells = (cell.rjust(widths[n]) if n in right else cell.ljust(widths[n]) for n, cell in enumerate(row))
    return "  ".join(cells).rstrip()


def grid(table: Table) -> RichTable:
    """A table for rich; cells are Text, so that brackets in them are no markup."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(
        title=Text(table.title) if table.title else None,
        caption=Text(table.note) if table.note else None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        pad_edge=False,
    )
    for n, name in enumerate(table.columns):
        made.add_column(Text(name), justify="right" if n in table.right else "left", overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(fitting(text)) for text in row))
    return made


# --- status -----------------------------------------------------------------------------------------------------------


def headline(snapshot: Mapping[str, Any]) -> list[str]:
    """The lines above the tables: who it is, its totals, its spool."""
    state = f"running for {span(snapshot['uptime_s'])}" if snapshot["running"] else "not running; as it was left"
    spool = snapshot["spool"]
    lines = [
        f"{snapshot['node']}: {state}",
        "   ".join(f"{name} {count}" for name, count in snapshot["totals"].items()),
        f"spool: {spool['files']} files, {size(spool['bytes'])}{_spare(spool)}; {size(spool['free_bytes'])} free",
    ]
    lines += _incomplete(snapshot.get("incomplete"))
    return [*lines, _process(snapshot["process"])] if "process" in snapshot else lines


def _incomplete(facts: Mapping[str, Any] | None) -> list[str]:
    """The line about studies that wait for their completion; none where nothing waits."""
    if not facts or not facts["studies"]:
        return []
    due = facts["next_due_s"]
    when = f"; the next is due in {span(due)}" if due is not None else ""
    return [f"not complete: {facts['images']} images of {facts['studies']} studies wait{when}"]


def _spare(spool: Mapping[str, Any]) -> str:
    """What is on the disk besides: files of images that are gone, which the next ones take over."""
    files = spool.get("spare_files", 0)
    return f", {files} spare ({size(spool['spare_bytes'])})" if files else ""


def _process(figures: Mapping[str, Any]) -> str:
    """What the process takes up; what the system did not tell is left out."""
    told = [f"{figures[name]} {name}" for name in ("tasks", "threads", "descriptors") if figures[name] is not None]
    memory = [size(figures["rss_bytes"])] if figures["rss_bytes"] is not None else []
    return f"process {figures['pid']}: {', '.join([*memory, *told])}, {span(figures['cpu_s'])} CPU"


def tables(snapshot: Mapping[str, Any]) -> list[Table]:
    """What there is to show, empty tables left out."""
    associations = snapshot["associations"]
    made = [
        _channels(snapshot["channels"]),
        _groups(snapshot.get("groups", ())),
        _limited(snapshot["channels"]),
        _completions(snapshot.get("incomplete")),
        *watches(snapshot.get("watches", ())),
        archive(snapshot.get("archive"), "archive"),
        _inbound(associations["inbound"]),
        _outbound(associations["outbound"]),
    ]
    return [table for table in made if table.rows]


def _channels(channels: Iterable[Mapping[str, Any]]) -> Table:
    channels = list(channels)
    proving = any(c.get("unconfirmed") for c in channels)  # a column only where proof is waited for
    facts = ("waiting", "sending", "failed", "delivered", *(["unconfirmed"] if proving else []))
    columns = ("name", "kind", "state", *facts, "oldest", "open", "per s", "last error")
    rows = [
        (
            *(c["name"], c["kind"], _state(c)),
            *(str(c.get(key, 0)) for key in facts),
            span(c["oldest_s"]),
            f"{c['lanes']}/{c['window']}" if c["window"] else "",
            f"{c['rate_per_s']:.1f}" if c["rate_per_s"] else "",
            str(c["last_error"] or ""),
        )
        for c in channels
    ]
    return Table("channels", columns, rows, frozenset(range(3, len(columns) - 1)))


def watches(watched: Iterable[Mapping[str, Any]]) -> list[Table]:
    """Watched folders, and the batches that are under way."""
    watched = list(watched)
    counts = ("queued", "reading", "processing", "errors")
    rows = [
        (
            *(str(w["name"]), str(w["mode"]), "stopped" if w["stopped"] else "on", *(str(w[key]) for key in counts)),
            *(", ".join(w["paths"]), str(w["trouble"])),
        )
        for w in watched
    ]
    carried = [
        (
            *(f"{w['name']}/{it['name']}", str(it["state"]), str(it["files"]), str(it["images"]), size(it["bytes"])),
            *(str(it["errors"]), str(it["waits"])),
        )
        for w in watched
        for it in w["carried"]
    ]
    made = [
        Table("watches", ("name", "mode", "state", *counts, "path", "trouble"), rows, frozenset({3, 4, 5, 6})),
        Table(
            "batches", ("name", "state", "files", "images", "size", "errors", "waits"), carried, frozenset({2, 3, 4, 5})
        ),
    ]
    return [table for table in made if table.rows]


def archive(facts: Mapping[str, Any] | None, title: str = "") -> Table:
    """The archive's tiers."""
    rows = [_tier(number, tier) for number, tier in enumerate(facts["tiers"], 1)] if facts else []
    columns = ("tier", "path", "state", "studies", "images", "size", "free", "oldest", "next", "because")
    return Table(title, columns, rows, frozenset({0, 3, 4, 5, 6}))


def _tier(number: int, tier: Mapping[str, Any]) -> tuple[str, ...]:
    state = f"moving {tier['moving']}" if tier["moving"] else str(tier["state"])
    if tier["closed_until"] is not None and tier["state"] == "closed":
        state = f"closed until {moment(tier['closed_until'])}"
    wrong = f"{tier['wrong']} files are missing or damaged" if tier["wrong"] else ""
    unknown = "it has files that are not known here" if tier["unindexed"] else ""
    return (
        *(str(number), tier["path"], state, str(tier["studies"]), str(tier["images"]), size(tier["bytes"])),
        size(tier["free_bytes"]) if tier["free_bytes"] is not None else "",
        moment(tier["oldest"]) if tier["oldest"] is not None else "",
        moment(tier["next"]) if tier["next"] is not None else "",
        "; ".join(filter(None, (tier["why"], wrong, unknown))),
    )


def _completions(facts: Mapping[str, Any] | None) -> Table:
    """Studies (or series) that wait, the next that is due first."""
    lines = facts["list"] if facts else []
    rows = [
        (
            *(it["route"], it["calling_aet"], f"{it['unit']} {it['uid']}", str(it["images"])),
            *(span(it["first_s"]), span(it["last_s"]), "late, held" if it["late"] else span(it["due_s"])),
        )
        for it in lines[:MOST_ROWS]
    ]
    columns = ("route", "from", "waits for", "images", "first", "last", "due in")
    total = facts["studies"] + facts["late_studies"] if facts else 0
    note = f"and {total - MOST_ROWS} more" if total > MOST_ROWS else ""
    return Table("not complete", columns, rows, frozenset({3, 4, 5, 6}), note)


def _groups(groups: Iterable[Mapping[str, Any]]) -> Table:
    rows = [
        (
            *(g["name"], g["mode"], ", ".join(f"{m['name']} ({m['state']})" for m in g["members"])),
            *(", ".join(g["active"]) or "nobody", str(g["studies"] or ""), g["why"]),
        )
        for g in groups
    ]
    columns = ("name", "mode", "members", "new studies to", "in progress", "because")
    return Table("groups", columns, rows, frozenset({4}))


def _state(channel: Mapping[str, Any]) -> str:
    """One word, and since when or until when it is so."""
    state, held, closed = str(channel["state"]), channel.get("held_since"), channel.get("closed_until")
    if held is not None and state == "held":
        return f"held since {moment(held)}"
    if closed is not None:
        return f"closed until {moment(closed)}" if state == "closed" else f"{state}, closed until {moment(closed)}"
    return state


def _limited(channels: Iterable[Mapping[str, Any]]) -> Table:
    """What keeps a destination from being sent to faster."""
    rows = [(str(c["name"]), what) for c in channels if c["waiting"] for what in _limits(c)]
    return Table("limited", ("name", "by"), rows)


def _limits(channel: Mapping[str, Any]) -> Iterator[str]:
    if channel.get("window_why"):
        yield f"{channel['window']} of {channel['window_most']} associations: {channel['window_why']}"
    pace = channel.get("bandwidth")
    if pace and pace["slows"]:
        until = f" until {moment(pace['until'])}" if pace["until"] is not None else ""
        yield f"bandwidth: {rate(pace['rate'])} of {rate(pace['limit'])}{until}"


def _inbound(lines: Sequence[Mapping[str, Any]]) -> Table:
    named = any(a.get("user") for a in lines)  # a column only where somebody names a user
    rows = [
        (a["calling_aet"], a["called_aet"], a["peer"], *([a.get("user") or ""] if named else []), *_traffic(a))
        for a in lines[:MOST_ROWS]
    ]
    columns = ("from", "to", "address", *(["user"] if named else []), "for", "images", "size")
    right = frozenset(range(len(columns) - 3, len(columns)))
    return Table("inbound associations", columns, rows, right, _more(lines))


def _outbound(lines: Sequence[Mapping[str, Any]]) -> Table:
    rows = [(a["destination"], a["calling_aet"], a["state"], *_traffic(a)) for a in lines[:MOST_ROWS]]
    columns = ("to", "as", "state", "for", "images", "size")
    return Table("outbound associations", columns, rows, frozenset({3, 4, 5}), _more(lines))


def _traffic(line: Mapping[str, Any]) -> tuple[str, str, str]:
    return span(line["since_s"]), str(line["images"]), size(line["bytes"])


def _more(lines: Sequence[object]) -> str:
    return f"and {len(lines) - MOST_ROWS} more (--json shows all)" if len(lines) > MOST_ROWS else ""


def text(snapshot: dict[str, Any]) -> str:
    """The whole status as plain text."""
    blocks = ["\n".join(map(clean, headline(snapshot))), *map(plain, tables(snapshot))]
    wanted = needs_person(snapshot)
    if wanted:
        blocks.append("\n".join(["needs a person", *(f"  {clean(line)}" for line in wanted)]))
    return "\n\n".join(blocks)


def rich_text(snapshot: dict[str, Any]) -> RenderableType:
    """The whole status for a rich console."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(clean(line)) for line in headline(snapshot)]
    parts += [grid(table) for table in tables(snapshot)]
    wanted = needs_person(snapshot)
    if wanted:
        parts.append(Text("needs a person", style="bold red"))
        parts += [Text(f"  {clean(line)}") for line in wanted]
    return Group(*parts)
