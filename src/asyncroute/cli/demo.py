"""``asyncroute demo``: the whole of it, at work, with proof.

A router in a temporary folder, two receiving peers and four senders at once, all real processes and real associations
on the loopback interface; the images are those in pydicom's own package. What arrived is compared with what was sent,
by SHA-256 over each data set's bytes.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output
from asyncroute.cli.options import AsJson, example
from asyncroute.core.errors import OurFault
from asyncroute.status import render

if TYPE_CHECKING:
    from asyncroute.cli.demo_parts import Identity, Peer, Router, Sample
    from asyncroute.cli.sending import Sending, Tally

SITES = ("SITE_A", "SITE_B", "SITE_C", "SITE_D")
AT_ONCE = 2
"""Associations of each site."""
DEADLINE = 60.0
"""Seconds for everything to arrive."""
LAST_WORDS = 3.0
"""Seconds for the peers to tell what has arrived."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(short_help="See a router at work, with real images and proof.", epilog=example("asyncroute demo"))(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the router's folder and log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a router and two receiving peers, send real images through it, and show that every byte arrived.

    Everything happens in a temporary folder and on 127.0.0.1; nothing is downloaded. Exit status: 0 all arrived as it
    was sent, 1 something did not.
    """
    import asyncio

    try:
        folder = Path(tempfile.mkdtemp(prefix="asyncroute-demo-"))
    except OSError as error:
        raise OurFault(f"no temporary folder can be made: {error}") from None
    try:
        scene = asyncio.run(_play(folder, as_json))
    finally:
        if keep:
            output.note(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        output.facts(scene.facts())
    else:
        scene.show()
    raise typer.Exit(output.OK if scene.ok else output.FAILED)


async def _play(folder: Path, quiet: bool) -> Scene:
    """The whole demo. Raises OurFault."""
    import asyncio

    from asyncroute.cli import demo_parts, demo_view

    found = await asyncio.to_thread(demo_parts.samples)
    router = demo_parts.Router(folder)
    scene = Scene(found, [demo_parts.Peer("archive"), demo_parts.Peer("research")])
    try:
        await asyncio.gather(*(peer.start() for peer in scene.peers))
        await router.start(scene.peers)
        with demo_view.view(scene, quiet) as look:
            await _send_and_wait(scene, router, look)
        scene.exit_status = await router.stop()
    finally:
        await router.kill()
        await asyncio.gather(*(peer.stop() for peer in scene.peers))
    scene.seconds = time.monotonic() - scene.began
    return scene


async def _send_and_wait(scene: Scene, router: Router, look: Any) -> None:
    """Until everything has arrived, or its time is over."""
    import asyncio

    sending = asyncio.create_task(_send(scene, router.port), name="send")
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        status = await router.status()
        look(status)
        over = sending.done() and not status["totals"]["waiting"]
        if over and scene.all_there:
            break
        if over:  # nothing more will come but the peers' last words
            end = min(end, time.monotonic() + LAST_WORDS)
        await asyncio.sleep(0.1)
    await sending


async def _send(scene: Scene, port: int) -> None:
    """All sites at once, each with its share of the images."""
    import asyncio

    from asyncroute.cli.peer import Target, shared_means
    from asyncroute.cli.sending import Sending

    target = Target("127.0.0.1", port, "ROUTER")
    async with shared_means() as shared:
        scene.sendings = {site: Sending(target, site, shared) for site in SITES}
        shares = [[sample.file for sample in scene.samples[n :: len(SITES)]] for n in range(len(SITES))]
        runs = (sending.run(share, AT_ONCE) for sending, share in zip(scene.sendings.values(), shares, strict=True))
        await asyncio.gather(*runs)


@dataclass
class Scene:
    """Everything that takes part, and what came of it."""

    samples: Sequence[Sample]
    peers: Sequence[Peer]
    sendings: dict[str, Sending] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    exit_status: int | None = None

    def expected(self, peer: Peer) -> Counter[Identity]:
        """What has to arrive there, and how often: some samples differ in their bytes only."""
        from asyncroute.cli.demo_parts import RESEARCH_MODALITIES

        wanted = [s for s in self.samples if peer.name == "archive" or s.modality in RESEARCH_MODALITIES]
        return Counter(sample.identity for sample in wanted)

    @property
    def tallies(self) -> dict[str, Tally]:
        """What the sites have sent so far."""
        return {site: sending.tally for site, sending in self.sendings.items()}

    @property
    def sent(self) -> int:
        """Images that the router has acknowledged."""
        return sum(tally.sent for tally in self.tallies.values())

    @property
    def all_there(self) -> bool:
        """Whether as much has arrived as should."""
        return all(len(peer.arrived) >= self.expected(peer).total() for peer in self.peers)

    @property
    def ok(self) -> bool:
        """Whether all was sent and arrived unchanged where it should, nowhere else, and the router ended well."""
        arrived = all(peer.identities() == self.expected(peer) for peer in self.peers)
        return self.sent == len(self.samples) and arrived and self.exit_status == 0

    # ---- what is said

    def facts(self) -> dict[str, Any]:
        """For a program."""
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "images": len(self.samples),
            "bytes": sum(sample.file.size for sample in self.samples),
            "router_exit_status": self.exit_status,
            "senders": [
                {"calling_aet": site, "sent": t.sent, "failed": len(t.failed), "associations": t.associations}
                for site, t in self.tallies.items()
            ],
            "destinations": [self._destination(peer) for peer in self.peers],
        }

    def _destination(self, peer: Peer) -> dict[str, Any]:
        expected, arrived = self.expected(peer), peer.identities()
        return {
            "name": peer.name,
            "expected": expected.total(),
            "arrived": arrived.total(),
            "identical": (expected & arrived).total(),
            "missing": (expected - arrived).total(),
            "unexpected": (arrived - expected).total(),
            "bytes": sum(fact["size"] for fact in peer.arrived),
            "sop_classes": peer.number_of("sop_class"),
            "transfer_syntaxes": peer.number_of("transfer_syntax"),
            "associations": peer.number_of("association"),
            "calling_aets": sorted({fact["calling"] for fact in peer.arrived}),
        }

    def show(self) -> None:
        """For a person."""
        facts = self.facts()
        columns = ("destination", "images", "size", "classes", "syntaxes", "associations", "sent as", "SHA-256 equal")
        rows = [
            (
                *(d["name"], str(d["arrived"]), render.size(d["bytes"])),
                *(str(d[key]) for key in ("sop_classes", "transfer_syntaxes", "associations")),
                ", ".join(d["calling_aets"]),
                f"{d['identical']} of {d['expected']}",
            )
            for d in facts["destinations"]
        ]
        output.table(render.Table("what went where", columns, rows, frozenset({1, 2, 3, 4, 5, 7})))
        for line in self._conclusion(facts):
            output.say(line)

    def _conclusion(self, facts: dict[str, Any]) -> list[str]:
        lines = [f"{site}: not sent: {p.name}: {why}" for site, t in self.tallies.items() for p, why in t.failed]
        lines += [
            f"{d['name']}: {d['missing']} missing, {d['unexpected']} that should not be there"
            for d in facts["destinations"]
            if d["missing"] or d["unexpected"]
        ]
        if self.exit_status:
            lines.append(f"the router ended with exit status {self.exit_status}")
        if self.ok:
            count = sum(d["identical"] for d in facts["destinations"])
            lines.append(
                f"{len(self.samples)} images from {len(SITES)} senders, {count} deliveries: every byte arrived, "
                f"where it should and nowhere else ({self.seconds:.1f} s in all)"
            )
        return lines
