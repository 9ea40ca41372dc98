"""Log lines that peers can cause in any number: the first of a kind is said, the rest are counted.

Guarantees: a line per kind and ``EVERY`` seconds; ``KINDS`` kinds are remembered, the oldest are forgotten.
Failures: none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

EVERY: Final = 60.0
KINDS: Final = 1024


class Repeats:
    """See module. ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def note(self, kind: Hashable, now: float) -> str | None:
        """What to add to a line of this kind (``" (and 7 times more before)"``, or nothing); None: do not say it."""
        said, left_out = self._kinds.get(kind, (now - EVERY, 0))
        if now - said < EVERY:
            self._kinds[kind] = said, left_out + 1
            return None
        self._kinds[kind] = now, 0
        self._kinds.move_to_end(kind)
        if len(self._kinds) > KINDS:
            self._kinds.popitem(last=False)
        return f" (and {left_out} times more before)" if left_out else ""
