"""Which text is left in a header, for a person to look at: no program knows every name.

Guarantees: every text of every level is listed, but codes (VR CS) and what is empty.
Failures: `Odd`, where the elements cannot be told apart.
"""

from __future__ import annotations

from typing import NamedTuple

from asyncroute.transform.base import Header
from asyncroute.transform.editing import name_of
from asyncroute.transform.elements import top

_TEXT = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})


class Text(NamedTuple):
    """One text: where it stands (``ProcedureCodeSequence.0.CodeMeaning``), its VR, its values."""

    attribute: str
    vr: str
    values: tuple[str, ...]


def listing(header: Header) -> list[Text]:
    """All text in ``header``: give it what ``Transform.apply`` made, to see what would leave."""
    return [
        Text(f"{level.name}{name_of(tag)}", level.vr(tag), texts)
        for level in top(header.data, header.transfer_syntax).everywhere()
        for tag in level.tags()
        if level.vr(tag) in _TEXT and any(texts := level.texts(tag))
    ]
