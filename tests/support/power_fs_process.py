"""The process of a disk that can lose power: an in-memory file system over FUSE (``power_fs_model``).

``python -m tests.support.power_fs_process MOUNTPOINT`` obeys JSON lines on standard input, answers each with one JSON
line, and ends (unmounted) when its standard input ends, so it cannot outlive the tests. Orders:

- {"do": "freeze"}: from now on nothing changes any more and every change and sync fails with EIO.
- {"do": "freeze_after", "changes": n}: the same by itself, after n more changes and syncs.
- {"do": "frozen"}: whether it is.
- {"do": "cut", "seed": null or n}: what is not synced is lost (with a seed: a random part of it); the disk is mounted
  anew, so that no cache of the kernel's survives. The answer counts what was unsynced and lost.
- {"do": "fail", "pattern": glob, "nth": n}: EIO from the n-th sync (from 1) of a file or folder whose path matches.
- {"do": "syncs", "pattern": glob}: every sync of matching paths since the last cut: [path, file's number, succeeded].
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, NoReturn

import mfusepy  # type: ignore[import-untyped, unused-ignore]

from tests.support import power_fs_model as model
from tests.support.power_fs_model import File, Folder, Node

UNMOUNT = ("fusermount3", "-u", "-q", "-z")
REMOUNT, LAST_WORDS = 20.0, 5.0
LEAVE = ".leave"
CAPACITY = 4 << 30
BLOCK = 4096


@dataclass(slots=True)
class Handle:
    """An open file or folder. ``spoiled``: a sync of it failed through another handle; this one is told at its next."""

    node: Node
    spoiled: bool = False


@dataclass(slots=True)
class Fault:
    """The ``left``-th sync of a path that matches fails."""

    pattern: str
    left: int


@dataclass
class Disk:
    """All state that outlives a mount."""

    root: Folder = field(default_factory=model.new_folder)
    frozen: bool = False
    leaving: bool = False
    changes_left: int = -1
    faults: list[Fault] = field(default_factory=list)
    syncs: list[tuple[str, int, bool]] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> None:
        """One change or sync more. OSError: the disk is frozen."""
        if self.changes_left == 0:
            self.frozen = True
        self.changes_left -= self.changes_left > 0
        if self.frozen:
            fail(errno.EIO)

    def fails(self, path: str) -> bool:
        """Whether this sync has to fail."""
        for fault in self.faults:
            if fnmatchcase(path, fault.pattern):
                fault.left -= 1
                if fault.left == 0:
                    return True
        return False

    def cut(self, seed: int | None) -> model.Loss:
        """See ``model.cut``."""
        self.faults.clear()
        self.syncs.clear()
        self.changes_left = -1
        self.frozen = False
        return model.cut(self.root, seed)


def fail(number: int) -> NoReturn:
    """Answer with a system error."""
    raise mfusepy.FuseOSError(number)


class Operations(mfusepy.Operations):  # type: ignore[misc, unused-ignore]  # untyped
    """One mount of the disk. Calls come one at a time (-s), except for the orders' thread, which takes ``turn``."""

    use_ns = True

    def __init__(self, disk: Disk, mounted: threading.Event) -> None:
        self.disk = disk
        self.mounted = mounted
        self.handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)

    def init_with_config(self, conn_info: Any, config_3: Any) -> None:
        self.mounted.set()

    # ---- looking

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == f"/{LEAVE}" and self.disk.leaving:
            mfusepy.fuse_exit()
        return _attributes(self._node(path, fh))

    def readdir(self, path: str, fh: int) -> Iterator[Any]:
        folder = self._node(path, fh)
        assert isinstance(folder, Folder)
        yield from (".", "..")
        for name, node in list(folder.names.items()):
            yield name, {"st_mode": node.mode, "st_ino": node.number}, 0

    def statfs(self, path: str) -> dict[str, int]:
        blocks = CAPACITY // BLOCK
        return {"f_bsize": BLOCK, "f_frsize": BLOCK, "f_blocks": blocks, "f_bfree": blocks, "f_bavail": blocks}

    def open(self, path: str, flags: int) -> int:
        return self._open(self._find(path))

    def opendir(self, path: str) -> int:
        return self._open(self._find(path))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._file(fh).data[offset : offset + size])

    def release(self, path: str, fh: int) -> int:
        self.handles.pop(fh, None)
        return 0

    def releasedir(self, path: str, fh: int) -> int:
        return self.release(path, fh)

    # ---- changing names

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self.mknod(path, stat.S_IFREG | mode, 0)
        return self._open(self._find(path))

    def mknod(self, path: str, mode: int, dev: int) -> int:
        with self.disk.turn:
            self.disk.count()
            folder, name = self._place(path)
            if name in folder.names:
                fail(errno.EEXIST)
            model.change((folder, name, File(mode)))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        with self.disk.turn:
            self.disk.count()
            folder, name = self._place(path)
            if name in folder.names:
                fail(errno.EEXIST)
            model.change((folder, name, model.new_folder(mode & 0o7777)))
        return 0

    def unlink(self, path: str) -> int:
        with self.disk.turn:
            self.disk.count()
            folder, name = self._place(path)
            if name not in folder.names:
                fail(errno.ENOENT)
            model.change((folder, name, None))
        return 0

    def rmdir(self, path: str) -> int:
        with self.disk.turn:
            self.disk.count()
            node = self._find(path)
            if isinstance(node, Folder) and node.names:
                fail(errno.ENOTEMPTY)
            model.change((*self._place(path), None))
        return 0

    def rename(self, old: str, new: str) -> int:
        with self.disk.turn:
            self.disk.count()
            node = self._find(old)
            target = self._place(new)
            replaced = target[0].names.get(target[1])
            if isinstance(replaced, Folder) and replaced.names:
                fail(errno.ENOTEMPTY)
            if replaced is not node:
                model.change((*self._place(old), None), (*target, node))
        return 0

    def link(self, target: str, source: str) -> int:
        with self.disk.turn:
            self.disk.count()
            folder, name = self._place(target)
            if name in folder.names:
                fail(errno.EEXIST)
            model.change((folder, name, self._find(source)))
        return 0

    # ---- changing files

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self.disk.turn:
            self.disk.count()
            self._file(fh).write(data, offset)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self.disk.turn:
            self.disk.count()
            file = self._node(path, fh)
            assert isinstance(file, File)
            file.truncate(length)
        return 0

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        with self.disk.turn:
            self.disk.count()
            file = self._file(fh)
            if mode:
                fail(errno.EOPNOTSUPP)
            if offset + size > len(file.data):
                file.truncate(offset + size)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        node = self._find(path)
        node.mode = node.mode & ~0o7777 | mode & 0o7777
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return 0

    # ---- making durable

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self.disk.turn:
            self.disk.count()
            handle = self.handles[fh]
            good = not handle.spoiled and not self.disk.fails(path or "")
            self.disk.syncs.append((path or "", handle.node.number, good))
            if not good:
                self._sync_failed(handle)
            assert isinstance(handle.node, File | Folder)
            handle.node.sync()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        return self.fsync(path, datasync, fh)

    def _sync_failed(self, handle: Handle) -> NoReturn:
        """As Linux does: told once to everyone who has it open, and what should have been written never will be."""
        if not handle.spoiled:
            assert isinstance(handle.node, File | Folder)
            handle.node.spoil()
            for other in self.handles.values():
                other.spoiled = other.spoiled or other.node is handle.node
        handle.spoiled = False
        fail(errno.EIO)

    # ---- helpers

    def _find(self, path: str) -> Node:
        try:
            return model.find(self.disk.root, path)
        except OSError as error:
            fail(error.errno or errno.EIO)

    def _node(self, path: str | None, fh: int | None) -> Node:
        handle = self.handles.get(fh) if fh else None
        if handle is not None:
            return handle.node
        return self._find(path or fail(errno.ENOENT))

    def _place(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        folder = self._find(above)
        if not isinstance(folder, Folder):
            fail(errno.ENOTDIR)
        return folder, name

    def _file(self, fh: int) -> File:
        node = self.handles[fh].node
        assert isinstance(node, File)
        return node

    def _open(self, node: Node) -> int:
        fh = next(self._numbers)
        self.handles[fh] = Handle(node)
        return fh


def _attributes(node: Node) -> dict[str, Any]:
    size = len(node.data) if isinstance(node, File) else BLOCK
    times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), node.modified)
    links = node.links if isinstance(node, File) else 2
    who = {"st_uid": os.getuid(), "st_gid": os.getgid()}
    return {
        "st_mode": node.mode,
        "st_ino": node.number,
        "st_nlink": links,
        "st_size": size,
        "st_blocks": -(-size // model.SECTOR),
        **who,
        **times,
    }


class Host:
    """Mounts the disk, again after each cut, and obeys."""

    OPTIONS: ClassVar[dict[str, Any]] = {
        "foreground": True,
        "nothreads": True,
        "fsname": "power",
        "subtype": "power",
        "auto_unmount": True,
        "attr_timeout": 0,
        "entry_timeout": 0,
        "negative_timeout": 0,
        "hard_remove": True,
        "use_ino": True,
    }

    def __init__(self, mountpoint: str, kind: str = "power") -> None:
        """``kind``: what it says it is; another one than "power" promises no lasting inode numbers, either."""
        self.mountpoint = mountpoint
        self.options = {**self.OPTIONS, "subtype": kind, "use_ino": kind == "power"}
        self.disk = Disk()
        self.mounted = threading.Event()
        self.ended = threading.Event()
        self.ending = False

    def serve(self) -> None:
        """Mount until the orders end. In the main thread."""
        while not self.ending:
            self.disk.leaving = False
            mfusepy.FUSE(Operations(self.disk, self.mounted), self.mountpoint, **self.options)
        self.ended.set()

    def obey_all(self) -> None:
        """Obey until standard input ends; then unmount and end the process."""
        self._wait_mounted()
        _say({"ok": "mounted"})
        for line in sys.stdin:
            try:
                answer = {"ok": self._obey(json.loads(line))}
            except Exception as error:
                answer = {"error": repr(error)}
            _say(answer)
        self.ending = True
        self._leave()
        self.ended.wait(LAST_WORDS)
        subprocess.run([*UNMOUNT, self.mountpoint], check=False)
        os._exit(0)

    def _obey(self, order: dict[str, Any]) -> Any:
        disk = self.disk
        with disk.turn:
            match order["do"]:
                case "freeze":
                    disk.frozen = True
                case "freeze_after":
                    disk.changes_left = order["changes"]
                case "frozen":
                    return disk.frozen
                case "fail":
                    disk.faults.append(Fault(order["pattern"], order["nth"]))
                case "syncs":
                    return [one for one in disk.syncs if fnmatchcase(one[0], order["pattern"])]
        return self._cut(order["seed"]) if order["do"] == "cut" else None

    def _cut(self, seed: int | None) -> dict[str, int]:
        with self.disk.turn:
            self.disk.frozen = True
        self.mounted.clear()
        self._leave()
        loss = self.disk.cut(seed)
        self._wait_mounted()
        return {"pending": loss.pending, "lost": loss.lost}

    def _leave(self) -> None:
        """End this mount from within: an unmount alone waits for every mount namespace that has a copy of it."""
        self.disk.leaving = True
        os.path.exists(f"{self.mountpoint}/{LEAVE}")

    def _wait_mounted(self) -> None:
        if not self.mounted.wait(REMOUNT):
            raise TimeoutError("not mounted")


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """See module."""
    host = Host(*sys.argv[1:])
    threading.Thread(target=host.obey_all, daemon=True).start()
    host.serve()


if __name__ == "__main__":
    main()
