"""Whether the codecs that a configuration asks for are installed.

Guarantees: looks whether their modules are there, but imports none. Failures: none; problems go to `report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec

from asyncroute.config.destinations import Destination, DicomDestination
from asyncroute.config.words import Loc, quote
from asyncroute.core.syntaxes import BY_WORD, EXTRA, lacking, needed

_ANY = ("numpy", "imagecodecs")


def check_codecs(destinations: Iterable[tuple[int, Destination]], report: Callable[[Loc, str], None]) -> None:
    """Report every `compress` whose codec is not there."""
    for index, destination in destinations:
        syntax = BY_WORD.get(destination.compress)
        missing = next((it for it in needed(syntax) if find_spec(it) is None), None) if syntax else None
        if syntax is not None and missing is not None:
            report(("destination", index, "compress"), lacking(syntax, missing))


def warnings(destinations: Iterable[Destination]) -> list[str]:
    """Where images can only be converted as far as no codec is needed, one line each."""
    if all(find_spec(it) is not None for it in _ANY):
        return []
    found = []
    for it in destinations:
        decodes = it.compress == "none" or (isinstance(it, DicomDestination) and it.transcode)
        if decodes:
            words = "compressed images cannot be decoded here, only uncompressed ones converted"
            found.append(f"destination {quote(it.name)}: {words}: {EXTRA}")
    return found
