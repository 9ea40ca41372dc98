"""Where other programs are: pynetdicom brings its own ``storescu`` and ``storescp``, which stand before dcmtk's in the
PATH of its environment.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path


@cache
def dcmtk(name: str) -> str | None:
    """The path of a program of dcmtk; None: it is not installed."""
    ours = Path(sys.executable).parent
    folders = [each for each in os.environ.get("PATH", "").split(os.pathsep) if each and Path(each) != ours]
    return shutil.which(name, path=os.pathsep.join([*folders, "/usr/bin"]))
