"""De-identification: the Basic Application Level Confidentiality Profile of PS3.15 Annex E with options, on a header.

Guarantees: every element of Table E.1-1, at any depth, is treated by its action under the options
(`asyncroute.transform.confidentiality`), private and unknown ones are removed; every other byte stays as it is. Patient
ID, Patient's Name and Accession Number become pseudonyms, UIDs new UIDs, the same wherever and whenever with the same
secret. What was done is recorded as §E.1.1 asks: (0012,0062), (0012,0063), (0012,0064), (0028,0303).
Not done: pixels (§E.3.1, §E.3.2). What probably shows text is refused (`asyncroute.transform.visible`).
Failures: ``Refused``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from asyncroute.core.deidentification import Deidentify
from asyncroute.transform import dummies
from asyncroute.transform.base import Header, Link, Refused
from asyncroute.transform.cleaning import clean, without, words_of
from asyncroute.transform.confidentiality import Action, Table, listed_vr
from asyncroute.transform.dates import shifted
from asyncroute.transform.editing import Editing, name_of
from asyncroute.transform.elements import Elements
from asyncroute.transform.pseudonyms import Pseudonyms
from asyncroute.transform.tail import Drops
from asyncroute.transform.text import Unrepresentable, encoded
from asyncroute.transform.visible import refuse_visible
from asyncroute.wire import charset

PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
ACCESSION = 0x00080050
SOP_INSTANCE = 0x00080018
STUDY, SERIES = 0x0020000D, 0x0020000E
_REMOVED, _METHOD, _CODES, _TEMPORAL = 0x00120062, 0x00120063, 0x00120064, 0x00280303
METHOD = "asyncroute: PS3.15 Annex E Basic Profile, 2026d"
_METHODS = {
    "descriptors": ("113105", "Clean Descriptors Option"),
    "full_dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "modified_dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "patient": ("113108", "Retain Patient Characteristics Option"),
    "device": ("113109", "Retain Device Identity Option"),
    "uids": ("113110", "Retain UIDs Option"),
    "safe_private": ("113111", "Retain Safe Private Option"),
    "institution": ("113112", "Retain Institution Identity Option"),
}
"""CID 7050 (PS3.16), by the option's column in the table."""

_LINKED = (("name", PATIENT_NAME), ("accession", ACCESSION), ("study", STUDY), ("series", SERIES))
_DATE = re.compile(r"[\d.]+(?:[+-]\d{4})?", re.ASCII)
_TIME = re.compile(r"[\d:. ]*", re.ASCII)
_PIXELS = frozenset({0x7FE00000, 0x7FE00001, 0x7FE00002, 0x7FE00003, 0x7FE00008, 0x7FE00009, 0x7FE00010})
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_SINGLE = frozenset({"LT", "ST", "UT"})


def deidentify_step(spec: Deidentify) -> Callable[[Editing], None]:
    """``deidentify``: a step of a transform."""

    def run(e: Editing) -> None:
        if not e.coercion.secret:
            raise Refused(f"{e.label}: needs a secret")
        try:
            told = deidentify(Elements(e.top), e.header, spec, e.coercion.secret)
        except Refused as refused:
            raise Refused(f"{e.label}: {refused.reason}") from None
        e.links, e.anonymous, e.sop_instance_uid = told.links, True, told.sop_instance_uid
        for tag, entry in e.top.changed().items():
            e.changed(name_of(tag), e.show(e.top, tag, e.top.original(tag)), e.show(e.top, tag, entry))

    return run


def dropped_behind(spec: Deidentify) -> Drops:
    """All that stands behind the pixel data: signatures, padding, private groups, and whatever else (Table E.1-1)."""
    return Drops(lambda tag, creator: tag not in _PIXELS, lambda group: group != 0x7FE0)


class Deidentified(NamedTuple):
    """What there is to know besides the new header."""

    sop_instance_uid: str
    links: tuple[Link, ...]


@lru_cache(64)
def table_of(rule: Deidentify) -> Table:
    """The actions under its options."""
    return Table(rule.columns)


def deidentify(level: Elements, header: Header, rule: Deidentify, secret: bytes) -> Deidentified:
    """Edit the top ``level`` of ``header``.

    Raises:
        Refused: it may show who it is of, or its elements cannot be told apart.
    """
    refuse_visible(level, header, rule)
    run = _Run(level, rule, Pseudonyms(secret))
    run.edit(level, run.patient)
    _record(level, rule)
    uid = header.sop_instance_uid
    if run.table.action(SOP_INSTANCE) is Action.UID:
        uid = run.names.uid(uid)
    return Deidentified(uid, run.links)


