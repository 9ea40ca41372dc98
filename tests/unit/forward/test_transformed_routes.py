"""Routes that had a transform are remembered, whatever becomes of the configuration and of the process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.forward.transformed import FILE, TransformedRoutes


def test_names_stay(tmp_path: Path) -> None:
    routes = TransformedRoutes(tmp_path)
    assert routes.names == frozenset()
    routes.remember([])
    assert not (tmp_path / FILE).exists()
    routes.remember(["ct", "mr\nwith a line", "ct"])
    routes.remember(["ct", "Größe"])
    assert routes.names == TransformedRoutes(tmp_path).names == {"ct", "mr\nwith a line", "Größe"}
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("content", [b"ct\n", b"\xff\n", b"[1]\n"])
def test_what_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StorageFault, match=f"{FILE}: cannot be read"):
        TransformedRoutes(tmp_path)


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    routes = TransformedRoutes(tmp_path)
    os.mkdir(tmp_path / f".{FILE}.new")
    with pytest.raises(StorageFault, match=f"{FILE}: cannot be written: Is a directory"):
        routes.remember(["ct"])
    assert routes.names == frozenset()
