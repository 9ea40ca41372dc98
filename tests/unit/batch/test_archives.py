"""Archives as batches: unpacked below their folder and nowhere else, or refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncroute.batch import archives
from asyncroute.batch.archives import Refused, kind_at, unpack


def tar(path: Path, members: dict[str, bytes | str], mode: str = "w") -> Path:
    """Bytes are files, text is where a link leads."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpacked(path: Path, target: Path) -> dict[str, bytes]:
    unpack(str(path), kind_at(str(path)), str(target))
    return {str(it.relative_to(target)): it.read_bytes() for it in target.rglob("*") if it.is_file()}


FILES = {"a/b.dcm": b"1" * 5000, "c.dcm": b"2"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_what_is_in_it_comes_out(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "drop"
    made = zipped(path, FILES) if mode == "zip" else tar(path, dict(FILES), mode)
    assert unpacked(made, tmp_path / "out") == FILES


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..\\x", "a" * 300])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    for made in (zipped(tmp_path / "z", {name: b"1"}), tar(tmp_path / "t", {name: b"1"})):
        with pytest.raises(Refused, match="leads elsewhere"):
            unpacked(made, tmp_path / "out")
    assert sorted(it.name for it in tmp_path.iterdir()) == ["out", "t", "z"]


def test_links_and_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="link"):
        unpacked(tar(tmp_path / "t", {"x": "/etc/passwd"}), tmp_path / "out")
    monkeypatch.setattr(archives, "FREE_OF_RATIO", 1 << 20)
    bomb = {"x": bytes(8 << 20)}
    for made in (zipped(tmp_path / "z", bomb), tar(tmp_path / "g", dict(bomb), "w:gz")):
        with pytest.raises(Refused, match="than its size allows"):
            unpacked(made, tmp_path / "out")
    monkeypatch.setattr(archives, "MOST_ENTRIES", 3)
    with pytest.raises(Refused, match="more than 3 entries"):
        unpacked(zipped(tmp_path / "z", {str(n): b"" for n in range(5)}), tmp_path / "out")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(["w", "w:gz", "zip"]), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=40))
def test_damaged_archives_are_refused_or_read(tmp_path: Path, mode: str, at: int, junk: bytes) -> None:
    path = tmp_path / "drop"
    made = zipped(path, FILES) if mode == "zip" else tar(path, dict(FILES), mode)
    data = bytearray(made.read_bytes())
    place = at % len(data)
    data[place : place + len(junk)] = junk
    made.write_bytes(data)
    with suppress(Refused):  # anything else is a failure
        unpacked(made, tmp_path / "out")
    assert sorted(it.name for it in tmp_path.iterdir()) in (["drop"], ["drop", "out"])


def encrypted(path: Path) -> Path:
    """A zip whose member says that it is encrypted (APPNOTE.TXT 4.4.4, bit 0)."""
    content = bytearray(zipped(path, {"a.dcm": b"1" * 100}).read_bytes())
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(start) + flags] |= 1
    path.write_bytes(content)
    return path


def test_what_is_encrypted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"cannot be read.*password"):
        unpacked(encrypted(tmp_path / "z"), tmp_path / "out")


def test_zip64_and_archives_in_archives(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner", FILES).read_bytes()
    with zipfile.ZipFile(tmp_path / "z", "w") as archive, archive.open("inner.zip", "w", force_zip64=True) as member:
        member.write(inner)
    assert unpacked(tmp_path / "z", tmp_path / "out") == {"inner.zip": inner}
