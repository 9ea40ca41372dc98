"""``asyncroute explain``: what would happen to an image, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output, settings
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.core.errors import OurFault

if TYPE_CHECKING:
    from asyncroute.cli.preview import Outcome, Preview, Previewer
    from asyncroute.core.trace import Verdict

_SHOWN = 100
"""Characters of a text, without ``--json``."""


def _option(name: str, words: str, metavar: str = "AET") -> Any:
    return typer.Option(name, metavar=metavar, help=words, show_default=False)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Tell what would happen to an image, and why.",
        epilog=example(
            "asyncroute explain image.dcm --from CT_A",
            "asyncroute explain image.dcm --peer 10.2.0.7 --json",
            "asyncroute explain image.dcm --phi",
        ),
    )(explain)


def explain(  # noqa: PLR0913, PLR0917 - a command's options
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An image (DICOM Part 10).")],
    sender: Annotated[str | None, _option("--from", "The sender's AE title; else as in the file.")] = None,
    called: Annotated[str | None, _option("--called", "The AE title that it calls.")] = None,
    listener: Annotated[str | None, _option("--listener", "Where it calls; or watch:NAME.", "NAME")] = None,
    peer: Annotated[str | None, _option("--peer", "The sender's IP address.", "ADDRESS")] = None,
    at: Annotated[str | None, _option("--at", "As if received then: 2026-06-12T18:30.", "TIME")] = None,
    text: Annotated[bool, typer.Option("--phi", help="List the text that would leave, which may have names.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell which routes an image would take and why not the others, where it would go, and as what.

    Nothing is sent, nothing runs. Exit status: 0 it would go somewhere, 1 it would not.
    """
    from asyncroute.cli import preview

    loaded = settings.load(config)
    names = {"calling_aet": sender, "called_aet": called, "listener": listener, "peer": peer}
    given = {name: value for name, value in names.items() if value is not None}
    with preview.Previewer(loaded) as previewer:
        found = previewer.look(preview.subject_of_file(loaded, file, given, _moment(at)))
        outcomes = [previewer.edited(found.subject, hit) for hit in found.hits]
        if any(each.changes for each in outcomes):
            found.notes += _broken_signatures(file)
        facts = as_facts(previewer, found, outcomes, text)
    if as_json:
        output.facts(facts)
    else:
        _say(facts)
    raise typer.Exit(output.OK if found.hits else output.FAILED)


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise OurFault(f'--at {text!r}: write a date and time such as "2026-06-12T18:30"') from None


def _broken_signatures(file: Path) -> list[str]:
    from asyncroute.cli import signatures

    try:
        return [f"the image {signatures.BROKEN}"] if signatures.is_signed(file) else []
    except OurFault as fault:
        return [str(fault)]


def as_facts(previewer: Previewer, found: Preview, outcomes: Sequence[Outcome], text: bool = False) -> dict[str, Any]:
    """All of it, for ``--json``. ``outcomes``: see ``Previewer.ways``. ``text``: with what would leave."""
    from asyncroute.cli.preview import source_facts

    ways = previewer.ways(found, outcomes)
    if text:
        from asyncroute.cli.left import remaining

        for way, hit, outcome in zip(ways, found.hits, outcomes, strict=True):
            way["phi"] = remaining(previewer, found, hit, outcome)
    instance = found.subject.instance
    return {
        "file": found.subject.name,
        "sop_instance_uid": instance.sop_instance_uid,
        "study_uid": instance.study_uid,
        "modality": instance.modality,
        "transfer_syntax": instance.transfer_syntax,
        "source": source_facts(instance.source),
        "routes": [_route(verdict) for verdict in found.verdicts],
        "destinations": ways,
        "held": found.held or None,
        "unrouted": None if found.hits or found.held else previewer.config.node.unrouted,
        "notes": found.notes,
    }


def _route(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.rule.name,
        "applies": verdict.applies,
        "to": list(verdict.rule.destinations),
        "why": verdict.why or None,
        "key": verdict.key or None,
        "wanted": verdict.wanted or None,
        "found": verdict.found or None,
    }


# --- for people -------------------------------------------------------------------------------------------------------


def _say(facts: dict[str, Any]) -> None:
    source = facts["source"]
    came = f"from folder {source['watch']}" if source["watch"] else _call(source)
    output.say(f"{facts['file']}: {facts['modality'] or 'no modality'}, {came}")
    for note in facts["notes"]:
        output.say(f"  note: {note}")
    output.say("routes")
    for route in facts["routes"]:
        verdict = f"yes  {route['name']}: to {', '.join(route['to'])}" if route["applies"] else None
        output.say(f"  {verdict or 'no   ' + route['name'] + ': ' + route['why']}")
    if not facts["routes"]:
        output.say("  none")
    output.say("destinations")
    for way in facts["destinations"]:
        _say_way(way)
    if facts["held"]:
        output.say(f"  none: held: {facts['held']}")
    elif facts["unrouted"]:
        output.say(f'  none: no route matches (unrouted = "{facts["unrouted"]}")')


def _call(source: dict[str, Any]) -> str:
    return f"{source['calling_aet']} at {source['peer']} calls {source['called_aet']} at {source['listener']}"


def _say_way(way: dict[str, Any]) -> None:
    group = way["group"]
    members = f", group of {', '.join(group['members'])} ({group['mode']})" if group else ""
    output.say(f"  {way['to']}{members}: by route {way['route']}, {way['when']}, priority {way['priority']}")
    if way["held"]:
        output.say(f"    held: {way['held']}")
    if way["discarded"]:
        output.say(f"    discarded: {way['discarded']}")
    for change in way["changes"]:
        before, after = (_value(change[key]) for key in ("before", "after"))
        output.say(f"    {change['attribute']}: {before} -> {after} ({change['step']})")
    for each in way["destinations"]:
        if each["kind"] != "dicom":
            output.say(f"    {each['name']}: {each['kind']}")
            continue
        place = f"{each['ae_title']}@{each['host']}:{each['port']}"
        title = each["error"] or f"calling AE title {each['calling_ae_title']}"
        output.say(f"    {each['name']}: {place}, {title}, transfer syntax {_syntax(each['transfer_syntax'])}")
    if "phi" in way:
        _say_text(way["phi"])


def _say_text(left: dict[str, Any]) -> None:
    output.say(f"    text that would leave: {len(left['text']) or 'none'}")
    for note in left["notes"]:
        output.say(f"      note: {note}")
    for text in left["text"]:
        value = "\\".join(text["values"])
        value = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
        output.say(f'      {text["attribute"]} {text["tag"]} {text["vr"]}: "{value}" ({text["why"]})')


def _value(text: str | None) -> str:
    return "absent" if text is None else f'"{text}"'


def _syntax(uid: str) -> str:
    from pydicom.uid import UID

    return f"{UID(uid).name} ({uid})" if uid[:1].isdigit() else uid
