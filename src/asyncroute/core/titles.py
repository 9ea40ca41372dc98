"""Calling AE titles under which images are sent ("send as").

A title is fixed, or a template over what is known of an image's way here: ``RT_{calling_aet}``. A destination has one,
and a route may have another for all that it sends. Guarantees: what comes out is an AE title (PS3.5 6.2) or
`WrongTitle`: nothing is cut off or replaced. Titles are made once for all images that are alike, and remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from asyncroute.core.model import Delivery
from asyncroute.core.proof import Unproven

Sent = Delivery | Unproven
"""What titles are made for."""

LONGEST = 16
"""Characters of an AE title."""

FACTS = ("calling_aet", "called_aet", "listener")
"""What a template may name: the sender's AE title, the one that it called, that of the listener."""

_REMEMBERED = 4096


class WrongTitle(ValueError):
    """What came out is no AE title; one line for a person."""


@dataclass(frozen=True, slots=True)
class Template:
    """``text``, taken apart: own text, a fact's name, own text ... own text."""

    text: str
    parts: tuple[str, ...]

    @property
    def facts(self) -> tuple[str, ...]:
        """The names in it."""
        return self.parts[1::2]

    def title(self, facts: Mapping[str, str]) -> str:
        """The AE title; spaces around it do not count.

        Raises:
            WrongTitle: what comes out is none.
        """
        title = "".join([facts[part] if n % 2 else part for n, part in enumerate(self.parts)]).strip(" ")
        if 0 < len(title) <= LONGEST and title.isascii() and title.isprintable() and "\\" not in title:
            return title
        if len(title) > LONGEST:
            why = f"has {len(title)} characters"
        else:
            why = "has characters that do not belong there" if title else "is empty"
        made = "" if title == self.text else f" (from calling_ae_title {self.text!r})"
        rule = f"an AE title has 1 to {LONGEST} printable ASCII characters, no backslash (PS3.5 6.2)"
        raise WrongTitle(f"calling AE title {title!r}{made} {why}; {rule}")


class Titles:
    """Those of one destination: ``own``, and by name those of routes that have another."""

    def __init__(self, own: Template, routes: Mapping[str, Template]) -> None:
        self._own = own
        self._routes = dict(routes)
        used = {name for template in (own, *routes.values()) for name in template.facts}
        alike = [name for name in FACTS if name in used]
        self._alike: Any = attrgetter(*(["route"] if routes else []), *alike) if routes or alike else None
        self._known: dict[object, str] = {}
        self._fixed = own.text

    def title(self, delivery: Sent) -> str:
        """The AE title under which it goes.

        Raises:
            WrongTitle: there is none for this image.
        """
        if self._alike is None:
            return self._fixed
        alike = self._alike(delivery)
        found = self._known.get(alike)
        return found if found is not None else self._make(delivery, alike)

    def _make(self, delivery: Sent, alike: object) -> str:
        template = self._routes.get(delivery.route, self._own)
        title = template.title(facts_of(delivery))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[alike] = title
        return title


def facts_of(delivery: Sent) -> dict[str, str]:
    """What a template may name, by name. Of a listener, known as ``AET@HOST:PORT``, it is the AE title."""
    listener = delivery.listener.rpartition("@")[0] or delivery.listener
    return dict(zip(FACTS, (delivery.calling_aet, delivery.called_aet, listener), strict=True))
