"""The steps of a transform, as tables: each is known by the key that says what it does (``set``, ``prefix``, ...).

Guarantees: a `Step` that exists gives by `spec` what `transform.registry` knows how to run; `STEPS` lists all kinds,
and another family adds its own there.
Failures: ValueError or pydantic's ValidationError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, field_validator

from asyncroute.config.attributes import PIXELS, Attribute, find_path
from asyncroute.config.fields import Flag, choice, whole
from asyncroute.config.lookup import read_lookup
from asyncroute.config.table import Table
from asyncroute.config.templates import expression, target_of, template
from asyncroute.config.words import Invalid, quote, show
from asyncroute.core import coercion

_LONGEST_VALUE = 10240
_PIXELS = PIXELS >> 16
"""The group of the pixel data, which end the header."""


def text(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid(f"must be text in quotes, not {show(value)}")
    return value


def _number_or_text(value: object) -> str:
    """Numbers may be written without quotes."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def _editable(value: object) -> coercion.Target:
    """An attribute whose value is text or a number."""
    found = _found(value, reached=_in_header)
    if found.vr == "SQ":
        raise Invalid(f"{found.name} is a sequence; name an attribute inside of it: {found.name}.0.…")
    if found.opaque and found.vr != "AT":
        raise Invalid(f"{found.name} has binary values, which no text can stand for")
    return target_of(found)


def _any(value: object) -> coercion.Target:
    """An attribute of any kind."""
    return target_of(_found(value, reached=_in_header))


def _in_header(found: Attribute) -> None:
    if found.path[0].tag >> 16 > _PIXELS:
        raise Invalid(f"{found.name} stands behind the pixel data, where only delete reaches it")


def _as_a_whole(found: Attribute) -> None:
    if found.path[0].tag >> 16 > _PIXELS and len(found.path) > 1:
        raise Invalid(f"{found.name} stands behind the pixel data, where sequences can only be deleted as a whole")


def _found(value: object, reached: Callable[[Attribute], None]) -> Attribute:
    found = find_path(text(value))
    if found.path[0].tag >> 16 == _PIXELS:
        raise Invalid(f"{found.name} belongs to the pixel data, which are never touched")
    reached(found)
    if not found.tag & 0xFFFF and not found.path[-1].creator:
        raise Invalid(f"{found.name} is a group length, which follows the other elements by itself")
    return found


Editable = Annotated[coercion.Target, PlainValidator(_editable)]
Anything = Annotated[coercion.Target, PlainValidator(_any)]
Template = Annotated[coercion.Template, PlainValidator(lambda value: template(_number_or_text(value)))]
Expression = Annotated[coercion.Template, PlainValidator(lambda value: expression(text(value)))]


class Step(Table):
    """One step. `KIND`: the key that says what it does."""

    KIND: ClassVar[str] = ""

    def spec(self) -> object:
        """What `transform.registry` knows how to run."""
        raise NotImplementedError


_SETTABLE = (
    *("AE", "AS", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "SV", "TM"),
    *("UC", "UI", "UL", "UR", "US", "UT", "UV"),
)


def _vr(value: object) -> str:
    if value not in _SETTABLE:
        raise Invalid(f'must be a VR such as "LO" or "US", not {show(value)}')
    return str(value)


class _Valued(Step):
    """Has a value from ``to`` or ``from``."""

    to: Template | None = None
    from_: Expression | None = Field(alias="from", default=None)
    vr: Annotated[str | None, BeforeValidator(_vr)] = None
    everywhere: Flag = False

    @property
    def value(self) -> coercion.Template:
        """What to write."""
        if (self.to is None) == (self.from_ is None):
            raise Invalid('needs either "to" (text, with attributes in braces) or "from" (an attribute or a function)')
        return self.to if self.to is not None else self.from_ or ()


def _with_vr(target: coercion.Target, vr: str | None) -> coercion.Target:
    """The target with the VR that it gets where it is not there yet."""
    if vr is not None:
        if target.vr not in ("", "UN") and vr not in target.vr:
            raise Invalid(f"has VR {target.vr}; it cannot have VR {vr}")
        return target._replace(vr=vr, given=True)
    if target.vr in ("", "UN"):
        raise Invalid(f'{target.name} is not in the data dictionary: add vr = "LO", or what it is')
    return target


class Set(_Valued):
    """``set``."""

    KIND: ClassVar[str] = "set"
    set: Editable

    def spec(self) -> object:
        return coercion.Set(_with_vr(self.set, self.vr), self.value, False, self.everywhere)


