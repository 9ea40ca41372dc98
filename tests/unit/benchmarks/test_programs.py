"""Which of several programs of one name is measured."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks import programs


def program(folder: Path) -> str:
    folder.mkdir()
    file = folder / "storescu"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


def test_dcmtk_is_not_taken_from_the_environment_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pynetdicom has programs of the same names."""
    program(tmp_path / "env")
    expected = program(tmp_path / "system")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "python"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "env"), str(tmp_path / "system")]))
    programs.dcmtk.cache_clear()
    try:
        assert programs.dcmtk("storescu") == expected
    finally:
        programs.dcmtk.cache_clear()
