"""Which text is left in a header, and why, for a person to look at: no program knows every name.

Guarantees: every text of every level is listed, but codes (VR CS) and what is empty.
Failures: `Odd`, where the elements cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from asyncroute.core.deidentification import RETAINABLE, Deidentify
from asyncroute.transform.base import Change, Header
from asyncroute.transform.confidentiality import Action, Table
from asyncroute.transform.editing import name_of
from asyncroute.transform.elements import top

_TEXT = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})


class Text(NamedTuple):
    """One text: where it stands (``ProcedureCodeSequence.0.CodeMeaning``), its VR, its values, its tag."""

    attribute: str
    vr: str
    values: tuple[str, ...]
    tag: int


def listing(header: Header) -> list[Text]:
    """All text in ``header``: give it what ``Transform.apply`` made, to see what would leave."""
    return [
        Text(f"{level.name}{name_of(tag)}", level.vr(tag), texts, tag)
        for level in top(header.data, header.transfer_syntax).everywhere()
        for tag in level.tags()
        if level.vr(tag) in _TEXT and any(texts := level.texts(tag))
    ]


class Reasons:
    """Why each text of an image is still there."""

    def __init__(self, before: Sequence[Text], changes: Sequence[Change], rules: Sequence[Deidentify]) -> None:
        """``before``: of the image as it was received. ``rules``: all ``deidentify`` steps on its way."""
        self._before = {text.attribute: text.values for text in before}
        self._by = {change.attribute: change.step for change in changes}
        self._rules = rules

    def why(self, text: Text) -> str:
        """For a person."""
        before = self._before.get(text.attribute)
        if before == text.values:
            return self._stayed(text.tag)
        how = "added" if before is None else "cleaned" if self._cleaned(text.tag) else "changed"
        step = self._by.get(text.attribute) or self._by.get(text.attribute.split(".")[0])
        return f"{how} by {step}" if step else how

    def _cleaned(self, tag: int) -> bool:
        return any(_table(rule.columns).action(tag) is Action.CLEAN for rule in self._rules)

    def _stayed(self, tag: int) -> str:
        listed = _table(frozenset()).action(tag) is not Action.KEEP
        if not self._rules:
            return "the basic profile would not leave it" if listed else "the basic profile leaves it"
        if self._cleaned(tag):
            return "descriptive text: nothing in it is known to identify"
        if not listed:
            return "the profile leaves it"
        kept = [name for name in RETAINABLE if all(_keeps(name, rule, tag) for rule in self._rules)]
        return f'retain = "{kept[0]}"' if kept else "the profile leaves it"


def _keeps(name: str, rule: Deidentify, tag: int) -> bool:
    """Whether an option that was chosen is why an attribute stays."""
    if name not in rule.retain:
        return False
    if tag >> 16 & 1:
        return name == "safe-private"
    return _table(frozenset({name})).action(tag) is Action.KEEP


@lru_cache(64)
def _table(columns: frozenset[str]) -> Table:
    return Table(columns)
