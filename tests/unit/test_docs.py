"""The user documentation is true: every command, message and TOML block in it is held against the program."""

from __future__ import annotations

import ast
import errno
import inspect
import os
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from asyncroute.cli import root
from asyncroute.config import compile_routes, loads, model, secrets
from asyncroute.core import outcomes
from asyncroute.core.errors import ConfigError
from asyncroute.core.model import Source
from asyncroute.queue import breaker
from asyncroute.queue.verdict import Verdict
from asyncroute.status import attention, render
from tests.unit.pages import DOCS, FENCED, PAGES, ROOT, Block, blocks, codes, page, rows, section, toml

EXAMPLES = ROOT / "examples"
FILE = "asyncroute.toml"


# --- TOML -------------------------------------------------------------------------------------------------------------


def completed(text: str) -> str:
    """A fragment with the tables behind it that a whole file needs."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return text
    known = [table.get("name") for table in raw.get("destination", [])]
    groups = raw.get("group", [])
    wanted = [name for route in raw.get("route", []) for name in route["to"] if name not in [g["name"] for g in groups]]
    wanted += [name for group in groups for name in group["members"]]
    extra = [] if "listener" in raw else ["[[listener]]"]
    missing = dict.fromkeys(name for name in wanted if name not in known) if not known else ()
    extra += [f'[[destination]]\nname = "{name}"\nkind = "folder"\npath = "out"' for name in missing or ()]
    if not known and not missing:
        extra.append('[[destination]]\nname = "other"\nkind = "folder"\npath = "out"')
    return text + "\n" + "\n".join(extra) + "\n"


def touch_files(text: str, folder: Path) -> None:
    """The files that a configuration's TLS tables and transforms name."""
    raw = tomllib.loads(text)
    for table in [*raw.get("listener", []), *raw.get("destination", [])]:
        for key, value in table.get("tls", {}).items():
            if key in ("certificate", "key", "client_ca", "ca"):
                (folder / value).parent.mkdir(parents=True, exist_ok=True)
                (folder / value).touch()
    for table in raw.get("transform", {}).values():
        if "secret_file" in table:
            secrets.create(folder / table["secret_file"])
    watched = [(*table.get("paths", ()), table.get("path", ".")) for table in raw.get("watch", [])]
    for value in (each for paths in watched for each in paths):
        (folder / value).mkdir(parents=True, exist_ok=True)
    for table in raw.get("listener", []):
        for value in table.get("user_identity", {}).values():
            (folder / str(value)).touch()
    for table in raw.get("transform", {}).values():
        names = [step.get("file", step.get("python")) for step in table["steps"]] + [table.get("secret_file")]
        for name in filter(None, names):
            (folder / name.split(":")[0]).write_text("of sixteen or more, characters\n")


TOML = blocks("toml")


@pytest.mark.parametrize("block", [b for b in TOML if "wrong" not in b.info], ids=str)
def test_a_configuration_loads(block: Block, tmp_path: Path) -> None:
    text = completed(block.text)
    touch_files(text, tmp_path)
    loads(text, FILE, tmp_path / FILE)


@pytest.mark.parametrize("block", [b for b in TOML if "wrong" in b.info], ids=str)
def test_a_wrong_configuration_gives_the_error_that_is_shown(block: Block) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(completed(block.text), FILE)
    assert str(caught.value) == block.after.rstrip("\n")


def test_there_are_blocks_of_both_kinds() -> None:
    assert len(TOML) > 20
    assert sum("wrong" in block.info for block in TOML) >= 3


