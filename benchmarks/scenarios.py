"""What is measured: each scenario a handful of cases that differ in one thing, and the ratios that are told of them.

Cases and routers of a scenario alternate (A B C, C B A, ...), so that drift of the machine falls on all alike; medians
are taken. ``SHORT`` and ``FULL`` differ in numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks import courses
from benchmarks.evaluate import Outcome
from benchmarks.load import Load
from benchmarks.peers import OURS, Peer
from benchmarks.run import measure
from benchmarks.wire import Tcp

FIXED = "asyncroute-fixed"
OTHERS = ("orthanc-durable", "orthanc-tuned", "dcmtk", "pynetdicom")
EVERY = (OURS, FIXED, *OTHERS)
CPU, WALL, PEAK = "cpu_ms_per_image", "wall_s", "peak_mb"


@dataclass(frozen=True)
class Case:
    """One load, for these routers; ``x``: where it stands in a plot."""

    label: str
    load: Load
    peers: Sequence[str] = (OURS,)
    x: float = 0.0
    course: Callable[[Peer, Load], Outcome] = measure


@dataclass(frozen=True)
class Check:
    """A figure of one case, alone (``to`` empty), divided by that of another one, or less it; ``most`` is the target.

    ``scale`` is multiplied with it for telling (bytes in KiB, a share in per cent).
    """

    text: str
    figure: str
    of: str
    most: float
    to: str = ""
    how: str = "ratio"
    unit: str = ""
    scale: float = 1.0
    peer: str = OURS


@dataclass(frozen=True)
class Scenario:
    """``axis``: what the cases differ in; ``missing``: why it cannot run here, or None."""

    name: str
    title: str
    axis: str
    cases: Sequence[Case]
    rounds: int = 2
    checks: Sequence[Check] = ()
    missing: Callable[[], str | None] = lambda: None

    @property
    def compares(self) -> bool:
        """Whether routers are compared."""
        return any(len(case.peers) > 2 for case in self.cases)


@dataclass(frozen=True)
class Scale:
    """How much is measured: rounds; images per run when routers are compared (of 34 KB, of 0.5 MB, one association
    each), and when asyncroute is alone (``alone``, ``sizes``); backlogs; ``whole``: also what the short version leaves
    out.
    """

    rounds: int
    small: int
    medium: int
    calls: int
    alone: int
    backlogs: Sequence[int]
    sizes: Mapping[str, int]
    whole: bool = False

    @property
    def others(self) -> Sequence[str]:
        """The routers that take part in what shows how cost grows."""
        return (OURS, *OTHERS) if self.whole else (OURS,)


SHORT = Scale(2, 600, 200, 60, 1500, (10, 1000, 100_000), {"small": 1500, "medium": 300, "large": 6, "huge": 1})
FULL = Scale(
    5, 2000, 600, 200, 4000, (10, 1000, 100_000), {"small": 4000, "medium": 800, "large": 20, "huge": 2}, whole=True
)
TINY = Scale(1, 40, 8, 10, 40, (5, 20), {"small": 20, "medium": 4})
"""For a test of the benchmark itself: the figures say nothing."""


def peers(scale: Scale) -> Scenario:
    """The routers side by side."""
    cases = [
        Case("34 KB", Load("small", scale.small), EVERY),
        Case("0.5 MB", Load("medium", scale.medium), EVERY if scale.whole else ()),
        Case("0.5 MB to four", Load("medium", scale.medium, destinations=4), EVERY),
    ]
    cases = [case for case in cases if case.peers]
    return Scenario("peers", "Routers side by side, 10 sending associations", "images", cases, scale.rounds)


def calls(scale: Scale) -> Scenario:
    """An association per image."""
    load = Load("small", scale.calls, per_association=1)
    rounds = max(scale.rounds // 2, 1)
    return Scenario("calls", "An association for each image", "images", [Case("34 KB", load, EVERY)], rounds)


def associations(scale: Scale) -> Scenario:
    """How cost grows with senders."""
    few = (1, 10, 50, 200, 500) if scale.whole else (10, 500)
    cases = [
        Case(f"{n}", Load("small", max(scale.alone, n), n), (*scale.others, FIXED) if n in few else scale.others, n)
        for n in (1, 10, 50, 200, 500)
    ]
    checks = [
        Check(f"CPU per image, 500 sending associations against 10{title}", CPU, "500", 1.3, "10", peer=peer)
        for peer, title in ((OURS, ""), (FIXED, ", one calling title"))
    ]
    return Scenario("associations", "Sending associations", "associations", cases, scale.rounds, checks)


def destinations(scale: Scale) -> Scenario:
    """How cost grows with destinations."""
    cases = [Case(f"{n}", Load("small", scale.alone // 2, destinations=n), scale.others, n) for n in (1, 4, 16)]
    return Scenario("destinations", "Destinations", "destinations", cases, scale.rounds)


def backlog(scale: Scale) -> Scenario:
    """How cost grows with what waits."""
    most = max(scale.backlogs)
    options = {"retry": "2"}
    cases = [
        Case(
            f"{n:,}",
            Load("small", n, min(n, 50), per_study=20, options=options, timeout=1800.0),
            x=n,
            course=courses.backlog,
        )
        for n in scale.backlogs
    ]
    small, large = f"{sorted(scale.backlogs)[-2]:,}", f"{most:,}"
    checks = [
        Check(f"CPU per image read from disk, backlog of {large} against {small}", CPU, large, 1.1, small),
        Check(
            f"memory, backlog of {large} less that of {small}", PEAK, large, 50.0, small, how="difference", unit=" MB"
        ),
    ]
    title = "Backlog: it arrives while the destination is down, the router is restarted, then all is sent from disk"
    return Scenario("backlog", title, "images of backlog", cases, 1, checks)


def sizes(scale: Scale) -> Scenario:
    """How cost grows with the image."""
    labels = {"small": "34 KB", "medium": "0.5 MB", "large": "30 MB", "huge": "1 GB"}
    x = {"small": 0.034, "medium": 0.5, "large": 30.0, "huge": 1000.0}
    cases = [
        Case(labels[kind], Load(kind, n, min(n, 10), stall=60.0), scale.others, x[kind])
        for kind, n in scale.sizes.items()
    ]
    return Scenario("sizes", "Images of all sizes", "MB", cases, scale.rounds)


def pdus(scale: Scale) -> Scenario:
    """Senders with short PDUs."""
    cases = [Case(f"{size} KiB", Load("medium", scale.medium * 2, max_pdu=size << 10), x=size) for size in (16, 128)]
    check = Check("CPU per image, senders' PDUs of 16 KiB against 128 KiB", CPU, "16 KiB", 1.2, "128 KiB")
    return Scenario("pdus", "Senders' PDUs", "KiB", cases, scale.rounds + 1, [check])


def transforms(scale: Scale) -> Scenario:
    """What a coercion of five attributes costs."""
    labels = {"small": "34 KB", "medium": "0.5 MB"}
    cases, checks = [], []
    for kind, most in (("small", 1.30), ("medium", 1.15)):
        load, label = Load(kind, scale.sizes[kind], 10), labels[kind]
        five = replace(load, options={"five": "yes"})
        cases += [Case(f"{label}, plain", load), Case(f"{label}, five", five)]
        text = f"CPU per image of {label}, five attributes changed against none"
        checks.append(Check(text, CPU, f"{label}, five", most, f"{label}, plain"))
    return Scenario("transforms", "Coercion", "attributes", cases, scale.rounds + 1, checks)


def rules(scale: Scale) -> Scenario:
    """What a hundred routes over ten attributes cost."""
    load = Load("small", scale.sizes["small"], 10)
    words = {"alike": "alike in a series", "each": "two differ in every image"}
    cases = [Case("one route", load)]
    cases += [Case(f"100, {name}", replace(load, options={"rules": name})) for name in words]
    checks = [
        Check(
            f"CPU per image, 100 routes over ten attributes ({text}) against one", CPU, f"100, {name}", 1.1, "one route"
        )
        for name, text in words.items()
    ]
    return Scenario("rules", "Rules", "routes", cases, scale.rounds + 3, checks)


def slow(scale: Scale) -> Scenario:
    """One of four destinations is slow."""
    load = Load("medium", scale.medium * 2, 50, destinations=4, delays=(0.1, 0.0), stall=60.0)
    check = Check("memory, 50 senders, one of four destinations answers after 0.1 s", PEAK, "slow", 150.0, unit=" MB")
    same = replace(load, delays=(0.0,))
    check = replace(check, how="value")
    cases = [Case("slow", load), Case("quick", same)]
    return Scenario("slow", "50 senders, four destinations, one of them slow", "destinations", cases, 1, [check])


def idle(scale: Scale) -> Scenario:
    """Associations that send nothing."""
    cases = [Case("300", Load(associations=300), course=courses.idle)]
    checks = [
        Check("300 idle associations: share of one core", "core_share", "300", 1.0, how="value", unit=" %", scale=100),
        Check(
            "300 idle associations: buffers of each",
            "buffer_bytes",
            "300",
            8.0,
            how="value",
            unit=" KiB",
            scale=1 / 1024,
        ),
    ]
    return Scenario("idle", "Established associations that send nothing", "associations", cases, 1, checks)


UNKIND = Tcp(nodelay=True, quickack=False, pieces=True)
"""A peer that writes headers and bodies apart and delays its acknowledgements, as most do."""


def nagle(scale: Scale) -> Scenario:
    """Nagle's algorithm at either end."""
    on, off = replace(UNKIND, nodelay=False), UNKIND
    count = scale.small // 2
    cases = [
        Case("senders on", Load("small", count, 4, senders=on)),
        Case("senders off", Load("small", count, 4, senders=off)),
        Case("destinations on", Load("small", count, 4, sinks=on)),
        Case("destinations off", Load("small", count, 4, sinks=off)),
    ]
    checks = [
        Check(f"wall time, Nagle's algorithm on against off at {end}", WALL, f"{end} on", 1.5, f"{end} off")
        for end in ("senders", "destinations")
    ]
    title = "Nagle's algorithm and delayed acknowledgements at the other end"
    return Scenario("nagle", title, "Nagle", cases, max(scale.rounds // 2, 1), checks)


def nagle_dcmtk(scale: Scale) -> Scenario:
    """The same with dcmtk's own programs."""
    count = scale.small // 2
    cases = [
        case
        for word, nodelay in (("on", False), ("off", True))
        for case in (
            Case(f"storescu {word}", Load("small", count, 4, senders=Tcp(nodelay=nodelay)), course=courses.storescu),
            Case(f"storescp {word}", Load("small", count, 4, sinks=Tcp(nodelay=nodelay)), course=courses.storescp),
        )
    ]
    checks = [
        Check(f"wall time, Nagle's algorithm on against off in dcmtk's {end}", WALL, f"{end} on", 1.5, f"{end} off")
        for end in ("storescu", "storescp")
    ]
    title = "Nagle's algorithm in dcmtk's storescu and storescp"
    return Scenario("nagle-dcmtk", title, "Nagle", cases, max(scale.rounds // 2, 1), checks, courses.dcmtk_missing)


MAKERS: Mapping[str, Callable[[Scale], Scenario]] = {
    "peers": peers,
    "calls": calls,
    "associations": associations,
    "destinations": destinations,
    "sizes": sizes,
    "pdus": pdus,
    "transforms": transforms,
    "rules": rules,
    "slow": slow,
    "idle": idle,
    "nagle": nagle,
    "nagle-dcmtk": nagle_dcmtk,
    "backlog": backlog,
}
