"""``[archive]``: what passed through is kept, as received, in tiers of storage.

Guarantees and failures: as of `asyncroute.config.model`; `check_archive` reports what depends on other tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, field_validator, model_validator

from asyncroute.config.bandwidth import Bandwidth, bandwidth_value, parse_bandwidth
from asyncroute.config.fields import AbsolutePath, Duration, Listed, Size
from asyncroute.config.hours import hours_texts, parse_hours, parse_range
from asyncroute.config.table import Table
from asyncroute.config.template import Layout, parse_layout
from asyncroute.config.units import format_duration, parse_duration
from asyncroute.config.words import Invalid, Loc, quote, show
from asyncroute.core import archiving
from asyncroute.core.hours import Range

LEAST_KEEP = 1.0
DEFAULT_LAYOUT = "{StudyDate}/{StudyInstanceUID}"
_FILE = "{SOPInstanceUID}.dcm"
_TIME = re.compile(r"(\d{1,2}):(\d{2})")
_HINT = 'must be a time of day such as "02:00", "Sat 02:00" or "Mon-Fri 02:00 Europe/Berlin"'


FOREVER = float("inf")


def keep_value(value: object) -> float:
    """Seconds, or inf for ``forever``."""
    if value == "forever":
        return FOREVER
    if value == "never":
        raise Invalid('cannot be "never": write "forever", or leave the whole table out')
    try:
        seconds = parse_duration(value)
    except Invalid as error:
        raise Invalid(str(error).replace('"never"', '"forever"')) from None
    if seconds < LEAST_KEEP:
        raise Invalid(f'must be "{format_duration(LEAST_KEEP)}" or more, not {show(value)}')
    return seconds


def moment_texts(value: object) -> tuple[str, ...]:
    """One time of day, or a list of several, checked."""
    several = value if isinstance(value, list | tuple) else [value]
    for each in several:
        if not isinstance(each, str):
            raise Invalid(f"{_HINT}, not {show(each)}")
        parse_moment(each)
    return tuple(several)


def parse_moment(text: str) -> Range:
    """``[DAYS] HH:MM [ZONE]``; the range begins then."""
    words = text.split()
    times = [n for n, word in enumerate(words) if word[0].isdigit()]
    found = _TIME.fullmatch(words[times[0]]) if len(times) == 1 else None
    if not found:
        raise Invalid(f"{_HINT}, not {quote(text)}")
    after = int(found[1]) * 60 + int(found[2]) + 1
    words[times[0]] = f"{found[0]}-{after // 60:02d}:{after % 60:02d}"
    try:
        return parse_range(" ".join(words))
    except Invalid as error:
        if "zone" in str(error) or "days" in str(error):
            raise
        raise Invalid(f"{_HINT}, not {quote(text)}") from None


class MoveIn(Table):
    """Why and when a tier takes in what the tier before it has."""

    at: Annotated[tuple[str, ...], BeforeValidator(moment_texts)] = ()
    below_free: Size | None = None
    older_than: Duration | None = None
    hours: Annotated[tuple[str, ...], BeforeValidator(hours_texts)] = ()
    bandwidth: Annotated[Bandwidth | None, BeforeValidator(bandwidth_value)] = None

    @model_validator(mode="after")
    def _a_reason(self) -> MoveIn:
        if not self.at and self.below_free is None and self.older_than is None:
            raise Invalid('needs a reason to move: "at", "below_free" or "older_than"')
        return self

    @cached_property
    def terms(self) -> archiving.MoveIn:
        """The same, able to tell the time."""
        return archiving.MoveIn(
            tuple(map(parse_moment, self.at)),
            self.below_free,
            self.older_than,
            parse_hours(self.hours),
            parse_bandwidth(self.bandwidth) if self.bandwidth is not None else None,
        )


class Tier(Table):
    """One place of the archive."""

    path: AbsolutePath
    move_in: MoveIn | None = None


class Archive(Table):
    """``[archive]``: the tiers, the first of which gets what was delivered."""

    keep: Annotated[float, BeforeValidator(keep_value)] = FOREVER
    layout: str = DEFAULT_LAYOUT
    tiers: Annotated[tuple[Tier, ...], Listed]

    @field_validator("tiers")
    @classmethod
    def _one_at_least(cls, value: tuple[Tier, ...]) -> tuple[Tier, ...]:
        if not value:
            raise Invalid("must have at least one tier")
        return value

    @field_validator("layout", mode="before")
    @classmethod
    def _parseable(cls, value: Any) -> Any:
        if isinstance(value, str):
            _layout_of(value)
        return value

    @cached_property
    def terms(self) -> archiving.Terms:
        """The same, for the archive itself."""
        tiers = (archiving.TierTerms(t.path, t.move_in.terms if t.move_in else None) for t in self.tiers)
        return archiving.Terms(self.keep, _layout_of(self.layout), tuple(tiers))


def _layout_of(text: str) -> Layout:
    """A study's folder, or, if it ends with ``.dcm``, the whole path of a file."""
    layout = parse_layout(text if text.endswith(".dcm") else f"{text}/{_FILE}")
    if any(isinstance(parts[0], str) and parts[0].startswith(".") for parts in layout.components):
        raise Invalid('cannot have a folder or file whose name begins with "."')
    return layout


def check_archive(
    archive: Archive, data_dir: Path | None, folders: Iterable[tuple[str, Path]], report: Callable[[Loc, str], None]
) -> None:
    """Report tiers that cannot be. ``folders``: names and paths of folder destinations."""
    known = [(f"where destination {quote(name)} writes", os.path.normpath(path)) for name, path in folders]
    for n, tier in enumerate(archive.tiers):
        loc, path = ("archive", "tiers", n), os.path.normpath(tier.path)
        if n and tier.move_in is None:
            report(loc, '"move_in" is missing: it says when this tier takes in what the one before it has')
        elif not n and tier.move_in is not None:
            report((*loc, "move_in"), "is for later tiers: the first one gets every image when it is delivered")
        wrong = _wrong_place(path, data_dir, known)
        if wrong:
            report((*loc, "path"), wrong)
        known.append((f"tier {n + 1}", path))


def _wrong_place(path: str, data_dir: Path | None, known: Iterable[tuple[str, str]]) -> str:
    if os.path.lexists(path) and not os.path.isdir(path):
        return f"is not a folder: {quote(path)}"
    if data_dir is not None:
        home = os.path.normpath(data_dir)
        if _within(home, path) or _within(path, os.path.join(home, "spool")):
            return f"must not be where this router keeps its own files: {quote(path)}"
    for words, other in known:
        if _within(path, other) or _within(other, path):
            return f"overlaps with {quote(other)}, which is {words}"
    return ""


def _within(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
