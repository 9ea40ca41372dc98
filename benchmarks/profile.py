"""A profile of the router under load: its costs by room and by function, as shares of its CPU time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.load import Load
from benchmarks.peers import OURS, PEERS
from benchmarks.run import Bench, BenchError
from benchmarks.sampler import START

LOADS = {
    "34 KB": Load("small", 6000, 10, options={"title": "BENCH"}),
    "0.5 MB": Load("medium", 1500, 10, options={"title": "BENCH"}),
}
TINY = {"34 KB": Load("small", 100, 10, options={"title": "BENCH"})}
MOST = 15
"""Functions that are kept."""


def measure(load: Load) -> dict[str, Any]:
    """Shares by room and by function, the greatest first, and the CPU time per image with the instrument on."""
    with Bench(PEERS[OURS], load) as bench:
        file = bench.folder / "profile.json"
        bench.place = bench.with_options(launch=f"profile {file}")
        bench.start_sinks()
        tree = bench.start_router()
        before = tree.sample()
        bench.start_sender()
        trouble = bench.wait_sent() or bench.wait_delivered()
        cpu = tree.settle() - before
        bench.stop_router()
        if trouble or not file.exists():
            raise BenchError(f"profile: {trouble or 'the router wrote none'}; see {bench.folder}/router.log")
        return shares(json.loads(file.read_text())) | {"cpu_ms_per_image": cpu / load.count * 1e3}


def shares(raw: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """From nanoseconds to shares of their sum, the start-up left out."""
    rooms, functions = (_greatest(raw[kind]) for kind in ("rooms", "functions"))
    whole = sum(rooms.values())
    if not whole:
        raise BenchError("profile: nothing was seen")
    return {
        "rooms": {room: n / whole for room, n in rooms.items()},
        "functions": {name: n / whole for name, n in list(functions.items())[:MOST]},
    }


def _greatest(spent: Mapping[str, int]) -> dict[str, int]:
    """The greatest first, without the start-up."""
    return dict(sorted(((name, n) for name, n in spent.items() if name != START), key=lambda item: -item[1]))
