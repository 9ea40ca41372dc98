"""What all tables of the configuration have in common.

Guarantees: a table is frozen, knows its keys, and takes no value of a key whose part is not built yet, but the one that
describes what the program does today (`ONLY`, which `model` fills). Failures: pydantic's ValidationError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from asyncroute.config.units import format_duration
from asyncroute.config.words import Invalid, quote, show

NOT_YET = "not available yet"

ONLY: dict[type[Any], Mapping[str, object]] = {}
"""Keys whose part is not built yet, with their one value."""


class Table(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @field_validator("*")
    @classmethod
    def _works_today(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse values of `ONLY`'s keys whose part is not built yet; defaults are not checked, and need not be."""
        only = ONLY.get(cls, {}).get(info.field_name or "", value)
        if value != only:
            shown = quote(format_duration(only)) if isinstance(only, float) else show(only)
            raise Invalid(f"{NOT_YET}; only {shown} works today")
        return value
