"""``asyncroute plan``: what another configuration would do with what was received."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output, settings
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.core.errors import OurFault

if TYPE_CHECKING:
    from asyncroute.cli.preview import Previewer, Subject
    from asyncroute.core.model import Instance, RouteHit

LIMIT = 1_000_000
EXAMPLES = 3
MOST_CHANGES = 1000
"""Different changes that are told apart; further ones are counted together."""

OTHERS = ("(others)",)
HELD, NOWHERE = "held", "nowhere"
_CUT = ()
"""What routes ask for lies behind the beginning of the header that the journal has."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Tell what another configuration would do with what was received.",
        epilog=example("asyncroute plan new.toml --since 7d", "asyncroute plan new.toml --limit 10000 --json"),
    )(plan)


def plan(
    new: Annotated[Path, typer.Argument(metavar="NEW.toml", help="The configuration to try.")],
    since: Annotated[str, typer.Option("--since", metavar="AGE", help="Images of the last ... (7d, 12h).")] = "7d",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many images, the newest.")] = LIMIT,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Decide anew about images that were received, under today's configuration and under NEW.toml.

    Shows what would go elsewhere, or as something else; changes nothing. Works while the router runs and after it
    stopped. Exit status: 0 also if something would change.
    """
    from asyncroute.cli import preview, stopped

    old = settings.load(config)
    with preview.Previewer(old) as today, preview.Previewer(settings.load(new)) as then:
        comparison = Comparison(today, then)
        stopped.replay(old.node.data_dir, _moment(since), limit, comparison.add)
        facts = comparison.facts()
    if as_json:
        output.facts(facts)
    else:
        _say(facts, new)


def _moment(age: str) -> float:
    from asyncroute.config.units import parse_duration

    try:
        seconds = parse_duration(age)
    except ValueError as error:
        raise OurFault(f"--since: {error}") from None
    return 0.0 if math.isinf(seconds) else time.time() - seconds


Where = tuple[str, ...]
"""Destinations and groups in alphabetical order; or held, or nowhere."""


@dataclass(slots=True)
class Change:
    """Images that would go elsewhere; ``studies``: of some, how many."""

    images: int = 0
    studies: Counter[str] = field(default_factory=Counter)
    patients: dict[str, str] = field(default_factory=dict)


class Comparison:
    """Counts what two configurations make of the same images. Memory is bounded by what is told apart."""

    def __init__(self, old: Previewer, new: Previewer) -> None:
        from asyncroute.cli.differences import Differences

        self._old, self._new = old, new
        self.images = self.same = self.otherwise = self.unknown = 0
        self.changes: dict[tuple[Where, Where], Change] = {}
        self.held: Counter[str] = Counter()
        self.transforms = Differences(old, new)

    def add(self, images: Iterable[Instance]) -> None:
        """Decide about some more."""
        for image in images:
            self.images += 1
            if image.header is None:
                self.unknown += 1
            else:
                self._compare(image)

    def _compare(self, image: Instance) -> None:
        before, before_hits = self._where(self._old, image)
        after, after_hits = self._where(self._new, image)
        if _CUT in (before, after):
            self.unknown += 1
            return
        self.held["before"] += before == (HELD,)
        self.held["after"] += after == (HELD,)
        self.transforms.compare(_subject(image), before_hits, after_hits)
        if before == after:
            self.same += 1
            self.otherwise += before_hits != after_hits and _manner(before_hits) != _manner(after_hits)
            return
        change = self.changes.get((before, after))
        if change is None:
            key = (before, after) if len(self.changes) < MOST_CHANGES else (OTHERS, OTHERS)
            change = self.changes.setdefault(key, Change())
        change.images += 1
        if image.study_uid in change.studies or len(change.studies) < EXAMPLES:
            change.studies[image.study_uid] += 1
            change.patients[image.study_uid] = image.patient_id

    @staticmethod
    def _where(previewer: Previewer, image: Instance) -> tuple[Where, tuple[RouteHit, ...]]:
        from asyncroute.route import UNDECIDABLE

        subject = _subject(image)
        hits = previewer.hits(subject)
        image.header = subject.head
        if not subject.whole and (image.hold_reason or "").startswith(UNDECIDABLE):
            return _CUT, hits
        if previewer.held(subject, hits):
            return (HELD,), hits
        return tuple(sorted({hit.destination for hit in hits})) or (NOWHERE,), hits

    def facts(self) -> dict[str, Any]:
        """All of it, the most frequent change first."""
        changes = sorted(self.changes.items(), key=lambda item: -item[1].images)
        return {
            "images": self.images,
            "unchanged": self.same,
            "changed": sum(change.images for _, change in changes),
            "without_header": self.unknown,
            "otherwise": self.otherwise,
            "held_before": self.held["before"],
            "held_after": self.held["after"],
            "transformed_otherwise": self.transforms.images,
            "transforms_unknown": self.transforms.unknown,
            "transforms": self.transforms.facts(),
            "changes": [
                {
                    "from": list(before),
                    "to": list(after),
                    "images": change.images,
                    "examples": [
                        {"study_uid": study, "patient_id": change.patients[study], "images": count}
                        for study, count in change.studies.items()
                    ],
                }
                for (before, after), change in changes
            ],
        }


def _subject(image: Instance) -> Subject:
    """What the journal has of it."""
    from asyncroute.cli.preview import Subject
    from asyncroute.route import KEPT_HEADER

    header = image.header or b""
    return Subject(image, header, len(header) < KEPT_HEADER)


def _manner(hits: tuple[RouteHit, ...]) -> set[object]:
    """How, not where."""
    return {(hit.destination, hit.priority, hit.wait) for hit in hits}


def _say(facts: dict[str, Any], new: Path) -> None:
    from asyncroute.cli import differences

    output.say(f"{facts['images']} images: {facts['changed']} would go elsewhere under {new}")
    if facts["otherwise"]:
        output.say(f"{facts['otherwise']} would go there with another priority, or wait for something else")
    if facts["without_header"]:
        output.say(f"{facts['without_header']} cannot be told: the journal does not have all of their headers")
    output.say(f"held: {facts['held_before']} before, {facts['held_after']} after")
    if facts["transformed_otherwise"]:
        output.say(f"{facts['transformed_otherwise']} would go to the same destinations as something else")
    if facts["transforms_unknown"]:
        output.say(f"{facts['transforms_unknown']} might: the journal keeps only the beginning of their long headers")
    for change in facts["changes"]:
        output.say(f"  {', '.join(change['from'])} -> {', '.join(change['to'])}: {change['images']} images")
        for each in change["examples"]:
            output.say(f"    study {each['study_uid']}, patient {each['patient_id'] or '-'}: {each['images']} images")
    for each in facts["transforms"]:
        output.say(f"  {differences.words(each)}")
