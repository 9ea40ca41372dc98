"""From a data set's header to the facts that the journal keeps and the destinations it is owed to.

Reads only the header, by ``wire.header``'s scan, for the attributes that the journal and the configured routes need;
those inside sequences, and private ones by their creator, by ``wire.nested``, if a decision depends on them.
A header that cannot be read (a private transfer syntax, damage) is routed by its association and UIDs alone:
conditions on attributes then do not hold. Damage that hides an attribute which a route asks for makes the image a held
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from asyncroute.core.model import Instance, RouteHit, Source
from asyncroute.core.paths import Key
from asyncroute.core.rules import RouteTable, Said
from asyncroute.link.buffers import ImageBytes
from asyncroute.wire.header import HeaderScanner, header_end
from asyncroute.wire.nested import Nested, present, read_nested
from asyncroute.wire.scan import Scan

STUDY, SERIES, PATIENT_ID, ACCESSION, MODALITY = 0x0020000D, 0x0020000E, 0x00100020, 0x00080050, 0x00080060
_KEPT = frozenset({STUDY, SERIES, PATIENT_ID, ACCESSION, MODALITY})

LONGEST = 256
"""Characters of a fact that the journal keeps: four times what the longest of them may have."""

BY_HAND = "(by hand)"
"""Stands for the route of an image that no route sends where a person sends it."""

KEPT_HEADER = 32 << 10
"""Bytes of a header that the journal keeps at most."""

FULL_HEADER = 4 << 20
"""Bytes of a data set that are looked at when its routing attributes do not lie at its very beginning."""


UNROUTED = "no route matches"
"""Why such an image is held."""

UNDECIDABLE = "routes cannot be decided, the header cannot be read: "
"""How the reason begins for which such images are held."""

_CONTENTS = 512
"""Header contents whose facts and destinations are remembered."""

_SOURCES = 16
"""Sources whose destinations are remembered for each of them."""


Address = Callable[[Instance, tuple[RouteHit, ...]], tuple[RouteHit, ...]]


class _Facts:
    """What the journal keeps of a header, what routes ask of it, and what they said to that."""

    __slots__ = ("accession", "attributes", "hits", "modality", "patient_id", "said", "series_uid", "study_uid")

    def __init__(self, scan: Scan) -> None:
        self.study_uid = _first(scan, STUDY)
        self.series_uid = _first(scan, SERIES)
        self.patient_id = _first(scan, PATIENT_ID)
        self.accession = _first(scan, ACCESSION)
        self.modality = _first(scan, MODALITY)
        self.attributes = _Scanned(scan)
        self.hits: dict[Source, tuple[RouteHit, ...]] = {}
        self.said = Said()


def _texts(scan: Scan, tag: int) -> tuple[str, ...]:
    """What a condition sees of an attribute: of one that is there never nothing."""
    return scan.texts(tag) or (present(scan.values[tag]) if tag in scan.values else ())


class _Scanned(dict[Key, tuple[str, ...]]):
    """Attributes of a scan, decoded when one of them is asked for."""

    __slots__ = ("_scan",)

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def __missing__(self, key: Key) -> tuple[str, ...]:
        if isinstance(key, tuple):
            raise KeyError(key)
        found = self[key] = _texts(self._scan, key)
        return found


class _Deep(dict[Key, tuple[str, ...]]):
    """The attributes of one image; those that take more than a scan are read when one of them is asked for."""

    __slots__ = ("_read", "_scanned", "found")

    def __init__(self, scanned: _Scanned, read: Callable[[], Nested]) -> None:
        self._scanned = scanned
        self._read = read
        self.found: Nested | None = None

    def __missing__(self, key: Key) -> tuple[str, ...]:
        if isinstance(key, int):
            return self._scanned[key]
        if self.found is None:
            self.found = self._read()
        return self.found.values.get(key, ())


class Router:
    """The routes of one configuration. For one thread."""

    def __init__(self, table: RouteTable, address: Address | None = None) -> None:
        """``address``: puts members in the place of groups, where there are any."""
        self._table = table
        self._address = address
        self._scanner = HeaderScanner({STUDY, SERIES, PATIENT_ID, ACCESSION, MODALITY} | table.tags)
        self._known: dict[int, _Facts] = {}
        self._period: tuple[bool, ...] = ()

    def route(
        self, instance: Instance, image: ImageBytes | None, head: bytes | memoryview, whole: bool = False
    ) -> tuple[RouteHit, ...]:
        """Fill ``instance``'s facts and hits; the hits again.

        Where the image is not in memory, ``head`` is its beginning (``whole``: all of it).
        """
        scan = self._scan(instance, image, head, whole)
        like = scan.base or scan
        known = self._known.get(like.token) or self._learn(like)
        facts = known if _KEPT.isdisjoint(scan.changed) else _Facts(scan)
        instance.study_uid = facts.study_uid
        instance.series_uid = facts.series_uid
        instance.patient_id = facts.patient_id
        instance.accession = facts.accession
        instance.modality = facts.modality
        instance.header = _header([head] if image is None else image.parts, instance, scan)
        hits = () if self._undecidable(instance, scan) else self._decide(instance, scan, known, image, head, whole)
        hits = _awaited(hits, instance) if self._table.waits else hits
        instance.hits = hits = hits if self._address is None else self._address(instance, hits)
        return hits

    def seen(
        self, instance: Instance, head: bytes | memoryview, whole: bool
    ) -> tuple[dict[Key, tuple[str, ...]], str | None]:
        """All that routes may ask of a header, for people; and why it cannot be read, if so."""
        scan = self._scan(instance, None, head, whole)
        found: dict[Key, tuple[str, ...]] = {tag: _texts(scan, tag) for tag in self._table.tags}
        if not self._table.paths:
            return found, scan.odd
        nested = self._nested(instance, None, head, whole)
        return found | dict[Key, tuple[str, ...]](nested.values.items()), scan.odd or nested.odd

    def only(self, instance: Instance, hits: tuple[RouteHit, ...], target: str) -> tuple[RouteHit, ...]:
        """Those of ``hits`` that lead to the destination or group ``target``; where none does, it goes there directly.

        They are the instance's hits from now on, and it is not held.
        """
        found = tuple(h for h in hits if target == h.destination or any(target == group for group, _ in h.groups))
        if not found:
            found = (RouteHit(BY_HAND, target),)
            found = found if self._address is None else self._address(instance, found)
        instance.hits, instance.hold_reason = found, None
        return found

    def _learn(self, scan: Scan) -> _Facts:
        facts = _Facts(scan)
        if scan.token:
            if len(self._known) >= _CONTENTS:
                self._known.clear()
            self._known[scan.token] = facts
        return facts

    def _decide(
        self,
        instance: Instance,
        scan: Scan,
        known: _Facts,
        image: ImageBytes | None,
        head: bytes | memoryview,
        whole: bool,
    ) -> tuple[RouteHit, ...]:
        """A table's decision depends on nothing else, so it is made once for images that do not differ."""
        table, source, at = self._table, instance.source, instance.received_at
        if not (table.tags or table.paths):
            return table.decide(source, known.attributes, at, known.said)
        period = table.period(at)
        if period != self._period:
            self._known.clear()
            known.hits.clear()
            self._period = period
        hits = known.hits.get(source) if scan.base is None else None
        if hits is None:
            hits, lasting = self._look_up(instance, scan, known, lambda: self._nested(instance, image, head, whole))
            if lasting and scan.base is None:
                if len(known.hits) >= _SOURCES:
                    known.hits.clear()
                known.hits[source] = hits
        return hits

    def _look_up(
        self, instance: Instance, scan: Scan, known: _Facts, read: Callable[[], Nested]
    ) -> tuple[tuple[RouteHit, ...], bool]:
        """The destinations; whether they depend on what was scanned alone. ``read``: what is inside sequences."""
        table, source, at = self._table, instance.source, instance.received_at
        attributes = known.attributes if scan.base is None else _Scanned(scan)
        if not table.paths:
            return table.decide(source, attributes, at, known.said, scan.changed), True
        deep = _Deep(attributes, read)
        hits = table.decide(source, deep, at, known.said, scan.changed)
        if deep.found is None:
            return hits, True
        return () if _unreadable(instance, deep.found) else hits, False

    def _nested(self, instance: Instance, image: ImageBytes | None, head: bytes | memoryview, whole: bool) -> Nested:
        """What ``wire.nested`` finds in the first slice, or in the header as far as it is looked at."""
        syntax, paths = instance.transfer_syntax, self._table.paths
        parts = [head] if image is None else image.parts
        found = read_nested(parts[0] if parts else b"", syntax, paths, whole if image is None else len(parts) <= 1)
        if found is not None:
            return found
        joined = b"".join(parts)
        complete = len(joined) <= FULL_HEADER and (image is not None or whole)
        found = read_nested(joined[:FULL_HEADER], syntax, paths, complete)
        return found or Nested(odd=f"its attributes lie beyond the first {min(len(joined), FULL_HEADER)} bytes")

    def _undecidable(self, instance: Instance, scan: Scan) -> bool:
        """A damaged header hides attributes that conditions ask for: a person decides, not chance."""
        if scan.odd and any(tag not in scan.values for tag in self._table.tags):
            instance.hold_reason = UNDECIDABLE + scan.odd
            return True
        return False

    def _scan(self, instance: Instance, image: ImageBytes | None, head: bytes | memoryview, whole: bool) -> Scan:
        transfer_syntax = instance.transfer_syntax
        alike = (instance.source.calling_aet, instance.sop_class_uid)
        if image is None:
            scan = self._scanner.scan(head, transfer_syntax, whole, alike)
            return scan if scan is not None else self._cut(head, transfer_syntax)
        parts = image.parts
        first = parts[0] if parts else b""
        scan = self._scanner.scan(first, transfer_syntax, len(parts) <= 1, alike)
        if scan is not None:
            return scan
        joined = b"".join(parts)
        scan = self._scanner.scan(joined[:FULL_HEADER], transfer_syntax, len(joined) <= FULL_HEADER, alike)
        return scan if scan is not None else self._cut(joined[:FULL_HEADER], transfer_syntax)

    def _cut(self, data: bytes | memoryview, transfer_syntax: str) -> Scan:
        """What ``data`` shows, though what routing needs may lie behind it."""
        scan = self._scanner.scan(data, transfer_syntax, True)
        assert scan is not None
        scan.odd = scan.odd or f"its attributes lie beyond the first {len(data)} bytes"
        return scan


