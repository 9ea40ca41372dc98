"""How many associations a destination is sent to over at a time, found by trying: more while it bears it, fewer if not.

A window starts small and gains one for each image that arrives while all of it is needed, so it doubles with each round
of images. An association that is refused while others are open shows the limit: the window is what the destination has
granted, and one more is tried after a while, again after twice as long, and so on (``LONGEST`` at most). Where images
take much longer than they used to, the window is halved, and from there on gains one a round. After an outage it starts
anew. A window that does not adapt is always as large as it may be.

Guarantees: it is never below one or above ``most``; images that always take long, or now short and now long, do not
make it smaller. Where it is as large as it may be it costs an image some comparisons. Pure: no I/O, times are passed in
(monotonic seconds).
"""

from __future__ import annotations

from math import inf

from asyncroute.forward.base import Lane

START = 2
NEVER = 1 << 30

FIRST = 1.0
"""Seconds after a refusal until one more association is tried."""

LONGEST = 30.0
"""Between two tries, after many refusals in a row."""

SLOW = 1.0
"""Seconds for an image (of less than 1 MiB; the more, the longer) that are not slow yet, whatever is usual."""

RISE = 4.0
"""Times what was usual that is usual now are not slow yet, either."""

SAMPLES = 5
"""Times in a row that are too long before that means something."""

LEARNT = 10
"""Times after which it is known what is usual."""

WEIGHT = 4
"""The latest time counts for one in so many."""

EVERY = 0.05
"""Seconds from one image whose time is taken to the next one at least."""

FORGET = 600.0
"""Seconds in which twice the time becomes as good as usual."""

PER = 1 << 20

USED = "no more were needed so far"
OUTAGE = "few at first after an outage"


class Window:
    """See module."""

    def __init__(self, most: int, adaptive: bool = False) -> None:
        self.most = most
        self.adaptive = adaptive
        self.grows_at = NEVER
        """With so many others sending when an image has arrived, all of the window was needed, and it may grow."""
        self.timed: Lane | None = None
        """The lane whose image is timed now."""
        self._begun, self._scale = 0.0, 1.0
        self.next_sample = inf
        """When another image may be timed."""
        self._start()

    def _start(self) -> None:
        self.why = USED
        self.next_try = inf
        """When one more than the destination has granted may be tried."""
        self._wait = FIRST
        self._limit = self.most
        self._threshold = self.most
        self._since: int | None = 0
        self._samples = 0
        self._recent = self._least = self._least_at = 0.0
        self._slow = 0
        self.timed, self.next_sample = None, 0.0 if self.adaptive else inf
        self._resize(min(START, self.most) if self.adaptive else self.most)

    def change(self, most: int, adaptive: bool) -> None:
        """Other settings; with the same ones what was learned is kept."""
        if (most, adaptive) != (self.most, self.adaptive):
            self.most, self.adaptive = most, adaptive
            self._start()

    def _resize(self, size: int) -> None:
        self.size = size
        self.grows_at = size - 1 if size < self._limit else NEVER
        if size >= self.most:
            self.why, self.next_try, self._wait = "", inf, FIRST

    # ---- what there may be

    def at(self, now: float) -> int:
        """How many lanes there may be, of which all may send."""
        return self.size + 1 if now >= self.next_try else self.size

    # ---- more

    def needed(self, arrived: int) -> bool:
        """All of it is needed: every lane sends, or an image waits for one, or a lane would have to turn to others.
        ``arrived``: images so far. True: there may be one more lane; else one that arrives may let it grow."""
        if self.size >= self._limit or self._slow:
            return False
        if self._since is None:
            self._since = arrived
        if arrived - self._since < (1 if self.size < self._threshold else self.size):
            self.grows_at = 0
            return False
        self._since = arrived
        if self.why is OUTAGE and self.size >= self._threshold:
            self.why = USED
        self._resize(self.size + 1)
        return True

    def granted(self, held: int) -> None:
        """So many associations are open now."""
        if held > self.size and self.adaptive:
            self._limit, self._threshold = self.most, self.most
            self.next_try, self._wait, self.why = inf, FIRST, USED
            self._resize(min(held, self.most))

    # ---- fewer

    def refused(self, held: int, opening: int, text: str, now: float) -> bool:
        """The destination has refused one more, for the reason ``text``, beside ``held`` that are open and ``opening``
        of which nothing is known yet. False: there were no others, so it is not that they are too many."""
        if not self.adaptive or not held + opening:
            return False
        if now >= self.next_try:  # else it is one of several that were tried together
            self._wait = min(2 * self._wait, LONGEST)
        self._limit = min(held or max(self.size // 2, 1), self.most)
        self.next_try = now + self._wait
        self.why, self._since = text, None
        self._resize(self._limit)
        return True

    def collapsed(self) -> None:
        """The destination is down."""
        if self.adaptive and self.why is not OUTAGE:
            half = max(self.size // 2, START)
            self._start()
            self.why, self._threshold, self._since = OUTAGE, half, None

    # ---- the time that an image takes

    def begins(self, lane: Lane, size: int, now: float) -> None:
        """Take the time of this image, of ``size`` bytes, which ``lane`` begins to send over an open association."""
        self.timed = lane
        self._begun, self._scale = now, 1.0 + size / PER
        self.next_sample = inf

    def ended(self, arrived: bool, now: float) -> bool:
        """The timed image has arrived, or not; True: it was too slow, and the window is smaller now."""
        self.timed, self.next_sample = None, now + EVERY
        if not arrived:
            return False
        took = (now - self._begun) / self._scale
        self._samples += 1
        self._recent += (took - self._recent) / min(self._samples, WEIGHT)
        if self._samples <= LEARNT:
            self._least = self._recent
        else:
            self._least = min(self._recent, self._least * (1.0 + (now - self._least_at) / FORGET))
        self._least_at = now
        if self._recent <= max(SLOW, RISE * self._least):
            self._slow = 0
            return False
        self._slow += 1
        return self._slow >= SAMPLES and self._halve(self._recent)

    def _halve(self, took: float) -> bool:
        self._slow = 0
        size = max(self.size // 2, min(START, self.most))
        if size >= self.size:
            return False
        self._threshold, self._since = size, None
        self._resize(size)
        self.why = f"images take {took:.1f} s instead of {self._least:.1f} s"
        return True
