"""``asyncroute check``: is the configuration right, and are the destinations there?"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncroute.cli import output, settings
from asyncroute.cli.options import AsJson, ConfigFile, example
from asyncroute.core.errors import AsyncrouteError, ConfigError

if TYPE_CHECKING:
    from asyncroute.cli.peer import Trial
    from asyncroute.config import Config, DicomDestination, FolderDestination
    from asyncroute.core.errors import Problem

AT_ONCE = 8
"""Destinations that are tried at a time; the calling titles of one are tried one after the other."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        short_help="Check a configuration, and whether its destinations answer.",
        epilog=example("asyncroute check -c /etc/asyncroute.toml", "asyncroute check --connect"),
    )(check)


def check(
    config: ConfigFile = None,
    connect: Annotated[bool, typer.Option("--connect", help="Also try to reach every destination.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Notes count as mistakes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a configuration: every mistake with its line and key, then its own tests ([[test]]).

    Notes tell what is allowed, but hardly meant. With --connect also each destination, under every calling AE title
    that routes may use: address, TCP, TLS, association, C-ECHO; folders: whether they can be written. Exit status: 0
    all is well, 1 something is not.
    """
    try:
        loaded = settings.load(config)
        _check_tls(loaded)
    except AsyncrouteError as error:
        _wrong(error, as_json)
        raise typer.Exit(output.FAILED) from None
    found: dict[str, Any] = {"summary": summary(loaded), "notes": notes(loaded), "tests": _tests(loaded)}
    found["problems"] = _missing_functions(loaded)
    sound = not found["problems"] and all(each["ok"] for each in found["tests"])
    found["ok"] = sound and not (strict and found["notes"])
    if not as_json:
        _say_summary(found)
    if connect:
        tried = _try_all(loaded, as_json)
        found |= {"destinations": tried, "ok": found["ok"] and all(each["ok"] for each in tried)}
    if as_json:
        output.facts(found)
    raise typer.Exit(output.OK if found["ok"] else output.FAILED)


def _wrong(error: AsyncrouteError, as_json: bool) -> None:
    output.told(error)
    if as_json:
        problems = error.problems if isinstance(error, ConfigError) else ()
        output.facts({"ok": False, "problems": _as_facts(problems) or [{"text": str(error)}]})


def _as_facts(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [{key: getattr(p, key) for key in ("file", "line", "column", "key", "text")} for p in problems]


def _missing_functions(config: Config) -> list[dict[str, Any]]:
    """What is wrong with users' functions, told at once; a router starts all the same and holds their images."""
    from asyncroute.config.functions import missing_functions

    problems = missing_functions(config)
    for problem in problems:
        output.note(str(problem))
    return _as_facts(problems)


def _check_tls(config: Config) -> None:
    """Whether the files of TLS and users can be used, which loading a configuration does not try. Raises OurFault."""
    from asyncroute.config.destinations import TlsClient
    from asyncroute.link import tls, users

    for listener in config.listeners:
        if (server := listener.tls) is not None:
            tls.server_context(server.certificate, server.key, server.client_ca, server.require_client)
        if listener.user_identity is not None:
            users.load(listener.user_identity.users_file)
    for _, client in config.secrets:
        if isinstance(client, TlsClient):
            tls.client_context(client.ca, client.certificate, client.key)


# --- what the configuration says --------------------------------------------------------------------------------------


def summary(config: Config) -> dict[str, Any]:
    """What there is, by name."""
    return {
        "file": str(config.path) if config.path else None,
        "node": config.node.name,
        "data_dir": str(config.node.data_dir),
        "listeners": [listener.label for listener in config.listeners],
        "destinations": [destination.name for destination in config.destinations],
        "groups": [group.name for group in config.groups],
        "routes": [route.name for route in config.routes],
    }


def notes(config: Config) -> list[str]:
    """What is allowed, but perhaps not meant."""
    from asyncroute.cli.misfits import misfits
    from asyncroute.config import codecs
    from asyncroute.config.advice import advice
    from asyncroute.config.listeners import CLEAR_TEXT
    from asyncroute.link import certificates

    found = [*advice(config), *misfits(config)]
    open_ = [each for each in config.listeners if each.user_identity and not each.tls]
    found += [f"listener {each.label}: {CLEAR_TEXT}" for each in open_]
    found += _notes_on_titles(config)
    found += codecs.warnings(config.destinations)
    found += _notes_on_deidentified(config)
    ours = certificates.validities(config.certificates)
    return found + [f"{certificate} {trouble}" for certificate, good in ours if (trouble := good.trouble())]


def _notes_on_titles(config: Config) -> list[str]:
    """Calling AE titles that no image can go under, and those that nobody will see."""
    from asyncroute.config.titles import known_titles

    found = []
    peers = [each for each in config.destinations if each.kind == "dicom"]
    for destination in peers:
        wrong = list(known_titles(config, destination).wrong)
        others = f" (and {len(wrong) - 1} more such titles)" if len(wrong) > 1 else ""
        found += [f"{destination.name}: images will be dead letters: {text}{others}" for text in wrong[:1]]
    names = {each.name for each in peers}
    titled = [each for each in config.routes if each.calling_ae_title is not None]
    idle = [each for each in titled if names.isdisjoint(config.reached(each))]
    return found + [f"route {each.name}: calling_ae_title changes nothing for folders" for each in idle]


def _tests(config: Config) -> list[dict[str, Any]]:
    """What became of the configuration's own tests."""
    if not config.cases:
        return []
    from asyncroute.cli import cases

    results = cases.run(config)
    return [
        {"name": r.name, "ok": not r.failures, "failures": list(r.failures), "notes": list(r.notes)} for r in results
    ]


def _notes_on_deidentified(config: Config) -> list[str]:
    """Calling AE titles that tell where de-identified images are from."""
    found = []
    for route in config.routes:
        if not config.deidentifies(route):
            continue
        for name in config.reached(route):
            title = str(route.calling_ae_title or getattr(config.destination(name), "calling_ae_title", ""))
            if "{" in title:
                text = f'goes to {name} de-identified, but under the calling AE title "{title}", which tells the sender'
                found.append(f"route {route.name}: {text}; set calling_ae_title")
    return found


def _say_summary(found: dict[str, Any]) -> None:
    known = found["summary"]
    output.say(f"{known['file'] or 'the embedded default'}: {'ok' if found['ok'] else 'not as it should be'}")
    for key in ("listeners", "destinations", *(["groups"] if known["groups"] else []), "routes"):
        output.say(f"  {key}: {', '.join(known[key]) or 'none'}")
    for line in found["notes"]:
        output.say(f"  note: {line}")
    if found["tests"]:
        output.say(f"  tests: {sum(test['ok'] for test in found['tests'])} of {len(found['tests'])} as expected")
    for test in found["tests"]:
        for line in test["failures"]:
            output.note(f"test {test['name']}: {line}")
        for line in test["notes"]:
            output.say(f"  note: test {test['name']}: {line}")


# --- what the destinations say ----------------------------------------------------------------------------------------


def _try_all(config: Config, as_json: bool) -> list[dict[str, Any]]:
    folders = [d for d in config.destinations if d.kind == "folder"]
    tried = [_try_folder(folder, as_json) for folder in folders]
    dicom = [d for d in config.destinations if d.kind == "dicom"]
    return tried + (_try_peers(config, dicom, as_json) if dicom else [])


def _try_folder(destination: FolderDestination, as_json: bool) -> dict[str, Any]:
    trouble = folder_trouble(destination.path)
    if not as_json:
        output.say(f"{destination.name}: folder {destination.path}: {trouble or 'ok'}")
    return {"name": destination.name, "kind": "folder", "ok": not trouble, "text": trouble}


def folder_trouble(path: Path) -> str:
    """Why files cannot be written below ``path``, or an empty text; nothing is left behind, nothing is made."""
    import tempfile

    place = path
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"cannot write in {place}: {(error.strerror or str(error)).lower()}"


def _try_peers(config: Config, destinations: Iterable[DicomDestination], as_json: bool) -> list[dict[str, Any]]:
    import asyncio

    from asyncroute.cli import peer, trials
    from asyncroute.cli.target import calling_titles

    async def run() -> list[dict[str, Any]]:
        turns = asyncio.Semaphore(AT_ONCE)
        async with peer.shared_means() as shared:

            async def one(destination: DicomDestination) -> list[dict[str, Any]]:
                titles, depends = calling_titles(config, destination)
                async with turns:
                    place = peer.target_of(destination)
                    done = [await peer.try_out(destination.name, place, title, shared) for title in titles]
                if not as_json:
                    _show(done, depends)
                return [{"kind": "dicom", "depends_on_senders": depends} | trials.as_facts(trial) for trial in done]

            return [fact for facts in await asyncio.gather(*map(one, destinations)) for fact in facts]

    return asyncio.run(run())


def _show(done: list[Trial], depends: bool) -> None:
    from asyncroute.cli import trials

    for trial in done:
        trials.show(trial)
    if depends:
        tried = ", ".join(trial.calling for trial in done)
        output.say(f"  note: the calling AE title depends on the sender; this was tried as {tried}")
