"""Two calls of Linux that Python's ``os`` does not have.

Guarantees: both give the GIL away while they run. Failures: ``OSError`` from ``rename_new``; none from
``start_writing``, which is advice.
"""

from __future__ import annotations

import ctypes
import errno
import os

_RENAME_NOREPLACE = 1
_SYNC_FILE_RANGE_WRITE = 2
_LACKING = frozenset({errno.ENOSYS, errno.EINVAL})
"""How a kernel or a file system says that it does not know ``RENAME_NOREPLACE``."""

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)
_sync_file_range = getattr(_libc, "sync_file_range", None)
if _renameat2 is not None:
    _renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def rename_new(old: str, new: str, folder: int) -> None:
    """Rename within the folder behind a descriptor. ``OSError``: EEXIST if there is a file ``new`` already.

    Where the system cannot do both at once it is looked for first.
    """
    if _renameat2 is not None:
        if not _renameat2(folder, os.fsencode(old), folder, os.fsencode(new), _RENAME_NOREPLACE):
            return
        code = ctypes.get_errno()
        if code not in _LACKING:
            raise OSError(code, os.strerror(code), new)
    try:
        os.stat(new, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)


def start_writing(number: int) -> None:
    """Let the system begin to write a file's bytes to the disk; a sync that follows has less to wait for.

    It neither waits nor takes the report of an error away from that sync.
    """
    if _sync_file_range is not None:
        _sync_file_range(number, 0, 0, _SYNC_FILE_RANGE_WRITE)