class _Run:
    """One data set: whose it is, and what was found on the way. ``patient``: what its pseudonym is made of."""

    def __init__(self, top: Elements, rule: Deidentify, names: Pseudonyms) -> None:
        self.table = table_of(rule)
        self.names = names
        self.patient = _text(top, PATIENT_ID) or f"study {_text(top, STUDY)}"
        self.days = names.days(self.patient, rule.days)
        self.links = self._links(top, rule)
        self._top = top
        self._identifying: set[str] | None = None
        self._names: set[str] = set()
        if rule.descriptors == "clean" or "patient" in rule.retain:
            self._identifying, known = self._words(top)
            if rule.descriptors == "clean":
                self._names = {word for word in known if len(word) >= _SHORTEST_NAME}

    def _links(self, top: Elements, rule: Deidentify) -> tuple[Link, ...]:
        code = self.names.code("patient", self.patient)
        found = [Link("patient", self.patient, code)]
        for kind, tag in _LINKED:
            if text := _text(top, tag):
                found.append(Link(kind, text, code if kind == "name" else self._pseudonym(kind, text)))
        if rule.dates == "shift":
            found.append(Link("shift", f"-{self.days} days", code))
        return tuple(link for link in found if link.original != link.pseudonym)

    def _pseudonym(self, kind: str, text: str) -> str:
        if kind in ("study", "series"):
            return self.names.uid(text) if self.table.action(STUDY) is Action.UID else text
        return self.names.code(kind, text)

    def _words(self, top: Elements) -> tuple[set[str], set[str]]:
        """All words of attributes that are removed for who they tell, at any depth; those of names and numbers."""
        found: set[str] = set()
        names: set[str] = set()
        for level in top.everywhere():
            for tag in level.tags():
                vr = level.vr(tag)
                if vr in _TEXT and (vr == "PN" or tag in _IDENTIFYING):
                    words = {word for text in level.texts(tag) for word in words_of(text)}
                    found |= words
                    if vr == "PN" or tag in _WHO:
                        names |= words
        return found, names

    # ---- one level and what is below it

    def edit(self, level: Elements, patient: str) -> None:
        """``patient``: of the level above, for items that do not name their own."""
        patient = _text(level, PATIENT_ID) or patient
        for tag in level.tags():
            if tag >> 16 & 1:
                self._private(level, tag, patient)
            else:
                self._public(level, tag, patient)

    def _private(self, level: Elements, tag: int, patient: str) -> None:
        if tag & 0xFFFF <= 0xFF:
            if not self._reserves_safe(level, tag):
                level.drop(tag)
        elif self._safe(level, tag):
            self._keep(level, tag, patient)
        else:
            level.drop(tag)

    def _safe(self, level: Elements, tag: int) -> bool:
        return (level.level.creator(tag), tag >> 8 & 0xFFFF00 | tag & 0xFF) in self.table.safe_private

    def _reserves_safe(self, level: Elements, tag: int) -> bool:
        """Whether a private creator has an element that stays; it stands before all of them."""
        if not self.table.safe_private or not 0x10 <= tag & 0xFFFF <= 0xFF:
            return False
        first = tag & 0xFFFF0000 | (tag & 0xFF) << 8
        return any(first <= each <= first | 0xFF and self._safe(level, each) for each in level.tags())

    def _public(self, level: Elements, tag: int, patient: str) -> None:
        action = self.table.action(tag)
        if action is Action.KEEP:
            self._keep(level, tag, patient)
            if self._names and not listed_vr(tag) and tag not in _CODES_OF_ITEMS:
                self._clean(level, tag, without, self._names)
        elif action is Action.REMOVE:
            level.drop(tag)
        elif action is Action.CLEAN:
            self._clean_described(level, tag)
        else:
            self._replace(level, tag, action, patient)

    def _keep(self, level: Elements, tag: int, patient: str) -> None:
        items = level.items(tag)
        if items is not None:
            for item in items:
                self.edit(item, patient)
        elif _vr(level, tag) == "SQ" and level.value(tag) != b"":
            level.drop(tag)  # a sequence that nobody can look into

    def _replace(self, level: Elements, tag: int, action: Action, patient: str) -> None:
        vr = _vr(level, tag)
        if tag in (PATIENT_ID, PATIENT_NAME):
            level.put(tag, vr, dummies.padded(self.names.code("patient", patient)))
        elif level.value(tag) == b"" or level.items(tag) == []:
            return
        elif vr == "SQ" or level.items(tag) is not None:
            self._replace_items(level, tag, action, patient)
        elif tag == ACCESSION:
            level.put(tag, vr, dummies.padded(self.names.code("accession", _text(level, tag))))
        elif action is Action.SHIFT:
            self._shift(level, tag, vr)
        elif action is Action.UID or (action is Action.DUMMY and vr == "UI"):
            level.put(tag, vr, dummies.padded("\\".join(map(self.names.uid, level.texts(tag))), "UI"))
        else:
            level.put(tag, vr, b"" if action is Action.EMPTY else dummies.value(vr))

    def _replace_items(self, level: Elements, tag: int, action: Action, patient: str) -> None:
        if action is Action.DUMMY and dummies.has_items(tag):
            dummies.put_items(level, tag)
        elif action is Action.DUMMY:
            self._keep(level, tag, patient)
        else:
            level.put(tag, "SQ", b"")

    def _shift(self, level: Elements, tag: int, vr: str) -> None:
        """Times of day stay; what is neither time nor date goes."""
        texts = level.texts(tag)
        if vr == "TM":
            after = tuple(text if _TIME.fullmatch(text) else "" for text in texts)
        else:
            after = tuple(earlier(text, self.days) for text in texts)
        if after != texts:
            level.put(tag, vr, dummies.padded("\\".join(after)))

    def _clean_described(self, level: Elements, tag: int) -> None:
        """Descriptive text; what is none goes."""
        if _vr(level, tag) in _TEXT and level.value(tag) is not None:
            self._clean(level, tag, clean, self._identifying or set())
        else:
            level.drop(tag)

    def _clean(self, level: Elements, tag: int, cleaned: Callable[[str, set[str]], str], words: set[str]) -> None:
        """Text; what is empty or has nothing in it that identifies keeps its bytes."""
        raw, vr = level.value(tag), _vr(level, tag)
        if not raw or vr not in _TEXT:
            return
        before = charset.decode(raw, level.level.codecs, name=vr == "PN").rstrip(" \0")
        parts = [before] if vr in _SINGLE else before.split("\\")
        after = "\\".join(cleaned(part, words) for part in parts)
        if after != before:
            level.put(tag, vr, _encoded(after, level, vr))


