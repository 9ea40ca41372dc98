"""What the tests of the archive share: what lies in a tier's folder, and configurations with tiers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.support import corpus
from tests.support.images import Image


def files_in(tier: Path) -> list[Path]:
    """The images' files of a tier, the archive's own left out; also while files come and go."""
    found = [Path(above) / name for above, _, names in os.walk(tier) for name in names]
    return sorted(path for path in found if ".asyncroute" not in path.parts)


def data_set(path: Path) -> str:
    """The digest of the data set in a Part 10 file, in hex."""
    content = path.read_bytes()
    return sha256(content[corpus.read_meta(content).offset :]).hexdigest()


def digests_in(tier: Path) -> list[str]:
    """The digests of all data sets of a tier, sorted."""
    return sorted(map(data_set, files_in(tier)))


def digests(images: Iterable[Image]) -> list[str]:
    """Those of images, sorted."""
    return sorted(image.sha256 for image in images)


def tiers(*paths: Path, **move_in: Any) -> list[dict[str, Any]]:
    """Tiers for the configuration; every later one has ``move_in``."""
    first, *later = paths
    return [{"path": str(first)}, *({"path": str(path), "move_in": move_in} for path in later)]
