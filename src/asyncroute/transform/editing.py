"""What a step works with: the header under edit, text in and out, templates, and what is told to people.

Guarantees: a value is written only if it fits its VR and can be represented in the character set in force, or as the
transform's `misfit` says; a value that a step does not change keeps its bytes.
Failures: `Refused`, with the attribute and the reason.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterator

from asyncroute.core.coercion import Coercion, Fact, Function, Target, Template
from asyncroute.core.paths import Path
from asyncroute.transform import binary, fits, text
from asyncroute.transform.base import Change, Facts, Header, Link, Refused
from asyncroute.transform.level import Entry, Level
from asyncroute.transform.pseudonyms import uid_of
from asyncroute.wire.elements import tag_text
from asyncroute.wire.values import dictionary_vr, texts_of

_LEADING = frozenset({"AE", "CS", "DS", "IS", "LO", "SH"})
_MOST_CHANGES = 500
_LONGEST_SHOWN = 200

Place = tuple[Level, int, str]
"""Where an attribute stands, or would stand, and its name for people."""


class Editing:
    """One header on its way through all steps. `label`: the step that runs, for people."""

    __slots__ = (
        *("anonymous", "big", "changes", "coercion", "facts", "header", "label", "links"),
        *("sop_instance_uid", "top", "transfer_syntax"),
    )

    def __init__(self, top: Level, facts: Facts, header: Header) -> None:
        self.top = top
        self.facts = facts
        self.header = header
        self.transfer_syntax = header.transfer_syntax
        self.sop_instance_uid = header.sop_instance_uid
        """Of the image that is made, where it does not say so itself."""
        self.links: tuple[Link, ...] = ()
        self.anonymous = False
        self.coercion = _NONE
        self.label = ""
        self.changes: list[Change] = []

    # --- places -------------------------------------------------------------------------------------------------------

    def places(self, target: Target, everywhere: bool = False) -> Iterator[Place] | list[Place]:
        """Where the attribute may stand: for a top-level one its place, whether it is there or not."""
        path = target.path
        if len(path) == 1 and not everywhere and not path[0].creator:
            return [(self.top, path[0].tag, target.name)]
        return self._places(target, everywhere)

    def _places(self, target: Target, everywhere: bool) -> Iterator[Place]:
        levels = _inside(self.top, target.path) if len(target.path) > 1 else iter((self.top,))
        if everywhere:
            levels = self.top.levels() if len(target.path) == 1 else (x for each in levels for x in each.levels())
        step = target.path[-1]
        for level in levels:
            tags = actual(level, step.tag, step.creator)
            there = [tag for tag in tags if level.get(tag) is not None]
            for tag in there or tags[: level is self.top or len(target.path) > 1]:
                yield level, tag, target.name if level is self.top or not everywhere else f"...{target.name}"

    def reserve(self, target: Target) -> Iterator[Place] | list[Place]:
        """The same as `places`, for writing: a private block of the creator is reserved where there is none."""
        step = target.path[-1]
        if step.creator:
            for level in [self.top] if len(target.path) == 1 else _inside(self.top, target.path):
                if not level.blocks(step.tag >> 16, step.creator):
                    group, block = step.tag >> 16, level.free_block(step.tag >> 16)
                    level.put(
                        group << 16 | block, Entry("LO", _padded(step.creator.encode("latin-1", "replace"), "LO"))
                    )
        return self.places(target)

    # --- text ---------------------------------------------------------------------------------------------------------

    def text(self, level: Level, tag: int, entry: Entry, name: str, given: str = "") -> str:
        """The value as text, without padding; several values with backslashes between them.

        ``given``: its VR where neither the image nor the dictionary knows it.
        """
        vr = entry.vr
        if vr == "UN":
            vr = level.meaning(tag, entry)
            vr = vr if vr != "UN" else given or vr
        raw = entry.value
        if vr in fits.TEXT or vr == "UN":
            found = (
                text.decoded(raw, level.codecs, vr == "PN") if vr in fits.LOCAL or vr == "UN" else raw.decode("latin-1")
            )
            if found is None:
                raise self.refused(name, "has bytes that are no characters of the image's character set")
            return _bare(vr, found)
        if vr in binary.BINARY:
            return "\\".join(texts_of(vr, raw, level.codecs, big=level.encoding.big and entry.vr != "UN"))
        raise self.refused(name, f"has VR {vr}, which is no text")

    def render(self, template: Template) -> str:
        """The text that a template stands for, now."""
        pieces = []
        for piece in template:
            if isinstance(piece, str):
                pieces.append(piece)
            elif isinstance(piece, Function):
                pieces.append(self._function(piece))
            else:
                pieces.append(self.value(piece))
        return "".join(pieces)

    def value(self, of: Target | Fact) -> str:
        """The text of an attribute or a fact, "" where there is none."""
        if isinstance(of, Fact):
            return str(getattr(self.facts, of.name))
        for level, tag, name in self.places(of):
            entry = level.get(tag)
            if entry is not None:
                return self.text(level, tag, entry, name)
        return ""

    def _function(self, function: Function) -> str:
        """Of an empty value nothing: else all images without it would get the same."""
        value = self.value(function.of)
        if not value:
            return ""
        if function.kind == "crc32":
            return str(zlib.crc32(value.encode()))
        if function.kind == "uid":
            return new_uid(value, self.coercion.secret)
        return digest(value, self.coercion.secret).hex().upper()[: function.size]

    def rewrite(self, wanted: Callable[[int, str], bool], change: Callable[[str, str], str]) -> None:
        """Change every value of all elements that are ``wanted`` (tag, VR), at any depth: ``change(name, value)``."""
        for level in list(self.top.levels()):
            for tag in level.tags():
                entry = level.get(tag) if wanted(tag, level.vr(tag)) else None
                if entry is None or not entry.value.strip(b"\0 "):
                    continue
                name = name_of(tag) if level is self.top else f"...{name_of(tag)}"
                before = self.text(level, tag, entry, name)
                new = "\\".join([change(name, value) for value in before.split("\\")])
                if new != before:
                    self.write(level, tag, name, new, entry.vr, (entry, before))

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(
        self,
        level: Level,
        tag: int,
        name: str,
        new: str,
        vr: str,
        was: tuple[Entry, str] | None,
        raw: bytes | None = None,
    ) -> None:
        """Give an attribute this text. `was`: what is there; `raw`: the text's bytes, if known.

        `vr`: of one that is not there, or of which neither the image nor the dictionary knows it.
        """
        if was is not None:
            entry, before = was
            coded = entry.vr
            known = coded if coded != "UN" else level.meaning(tag, entry)
            vr = known if known != "UN" else vr or "LO"
        else:
            before = None
            coded = vr = vr if " or " not in vr else level.either(vr)
        value, new = self.fitted(level, vr, name, new, coded == "UN", raw)
        level.put(tag, Entry(coded, value))
        self.changed(name, before, new)

    def fitted(self, level: Level, vr: str, name: str, new: str, little: bool, raw: bytes | None) -> tuple[bytes, str]:
        """The bytes for this text, and the text as it was made to fit. `raw`: its bytes as it is, if known."""
        if vr not in fits.TEXT:
            return self._number(level, vr, name, new, little), new
        parts = [new] if "\\" not in new or vr in fits.SINGLE else new.split("\\")
        for n, part in enumerate(parts):
            problem = fits.problem(vr, part)
            if problem is not None:
                parts[n] = self._misfit(vr, name, part, problem)
        made = parts[0] if len(parts) == 1 else "\\".join(parts)
        if raw is not None and made == new:
            return _padded(raw, vr), made
        if made.isascii() and "\x1b" not in made:
            return _padded(made.encode("ascii"), vr), made
        if vr not in fits.LOCAL:
            raise self.refused(name, f"{_shown(made)!r} has characters that {vr} does not allow")
        try:
            return _padded(text.encoded(made, level.character_set, vr == "PN"), vr), made
        except text.Unrepresentable as error:
            raise self.refused(name, str(error)) from None

    def _misfit(self, vr: str, name: str, part: str, problem: str) -> str:
        """What to write instead of a value that does not fit."""
        how = self.coercion.misfit
        if how == "pass":
            return part
        if how == "truncate" and fits.too_long(vr, part):
            shorter = fits.cut(vr, part)
            if fits.problem(vr, shorter) is None:
                return shorter
        raise self.refused(name, f"{_shown(part)!r} {problem}")

    def _number(self, level: Level, vr: str, name: str, new: str, little: bool) -> bytes:
        if vr not in binary.BINARY:
            raise self.refused(name, f"has VR {vr}, which takes no text")
        try:
            return binary.encoded(new, vr, level.encoding.big and not little)
        except binary.NoNumber as error:
            raise self.refused(name, f"{_shown(new)!r} {error}") from None

    def changed(self, name: str, before: str | None, after: str | None) -> None:
        """Remember a change for people; of very many only the first ones."""
        if len(self.changes) < _MOST_CHANGES:
            self.changes.append(
                Change(
                    name,
                    before if before is None else _shown(before),
                    after if after is None else _shown(after),
                    self.label,
                )
            )

    def show(self, level: Level, tag: int, entry: Entry | None) -> str | None:
        """An element's value for people, whatever it is."""
        if entry is None:
            return None
        vr = level.meaning(tag, entry)
        if vr in ("SQ", "UN") or vr.startswith("O"):
            return f"{len(entry.value)} bytes ({vr})"
        return "\\".join(texts_of(vr, entry.value[:1024], level.codecs, big=level.encoding.big))

    def refused(self, name: str, why: str) -> Refused:
        """To raise: this step cannot be done."""
        return Refused(f"{self.label}: {name}: {why}")


