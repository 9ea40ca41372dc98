"""Where a folder destination puts an image: the layout template.

Purpose: ``{PatientID}/{StudyDate}-{Modality}/{SOPInstanceUID}.dcm`` to a relative path, from an image's attributes.
Guarantees: whatever an image says, the path stays below the destination's folder: values lose separators, control
characters and leading dots, no component is empty, longer than 200 bytes or "..". Different values stay different: one
that had to be changed is given a short hash.
Failures: ValueError while parsing, with a text that says what is wrong; none while rendering.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from asyncroute.config.attributes import Attribute, find_attribute
from asyncroute.config.words import Invalid, quote
from asyncroute.core.conditions import Attributes

DEFAULT_LAYOUT = "{PatientID}/{StudyDate}-{Modality}/{SOPInstanceUID}.dcm"
SOP_INSTANCE_UID = 0x00080018
ABSENT = "unknown"
"""What stands for an attribute that is absent or empty."""

_FACTS = ("calling_aet", "called_aet", "listener", "peer")
_PARTS = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f-\x9f/\\<>:"|?*\ud800-\udfff'
    r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # ends of lines, and what makes a name look like another one
)
_LONGEST = 200  # bytes; file systems allow 255, the rest is for suffixes of duplicates and of unfinished files

Part = str | Attribute


@dataclass(frozen=True, slots=True)
class Layout:
    """A parsed template: the path's components, each of literal texts and attributes."""

    text: str
    components: tuple[tuple[Part, ...], ...]

    @property
    def tags(self) -> frozenset[int]:
        """The attributes that are needed to render a path."""
        return frozenset(part.tag for parts in self.components for part in parts if isinstance(part, Attribute))

    def render(self, attributes: Attributes) -> str:
        """The path of an image with these attributes, relative to the destination's folder."""
        return "/".join(_fit("".join(_rendered(part, attributes) for part in parts)) for parts in self.components)


def parse_layout(text: str) -> Layout:
    """The layout that `text` describes: folders separated by ``/``, with ``{Keyword}`` or ``{(gggg,eeee)}`` in them."""
    if not text:
        raise Invalid("must not be empty")
    if not text.isprintable() or "\\" in text:
        raise Invalid(f'must be printable characters, with "/" between folders, not {quote(text)}')
    if text.startswith("/"):
        raise Invalid('must be relative to the destination\'s "path"; it cannot begin with "/"')
    return Layout(text, tuple(_parse_component(component) for component in text.split("/")))


def _parse_component(text: str) -> tuple[Part, ...]:
    if not text:
        raise Invalid("has an empty folder or file name")
    if text in (".", ".."):
        raise Invalid(f'cannot contain "{text}"')
    pieces = _PARTS.split(text)  # literal, name, literal, name, ... literal
    if any(c in literal for literal in pieces[::2] for c in "{}"):
        raise Invalid(f"has braces that do not match in {quote(text)}")
    parts: list[Part] = [_attribute(piece) if n % 2 else piece for n, piece in enumerate(pieces)]
    return tuple(part for part in parts if part)


def _attribute(name: str) -> Attribute:
    if name in _FACTS:
        raise Invalid(f"{{{name}}} is not available yet; only attributes work today")
    try:
        return find_attribute(name)
    except ValueError as error:
        raise Invalid(f"{{{name}}}: {error}") from None


def _rendered(part: Part, attributes: Attributes) -> str:
    if isinstance(part, str):
        return part
    value = "-".join(attributes.get(part.tag, ())).strip()
    if not value.strip("-"):
        return ABSENT
    safe = _UNSAFE.sub("_", value)
    if safe.startswith("."):
        safe = "_" + safe[1:]
    return safe if safe == value else f"{safe}~{_hash(value)}"


def _fit(component: str) -> str:
    raw = component.encode()
    if len(raw) <= _LONGEST:
        return component
    return f"{raw[: _LONGEST - 16].decode(errors='ignore')}~{_hash(component)}{_suffix(component)}"


def _suffix(component: str) -> str:
    """A short file name extension, which a shortened name keeps."""
    _, dot, suffix = component.rpartition(".")
    return dot + suffix if dot and suffix.isascii() and suffix.isalpha() and len(suffix) <= 4 else ""


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=4).hexdigest()
