"""Transforms as a configuration makes them, run over headers; and an independent look at what came out, by pydicom."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.filewriter import write_dataset

from asyncroute.config import loads
from asyncroute.transform.base import Edited, Facts, Header
from asyncroute.transform.compiled import Compiled, compiled
from tests.support.encoding import BIG, EXPLICIT, IMPLICIT

ENCODINGS = (EXPLICIT, IMPLICIT, BIG)
FACTS = Facts("CT_A", "ROUTER", "L", "10.0.0.1", "", "r", "out", 1_700_000_000.0)
SECRET = 'secret = "a secret of sixteen characters"\n'
_BASE = """
[[listener]]
[[destination]]
name = "out"
kind = "folder"
path = "out"
[[route]]
name = "r"
to = ["out"]
"""


def transform(steps: str, options: str = "", folder: Path | None = None) -> Compiled:
    """The transform ``site-a`` with these steps (TOML tables, without the brackets around them)."""
    text = f'{_BASE}transform = ["site-a"]\n[transform.site-a]\n{options}\nsteps = [{steps}]\n'
    config = loads(text, "x.toml", folder / "x.toml" if folder else None)
    return compiled(config.coercions(config.routes[0]))


def header(data: bytes, syntax: str = EXPLICIT) -> Header:
    """A header as forwarding hands it over."""
    return Header(data, syntax, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")


def edited(data: bytes, steps: str, options: str = "", syntax: str = EXPLICIT, folder: Path | None = None) -> Edited:
    """What these steps make of a header."""
    return transform(steps, options, folder).apply(header(data, syntax), FACTS)


def write(dataset: Dataset, syntax: str) -> bytes:
    """Encoded by pydicom."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dataset(file, dataset)
    return file.getvalue()


def read(data: bytes, syntax: str) -> Dataset:
    """Decoded by pydicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_dataset(io.BytesIO(data), syntax == IMPLICIT, syntax != BIG)


def elements(data: bytes, syntax: str) -> Mapping[int, bytes]:
    """Every top-level element as encoded, found by pydicom's reader; together they are all of the data."""
    file, found, start = io.BytesIO(data), {}, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for element in data_element_generator(file, syntax == IMPLICIT, syntax != BIG):
            found[int(element.tag)] = data[start : file.tell()]
            start = file.tell()
    assert b"".join(found.values()) == data
    return found
