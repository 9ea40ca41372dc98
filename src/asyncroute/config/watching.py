"""``[[watch]]``: folders in which batches of images are dropped, or lie.

Guarantees: a watch that exists is valid by itself; what depends on the rest of the file, and on the file system, is
`check_watches`' matter. Failures: pydantic's ValidationError; problems are reported through `report(loc, text)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo, field_validator, model_validator

from asyncroute.config.destinations import Destination, FolderDestination
from asyncroute.config.fields import AbsolutePath, AeTitle, Duration, Flag, Listed, Name, Size, Timeout, choice, whole
from asyncroute.config.table import Table
from asyncroute.config.words import Invalid, Loc, did_you_mean, quote, show
from asyncroute.core.batches import Terms

Report = Callable[[Loc, str], None]

MOVE = "move:"
_AFTER = 'must be "leave", "delete" or "move:DIR"'


def _after(value: Any, info: ValidationInfo) -> str:
    if value in ("leave", "delete"):
        return str(value)
    if not isinstance(value, str) or not value.startswith(MOVE):
        raise Invalid(f"{_AFTER}, not {show(value)}")
    target = value.removeprefix(MOVE).strip()
    if not target or "\0" in target:
        raise Invalid(f"{_AFTER}; {quote(value)} names no folder")
    base = (info.context or {}).get("base") or Path.cwd()
    try:
        return MOVE + os.path.normpath(base / Path(target).expanduser())
    except RuntimeError:
        raise Invalid(f"has a home folder that is not known: {show(target)}") from None


def _subfolder(value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"must be text in quotes, not {show(value)}")
    if value and (Path(value).is_absolute() or ".." in Path(value).parts or "\0" in value):
        raise Invalid(f"must be a folder below the path, not {show(value)}")
    return value


class Watch(Table):
    """``[[watch]]``: a folder where each entry is a batch, or several folders whose batches a person starts."""

    name: Name
    mode: Annotated[Literal["stream", "batch"], choice("stream", "batch")] = "stream"
    path: AbsolutePath | None = None
    paths: Annotated[tuple[AbsolutePath, ...], Listed] = ()
    subfolder: Annotated[str, BeforeValidator(_subfolder)] = ""
    workers: Annotated[int, whole(1, 64)] = 4
    settle: Duration = 5.0
    poll: Timeout = 30.0
    strict: Flag = False
    after: Annotated[str, BeforeValidator(_after)] = "leave"
    max_spool: Size = 0
    calling_aet: AeTitle = "ASYNCROUTE"

    @field_validator("paths", "subfolder", "settle", "poll")
    @classmethod
    def _of_its_mode(cls, value: Any, info: ValidationInfo) -> Any:
        batch = info.data.get("mode") == "batch"
        if batch and info.field_name == "subfolder" and value:
            raise Invalid('is for mode "stream"; with mode "batch": asyncroute batch start NAME --subfolder S')
        if batch and info.field_name in ("settle", "poll"):
            raise Invalid('is for mode "stream" only')
        if not batch and info.field_name == "paths" and value:
            raise Invalid('is for mode "batch"; mode "stream" has one "path"')
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> Watch:
        if self.mode == "stream" and self.path is None:
            raise Invalid('needs a "path"')
        if self.mode == "batch" and bool(self.paths) == (self.path is not None):
            raise Invalid('needs "paths", a list of folders (or one "path")')
        return self

    @property
    def bases(self) -> tuple[Path, ...]:
        """The folders whose entries are batches."""
        paths = self.paths or ((self.path / self.subfolder,) if self.path is not None else ())
        return tuple(Path(os.path.normpath(path)) for path in paths)

    @property
    def terms(self) -> Terms:
        """The same, as batches need it."""
        kind, _, target = self.after.partition(":")
        return Terms(
            self.name,
            self.mode == "stream",
            self.bases,
            self.workers,
            self.settle,
            self.poll,
            self.strict,
            kind,
            Path(target) if target else None,
            self.max_spool,
            self.calling_aet,
        )


# --- between tables ---------------------------------------------------------------------------------------------------


def check_watches(
    watches: Sequence[tuple[int, Watch]],
    data_dir: Path | None,
    destinations: Iterable[tuple[int, Destination]],
    report: Report,
) -> None:
    """Folders that do not exist, lie within each other, or are written to by this router itself."""
    seen: list[tuple[Path, str]] = []
    for index, watch in watches:
        for n, base in enumerate(watch.bases):
            loc: Loc = ("watch", index, "paths", n) if watch.paths else ("watch", index, "path")
            what = _wrong_base(base, data_dir, destinations) or _overlap(base, seen)
            if what:
                report(loc, what)
            seen.append((base, f"watch[{index}]"))
    for index, watch in watches:
        what = _wrong_target(watch, seen, data_dir)
        if what:
            report(("watch", index, "after"), what)


def _wrong_base(base: Path, data_dir: Path | None, destinations: Iterable[tuple[int, Destination]]) -> str:
    if not os.path.lexists(base):
        return f"no such folder: {quote(str(base))}"
    if not base.is_dir():
        return f"is not a folder: {quote(str(base))}"
    if not os.access(base, os.R_OK | os.X_OK):
        return f"may not be read by this account: {quote(str(base))}"
    if data_dir is not None and _nested(base, data_dir):
        return f"must not be where this router keeps its own files: {quote(str(base))}"
    for n, each in destinations:
        if isinstance(each, FolderDestination) and _nested(base, each.path):
            return f"is where destination[{n}] writes to: images would go round for ever"
    return ""


def _overlap(base: Path, seen: Iterable[tuple[Path, str]]) -> str:
    for other, name in seen:
        if _nested(base, other):
            return f"{quote(str(base))} and {quote(str(other))} of {name} lie within each other: each needs its own"
    return ""


def _wrong_target(watch: Watch, bases: Iterable[tuple[Path, str]], data_dir: Path | None) -> str:
    target = watch.terms.move_to
    if target is None:
        return ""
    if target.exists() and not target.is_dir():
        return f"is not a folder: {quote(str(target))}"
    for base, name in bases:
        if _inside(target, base):
            return f"moves into a folder that {name} reads: {quote(str(target))}"
    if data_dir is not None and _inside(target, data_dir):
        return f"must not be where this router keeps its own files: {quote(str(target))}"
    return ""


def check_watch_names(names: Sequence[str], text: str) -> str:
    """What is wrong with ``watch = text`` in a route; empty: nothing."""
    wild = set("*?[") & set(text) or text.startswith("re:") or not text
    if wild or text in names:
        return ""
    there_is = f"; there is {', '.join(map(quote, names))}" if names else "; there is no [[watch]]"
    return f"no watch is called {quote(text)}{did_you_mean(text, names, there_is)}"


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _inside(path: Path, folder: Path) -> bool:
    one, other = _real(path), _real(folder)
    return one == other or other in one.parents


def _nested(one: Path, other: Path) -> bool:
    return _inside(one, other) or _inside(other, one)
