"""The little of a configuration that commands need: what the quick way gives is what the whole file says."""

from __future__ import annotations

import inspect
import pkgutil
from pathlib import Path

import pytest

from asyncroute import config
from asyncroute.config import embedded_default, load, outline

ROOT = Path(__file__).resolve().parents[3]
REST = '[[listener]]\n[[destination]]\nname = "a"\nkind = "dicom"\nhost = "h"\nport = 104\nae_title = "A"\n'
ARCHIVE = '[archive]\ntiers = [{ path = "t1" }, { path = "/t2", move_in = { at = "02:00" } }]\n'
WATCHES = (
    '[[watch]]\nname = "in"\npath = "in/../drop"\nsubfolder = "ready"\n'
    '[[watch]]\nname = "trial"\nmode = "batch"\npaths = ["x", "y/./z/"]\n'
    '[[watch]]\nname = "one"\nmode = "batch"\npath = "one"\n'
    '[[route]]\nname = "r"\nto = ["a"]\n'
)
NODE = '[node]\nname = "edge"\ndata_dir = "~/d"\ndurability = "process-crash"\nhistory = "1h30m"\n'
GROUP = (
    '[[destination]]\nname = "b"\nkind = "folder"\npath = "p"\n'
    '[[group]]\nname = "g"\nmode = "failover"\nmembers = ["a", "b"]\n'
)


@pytest.mark.parametrize("text", [REST, NODE + REST, REST + ARCHIVE, REST + WATCHES, REST + GROUP])
def test_the_quick_way_tells_the_same(tmp_path: Path, text: str) -> None:
    for folder in ("in", "drop/ready", "x", "y/z", "one"):
        (tmp_path / folder).mkdir(parents=True)
    file = tmp_path / "some.toml"
    file.write_text(text, encoding="utf-8")
    assert outline.read(file) == outline.of(load(file))


def test_without_a_file_it_is_the_embedded_one(tmp_path: Path) -> None:
    assert outline.embedded(tmp_path) == outline.of(embedded_default(tmp_path))


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_the_quick_way_is_taken_for_every_example(file: Path) -> None:
    found = outline.read(file)
    assert found is not None
    assert (found.file, found.destinations != {}) == (str(file), True)


@pytest.mark.parametrize(
    "text",
    [
        "[node",
        "",
        REST + "[node]\nname = 5",
        REST + '[node]\ndurability = "none"',
        REST + '[node]\nhistory = "long"',
        REST + '[[destination]]\nname = "c"\nkind = "tape"',
        REST + "[archive]\ntiers = []",
        REST + "[archive]\nkeep = 5",
        REST + '[archive]\ntiers = [{ path = "" }]',
        REST + '[[watch]]\nname = "w"',
        REST + '[[watch]]\nname = "w"\npaths = "x"',
        REST + '[[watch]]\nname = "w"\npath = "x"\nmode = "now"',
    ],
)
def test_what_is_not_plain_is_not_guessed(tmp_path: Path, text: str) -> None:
    file = tmp_path / "some.toml"
    file.write_text(text, encoding="utf-8")
    assert outline.read(file) is None


def test_what_the_package_offers_is_there_and_no_module_hides_it() -> None:
    """A module that is imported becomes an attribute of its package, whatever else has its name."""
    assert not set(config.__all__) & {module.name for module in pkgutil.iter_modules(config.__path__)}
    for name in config.__all__:
        assert not inspect.ismodule(getattr(config, name)), name
