"""The archive of a running router: opened, changed and ended as the configuration says.

Guarantees: without ``[archive]`` nothing here runs, and a file is removed when its image is done. Failures:
``StorageFault`` where the index cannot be used; a reload then leaves everything as it was.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from asyncroute.archive.replays import Replays
from asyncroute.archive.room import Archive
from asyncroute.config import Config
from asyncroute.journal.archive import ArchiveIndex
from asyncroute.journal.base import Event

if TYPE_CHECKING:
    from asyncroute.app import App

REPLAY_THREADS = 2


class Keeping:
    """See module. The loop's thread only."""

    def __init__(self, app: App) -> None:
        self.archive: Archive | None = None
        self._app = app
        self._replays: Replays | None = None
        self._index: ArchiveIndex | None = None

    def open(self, config: Config) -> None:
        """Open the index before anything is kept.

        Raises:
            StorageFault: it cannot be used.
        """
        self._index = self.index(config)

    def begin(self) -> None:
        """Keep what is done with from now on, if the configuration says so."""
        self.change(self._app.config, self._index)

    def index(self, config: Config) -> ArchiveIndex | None:
        """The index of an archive that ``config`` has and that does not run yet, open.

        Raises:
            StorageFault: it cannot be used.
        """
        if config.archive is None or self.archive is not None:
            return None
        return ArchiveIndex.open(config.node.data_dir, config.node.durability)

    def change(self, config: Config, index: ArchiveIndex | None) -> None:
        """Keep what is done with as ``config`` says, from now on. ``index``: see there."""
        app = self._app
        terms = config.archive.terms if config.archive is not None else None
        if terms is None:
            app.releaser.keeping = None
            self.close(wait=False)
        elif self.archive is not None:
            self.archive.change(terms)
        elif index is not None:
            self._index = index
            app.releaser.keeping = self.archive = Archive(index, app.spool, terms, config.node.durability)
            self.archive.start()
            self._replays = self._made(self.archive)
            self._replays.start()

    def _made(self, archive: Archive) -> Replays:
        app = self._app

        def known(name: str) -> bool:
            return app.config.destination(name) is not None or any(name == g.name for g in app.config.groups)

        def record(number: int, text: str) -> None:
            app.committer.record(Event(time(), "replayed", text, number))

        readers = app.pool(REPLAY_THREADS, "replay")
        return Replays(archive.index, app.spool, archive.folder_of, app.admission, known, record, readers)

    async def stop_replays(self) -> None:
        """Nothing more is sent again. Idempotent."""
        if self._replays is not None:
            await self._replays.stop()

    def halt(self) -> None:
        """Begin no other move."""
        if self.archive is not None:
            self.archive.halt.set()

    def close(self, wait: bool = True) -> None:
        """End it. Idempotent."""
        archive, self.archive = self.archive, None
        index, self._index = self._index, None
        if self._replays is not None:
            self._replays.halt()
        if archive is not None:
            archive.close(wait)
        if index is not None:
            index.close()
