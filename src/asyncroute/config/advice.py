"""What is allowed in a configuration, but hardly meant: for ``asyncroute check``.

Purpose: routes that no image can reach, destinations and groups to which none leads, transforms that none names or that
leave an image at odds with itself.
Guarantees: nothing is told that could be meant: a route is only called unreachable if a final one before it wants every
image that it wants. Failures: none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from asyncroute.config.conditions import compile_routes
from asyncroute.config.model import Config
from asyncroute.core.coercion import Affix
from asyncroute.core.conditions import Condition, Term
from asyncroute.core.paths import Step
from asyncroute.core.patterns import Ages, Glob, Moments, Network, Numbers, Pattern, Regex, compile_patterns
from asyncroute.core.rules import Rule


def advice(config: Config) -> list[str]:
    """One line each."""
    return [*_unused(config), *_unreachable(config), *_coercions(config)]


def _unused(config: Config) -> Iterator[str]:
    used = {name for route in config.routes for name in (*route.to, *config.reached(route))}
    yield from (f"{d.name}: no route leads to this destination" for d in config.destinations if d.name not in used)
    yield from (f"{g.name}: no route leads to this group" for g in config.groups if g.name not in used)
    if not config.routes:
        unrouted = config.node.unrouted
        yield f"there is no [[route]]: what is received has nowhere to go (unrouted = {unrouted!r})"


# --- transforms -------------------------------------------------------------------------------------------------------

_ACCESSION, _REQUESTS = 0x00080050, 0x00400275


def _coercions(config: Config) -> Iterator[str]:
    used = {name for route in config.routes for name in route.transform}
    for name, transform in config.transforms.items():
        if name not in used:
            yield f"transform {name}: no route names it"
        specs = [step.spec() for step in transform.steps]
        alone = [each for each in specs if isinstance(each, Affix) and _is_accession_alone(each)]
        if alone and not any(_edits_requests(each) for each in specs):
            kind = "prefix" if alone[0].front else "suffix"
            yield (
                f"transform {name}: its {kind} of AccessionNumber leaves those in the Request Attributes Sequence as"
                " they are, so that they differ: add everywhere = true"
            )


def _is_accession_alone(step: Affix) -> bool:
    return step.target.path == (Step(_ACCESSION),) and not step.everywhere


def _edits_requests(step: object) -> bool:
    target = getattr(step, "target", None)
    return target is not None and len(target.path) > 1 and target.path[0].tag == _REQUESTS


# --- routes that no image reaches -------------------------------------------------------------------------------------


def _unreachable(config: Config) -> Iterator[str]:
    rules = compile_routes(config).rules
    for n, rule in enumerate(rules):
        for final in rules[:n]:
            if final.final and covers(final, rule):
                yield f"route {rule.name}: never reached: {final.name!r}, which is final, wants all that it wants"
                break


def covers(final: Rule, rule: Rule) -> bool:
    """Whether every image that ``rule`` wants is certainly wanted by ``final``, too."""
    if final.unless and (final.unless != rule.unless):
        return False
    return all(any(_implies(asked, term) for asked in rule.match) for term in final.match)


def _implies(asked: Term, term: Term) -> bool:
    """Whether ``term`` certainly holds wherever ``asked`` does."""
    if asked == term:
        return True
    if not isinstance(asked, Condition) or not isinstance(term, Condition) or asked.key != term.key:
        return False
    return all(_within(pattern, term.patterns) for pattern in asked.patterns)


def _within(pattern: Pattern, patterns: Sequence[Pattern]) -> bool:
    """Whether whatever ``pattern`` matches is certainly matched by one of ``patterns``."""
    if pattern in patterns:
        return True
    if isinstance(pattern, Glob):
        return _text_within(pattern.text, tuple(patterns))
    if isinstance(pattern, Numbers | Ages):
        alike = [each for each in patterns if type(each) is type(pattern)]
        return any(each.low <= pattern.low and pattern.high <= each.high for each in alike)
    if isinstance(pattern, Network):
        return any(_in_network(pattern.text, each.text) for each in patterns if isinstance(each, Network))
    if isinstance(pattern, Moments | Regex):
        return Glob("*") in patterns and isinstance(pattern, Moments)
    return False


def _text_within(text: str, patterns: tuple[Pattern, ...]) -> bool:
    """Of a text with ``*`` only what begins alike is sure."""
    if not text:
        return False
    if not set("*?[") & set(text):
        return bool(compile_patterns(patterns).test(text))
    beginnings = [each.text[:-1] for each in patterns if isinstance(each, Glob) and each.text.endswith("*")]
    plain = [beginning for beginning in beginnings if not set("*?[") & set(beginning)]
    return any(text.startswith(beginning) and beginning for beginning in plain)


def _in_network(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    if isinstance(one, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return one.subnet_of(other)
    return isinstance(one, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network) and one.subnet_of(other)
