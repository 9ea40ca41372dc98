"""The step ``deidentify`` in a configuration, and files of secrets."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from asyncroute.config import secrets
from asyncroute.config.loading import loads
from asyncroute.config.words import Invalid
from asyncroute.core.deidentification import Deidentify
from asyncroute.core.errors import ConfigError

REST = """
[[listener]]
ae_title = "A"
port = 11112
[[destination]]
name = "d"
kind = "folder"
path = "/nowhere"
[[route]]
name = "r"
to = ["d"]
transform = ["research"]
[transform.research]
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "it's.secret"
    secrets.create(path)
    return path


def config(step: str, secret: Path | None) -> str:
    file = f'secret_file = "{secret}"\n' if secret else ""
    return f"{REST}{file}steps = [{step}]\n"


def test_a_step_with_its_options(secret: Path) -> None:
    text = (
        '{ deidentify = "basic", retain = ["patient", "safe-private"], dates = "shift", days = 100, '
        'descriptors = "clean", burned_in = "pass" }'
    )
    loaded = loads(config(text, secret))
    (coercion,) = loaded.coercions(loaded.routes[0])
    assert coercion.steps == (Deidentify(frozenset({"patient", "safe-private"}), "shift", 100, "clean", "pass"),)
    assert coercion.secret == secret.read_bytes().strip()
    assert coercion.steps[0].columns == {"patient", "safe_private", "modified_dates", "descriptors"}


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("{ deidentify = true }", 'must be "basic", the profile of PS3.15 Annex E, not true'),
        ('{ deidentify = "basic", retain = ["patinet"] }', 'did you mean "patient"'),
        ('{ deidentify = "basic", retain = "patient" }', "must be a list such as"),
        ('{ deidentify = "basic", retain = ["dates"] }', 'a key of its own: write dates = "keep" beside it'),
        ('{ deidentify = "basic", dates = "shifted" }', '"remove", "keep" or "shift"'),
        ('{ deidentify = "basic", days = 5 }', 'only with dates = "shift"'),
        ('{ deidentify = "basic", dates = "shift", days = 0 }', "days"),
        ('{ deidentify = "basic", pixels = "clean" }', "pixels"),
        ('{ deidentfy = "basic" }', 'did you mean "deidentify"'),
    ],
)
def test_mistakes_are_told_in_one_line(secret: Path, step: str, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        loads(config(step, secret))
    assert len(error.value.problems) == 1
    assert text in str(error.value)


def test_it_needs_a_secret_that_nobody_else_can_read(secret: Path) -> None:
    step = '{ deidentify = "basic" }'
    for text in (config(step, None), REST + f'secret = "sixteen or more characters"\nsteps = [{step}]'):
        with pytest.raises(ConfigError, match=r'"asyncroute secret FILE" makes one|needs "secret"'):
            loads(text)
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match=r"can be read by others \(mode 0644\)"):
        loads(config(step, secret))


def test_nothing_may_be_recorded_beside_it(secret: Path) -> None:
    with pytest.raises(ConfigError, match='record: cannot be true beside "deidentify"'):
        loads(config('{ deidentify = "basic" }', secret) + "record = true\n")


def test_a_secret_is_made_once_and_for_its_owner_only(tmp_path: Path, secret: Path) -> None:
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secrets.read(secret, private=True)) == 64
    with pytest.raises(FileExistsError):
        secrets.create(secret)
    other = tmp_path / "other"
    secrets.create(other)
    assert other.read_bytes() != secret.read_bytes()
    other.write_bytes(b"short\n")
    with pytest.raises(Invalid, match="must have at least 16"):
        secrets.read(other, private=True)
    with pytest.raises(Invalid, match="cannot be read"):
        secrets.read(tmp_path / "none", private=True)
