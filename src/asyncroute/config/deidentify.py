"""The step ``deidentify`` of a transform.

Guarantees and failures: as `asyncroute.config.steps`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, PlainValidator

from asyncroute.config.fields import choice, whole
from asyncroute.config.steps import Step
from asyncroute.config.words import Invalid, did_you_mean, one_of, quote, show
from asyncroute.core.deidentification import MAX_SHIFT, RETAINABLE
from asyncroute.core.deidentification import Deidentify as Spec

_ELSEWHERE = {
    **dict.fromkeys(("dates", "full-dates", "times"), 'dates = "keep"'),
    **dict.fromkeys(("shifted-dates", "modified-dates"), 'dates = "shift"'),
    **dict.fromkeys(("descriptors", "clean-descriptors"), 'descriptors = "clean"'),
}
"""Options of PS3.15 Annex E that have a key of their own."""


def _basic(value: object) -> str:
    if value != "basic":
        raise Invalid(f'must be "basic", the profile of PS3.15 Annex E, not {show(value)}')
    return "basic"


def _retained(value: object) -> frozenset[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise Invalid(f"must be a list such as [{quote('patient')}], not {show(value)}")
    for each in value:
        if each in _ELSEWHERE:
            raise Invalid(f"{quote(each)} has a key of its own: write {_ELSEWHERE[each]} beside it")
        if each not in RETAINABLE:
            raise Invalid(
                f"{quote(each)} is nothing that can be kept"
                f"{did_you_mean(each, RETAINABLE, f'; there is {one_of(RETAINABLE)}')}"
            )
    return frozenset(value)


class Deidentify(Step):
    """``deidentify``: see ``core.deidentification``."""

    KIND: ClassVar[str] = "deidentify"
    deidentify: Annotated[str, BeforeValidator(_basic)]
    retain: Annotated[frozenset[str], PlainValidator(_retained)] = frozenset()
    dates: Annotated[Literal["remove", "keep", "shift"], choice("remove", "keep", "shift")] = "remove"
    days: Annotated[int, whole(1, 36500)] = MAX_SHIFT
    descriptors: Annotated[Literal["remove", "clean"], choice("remove", "clean")] = "remove"
    burned_in: Annotated[Literal["hold", "pass"], choice("hold", "pass")] = "hold"

    def spec(self) -> object:
        if self.days != MAX_SHIFT and self.dates != "shift":
            raise Invalid('"days" has a meaning only with dates = "shift"')
        return Spec(self.retain, self.dates, self.days, self.descriptors, self.burned_in)
