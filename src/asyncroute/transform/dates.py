"""The step shift_dates: all dates of a patient earlier by the same number of days.

Guarantees: the number of days follows from the patient's ID as received and the secret (HMAC-SHA-256), so it is the
same for all images of a patient, on every router with the same secret; intervals stay right. DA and DT are shifted at
any depth, in private elements where their VR is known; times of day, precision and time zones stay.
Failures: `Refused` for dates that are none (but as `misfit` says), and for an image without Patient ID.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

from asyncroute.core.coercion import ShiftDates
from asyncroute.transform.editing import Editing, digest
from asyncroute.wire.values import texts_of

_PATIENT_ID = 0x00100020
_DATE = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)((?:\d\d){0,3}(?:\.\d{1,6})?))?)?([+-]\d{4})?", re.ASCII)
_OLD = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)", re.ASCII)  # before DICOM 3.0


def dates_step(spec: ShiftDates) -> Callable[[Editing], None]:
    """``shift_dates``."""

    def run(e: Editing) -> None:
        by = days_of(_patient(e), e.coercion.secret, spec.days)
        e.rewrite(lambda tag, vr: vr in ("DA", "DT"), lambda name, value: _earlier(e, name, value, by))

    return run


def _patient(e: Editing) -> str:
    entry = e.top.original(_PATIENT_ID)
    patient = "\\".join(texts_of("LO", entry.value, e.top.codecs, big=False)) if entry else ""
    if not patient:
        raise e.refused("PatientID", "is empty: dates are shifted by patient")
    return patient


def days_of(patient: str, secret: bytes, most: int) -> int:
    """By how many days the dates of a patient are shifted, 1..most."""
    return 1 + int.from_bytes(digest(f"days of {patient}", secret)[:8], "big") % most


def _earlier(e: Editing, name: str, value: str, by: int) -> str:
    if not value:
        return value
    try:
        return shifted(value.replace(".", "") if _OLD.fullmatch(value) else value, by)  # DA takes the new form only
    except (ValueError, OverflowError):
        if e.coercion.misfit == "pass":
            return value
        raise e.refused(name, f"{value[:40]!r} is no date that could be shifted") from None


def shifted(value: str, by: int) -> str:
    """The date (DA, DT) so many days earlier, with the same precision. Raises ValueError."""
    found = _OLD.fullmatch(value) or _DATE.fullmatch(value)
    if found is None:
        raise ValueError(value)
    year, month, day = (int(part) if part else 1 for part in found.groups()[:3])
    other = date(year, month, day) - timedelta(by)
    if found.re is _OLD:
        return f"{other.year:04}.{other.month:02}.{other.day:02}"
    digits = f"{other.year:04}{other.month:02}{other.day:02}"[: 8 if found[3] else 6 if found[2] else 4]
    return digits + (found[4] or "") + (found[5] or "")
