"""Reading the pages of the user documentation: their sections, tables, and blocks of code."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence, and its text; `after`: the text of the block that follows it."""

    page: str
    info: str
    text: str
    after: str

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.text.split())[:40]}"


FENCED = re.compile(r"^```(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")


@cache
def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def blocks(kind: str) -> list[Block]:
    """All fenced blocks of this kind, in all pages."""
    found = []
    for path in PAGES:
        fenced = FENCED.findall(path.read_text("utf-8"))
        for (info, text), (_, after) in pairwise([*fenced, ("", "")]):
            if info.split(" ")[0] == kind:
                found.append(Block(path.name, info, text, after))
    return found


def section(name: str, title: str) -> str:
    """What stands below one heading, up to the next heading of its level or above."""
    heading = re.search(rf"^(#+) {re.escape(title)}$", page(name), re.MULTILINE)
    assert heading, f"{name} has no section {title}"
    marks = heading[1]
    rest = page(name).split(f"\n{marks} {title}\n", 1)[1]
    return re.split(rf"^#{{1,{len(marks)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def own_section(name: str, title: str) -> str:
    """The same, without its sub-sections."""
    return re.split(r"^#+ ", section(name, title), maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, headers left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = {n for n, cells in enumerate(tables) if set("".join(cells)) <= {"-", ":"}}
    return [cells for n, cells in enumerate(tables) if n not in rules and n + 1 not in rules]


def codes(cell: str) -> list[str]:
    return _CODE.findall(cell)


def toml(text: str) -> Any:
    return tomllib.loads(f"k = {text}")["k"]
