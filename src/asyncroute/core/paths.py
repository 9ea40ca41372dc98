"""Where an attribute stands in a data set: at its top, inside sequences, or in a private block of some creator.

Guarantees: plain data, hashable; equal for equal places.
Failures: none.
"""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One attribute of a path.

    ``tag``: 0xggggeeee; of a private attribute with a ``creator`` (PS3.5 7.8.1) without its block: 0xgggg00ee.
    ``item``: of a sequence, which of its items (from 0) the next step looks into; None: any of them.
    """

    tag: int
    creator: str = ""
    item: int | None = None


Path = tuple[Step, ...]
"""From the top of the data set to an attribute: every step but the last is a sequence."""

Key = int | Path
"""An attribute by its tag, where that says all; else by its path."""


def key_of(path: Path) -> Key:
    """The tag of a top-level attribute whose place is known; else the path."""
    return path[0].tag if len(path) == 1 and not path[0].creator else path
