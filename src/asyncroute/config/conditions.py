"""From a route's `match` and `unless` to the rules that `core.rules` decides by.

Purpose: knows what the keys mean (facts of the source, attributes by keyword or tag) and how a value is written:

- text with ``*``, ``?``, ``[...]``, case-sensitive; ``""`` matches an attribute that is absent or empty, and only that;
- ``re:PATTERN``, searched for anywhere in the value;
- a list: any of its values;
- for numbers, dates, times and ages (by the attribute's VR) a range ``LOW..HIGH``, ``LOW..`` or ``..HIGH``, ends
  included; dates are written ``20240131`` or ``2024-01-31``, or only their beginning (``2024..2025-06``); a single
  number matches by value (``5`` and ``5.0``), a single date may be shortened as well;
- for private attributes, whose VR is unknown, ``..`` between two numbers is a range, anything else is text;
- for UIDs also their keyword (``CTImageStorage``);
- ``present``: in the image, with a value or without, ``absent``: not in the image; of sequences and binary attributes
  nothing else can be asked but ``*`` (has items, has a value) and ``""``;
- for ``peer`` an address or a network; for ``listener`` an AE title, a port, or ``AET@HOST:PORT``; for ``time`` hours
  as in ``config.hours``, one or a list.

In the other attributes ``..`` is text like any other. ``any`` and ``all`` hold lists of tables, ``not`` one table.
Attributes inside sequences may be written as one quoted key or, as TOML reads dots, as tables in tables.
Guarantees: what is compiled can match; what never could (an unknown listener, letters in a number) is a problem.
Failures: problems are reported one by one through `report(loc, text)`, where `loc` begins with the key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import TYPE_CHECKING

from asyncroute.config.attributes import MOMENTS, NUMERIC, PIXELS, Attribute, find_path, find_uid
from asyncroute.config.fields import network, title_pattern
from asyncroute.config.hours import hours_texts, parse_hours
from asyncroute.config.listeners import Listener, literal
from asyncroute.config.words import Invalid, Loc, quote, show
from asyncroute.core.conditions import FACTS, Condition, During, Either, Not, Term
from asyncroute.core.paths import Key
from asyncroute.core.patterns import (
    Ages,
    Glob,
    Moments,
    Network,
    Numbers,
    Pattern,
    Presence,
    Regex,
    age_in_days,
    compile_regex,
    text_test,
)
from asyncroute.core.priority import PRIORITIES
from asyncroute.core.rules import RouteTable, Rule
from asyncroute.core.titles import LONGEST

if TYPE_CHECKING:
    from asyncroute.config.model import Config, Route

NESTING = ("all", "any", "not")
"""Keys of `match` and `unless` that hold tables of conditions."""

MAX_NESTING = 16
"""Tables in tables."""

WORDS = (*FACTS, "time", *NESTING)
"""Keys of `match` and `unless` that are no attributes."""

Report = Callable[[Loc, str], None]
Listeners = Sequence[Listener] | None
Scalar = str | int | float | date | time

_WILD = frozenset("*?[")
_REGEX = "re:"


def compile_routes(config: Config) -> RouteTable:
    """The route table of a loaded configuration; a group of which one member is chosen stands there by its name."""
    compiled = [(route, compile_route(route, config.listeners, _unexpected)) for route in config.routes]
    return RouteTable(replace(rule, destinations=config.addressed(route)) for route, rule in compiled)


def _unexpected(loc: Loc, text: str) -> None:
    raise Invalid(f"{loc}: {text}")


def compile_route(route: Route, listeners: Listeners, report: Report) -> Rule:
    """One route; `listeners` are all that exist, or None if that is not known (then their names are not checked)."""
    match = _compile_table(("match",), route.match, listeners, report)
    unless = _compile_table(("unless",), route.unless, listeners, report)
    return Rule(route.name, route.to, match, unless, route.final, PRIORITIES[route.priority], route.wait)


def compile_table(table: Mapping[str, object], listeners: Listeners, report: Report) -> tuple[Term, ...]:
    """What has to hold all together; problems are reported with their place in `table`."""
    return _compile_table((), table, listeners, report)


def _compile_table(where: Loc, table: Mapping[str, object], listeners: Listeners, report: Report) -> tuple[Term, ...]:
    if len(where) > 2 * MAX_NESTING:
        report(where, f"is nested more than {MAX_NESTING} deep")
        return ()
    found: list[Term] = []
    for key, value in table.items():
        if key in NESTING:
            found += _nested((*where, key), key, value, listeners, report)
        elif key == "time":
            found += _hours((*where, key), value, report)
        else:
            found += _conditions((*where, key), key, value, listeners, report)
    return tuple(found)


def _nested(where: Loc, key: str, value: object, listeners: Listeners, report: Report) -> Iterator[Term]:
    """`all`, `any` and `not`."""
    if key == "not":
        if isinstance(value, dict) and value:
            yield Not(_compile_table(where, value, listeners, report))
        else:
            report(where, f'must be a table, such as {{ Modality = "CT" }}, not {show(value) if value else "empty"}')
        return
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) and each for each in value):
        report(where, 'must be a list of tables, such as [{ Modality = "CT" }, { calling_aet = "CT_*" }]')
        return
    tables = [_compile_table((*where, n), each, listeners, report) for n, each in enumerate(value)]
    if key == "any":
        yield Either(tuple(tables))
    else:
        for terms in tables:
            yield from terms


def _hours(where: Loc, value: object, report: Report) -> Iterator[Term]:
    try:
        texts = hours_texts(value)
        hours = parse_hours(texts)
    except ValueError as error:
        report(where, str(error))
        return
    if hours is None:
        report(where, "must not be an empty list")
    else:
        yield During(hours, _written(list(texts) if isinstance(value, list) else value))


def _conditions(where: Loc, key: str, value: object, listeners: Listeners, report: Report) -> Iterator[Term]:
    """One condition; or several, of attributes inside a sequence, which TOML gives as tables."""
    if isinstance(value, dict) and key not in FACTS:
        for inner, each in value.items():
            if len(where) > 2 * MAX_NESTING:
                report(where, f"is nested more than {MAX_NESTING} deep")
                return
            yield from _conditions((*where, inner), f"{key}.{inner}", each, listeners, report)
        if not value:
            report(where, "must not be an empty table")
        return
    try:
        meaning, read = _reader(key, listeners)
    except ValueError as error:
        report(where, str(error))
    else:
        yield Condition(meaning, tuple(_patterns(value, read, where, report)), key, _written(value))


def _written(value: object) -> str:
    """A value as in the file, in one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return show(value)


