"""From a TOML file to a configuration.

Purpose: `load` and `loads` read, check and compile; `find` follows the rule of the command line (``-c FILE``, else
``./asyncroute.toml``, else the embedded default).
Guarantees: either a `Config` that is right in itself, or one `ConfigError` that names everything wrong at once, one
line each: ``FILE:LINE: listener[0].port: must be 0..65535, not 70000``. Any input, also binary or hostile, ends in one
of the two.
Failures: `ConfigError`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from asyncroute.config.archive import Archive
from asyncroute.config.cases import Case
from asyncroute.config.check import Parts, check
from asyncroute.config.destinations import DESTINATION_KINDS, LATER_KINDS, Destination, FolderDestination
from asyncroute.config.groups import Group
from asyncroute.config.listeners import Listener
from asyncroute.config.locate import Positions
from asyncroute.config.model import LATER_TABLES, Config, Node, Route
from asyncroute.config.peers import Peer
from asyncroute.config.problems import Problems, unknown_key
from asyncroute.config.table import NOT_YET, Table
from asyncroute.config.transforms import Transform, read_transform
from asyncroute.config.watching import Watch
from asyncroute.config.words import Loc, one_of, quote, show
from asyncroute.core.errors import ConfigError, Problem

DEFAULT_FILE = "asyncroute.toml"
DEFAULT_DATA = "asyncroute-data"

_LARGEST_FILE = 4 << 20
_SINGLE = ("node", "archive", "transform")
_ARRAYS = ("listener", "destination", "group", "route", "peer", "watch", "test")
_TABLES = (*_SINGLE, *_ARRAYS)
_NEEDED = ("listener", "destination")
_AnyTable = TypeVar("_AnyTable", bound=Table)


def find(path: Path | str | None = None, folder: Path | None = None) -> Config:
    """The configuration that a command means: `path`, else ./asyncroute.toml, else the embedded default.

    `folder` stands for the current folder. Raises ConfigError.
    """
    folder = folder or Path.cwd()
    if path is not None:
        return load(folder / path)
    if (folder / DEFAULT_FILE).exists():
        return load(folder / DEFAULT_FILE)
    return embedded_default(folder / DEFAULT_DATA)


def embedded_default(data_dir: Path | str) -> Config:
    """A router that writes all it is sent to the folder ``images`` in `data_dir`: AE ASYNCROUTE on port 11112."""
    data_dir = Path(data_dir).absolute()
    return Config(
        node=Node(data_dir=data_dir),
        listener=(Listener(),),
        destination=(FolderDestination(name="images", path=data_dir / "images"),),
        route=(Route(name="all", to=("images",)),),
    )


def load(path: Path | str) -> Config:
    """The configuration in this file. Raises ConfigError, also if the file cannot be read."""
    path = Path(path)
    return loads(_read(path), str(path), path.absolute())


def loads(text: str, name: str = DEFAULT_FILE, path: Path | None = None) -> Config:
    """The configuration in this text; `name` is the file's name in messages.

    Relative paths are below the folder of `path`, or below the current folder without one. Raises ConfigError.
    """
    text = text.removeprefix("\ufeff")
    raw = _parse(text, name)
    problems = Problems(name, Positions(text))
    parts = _Reader(raw, problems, path.parent if path else Path.cwd()).read()
    check(parts, problems.add)
    if problems or parts.node is None:
        raise ConfigError(problems.in_order())
    return Config(
        node=parts.node,
        listener=tuple(table for _, table in parts.listeners),
        destination=tuple(table for _, table in parts.destinations),
        group=tuple(table for _, table in parts.groups),
        route=tuple(table for _, table in parts.routes),
        peer=tuple(table for _, table in parts.peers),
        transform=parts.transforms,
        test=tuple(table for _, table in parts.cases),
        archive=parts.archive,
        watch=tuple(table for _, table in parts.watches),
        path=path,
    )


# --- Bytes to values -------------------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _unreadable(path, 'no such file; "asyncroute init" writes one to start from') from None
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > _LARGEST_FILE:
        raise _unreadable(path, "is larger than 4 MiB: not a configuration")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, f"is not UTF-8 text (byte 0x{data[error.start]:02x})", line) from None


def _unreadable(path: Path, text: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(str(path), "", text, line)])


_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_HINTS = {
    "Invalid value": "text must be in quotes, true and false in small letters",
    "Unescaped '\\' in a string": "write paths with / or in single quotes",
    "Illegal character '\\n'": "a quote or bracket is not closed",
}


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError([Problem(name, "", "not valid TOML: brackets are nested too deeply")]) from None
    except ValueError as error:  # TOMLDecodeError, and int() with thousands of digits
        raise ConfigError([_syntax_problem(str(error), text, name)]) from None


def _syntax_problem(message: str, text: str, name: str) -> Problem:
    found = _PLACE.search(message)
    what = message[: found.start()] if found else message
    line, column = (int(found[1]), int(found[2])) if found and found[1] else (None, None)
    if found and line is None:
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
    hint = next((f" ({hint})" for start, hint in _HINTS.items() if what.startswith(start)), "")
    words = "".join(c if c.isprintable() else " " for c in what)
    return Problem(name, "", f"not valid TOML: {words[:1].lower()}{words[1:]}{hint}", line, column)


# --- Values to tables ------------------------------------------------------------------------------------------------


class _Reader:
    """Reads the tables one by one, so that each can be wrong by itself."""

    def __init__(self, raw: Mapping[str, Any], problems: Problems, base: Path) -> None:
        self._raw = raw
        self._problems = problems
        self._base = base

    def read(self) -> Parts:
        self._check_top_level()
        parts = Parts(node=self._single("node", Node, {}), archive=self._single("archive", Archive))
        parts.listeners = self._array("listener", Listener)
        parts.all_listeners = len(parts.listeners) == len(self._elements("listener"))
        parts.destinations = [
            (index, table)
            for index, value in enumerate(self._elements("destination"))
            if (table := self._destination(index, value)) is not None
        ]
        parts.groups = self._array("group", Group)
        parts.routes = self._array("route", Route)
        parts.peers = self._array("peer", Peer)
        parts.transforms = self._transforms()
        parts.transform_names = tuple(self._raw["transform"]) if isinstance(self._raw.get("transform"), dict) else ()
        parts.cases = self._array("test", Case)
        parts.watches = self._array("watch", Watch)
        parts.names = {array: self._names(array) for array in ("destination", "group", "route", "watch", "test")}
        return parts

    def _check_top_level(self) -> None:
        for key in self._raw:
            if key not in _TABLES:
                self._problems.add((key,), unknown_key(key, _TABLES, LATER_TABLES))
        for array in _ARRAYS:
            value = self._raw.get(array, [])
            if not isinstance(value, list):
                self._problems.add((array,), f"must be written [[{array}]], with double brackets")
            elif not value and array in _NEEDED:
                self._problems.add((array,), f"at least one [[{array}]] is needed")

    def _elements(self, array: str) -> list[Any]:
        value = self._raw.get(array, [])
        return value if isinstance(value, list) else []

    def _names(self, array: str) -> list[tuple[int, str]]:
        """Names as written, of tables that cannot be read as well."""
        named = [(n, each.get("name")) for n, each in enumerate(self._elements(array)) if isinstance(each, dict)]
        return [(n, name) for n, name in named if isinstance(name, str)]

    def _single(self, key: str, model: type[_AnyTable], default: Mapping[str, Any] | None = None) -> _AnyTable | None:
        value = self._raw.get(key, default)
        if isinstance(value, list):
            self._problems.add((key,), f"must be written [{key}], with single brackets")
            return None
        return self._table(model, value, (key,)) if value is not None else None

    def _array(self, array: str, model: type[_AnyTable]) -> list[tuple[int, _AnyTable]]:
        tables = [(n, self._table(model, value, (array, n))) for n, value in enumerate(self._elements(array))]
        return [(n, table) for n, table in tables if table is not None]

    def _transforms(self) -> dict[str, Transform]:
        raw = self._raw.get("transform", {})
        if not isinstance(raw, dict):
            self._problems.add(("transform",), "must be written [transform.NAME], with single brackets and a name")
            return {}
        add, invalid = self._problems.add, self._problems.add_invalid
        read = {n: read_transform(value, ("transform", n), self._base, add, invalid) for n, value in raw.items()}
        return {name: found for name, found in read.items() if found is not None}

    def _destination(self, index: int, value: Any) -> Destination | None:
        loc = ("destination", index)
        kind = value.get("kind") if isinstance(value, dict) else "dicom"
        model = DESTINATION_KINDS.get(kind) if isinstance(kind, str) else None
        if model is None:
            self._problems.add((*loc, "kind"), _kind_problem(kind))
            return None
        return self._table(model, value, loc)

    def _table(self, model: type[_AnyTable], value: Any, loc: Loc) -> _AnyTable | None:
        try:
            return model.model_validate(value, context={"base": self._base})
        except ValidationError as error:
            self._problems.add_invalid(model, loc, error)
            return None


def _kind_problem(kind: object) -> str:
    choices = one_of(DESTINATION_KINDS)
    if kind is None:
        return f"is missing: {choices}"
    if kind in LATER_KINDS:
        return f"{quote(str(kind))} is {NOT_YET}; {choices} work today"
    return f"must be {choices}, not {show(kind)}"
