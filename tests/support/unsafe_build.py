"""The program with one of its syncs switched off: ``python -m tests.support.unsafe_build WHAT serve -c FILE``.

``WHAT+spare``: besides, spare files wait for as long as it takes.
A test that claims to see lost images has to see those of each of these builds. Nothing of this is in the product.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from asyncroute.cli import main
from asyncroute.core.model import Instance
from asyncroute.forward import folder
from asyncroute.forward.folder import FolderForwarder
from asyncroute.journal import place, sqlite
from asyncroute.spool import local, spare
from asyncroute.spool.streamed import StreamedFile
from asyncroute.spool.tree import Tree


def nothing(*_: object) -> None:
    """In place of a sync."""


@contextlib.contextmanager
def nothing_after(*_: object) -> Iterator[None]:
    """In place of what syncs after its body."""
    yield


class Without:
    """A module or an object, but for some of its functions, which do nothing."""

    def __init__(self, whole: object, *names: str) -> None:
        self.__dict__.update(dict.fromkeys(names, nothing))
        self._whole = whole

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


def replace(owner: object, name: str, other: object) -> None:
    """Another attribute, for as long as this process lives."""
    mock.patch.object(owner, name, other).start()


def streamed_file() -> None:
    """A streamed image's own syncs: every 16 MiB, and at its end."""
    whole = StreamedFile.__init__

    def begin(self: StreamedFile, tree: Tree, instance: Instance) -> None:
        whole(self, tree, instance)
        replace(self, "_tree", Without(tree, "sync_file"))

    replace(StreamedFile, "__init__", begin)


def new_folder() -> None:
    """The spool's root, when a folder of a thousand images is made."""
    whole = Tree._sync

    def sync(self: Tree, how: Callable[[int], None], number: int, path: str, **more: bool) -> None:
        if path != str(self.root):
            whole(self, how, number, path, **more)

    replace(Tree, "_sync", sync)


def data_folder() -> None:
    """What is above the data folder, when that is made."""
    replace(place, "sync_folder", nothing)
    replace(sqlite, "sync_folder", nothing)


def written_name() -> None:
    """The folder in which a folder destination has named a file."""
    whole = FolderForwarder._syncing

    def make(self: FolderForwarder, path: Path, above: Path) -> None:
        with whole(self, above), contextlib.suppress(FileExistsError):
            path.mkdir()

    replace(FolderForwarder, "_make_folder", make)
    replace(FolderForwarder, "_syncing", nothing_after)


def written_folder() -> None:
    """What is above a folder that a folder destination has made."""

    def make(_: FolderForwarder, path: Path, __: Path) -> None:
        path.mkdir(exist_ok=True)

    replace(FolderForwarder, "_make_folder", make)


SWITCHES: dict[str, Callable[[], None]] = {
    "nothing": nothing,
    "file": lambda: replace(local._Group, "sync_files", nothing),
    "streamed-file": streamed_file,
    "folder": lambda: replace(Tree, "sync_folder", nothing),
    "new-folder": new_folder,
    "spool-folder": lambda: replace(Tree, "_sync_parents", nothing),
    "data-folder": data_folder,
    "journal": lambda: place.SYNCHRONOUS.update({"power-loss": place.SYNCHRONOUS["process-crash"]}),
    "written-file": lambda: replace(folder, "os", Without(os, "fdatasync")),
    "written-name": written_name,
    "written-folder": written_folder,
}
"""What each sync would have made durable."""

if __name__ == "__main__":
    what, plus, _ = sys.argv.pop(1).partition("+")
    SWITCHES[what]()
    spare.STAY = 3600.0 if plus else spare.STAY
    main()
