"""Names of the spool's files."""

from __future__ import annotations

import pytest

from asyncroute.core.numbered import SHARD, file_path, number_of


@pytest.mark.parametrize("number", [0, 1, SHARD - 1, SHARD, 99_999_999, 100_000_000, 10**9, (1 << 63) - 1])
def test_there_and_back(number: int) -> None:
    path = file_path(number)
    assert number_of(path) == number
    assert int(path.partition("/")[0]) == number // SHARD


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", ".dcm", "00000001.dcm", "000000/00000001", "000000/00000001.DCM", "000000/00000001.dcm.1"),
        *("000001/00000001.dcm", "000000/1.dcm", "000000/000000001.dcm", "000000/0000000١.dcm", "000000/-0000001.dcm"),
        *("x/000000/00000001.dcm", "../000000/00000001.dcm", "000000/00000001.dcm\n", f"000000/{'9' * 5000}.dcm"),
    ],
)
def test_what_is_none_of_ours(path: str) -> None:
    assert number_of(path) is None
