"""Texts in steps that never fit their attribute, so that every image with them would be held: notes of ``check``.

Guarantees: only of what the configuration says alone, whatever images are. Failures: none.
"""

from __future__ import annotations

from collections.abc import Iterator

from asyncroute.config import Config
from asyncroute.config.words import quote
from asyncroute.core.coercion import Coercion, Set
from asyncroute.transform import binary, fits
from asyncroute.transform.texts import constant_of


def misfits(config: Config) -> Iterator[str]:
    """A line for each value of ``set`` and ``fill`` that will never be written."""
    for name, transform in config.transforms.items():
        coercion = transform.coercion(name, config.node.name)
        for number, spec in enumerate(coercion.steps, 1):
            why = _why(coercion, spec) if isinstance(spec, Set) else None
            if why is not None:
                yield f"transform {name}: step {number} ({coercion.words[number - 1]}) will hold its images: {why}"


def _why(coercion: Coercion, spec: Set) -> str | None:
    value, vr = constant_of(spec.value), spec.target.vr
    if value is None:
        return None
    if vr in binary.BINARY:
        try:
            binary.encoded(value, vr, big=False)
        except binary.NoNumber as error:
            return f"{quote(value)} {error}"
        return None
    parts = [value] if vr in fits.SINGLE else value.split("\\")
    found = ((part, _problem(coercion.misfit, vr, part)) for part in parts)
    return next((f"{quote(part)} {problem}" for part, problem in found if problem is not None), None)


def _problem(misfit: str, vr: str, part: str) -> str | None:
    if misfit == "pass":
        return None
    return fits.problem(vr, fits.cut(vr, part) if misfit == "truncate" else part)
