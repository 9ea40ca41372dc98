"""The configuration that a command means, and the quick way to its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.cli import settings
from asyncroute.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
REST = '[[listener]]\n[[destination]]\nname = "a"\nkind = "folder"\npath = "p"\n'


def write(folder: Path, node: str) -> Path:
    file = folder / "some.toml"
    file.write_text(f"{node}\n{REST}", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "node",
    [
        "",
        "[node]",
        '[node]\ndata_dir = "here"',
        '[node]\ndata_dir = "../there/./x"',
        '[node]\ndata_dir = "/some/where"',
        '[node]\ndata_dir = "~/data"',
        '\ufeff[node]\ndata_dir = "with-bom"',
    ],
)
def test_the_quick_way_leads_to_the_same_folder(tmp_path: Path, node: str) -> None:
    file = write(tmp_path, node)
    assert settings.data_dir(file) == settings.load(file).node.data_dir


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_the_quick_way_in_every_example(file: Path) -> None:
    import tomllib

    written = tomllib.loads(file.read_text("utf-8")).get("node", {}).get("data_dir", "/var/lib/asyncroute")
    assert settings.data_dir(file) == file.parent / written


def test_without_a_file_the_embedded_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not settings.given(None)
    assert settings.data_dir(None) == settings.load(None).node.data_dir == tmp_path / "asyncroute-data"


@pytest.mark.parametrize(
    "text", ["[node", "node = 1", "[[node]]", "[node]\ndata_dir = 5", '[node]\ndata_dir = ""', "\x00", "[" * 10000]
)
def test_the_quick_way_gives_up_on_what_is_not_plain(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text, encoding="utf-8")
    assert settings.data_dir(file) is None
    with pytest.raises(ConfigError):
        settings.load(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert settings.data_dir(tmp_path / "none.toml") is None
    with pytest.raises(ConfigError):
        settings.load(tmp_path / "none.toml")
