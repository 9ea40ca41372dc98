"""The users file: what it takes, what it refuses, how it is changed; and passcodes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from asyncroute.core.errors import OurFault
from asyncroute.link import users

GOOD = str(users.Hash(14, 8, 1, bytes(16), bytes(32)))


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "users"
    file.write_text(text, encoding="utf-8", newline="")
    file.chmod(mode)
    return file


def test_passcodes(tmp_path: Path) -> None:
    file = tmp_path / "users"
    assert users.put(file, "anna", b"one")
    assert users.put(file, "b\u00f6rje", "zw\u00f6lf".encode())
    found = users.load(file)
    assert len(found) == 2
    right = [found.verify("anna", b"one"), found.verify("b\u00f6rje", "zw\u00f6lf".encode())]
    wrong = [found.verify(name, word) for name, word in (("anna", b"One"), ("anna", b""), ("zoe", b"one"), ("", b""))]
    assert (right, wrong) == ([True, True], [False] * 4)
    assert b"one" not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_same_passcode_is_never_written_the_same(tmp_path: Path) -> None:
    file = tmp_path / "users"
    users.put(file, "anna", b"one")
    users.put(file, "bob", b"one")
    before = users.load(file).stored("anna")
    assert before.rpartition("$")[2] != users.load(file).stored("bob").rpartition("$")[2]
    assert not users.put(file, "anna", b"one")
    assert users.load(file).stored("anna") != before
    assert users.load(file).stored("nobody") == ""


def test_an_unknown_user_costs_as_much_as_a_known_one(tmp_path: Path) -> None:
    """The quicker of several tries each; what a stranger may learn from the time is far below a factor of 2."""
    file = tmp_path / "users"
    users.put(file, "anna", b"one")
    found = users.load(file)

    def cost(name: str) -> float:
        return min(_timed(lambda: found.verify(name, b"guess")) for _ in range(5))

    assert 0.2 < cost("anna") / cost("nobody") < 5


def _timed(work: object) -> float:
    start = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - start


def test_changes_keep_order_comments_and_mode(tmp_path: Path) -> None:
    file = written(tmp_path, f"# ours\nanna:{GOOD}\n\nbob:{GOOD}\n", 0o640)
    users.put(file, "carl", b"x")
    assert not users.put(file, "anna", b"new")
    lines = file.read_text().splitlines()
    assert (lines[0], lines[2], lines[3]) == ("# ours", "", f"bob:{GOOD}")
    assert users.names(file) == ["anna", "bob", "carl"]
    assert users.remove(file, "bob")
    assert not users.remove(file, "bob")
    assert users.names(file) == ["anna", "carl"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["users"]


WRONG = [
    ("anna\n", "users:1: no NAME:$scrypt$"),
    ("anna:secret\n", "users:1: no NAME:$scrypt$"),
    (f"anna:{GOOD}\nbob:$6$x$y\n", "users:2: no NAME:$scrypt$"),
    (f"anna:{GOOD}\n# \nanna:{GOOD}\n", "users:3: 'anna' is there twice"),
    (f":{GOOD}\n", "users:1: a user's name has 1 to 64"),
    (f"{'x' * 65}:{GOOD}\n", "users:1: a user's name has 1 to 64"),
    (f" anna:{GOOD}\n", "users:1: a user's name has 1 to 64"),
    (f"anna:{GOOD}xx\n", "users:1: no NAME:$scrypt$"),
    ("anna:$scrypt$ln=40,r=8,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5\n", "users:1: no NAME:$scrypt$"),
    ("anna:$scrypt$ln=14,r=8,p=1000$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5\n", "users:1: no NAME:$scrypt$"),
    ("anna:$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$\n", "users:1: no NAME:$scrypt$"),
    ("anna:$scrypt$ln=14,r=8$c2FsdHNhbHQ$a2V5\n", "users:1: no NAME:$scrypt$"),
    ("\x00\x01\n", "users:1: a user's name has 1 to 64"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_wrong_files(tmp_path: Path, text: str, words: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(OurFault) as caught:
        users.load(file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(OurFault):
        users.put(file, "new", b"x")
    assert file.read_text() == text


def test_files_that_are_none(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    binary.chmod(0o600)
    huge = tmp_path / "huge"
    huge.write_bytes(bytes(users.MOST_BYTES + 1))
    huge.chmod(0o600)
    for file, words in ((binary, "not UTF-8"), (huge, "larger than 1 MiB"), (tmp_path / "no", "no such file")):
        with pytest.raises(OurFault, match=words):
            users.load(file)
    for number in (0o604, 0o602, 0o666, 0o644):
        with pytest.raises(OurFault, match="everybody on this machine"):
            users.load(written(tmp_path, f"anna:{GOOD}\n", number))
    with pytest.raises(OurFault, match="cannot be written: no such file"):
        users.put(tmp_path / "missing" / "users", "anna", b"x")


@pytest.mark.parametrize("name", ["", " a", "a:b", "#a", "a\nb", "x" * 65, "a\x1b"])
def test_names_that_nobody_may_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(OurFault, match="a user's name"):
        users.put(tmp_path / "users", name, b"x")
    assert not (tmp_path / "users").exists()
