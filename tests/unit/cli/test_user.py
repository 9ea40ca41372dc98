"""``asyncroute user``: users files from the command line."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asyncroute.cli import root
from asyncroute.link import users
from tests.support.router import command, environment
from tests.unit.cli.running import Cli


def feed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_add_list_remove(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "users"
    for name, words, told in (("anna", "one", "added"), ("bob", "two", "added"), ("anna", "three", "another passcode")):
        feed(monkeypatch, f"{words}\r\nignored\n")
        done = cli("user", "add", file, name, "--stdin")
        assert (done.status, done.out) == (0, f"{file}: {name}: {told}; a running router needs a reload\n")
    found = users.load(file)
    assert [found.verify("anna", word) for word in (b"one", b"three", b"three\r")] == [False, True, False]
    assert cli("user", "list", file).out == "anna\nbob\n"
    assert json.loads(cli("user", "list", file, "--json").out) == ["anna", "bob"]
    assert cli("user", "remove", file, "anna").status == 0
    done = cli("user", "remove", file, "anna")
    assert (done.status, done.error) == (1, f"asyncroute: error: {file}: there is no user 'anna'")
    assert cli("user", "list", file).out == "bob\n"


def test_the_passcode_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "users"
    given = "secret\nother\nsecret\nsecret\n"
    result = CliRunner().invoke(root.application(), ["user", "add", str(file), "anna"], input=given)
    assert result.exit_code == 0
    assert "secret" not in result.output
    assert users.load(file).verify("anna", b"secret")


def test_a_passcode_of_any_bytes_from_a_pipe(tmp_path: Path) -> None:
    file = tmp_path / "users"
    passcode = "\u00fcber".encode("latin-1")
    done = subprocess.run(
        command("user", "add", file, "anna", "--stdin"),
        input=passcode + b"\n",
        env=environment(PYTHONUTF8="1"),
        timeout=30,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert users.load(file).verify("anna", passcode)


@pytest.mark.parametrize(
    ("arguments", "fed", "words"),
    [
        (("add", "users", "anna"), "\n", "the passcode is empty"),
        (("add", "users", "a:b"), "x\n", "a user's name has no colon"),
        (("add", "no/users", "anna"), "x\n", "cannot be written"),
        (("add", "open", "anna"), "x\n", "everybody on this machine"),
        (("list", "none"), "", "cannot be read: no such file"),
        (("remove", "none", "anna"), "", "cannot be read: no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], fed: str, words: str
) -> None:
    (tmp_path / "open").touch(0o666)
    (tmp_path / "open").chmod(0o666)
    feed(monkeypatch, fed)
    more = ["--stdin"] if arguments[0] == "add" else []
    done = cli("user", arguments[0], tmp_path / arguments[1], *arguments[2:], *more)
    assert (done.status, done.out) == (1, "")
    assert words in done.error
    assert done.err.count("\n") == 1
