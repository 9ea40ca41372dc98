"""Where paths of the configuration are: relative to its file's folder, ``~`` is a home folder.

Failures: ValueError for what is no path, RuntimeError for a home folder that is not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

DATA_DIR: Final = Path("/var/lib/asyncroute")
"""The default of ``[node] data_dir``."""


def placed(folder: Path, text: object) -> Path:
    """The absolute path that ``text`` means in a file of ``folder``."""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError("not a path")
    return (folder / Path(text).expanduser()).absolute()
