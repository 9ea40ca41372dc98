"""What ``explain --phi`` lists of each destination: the text that would leave, for a person to look at.

Guarantees: nothing is left out without a word: what is not looked at is told.
Failures: none; an image whose elements cannot be told apart is told as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncroute.cli.preview import Outcome, Preview, Previewer, header_of
from asyncroute.core.deidentification import Deidentify
from asyncroute.core.model import RouteHit
from asyncroute.transform import phi
from asyncroute.transform.base import Header
from asyncroute.wire.elements import Odd, tag_text

PIXELS = "what is in the pixels is not looked at"
BEHIND = "what follows the pixel data is not looked at, and leaves as it is"
INCOMPLETE = "its header is too long: only the beginning can be looked at"


def remaining(previewer: Previewer, preview: Preview, hit: RouteHit, outcome: Outcome) -> dict[str, Any]:
    """The ``text`` that would leave on the way of ``hit``, as ``outcome``; ``notes`` on what was not looked at."""
    steps = (step for coercion in previewer.coercions(hit) for step in coercion.steps)
    rules = [step for step in steps if isinstance(step, Deidentify)]
    before, complete = header_of(preview.subject)
    if outcome.refused:
        return {"text": [], "notes": ["it is held: nothing leaves"]}
    notes = [] if complete else [INCOMPLETE]
    if not before.whole:
        notes += [PIXELS] if rules else [PIXELS, BEHIND]
    try:
        return {"text": _texts(before, outcome, rules), "notes": notes}
    except Odd as odd:
        return {"text": [], "notes": [f"its elements cannot be told apart: {odd.reason}", *notes]}


def _texts(before: Header, outcome: Outcome, rules: Sequence[Deidentify]) -> list[dict[str, Any]]:
    after = header_of(outcome.subject)[0] if outcome.name else before
    reasons = phi.Reasons(phi.listing(before), outcome.changes, rules)
    return [
        {
            "attribute": text.attribute,
            "tag": tag_text(text.tag),
            "vr": text.vr,
            "values": list(text.values),
            "why": reasons.why(text),
        }
        for text in phi.listing(after)
    ]