Reader = Callable[[Scalar], Iterable[Pattern]]


def _reader(key: str, listeners: Listeners) -> tuple[str | Key, Reader]:
    """What a key stands for, and how its values are read."""
    if key == "peer":
        return key, _read_peer
    if key == "listener":
        return key, lambda value: _read_listener(value, listeners)
    if key == "watch":
        return key, _read_watch
    if key in FACTS:
        return key, _read_title
    attribute = find_path(key, also=WORDS)
    if attribute.path[0].tag >= PIXELS:
        raise Invalid(f"{attribute.name} stands behind the header: routes cannot ask for it")
    key_: Key = attribute.path if attribute.opaque else attribute.key  # a scan would copy the value
    return key_, lambda value: [_read_value(attribute, value)]


def _patterns(value: object, read: Reader, loc: Loc, report: Report) -> Iterable[Pattern]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        report(loc, "must not be an empty list")
    for n, each in enumerate(values):
        try:
            yield from read(_scalar(each))
        except ValueError as error:
            report((*loc, n) if values is value else loc, str(error))


def _scalar(value: object) -> Scalar:
    if isinstance(value, bool | datetime) or not isinstance(value, str | int | float | date | time):
        raise Invalid(f"must be text in quotes, a number, or a list of them, not {show(value)}")
    return value


