"""Studies of groups of destinations, as statements inside an open transaction: which member has them, what is kept.

Guarantees: an image of a group is kept, and known to be its study's, from the transaction that admits it on; a study
moves to another member as a whole. What a group's studies cost is paid by images of groups alone.
Failures: SQLite's own errors.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from asyncroute.core.groups import EndStudies, Move, Regrouped
from asyncroute.core.model import RouteHit
from asyncroute.journal.bulk import Row, Rows
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean, json_ids

_SQL = load("groups.sql")
_BULK = {name: Rows(_SQL[name]) for name in ("keep", "mark")}

Number = Callable[[str], int]
"""The number of a destination, which is made if it is new."""


class Grouping:
    """See module. One group commit's; ``since``: the journal's clock, ``at``: the time for people."""

    def __init__(self, connection: sqlite3.Connection, number: Number, since: float, at: float) -> None:
        self.news = Regrouped()
        self._connection = connection
        self._number = number
        self._since = since
        self._at = at

    def enter(self, hits: Iterable[tuple[int, RouteHit]]) -> None:
        """These images' hits, which have deliveries by now, are of their groups' studies."""
        studies: dict[tuple[str, str], int] = {}
        kept: list[Row] = []
        marked: list[Row] = []
        for instance_id, hit in hits:
            if not hit.direct:
                marked.append((instance_id, self._number(hit.destination)))
            for group, study in hit.groups:
                known = studies.get((group, study))
                if known is None:
                    known = studies[group, study] = self._study(group, study, hit.destination)
                kept.append((known, instance_id, clean(hit.route)))
        _BULK["keep"].run(self._connection, kept)
        _BULK["mark"].run(self._connection, marked)

    def _study(self, group: str, study: str, member: str) -> int:
        """Its number. It may be another member's by now: then that is told, for its images have to follow."""
        values = {"name": clean(group), "study": clean(study), "member": self._number(member), "since": self._since}
        ((number, actual),) = self._connection.execute(_SQL["enter"], values).fetchall()
        if actual != clean(member):
            self.news.members.append((group, study, actual, member))
        return int(number)

    def act(self, action: Move | EndStudies) -> tuple[int, list[int]]:
        """What it touched, and the images whose files may be free now."""
        return (self.move(action), []) if isinstance(action, Move) else self.end(action)

    def move(self, action: Move) -> int:
        """See ``journal.base.Move``."""
        found = self._connection.execute(_SQL["find"], (clean(action.group), clean(action.study))).fetchall()
        if not found:
            return 0
        values = {
            "study": found[0][0],
            "member": self._number(action.member),
            "since": self._since,
            "at": self._at,
        }
        given = self._run("give", values)
        taken = self._run("take", values)
        self._run("move", values)
        self.news.given += [(id_, action.member, size) for id_, size in given]
        self.news.taken += [(id_, name, size, bool(dead)) for id_, name, size, dead in taken]
        self._tell(action, found[0][1], [id_ for id_, _ in given])
        return len(given)

    def _tell(self, action: Move, before: str, ids: Sequence[int]) -> None:
        if ids:
            text = f"group {action.group}: from {before} to {action.member}: {action.reason}"
            values = {"at": self._at, "text": clean(text), "destination": clean(action.member), "ids": json_ids(ids)}
            self._connection.execute(_SQL["tell"], values)

    def end(self, action: EndStudies) -> tuple[int, list[int]]:
        """See ``journal.base.EndStudies``: the number of studies, and the images whose files may be free now."""
        values = {
            "since": self._since,
            "keep": json.dumps({str(clean(name)): seconds for name, seconds in action.keep.items()}),
            "longest": action.longest,
            "limit": action.limit,
        }
        quiet = {number for (number,) in self._run("quiet", values)}
        if not quiet:
            return 0, []
        going = self._run("go_on", {"since": self._since, "studies": json_ids(quiet)})
        over = {"studies": json_ids(quiet.difference(number for (number,) in going))}
        freed = [instance_id for (instance_id,) in self._run("let_go", over)]
        ended = self._run("end", over)
        self.news.ended += ended
        return len(ended), freed

    def _run(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self._connection.execute(_SQL[name], values).fetchall()
