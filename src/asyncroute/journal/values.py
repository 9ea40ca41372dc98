"""How the model's values are stored in SQLite, and read back.

Guarantees: hashes of 64 bits survive the trip through SQLite's signed integers; text that UTF-8 cannot hold (lone
surrogates) is escaped, never refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from xxhash import xxh3_64_intdigest, xxh32_intdigest

_TOP = 1 << 63
_RANGE = 1 << 64


def signed(number: int) -> int:
    """A 64-bit hash (0..2**64-1) as SQLite's integer (-2**63..2**63-1)."""
    return number - _RANGE if number >= _TOP else number


def unsigned(number: int) -> int:
    """The inverse of ``signed``."""
    return number + _RANGE if number < 0 else number


def uid_key(uid: str) -> int:
    """The index key of a SOP Instance UID: neighbours for UIDs that differ in their last component only."""
    data = uid.encode("utf-8", "backslashreplace")
    high = xxh32_intdigest(data[: data.rfind(b".") + 1])
    return signed(high << 32 | xxh3_64_intdigest(data) & 0xFFFFFFFF)


def strand(calling_aet: str, study_uid: str) -> int:
    """The number of what takes turns: a study from one source. Two that share a number share their turns."""
    return xxh32_intdigest(f"{calling_aet}\0{study_uid}".encode("utf-8", "backslashreplace")) >> 1


def clean(value: object) -> object:
    """``value``, with what UTF-8 cannot hold escaped if it is text."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def as_text(data: bytes) -> str:
    """Text as SQLite has it; damaged text is no reason to read nothing at all."""
    return data.decode("utf-8", "replace")


def json_ids(ids: Iterable[int]) -> str:
    """Instance ids as the JSON list that statements take."""
    return f"[{','.join(map(str, ids))}]"
