"""One image's path by stage: how long each takes, and whether they explain the whole.

The router runs with the stopwatch of ``probes.py``. The whole is measured apart from it, by sender (an image's first
byte) and sink (its last one); all clocks are the same. Means of all images, since only means add up; what the stages
leave unexplained is told.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.load import Load
from benchmarks.peers import OURS, PEERS
from benchmarks.run import Bench, BenchError

STAGES = {
    "arrive": ("started", "begun"),
    "receive": ("begun", "whole"),
    "scan": ("scanning", "scanned"),
    "wait": ("scanned", "writing"),
    "sync": ("writing", "synced"),
    "commit": ("synced", "committed"),
    "answer": ("committed", "queued"),
    "queue": ("queued", "sending"),
    "send": ("sending", "arrived"),
    "settle": ("arrived", "settled"),
}
"""Each between two points of ``probes.POINTS``."""

MEANING = {
    "arrive": "from the first byte at the sender until its command set is read here",
    "receive": "from there to the last byte of the data set",
    "scan": "header scan and routing",
    "wait": "for a committing thread",
    "sync": "file written and synced, its folder too, with those of its group",
    "commit": "journal transaction, synced",
    "answer": "back to the loop, success answered",
    "queue": "for a lane, and for its association if there is none",
    "send": "to the destination, until it has the last byte",
    "settle": "the destination's answer, and the result durable, in a group that waits 50 ms for company",
}

LOADS = {
    "34 KB, one at a time": Load("small", 200, 1, options={"title": "BENCH"}),
    "34 KB, 10 associations": Load("small", 1000, 10, options={"title": "BENCH"}),
    "0.5 MB, one at a time": Load("medium", 100, 1, options={"title": "BENCH"}),
    "0.5 MB, 10 associations": Load("medium", 400, 10, options={"title": "BENCH"}),
}
TINY = {"34 KB, one at a time": Load("small", 20, 1, options={"title": "BENCH"})}

Times = Mapping[str, Mapping[str, float]]


def measure(load: Load) -> dict[str, Any]:
    """Milliseconds by stage, of the whole, and the share that the stages explain."""
    with Bench(PEERS[OURS], load) as bench:
        file = bench.folder / "stages.json"
        bench.place = bench.with_options(launch=f"stages {file}")
        bench.start_sinks()
        tree = bench.start_router()
        bench.start_sender()
        trouble = bench.wait_sent() or bench.wait_delivered()
        tree.settle()
        bench.stop_router()
        bench.stop_sinks()
        if trouble or not file.exists():
            raise BenchError(f"stages: {trouble or 'the router wrote no times'}; see {bench.folder}/router.log")
        evidence = bench.evidence()
        started = {evidence.corpus.uid(n): at for n, at in enumerate(evidence.report["started"])}
        return explain(started, {uid: at for uid, *_, at in evidence.sinks[0]}, json.loads(file.read_text()))


def explain(started: Mapping[str, float], arrived: Mapping[str, float], times: Times) -> dict[str, Any]:
    """See ``measure``. Sender's and sink's times by UID; only images that went all the way count.

    Raises:
        BenchError: none did.
    """
    points = {point for pair in STAGES.values() for point in pair} - {"started", "arrived"}
    known = [uid for uid, passed in times.items() if uid in started and uid in arrived and points <= passed.keys()]
    if not known:
        raise BenchError("stages: no image passed all points")
    passed = [{**times[uid], "started": started[uid], "arrived": arrived[uid]} for uid in known]
    stages = {name: _mean([t[b] - t[a] for t in passed]) for name, (a, b) in STAGES.items()}
    delivered = _mean([arrived[uid] - started[uid] for uid in known])
    settled = _mean([times[uid]["settled"] - started[uid] for uid in known])
    return {
        "images": len(known),
        "stages_ms": stages,
        "delivered_ms": delivered,
        "settled_ms": settled,
        "explained_delivered": (sum(stages.values()) - stages["settle"]) / delivered,
        "explained_settled": sum(stages.values()) / settled,
    }


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) * 1e3