def _encoded(text: str, level: Elements, vr: str) -> bytes:
    """In the data set's character set, or, where that does not have it, a dummy."""
    try:
        raw = encoded(text, level.level.character_set, name=vr == "PN")
    except Unrepresentable:
        return dummies.value(vr)
    return raw + b" " * (len(raw) & 1)


def earlier(text: str, days: int) -> str:
    """A DA or DT value, moved into the past by so many days, as exact as it was; empty if it is no date, or more."""
    try:
        return shifted(text, days) if _DATE.fullmatch(text) else ""
    except (ValueError, OverflowError):
        return ""


def _text(level: Elements, tag: int) -> str:
    return "\\".join(level.texts(tag)).strip()


def _vr(level: Elements, tag: int) -> str:
    vr = level.vr(tag)
    return (listed_vr(tag) or vr) if vr == "UN" else vr


def _record(level: Elements, rule: Deidentify) -> None:
    """What was done, beside what others did before (PS3.15 §E.1.1)."""
    level.put(_REMOVED, "CS", dummies.padded("YES"))
    methods = [text for text in level.texts(_METHOD) if text != METHOD]
    raw = _encoded("\\".join([*methods, METHOD]), level, "LO")
    level.put(_METHOD, "LO", raw if METHOD.encode() in raw else dummies.padded(METHOD))
    known = {_text(item, 0x00080100) for item in level.items(_CODES) or ()}
    used = [("113100", "Basic Application Confidentiality Profile")]
    used += [_METHODS[name] for name in sorted(rule.columns)]
    new = tuple(dummies.coded(value, meaning) for value, meaning in used if value not in known)
    if new:
        level.put_items(_CODES, new, keep=True)
    temporal = {"remove": "REMOVED", "keep": "UNMODIFIED", "shift": "MODIFIED"}[rule.dates]
    level.put(_TEMPORAL, "CS", dummies.padded(temporal))


_IDENTIFYING = frozenset(
    {
        *(ACCESSION, PATIENT_ID, PATIENT_NAME),
        *(0x00080080, 0x00080081, 0x00081010, 0x00081040),  # institution, address, station, department
        *(0x00100021, 0x00101000, 0x00101005, 0x00101040, 0x00101060, 0x00101090, 0x00102154, 0x00102297),
        *(0x00200010, 0x00380010, 0x00380060, 0x00400009, 0x00401001, 0x00402016, 0x00402017),
    }
)
"""Attributes whose words must stand nowhere else; person names always."""
_WHO = frozenset({ACCESSION, PATIENT_ID})
"""Attributes besides persons' names whose words must not stand in text that the table does not list either."""
_SHORTEST_NAME = 3
_CODES_OF_ITEMS = frozenset({0x00080100, 0x00080101, 0x00080102, 0x00080103, 0x00080119, 0x00080120})
"""What a code is and whose; its meaning is text."""
