"""In which transfer syntax a lane's delivery goes out: the best that the destination accepts, converted if need be.

A delivery's pair stands for several contexts: what is wanted, as stored, decoded (``core.syntaxes.Wish.order``). Where
what is accepted is not what is stored, the lane waits until it is there; its association waits, too.
Guarantees: what cannot be made is not tried again for this delivery; the next syntax is. Failures: ``Outcome``s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping

from asyncroute.core import outcomes
from asyncroute.core.model import Delivery, Sent
from asyncroute.core.outcomes import Outcome
from asyncroute.core.syntaxes import BY_WORD, Wish
from asyncroute.forward.base import Pair
from asyncroute.forward.conversions import Conversions, Converted, Trouble, change_of

Ready = Callable[[Delivery, Outcome | None], None]
"""The journal's delivery; None: go on, there is something new to choose from."""


class Exchange:
    """See module; one of each lane."""

    __slots__ = ("_cancel", "_conversions", "_converted", "_ready", "_refused", "_syntax", "wish")

    def __init__(self, conversions: Conversions | None, wish: Wish, ready: Ready) -> None:
        self.wish = wish if conversions is not None else Wish()
        self._conversions = conversions
        self._ready = ready
        self._converted: Converted | None = None
        self._refused: dict[str, str] = {}
        self._syntax = ""
        self._cancel: Callable[[], None] | None = None

    @property
    def pending(self) -> bool:
        """Whether a conversion is being made."""
        return self._cancel is not None

    def offers(self, pair: Pair) -> list[Pair]:
        """What to propose for it, best first."""
        return [(pair[0], syntax) for syntax in self.wish.order(pair[1])]

    def all_offers(self, pairs: Iterable[Pair]) -> Iterable[Pair]:
        """The same for several."""
        if not self.wish.changes:
            return pairs
        return [offer for pair in pairs for offer in self.offers(pair)]

    def carried(self, contexts: Collection[Pair], rejected: Collection[Pair], lately: bool, pair: Pair) -> bool:
        """Whether it can go over an association with these contexts, to which nothing better was left to be offered; or
        all of it was refused there, ``lately``."""
        if not self.wish.changes:
            return pair in contexts or (lately and pair in rejected)
        for offer in self.offers(pair):
            if offer in contexts:
                return True
            if offer not in rejected:
                return False
        return lately

    @property
    def made(self) -> bool:
        """Whether there is a converted file, made for what an association accepted."""
        return self._converted is not None

    def context(self, contexts: Mapping[Pair, int], pair: Pair) -> int | None:
        """The best context for it."""
        if not self.wish.changes:
            return contexts.get(pair)
        if self._converted is not None and pair in contexts:
            return contexts[pair]
        for offer in self.offers(pair):
            if offer in contexts and offer[1] not in self._refused:
                self._syntax = offer[1]
                return contexts[offer]
        return None

    def needed(self, delivery: Delivery) -> bool:
        """Whether what ``context`` chose is not what there is of the journal's ``delivery``."""
        return bool(self._syntax) and self._syntax != self.subject(delivery).transfer_syntax

    def subject(self, delivery: Delivery) -> Delivery:
        """What is sent: the file that was made, or what was received."""
        return self._converted.delivery if self._converted is not None else delivery

    def begin(self, delivery: Delivery) -> None:
        """Make what ``context`` chose; ``ready`` follows."""
        self._let_go()
        if self._syntax == delivery.transfer_syntax:  # back to what was received
            self._ready(delivery, None)
            return
        assert self._conversions is not None

        def done(found: Converted | Trouble) -> None:
            self._cancel = None
            if isinstance(found, Converted):
                self._converted = found
            else:
                self._refused[self._syntax] = found.text
            self._ready(delivery, None if isinstance(found, Converted) else found.outcome)

        self._cancel = self._conversions.begin(delivery, self._syntax, self.wish, done)

    def sent(self, delivery: Delivery) -> Sent | None:
        """How ``delivery`` went out, for the journal; None: as it came. A transform's word is ``subject``'s."""
        made = self._converted
        if made is None:
            return delivery.sent
        return told_of(delivery, made.delivery, self.wish)

    def outcome(self, pair: Pair) -> Outcome:
        """No context: why."""
        outcome = outcomes.no_context(*pair)
        if not self._refused:
            return outcome
        reasons = "; ".join(dict.fromkeys(self._refused.values()))
        return outcomes.unsendable(f"{outcome.text}, and it cannot be converted: {reasons}")

    def clear(self) -> None:
        """The delivery is over."""
        self._let_go()
        self._refused.clear()
        self._syntax = ""

    def _let_go(self) -> None:
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()
        converted, self._converted = self._converted, None
        if converted is not None:
            converted.release()


def told_of(delivery: Delivery, made: Delivery, wish: Wish) -> Sent:
    """What the journal keeps of ``delivery``, which went out as ``made``; of a transform of that, too."""
    why = "compress" if made.transfer_syntax == BY_WORD.get(wish.compress) else "transcode"
    rows = [change_of(delivery.transfer_syntax, made.transfer_syntax, why)]
    if made.sent is not None:
        return made.sent._replace(changes=json.dumps(rows + json.loads(made.sent.changes), ensure_ascii=False))
    if made.sop_instance_uid != delivery.sop_instance_uid:
        rows.append(["SOPInstanceUID", delivery.sop_instance_uid, made.sop_instance_uid, why])
    uids = made.sop_class_uid, made.sop_instance_uid, delivery.study_uid, delivery.series_uid
    return Sent("", *uids, json.dumps(rows, ensure_ascii=False))
