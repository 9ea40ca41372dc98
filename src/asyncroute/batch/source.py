"""What becomes of the source of a batch that is done: it is moved away or deleted. Blocks; for threads.

Guarantees: nothing goes whose files are not those that were read (by their signature). The source is first renamed to a
hidden name beside it, so that no writer finds it any more by its name, and looked at then; a crash at any step is gone
on from. What is in the way at the target is never overwritten. To another file system it is copied and synced before
the original is deleted.
Failures: ``OSError``, ``Changed``: the source is where it was then; ``Partly``.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from errno import EEXIST, EXDEV

from asyncroute.batch.files import signature
from asyncroute.crashpoints import crash_point

_NAME = ".{}.asyncroute-{}-{}"
"""The hidden name, of the source's own, its batch's number and the step."""


class Changed(Exception):
    """The source is not what was read."""


class Partly(Exception):
    """Not all of the source could be deleted; the text says where the rest is."""


def dispose(path: str, batch: int, after: str, expected: int) -> None:
    """Delete (``after`` = "delete") or move ("move:DIR") what was batch number ``batch``.

    Raises OSError, Changed, Partly.

    ``expected``: the signature of what was read. Nothing at ``path`` (any more) is fine.
    """
    folder, name = os.path.split(path)
    steps = [os.path.join(folder, _NAME.format(name, batch, step)) for step in ("aside", "checked", "doomed")]
    aside, checked, doomed = steps
    if not any(map(os.path.lexists, steps)):
        if not os.path.lexists(path):
            return
        os.rename(path, aside)
        _sync(folder)
        crash_point("batch-source-aside")
    try:
        if os.path.lexists(aside):
            if signature(aside, name) != expected:
                raise Changed("is not as it was read: something came later")
            os.rename(aside, checked)
        if os.path.lexists(checked) and (after == "delete" or _move(checked, name, after.removeprefix("move:"), batch)):
            os.rename(checked, doomed)
    except (OSError, Changed):
        _put_back(path, aside, checked)
        raise
    crash_point("batch-source-checked")
    if os.path.lexists(doomed):
        try:
            _delete(doomed)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise Partly(f"could not be deleted; what is left of it is at {doomed}: {why}") from None
    _sync(folder)
    crash_point("batch-source-gone")


def _put_back(path: str, *names: str) -> None:
    for name in names:
        if os.path.lexists(name) and not os.path.lexists(path):
            os.rename(name, path)


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _move(path: str, name: str, target: str, batch: int) -> bool:
    """Whether what is at ``path`` is a copy now, to be deleted."""
    os.makedirs(target, exist_ok=True)
    final = _free_name(target, name, batch)
    try:
        os.rename(path, final)
    except OSError as error:
        if error.errno != EXDEV:  # another file system
            raise
        _copy(path, target, final, batch)
        return True
    _sync(target)
    return False


def _free_name(target: str, name: str, batch: int) -> str:
    """Where it goes; with the batch's number behind it if its name is taken."""
    final = os.path.join(target, name)
    if os.path.lexists(final):
        final = os.path.join(target, f"{name}.{batch}")
    if os.path.lexists(final):
        raise FileExistsError(EEXIST, f"{final} is there already")
    return final


def _copy(path: str, target: str, final: str, batch: int) -> None:
    """To another file system, under a name in progress until all of it is synced."""
    made = os.path.join(target, f".asyncroute-{batch}.part")
    if os.path.lexists(made):
        _delete(made)
    try:
        if os.path.isdir(path):
            shutil.copytree(path, made, symlinks=True)
        else:
            shutil.copy2(path, made)
        _sync_all(made)
        os.rename(made, final)
        _sync(target)
    except OSError:
        with suppress(OSError):
            _delete(made)
        raise


def _sync_all(path: str) -> None:
    if not os.path.isdir(path):
        _sync(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            if not os.path.islink(os.path.join(folder, name)):
                _sync(os.path.join(folder, name))
        _sync(folder)


def _sync(path: str) -> None:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(number)
    finally:
        os.close(number)
