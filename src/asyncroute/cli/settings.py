"""The configuration that a command means, and the quick way to the running router's folder.

Guarantees: ``data_dir`` finds the folder that ``load`` would, without checking the rest of the file: a running router
can be asked how it is while somebody edits its configuration.
Failures: ``ConfigError`` from ``load``; ``data_dir`` gives None for whatever is not plain.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from asyncroute.config.places import DATA_DIR, placed

if TYPE_CHECKING:
    from asyncroute.config import Config
    from asyncroute.config.outline import Outline

DEFAULT_FILE = "asyncroute.toml"
_DEFAULT_DATA = "asyncroute-data"


def load(path: Path | None) -> Config:
    """The configuration: ``-c``, else ./asyncroute.toml, else the embedded default. Raises ConfigError."""
    from asyncroute.config import find

    return find(path)


def outline(path: Path | None) -> Outline:
    """What a command needs that looks at what a router left. Raises ConfigError.

    Only if it is not written plainly is the whole configuration loaded, and everything in it checked.
    """
    from asyncroute.config.outline import embedded, of, read

    if not given(path):
        return embedded(Path(_DEFAULT_DATA).absolute())
    return read((path or Path(DEFAULT_FILE)).absolute()) or of(load(path))


def given(path: Path | None) -> bool:
    """Whether there is a file to load."""
    return path is not None or Path(DEFAULT_FILE).exists()


def data_dir(path: Path | None) -> Path | None:
    """``[node] data_dir`` of the configuration, or None if it takes a closer look to tell."""
    file = (path or Path(DEFAULT_FILE)).absolute()
    try:
        node = tomllib.loads(file.read_text("utf-8-sig")).get("node", {})
        return placed(file.parent, node.get("data_dir", str(DATA_DIR)))
    except FileNotFoundError:
        return Path(_DEFAULT_DATA).absolute() if path is None else None
    except (OSError, ValueError, AttributeError, RuntimeError, RecursionError):
        return None
