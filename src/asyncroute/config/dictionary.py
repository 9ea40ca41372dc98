"""pydicom's tables of attributes and UIDs (PS3.6), without the rest of pydicom.

Importing pydicom itself takes longer than all else that most commands do (it looks for NumPy and for every codec); the
tables are modules of plain data, and need nothing of it. Failures: ImportError, as for pydicom.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

Entry = tuple[str, str, str, str, str]
"""(VR, VM, name, whether it is retired, keyword)."""


def _module(name: str) -> ModuleType:
    """A module of pydicom, which is loaded by itself unless pydicom is there already."""
    full = f"pydicom.{name}"
    known = sys.modules.get(full)
    if known is not None:
        return known
    package = find_spec("pydicom")
    if package is None or package.origin is None:
        raise ImportError("pydicom is not installed")
    spec = spec_from_file_location(full, Path(package.origin).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{full} is not there")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(1)
def attributes() -> dict[int, Entry]:
    """All standard attributes by tag, 0xggggeeee."""
    found: dict[int, Entry] = _module("_dicom_dict").DicomDictionary
    return found


@lru_cache(1)
def keywords() -> dict[str, int]:
    """Their tags by keyword."""
    return {entry[4]: tag for tag, entry in attributes().items() if entry[4]}


@lru_cache(1)
def uids() -> dict[str, Entry]:
    """All registered UIDs: (name, type, information, whether it is retired, keyword)."""
    found: dict[str, Entry] = _module("_uid_dict").UID_dictionary
    return found
