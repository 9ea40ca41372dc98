"""Names and values in messages for people.

Guarantees: a text stays in one line and is of bounded length, whatever it was. Failures: none.
"""

from __future__ import annotations

import json

LONGEST = 60


def quote(text: str) -> str:
    """Text in double quotes, control characters escaped, shortened."""
    return printable(json.dumps(shortened(text), ensure_ascii=False))


def printable(text: str) -> str:
    """The text in one line: what is not printable is escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(ord(c)) for c in text)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str) -> str:
    """At most ``LONGEST`` characters of it."""
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