# --- Facts of the source ---------------------------------------------------------------------------------------------


def _text(value: Scalar) -> str:
    if not isinstance(value, str):
        raise Invalid(f"must be text in quotes, not {show(value)}")
    return value


def _read_title(value: Scalar) -> Iterable[Pattern]:
    text = _text(value)
    if text.startswith(_REGEX):
        return [_regex(text)]
    pattern = title_pattern(text)
    if not _WILD & set(pattern) and len(pattern) > LONGEST:
        raise Invalid(f"can never match: an AE title has at most 16 characters, {quote(pattern)} has {len(pattern)}")
    return [Glob(pattern)]


def _read_watch(value: Scalar) -> Iterable[Pattern]:
    text = _text(value)
    return [_regex(text) if text.startswith(_REGEX) else Glob(text)]


def _read_peer(value: Scalar) -> Iterable[Pattern]:
    text = network(_text(value))
    return [Network(net) for net in (("0.0.0.0/0", "::/0") if text == "*" else (text,))]


def _read_listener(value: Scalar, listeners: Listeners) -> Iterable[Pattern]:
    """The names under which an image's source may know the listeners that are meant."""
    if listeners is None:
        return []
    text = str(value) if isinstance(value, int) else _text(value)
    fits = compile_regex(_regex(text).text).search if text.startswith(_REGEX) else text_test([text])
    meant = [each for each in listeners if any(fits(name) for name in _listener_names(each))]
    if not meant:
        raise Invalid(f"no such listener; there is {', '.join(each.label for each in listeners)}")
    others = {each.ae_title for each in listeners if each not in meant}
    titles = {each.ae_title for each in meant} - others
    return [Glob(literal(name)) for name in sorted({each.label for each in meant} | titles)]


def _listener_names(listener: Listener) -> tuple[str, ...]:
    return listener.ae_title, listener.label, listener.label.partition("@")[2], str(listener.port)


# --- Attributes ------------------------------------------------------------------------------------------------------


_PRESENCE: Mapping[str, Pattern] = {"present": Presence(True), "absent": Presence(False), "": Glob("")}


def _read_value(attribute: Attribute, value: Scalar) -> Pattern:
    if isinstance(value, str) and value in _PRESENCE:
        return _PRESENCE[value]
    if attribute.opaque:
        return _read_opaque(attribute, value)
    if isinstance(value, str) and value.startswith(_REGEX):
        return _regex(value)
    if attribute.vr in MOMENTS:
        return _read_moment(MOMENTS[attribute.vr], value)
    if isinstance(value, date | time):
        raise Invalid(f"must be text in quotes: {attribute.name} is no date")
    if attribute.vr in NUMERIC:
        return _read_number(value)
    return _OTHERS.get(attribute.vr, _read_text)(value)


def _read_opaque(attribute: Attribute, value: Scalar) -> Pattern:
    if value == "*":
        return Glob("*")
    what = "is a sequence" if attribute.vr == "SQ" else "has no value that text could be compared with"
    raise Invalid(f'{attribute.name} {what}: only "present", "absent", "*" and "" can be asked of it')


def _regex(text: str) -> Regex:
    pattern = text.removeprefix(_REGEX)
    if not pattern:
        raise Invalid('has no pattern behind "re:"')
    try:
        compile_regex(pattern)
    except re.error as error:
        raise Invalid(f"is not a regular expression: {error.msg} at position {error.pos}") from None
    except (RecursionError, OverflowError):
        raise Invalid("is a regular expression that is too complicated") from None
    return Regex(pattern)


def _read_text(value: Scalar) -> Pattern:
    if isinstance(value, float):
        raise Invalid(f"must be text in quotes, not {show(value)}")  # 1.10 would become "1.1"
    return Glob(str(value).strip(" "))  # as values are compared


def _read_long_text(value: Scalar) -> Pattern:
    """Where spaces at the beginning of a value mean something."""
    return _read_text(value) if not isinstance(value, str) else Glob(value.rstrip(" "))


