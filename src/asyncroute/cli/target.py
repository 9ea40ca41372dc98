"""Who is meant by ``NAME|AET@HOST:PORT``.

Guarantees: what has an ``@`` is an address (names have none); what it says is checked as in a configuration.
Failures: ``OurFault`` with what to write instead; ``ConfigError`` where a name needs a configuration that is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asyncroute.cli import settings
from asyncroute.core.errors import OurFault

if TYPE_CHECKING:
    from asyncroute.config import Config, DicomDestination
    from asyncroute.core.titles import Template

OUR_TITLE = "ASYNCROUTE"
_FORM = 'write NAME of a destination, or AET@HOST:PORT, such as "PACS@10.0.0.5:104"'


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM peer to talk to, and the calling AE titles to do it under."""

    name: str
    destination: DicomDestination
    calling: tuple[str, ...]
    depends: bool = False
    """Whether calling titles depend on senders that are not known; ``calling`` then has one as for our own title."""


def parse_address(text: str) -> tuple[str, str, int]:
    """AE title, host and port of ``AET@HOST:PORT``; an IPv6 address stands in brackets.

    Raises:
        OurFault: it is none.
    """
    title, _, place = text.rpartition("@")
    host, colon, port = place.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not title or not colon or not host:
        raise OurFault(f"not a target: {text!r}; {_FORM}")
    if ":" in host and not bracketed:
        raise OurFault(f"not a target: {text!r}; an IPv6 address stands in brackets: AET@[2001:db8::5]:104")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise OurFault(f"not a target: {text!r}; a port is a number from 1 to 65535")
    return _title(title), host[1:-1] if bracketed else host, int(port)


def _title(text: str) -> str:
    from asyncroute.config.fields import ae_title

    try:
        return ae_title(text)
    except ValueError as error:
        raise OurFault(f"AE title {text!r}: {error}") from None


def find(text: str, calling: str | None, config: Path | None) -> Peer:
    """The peer that ``text`` names; ``calling``: the only calling AE title to use, if given.

    Raises:
        OurFault: there is no such destination, or it is none that images are sent to over a network.
    """
    titles = (_title(calling),) if calling is not None else ()
    if "@" in text:
        loaded = settings.load(config) if config is not None else None
        return _address(text, titles or (loaded.listeners[0].ae_title if loaded else OUR_TITLE,))
    if not settings.given(config):
        raise OurFault(f"{text!r}: there is no asyncroute.toml here, and no -c FILE, to look that name up in; {_FORM}")
    loaded = settings.load(config)
    destination = _named(text, loaded)
    found = (titles, False) if titles else calling_titles(loaded, destination)
    return Peer(destination.name, destination, *found)


def _address(text: str, titles: tuple[str, ...]) -> Peer:
    from pydantic import ValidationError

    from asyncroute.config import DicomDestination

    title, host, port = parse_address(text)
    try:
        destination = DicomDestination(name="target", host=host, port=port, ae_title=title)
    except ValidationError as error:
        why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise OurFault(f"not a target: {text!r}: {error.errors()[0]['loc'][-1]} {why}") from None
    return Peer(text, destination, titles)


def _named(name: str, config: Config) -> DicomDestination:
    destination = config.destination(name)
    if destination is None:
        known = ", ".join(each.name for each in config.destinations)
        raise OurFault(f"no destination is called {name!r}; there is {known}; or {_FORM}")
    if destination.kind != "dicom":
        raise OurFault(f"{name}: is a destination of kind {destination.kind!r}, not a DICOM peer")
    return destination


# --- calling titles ---------------------------------------------------------------------------------------------------


def calling_titles(config: Config, destination: DicomDestination) -> tuple[tuple[str, ...], bool]:
    """The calling AE titles that this destination will see, as far as the configuration tells.

    Those of fixed titles, and of the senders that listeners or the destination's routes name literally. What no title
    can be told of is tried as if our own listener were the sender, and True: it depends on the senders.
    """
    from asyncroute.config.titles import known_titles

    known = known_titles(config, destination)
    stand_ins = [_stand_in(template, config.listeners[0].ae_title) for template in known.open]
    titles = tuple(dict.fromkeys([*known.titles, *stand_ins]))
    return (titles, bool(stand_ins)) if titles else ((config.listeners[0].ae_title,), True)


def _stand_in(template: Template, ours: str) -> str:
    from asyncroute.core.titles import WrongTitle

    try:
        return template.title(dict.fromkeys(template.facts, ours))
    except WrongTitle:
        return ours
