"""The checks: ``nox`` runs lint, types and tests.

Besides: ``nox -s deep`` (fuzzing, power cuts, soak), ``nox -s coverage`` (what tests reach), ``nox -s long`` (tests of
minutes), ``nox -s bench`` (measures).

Each session has an environment of its own (.nox), installed anew only when pyproject.toml or the Python changes. The
real programs that the tests talk to (dcmtk, Orthanc) come from the system: bin/test installs them.
Arguments after ``--`` go to the session's tool: ``nox -s tests -- tests/unit -k retry``.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True

ROOT = Path(__file__).resolve().parent
PYPROJECT = ROOT / "pyproject.toml"
WORKERS = "3"
"""Test processes at a time: most tests wait for deadlines rather than for a processor."""

DEEP = ("tests/fuzz", "tests/power", "tests/soak")
"""Folders of `nox -s deep`: with them the usual run would take more than its twenty minutes on a slow machine."""


def install(session: nox.Session, *requirements: str) -> None:
    """pip install the requirements, unless this environment got the same ones before."""
    stamp = Path(session.virtualenv.location) / ".asyncroute-installed"
    wanted = f"{ROOT} {sys.version} {zlib.crc32(PYPROJECT.read_bytes())} {requirements}"
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return
    stamp.unlink(missing_ok=True)
    session.install(*requirements)
    stamp.write_text(wanted, "utf-8")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, likely mistakes, formatting."""
    install(session, *nox.project.load_toml(PYPROJECT)["project"]["optional-dependencies"]["lint"])
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict, over sources and tests."""
    install(session, "--editable", ".[test,types]")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the long and the deep ones: many at a time, then those that want the machine for themselves.

    A run of chosen tests runs one at a time.
    """
    install(session, "--editable", ".[test]")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.env["PYTHONDONTWRITEBYTECODE"] = ""  # else each of some thousand processes compiles all sources anew
    rest = [f"--ignore={folder}" for folder in DEEP]
    session.run("pytest", "-n", WORKERS, "--dist", "worksteal", "-m", "not long and not alone", *rest)
    session.run("pytest", "-m", "alone and not long", *rest)


@nox.session
def deep(session: nox.Session) -> None:
    """Fuzzing, power cuts, soak: the short forms, some five minutes. And new examples for every property."""
    install(session, "--editable", ".[test]")
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    session.env["HYPOTHESIS_PROFILE"] = "explore"
    session.run("pytest", "-n", WORKERS, "--dist", "worksteal", "-m", "not long and not alone", *DEEP)
    session.run("pytest", "-n", WORKERS, "--dist", "worksteal", "-m", "hypothesis", "tests/unit")


@nox.session
def coverage(session: nox.Session) -> None:
    """Which lines the usual tests reach in their own processes; fails below the bound."""
    install(session, "--editable", ".[test]")
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    session.run("pytest", "-n", WORKERS, "--dist", "worksteal", "--cov", "-m", "not long and not alone")


@nox.session
def bench(session: nox.Session) -> None:
    """asyncroute measured against the routers that are installed: about ten minutes; ``-- --full`` takes hours."""
    install(session, "--editable", ".")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def long(session: nox.Session) -> None:
    """The tests that take minutes. No coverage: they measure."""
    install(session, "--editable", ".[test]")
    session.run("python", "-m", "pytest", "-m", "long", *session.posargs)
