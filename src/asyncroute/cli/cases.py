"""Tries the ``[[test]]`` cases of a configuration, for ``check``.

Guarantees: each case is an image that is made, encoded and then looked at by the parts of a running router; nothing is
sent. Failures: none; what is not as expected is told, a line each.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from asyncroute.cli import signatures
from asyncroute.cli.preview import Outcome, Previewer, Subject, source_of
from asyncroute.config import Config
from asyncroute.config.attributes import Attribute
from asyncroute.config.cases import Trial, compile_case
from asyncroute.config.words import Loc
from asyncroute.core.errors import AsyncrouteError, OurFault
from asyncroute.core.model import Instance, RouteHit
from asyncroute.core.rules import RouteTable, Rule
from asyncroute.core.trace import trace
from asyncroute.route import Router

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_UIDS = {0x00080018: "2.25.1.1", 0x0020000D: "2.25.1", 0x0020000E: "2.25.1.2"}
"""SOP, Study and Series Instance UID of an image of which nothing else is said."""
_NUMBERS = {"US": int, "SS": int, "UL": int, "SL": int, "UV": int, "SV": int, "FL": float, "FD": float}


@dataclass(frozen=True, slots=True)
class Result:
    """Of one case: what is not as expected; empty: all is. ``notes``: what else a person should know."""

    name: str
    failures: tuple[str, ...]
    notes: tuple[str, ...] = ()


def run(config: Config) -> list[Result]:
    """Try all cases."""
    names = [each.name for each in (*config.destinations, *config.groups)]
    with Previewer(config) as previewer:
        return [
            _tried(previewer, case.name, compile_case(case, names, list(config.listeners), _never))
            for case in config.cases
        ]


def _tried(previewer: Previewer, name: str, trial: Trial) -> Result:
    try:
        subject = subject_of(previewer.config, trial)
        hits = previewer.hits(subject)
        outcomes = [previewer.edited(subject, hit) for hit in hits]
        failures = tuple(_failures(previewer, trial, subject, hits, outcomes))
        return Result(name, failures, tuple(_notes(trial, outcomes)))
    except AsyncrouteError as error:
        return Result(name, (str(error),))
    except Exception as error:  # whatever pydicom makes of values and files
        return Result(name, (f"the image cannot be made: {' '.join(str(error).split())}",))


def _notes(trial: Trial, outcomes: Sequence[Outcome]) -> Iterable[str]:
    """A file's signatures that an edit breaks."""
    if trial.file is None or not any(each.changes for each in outcomes):
        return
    try:
        if signatures.is_signed(trial.file):
            yield f"{trial.file.name} {signatures.BROKEN}"
    except OurFault as fault:
        yield str(fault)


def _never(loc: Loc, text: str) -> None:
    """The configuration was loaded: this was looked at then."""


def _failures(
    previewer: Previewer, trial: Trial, subject: Subject, hits: tuple[RouteHit, ...], outcomes: Sequence[Outcome]
) -> Iterable[str]:
    held = previewer.held(subject, hits) or next((each.held for each in outcomes if each.held), "")
    if trial.to is not None:
        wanted = _addressed(previewer.config, trial.to)
        found = {hit.destination for hit, outcome in zip(hits, outcomes, strict=True) if not outcome.dropped}
        if wanted != found:
            why = held or next((each.refused for each in outcomes if each.dropped), "")
            yield f"to: expected {_listed(wanted)}, but it goes to {_listed(found)}{f' ({why})' if why else ''}"
    if trial.held is not None and trial.held is not bool(held):
        yield "held: expected true, but it is not held" if trial.held else f"held: expected false, but: {held}"
    if trial.after:
        sent = [each.subject for each in outcomes if not each.refused]
        why = f" ({_not_sent(outcomes)})" if outcomes and not sent else ""
        yield from dict.fromkeys(f"{line}{why}" for each in sent or [subject] for line in _differences(each, trial))


def _not_sent(outcomes: Sequence[Outcome]) -> str:
    first = outcomes[0]
    return f"it is {'discarded' if first.dropped else 'held'}: {first.refused}"


def _differences(subject: Subject, trial: Trial) -> Iterable[str]:
    """What of the image is not as expected."""
    rules = [Rule(str(n), (), (term,)) for n, term in enumerate(trial.after)]
    router = Router(RouteTable(rules))
    attributes, _ = router.seen(subject.instance, subject.head, subject.whole)
    for verdict in trace(rules, subject.instance.source, attributes, subject.instance.received_at):
        if not verdict.applies:
            yield (
                f"{verdict.key}: expected {verdict.wanted}, but it is {verdict.found}" if verdict.found else verdict.why
            )


def _addressed(config: Config, names: Iterable[str]) -> set[str]:
    """Groups of which every member gets each image stand for their members."""
    every = {group.name: group.members for group in config.groups if group.one_of is None}
    return {name for each in names for name in every.get(each, (each,))}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


# --- making an image --------------------------------------------------------------------------------------------------


def subject_of(config: Config, trial: Trial) -> Subject:
    """The image that a case describes."""
    dataset, syntax = _read(trial.file) if trial.file else (Dataset(), EXPLICIT_LITTLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, uid in _UIDS.items():
            if tag not in dataset:
                dataset.add_new(tag, "UI", uid)
        if not trial.file and not all(value.isascii() for _, values in trial.attributes for value in values):
            dataset.SpecificCharacterSet = "ISO_IR 192"
        for attribute, values in trial.attributes:
            _set(dataset, attribute, values)
        head = encoded(dataset)
    instance = Instance(
        0,
        source_of(config, trial.facts),
        str(dataset.get("SOPClassUID", "")),
        str(dataset.SOPInstanceUID),
        syntax,
        time.time() if trial.at is None else trial.at,
        str(trial.file or ""),
    )
    return Subject(instance, head, True, trial.name)


def _read(path: Path) -> tuple[Dataset, str]:
    """An image's header, to be encoded anew: its transfer syntax is that of the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, stop_before_pixels=True), EXPLICIT_LITTLE


def encoded(dataset: Dataset) -> bytes:
    """In explicit VR little endian."""
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, dataset)
    return bytes(out.getvalue())


def _set(dataset: Dataset, attribute: Attribute, values: tuple[str, ...]) -> None:
    *sequences, last = attribute.path
    for step in sequences:
        tag = _placed(dataset, step.tag, step.creator)
        if tag not in dataset:
            dataset.add_new(tag, "SQ", Items())
        items = dataset[tag].value
        while len(items) <= (step.item or 0):
            items.append(Dataset())
        dataset = items[step.item or 0]
    vr = (attribute.vr or "LO").split(" or ")[0]
    made = [_NUMBERS[vr](value) for value in values] if vr in _NUMBERS else list(values)
    dataset.add_new(_placed(dataset, last.tag, last.creator), vr, made[0] if len(made) == 1 else made)


def _placed(dataset: Dataset, tag: int, creator: str) -> int:
    """The tag of a private attribute in its creator's block, which is reserved if there is none."""
    if not creator:
        return tag
    return int(dataset.private_block(tag >> 16, creator, create=True).get_tag(tag & 0xFF))
