"""From what sender and sinks remember to figures, and to the proof that nothing was lost, doubled or changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.corpus import Corpus

QUANTILES = (50, 95, 99)
Stored = Sequence[tuple[str, int, int, float]]
"""(SOP Instance UID, digest, size, when) of each image that a sink got."""


def quantile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of ``values``, which are not empty: the least that ``percent`` % do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


@dataclass
class Proof:
    """Images that did not come as they should: acknowledged and not at every sink; there more than once; with other
    bytes; at a sink under a UID that nobody sent; not acknowledged.
    """

    lost: int = 0
    doubled: int = 0
    changed: int = 0
    foreign: int = 0
    refused: int = 0

    @property
    def clean(self) -> bool:
        """Whether every image came, once, as it was sent."""
        return not any(asdict(self).values())

    def __str__(self) -> str:
        return ", ".join(f"{n} {what}" for what, n in asdict(self).items() if n) or "all arrived, once, unchanged"


@dataclass
class Outcome:
    """One run: its figures by name, the proof, and why it ended before its end (empty: it did not)."""

    figures: dict[str, float] = field(default_factory=dict)
    proof: Proof = field(default_factory=Proof)
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Outcome:
        """The reverse."""
        return cls(dict(raw["figures"]), Proof(**raw["proof"]), raw["trouble"])


@dataclass(frozen=True)
class Evidence:
    """All that is known of a run's images: the sender's report, what came at each sink; CPU seconds of the sinks."""

    corpus: Corpus
    report: Mapping[str, Any]
    sinks: Sequence[Stored]
    sinks_cpu_s: float = 0.0

    @classmethod
    def read(cls, corpus: Corpus, report: Path, sinks: Sequence[Path]) -> Evidence:
        """From the files that sender and sinks wrote."""
        found = [json.loads(sink.read_text()) for sink in sinks]
        stored = [each["stored"] for each in found]
        return cls(corpus, json.loads(report.read_text()), stored, sum(each["cpu_s"] for each in found))

    @property
    def acknowledged(self) -> list[int]:
        """Numbers of the images that were answered with success."""
        return [n for n, status in enumerate(self.report["statuses"]) if status == 0]

    def proof(self, coerced: bool = False) -> Proof:
        """See ``Proof``. ``coerced``: each image was to come with other bytes; ``changed`` are those that did not."""
        uids = [self.corpus.uid(n) for n in range(self.corpus.count)]
        digests = dict(zip(uids, self.report["digests"], strict=True))
        found = Proof(refused=self.corpus.count - len(self.acknowledged))
        for stored in self.sinks:
            came = {uid for uid, *_ in stored}
            found.lost += sum(uids[n] not in came for n in self.acknowledged)
            found.doubled += len(stored) - len(came)
            found.foreign += len(came - digests.keys())
            known = [(digest, digests[uid]) for uid, digest, *_ in stored if uid in digests]
            found.changed += sum((got != sent) is not coerced for got, sent in known)
        return found

    def latencies(self) -> tuple[list[float], list[float]]:
        """Seconds from an image's first byte to its acknowledgement; and to its end at each sink."""
        started, answered = self.report["started"], self.report["answered"]
        acknowledged = [answered[n] - started[n] for n in self.acknowledged]
        began = {self.corpus.uid(n): started[n] for n in range(self.corpus.count) if started[n]}
        return acknowledged, [at - began[uid] for stored in self.sinks for uid, _, _, at in stored if uid in began]

    def wall(self) -> float:
        """Seconds from the first image's first byte to the last image's end at the last sink."""
        began = min((at for at in self.report["started"] if at), default=0.0)
        return max((at for stored in self.sinks for *_, at in stored), default=began) - began

    def figures(self, cpu_s: float, peak: int) -> dict[str, float]:
        """All that is told of a run; images and bytes count once, however many destinations there are."""
        count, size, wall = len(self.acknowledged), self.report["bytes"], self.wall()
        if not count or wall <= 0:
            return {}
        figures = {
            "images": float(count),
            "wall_s": wall,
            "images_per_s": count / wall,
            "mb_per_s": size / wall / 1e6,
            "cpu_s": cpu_s,
            "cpu_ms_per_image": cpu_s / count * 1e3,
            "cpu_s_per_gb": cpu_s / size * 1e9,
            "peak_mb": peak / 1e6,
        }
        for name, values in zip(("ack", "e2e"), self.latencies(), strict=True):
            if values:
                figures |= {f"{name}_p{q}_ms": quantile(values, q) * 1e3 for q in QUANTILES}
        return figures
