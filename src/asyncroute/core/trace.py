"""Why routes apply to an image, or do not: for people.

Guarantees: says of every route what the route table decides, by the same conditions; of one that does not apply the
first condition that fails, with what was wanted and what was found.
Failures: none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from asyncroute.core.conditions import Attributes, Condition, During, Not, Term, compile_term, compile_terms, values_of
from asyncroute.core.model import Source
from asyncroute.core.rules import Rule

_LONGEST = 120
_MOST_VALUES = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a route applies; else ``why`` not, in words, and the key of the condition, what it wanted and found."""

    rule: Rule
    applies: bool
    why: str = ""
    key: str = ""
    wanted: str = ""
    found: str = ""


def trace(rules: Iterable[Rule], source: Source, attributes: Attributes, at: float) -> list[Verdict]:
    """A verdict on each route, in order."""
    verdicts = []
    final = ""
    for rule in rules:
        if final:
            verdicts.append(Verdict(rule, False, f"not looked at: {final!r} is final and applies"))
            continue
        verdicts.append(_verdict(rule, source, attributes, at))
        final = rule.name if verdicts[-1].applies and rule.final else ""
    return verdicts


def _verdict(rule: Rule, source: Source, attributes: Attributes, at: float) -> Verdict:
    case = (source, attributes, at)
    for term in rule.match:
        if not compile_term(term)(*case):
            why, key, wanted, found = _failure(term, case)
            return Verdict(rule, False, why, key, wanted, found)
    if rule.unless and compile_terms(rule.unless)(*case):
        words = " and ".join(describe(term) for term in rule.unless)
        found = "; ".join(_found(term, case) for term in rule.unless if isinstance(term, Condition))
        return Verdict(rule, False, f"unless {words}, which holds", "unless", words, found)
    return Verdict(rule, True)


_Case = tuple[Source, Attributes, float]


def _failure(term: Term, case: _Case) -> tuple[str, str, str, str]:
    """Words, key, wanted, found."""
    if isinstance(term, Condition):
        found = _found(term, case)
        return f"{term.name} is {found}, wanted {term.wanted}", term.name, term.wanted, found
    if isinstance(term, During):
        found = f"{datetime.fromtimestamp(case[2]).astimezone():%a %H:%M %z}"
        return f"time is {found}, wanted {term.wanted}", "time", term.wanted, found
    words = describe(term)
    if isinstance(term, Not):
        return f"not {{ {' and '.join(map(describe, term.table))} }}, but that holds", "not", words, ""
    reasons = []
    for table in term.tables:
        failing = next(each for each in table if not compile_term(each)(*case))
        reasons.append(_failure(failing, case)[0])
    return f"none of any holds: {'; '.join(reasons)}", "any", words, ""


def describe(term: Term) -> str:
    """A term as in the configuration, nearly."""
    if isinstance(term, Condition):
        return f"{term.name} = {term.wanted}"
    if isinstance(term, During):
        return f"time = {term.wanted}"
    if isinstance(term, Not):
        return f"not = {{ {', '.join(map(describe, term.table))} }}"
    return f"any = [{', '.join(f'{{ {_listed(table)} }}' for table in term.tables)}]"


def _listed(table: Iterable[Term]) -> str:
    return ", ".join(map(describe, table))


def _found(condition: Condition, case: _Case) -> str:
    source, attributes, _ = case
    if isinstance(condition.key, str):
        return shown((attrgetter(condition.key)(source),))
    return shown(values_of(attributes, condition.key))


def shown(values: tuple[str, ...]) -> str:
    """Values in one line, shortened: ``"CT"``, ``absent``, ``empty``."""
    if not values:
        return "absent"
    if not any(values):
        return "empty"
    more = f" and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
    return ", ".join(_quoted(value) for value in values[:_MOST_VALUES]) + more


def _quoted(value: str) -> str:
    short = value if len(value) <= _LONGEST else value[: _LONGEST - 3] + "..."
    return f'"{"".join(c if c.isprintable() else chr(0xFFFD) for c in short)}"'
