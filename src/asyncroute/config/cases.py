"""``[[test]]``: what shall become of an image, written into the configuration; ``asyncroute check`` tries it.

Purpose: `given` says where an image came from (the facts that routes ask for, `time`), its attributes, or the file that
it is in; `expect` says where it shall go (`to`), whether it shall be `held`, and how its attributes shall be then,
written as conditions of a route.
Guarantees: a case that exists can be tried. Failures: problems are reported one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, field_validator

from asyncroute.config.attributes import PIXELS, Attribute, find_path
from asyncroute.config.conditions import NESTING, compile_table
from asyncroute.config.fields import Name
from asyncroute.config.listeners import Listener
from asyncroute.config.table import Table
from asyncroute.config.words import Invalid, Loc, did_you_mean, quote, show
from asyncroute.core.conditions import FACTS, Term

Report = Callable[[Loc, str], None]

_GIVEN = (*FACTS, "time", "file")


def _table(value: object) -> object:
    if not isinstance(value, dict):
        raise Invalid(f'must be a table, such as {{ Modality = "CT" }}, not {show(value)}')
    return value


class Case(Table):
    """``[[test]]``; `given` and `expect` are as written, a relative `file` made absolute."""

    name: Name
    given: Annotated[dict[str, Any], BeforeValidator(_table)]
    expect: Annotated[dict[str, Any], BeforeValidator(_table)]

    @field_validator("given")
    @classmethod
    def _absolute(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        file = value.get("file")
        if not isinstance(file, str) or not file:
            return value
        return value | {"file": str(((info.context or {}).get("base") or Path.cwd()) / file)}

    @field_validator("expect")
    @classmethod
    def _something(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise Invalid('must say what shall be, such as { to = ["pacs"] }')
        return value


Given = tuple[Attribute, tuple[str, ...]]
"""An attribute and its values as text."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A case, read. ``at``: seconds since the epoch, None: now. ``to`` and ``held`` None: no matter."""

    name: str
    facts: Mapping[str, str]
    at: float | None
    file: Path | None
    attributes: tuple[Given, ...]
    to: tuple[str, ...] | None
    held: bool | None
    after: tuple[Term, ...]
    """What shall hold of the image that is sent."""


def compile_case(case: Case, names: Iterable[str], listeners: list[Listener], report: Report) -> Trial:
    """`names`: destinations and groups that there are."""
    given = dict(_flat(case.given))
    facts: dict[str, str] = {}
    at: float | None = None
    for key in _GIVEN:
        if key in given:
            value = given.pop(key)
            try:
                if key == "time":
                    at = _moment(value)
                else:
                    facts[key] = _fact(key, value)
            except ValueError as error:
                report(("given", key), str(error))
    _check_listener(facts.get("listener"), listeners, report)
    file = facts.pop("file", None)
    attributes = [each for key, value in given.items() if (each := _attribute(key, value, report)) is not None]
    expected = dict(case.expect)
    to = _destinations(expected.pop("to", None), list(names), report)
    held = expected.pop("held", None)
    if held is not None and not isinstance(held, bool):
        report(("expect", "held"), f"must be true or false, not {show(held)}")
    after = compile_table(expected, None, lambda loc, text: report(("expect", *loc), text))
    for key in expected:
        if key in (*FACTS, "time"):
            report(("expect", key), 'is no attribute: "to", "held" and attributes can be expected')
    return Trial(case.name, facts, at, Path(file) if file else None, tuple(attributes), to, held, after)


def _flat(table: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, object]]:
    """Attributes inside sequences, which TOML gives as tables, by their whole names."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _fact(key: str, value: object) -> str:
    if key == "listener" and isinstance(value, int):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise Invalid(f"must be text in quotes, not {show(value)}")
    if key == "file" and not Path(value).is_file():
        raise Invalid(f"no such file: {quote(value)}")
    return value


def _check_listener(name: str | None, listeners: list[Listener], report: Report) -> None:
    known = [text for each in listeners for text in (each.label, each.ae_title, str(each.port))]
    if name is not None and listeners and name not in known:
        report(("given", "listener"), f"no such listener; there is {', '.join(each.label for each in listeners)}")


def _moment(value: object) -> float:
    try:
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    raise Invalid(f'must be a date and time such as "2026-06-12T18:30", not {show(value)}')


def _attribute(key: str, value: object, report: Report) -> Given | None:
    try:
        if key in NESTING:
            raise Invalid("is given as it is: only facts and attributes")
        attribute = find_path(key, also=_GIVEN)
        if attribute.opaque or attribute.path[0].tag >= PIXELS:
            raise Invalid(f"{attribute.name} has no value that can be written here; use file = ...")
        several = value if isinstance(value, list | tuple) else [value]
        return attribute, tuple(_value(attribute, each) for each in several)
    except ValueError as error:
        report(("given", *key.split(".")) if "(" not in key else ("given", key), str(error))
        return None


def _value(attribute: Attribute, value: object) -> str:
    if isinstance(value, date | time) and not isinstance(value, datetime) and attribute.vr in ("DA", "TM"):
        return f"{value:%Y%m%d}" if isinstance(value, date) else f"{value:%H%M%S}"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Invalid(f"must be text in quotes, a number, or a list of them, not {show(value)}")
    text = str(value)
    if attribute.vr in _WHOLE and not text.lstrip("+-").isdigit():
        raise Invalid(f"must be a whole number, not {show(value)}")
    if attribute.vr in _DECIMAL and not _is_number(text):
        raise Invalid(f"must be a number, not {show(value)}")
    return text


_WHOLE = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "US or SS"})
_DECIMAL = frozenset({"FL", "FD", "DS", "IS"})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _destinations(value: object, names: list[str], report: Report) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        report(("expect", "to"), f"must be a list of destinations in brackets, not {show(value)}")
        return None
    for n, name in enumerate(value):
        if name not in names:
            report(("expect", "to", n), f"no destination or group is called {quote(name)}{did_you_mean(name, names)}")
    return tuple(value)
