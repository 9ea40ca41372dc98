"""What is wrong with one configuration file, collected.

Purpose: gathers problems from every stage of loading, gives each its line, and puts what pydantic found into an
administrator's words.
Guarantees: one line of text per problem, in the file's order, none twice; no word of pydantic's or Python's.
Failures: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from asyncroute.config.locate import Positions
from asyncroute.config.model import LATER_KEYS, keys_elsewhere, tables_of
from asyncroute.config.table import NOT_YET, Table
from asyncroute.config.words import Loc, did_you_mean, key_path, printable, show
from asyncroute.core.errors import Problem

_KEY_ITSELF = "[key]"  # pydantic's mark for "the key of this item is wrong, not its value"


class Problems:
    """Problems of one file while they are found; each becomes one line, at the place where its key was written."""

    def __init__(self, file: str, positions: Positions) -> None:
        self._file = file
        self._positions = positions
        self._found: dict[Problem, None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, loc: Loc, text: str) -> None:
        """One more problem at `loc`."""
        self._found[Problem(self._file, key_path(loc), printable(text), self._positions.line(loc))] = None

    def add_invalid(self, model: type[Table], loc: Loc, error: ValidationError) -> None:
        """All that pydantic found in the table at `loc`, which should have been a `model`."""
        for detail in error.errors(include_url=False):
            place = tuple(part for part in detail["loc"] if part != _KEY_ITSELF)
            self.add(loc + place, _words(model, detail))

    def in_order(self) -> list[Problem]:
        """All of them by line."""
        return sorted(self._found, key=lambda problem: problem.line or 0)


def unknown_key(
    name: str, known: Iterable[str], later: frozenset[str], elsewhere: Mapping[str, str] | None = None
) -> str:
    """Why `name` is not a key of a table: it comes later, belongs elsewhere, or is mistyped."""
    if name in later:
        return NOT_YET
    if elsewhere and name in elsewhere:
        return f"unknown key {show(name)} here; it belongs in {elsewhere[name]}"
    return f"unknown key {show(name)}{did_you_mean(name, [*known, *later])}"


def _words(model: type[Table], detail: ErrorDetails) -> str:
    kind, given = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown(model, detail["loc"])
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "missing":
        return "is missing"
    return f"must be {_EXPECTED.get(kind, 'something else')}, not {show(given)}"


_EXPECTED = {
    "string_type": "text in quotes",
    "tuple_type": "a list in brackets",
    "dict_type": "a table of keys in braces",
    "mapping_type": "a table of keys in braces",
    "model_type": "a table of keys in braces",
    "model_attributes_type": "a table of keys in braces",
}


def _unknown(model: type[Table], loc: Loc) -> str:
    table = model
    for part in loc[:-1]:
        if isinstance(part, str):
            table = tables_of(table)[part]
    later = LATER_KEYS.get(table, frozenset())
    return unknown_key(str(loc[-1]), _keys(table), later, keys_elsewhere(table))


def _keys(table: type[Table]) -> list[str]:
    """As they are written: ``with`` cannot be a name in Python."""
    return [field.alias or name for name, field in table.model_fields.items()]
