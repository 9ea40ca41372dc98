"""Lines of TOML values: every form of key, table and array, and documents made at random."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.config.locate import Positions
from asyncroute.config.words import Loc

DOCUMENT = '''\
# a comment [not.a.table]
top = 1
a.b."c d" = 2
'quoted' . "k\\u0065y" = 3

[node]   # [node2]
name = """
[inside]
x = 1
"""
other = 'x = "["'
text = \'\'\'
# no comment
\'\'\' # a comment
quotes = """a "quoted\\""" word"""""

[[listener]]
port = 1
tls = { certificate = "a#b", key = 'c}', inner = { deep = [1, 2] } }
[[listener]]

accept = [ "a", # one ]
  "b",
  [ 1,
    2 ],
  { x = 1, y.z = 2 },
]
when = 2024-01-01 08:30:00
[listener.sub]
x = 1
[[listener.list]]
y = 1
[[listener.list]]
y = 2
[listener.list.more]
z = 1
[later.x]
[later]
v = true
'''

EXPECTED: dict[Loc, int] = {
    ("top",): 2,
    ("a",): 3,
    ("a", "b"): 3,
    ("a", "b", "c d"): 3,
    ("quoted", "key"): 4,
    ("node",): 6,
    ("node", "name"): 7,
    ("node", "other"): 11,
    ("node", "text"): 12,
    ("node", "quotes"): 15,
    ("listener",): 17,
    ("listener", 0): 17,
    ("listener", 0, "port"): 18,
    ("listener", 0, "tls", "key"): 19,
    ("listener", 0, "tls", "inner", "deep", 1): 19,
    ("listener", 1): 20,
    ("listener", 1, "accept"): 22,
    ("listener", 1, "accept", 0): 22,
    ("listener", 1, "accept", 1): 23,
    ("listener", 1, "accept", 2): 24,
    ("listener", 1, "accept", 2, 1): 25,
    ("listener", 1, "accept", 3, "y", "z"): 26,
    ("listener", 1, "when"): 28,
    ("listener", 1, "sub"): 29,
    ("listener", 1, "sub", "x"): 30,
    ("listener", 1, "list", 0, "y"): 32,
    ("listener", 1, "list", 1): 33,
    ("listener", 1, "list", 1, "y"): 34,
    ("listener", 1, "list", 1, "more", "z"): 36,
    ("later",): 38,
    ("later", "x"): 37,
    ("later", "v"): 39,
    # What is not there: the nearest parent.
    (): 1,
    ("nothing",): 1,
    ("node", "missing"): 6,
    ("listener", 1, "tls", "key"): 20,
    ("listener", 7): 17,
}


def paths(value: object, loc: Loc = ()) -> list[Loc]:
    """All paths in what tomllib returned."""
    if isinstance(value, dict):
        return [loc, *(path for key, each in value.items() for path in paths(each, (*loc, key)))]
    if isinstance(value, list):
        return [loc, *(path for n, each in enumerate(value) for path in paths(each, (*loc, n)))]
    return [loc]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("loc", "line"), EXPECTED.items())
def test_lines(loc: Loc, line: int, newline: str) -> None:
    assert Positions(DOCUMENT.replace("\n", newline)).line(loc) == line


def test_every_path_of_the_document_is_found() -> None:
    positions = Positions(DOCUMENT)
    assert [path for path in paths(tomllib.loads(DOCUMENT)) if path not in positions] == []


@pytest.mark.parametrize("text", ["[", "a", "a =", "a = [1", "a = {b", 'a = "', "\0", '"\\q" = 1\nb = 1', "=" * 9])
def test_what_is_not_toml_does_not_raise(text: str) -> None:
    assert Positions(text).line(("a", 1, "b")) == 1


def test_deep_nesting_does_not_raise() -> None:
    assert Positions("a = " + "[" * 100_000).line(("a",)) == 1


# --- Documents made at random: every key and every number occurs once, so that its line can be looked up by text ------

Draw = Any


class Writer:
    """Writes a random document; `keys` and `numbers` make what stands in it unique."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.count = 0

    def number(self) -> str:
        self.count += 1
        return str(1_000_000 + self.count)

    def key(self) -> str:
        self.count += 1
        name = f"k{self.count}z"
        return str(self.draw(st.sampled_from([name, f'"{name}"', f"'{name}'", f'"\\u006B{name[1:]}"'])))

    def dotted(self) -> str:
        dot = self.draw(st.sampled_from([".", " . ", "\t."]))
        return str(dot).join(self.key() for _ in range(self.draw(st.integers(1, 3))))

    def gap(self) -> str:
        """What may stand between the elements of an array."""
        return str(self.draw(st.sampled_from(["", " ", "\n", "  # ] , } \" '''\n\t", "\n\n"])))

    def value(self, depth: int = 0) -> str:
        kinds = ["number", "string", "date", "bool"] + (["array", "table"] if depth < 3 else [])
        kind = self.draw(st.sampled_from(kinds))
        if kind == "array":
            elements = [self.gap() + self.value(depth + 1) + self.gap() for _ in range(self.draw(st.integers(0, 3)))]
            end = "," + self.gap() if elements and self.draw(st.booleans()) else self.gap()
            return "[" + ",".join(elements) + end + "]"
        if kind == "table":
            pairs = [f" {self.dotted()} = {self.value(depth + 1)} " for _ in range(self.draw(st.integers(0, 3)))]
            return "{" + ",".join(pairs) + "}"
        return self.number() if kind == "number" else str(self.draw(SCALARS))

    def pairs(self) -> str:
        lines = [f"{self.dotted()} = {self.value()}" for _ in range(self.draw(st.integers(0, 4)))]
        return "".join(line + self.draw(st.sampled_from(["\n", " # = [x]\n", "\n\n"])) for line in lines)

    def document(self) -> str:
        text = self.pairs()
        for _ in range(self.draw(st.integers(0, 4))):
            header = self.dotted()
            if self.draw(st.booleans()):
                text += f"[ {header} ]\n{self.pairs()}"
            else:
                element = f"[[{header}]] # [x]\n"
                text += "".join(element + self.pairs() for _ in range(self.draw(st.integers(1, 3))))
                text += f"[{header}.{self.key()}]\n{self.pairs()}"
        return text