def _read_uid(text: str) -> Pattern:
    return Glob(find_uid(text) if any(c.isalpha() for c in text) else text)


def _read_number(value: Scalar) -> Pattern:
    text = str(value)
    if ".." in text:
        return Numbers(*_ends(text, _number, 'numbers, such as "1..5"'))
    if _WILD & set(text):
        return Glob(text)
    number = _number(text)
    if number is None:
        raise Invalid(f'must be a number, a range such as "1..5", or text with "*", not {show(value)}')
    return Numbers(number, number)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _read_private(value: Scalar) -> Pattern:
    """The VR is unknown: what can only be meant as a number is one."""
    if isinstance(value, int | float):
        return Numbers(value, value)
    low, dots, high = str(value).partition("..")
    ends = [_number(end) for end in (low, high) if end.strip()]
    return _read_number(value) if dots and ends and None not in ends else _read_text(value)


def _read_age(text: str) -> Pattern:
    if ".." in text:
        return Ages(*_ends(text, age_in_days, 'ages, such as "018Y..065Y"'))
    if _WILD & set(text):
        return Glob(text)
    days = age_in_days(text)
    if days is None:
        raise Invalid(f'must be an age such as "045Y" or "006M", or a range such as "018Y..", not {quote(text)}')
    return Ages(days, days)


_OTHERS: Mapping[str, Callable[[Scalar], Pattern]] = {
    "AS": lambda value: _read_age(_text(value)),
    "UI": lambda value: _read_uid(_text(value)),
    "": _read_private,
    **dict.fromkeys(("LT", "PN", "ST", "UC", "UT"), _read_long_text),
}
"""How values of other attributes than numbers and dates are read, by VR; else as text."""


def _ends(text: str, read: Callable[[str], float | None], what: str) -> tuple[float, float]:
    """Both ends of a range of numbers; an end that is left out is infinite."""
    low, _, high = (end.strip() for end in text.partition(".."))
    first = read(low) if low else float("-inf")
    last = read(high) if high else float("inf")
    if first is None or last is None or not (low or high):
        raise Invalid(f"must be a range of {what}, not {quote(text)}")
    if first > last:
        raise Invalid(f"is a range that ends before it begins: {quote(text)}")
    return first, last


# --- Dates and times -------------------------------------------------------------------------------------------------

_SEPARATORS = re.compile(r"(?<=\d)[-:T ](?=\d)")
_DIGITS = {"date": (4, 6, 8), "time": (2, 4, 6), "datetime": (4, 6, 8, 10, 12, 14)}
_SAMPLES = {
    "date": 'a date such as "20240131" or "2024-01-31", or a range such as "20240101.."',
    "time": 'a time such as "0830" or "08:30", or a range such as "08:00..17:30"',
    "datetime": 'a date and time such as "202401310830", or a range such as "2024..2025"',
}


def _read_moment(kind: str, value: Scalar) -> Pattern:
    if isinstance(value, date | time):
        value = value.isoformat().partition(".")[0]
    text = str(value)
    if _WILD & set(text):
        return Glob(text)
    low, dots, high = (end.strip() for end in text.partition(".."))
    ends = [_digits(kind, end, text) for end in (low, high if dots else low)]
    if not (low or high):
        raise Invalid(f"must be {_SAMPLES[kind]}, not {quote(text)}")
    first, last = ends
    if first and last and first.ljust(14, "0") > last.ljust(14, "9"):
        raise Invalid(f"is a range that ends before it begins: {quote(text)}")
    return Moments(kind, first, last)


def _digits(kind: str, end: str, text: str) -> str | None:
    """One end of a range as digits from the left; None for one that is left out."""
    digits = _SEPARATORS.sub("", end)
    if digits and not (digits.isascii() and digits.isdigit() and len(digits) in _DIGITS[kind]):
        raise Invalid(f"must be {_SAMPLES[kind]}, not {quote(text)}")
    return digits or None
