"""Full disks, real ones: a tmpfs of one megabyte."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.disks import run_on_small_disk
from tests.contract.full_disk import PROGRAMS


@pytest.mark.parametrize("program", [program.__name__ for program in PROGRAMS])
def test_full_disk(tmp_path: Path, program: str) -> None:
    run_on_small_disk(tmp_path / "disk", "1m", "tests.contract.full_disk", program)
