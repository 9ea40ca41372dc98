"""``[[group]]``: several destinations as one.

Guarantees: a group that exists is valid by itself; that its members exist is `check`'s matter. Failures: pydantic's
ValidationError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import ValidationInfo, field_validator

from asyncroute.config.fields import Duration, Listed, Name, choice, whole
from asyncroute.config.table import Table
from asyncroute.config.units import format_duration
from asyncroute.config.words import Invalid, quote, show
from asyncroute.core import groups

LONGEST_KEEP = 86400.0


class Group(Table):
    """``[[group]]``: several destinations as one, by the group's name in a route's `to`."""

    name: Name
    mode: Annotated[Literal["failover", "balance", "all"], choice("failover", "balance", "all")]
    members: Annotated[tuple[str, ...], Listed]
    weights: Annotated[tuple[Annotated[int, whole(1, 1000)], ...], Listed] = ()
    keep: Duration = 600.0

    @field_validator("members")
    @classmethod
    def _somebody(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise Invalid("must name at least one destination")
        return value

    @field_validator("weights")
    @classmethod
    def _one_each(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        members = info.data.get("members")
        if value and info.data.get("mode", "balance") != "balance":
            raise Invalid('is for mode "balance" only')
        if value and members is not None and len(value) != len(members):
            raise Invalid(f"must have one number for each of the {len(members)} members, not {len(value)}")
        return value

    @field_validator("keep")
    @classmethod
    def _not_for_long(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("mode") == "all":
            raise Invalid('is for modes "failover" and "balance" only: here nothing moves from one member to another')
        if value > LONGEST_KEEP:
            raise Invalid(f"must be {quote(format_duration(LONGEST_KEEP))} or less, not {show(format_duration(value))}")
        return value

    @property
    def one_of(self) -> groups.Group | None:
        """The same, able to choose a member; None: every member gets each image."""
        if self.mode == "all":
            return None
        weights = self.weights or (1,) * len(self.members)
        return groups.Group(self.name, self.mode == "balance", self.members, weights, self.keep)


def choosing(tables: Iterable[Group]) -> list[groups.Group]:
    """Those of which one member is chosen for each study."""
    return [one for table in tables if (one := table.one_of) is not None]
