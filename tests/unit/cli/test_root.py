"""The command itself: help, version, wrong use, failures in one line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from asyncroute import __version__
from asyncroute.cli import root, settings
from asyncroute.journal.archive import ArchiveIndex
from asyncroute.journal.sqlite import SqliteJournal
from tests.support.router import command, environment, run_cli
from tests.unit.cli.running import Cli, heeding_ctrl_c, part10_files

COMMANDS = (
    "serve",
    "status",
    "rebuild",
    "reload",
    "check",
    "explain",
    "plan",
    "init",
    "echo",
    "send",
    "demo",
    "why",
    "replay",
    "secret",
    "reidentify",
)
GROUPS = {
    "batch": ("start", "list", "show", "retry", "cancel", "export"),
    "watch": ("start", "stop", "status"),
    "archive": ("status", "find", "move", "verify"),
    "queue": ("list", "retry", "discard"),
    "user": ("add", "remove", "list"),
}
EVERY = [(name,) for name in COMMANDS] + [(group, name) for group, names in GROUPS.items() for name in names]


def test_version(cli: Cli) -> None:
    done = cli("--version")
    assert (done.status, done.out) == (0, f"asyncroute {__version__}\n")


def test_help_names_every_command_that_there_is(cli: Cli) -> None:
    done = cli("--help")
    assert done.status == 0
    listed = {line.split()[0] for line in done.out.partition("Commands:")[2].splitlines() if line.strip()}
    assert listed == {*COMMANDS, *GROUPS}


@pytest.mark.parametrize("name", EVERY, ids=" ".join)
def test_each_command_has_help_with_an_example(name: tuple[str, ...]) -> None:
    result = CliRunner().invoke(root.application(), [*name, "--help"], prog_name="asyncroute")
    assert result.exit_code == 0
    assert f"\n    asyncroute {' '.join(name)}" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "No such command"),
        (("queue", "nonsense"), "No such command"),
        (("status", "--nonsense"), "--nonsense"),
        (("echo",), "Missing argument"),
        (("send", "a.dcm"), "--to"),
        (("send", "a.dcm", "--to", "A@b:1", "--associations", "0"), "--associations"),
        (("queue", "list", "--state", "lost"), "--state"),
        (("queue", "list", "--id", "one"), "--id"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = cli(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.error.startswith("asyncroute: error: ")
    assert words in done.error
    assert "--help" in done.error


def test_no_command_shows_what_there_is(cli: Cli) -> None:
    done = cli()
    assert "Commands:" in done.out + done.err


def test_what_nobody_expected_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path | None) -> None:
        raise RuntimeError("two\nlines \x1b[31m")

    monkeypatch.setattr(settings, "load", fail)
    done = cli("check")
    assert done.status == 1
    assert "unexpected: RuntimeError: two lines \\x1b[31m" in done.error
    monkeypatch.setenv("ASYNCROUTE_DEBUG", "1")
    assert "Traceback" in cli("check").err


def test_elsewhere_than_on_linux_it_says_where_to_read() -> None:
    """Also where modules that only some systems have cannot be imported."""
    program = (
        "import sys, sysconfig; sysconfig.get_config_vars();"  # it would look for those of the other system
        "sys.modules.update(dict.fromkeys(('fcntl', 'resource', 'uvloop')));"
        "from asyncroute.cli.root import run; sys.platform = 'win32'; sys.exit(run(['serve']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), timeout=30, check=False
    )
    assert done.returncode == 1
    assert "docs/platforms.md" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    reading, writing = subprocess.PIPE, subprocess.PIPE
    process = subprocess.Popen(
        command("check", "--json"), stdout=reading, stderr=writing, cwd=tmp_path, env=environment(), text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == ""


def test_a_terminal_that_knows_only_ascii_gets_escapes(tmp_path: Path) -> None:
    (tmp_path / "asyncroute.toml").write_text(
        '[node]\ndata_dir = "d"\n[[listener]]\n[[destination]]\nname = "Zürich"\nkind = "folder"\npath = "p"\n',
        encoding="utf-8",
    )
    done = subprocess.run(
        command("check"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(PYTHONIOENCODING="ascii"),
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Z\\xfcrich" in done.stdout


def test_ctrl_c_is_one_word(tmp_path: Path) -> None:
    part10_files(tmp_path / "in", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        target = f"ANY@127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            heeding_ctrl_c("send", "in", "--to", target),
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        with silent.accept()[0] as connection:
            assert connection.recv(1) == b"\1"  # it has sent its request and waits
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_python_m_runs_the_same(tmp_path: Path) -> None:
    done = run_cli("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"asyncroute {__version__}\n")


def run_alone(program: str, *arguments: str, folder: Path) -> str:
    """What a Python program says on standard error, in an interpreter of its own; insists on exit status 0."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), cwd=folder, timeout=60, check=True
    )
    return done.stderr


def test_help_and_status_load_no_dicom_library(tmp_path: Path) -> None:
    """They are asked often, by people and by monitoring."""
    program = (
        "import sys; from asyncroute.cli.root import run; run(sys.argv[1:]);"
        "print(sorted({'pydicom', 'pynetdicom', 'aiohttp', 'uvloop', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    for arguments in (["--help"], ["queue", "retry", "--help"]):
        assert run_alone(program, *arguments, folder=tmp_path) == "[]\n"


CONFIG = """
[node]
data_dir = "data"
[[listener]]
[[destination]]
name = "out"
kind = "folder"
path = "out"
[archive]
tiers = [{ path = "tier" }]
"""
HEAVY = {
    *("pydicom", "pynetdicom", "aiohttp", "uvloop", "numpy", "rich", "watchfiles"),
    *("asyncroute.config.model", "asyncroute.config.steps", "asyncroute.transform", "asyncroute.forward"),
    *("asyncroute.receive", "asyncroute.queue", "asyncroute.app", "asyncroute.route"),
}
"""What takes long to import, and what looks at a router's state needs none of."""


LOOKING = (
    *("status", "queue list", "batch list", "batch show x", "batch export --per day", "why 1.2", "watch status"),
    *("archive status", "archive find", "batch start x", "queue retry --all"),
)


def test_commands_that_look_at_a_router_start_quickly(tmp_path: Path) -> None:
    (tmp_path / "asyncroute.toml").write_text(CONFIG, encoding="utf-8")
    SqliteJournal.open(tmp_path / "data").close()
    ArchiveIndex.open(tmp_path / "data").close()
    program = (
        "import sys; from asyncroute.cli.root import run\n"
        "for words in sys.argv[2:]:\n"
        "    run(words.split()); print(words, sorted(set(sys.argv[1].split()) & set(sys.modules)), file=sys.stderr)"
    )
    said = run_alone(program, " ".join(HEAVY), *LOOKING, folder=tmp_path)
    assert "unexpected" not in said
    assert {f"{words} []" for words in LOOKING} <= set(said.splitlines())


def test_each_command_is_looked_for_in_the_module_that_has_it() -> None:
    for name, words in root.MODULES.items():
        for word in words:
            found = typer.main.get_command(root.application(word))
            assert set(getattr(found, "commands")) == set(words), name  # noqa: B009 - of either copy of click
