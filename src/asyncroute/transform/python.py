"""The step python: a function of a user's file over the header.

Guarantees: what the function raises, returns or does to the header ends in an edited header or in `Refused`; the file
is loaded once, and again when it has changed. It runs in this process: whoever needs a deadline and a bound of memory
calls ``apply`` in another one.
Failures: `Refused`: what the function asks for (`user.Hold`, `user.Drop`), and what goes wrong in it, with its line.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from asyncroute.core.coercion import Python
from asyncroute.transform.base import Facts, Refused
from asyncroute.transform.editing import Editing
from asyncroute.transform.user import Drop, Hold
from asyncroute.transform.whole import edit_dataset

_Function = Callable[[Dataset, Facts], Dataset]
_loaded: dict[Path, tuple[tuple[int, int], Any]] = {}


def python_step(spec: Python) -> Callable[[Editing], None]:
    """``python``."""
    name = f"{spec.file.name}:{spec.function}"

    def run(e: Editing) -> None:
        edit_dataset(e, lambda header: _call(e, name, spec.file, _function(e, spec, name), header))

    return run


def _call(e: Editing, name: str, file: Path, function: _Function, header: Dataset) -> Dataset:
    try:
        return function(header, e.facts)
    except Hold as hold:
        raise Refused(f"{e.label}: {_line(hold)}") from None
    except Drop as drop:
        raise Refused(f"{e.label}: {_line(drop)}", drop=True) from None
    except Exception as error:
        raise e.refused(name, _told(error, file)) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or "no reason given"


def _told(error: BaseException, file: Path) -> str:
    """With the line of the user's file, where there is one."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    place = f"line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def _function(e: Editing, spec: Python, name: str) -> _Function:
    try:
        module = _module(spec.file)
    except Exception as error:
        raise e.refused(name, f"cannot be loaded: {_told(error, spec.file)}") from error
    function = getattr(module, spec.function, None)
    if not callable(function):
        raise e.refused(name, f"the file has no function {spec.function}")
    made: _Function = function
    return made


def _module(file: Path) -> Any:
    """The user's file as a module of its own."""
    status = file.stat()
    version = (status.st_mtime_ns, status.st_size)
    known = _loaded.get(file)
    if known is not None and known[0] == version:
        return known[1]
    spec = importlib.util.spec_from_file_location(f"asyncroute_user_{abs(hash(file)):x}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    _loaded[file] = (version, module)
    return module