def test_readme_shows_a_configuration_that_loads(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    text = readme.split("A small configuration:\n", 1)[1].split("\nEvery matching", 1)[0]
    loads(textwrap.dedent(text), FILE, tmp_path / FILE)


def test_questions_are_answered_with_the_examples() -> None:
    answers = [block for block in TOML if block.page == "questions.md"]
    for block in answers:
        example = ROOT / block.info.split(" ")[1]
        assert block.text.strip() in example.read_text("utf-8"), f"not as in {example.name}: {block}"
    for block in blocks("python"):
        if " " in block.info:
            assert block.text.strip() in (ROOT / block.info.split(" ")[1]).read_text("utf-8")
    assert {block.info.split("/")[-1] for block in answers} == {path.name for path in EXAMPLES.glob("*.toml")}


# --- routing ----------------------------------------------------------------------------------------------------------

CONDITIONS = rows(section("routing.md", "How values are written"))
_EMPTY = {"*absent*": None, "*empty*": ""}


def values(cell: str) -> list[str | None]:
    return [_EMPTY[each] if each in _EMPTY else each.strip("`") for each in cell.split(", ")]


def holds(condition: str, value: str | None) -> bool:
    """Whether an image with this value of the condition's attribute (or fact) takes the route."""
    key = condition.partition(" = ")[0]
    route = f'[[route]]\nname = "r"\nto = ["out"]\nmatch = {{ {condition} }}\n'
    table = compile_routes(loads(completed(route), FILE))
    facts = {"calling_aet": "", "called_aet": "", "listener": "", "peer": ""}
    keys = [*table.tags, *table.paths]
    tags = {key: tuple((value or "").split("\\")) for key in keys if value is not None}
    return bool(table.decide(Source(**(facts | {key: value} if key in facts and value else facts)), tags))


@pytest.mark.parametrize("cells", CONDITIONS, ids=lambda cells: str(cells[0]))
def test_a_condition_holds_for_what_the_table_says(cells: Sequence[str]) -> None:
    (condition,) = codes(cells[0])
    assert {value: holds(condition, value) for value in values(cells[1])} == dict.fromkeys(values(cells[1]), True)
    assert {value: holds(condition, value) for value in values(cells[2])} == dict.fromkeys(values(cells[2]), False)


def test_unrouted_is_documented_whole() -> None:
    documented = [toml(codes(cells[0])[0]) for cells in rows(section("routing.md", "Images that no route wants"))]
    assert documented == ["hold", "reject", "discard"]


# --- operations -------------------------------------------------------------------------------------------------------


def test_the_outcome_table_is_the_programs() -> None:
    told: dict[str, str] = {}
    other = ""
    for statuses, word, *_ in rows(section("operations.md", "What an answer means")):
        if re.match(r"`[0-9A-F]", statuses):
            told |= dict.fromkeys(codes(statuses), word.strip("`"))
            other = word.strip("`") if "any other" in statuses else other
    assert told.pop("0000") == ""
    exact = {int(code, 16): word for code, word in told.items() if "x" not in code}
    wide = {code.rstrip("x"): word for code, word in told.items() if "x" in code}
    for status in range(1, 0x10000):
        text = f"{status:04X}"
        expected = exact.get(status) or next((w for c, w in wide.items() if text.startswith(c)), other)
        assert outcomes.action(status).value == expected, text


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("tried every 15 minutes", outcomes.SLOW == 15 * 60),
        ("Tried again after 10 minutes; the third failure", outcomes.REPEAT == 600),
        ("the third failure", outcomes.classify(0xA900).limit == 3),
        ("the fifth failure", outcomes.classify(0x0110).limit == 5),
        ("this answer 3 times while others pass", outcomes.classify(0xA700).limit == 3),
        ("does it 3 times while others pass", outcomes.lost("", image_in_flight=True).limit == 3),
        ("5 different studies in a row", outcomes.classify(0x0124).studies == 5),
        ("After three failed associations in a row", breaker.THRESHOLD == 3),
    ],
)
def test_numbers_in_operations_are_the_programs(words: str, number: bool) -> None:
    assert words in page("operations.md")
    assert number


def test_every_state_of_a_channel_is_documented() -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(Verdict.state)))
    returned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
    constants = [n.value for value in returned for n in ast.walk(value) if isinstance(n, ast.Constant)]
    words = {word for word in constants if isinstance(word, str)} | {"stopped", "removed"}
    documented = {codes(cells[0])[0] for cells in rows(section("operations.md", "What status shows"))}
    assert documented == words
    assert documented >= attention.ATTENTION


def test_the_status_that_is_shown_has_the_columns_of_today() -> None:
    channel = dict.fromkeys(("name", "kind", "state", "last_error"), "x")
    numbers = dict.fromkeys(
        ("waiting", "sending", "failed", "delivered", "oldest_s", "lanes", "window", "rate_per_s"), 1
    )
    shown = {"channels": [channel | numbers], "associations": {"inbound": [], "outbound": []}}
    (table,) = render.tables(shown)
    header = "  ".join(table.columns).split()
    (sample,) = [block.text for block in blocks("text") if "needs a person" in block.text]
    assert header in [line.split() for line in sample.splitlines()]


def test_the_service_waits_longer_than_drain() -> None:
    (unit,) = [block.text for block in blocks("ini")]
    stop = re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)
    assert stop
    assert int(stop[1]) >= model.Node().drain + 10


# --- commands ---------------------------------------------------------------------------------------------------------

Command = Any  # click's, or typer's own copy of it
_COMMAND = re.compile(r"(?:Exec\w+=)?(?:sudo -u asyncroute )?(?:\S*/)?asyncroute ([a-z-].*)")


def command_lines() -> Iterator[tuple[str, str]]:
    """Every command line in code blocks and inline code: (page, arguments)."""
    for path in PAGES:
        text = path.read_text("utf-8")
        fenced = [line for _, body in FENCED.findall(text) for line in body.splitlines()]
        indented = [line.strip() for line in text.splitlines() if re.match(r" {4,}\S", line)]
        for line in [*fenced, *indented, *codes(FENCED.sub("", text))]:
            if found := _COMMAND.fullmatch(line):
                yield path.name, found[1]