class Fill(_Valued):
    """``fill``."""

    KIND: ClassVar[str] = "fill"
    fill: Editable

    def spec(self) -> object:
        return coercion.Set(_with_vr(self.fill, self.vr), self.value, True, self.everywhere)


class _Affix(Step):
    with_: Template = Field(alias="with")
    once: Flag = True
    everywhere: Flag = False

    @field_validator("with_")
    @classmethod
    def _something(cls, value: coercion.Template) -> coercion.Template:
        if not value:
            raise Invalid("must not be empty")
        return value


class Prefix(_Affix):
    """``prefix``."""

    KIND: ClassVar[str] = "prefix"
    prefix: Editable

    def spec(self) -> object:
        return coercion.Affix(self.prefix, self.with_, True, self.once, self.everywhere)


class Suffix(_Affix):
    """``suffix``."""

    KIND: ClassVar[str] = "suffix"
    suffix: Editable

    def spec(self) -> object:
        return coercion.Affix(self.suffix, self.with_, False, self.once, self.everywhere)


class Replace(Step):
    """``replace``."""

    KIND: ClassVar[str] = "replace"
    replace: Editable
    old: Annotated[str, BeforeValidator(text)]
    with_: Template = Field(alias="with")
    everywhere: Flag = False

    @field_validator("old")
    @classmethod
    def _pattern(cls, value: str) -> str:
        pattern = value.removeprefix("re:")
        if not pattern:
            raise Invalid("must not be empty")
        if value.startswith("re:"):
            try:
                re.compile(pattern)
            except re.error as error:
                raise Invalid(f"is not a regular expression: {error.msg} at position {error.pos}") from None
            except (RecursionError, OverflowError):
                raise Invalid("is a regular expression that is too complicated") from None
        return value

    def spec(self) -> object:
        regex = self.old.startswith("re:")
        if regex:
            self._check_groups()
        old = self.old.removeprefix("re:") if regex else self.old
        return coercion.Replace(self.replace, old, self.with_, regex, self.everywhere)

    def _check_groups(self) -> None:
        own = "".join(piece for piece in self.with_ if isinstance(piece, str))
        try:
            re.compile(self.old[3:] + "|").sub(own, "")
        except (re.error, IndexError) as error:
            raise Invalid(f'"with" refers to a group that is not there: {error}') from None


class _Alter(Step):
    everywhere: Flag = False

    def spec(self) -> object:
        return coercion.Alter(self.KIND, getattr(self, self.KIND), everywhere=self.everywhere)


class Upper(_Alter):
    """``upper``."""

    KIND: ClassVar[str] = "upper"
    upper: Editable


class Lower(_Alter):
    """``lower``."""

    KIND: ClassVar[str] = "lower"
    lower: Editable


class Strip(_Alter):
    """``strip``."""

    KIND: ClassVar[str] = "strip"
    strip: Editable


class Pad(_Alter):
    """``pad``."""

    KIND: ClassVar[str] = "pad"
    pad: Editable
    size: Annotated[int, whole(1, _LONGEST_VALUE)]
    with_: Annotated[str, BeforeValidator(text)] = Field(alias="with", default="0")
    side: Annotated[Literal["left", "right"], choice("left", "right")] = "left"

    @field_validator("with_")
    @classmethod
    def _one(cls, value: str) -> str:
        if len(value) != 1:
            raise Invalid(f"must be one character, not {show(value)}")
        return value

    def spec(self) -> object:
        return coercion.Alter("pad", self.pad, self.size, self.with_, self.side == "left", self.everywhere)


class Truncate(_Alter):
    """``truncate``."""

    KIND: ClassVar[str] = "truncate"
    truncate: Editable
    size: Annotated[int, whole(1, _LONGEST_VALUE)]

    def spec(self) -> object:
        return coercion.Alter("truncate", self.truncate, self.size, everywhere=self.everywhere)


class _Transfer(Step):
    to: Anything
    vr: Annotated[str | None, BeforeValidator(_vr)] = None

    @property
    def source(self) -> coercion.Target:
        """Where it comes from."""
        raise NotImplementedError

    def spec(self) -> object:
        source = self.source
        if source.path == self.to.path:
            raise Invalid("leads to where it comes from")
        known = self.vr is not None or self.to.vr or not source.vr
        target = _with_vr(self.to, self.vr) if known else self.to._replace(vr=source.vr)
        return coercion.Transfer(source, target, self.KIND == "move")


