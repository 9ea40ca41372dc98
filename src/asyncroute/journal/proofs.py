"""What the journal knows of deliveries that wait for proof, for the event loop (``journal.base.Proofs``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from asyncroute.core.proof import Inquiry, Kept, Pledge, Reference, Unproven
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean, json_ids, uid_key

_SQL = load("proof.sql")
Ask = Callable[..., Coroutine[Any, Any, list[tuple[Any, ...]]]]


class SqliteProofs:
    """See module. ``rows``: all rows of a statement."""

    def __init__(self, rows: Ask) -> None:
        self._rows = rows

    async def counts(self) -> dict[str, int]:
        """How many there are, by destination."""
        if not await self._rows(_SQL["exists"]):
            return {}
        return dict(await self._rows(_SQL["counts"]))

    async def of(self, ids: Sequence[int]) -> dict[tuple[int, str], str]:
        """See ``journal.base.Proofs``."""
        if not await self._rows(_SQL["exists"]):
            return {}
        rows = await self._rows(_SQL["of"], (json_ids(ids),))
        return {(instance_id, destination): uid for instance_id, destination, uid in rows}

    async def waiting(self, destination: str, limit: int, after: int = 0) -> list[Unproven]:
        """See ``journal.base.Proofs``."""
        return [Unproven(*row) for row in await self._rows(_SQL["waiting"], (clean(destination), after, limit))]

    async def inquiry(self, transaction_uid: str) -> Inquiry | None:
        """See ``journal.base.Proofs``."""
        uid = clean(transaction_uid)
        named = await self._rows(_SQL["inquired"], (uid,))
        if not named:
            return None
        rows = await self._rows(_SQL["inquiry"], (uid,))
        return Inquiry(transaction_uid, named[0][0], [_member(*row) for row in rows])

    async def next_due(self, destination: str) -> float | None:
        """See ``journal.base.Proofs``."""
        rows = await self._rows(_SQL["next_due"], (clean(destination),))
        return float(rows[0][0]) if rows else None

    async def pledges(self) -> list[int]:
        """See ``journal.base.Proofs``."""
        return [id_ for (id_,) in await self._rows(_SQL["pledges"])]

    async def pledge(self, pledge_id: int) -> Pledge | None:
        """See ``journal.base.Proofs``."""
        for id_, uid, calling_aet, called_aet, until, images in await self._rows(_SQL["pledge_of"], (pledge_id,)):
            references = tuple(Reference(*pair) for pair in json.loads(images))
            return Pledge(uid, calling_aet, called_aet, until, references, id_)
        return None

    async def kept(self, references: Sequence[Reference]) -> list[Kept]:
        """See ``journal.base.Proofs``."""
        keys = [(uid_key(it.sop_instance_uid), clean(it.sop_instance_uid)) for it in references]
        return [Kept(*row) for row in await self._rows(_SQL["kept"], (json.dumps(keys),))]


def _member(*row: Any) -> Unproven:
    it = Unproven(*row)
    return it._replace(open=bool(it.open), newest=bool(it.newest))
