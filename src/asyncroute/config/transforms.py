"""``[transform.NAME]``: what is changed on the way, step by step.

Purpose: the table of a transform, and the reading of its steps one by one, so that each mistake is told.
Guarantees: a `Transform` that exists gives a `Coercion` that can be compiled; every mistake is a problem at its key.
Failures: ValueError or pydantic's ValidationError, told through `Problems`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, ValidationError, ValidationInfo, field_validator

from asyncroute.config import secrets
from asyncroute.config.deidentify import Deidentify
from asyncroute.config.fields import Flag, choice
from asyncroute.config.steps import STEPS as PLAIN
from asyncroute.config.steps import Step, existing_file, text
from asyncroute.config.table import Table
from asyncroute.config.words import Invalid, Loc, did_you_mean, one_of, quote, show
from asyncroute.core import coercion

STEPS: dict[str, type[Step]] = {**PLAIN, Deidentify.KIND: Deidentify}
_NEED_SECRET = ("shift_dates", "new_uids")


def _secret(value: object) -> str:
    if len(text(value)) < secrets.SHORTEST:
        raise Invalid(f"must have at least {secrets.SHORTEST} characters")
    return str(value)


class Transform(Table):
    """``[transform.NAME]``. `steps` are `Step`s: the file's reader makes them one by one."""

    misfit: Annotated[Literal["hold", "truncate", "pass"], choice("hold", "truncate", "pass")] = "hold"
    record: Flag = False
    secret: Annotated[str | None, BeforeValidator(_secret)] = Field(default=None, repr=False)
    secret_file: Annotated[Path | None, PlainValidator(existing_file)] = None
    steps: tuple[Any, ...]

    @field_validator("secret_file")
    @classmethod
    def _one_secret(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            if info.data.get("secret") is not None:
                raise Invalid('has no meaning beside "secret"')
            secrets.read(value)
        return value

    @field_validator("steps", mode="before")
    @classmethod
    def _some(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise Invalid(f"must be a list of tables in brackets, not {show(value)}")
        if not value:
            raise Invalid("must have at least one step")
        return value

    @cached_property
    def key(self) -> bytes:
        """Its secret, read once; empty: it has none."""
        if self.secret_file is not None:
            return secrets.read(self.secret_file)
        return self.secret.encode() if self.secret is not None else b""

    def coercion(self, name: str, system: str) -> coercion.Coercion:
        """What it is to the rest of the program. `system`: this router's name."""
        words = tuple(step.KIND for step in self.steps)
        specs = tuple(step.spec() for step in self.steps)
        return coercion.Coercion(name, specs, words, self.misfit, self.record, system, self.key)


# --- Reading, each step by itself ------------------------------------------------------------------------------------

Report = Callable[[Loc, str], None]
ReportInvalid = Callable[[type[Table], Loc, ValidationError], None]


def read_transform(
    value: object, loc: Loc, base: Path, report: Report, report_invalid: ReportInvalid
) -> Transform | None:
    """The table at `loc`, or None and what is wrong with it reported."""
    context = {"base": base}
    raw = dict(value) if isinstance(value, dict) else value
    steps: list[Step | None] = []
    if isinstance(raw, dict) and isinstance(raw.get("steps"), list):
        steps = [
            _read_step(each, (*loc, "steps", n), context, report, report_invalid) for n, each in enumerate(raw["steps"])
        ]
        raw["steps"] = tuple(steps)
    try:
        found = Transform.model_validate(raw, context=context)
    except ValidationError as error:
        report_invalid(Transform, loc, error)
        return None
    if None in steps:
        return None
    for n, step in enumerate(found.steps):
        if step.KIND in _NEED_SECRET and found.secret is None and found.secret_file is None:
            report((*loc, "steps", n, step.KIND), 'needs "secret" or "secret_file" in its transform')
        if isinstance(step, Deidentify):
            _check_private(found.secret_file, loc, n, report)
            if found.record:
                report((*loc, "record"), 'cannot be true beside "deidentify": it would keep what is removed')
    return found


def _check_private(path: Path | None, loc: Loc, number: int, report: Report) -> None:
    """Whoever knows the secret of pseudonyms can find out whose they are."""
    if path is None:
        text = 'needs "secret_file" in its transform; "asyncroute secret FILE" makes one'
        report((*loc, "steps", number, Deidentify.KIND), text)
        return
    try:
        secrets.read(path, private=True)
    except Invalid as invalid:
        report((*loc, "secret_file"), str(invalid))


def _read_step(
    value: object, loc: Loc, context: dict[str, Any], report: Report, report_invalid: ReportInvalid
) -> Step | None:
    if not isinstance(value, dict):
        report(loc, f'must be a table in braces, such as {{ set = "Modality", to = "CT" }}, not {show(value)}')
        return None
    kinds = [key for key in value if key in STEPS]
    if len(kinds) != 1:
        report(loc, _not_one(value, kinds))
        return None
    model = STEPS[kinds[0]]
    try:
        step = model.model_validate(value, context=context)
    except ValidationError as error:
        report_invalid(model, loc, error)
        return None
    try:
        step.spec()
    except ValueError as error:
        report((*loc, kinds[0]), str(error))
        return None
    return step


def _not_one(value: Mapping[str, object], kinds: list[str]) -> str:
    if kinds:
        return f"is {' and '.join(map(quote, kinds))} in one: write a step for each"
    options = {
        "to",
        "with",
        "from",
        "once",
        "everywhere",
        "size",
        "file",
        "default",
        "missing",
        "vr",
        "old",
        "days",
        "retain",
        "dates",
        "descriptors",
        "burned_in",
    }
    unknown = next((key for key in value if key not in options), None)
    if unknown is None:
        return f"does not say what to do: {one_of(STEPS)}"
    return f"unknown step {quote(unknown)}{did_you_mean(unknown, STEPS, f'; there is {one_of(STEPS)}')}"
