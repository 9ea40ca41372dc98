"""Files of a ``map`` step: two columns of a CSV file, or the keys and values of a TOML file.

Guarantees: keys are unique, keys and values are text without outer spaces; CSV is UTF-8, separated by commas,
semicolons or tabs (what the first line has), lines that begin with ``#`` are comments.
Failures: ValueError with the line.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from asyncroute.config.words import Invalid, quote, show

LARGEST = 64 << 20
_COLUMNS = 2


def read_lookup(path: Path) -> Mapping[str, str]:
    """The table in this file."""
    try:
        if path.stat().st_size > LARGEST:
            raise Invalid(f"{quote(path.name)} is larger than 64 MiB")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise Invalid(f"{quote(path.name)} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise Invalid(f"{quote(path.name)} is not UTF-8 text") from None
    return _unique(_toml(text) if path.suffix == ".toml" else _csv(text), path.name)


def _toml(text: str) -> Iterable[tuple[str, str, str]]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"is not valid TOML: {str(error).splitlines()[0]}") from None
    for key, value in raw.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Invalid(f"has at {quote(key)} {show(value)}, which is neither text nor a whole number")
        yield quote(key), key, str(value)


def _csv(text: str) -> Iterable[tuple[str, str, str]]:
    lines = ["" if line.startswith("#") else line for line in text.splitlines()]
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    for number, row in enumerate(csv.reader(lines, delimiter=delimiter), 1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != _COLUMNS:
            raise Invalid(f"line {number} has {len(row)} columns; two are needed: a value and what replaces it")
        yield f"line {number}", row[0].strip(), row[1].strip()


def _unique(rows: Iterable[tuple[str, str, str]], name: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    try:
        for place, key, value in rows:
            if found.setdefault(key, value) != value:
                raise Invalid(f"{place}: {quote(key)} is there already, with another value")
    except (Invalid, csv.Error) as error:
        raise Invalid(f"{quote(name)}: {error}") from None
    if not found:
        raise Invalid(f"{quote(name)} is empty")
    return found