class Copy(_Transfer):
    """``copy``."""

    KIND: ClassVar[str] = "copy"
    copy_: Anything = Field(alias="copy")

    @property
    def source(self) -> coercion.Target:
        return self.copy_


class Move(_Transfer):
    """``move``."""

    KIND: ClassVar[str] = "move"
    move: Anything

    @property
    def source(self) -> coercion.Target:
        return self.move


_GROUP = re.compile(r"\(([0-9A-Fa-f]{4}),\s?[xX]{4}\)")
PRIVATE = "private"


def _deleted(value: object) -> coercion.Target | int | str:
    if value == PRIVATE:
        return PRIVATE
    found = _GROUP.fullmatch(text(value))
    if found is None:
        return target_of(_found(value, reached=_as_a_whole))
    group = int(found[1], 16)
    if group in (0, 2, _PIXELS, 0xFFFE):
        raise Invalid(f"{value} cannot be deleted: it is not part of a header")
    return group


class Delete(Step):
    """``delete``."""

    KIND: ClassVar[str] = "delete"
    delete: Annotated[coercion.Target | int | str, PlainValidator(_deleted)]
    everywhere: Flag = False

    def spec(self) -> object:
        if isinstance(self.delete, coercion.Target):
            return coercion.Delete(self.delete, None, self.everywhere)
        return coercion.Delete(None, self.delete if isinstance(self.delete, int) else None, self.everywhere)


class Map(Step):
    """``map``."""

    KIND: ClassVar[str] = "map"
    map: Editable
    file: Annotated[Mapping[str, str], PlainValidator(lambda value, info: read_lookup(existing_file(value, info)))]
    from_: Expression | None = Field(alias="from", default=None)
    default: Template | None = None
    missing: Annotated[Literal["hold", "keep"], choice("hold", "keep")] = "hold"
    vr: Annotated[str | None, BeforeValidator(_vr)] = None
    everywhere: Flag = False

    @field_validator("missing")
    @classmethod
    def _either(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("default") is not None:
            raise Invalid('has no meaning beside "default"')
        return value

    def spec(self) -> object:
        target = _with_vr(self.map, self.vr) if self.from_ is not None else self.map
        return coercion.Lookup(target, self.file, self.from_, self.default, self.missing, self.everywhere)


def existing_file(value: object, info: ValidationInfo) -> Path:
    """A file that must be there, relative to the configuration's folder."""
    base = (info.context or {}).get("base") or Path.cwd()
    path = (base / Path(text(value)).expanduser()).absolute()
    if path.is_dir():
        raise Invalid(f"is a folder, not a file: {quote(str(path))}")
    if not path.exists():
        raise Invalid(f"no such file: {quote(str(path))}")
    return path


def _true(value: object) -> bool:
    if value is not True:
        raise Invalid(f"must be true, not {show(value)}: leave the step out instead")
    return True


class ShiftDates(Step):
    """``shift_dates``."""

    KIND: ClassVar[str] = "shift_dates"
    shift_dates: Annotated[bool, BeforeValidator(_true)]
    days: Annotated[int, whole(1, 36500)] = 3650

    def spec(self) -> object:
        return coercion.ShiftDates(self.days)


class NewUids(Step):
    """``new_uids``."""

    KIND: ClassVar[str] = "new_uids"
    new_uids: Annotated[bool, BeforeValidator(_true)]

    def spec(self) -> object:
        return coercion.NewUids()


def _function(value: object, info: ValidationInfo) -> coercion.Python:
    file, colon, function = text(value).rpartition(":")
    if not colon or not file.endswith(".py") or not function.isidentifier():
        raise Invalid(f'must be a file and a function, such as "site_a.py:coerce", not {show(value)}')
    return coercion.Python(existing_file(file, info), function)


class Python(Step):
    """``python``."""

    KIND: ClassVar[str] = "python"
    python: Annotated[coercion.Python, PlainValidator(_function)]

    def spec(self) -> object:
        return self.python


STEPS: dict[str, type[Step]] = {
    kind.KIND: kind
    for kind in (Set, Fill, Prefix, Suffix, Replace, Upper, Lower, Strip, Pad, Truncate, Copy, Move, Delete, Map,
                 ShiftDates, NewUids, Python)
}  # fmt: skip
"""Every kind of step by its key; another family adds its own here."""
