"""What the step ``deidentify`` keeps and removes, as data: the options of PS3.15 Annex E that were chosen.

Guarantees and failures: none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RETAINABLE = ("patient", "device", "institution", "uids", "safe-private")
"""What may be kept, by option: PS3.15 §E.3.7, §E.3.8, §E.3.11, §E.3.9, §E.3.10."""

MAX_SHIFT = 3650
"""Days by which dates are moved at most, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Deidentify:
    """The Basic Application Level Confidentiality Profile with options (PS3.15 §E.2, §E.3).

    ``dates``: removed, kept (§E.3.6.1) or moved into the past, for each patient by as many days (§E.3.6.2).
    ``descriptors``: descriptive text is removed, or cleaned (§E.3.5). ``burned_in``: what happens to images that
    probably show text about the patient and do not say that they do not.
    """

    retain: frozenset[str] = frozenset()
    dates: Literal["remove", "keep", "shift"] = "remove"
    days: int = MAX_SHIFT
    descriptors: Literal["remove", "clean"] = "remove"
    burned_in: Literal["hold", "pass"] = "hold"

    @property
    def columns(self) -> frozenset[str]:
        """The options' columns of Table E.1-1, as `asyncroute.transform.confidentiality` names them."""
        dates = {"remove": (), "keep": ("full_dates",), "shift": ("modified_dates",)}[self.dates]
        text = ("descriptors",) if self.descriptors == "clean" else ()
        return frozenset({*(name.replace("-", "_") for name in self.retain), *dates, *text})
