"""What the journal knows of batches, for the event loop (``batch.base.Batches``)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any

from asyncroute.batch.base import Admitted, BatchFilter, Copy, Known
from asyncroute.core.batches import Batch, BatchState, Counts, Leftover, Stamp, Tally, Trouble
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean, json_ids, uid_key, unsigned

_SQL = load("batches.sql")
Ask = Callable[..., Coroutine[Any, Any, list[tuple[Any, ...]]]]
_DAY = (
    *("day", "watch", "batches", "done", "empty", "error", "files", "images", "bytes", "not_dicom", "duplicates"),
    *("delivered", "held", "failed", "errors", "warnings", "seconds"),
)


class SqliteBatches:
    """See module. ``rows``: all rows of a statement."""

    def __init__(self, rows: Ask) -> None:
        self._rows = rows

    async def exist(self) -> bool:
        """Whether this journal knows batches: an older program's does not."""
        return bool(await self._rows(_SQL["exists"]))

    async def stopped(self) -> set[str]:
        """See ``batch.base.Batches``."""
        return {name for (name,) in await self._rows(_SQL["stopped"])} if await self.exist() else set()

    async def known(self, watch: str) -> dict[str, Known]:
        """See ``batch.base.Batches``."""
        rows = await self._rows(_SQL["known"], (clean(watch),))
        return {
            os.fsdecode(path): Known(Stamp(unsigned(inode), changed), unsigned(sign))
            for path, inode, changed, sign, _ in rows
        }

    async def next(self, watch: str, exclude: Collection[int], limit: int) -> list[Batch]:
        """See ``batch.base.Batches``."""
        values = {"watch": clean(watch), "exclude": json_ids(exclude), "limit": limit}
        return [_batch(row) for row in await self._rows(_SQL["next"], values)]

    async def owed(self, watch: str) -> list[Batch]:
        """See ``batch.base.Batches``."""
        return [_batch(row) for row in await self._rows(_SQL["owed"], (clean(watch),))]

    async def open(self) -> dict[tuple[str, BatchState], int]:
        """See ``batch.base.Batches``."""
        if not await self.exist():
            return {}
        return {(watch, BatchState(state)): n for watch, state, n in await self._rows(_SQL["open"])}

    async def errors(self) -> dict[str, int]:
        """See ``batch.base.Batches``."""
        return dict(await self._rows(_SQL["errors"])) if await self.exist() else {}

    async def unfinished(self) -> set[str]:
        """See ``batch.base.Batches``."""
        return {watch for (watch,) in await self._rows(_SQL["unfinished"])} if await self.exist() else set()

    async def one(self, batch: int) -> Batch | None:
        """See ``batch.base.Batches``."""
        for row in await self._rows(_SQL["one"], (batch,)):
            return _batch(row)
        return None

    async def list(self, which: BatchFilter, limit: int) -> list[Batch]:
        """See ``batch.base.Batches``."""
        if not await self.exist():
            return []
        values = which._asdict() | {"limit": limit}
        return [_batch(row) for row in await self._rows(_SQL["list"], values)]

    async def troubles(self, batch: int, limit: int) -> Sequence[Trouble]:
        """See ``batch.base.Batches``."""
        rows = await self._rows(_SQL["troubles"], (batch, limit))
        return [Trouble(file, text, bool(error)) for error, file, text in rows]

    async def admitted(self, batch: int, files: Iterable[str]) -> dict[str, Admitted]:
        """See ``batch.base.Batches``."""
        shown = {str(clean(file)): file for file in files}
        values = {"batch": batch, "files": json.dumps(list(shown))}
        rows = sorted(await self._rows(_SQL["admitted"], values), key=lambda row: row[2])  # the last of each stays
        return {shown[file]: Admitted(size, at) for file, size, at in rows}

    async def copies(self, batch: int, uids: Iterable[str]) -> dict[str, Sequence[Copy]]:
        """See ``batch.base.Batches``."""
        values = {"batch": batch, "keys": json_ids({uid_key(uid) for uid in uids})}
        found: dict[str, list[Copy]] = {}
        for _, file, uid, size, checksum in await self._rows(_SQL["copies"], values):
            found.setdefault(uid, []).append(Copy(file, size, unsigned(checksum)))
        return dict(found)

    async def pending(self, batch: int, after: int) -> int | None:
        """See ``batch.base.Batches``."""
        rows = await self._rows(_SQL["pending"], {"batch": batch, "after": after})
        return int(rows[0][0]) if rows else None

    async def tally(self, batch: int) -> Tally:
        """See ``batch.base.Batches``."""
        return Tally(*(await self._rows(_SQL["tally"], (batch,)))[0])

    async def many(self, batch: int) -> tuple[int, int, int]:
        """See ``batch.base.Batches``."""
        patients, studies, accessions = (await self._rows(_SQL["many"], (batch,)))[0]
        return patients, studies, accessions

    async def unwell(self, batch: int, after: int, limit: int) -> tuple[Sequence[int], Sequence[int]]:
        """See ``batch.base.Batches``."""
        rows = await self._rows(_SQL["unwell"], {"batch": batch, "after": after, "limit": limit})
        return [id_ for id_, held, _ in rows if held], [id_ for id_, _, failed in rows if failed]

    async def failures(self, batch: int, limit: int) -> Sequence[tuple[str, str, str]]:
        """See ``batch.base.Batches``."""
        return [(file, to, why) for file, to, why in await self._rows(_SQL["failures"], _upto(batch, limit))]

    async def days(self, watch: str | None, since: float | None) -> Sequence[dict[str, Any]]:
        """See ``batch.base.Batches``."""
        if not await self.exist():
            return []
        return [dict(zip(_DAY, row, strict=True)) for row in await self._rows(_SQL["days"], _since(watch, since))]


def _upto(batch: int, limit: int) -> dict[str, int]:
    return {"batch": batch, "limit": limit}


def _since(watch: str | None, since: float | None) -> dict[str, object]:
    return {"watch": watch, "since": since}


def _batch(row: tuple[Any, ...]) -> Batch:
    id_, watch, name, run, path, inode, changed, state, leftover, after, *rest = row
    queued_at, begun_at, read_at, ended_at, signature, cancelled, dismissed, reason, *numbers = rest
    *counted, delivered, held, failed, given_up = numbers
    counts = Counts(*counted)
    return Batch(
        id_,
        watch,
        name,
        run,
        os.fsdecode(path),
        Stamp(unsigned(inode), changed),
        BatchState(state),
        Leftover(leftover),
        after,
        queued_at,
        begun_at,
        read_at,
        ended_at,
        unsigned(signature),
        bool(cancelled),
        bool(dismissed),
        reason,
        counts,
        Tally(counts.images, counts.bytes, 0, delivered, held, failed, given_up),
    )