LINES = sorted(set(command_lines()))


def resolve(words: list[str]) -> tuple[Command, list[str]]:
    command: Command = typer.main.get_command(root.application())
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("where", "line"), LINES, ids=[f"{p}: {line}" for p, line in LINES])
def test_a_command_line_is_understood(where: str, line: str) -> None:
    command, words = resolve(shlex.split(line, comments=True))
    if words not in (["--help"], ["--version"]):
        assert not hasattr(command, "commands"), f"no such command: {line}"
        assert not command.hidden, f"not available yet: {line}"
        command.make_context(command.name, words)


def visible(group: Command, prefix: str = "") -> Iterator[tuple[str, Command]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from visible(command, f"{prefix}{name} ")
        elif not command.hidden:
            yield f"{prefix}{name}", command


COMMANDS = dict(visible(typer.main.get_command(root.application())))


def test_every_command_is_documented_and_no_other() -> None:
    titles = re.findall(r"^## asyncroute (.*)$", page("commands.md"), re.MULTILINE)
    assert sorted(titles) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_section_is_whole(name: str) -> None:
    text = section("commands.md", f"asyncroute {name}")
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")}
    mentioned = {option for code in codes(text) for option in re.findall(r"--[a-z-]+", code)}
    assert options - {"--help"} - mentioned == set()
    assert re.search(rf"^    asyncroute {name}", text, re.MULTILINE)
    assert re.search(r"^Exit status: 0 ", text, re.MULTILINE)


# --- messages ---------------------------------------------------------------------------------------------------------

OPENSSL = (
    "unable to get local issuer certificate",
    "self-signed certificate",
    "Hostname mismatch, certificate is not valid for '",
    "IP address mismatch, certificate is not valid for '",
    "'. It has",
)
MESSAGES = [
    *(
        ("configuration.md", m)
        for cells in rows(section("configuration.md", "What happens at a limit"))
        for m in cells[2:]
    ),
    *(("tls.md", cells[0]) for cells in rows(section("tls.md", "What certificates say when they do not fit"))),
    *(("troubleshooting.md", cells[0]) for cells in rows(page("troubleshooting.md"))),
]
SINGLE = sorted({(where, message) for where, cell in MESSAGES for message in codes(cell)} - {
    ("configuration.md", "status --json"),
})  # fmt: skip


@cache
def spoken() -> str:
    """All texts of the program, and those of the system and of OpenSSL."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "src").rglob("*.py")]
    texts = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    foreign = [os.strerror(number) for number in errno.errorcode]
    return "\n".join([text for text in texts if isinstance(text, str)] + foreign + [*OPENSSL])


def unspoken(message: str) -> list[str]:
    """The parts of a message that the program never says."""
    if status := re.match(r"0x([0-9A-F]{4}) ", message):
        return [] if outcomes.status_text(int(status[1], 16)) == message else [message]
    if rejection := re.match(r"association rejected (\d)/(\d)/(\d):", message):
        result, source, reason = map(int, rejection.groups())
        return [] if outcomes.rejected(result, source, reason, "…", "…").text == message else [message]
    message = re.sub(r"the (caller|destination)('s certificate)? ", "", message)  # said of both by link/tls.py
    pieces = [piece.strip() for piece in re.split(r"…|: ", message)]
    unknown = [piece for piece in pieces if piece not in spoken()]
    return [part for piece in unknown for part in re.split(r"\d+", piece) if part not in spoken()]


@pytest.mark.parametrize(("where", "message"), SINGLE, ids=[m for _, m in SINGLE])
def test_a_message_is_one_of_the_programs(where: str, message: str) -> None:
    assert unspoken(message) == []
    assert len(message.replace("…", "").strip(" :;.,'")) >= 3, "says nothing"


def test_a_message_that_nobody_says_would_be_found() -> None:
    assert unspoken("cannot connect: connection declined by …") == ["connection declined by"]
    assert unspoken("0xA700 out of memory")
    assert unspoken("association rejected 1/1/7: nobody home")


# --- links ------------------------------------------------------------------------------------------------------------

_LINK = re.compile(r"\]\(([^)\s]+)\)")
LINKS = [(path, target) for path in PAGES for target in _LINK.findall(FENCED.sub("", path.read_text("utf-8")))]


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("path", "target"), LINKS, ids=[f"{p.name}: {t}" for p, t in LINKS])
def test_a_link_leads_somewhere(path: Path, target: str) -> None:
    if target.startswith("https://"):
        return
    file, _, anchor = target.partition("#")
    place = (path.parent / file).resolve() if file else path
    assert place.exists()
    assert not anchor or anchor in anchors(place)


def test_readme_leads_to_every_page() -> None:
    linked = {target for path, target in LINKS if path.name == "README.md"}
    assert {f"docs/{path.name}" for path in DOCS.glob("*.md")} <= linked
