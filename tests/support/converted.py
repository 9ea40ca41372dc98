"""Images converted by the router's own function, and by other programs; what is in both, as numbers."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import xxhash
from pydicom.pixels.utils import pixel_array

from asyncroute.core.syntaxes import BY_WORD
from asyncroute.transform.pixels.convert import convert
from asyncroute.wire.part10 import parse_meta
from tests.support.corpus import roots

Array = np.ndarray[Any, Any]


def file_of(name: str) -> Path:
    """The real file of this name."""
    return next(found for root in roots() for found in sorted(root.rglob(name)))


def converted(path: Path, word: str, folder: Path, room: int = 1 << 32, **wish: Any) -> dict[str, Any]:
    """Convert the file to what ``word`` of ``compress`` names (or a transfer syntax UID); with its ``path``."""
    data = path.read_bytes()
    meta = parse_meta(data)
    target = folder / f"{word}-{path.name}"
    plain = data[meta.data_offset :]
    uids = meta.transfer_syntax, meta.sop_class_uid, meta.sop_instance_uid
    source = (str(path), meta.data_offset, len(plain), *uids, xxhash.xxh3_64_intdigest(plain))
    told = convert(
        source, str(target), BY_WORD.get(word, word), {"compress": "keep", **wish}, ("A", "B", "C"), (room, 0)
    )
    return told | {"path": target}


def decoded_by(program: str, path: Path) -> Path:
    """The same image without compression, by another program."""
    target = path.with_suffix(f".{program}")
    options = {"gdcmconv": ["--raw"], "dcmdjpeg": ["+cn"]}.get(program, [])
    subprocess.run([program, *options, str(path), str(target)], check=True, timeout=60, capture_output=True)
    return target


def read(path: Path) -> pydicom.Dataset:
    """A file, as pydicom reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path)


def pixels(path: Path) -> Array:
    """Its pixels as they are, without a change of colours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pixel_array(pydicom.dcmread(path), raw=True)
