"""The program under test: ``python -m asyncroute`` with a configuration file, in its own process (see ``forking``)."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

from tests.support import control, procfs, settings
from tests.support.exact_sender import Caller
from tests.support.forking import Forked, Starter
from tests.support.ports import listening
from tests.support.settings import Table
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_NUMPY = Path(__file__).parent / "without_numpy"
Status = dict[str, Any]
STARTING, STOPPING = 20.0, 20.0
PROGRAM = ("asyncroute",)


def environment(**more: str) -> dict[str, str]:
    """The environment for the program: no numpy, as where users install it; with the source tree where it is not."""
    env = {**os.environ, **more}
    first = [str(WITHOUT_NUMPY)]
    if importlib.util.find_spec("asyncroute") is None:
        first.append(str(ROOT / "src"))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [*first, env.get("PYTHONPATH", "")]))
    return env


def command(*arguments: object, program: Sequence[str] = PROGRAM) -> list[str]:
    """The command line of ``asyncroute ARGUMENTS``; ``program``: a module that runs it otherwise."""
    return [sys.executable, "-m", *program, *map(str, arguments)]


@functools.cache
def starter() -> Starter:
    """What starts the program in this test process; its environment is that of the first that was started."""
    return Starter(environment())


def run_cli(*arguments: object, timeout: float = 30, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``asyncroute ARGUMENTS`` to its end; whatever its exit status."""
    return as_text(run_cli_raw(*arguments, timeout=timeout, cwd=cwd))