def _unreadable(instance: Instance, found: Nested) -> bool:
    if found.odd:
        instance.hold_reason = UNDECIDABLE + found.odd
    return found.odd is not None


def _awaited(hits: tuple[RouteHit, ...], instance: Instance) -> tuple[RouteHit, ...]:
    """An image that does not say which study (or series) it belongs to cannot wait for it: it goes at once."""
    if all(hit.wait is None or instance.unit_uid(hit.wait) for hit in hits):
        return hits
    return tuple(hit if hit.wait is None or instance.unit_uid(hit.wait) else replace(hit, wait=None) for hit in hits)


def _header(parts: Sequence[bytes | memoryview], instance: Instance, scan: Scan) -> bytes:
    """The header, for the journal; without pixel data and what follows. A longer one is cut at `KEPT_HEADER`."""
    data = parts[0] if parts else b""
    end = scan.end if scan.end is not None else header_end(data, instance.transfer_syntax, start=scan.offset)
    instance.header_length = end if end is not None and not scan.odd and scan.fallback is None else 0
    if len(parts) > 1 and len(data) < (KEPT_HEADER if end is None else min(KEPT_HEADER, end)):
        data = _beginning(parts)
        end = header_end(data, instance.transfer_syntax)
    return bytes(data[: min(KEPT_HEADER, end if end is not None else KEPT_HEADER)])


def _beginning(parts: Iterable[bytes | memoryview]) -> bytes:
    """As much as the journal keeps."""
    found, size = [], 0
    for part in parts:
        found.append(part)
        size += len(part)
        if size >= KEPT_HEADER:
            break
    return b"".join(found)[:KEPT_HEADER]


def _first(scan: Scan, tag: int) -> str:
    """The attribute's first value, as far as the journal keeps it."""
    values = scan.texts(tag)
    return values[0][:LONGEST] if values else ""
