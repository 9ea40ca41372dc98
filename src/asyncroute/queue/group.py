"""Which member of a group a study goes to, and stays with.

A study, of whatever senders, belongs to the first member in the group's order for it that is well when its first image
comes. It stays there until it is over, or until that member fails and the ``keeper`` moves it. The journal has the last
word: what is forgotten here (at most ``MOST`` studies are remembered, the last active ones) is corrected by it.
Guarantees: synchronous, no I/O. Failures: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from asyncroute.core.groups import Group
from asyncroute.core.model import Delivery, Instance, RouteHit

MOST = 10_000

HELD = "held by a person"
"""Why a member gets no new studies though it is not ill: what it has waits for it."""

Study = tuple[str, str]
"""The name of a group, and a study as groups know it."""


def study_of(image: Instance | Delivery) -> str:
    """What groups keep together: a study, or an image that names none."""
    return image.study_uid or image.sop_instance_uid


class Groups:
    """See module. ``ill``: why a destination gets no new studies; empty: it is well. The loop's thread only."""

    def __init__(self, groups: Iterable[Group], ill: Callable[[str], str] = lambda name: "") -> None:
        self.groups: dict[str, Group] = {}
        self.owing: dict[tuple[str, str], None] = {}
        """(group, member) that may be owed images of the group."""
        self.strays: dict[Study, set[str]] = {}
        """Studies of which images are, or may be, at other destinations than their member, and where."""
        self.incomplete = False
        """Whether the journal may know more studies."""
        self.changed = False
        """Whether there are others than before, so that other studies may be over."""
        self._studies: dict[Study, str] = {}
        self._ill = ill
        self.change(groups)

    def change(self, groups: Iterable[Group]) -> None:
        """Other groups, after a reload. Studies at members that are no more are for the keeper to move."""
        self.groups = {group.name: group for group in groups}
        self.changed = True
        for (name, study), member in list(self._studies.items()):
            if name not in self.groups:
                del self._studies[name, study]
                self.incomplete = True
            elif member not in self.groups[name].members:
                self.owing[name, member] = None

    # ---- images on their way in

    def addressed(self, image: Instance, hits: tuple[RouteHit, ...]) -> tuple[RouteHit, ...]:
        """``hits`` with members in the place of groups; each destination once."""
        groups = self.groups
        if not groups or not any(hit.destination in groups for hit in hits):
            return hits
        found: dict[str, RouteHit] = {}
        for hit in hits:
            group = groups.get(hit.destination)
            if group is None:
                here = hit
            else:
                study = study_of(image)
                place = self.member(group, study)
                here = RouteHit(hit.route, place, hit.priority, hit.wait, ((group.name, study),), False)
            before = found.get(here.destination)
            found[here.destination] = here if before is None else _both(before, here)
        return tuple(found.values())

    def member(self, group: Group, study: str) -> str:
        """Whose the study is; from now on, if it is new."""
        known = self._studies.pop((group.name, study), None)
        if known is None or known not in group.members:
            known = self.choose(group, study)
        self.adopt(group.name, study, known)
        return known

    def choose(self, group: Group, study: str) -> str:
        """The first member that is well; of none, the first that gets well by itself."""
        ranked = group.ranked(study)
        ill = {name: self._ill(name) for name in ranked}
        well = (name for name in ranked if not ill[name])
        return next(well, None) or next((name for name in ranked if ill[name] != HELD), ranked[0])

    def another(self, group: Group, study: str, member: str) -> str | None:
        """A member other than ``member`` that is well; None: there is none."""
        return next((name for name in group.ranked(study) if name != member and not self._ill(name)), None)

    def elsewhere(self, hit: RouteHit) -> bool:
        """An image that is safe now: whether its study has moved, so that it is not for ``hit.destination``."""
        gone = 0
        for name, study in hit.groups:
            member = self._studies.get((name, study), hit.destination)
            self.owing[name, hit.destination] = None
            if member != hit.destination:
                self.strays.setdefault((name, study), set()).add(hit.destination)
                gone += 1
        return gone == len(hit.groups) and not hit.direct

    def owe(self, member: str) -> None:
        """``member`` may be owed images again that it was not when it was last looked at."""
        self.owing.update(dict.fromkeys((name, member) for name in self.groups))

    # ---- what is so by now

    def adopt(self, name: str, study: str, member: str) -> None:
        """The study is this member's."""
        self._studies.pop((name, study), None)
        self._studies[name, study] = member
        if len(self._studies) > MOST:
            del self._studies[next(iter(self._studies))]
            self.incomplete = True

    def corrected(self, name: str, study: str, member: str, routed: str) -> None:
        """The journal has the study at ``member``, and an image of it went to ``routed``."""
        group = self.groups.get(name)
        if group is None:
            return
        if member in group.members:
            self.adopt(name, study, member)
        self.strays.setdefault((name, study), set()).update((routed, member))

    def ended(self, name: str, study: str) -> None:
        """The study is over: if more of it comes, that is a new one."""
        self._studies.pop((name, study), None)

    @property
    def count(self) -> int:
        """Studies that are remembered."""
        return len(self._studies)

    @property
    def any(self) -> bool:
        """Whether there may be studies that are not over."""
        return bool(self._studies) or self.incomplete

    # ---- for a person

    def why_not(self, group: Group, member: str) -> str:
        """Why ``member`` should not have studies of the group; empty: it may."""
        return self._ill(member) if member in group.members else f"{member} is no longer a member"

    def describe(self, state: Mapping[str, str]) -> list[dict[str, Any]]:
        """The ``groups`` of ``status --json``. ``state``: of destinations."""
        counts: dict[str, int] = {}
        for name, _ in self._studies:
            counts[name] = counts.get(name, 0) + 1
        return [self._line(group, state, counts.get(group.name, 0)) for group in self.groups.values()]

    def _line(self, group: Group, state: Mapping[str, str], studies: int) -> dict[str, Any]:
        ill = {name: self._ill(name) for name in group.members}
        well = [name for name in group.members if not ill[name]]
        active = well if group.balance else well[:1]
        before = group.members if group.balance or not well else group.members[: group.members.index(well[0])]
        return {
            "name": group.name,
            "mode": "balance" if group.balance else "failover",
            "members": [{"name": name, "state": state.get(name, "")} for name in group.members],
            "active": active,
            "why": "; ".join(f"{name}: {ill[name]}" for name in before if ill[name]),
            "studies": studies,
        }


def _both(one: RouteHit, other: RouteHit) -> RouteHit:
    """One delivery for two reasons: of the route that names the destination itself, the first of such."""
    chosen = other if other.direct and not one.direct else one
    priority, groups = min(one.priority, other.priority), (*one.groups, *other.groups)
    return replace(chosen, priority=priority, groups=groups, direct=one.direct or other.direct)
