"""Calls of Linux that Python's ``os`` does not have.

Guarantees: what may wait for the disk gives the GIL away while it runs; ``open_cached`` neither waits nor does so.
Failures: none.
"""

from __future__ import annotations

import ctypes
import os

_SYNC_FILE_RANGE_WRITE = 2

_OPENAT2 = 437
"""The number of the system call, which is the same on all machines that got it so late."""

_RESOLVE_CACHED = 0x20


class _OpenHow(ctypes.Structure):
    """``struct open_how`` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_CACHED = _OpenHow(os.O_RDONLY | os.O_CLOEXEC, 0, _RESOLVE_CACHED)
_at_once = ctypes.PyDLL(None).syscall
_at_once.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
_at_once.restype = ctypes.c_long

_libc = ctypes.CDLL(None)
_sync_file_range = getattr(_libc, "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def start_writing(number: int) -> None:
    """Let the system begin to write a file's bytes to the disk; a sync that follows has less to wait for.

    It neither waits nor takes the report of an error away from that sync.
    """
    if _sync_file_range is not None:
        _sync_file_range(number, 0, 0, _SYNC_FILE_RANGE_WRITE)


def open_cached(path: str, folder: int) -> int:
    """A descriptor for reading a file below a folder, if the system can tell where it is without a look at the disk.

    -1: it cannot, there is no such file, or the system does not know how (before Linux 5.12, or forbidden to).
    """
    number = _at_once(_OPENAT2, folder, os.fsencode(path), _CACHED, ctypes.sizeof(_CACHED))
    return int(number)


def read_cached(number: int, length: int) -> bytearray | None:
    """The first ``length`` bytes of a file if they are in memory and it has no more; None if not."""
    data = bytearray(length + 1)
    try:
        read = os.preadv(number, [data], 0, os.RWF_NOWAIT)
    except OSError:
        return None
    return data if read == length else None
