"""Which calling title each lane of a destination serves, and when it turns to another one.

Images of different calling AE titles never share an association, so a lane that serves another title releases its
association and opens one. With more titles than lanes that must not happen for every image: a lane stays with its title
for a dwell, which grows with what opening an association costs here and is shorter where much is sent in it, also while
nothing is ready for a moment, because its sender is about to send the next image: for some of the gaps between its
images. A title that sent one image and no more is not waited for. Where a crowd waits, nobody is for longer than an
opening takes, nor after a few images at all: whoever gets a lane again has many by then.
Guarantees: who waits gets a lane in the order of waiting, as soon as a dwell is over; while nobody waits no lane turns.
What is called a title here is a ``forward.base.Bond``: where an association is for one study only, a title and a study.
Pure: no I/O, times are passed in.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from asyncroute.core.priority import LOW
from asyncroute.forward.base import Key, Lane

DWELL = 0.12
"""Seconds for which a lane stays with a title while others wait, at least: a few images' time."""

DWELL_BYTES = 2 << 20
"""Bytes of images after which it may turn earlier: the images of those who wait fill the memory meanwhile, and an
association costs little beside so many."""

DWELL_LEAST = 0.03
"""Seconds for which it stays even so."""

DWELL_MOST = 0.5
"""Seconds for which it stays at most, however long it takes to open an association."""

DWELL_COSTS = 4
"""Opening times that a dwell lasts: a lane spends a fifth of its time on them at most, but in a crowd."""

LINGER = 0.008
"""Seconds for which an idle lane waits for a title of which nothing is known yet; longer where opening takes longer,
since turning away too early costs just that."""

GAPS = 4
"""Gaps between a title's images for which an idle lane waits for the next one."""

SLOWER = 0.75
"""Of a title's patience that is left, at least, after an image that came soon: the next one may come later."""

SHORT = 0.004
"""Seconds that an association takes to open, and twice what it takes otherwise, where the processor is short: then a
lane turns once in a dwell at most, or where many titles send little each the turns would take all that there is of it.
"""

CREDIT = 0.1
"""Seconds for which turns may be ahead of that: nobody waits where it does not last."""

CROWD = 4
"""Titles with something ready, for each lane, that make a crowd."""

PAID = 8
"""Images of one title after which the turn to it has paid: it costs a tenth of what they do."""


class Stint:
    """What a lane does: the title that it serves, until when it stays, how long it waits for more of it when idle."""

    __slots__ = ("bytes", "free", "images", "key", "opening", "patience", "priority", "since", "title", "until")

    def __init__(self, key: Key, since: float, until: float, patience: float) -> None:
        self.title = key[0]
        self.images = self.bytes = 0
        """What it was given."""
        self.since = since
        """When it could begin with them."""
        self.key = key
        """Of the latest delivery."""
        self.until = until
        self.patience = patience
        self.free = 0.0
        self.priority = LOW
        """Of the delivery after which it became free."""
        self.opening = True


