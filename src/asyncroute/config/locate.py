"""Where in a TOML file a value was written.

Purpose: tomllib gives values without positions; this finds the line of every key, table and array element, so that a
problem can be told with its line.
Guarantees: for text that tomllib accepts, every path of its result has a line: that of the key (or of the array
element, or of the table's header). Dotted keys, quoted keys, inline tables, nested arrays and multi-line strings
included.
Failures: none; text that tomllib would not accept gives positions up to the place that is not understood, and unknown
paths give the line of their nearest known parent.

Grammar: TOML 1.0.0.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from itertools import accumulate

from asyncroute.config.words import Loc

_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{1,2}(?!"))?'  # up to two quotes may stand before the closing three
    r"|'''.*?'''(?:'{1,2}(?!'))?"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


class Positions:
    """The line, from 1, of every path in one TOML text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Loc, int] = {(): 1}
        try:
            _Scanner(text.replace("\r\n", "\n"), self._lines).scan()
        except (_NotUnderstood, RecursionError):
            pass  # what was found so far still helps; tomllib tells what is wrong with the text

    def line(self, loc: Loc) -> int:
        """The line of `loc`, or of its nearest parent that was written."""
        while loc not in self._lines:
            loc = loc[:-1]
        return self._lines[loc]

    def __contains__(self, loc: object) -> bool:
        return loc in self._lines


class _NotUnderstood(Exception):
    """The text is not TOML at this place."""


class _Scanner:
    """One pass over the text; `lines` is filled on the way."""

    def __init__(self, text: str, lines: dict[Loc, int]) -> None:
        self._text = text
        self._pos = 0
        self._lines = lines
        self._starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        self._counts: dict[Loc, int] = {}  # elements so far of each array of tables

    def scan(self) -> None:
        prefix: Loc = ()
        self._skip(_BLANK)
        while self._pos < len(self._text):
            if self._text[self._pos] == "[":
                prefix = self._header()
            else:
                self._pair(prefix)
            self._skip(_BLANK)

    def _header(self) -> Loc:
        """``[table]`` or ``[[array]]``: the path of what follows."""
        start = self._pos
        double = self._text.startswith("[[", start)
        self._pos += 2 if double else 1
        keys = self._key()
        self._expect("]]" if double else "]")
        path = self._resolve(keys, start)
        if double:
            self._lines.setdefault(path, self._line(start))
            self._counts[path] = self._counts.get(path, 0) + 1
            path = (*path, self._counts[path] - 1)
        self._lines[path] = self._line(start)
        return path

    def _resolve(self, keys: list[str], start: int) -> Loc:
        """A header's path; a key that names an array of tables on the way means its latest element."""
        path: Loc = ()
        for n, key in enumerate(keys):
            path = (*path, key)
            self._lines.setdefault(path, self._line(start))
            if n < len(keys) - 1 and path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _pair(self, prefix: Loc) -> None:
        start = self._pos
        path = prefix
        for key in self._key():
            path = (*path, key)
            self._lines.setdefault(path, self._line(start))
        self._expect("=")
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            keys.append(_unquoted(self._take(_KEY_PART)))
            self._skip(_SPACE)
            if not self._text.startswith(".", self._pos):
                return keys
            self._pos += 1

    def _value(self, path: Loc) -> None:
        first = self._text[self._pos : self._pos + 1]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._take(_STRING if first and first in "\"'" else _SCALAR)

    def _array(self, path: Loc) -> None:
        self._pos += 1
        index = 0
        while not self._closed("]"):
            self._lines[(*path, index)] = self._line(self._pos)
            self._value((*path, index))
            index += 1
            self._comma("]")

    def _inline_table(self, path: Loc) -> None:
        self._pos += 1
        while not self._closed("}"):
            self._pair(path)
            self._comma("}")

    def _closed(self, bracket: str) -> bool:
        self._skip(_BLANK)
        if not self._text.startswith(bracket, self._pos):
            return False
        self._pos += 1
        return True

    def _comma(self, bracket: str) -> None:
        """What must stand between two elements, unless the bracket follows."""
        self._skip(_BLANK)
        if not self._text.startswith(bracket, self._pos):
            self._expect(",")

    def _expect(self, token: str) -> None:
        if not self._text.startswith(token, self._pos):
            raise _NotUnderstood
        self._pos += len(token)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._pos)
        if not found or not found[0]:
            raise _NotUnderstood
        self._pos = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._pos)
        self._pos = found.end() if found else self._pos

    def _line(self, position: int) -> int:
        return bisect_right(self._starts, position)


def _unquoted(key: str) -> str:
    """A key part's value; tomllib knows the escapes."""
    if key[0] not in "\"'":
        return key
    try:
        return str(tomllib.loads(f"k = {key}")["k"])
    except tomllib.TOMLDecodeError as error:
        raise _NotUnderstood from error
