"""The calling AE titles that a configuration leads to.

Purpose: `titles_of` gives a destination's titles to whatever sends there; `known_titles` those that can be told before
any image comes: of senders that listeners or routes name without ``*``, ``?`` or ``[``.
Guarantees: what a route's `match` rules out is not told. What depends on senders that are not named is told to be so.
Failures: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, product

from asyncroute.config.conditions import compile_route
from asyncroute.config.destinations import DicomDestination
from asyncroute.config.fields import title_template
from asyncroute.config.listeners import Listener
from asyncroute.config.model import Config, Route
from asyncroute.core.conditions import Condition, Term, conditions_in
from asyncroute.core.model import Source
from asyncroute.core.rules import RouteTable, Rule
from asyncroute.core.titles import LONGEST, Template, Titles, WrongTitle

MOST = 10_000
"""Ways to one listener that are looked at."""


def titles_of(config: Config, destination: DicomDestination) -> Titles:
    """The titles under which images go there."""
    routes = config.titles_of_routes(destination.name)
    return Titles(
        title_template(destination.calling_ae_title), {name: title_template(text) for name, text in routes.items()}
    )


@dataclass(slots=True)
class Known:
    """Titles of one destination; ``wrong``: why images of some senders get none, a line each.

    ``open``: templates of which no title can be told, since no sender is named.
    """

    titles: dict[str, None] = field(default_factory=dict)
    wrong: dict[str, None] = field(default_factory=dict)
    open: dict[Template, None] = field(default_factory=dict)


def known_titles(config: Config, destination: DicomDestination) -> Known:
    """What can be told of the titles under which images go there."""
    known = Known()
    routes: list[Route | None] = [route for route in config.routes if destination.name in config.reached(route)]
    for route in routes or [None]:
        text = route.calling_ae_title if route and route.calling_ae_title is not None else destination.calling_ae_title
        template = title_template(text)
        ways = list(_ways(config, route, template.facts)) if template.facts else [{}]
        for facts in ways:
            try:
                known.titles[template.title(facts)] = None
            except WrongTitle as wrong:
                known.wrong[str(wrong)] = None
        if not ways:
            known.open[template] = None
    return known


def _ways(config: Config, route: Route | None, names: Iterable[str]) -> Iterator[dict[str, str]]:
    """By name, what is known of the ways on which images may come to ``route`` (None: to any): of each ``names``."""
    wanted = set(names)
    table = _table(config, route, wanted | {"listener"}) if route is not None else None
    for listener in config.listeners:
        for facts in islice(_at(listener, route, wanted), MOST):
            source = Source(facts.get("calling_aet", ""), facts.get("called_aet", ""), listener.label, "")
            if table is None or table.decide(source, {}):
                yield facts


def _at(listener: Listener, route: Route | None, wanted: set[str]) -> Iterator[dict[str, str]]:
    senders = [*listener.accept_calling, *_listed(route.match.get("calling_aet") if route else None)]
    values = {
        "calling_aet": [title for title in senders if _is_title(title)],
        "called_aet": [listener.ae_title, *filter(_is_title, listener.accept_called)],
        "listener": [listener.ae_title],
    }
    chosen = {name: values[name] for name in values if name in wanted}
    return (dict(zip(chosen, each, strict=True)) for each in product(*chosen.values()))


def _table(config: Config, route: Route, known: set[str]) -> RouteTable:
    """``route`` as far as it depends on what is ``known``."""
    rule = compile_route(route, config.listeners, lambda loc, text: None)

    def depends_only_on_known(term: Term) -> bool:
        return all(isinstance(each, Condition) and each.key in known for each in conditions_in([term]))

    about = filter(depends_only_on_known, rule.match)
    unless = rule.unless if all(map(depends_only_on_known, rule.unless)) else ()
    return RouteTable([Rule(rule.name, rule.destinations, tuple(about), unless)])


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [each.strip(" ") for each in values if isinstance(each, str)]


def _is_title(pattern: str) -> bool:
    return 0 < len(pattern) <= LONGEST and not pattern.startswith("re:") and not set("*?[") & set(pattern)
