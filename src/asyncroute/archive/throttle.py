"""So many bytes a second, by the hours of the day, for a thread that waits where it would be too fast.

Guarantees: in any ``t`` seconds no more than ``rate * (t + 1)`` bytes and one piece besides; a stop ends every wait.
Failures: ``Halted``.
"""

from __future__ import annotations

import threading
from time import monotonic, time

from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.rates import Rates

BURST = 1.0
LONGEST_WAIT = 1.0
"""Seconds; then the rate is looked at again, which may be another one by then."""


class Halted(AsyncrouteError):
    """The program stops."""


class Throttle:
    """See module. For one thread."""

    def __init__(self, halt: threading.Event) -> None:
        self.rates: Rates | None = None
        self._halt = halt
        self._at = monotonic()
        self._owed = 0.0
        """Bytes that were moved and are not paid for with time yet."""

    def spend(self, count: int) -> None:
        """``count`` bytes are moved now; waits first while earlier ones are not paid for.

        Raises:
            Halted: the program stops.
        """
        while (wait := self._wait()) > 0 and not self._halt.wait(min(wait, LONGEST_WAIT)):
            pass
        if self._halt.is_set():
            raise Halted("stopping")
        self._owed += count

    def _wait(self) -> float:
        rate, _ = self.rates.at(time()) if self.rates is not None else (None, 0.0)
        now = monotonic()
        passed, self._at = now - self._at, now
        if rate is None:
            self._owed = 0.0
            return 0.0
        self._owed = max(self._owed - passed * rate, 0.0)
        return self._owed / rate - BURST
