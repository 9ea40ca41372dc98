"""The ready deliveries of one channel, grouped by what an association must offer them.

Deliveries of one ``Key`` (calling title, SOP class, transfer syntax) are a flow. Within it the most urgent class goes
first (``queue.classes``), and within a class the strands, which are the images of one study from one source, take
turns, image by image; so do the strands of different flows. Keys for which no lane works wait in line: who came first
is first, and who lost the last lane is last. With ``most`` (``max_per_study``), what is left of a study that has so
many under way is set aside: for whoever asks here it is not there. While one class waits, all that is done for a
delivery takes the same time whether there are ten titles or a thousand. Pure: no I/O, no clock.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator

from asyncroute.core.model import Delivery, Strand
from asyncroute.forward.base import Key
from asyncroute.queue.beyond import Beyond
from asyncroute.queue.classes import Classes

PUT_BACK = 1 << 62
"""More than any instance's id: what was put back has a number below zero."""

STALE = 64
"""Places in line that may be held by nobody any more, besides as many as there are of the others."""


class Line:
    """The deliveries of one strand in a flow. ``turn``: who has the lowest is next; below zero: put back."""

    __slots__ = ("entries", "key", "strand", "turn")

    def __init__(self, key: Key, strand: Strand, turn: int) -> None:
        self.key = key
        self.strand = strand
        self.turn = turn
        self.entries: deque[tuple[int, Delivery]] = deque()


class Flow:
    """Deliveries of one key, at least one. ``rank``: its place in line, None: it is not in line. ``since``: loop time
    at which it was lined up. ``levels``: its lines by class, in the order of their turns."""

    __slots__ = ("key", "levels", "lines", "rank", "since", "size")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.rank: int | None = None
        self.since = 0.0
        self.size = 0
        self.lines: dict[Strand, Line] = {}
        self.levels: dict[int, deque[Line]] = {}