SCALARS = st.sampled_from(
    [
        '"a#b"',
        "'[x]'",
        '"\\"}"',
        '""',
        "''",
        '""""""',
        '"""a\n""" ',
        '"""\n[t]\nx = "y" \\\n"""""',
        "'''\n'a'''''",
        "'''= ''",
        "2024-01-01",
        "2024-01-01 00:00:00",
        "08:30:00",
        "true",
        "-inf",
    ]
).map(lambda text: text + "'" if text == "'''= ''" else text)

documents = st.composite(lambda draw: Writer(draw).document())()


@given(documents)
def test_every_path_has_the_line_where_it_was_written(text: str) -> None:
    positions = Positions(text)
    lines = text.split("\n")
    raw = tomllib.loads(text)
    for path in paths(raw):
        assert path in positions
        line = lines[positions.line(path) - 1]
        if path and isinstance(path[-1], str):
            assert path[-1] in line.replace("\\u006B", "k")
        elif path and isinstance(found := at(raw, path), int) and not isinstance(found, bool):
            assert str(found) in line


def at(value: Any, path: Loc) -> object:
    """The value at `path`."""
    for part in path:
        value = value[part]
    return value


@given(st.text(alphabet="ab.=[]{}\"'\\#,\n 1", max_size=60))
def test_any_text_is_scanned_and_all_that_is_toml_is_found(text: str) -> None:
    positions = Positions(text)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert all(path in positions for path in paths(raw))
