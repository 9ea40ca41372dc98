"""Header scans that may recognize what they saw before, against scans that cannot: there must be no difference."""

from __future__ import annotations

from asyncroute.wire.header import HeaderScanner, header_end
from asyncroute.wire.scan import Scan

KEY = "one sender"


def facts(scan: Scan) -> dict[str, object]:
    """All that a scan says."""
    texts = {tag: (scan.texts(tag), scan.vr(tag)) for tag in scan.values}
    found = {"values": scan.values, "order": list(scan.values), "vrs": scan.vrs, "texts": texts}
    how = {"encoding": scan.encoding, "offset": scan.offset, "odd": scan.odd, "fallback": scan.fallback}
    return {**found, **how, "codecs": scan.codecs(), "unknown": scan.unknown_encoding}


def scan_both(scanner: HeaderScanner, data: bytes, syntax: str, complete: bool = True, key: str = KEY) -> Scan | None:
    """The scan of one that has learned from what it scanned before; asserts that it is what a new one would say."""
    plain = HeaderScanner(scanner.wanted).scan(data, syntax, complete)
    scan = scanner.scan(data, syntax, complete, key)
    if plain is None or scan is None:
        assert scan is plain
        return None
    assert facts(scan) == facts(plain)
    assert scan.end is None or scan.end == header_end(data, syntax, complete)
    return scan


def recognized(scanner: HeaderScanner, data: bytes, syntax: str, complete: bool = True) -> bool:
    """Whether it was recognized (by a layout, not walked over); asserts the same."""
    before = scanner.layouts.fits
    scan_both(scanner, data, syntax, complete)
    return scanner.layouts.fits > before
