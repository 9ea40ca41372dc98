"""The command line: ``python -m benchmarks`` measures, ``python -m benchmarks report`` writes the documentation."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import profile, report, results, stages
from benchmarks.load import Load
from benchmarks.measure import adopt_orphans
from benchmarks.peers import OURS, PEERS
from benchmarks.results import Results
from benchmarks.run import BenchError
from benchmarks.scenarios import FULL, MAKERS, SHORT, TINY

OUT = Path(__file__).resolve().parent / "results"
SCALES = {"short": SHORT, "full": FULL, "tiny": TINY}
BESIDES = ("stages", "profile")
"""What is measured besides scenarios."""


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.set_defaults(mode="short")
    parser.add_argument("command", nargs="?", choices=["run", "report", "list"], default="run")
    for name in SCALES:
        parser.add_argument(f"--{name}", dest="mode", action="store_const", const=name)
    parser.add_argument("--only", action="append", choices=[*MAKERS, *BESIDES], help="may be given several times")
    parser.add_argument("--peers", default=",".join(PEERS), help="names, separated by commas")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for results.json and the pictures")
    parser.add_argument("--add", action="store_true", help="keep what results.json holds of other scenarios")
    return parser.parse_args(arguments)


def _wanted(text: str) -> list[str]:
    """Routers that were asked for and can run here; says which cannot."""
    names = text.split(",")
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        sys.exit(f"benchmarks: no router {unknown[0]!r}; there are {', '.join(PEERS)}")
    missing = {name: why for name in names if (why := PEERS[name].missing())}
    for name, why in missing.items():
        _say(f"left out: {name}: {why}")
    return [name for name in names if name not in missing]


def _say(line: str) -> None:
    print(line, flush=True)


def _measure(options: argparse.Namespace) -> Results:
    wanted = _wanted(options.peers)
    file = options.out / report.RESULTS
    found = Results(results.machine(options.mode))
    if options.add and file.exists():
        old = Results.read(file)
        found.scenarios, found.stages, found.profile = old.scenarios, old.stages, old.profile
    for name, make in MAKERS.items():
        if options.only and name not in options.only:
            continue
        scenario = make(SCALES[options.mode])
        why = scenario.missing()
        if why:
            _say(f"left out: {name}: {why}")
            continue
        _say(f"{name}: {scenario.title}")
        found.scenarios[name] = results.run_scenario(scenario, wanted, _say)
        found.write(file)
    if OURS in wanted:
        _look_inside(found, options)
        found.write(file)
    return found


def _look_inside(found: Results, options: argparse.Namespace) -> None:
    tiny = options.mode == "tiny"
    if not options.only or "stages" in options.only:
        loads: dict[str, Load] = stages.TINY if tiny else stages.LOADS
        _say("stages: one image's path")
        found.stages = {name: stages.measure(load) for name, load in loads.items()}
    if not options.only or "profile" in options.only:
        loads = profile.TINY if tiny else profile.LOADS
        _say("profile: where the CPU time goes")
        found.profile = {name: profile.measure(load) for name, load in loads.items()}


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0; 1: asyncroute lost, doubled or changed an image or got stuck; 2: something cannot be measured."""
    options = _arguments(arguments)
    if options.command == "list":
        for name, peer in PEERS.items():
            _say(f"{name:16} {peer.about}" + (f" [cannot run: {why}]" if (why := peer.missing()) else ""))
        return 0
    if options.command == "report":
        for path in report.publish(Results.read(options.out / report.RESULTS)):
            _say(str(path))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        found = _measure(options)
    except BenchError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    drawn = report.draw(found, options.out)
    _say(f"\n{report.console(found)}\n\n{options.out / report.RESULTS} and {len(drawn)} pictures beside it")
    _say(f"measured in {(time.monotonic() - began) / 60:.1f} minutes")
    for line in found.unclean:
        _say(f"NOT CLEAN: {line}")
    return 1 if found.unclean else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
