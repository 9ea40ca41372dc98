"""Files and folders that know two states: what a program sees now, and what a disk would still have without power.

What was written since the last sync is kept as a list of changes, so that any part of it can be lost.

- A file's fsync or fdatasync makes its bytes and its length durable; its names stay as they were.
- A folder's fsync makes its names durable (created, renamed, linked, removed); not what is in the files.
- A sync that fails leaves what it should have saved visible and lost: as on Linux, a later sync of the same file
  succeeds without it. Whoever had the file open then is told once, too (errseq).
- A rename is one change: it is lost or kept as a whole, also across two folders.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field

SECTOR, PAGE = 512, 4096
_numbers = itertools.count(1)
_clock = time.time_ns


@dataclass(eq=False, slots=True)
class Node:
    """What files and folders have in common."""

    mode: int
    number: int = field(default_factory=lambda: next(_numbers))
    links: int = 0
    modified: int = field(default_factory=_clock)


@dataclass(eq=False, slots=True)
class File(Node):
    """``pending``: writes (offset, bytes) and changes of length (length, None) since the last sync."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def write(self, data: bytes, offset: int) -> None:
        """Write; the bytes are not durable yet."""
        _put(self.data, offset, data)
        self.pending.append((offset, data))
        self.modified = _clock()

    def truncate(self, length: int) -> None:
        """Cut off, or extend by zeroes."""
        _resize(self.data, length)
        self.pending.append((length, None))
        self.modified = _clock()

    def sync(self) -> None:
        """All that is pending becomes durable."""
        for place, data in self.pending:
            _change(self.durable, place, data)
        self.pending.clear()

    def spoil(self) -> None:
        """A failed sync: what is pending can still be read, but will never be durable."""
        self.pending.clear()

    def lose(self, chance: Chance | None) -> Loss:
        """The power is gone: what stays becomes both states."""
        loss = _tear(self.durable, self.pending, chance) if chance and self.pending else Loss(len(self.pending))
        self.pending.clear()
        self.data = bytearray(self.durable)
        return loss


@dataclass(eq=False, slots=True)
class Change:
    """One change of names: (folder, name, what it is now); kept or lost as a whole."""

    parts: tuple[tuple[Folder, str, Node | None], ...]

    def make_durable(self) -> None:
        """As on disk."""
        for folder, name, node in self.parts:
            _enter(folder.durable, name, node)


@dataclass(eq=False, slots=True)
class Folder(Node):
    """``pending``: changes of names since the last sync, oldest first."""

    names: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        """Its names become durable, and what they depend on: the other half of a rename."""
        while self.pending:
            change = self.pending.pop(0)
            for other in {folder for folder, _, _ in change.parts if folder is not self}:
                while change in other.pending:
                    if other.pending.pop(0) is change:
                        break
            change.make_durable()

    def spoil(self) -> None:
        """A failed sync: the changes can be seen, but will never be durable."""
        self.pending.clear()


@dataclass(slots=True)
class Loss:
    """What a power cut took: of ``pending`` pieces and changes ``lost`` were lost."""

    pending: int = 0
    lost: int = -1

    def __post_init__(self) -> None:
        if self.lost < 0:
            self.lost = self.pending

    def add(self, other: Loss) -> None:
        """Count another one in."""
        self.pending += other.pending
        self.lost += other.lost


class Chance:
    """What is lost in one cut: each thing with the same chance, which is another one in each cut."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loses = self.random.choice((0.02, 0.1, 0.5, 0.9))
        self.piece = self.random.choice((SECTOR, PAGE))

    def keeps(self) -> bool:
        """Whether the next thing stays."""
        return self.random.random() >= self.loses


def change(*parts: tuple[Folder, str, Node | None]) -> None:
    """Change names, all at once; not durable until a folder of theirs is synced."""
    done = Change(parts)
    for folder, name, node in parts:
        before = folder.names.get(name)
        if before is not None:
            before.links -= 1
        _enter(folder.names, name, node)
        if node is not None:
            node.links += 1
        folder.modified = _clock()
    for folder in dict.fromkeys(folder for folder, _, _ in parts):
        folder.pending.append(done)


def cut(root: Folder, seed: int | None) -> Loss:
    """Take the power away: what is not synced is lost, or with a ``seed`` a random part of it."""
    chance = Chance(seed) if seed is not None else None
    loss = Loss()
    _lose_names(_reachable(root, lambda folder: folder.names), chance, loss)
    _lose_names(_reachable(root, lambda folder: folder.durable), chance, loss)
    nodes = _reachable(root, lambda folder: folder.durable)
    for node in nodes:
        node.links = 0
    for node in nodes:
        if isinstance(node, Folder):
            node.names = dict(node.durable)
            for child in node.names.values():
                child.links += 1
        elif isinstance(node, File):
            loss.add(node.lose(chance))
    return loss


def _lose_names(nodes: list[Node], chance: Chance | None, loss: Loss) -> None:
    """Decide about every pending change of names, each once."""
    folders = [node for node in nodes if isinstance(node, Folder)]
    pending = dict.fromkeys(one for folder in folders for one in folder.pending)
    for one in pending:
        kept = chance is not None and chance.keeps()
        loss.add(Loss(1, 0 if kept else 1))
        if kept:
            one.make_durable()
    for folder in folders:
        folder.pending.clear()


def _reachable(root: Folder, inside: Callable[[Folder], dict[str, Node]]) -> list[Node]:
    """``root`` and everything below it, each once."""
    found: dict[Node, None] = {root: None}
    waiting = [root]
    while waiting:
        for node in inside(waiting.pop()).values():
            if node not in found:
                found[node] = None
                if isinstance(node, Folder):
                    waiting.append(node)
    return list(found)


def _tear(durable: bytearray, pending: list[tuple[int, bytes | None]], chance: Chance) -> Loss:
    """Keep a random part of the pending changes: each piece of each write and each change of length for itself."""
    loss = Loss()
    length = len(durable)
    for place, data in pending:
        kept = chance.keeps()
        if data is None:
            loss.add(Loss(1, 0 if kept else 1))
            length = place if kept else length
            continue
        length = max(length, place + len(data)) if kept else length
        for start, piece in _pieces(place, data, chance.piece):
            kept = chance.keeps()
            loss.add(Loss(1, 0 if kept else 1))
            if kept:
                _put(durable, start, piece)
    _resize(durable, length)
    return loss


def _pieces(offset: int, data: bytes, size: int) -> list[tuple[int, bytes]]:
    """``data`` in pieces that do not cross multiples of ``size`` in the file."""
    edges = [offset, *range(offset - offset % size + size, offset + len(data), size), offset + len(data)]
    return [(start, data[start - offset : end - offset]) for start, end in itertools.pairwise(edges)]


def _change(target: bytearray, place: int, data: bytes | None) -> None:
    if data is None:
        _resize(target, place)
    else:
        _put(target, place, data)


def _put(target: bytearray, offset: int, data: bytes) -> None:
    if offset > len(target):
        _resize(target, offset)
    target[offset : offset + len(data)] = data


def _resize(target: bytearray, length: int) -> None:
    if length < len(target):
        del target[length:]
    else:
        target.extend(bytes(length - len(target)))


def _enter(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def find(root: Folder, path: str) -> Node:
    """The node at ``path``. OSError: there is none."""
    node: Node = root
    for name in path.split("/"):
        if not name:
            continue
        if not isinstance(node, Folder):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        below = node.names.get(name)
        if below is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        node = below
    return node


def new_folder(mode: int = 0o755) -> Folder:
    """An empty folder."""
    return Folder(stat.S_IFDIR | mode)