class Turns:
    """See module. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.dwell = DWELL
        self.linger = LINGER
        self.stints: dict[Lane, Stint] = {}
        self.paid = 0.0
        """When the turns made so far are paid for, by time."""
        self._titles: dict[str, dict[Lane, None]] = {}
        self._cost = 0.0
        self._rate = 0.0
        """Bytes a second that a lane takes."""
        self._least = inf  # of the openings of the last minutes
        self._latest = 0.0

    def turned(self, stint: Stint, now: float) -> None:
        """A lane turns from the title of ``stint`` to another."""
        if stint.images < PAID and self._cost > max(SHORT, 2 * self._least):
            self.paid = max(self.paid, now - CREDIT) + self.dwell / max(len(self.stints), 1)

    def begins(self, lane: Lane, key: Key, now: float, waited: float, ready: int) -> Stint:
        """``lane`` opens an association for ``key``, of which ``ready`` deliveries came in ``waited`` seconds."""
        self.leaves(lane, now)
        stint = self.stints[lane] = Stint(key, now, now + self.dwell, self._patience(waited, ready))
        self._titles.setdefault(key[0], {})[lane] = None
        return stint

    def _patience(self, waited: float, ready: int) -> float:
        """None for a title whose next image is not to be expected while others could be served."""
        if ready > 1 and waited <= ready * self.dwell / 2:
            return self._worth(waited / ready)
        return self.linger if waited < 2 * self.linger else 0.0

    def _worth(self, gap: float) -> float:
        """How long to wait for the next image of a title whose images come so many seconds one after the other."""
        return min(max(GAPS * gap, self.linger), self.dwell)

    def opened(self, lane: Lane, seconds: float, now: float) -> None:
        """Its association is there, ``seconds`` after it was asked for. The dwell counts from now."""
        self._cost += (seconds - self._cost) / 4 if self._cost else seconds
        self._least = min(max(seconds, 0.001), self._least * (1.0 + (now - self._latest) / 60.0))
        self._latest = now
        enough = max(DWELL_BYTES / self._rate, DWELL_LEAST) if self._rate else DWELL
        self.dwell = min(max(min(DWELL, enough), DWELL_COSTS * self._cost), DWELL_MOST)
        self.linger = min(max(LINGER, self._cost), self.dwell)
        stint = self.stints.get(lane)
        if stint is not None:
            stint.opening = False
            stint.since, stint.until = now, now + self.dwell

    def goes_on(self, stint: Stint, key: Key, now: float) -> None:
        """An idle lane found more of its title; who sent soon will send again."""
        stint.key = key
        gap = now - stint.free
        if gap < self.dwell:
            stint.patience = max(self._worth(gap), stint.patience * SLOWER)

    def leaves(self, lane: Lane, now: float) -> str | None:
        """``lane`` serves nobody now; the title that it has left."""
        stint = self.stints.pop(lane, None)
        if stint is None:
            return None
        if stint.bytes:
            rate = stint.bytes / max(now - stint.since, DWELL_LEAST)
            self._rate += (rate - self._rate) / 8 if self._rate else rate
        lanes = self._titles[stint.title]
        del lanes[lane]
        if not lanes:
            del self._titles[stint.title]
        return stint.title

    def lanes(self, title: str) -> Collection[Lane]:
        """Those that serve ``title``."""
        return self._titles.get(title, ())

    def serves(self, key: Key) -> bool:
        """Whether some lane carries ``key``, or will when its association is there."""
        for lane in self._titles.get(key[0], ()):
            stint = self.stints[lane]
            if stint.opening or lane.carries(key):
                return True
        return False

    @property
    def several(self) -> bool:
        """Whether lanes serve more than one title."""
        return len(self._titles) > 1

    def over(self, lane: Lane, since: float) -> float:
        """When the dwell of ``lane`` is over for a title that has waited since then: not at once even if the lane has
        served long, lest all lanes turn by turns where there is one title too many."""
        return max(self.stints[lane].until, since + self.dwell / 2)

    def stays_until(self, stint: Stint, titles: int) -> float:
        """Until when an idle lane turns to no other title, whichever waits; see ``due``."""
        return min(stint.until, self._tired(stint, titles))

    def due(self, lane: Lane, title: str, since: float | None, titles: int) -> float:
        """When ``lane``, which is idle, may turn to ``title``, which has waited since then (None: it has a lane, and
        would like one more). ``titles``: how many have something ready."""
        stint = self.stints[lane]
        if stint.title == title:  # what its association does not carry: the next one does
            return 0.0
        tired = self._tired(stint, titles)
        return tired if since is None else min(self.over(lane, since), tired)

    def _tired(self, stint: Stint, titles: int) -> float:
        """When an idle lane has waited long enough for the next image of its title."""
        patience = stint.patience
        if titles > CROWD * len(self.stints):
            patience = min(patience, self.linger) if stint.images < PAID else 0.0
        return max(stint.free + patience, self.paid)
