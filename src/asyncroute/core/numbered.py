"""Names of the spool's files, which are numbers, in folders of ``SHARD`` files.

A file is named after the number of the image that it was made for, and keeps that name when other images are written
over that one; numbers never return. No I/O. Failures: none.
"""

from __future__ import annotations

import re

SHARD = 1000
"""Files of one folder."""

SHARD_NAME = re.compile(r"\d{6,}", re.ASCII)
_MOST_DIGITS = 19
"""Of the largest number that the journal holds."""


def file_path(number: int) -> str:
    """The path of a file below the spool folder."""
    return f"{number // SHARD:06d}/{number:08d}.dcm"


def number_of(path: str) -> int | None:
    """The inverse of ``file_path``; None: it is the path of no file of ours."""
    digits = path.rpartition("/")[2][:-4]
    if digits.isdecimal() and len(digits) <= _MOST_DIGITS and file_path(number := int(digits)) == path:
        return number
    return None