_NONE = Coercion("", (), ())


def actual(level: Level, tag: int, creator: str) -> list[int]:
    """The tag of a path's step at this level; of a private one in each block that its creator has there."""
    if not creator:
        return [tag]
    return [tag & 0xFFFF0000 | block << 8 | tag & 0xFF for block in level.blocks(tag >> 16, creator)]


def _inside(top: Level, path: Path) -> Iterator[Level]:
    """The levels in which the last attribute of a path may stand."""
    levels = [top]
    for step in path[:-1]:
        found = []
        for level in levels:
            for tag in actual(level, step.tag, step.creator):
                sequence = level.sequence(tag, named=True)
                items = sequence.items if sequence else []
                found += [item.level for item in (items if step.item is None else items[step.item : step.item + 1])]
        levels = found
    return iter(levels)


def name_of(tag: int) -> str:
    """A keyword, or the tag where there is none."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or tag_text(tag)


def vr_of(tag: int) -> str:
    """By the dictionary."""
    return dictionary_vr(tag, "")


def digest(value: str, secret: bytes) -> bytes:
    """SHA-256, keyed if there is a secret (RFC 2104)."""
    raw = value.encode(errors="surrogatepass")
    return hmac.digest(secret, raw, "sha256") if secret else hashlib.sha256(raw).digest()


def new_uid(uid: str, secret: bytes) -> str:
    """A UID made of another one, always the same."""
    return uid_of(digest(uid, secret))


def _bare(vr: str, value: str) -> str:
    value = value.rstrip(" \0")
    leading = vr in _LEADING
    if "\\" in value and vr not in fits.SINGLE:
        parts = [part.rstrip(" \0") for part in value.split("\\")]
        return "\\".join([part.lstrip(" ") for part in parts] if leading else parts)
    return value.lstrip(" ") if leading else value


def _padded(value: bytes, vr: str) -> bytes:
    """To even length (PS3.5 §6.2)."""
    return value + (b"\0" if vr == "UI" else b" ") if len(value) & 1 else value


def _shown(value: str) -> str:
    return value if len(value) <= _LONGEST_SHOWN else value[: _LONGEST_SHOWN - 3] + "..."