class Flows:
    """See module. ``len``: deliveries that may begin; ``held``: with those set aside."""

    def __init__(self) -> None:
        self.classes = Classes()
        self.most = 0
        """Deliveries of one study that may be under way at a time; 0: any number."""
        self.beyond = Beyond()
        self._flows: dict[Key, Flow] = {}
        self._titles: dict[str, dict[Key, Flow]] = {}
        self._line: list[tuple[int, Key]] = []
        self._sequence = 0
        self._count = 0
        self._busy: Counter[str] = Counter()
        self._studies: dict[str, list[Line]] = {}
        self._aside: dict[str, list[Line]] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Delivery]:
        return (delivery for line in self._all_lines() for _, delivery in line.entries)

    def _all_lines(self) -> Iterator[Line]:
        for flow in self._flows.values():
            yield from flow.lines.values()
        for lines in self._aside.values():
            yield from lines

    @property
    def titles(self) -> int:
        """How many have something ready."""
        return len(self._titles)

    @property
    def held(self) -> int:
        """All, with those set aside."""
        if not self._aside:
            return self._count
        return self._count + sum(len(line.entries) for lines in self._aside.values() for line in lines)

    def held_of(self, priority: int) -> int:
        """How many of this class and more urgent ones."""
        aside = [line for lines in self._aside.values() for line in lines]
        return sum(n for p, n in self.classes.counts.items() if p <= priority) + sum(
            len(line.entries) for line in aside if line.strand[0] <= priority
        )

    def clear(self) -> None:
        """Forget all that waits."""
        self._flows.clear()
        self._titles.clear()
        self._line.clear()
        self._studies.clear()
        self._aside.clear()
        self.classes.clear()
        self._count = 0

    # ---- deliveries

    def add(self, key: Key, delivery: Delivery) -> Flow | None:
        """``delivery`` comes last of its strand; the flow, if it is the first of its key (not in line yet)."""
        self._sequence += 1
        flow = self._flows.get(key)
        if flow is not None:
            strand = (delivery.priority, delivery.calling_aet, delivery.study_uid)
            line = flow.lines.get(strand)
            if line is not None:  # the usual case of a backlog
                line.entries.append((self._sequence, delivery))
                flow.size += 1
                self._count += 1
                self.classes.more(strand[0])
                return None
        line = self._line_of(key, flow, delivery)
        line.entries.append((self._sequence, delivery))
        self._grown(line, 1)
        return self._flows.get(key) if flow is None else None

    def put_back(self, key: Key, delivery: Delivery, now: float) -> None:
        """``delivery`` comes first of its class again, and its key is the first in line; of several the one received
        first."""
        sequence = delivery.instance_id - PUT_BACK
        line = self._line_of(key, self._flows.get(key), delivery)
        entries, before = line.entries, []
        while entries and entries[0][0] < sequence:
            before.append(entries.popleft())
        entries.appendleft((sequence, delivery))
        entries.extendleft(reversed(before))
        line.turn = entries[0][0]
        self._grown(line, 1)
        flow = self._flows.get(key)
        if flow is not None and line.strand in flow.lines:
            self._place_anew(flow, line)
            self._line_up(flow, line.turn, now)

    def take(self, flow: Flow) -> Delivery:
        """Remove and return the head of ``flow``."""
        level, classes = self._next(flow), self.classes
        line = level[0]
        entries, priority = line.entries, line.strand[0]
        _, delivery = entries.popleft()
        self._count -= 1
        flow.size -= 1
        self.beyond.begun += 1
        self._sequence = classes.served[priority] = self._sequence + 1
        classes.less(priority)
        if not entries:
            self._detach(flow, line)
            self.beyond.ended(line.strand, rest=classes.any_up_to(priority))
        elif entries[0][0] < 0:
            line.turn = entries[0][0]
            self._place_anew(flow, line)
        else:
            line.turn = self._sequence
            if len(level) > 1:
                level.rotate(-1)
        return delivery

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out every delivery that is ``unwanted``."""
        gone: list[Delivery] = []
        for line in list(self._all_lines()):
            kept = deque(e for e in line.entries if not unwanted(e[1]))
            lost = len(line.entries) - len(kept)
            if lost:
                gone += [d for _, d in line.entries if unwanted(d)]
                self._shrink(line, kept, lost)
        return gone

    def _shrink(self, line: Line, kept: deque[tuple[int, Delivery]], lost: int) -> None:
        line.entries = kept
        aside = self._aside.get(line.strand[2], [])
        if line in aside:
            if not kept:
                aside.remove(line)
            return
        flow = self._flows[line.key]
        flow.size -= lost
        self._count -= lost
        self.classes.less(line.strand[0], lost)
        if not kept:
            self._detach(flow, line)

    def _line_of(self, key: Key, flow: Flow | None, delivery: Delivery) -> Line:
        """The line that ``delivery`` belongs to; a new one is not attached yet."""
        strand = delivery.strand
        line = flow.lines.get(strand) if flow is not None else None
        if line is None and self._aside:
            aside = self._aside.get(delivery.study_uid, ())
            line = next((x for x in aside if x.key == key and x.strand == strand), None)
        return line or Line(key, strand, self._sequence)

    def _grown(self, line: Line, number: int) -> None:
        """``line`` has ``number`` more."""
        study = line.strand[2]
        flow = self._flows.get(line.key)
        if flow is None or line.strand not in flow.lines:
            if self.most and not self.may_begin(study):
                aside = self._aside.setdefault(study, [])
                if line not in aside:
                    aside.append(line)
                return
            flow = self._attach(line)
        flow.size += number
        self._count += number
        self.classes.more(line.strand[0], number)

    def _attach(self, line: Line) -> Flow:
        """Make ``line`` one of its flow's, which may be new."""
        flow = self._flows.get(line.key) or self._new(line.key)
        flow.lines[line.strand] = line
        self._place(flow, line)
        if self.most:
            self._studies.setdefault(line.strand[2], []).append(line)
        return flow

    def _detach(self, flow: Flow, line: Line) -> None:
        priority, _, study = line.strand
        del flow.lines[line.strand]
        level = flow.levels[priority]
        level.remove(line)
        if not level:
            del flow.levels[priority]
            if not flow.levels:
                self._over(flow.key)
        if self.most:
            self._studies[study].remove(line)
            if not self._studies[study]:
                del self._studies[study]

    @staticmethod
    def _place(flow: Flow, line: Line) -> None:
        """Put ``line`` where its turn says."""
        level = flow.levels.setdefault(line.strand[0], deque())
        at = len(level)
        while at and level[at - 1].turn > line.turn:
            at -= 1
        level.insert(at, line)

    def _place_anew(self, flow: Flow, line: Line) -> None:
        flow.levels[line.strand[0]].remove(line)
        self._place(flow, line)

    def _new(self, key: Key) -> Flow:
        flow = self._flows[key] = Flow(key)
        siblings = self._titles.get(key[0])
        if siblings is None:
            self._titles[key[0]] = {key: flow}
        else:
            siblings[key] = flow
        return flow

    def _over(self, key: Key) -> None:
        del self._flows[key]
        siblings = self._titles[key[0]]
        if len(siblings) == 1:
            del self._titles[key[0]]
        else:
            del siblings[key]

    # ---- studies

    def limit(self, most: int, under_way: Iterable[str]) -> None:
        """Another ``most``, while nothing waits and these studies are under way."""
        self.most = most
        self._busy = Counter(under_way if most else ())

    def may_begin(self, study: str) -> bool:
        """Whether one more of this study may be under way. What has no study is not held up."""
        return not self.most or not study or self._busy[study] < self.most

    def begun(self, study: str) -> None:
        """A delivery of this study is under way (only with ``most``)."""
        self._busy[study] += 1
        if not self.may_begin(study):
            for line in list(self._studies.get(study, ())):
                flow = self._flows[line.key]
                self._count -= len(line.entries)
                flow.size -= len(line.entries)
                self.classes.less(line.strand[0], len(line.entries))
                self._detach(flow, line)
                self._aside.setdefault(study, []).append(line)

    def ended(self, study: str) -> list[Flow]:
        """One less is; the flows that are new because of that."""
        self._busy[study] -= 1
        if self._busy[study] <= 0:
            del self._busy[study]
        fresh: list[Flow] = []
        if not self.may_begin(study):
            return fresh
        for line in self._aside.pop(study, ()):
            known = line.key in self._flows
            self._grown(line, len(line.entries))
            if not known:
                fresh.append(self._flows[line.key])
        return fresh

    # ---- which

    def _next(self, flow: Flow) -> deque[Line]:
        """The lines of the class of ``flow`` that goes first."""
        levels = flow.levels
        return levels[next(iter(levels)) if len(levels) == 1 else self.classes.best(levels)]

    def order(self, flow: Flow) -> tuple[int, int, int]:
        """Of two flows the one whose order is lower goes first."""
        line = self._next(flow)[0]
        if not self.classes.mixed:
            return 0, 0, line.turn
        priority = line.strand[0]
        return self.classes.levels[priority], self.classes.served[priority], line.turn

    def class_of(self, flow: Flow) -> tuple[int, int]:
        """The class that goes first of ``flow``: as what it counts now, and as what it was sent."""
        priority = self._next(flow)[0].strand[0]
        return self.classes.levels[priority], priority

    def holds(self, key: Key, strand: Strand) -> int:
        """How many of this strand are here, of that key."""
        flow = self._flows.get(key)
        line = flow.lines.get(strand) if flow is not None else None
        aside = (x for x in self._aside.get(strand[2], ()) if x.strand == strand)
        return (len(line.entries) if line is not None else 0) + sum(len(x.entries) for x in aside)

    def eldest(self) -> dict[int, float]:
        """By class, since when the oldest of its deliveries waits (``Delivery.since``)."""
        found: dict[int, float] = {}
        for flow in self._flows.values():
            for line in flow.lines.values():
                since = line.entries[0][1].since
                found[line.strand[0]] = min(found.get(line.strand[0], since), since)
        return found

    def each(self) -> Collection[Flow]:
        """All, in no order."""
        return self._flows.values()

    def of(self, title: str) -> Collection[Flow]:
        """The flows of a calling title."""
        siblings = self._titles.get(title)
        return siblings.values() if siblings is not None else ()

    def only(self, key: Key) -> Flow | None:
        """The flow of ``key``, if there is no other of its title."""
        siblings = self._titles.get(key[0])
        return siblings.get(key) if siblings is not None and len(siblings) == 1 else None

    def oldest(self, allowed: Callable[[Key], bool] | None = None) -> Flow | None:
        """The flow that goes first, of those whose key is ``allowed``. Looks at all."""
        found = [f for f in self._flows.values() if allowed is None or allowed(f.key)]
        return min(found, key=self.order) if found else None

    def keys(self, title: str) -> list[Key]:
        """The keys of a calling title that have deliveries, in the order in which they go."""
        flows = self.of(title)
        return [f.key for f in (sorted(flows, key=self.order) if len(flows) > 1 else flows)]

    # ---- the line

    @property
    def lined(self) -> bool:
        """Whether anybody may be in line."""
        return bool(self._line)

    def line_up(self, flow: Flow, now: float) -> None:
        """``flow`` waits for a lane from now on, behind those who do already."""
        if flow.rank is None:
            self._sequence += 1
            self._line_up(flow, self._sequence, now)

    def _line_up(self, flow: Flow, rank: int, now: float) -> None:
        flow.rank, flow.since = rank, now
        if len(self._line) >= 2 * len(self._flows) + STALE:
            self._line = [(f.rank, f.key) for f in self._flows.values() if f.rank is not None and f is not flow]
            heapq.heapify(self._line)
        heapq.heappush(self._line, (rank, flow.key))

    def first(self) -> Flow | None:
        """Who has waited longest in line, of the class that goes first."""
        if self.classes.mixed and self._line:
            lined = [f for f in self._flows.values() if f.rank is not None]
            return min(lined, key=lambda f: (self.class_of(f)[0], f.rank), default=None)
        while self._line:
            rank, key = self._line[0]
            flow = self._flows.get(key)
            if flow is not None and flow.rank == rank:
                return flow
            heapq.heappop(self._line)
        return None

    def step_out(self, flow: Flow) -> None:
        """``flow`` waits in line no more."""
        flow.rank = None

    def step_back(self, flow: Flow, rank: int) -> None:
        """``flow``, which stepped out of it, has its place in line again."""
        self._line_up(flow, rank, flow.since)
