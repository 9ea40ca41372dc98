"""What a lane sends in the place of what was received: made before it looks for an association, forgotten afterwards.

Guarantees: ``ready`` is called once for each delivery whose route has a transform, unless it is cleared before; never
from within ``begin`` with an ``Outcome``. Failures: none of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Outcome
from asyncroute.forward.base import Bond, Pair
from asyncroute.forward.coercion import Coercions, Outgoing, Preparing
from asyncroute.link.buffers import ImageBytes, Memory

Ready = Callable[[Delivery, Bond, bool, Outcome | None], None]
"""Delivery, bond and whether to probe, as ``begin`` was given them; None: ``out`` may go."""


class Substitute:
    """See module; one of each lane."""

    __slots__ = ("_coercions", "_image", "_loop", "_memory", "_pending", "_ready", "out", "used")

    def __init__(self, coercions: Coercions, memory: Memory, ready: Ready) -> None:
        self.out: Outgoing | None = None
        """None: what was received goes out."""
        self.used = False
        """Whether there is anything to clear."""
        self._coercions = coercions
        self._memory = memory
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._pending: Preparing | asyncio.Handle | None = None
        self._image: ImageBytes | None = None

    @property
    def pending(self) -> bool:
        """Whether it is being made."""
        return self._pending is not None

    def wanted(self, delivery: Delivery) -> bool:
        """Whether ``begin`` has to be asked; cheap, because nearly always it has not."""
        return bool(self._coercions.by_route) or delivery.sent is not None

    def begin(self, delivery: Delivery, bond: Bond, probe: bool) -> bool:
        """Make it; False: the delivery's route has no transform."""
        delivery.sent = None
        transform = self._coercions.by_route.get(delivery.route)
        if transform is None:
            return False
        self.used = True

        def done(made: Outgoing | Outcome) -> None:
            self._pending = None
            if isinstance(made, Outgoing):
                self.out, delivery.sent = made, made.sent
                self._ready(delivery, bond, probe, None)
            else:
                self._ready(delivery, bond, probe, made)

        image, parts = delivery.image, None
        if isinstance(image, ImageBytes) and self._memory.may_send(image):
            self._image, parts = image, image.parts
        made = self._coercions.begin(delivery, transform, parts, done)
        if isinstance(made, Outgoing):
            done(made)
        else:
            self._pending = made if isinstance(made, Preparing) else self._loop.call_soon(done, made)
        return True

    def pair(self, delivery: Delivery) -> Pair:
        """What a presentation context is needed for."""
        out = self.out or delivery
        return out.sop_class_uid, out.transfer_syntax

    def clear(self) -> None:
        """The delivery is over, or nobody waits for it any more."""
        self.used = False
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        self.out = None
        image, self._image = self._image, None
        if image is not None:
            self._memory.sent(image)