def run_cli_raw(*arguments: object, timeout: float = 30, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """The same, with the output as it is."""
    folder, env, words = cwd or Path.cwd(), environment(), [*PROGRAM, *map(str, arguments)]
    if starter().fits(env):
        return starter().run(words, env, folder, timeout)
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        timeout=timeout,
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def as_text(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    """With the output decoded."""
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class Router:
    """One router: configuration, data folder and log live in ``folder``; the process may be started many times.

    ``config`` holds tables named as in the TOML file; [node] and a [[listener]] are added where they are missing.
    """

    made: ClassVar[list[Router]] = []

    def __init__(self, folder: Path, config: Mapping[str, Any], name: str = "router") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config: dict[str, Any] = {"node": settings.node(), "listener": [settings.listener()], **config}
        self.config["node"] = {"data_dir": str(folder / "data"), **self.config["node"]}
        self.config_file = folder / "asyncroute.toml"
        self.log_file = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.program: Sequence[str] = PROGRAM
        self.afresh = False
        """Whether an interpreter is started for it: where the process itself, its memory or limits are tested."""
        self.codecs = False
        """Whether it has the codecs."""
        self.write_config()
        Router.made.append(self)

    def write_config(self) -> None:
        """Write the configuration file anew from ``config``."""
        self.config_file.write_text(settings.to_toml(self.config), encoding="utf-8")

    @property
    def port(self) -> int:
        """The first listener's port."""
        return int(self.config["listener"][0]["port"])

    @property
    def data_dir(self) -> Path:
        """Where the journal and the spool are."""
        return Path(self.config["node"]["data_dir"])

    @property
    def pid(self) -> int:
        """The process id of the running router."""
        assert self.process is not None, "the router was not started"
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def caller(self, calling: str = "EXACT", listener: int = 0, **more: Any) -> Caller:
        """A sender's address book entry for this router."""
        table: Table = self.config["listener"][listener]
        return Caller(**{"port": table["port"], "calling": calling, "called": table["ae_title"], **more})

    def start(self, wait: bool = True, **env: str) -> Router:
        """Start ``serve`` in a process group of its own; ``wait`` until it listens."""
        assert not self.running, "the router already runs"
        with self.log_file.open("ab") as log:
            self.process = self._spawn(log, env)
        if wait:
            self.wait_listening()
        return self

    def _spawn(self, log: IO[bytes], env: Mapping[str, str]) -> subprocess.Popen[bytes] | Forked:
        words, whole = [*self.program, "serve", "-c", str(self.config_file)], self.environment(env)
        if not (self.afresh or self.codecs) and starter().fits(whole):
            return starter().spawn(words, whole, self.folder, log.fileno(), log.fileno())
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=whole,
            cwd=self.folder,
            start_new_session=True,
        )

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """Of its process."""
        whole = environment(**env)
        if self.codecs:
            whole["PYTHONPATH"] = whole["PYTHONPATH"].removeprefix(f"{WITHOUT_NUMPY}").removeprefix(os.pathsep)
        return whole

    def wait_listening(self) -> None:
        """Wait until every listener takes connections."""
        ports = [table["port"] for table in self.config["listener"]]
        wait_until(
            lambda: not self.running or all(map(listening, ports)), STARTING, "the router listens", self.log_tail
        )
        assert self.running, f"the router ended with {self.exit_status} at its start:\n{self.log_tail()}"

    @property
    def exit_status(self) -> int | None:
        """The exit status of the ended process; negative: the signal that ended it."""
        return self.process.poll() if self.process is not None else None

    def signal(self, number: signal.Signals) -> None:
        """Send one signal to the router itself."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait_exit(self, deadline: float = STOPPING) -> int:
        """Wait for the end of the process; its exit status."""
        assert self.process is not None
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the router did not end within {deadline:g} s:\n{self.log_tail()}") from None

    def stop(self, deadline: float = STOPPING) -> None:
        """SIGTERM; insists on exit status 0."""
        self.signal(signal.SIGTERM)
        status = self.wait_exit(deadline)
        assert status == 0, f"exit status {status} after SIGTERM:\n{self.log_tail()}"

    def kill(self) -> None:
        """SIGKILL, to the whole process group."""
        if self.process is None:
            return
        if self.running:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def status(self) -> Status:
        """The router's status: asked on its control socket while it runs (a poll must not cost a new interpreter).

        The same facts as ``cli_status``, which ``tests/interop/test_commands.py`` holds against it.
        """
        return control.get(self.data_dir, "/status") if self.running else self.cli_status()

    def cli_status(self) -> Status:
        """``asyncroute status --json``, parsed. Its exit status 0 and 1 are both fine."""
        done = run_cli("status", "-c", self.config_file, "--json")
        assert done.returncode in {0, 1}, f"status: exit {done.returncode}: {done.stderr}"
        parsed: Status = json.loads(done.stdout)
        return parsed

    def channel(self, name: str, status: Status | None = None) -> dict[str, Any]:
        """The channel of destination ``name``."""
        channels = (status or self.status())["channels"]
        found: dict[str, Any] = next(channel for channel in channels if channel["name"] == name)
        return found

    def wait_status(self, condition: Any, deadline: float, what: str) -> Status:
        """Wait until ``condition(status)`` is true; returns that status."""
        seen: list[Status] = []

        def holds() -> bool:
            seen[:] = [self.status()]
            return bool(condition(seen[0]))

        wait_until(holds, deadline, what, lambda: json.dumps(seen[-1], indent=1)[:4000], every=0.1)
        return seen[0]

    def wait_delivered(self, count: int, deadline: float = 60) -> Status:
        """Wait until ``count`` deliveries in all have been delivered (since the data folder was made)."""
        return self.wait_status(lambda s: s["totals"]["delivered"] >= count, deadline, f"{count} deliveries")

    def wait_failed(self, count: int, deadline: float = 30) -> None:
        """Wait until ``count`` dead letters are in the journal, where commands find them; ``status`` counts a result
        some 50 ms before."""
        what = f"{count} dead letters in the journal"
        wait_until(lambda: len(control.listed(self.data_dir, {"state": "failed"})) == count, deadline, what)

    def wait_drained(self, deadline: float = 60) -> Status:
        """Wait until no delivery is owed any more and the spool is empty."""
        return self.wait_status(_drained, deadline, "all delivered and the spool empty")

    def wait_quiet(self, deadline: float = 20) -> Status:
        """Wait until no association is open, inbound or outbound."""
        return self.wait_status(lambda s: not any(s["associations"].values()), deadline, "no association open")

    def usage(self) -> procfs.Usage:
        """Descriptors, threads and memory of the process."""
        return procfs.usage(self.pid)

    def log_tail(self, lines: int = 60) -> str:
        """The last lines of its output."""
        if not self.log_file.exists():
            return "(no output)"
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def spool_files(self) -> list[Path]:
        """All files in the spool folder."""
        return [path for path in (self.data_dir / "spool").rglob("*") if path.is_file()]

    def __enter__(self) -> Router:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.kill()


def _drained(status: Status) -> bool:
    return not status["totals"]["waiting"] and not status["spool"]["files"]


def owed(channel: Mapping[str, Any]) -> int:
    """Deliveries of a channel that are neither delivered nor dead letters: those ready and being sent count, too."""
    return int(channel["waiting"])


def echo_until_answered(callers: Sequence[Caller], deadline: float = STARTING) -> None:
    """Wait until each caller gets a C-ECHO answered."""
    for caller in callers:
        wait_until(lambda caller=caller: _echoes(caller), deadline, f"C-ECHO on port {caller.port}")  # type: ignore[misc]


def _echoes(caller: Caller) -> bool:
    try:
        with caller.associate() as association:
            return association.echo() == 0
    except OSError:
        return False


def wait_for_exit(process: subprocess.Popen[Any] | Forked, seconds: float) -> int | None:
    """The exit status of ``process`` if it ends in time."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    return process.poll()
