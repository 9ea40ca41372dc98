"""Hostile text wherever a peer can put any: nothing is written outside the router's folders, and what people see of it,
in the log, in every command's output and on a terminal, cannot move the cursor, forge a line or hide what it says.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import settings, synthetic, ul
from tests.support.behaviour import Behaviour
from tests.support.certs import Authority
from tests.support.encoding import EXPLICIT, element
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import Association, Caller, contexts_for, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import BytesSource, Image
from tests.support.ports import HOST, free_port
from tests.support.router import Router, command, environment, run_cli_raw
from tests.support.waiting import wait_until

TITLE = "\x1b]0;owned\x07"
"""Sets the title of a terminal's window."""
FORGED = "\n2026-01-01T00:00:00.000+0000 CRITICAL forged"
EVIL = [
    *("../../../../evil", "..", ".", "/evil", "a/../../b", "evil\0evil", TITLE, "\x1b[2J\x1b[H", FORGED, "\r\x1b[K"),
    *("\x7f\x08\x08", "\x80\x85\x9b31m", "\xff\xfe", " " * 16, "~", "%s%n{0}", "[bold]x[/bold]", "evil" * 75, "\t\v\f"),
]
WIDE = [
    "\u202eevil\u2066",
    "\u2028\u2029",
    "\u200b\ufeff",
    "e\u0301" * 30,
    "\u65e5\u672c",
    "\ue000",
    "\U000e0041",
]
"""Text beyond one byte: it goes with the character set ISO_IR 192."""
ANNOUNCED = re.compile(r"(node|listening|destination|no \[\[route\]\]): ")
CONTROLS = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


# --- what people see --------------------------------------------------------------------------------------------------


def assert_clean(output: bytes, where: str) -> str:
    """Check that ``output`` holds no control or direction character but the ends of its lines.

    Raises:
        AssertionError: with the text around the first.
    """
    text = output.decode("utf-8")
    found = CONTROLS.search(text)
    assert found is None, f"{where}: {text[max(0, found.start() - 80) : found.end() + 80]!r}"
    return text


def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """``asyncroute ARGUMENTS``, its output as bytes."""
    return run_cli_raw(*arguments, timeout=60)


def assert_commands_clean(router: Router) -> str:
    """Check everything that the commands and the log say about ``router``; the text of all of it."""
    config = ("-c", router.config_file)
    seen = []
    for words in (("status",), ("queue", "list"), ("status", "--json"), ("queue", "list", "--json")):
        done = run(*words, *config)
        seen.append(assert_clean(done.stdout, " ".join(words)))
        assert_clean(done.stderr, " ".join(words))
        if "--json" in words:
            json.loads(done.stdout)
            assert done.stdout.isascii()
    return "".join([*seen, assert_log_clean(router)])


def assert_log_clean(router: Router) -> str:
    """Check that the log has no control characters, and that each of its lines is one that the router began."""
    log = assert_clean(router.log_file.read_bytes(), "log")
    lines = [line for line in log.splitlines() if not ANNOUNCED.match(line)]
    wrong = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT[\d:.]+[+-]\d{4} [A-Z]+ ", line)]
    assert not wrong, f"broken lines in the log: {wrong[:3]}"
    assert not [line for line in lines if re.match(r"\S+ CRITICAL forged", line)]
    assert "Traceback" not in log
    return log


def tree(folder: Path, *without: Path) -> set[Path]:
    """Every path below ``folder``, but for those in ``without``."""
    found = (path for path in folder.rglob("*") if not any(path.is_relative_to(each) for each in without))
    return set(found)


def around(folder: Path, *without: Path) -> set[Path]:
    """The same, and what stands beside ``folder``."""
    return {*folder.parent.iterdir(), *tree(folder, *without)}


# --- titles and UIDs --------------------------------------------------------------------------------------------------


def titled(calling: bytes, called: bytes, contexts: list[ul.Context]) -> bytes:
    """An A-ASSOCIATE-RQ with these 16 bytes for titles."""
    request = bytearray(ul.associate_rq("X", "X", contexts))
    request[10:26], request[26:42] = called[:16].ljust(16), calling[:16].ljust(16)
    return bytes(request)


def associated(caller: Caller, request: bytes) -> Association | None:
    """An association by this very request; None if it is rejected."""
    association = Association(caller, caller.connect())
    association.write(request)
    kind, body = association.read_pdu()
    if kind != ul.AC:
        association.close()
        return None
    answers = ul.read_associate_ac(body)
    association.peer_max_pdu = answers.max_pdu
    association.accepted = {
        (c.abstract, answers.answers[c.id].transfer): c.id
        for c in ul.read_associate_rq(request[6:]).contexts
        if answers.answers[c.id].result == 0
    }
    return association


@pytest.fixture
def router(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> Router:
    """A router that lets everybody in and names files by attributes."""
    (tmp_path / "archive").mkdir()
    layout = "{PatientID}/{StudyDescription}-{Modality}/{PatientName}/{SOPInstanceUID}.dcm"
    return make_router(
        listener=[settings.listener(accept_called=["*"]), settings.listener(accept_calling=["GOOD"])],
        destination=[
            settings.dicom("end", receivers.receiver().port),
            settings.folder("archive", tmp_path / "archive", layout=layout),
        ],
        route=[settings.route("all", ["end", "archive"], unless={"PatientID": "re:^HELD"})],
    ).start()


def test_titles(router: Router, tmp_path: Path) -> None:
    """Calling and called AE titles, at listeners that accept and that refuse them, while they are connected."""
    before = around(tmp_path, router.data_dir, tmp_path / "archive")
    image = synthetic.image("titles", 0)
    held = []
    for evil in EVIL:
        raw = evil.encode("latin-1")
        for calling, called in ((raw, b"ASYNCROUTE"), (b"GOOD", raw), (raw, raw)):
            association = associated(router.caller(), titled(calling, called, contexts_for([image])))
            if association is None and not (calling.strip() and called.strip()):
                continue  # none at all may be refused
            assert association is not None, (calling, called)
            assert association.store(image).status == 0
            held.append(association)
            assert associated(router.caller(listener=1), titled(b"E" + calling, called, contexts_for([image]))) is None
    assert len(router.status()["associations"]["inbound"]) == len(held)
    assert_commands_clean(router)
    for association in held:
        association.release()
    router.wait_drained()
    assert around(tmp_path, router.data_dir, tmp_path / "archive") == before
    router.stop()
    assert_commands_clean(router)


def renamed(image: Image, sop_class: str, sop_instance: str) -> bytes:
    """The command set of a C-STORE-RQ with these texts, which need not be ASCII."""
    values = {ul.AFFECTED_CLASS: sop_class, ul.AFFECTED_INSTANCE: sop_instance}
    body = b""
    for tag in sorted({*values, ul.COMMAND_FIELD, ul.MESSAGE_ID, ul.PRIORITY, ul.DATA_SET_TYPE}):
        numbers = {ul.COMMAND_FIELD: ul.C_STORE_RQ, ul.MESSAGE_ID: 7, ul.PRIORITY: 0, ul.DATA_SET_TYPE: 0}
        raw = values[tag].encode("latin-1") if tag in values else numbers[tag].to_bytes(2, "little")
        raw += b"\0" * (len(raw) & 1)
        body += bytes((0, 0, *tag.to_bytes(2, "little"), *len(raw).to_bytes(4, "little"))) + raw
    return b"\0\0\0\0\4\0\0\0" + len(body).to_bytes(4, "little") + body


def test_uids(router: Router, tmp_path: Path) -> None:
    """SOP Class and Instance UIDs of the command set: the image is taken or refused, the association goes on."""
    before = around(tmp_path, router.data_dir, tmp_path / "archive")
    image = synthetic.image("uids", 0, synthetic.Kind(size=512))
    taken = 0
    with router.caller().associate([image]) as association:
        context, data = association.context_of(image), b"".join(image.chunks(1 << 20))
        for sop_class, sop_instance in [*((image.sop_class, e) for e in ["", *EVIL]), *((e, "1.2.3") for e in EVIL)]:
            association.write(ul.pdv(context, ul.COMMAND | ul.LAST, renamed(image, sop_class, sop_instance)))
            association.write(ul.pdv(context, ul.LAST, data))
            taken += association.read_response()[ul.STATUS] == 0
            assert association.echo() == 0
        association.release()
    router.wait_status(lambda s: not s["totals"]["waiting"], 30, "what was taken is delivered")
    assert router.status()["totals"]["received"] == taken
    assert_commands_clean(router)
    assert around(tmp_path, router.data_dir, tmp_path / "archive") == before


# --- attributes -------------------------------------------------------------------------------------------------------

NAMES = {0x00080018: "UI", 0x00080060: "CS", 0x00081030: "LO", 0x00100010: "PN", 0x00100020: "LO", 0x0020000D: "UI"}
SETS = ("", "ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "\x1b$B", "GB18030")


def described(number: int, value: bytes, character_set: str, held: bool) -> Image:
    """An image in which every attribute that names or is shown has ``value``; ``held``: no route takes it."""
    pad = b" " * (len(value) & 1)
    values = {tag: element(tag, vr, value + pad) for tag, vr in NAMES.items()}
    if held:
        values[0x00100020] = element(0x00100020, "LO", b"HELD" + value + b" " * (len(value) & 1))
    name = character_set.encode("latin-1")
    values[0x00080005] = element(0x00080005, "CS", name + b" " * (len(name) & 1))
    data = b"".join(each for _, each in sorted(values.items()))
    uid = synthetic.uid("described", number)
    return Image(f"{value!r} in {character_set!r}", synthetic.CT, uid, EXPLICIT, len(data), BytesSource(data))


def all_described() -> Iterator[Image]:
    """Each text in each character set that has it, once to be sent on and once to be held."""
    number = itertools.count()
    texts = [text.encode("latin-1") for text in EVIL]
    pairs = [*itertools.product(texts, SETS), *((text.encode("utf-8", "replace"), "ISO_IR 192") for text in WIDE)]
    pairs += [(b"\x1b$B" + text, "\\ISO 2022 IR 87") for text in texts]
    for held, (value, character_set) in itertools.product((False, True), pairs):
        yield described(next(number), value, character_set, held)


def test_attributes(router: Router, tmp_path: Path) -> None:
    """Texts in every attribute that names a file or is shown, in several character sets."""
    archive = tmp_path / "archive"
    before = around(tmp_path, router.data_dir, archive)
    images = list(all_described())
    send_all(router.caller(), images, associations=4)
    router.wait_delivered(len(images))
    shown = assert_commands_clean(router)
    assert "\\x1b]0;owned\\x07" in shown
    assert router.status()["totals"]["held"] == len(images) // 2
    assert around(tmp_path, router.data_dir, archive) == before
    written = tree(archive)
    assert len([path for path in written if path.is_file()]) >= len(EVIL)
    assert all(path.resolve().is_relative_to(archive.resolve()) for path in written)
    odd = [path for path in written if CONTROLS.search(str(path.relative_to(archive))) or ".." in path.parts]
    assert not odd, odd[:3]
    spool = [path.relative_to(router.data_dir / "spool") for path in router.spool_files()]
    assert all(re.fullmatch(r"\d+/\d+\.dcm", str(path)) for path in spool)
    router.stop()
    assert "\\x1b]0;owned\\x07" in assert_commands_clean(router)


def test_long_texts_do_not_flood(router: Router) -> None:
    """64 KB in a patient's id: in the table a line stays one that can be read."""
    image = described(10**6, b"A" * 60_000, "", held=True)
    send_all(router.caller(), [image])
    router.wait_status(lambda s: s["totals"]["held"] == 1, 20, "the image is held")
    shown = run("queue", "list", "-c", router.config_file).stdout
    assert b"AAAA" in shown
    assert len(shown) < 4000


def test_links_in_a_folder_destination(make_router: MakeRouter, tmp_path: Path) -> None:
    """A sender that picks the name of a symbolic link does not write where it leads; others are not held up."""
    archive, outside = tmp_path / "archive", tmp_path / "outside"
    archive.mkdir()
    outside.mkdir()
    (archive / "LEADSOUT").symlink_to(outside)
    (archive / "NOWHERE").symlink_to(tmp_path / "nowhere")
    (archive / "PAT-1").mkdir()
    (archive / "STAYS").symlink_to("PAT-1")
    first = synthetic.image("linked", 0, patient="PAT-1")
    (archive / "PAT-1" / f"{first.sop_instance}.dcm").symlink_to(outside / "file.dcm")
    router = make_router(
        destination=[settings.folder("archive", archive, layout="{PatientID}/{SOPInstanceUID}.dcm")],
        route=[settings.route("all", ["archive"])],
    ).start()
    patients = ("LEADSOUT", "NOWHERE", "STAYS", "PAT-2")
    images = [first, *(synthetic.image(f"linked-{name}", 0, patient=name) for name in patients)]
    send_all(router.caller(), images)
    router.wait_status(lambda s: s["totals"]["delivered"] == 3 and s["totals"]["failed"] == 2, 30, "all are settled")
    router.wait_failed(2)
    assert not list(outside.iterdir())
    assert not (tmp_path / "nowhere").exists()
    assert router.channel("archive")["state"] == "up"
    assert "a symbolic link that leads out of" in assert_commands_clean(router)
    router.stop()


# --- destinations -----------------------------------------------------------------------------------------------------


def test_comments_of_destinations(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """Error Comments are shown as last errors and in dead letters."""
    evils = (TITLE, "\x1b[2J\x1b[H", FORGED, "\r\x1b[K", "[bold]x[/bold]", "evil" * 75)
    ends = [receivers.receiver(Behaviour(status=0x0122, comment=evil)) for evil in evils]
    names = [f"end{n}" for n in range(len(ends))]
    router = make_router(
        destination=[settings.dicom(name, end.port) for name, end in zip(names, ends, strict=True)],
        route=[settings.route("all", names)],
    ).start()
    send_all(router.caller(), [synthetic.image("commented", 0)])
    router.wait_failed(len(ends))
    shown = assert_commands_clean(router)
    assert "]0;owned" in shown
    router.stop()
    assert "]0;owned" in assert_commands_clean(router)


class Pretender:
    """An acceptor with hostile names in its A-ASSOCIATE-AC; it refuses each message with a hostile comment."""

    def __init__(self, evil: bytes) -> None:
        self.port = free_port()
        self._evil = evil
        self._listener = socket.create_server((HOST, self.port))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError, ul.WireError):
                self._serve(Association(Caller(self.port, timeout=10), sock))

    def _serve(self, association: Association) -> None:
        _, body = association.read_pdu()
        asked = ul.read_associate_rq(body)
        answers = [ul.Answer(context.id, 0, context.transfer[0]) for context in asked.contexts]
        names = ul.item(0x52, self._evil[:64]) + ul.item(0x55, self._evil[:16])
        accepted = ul.associate_ac(asked, answers, 0)[6:]
        at = accepted.index(ul.user_information(0))
        association.write(ul.pdu(ul.AC, accepted[:at] + ul.item(0x50, ul.item(0x51, bytes(4)) + names)))
        while True:
            association.sock.settimeout(10)
            kind, body = association.read_pdu()
            if kind == ul.RELEASE_RQ:
                association.write(ul.release_rp())
                return
            self._refuse(association, body)

    def _refuse(self, association: Association, body: bytes) -> None:
        for context, control, fragment in ul.pdvs(memoryview(body)):
            if control & ul.COMMAND:
                request = ul.read_command(bytes(fragment))
                answer = ul.response(request, 0x0122, self._evil.decode("latin-1").encode("ascii", "replace").decode())
                association.write(ul.pdv(context, ul.COMMAND | ul.LAST, answer))

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def __enter__(self) -> Pretender:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@pytest.mark.parametrize("evil", [TITLE, FORGED, "\x9b31mevil\x85", "[bold red]evil[/]"])
def test_names_of_destinations(evil: str) -> None:
    """What ``echo`` says of a peer, in words and as JSON."""
    with Pretender(evil.encode("latin-1")) as peer:
        for more in ((), ("--json",)):
            done = run("echo", f"EVIL@{HOST}:{peer.port}", *more)
            assert done.returncode == 1
            assert len(assert_clean(done.stdout, "echo").splitlines()) >= 4
            assert_clean(done.stderr, "echo")
            if more:
                json.loads(done.stdout)


def test_names_of_files(receivers: ReceiverHost, tmp_path: Path) -> None:
    """``send`` names the files that cannot be sent."""
    for n, evil in enumerate(EVIL):
        (tmp_path / f"{n}{evil.replace('/', '_').replace(chr(0), '_')[:60]}.dcm").write_bytes(b"no image")
    (tmp_path / os.fsdecode(b"\xff\xfe\x1b[2J.dcm")).write_bytes(b"no image")
    for more in ((), ("--json",)):
        done = run("send", tmp_path, "--to", f"END@{HOST}:{receivers.receiver().port}", *more)
        assert done.returncode == 1
        assert_clean(done.stdout, "send")
        assert_clean(done.stderr, "send")


def test_names_in_certificates(make_router: MakeRouter, authority: Authority) -> None:
    """A caller's certificate that is refused is named in the log."""
    server = authority.issue("hostile-text-server")
    tls = {"certificate": str(server.certificate), "key": str(server.key), "client_ca": str(authority.ca)}
    destination = settings.folder("archive", server.key.parent)
    router = make_router(listener=[settings.listener(tls=tls)], destination=[destination]).start()
    for evil in (TITLE, FORGED, "\x1b[2J\x1b[H", "\u202eevil", "evil" * 16):
        expired = authority.issue(evil, days=-2)
        caller = router.caller(tls=authority.client_context(expired), timeout=10)
        with contextlib.suppress(OSError, Exception):
            caller.associate()
    wait_until(lambda: "TLS handshake failed" in router.log_tail(), 20, "the refusals are logged", router.log_tail)
    router.stop()
    assert_log_clean(router)


# --- a terminal -------------------------------------------------------------------------------------------------------


def on_terminal(*arguments: object, until: bytes) -> bytes:
    """What ``asyncroute ARGUMENTS`` writes to a terminal, until ``until`` has been seen; then it gets Ctrl-C."""
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm-256color", COLUMNS="250", LINES="60", PYTHONIOENCODING="utf-8")
    process = subprocess.Popen(
        command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    )
    os.close(theirs)
    output, end = b"", time.monotonic() + 30
    try:
        while time.monotonic() < end:
            if until in output and process.poll() is None:
                process.send_signal(signal.SIGINT)
            if select.select([ours], [], [], 0.1)[0]:
                output += os.read(ours, 65536)
            elif process.poll() is not None:
                break
    except OSError:  # the other end is closed
        pass
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        os.close(ours)
    return output


@pytest.mark.parametrize("words", [("status",), ("status", "--watch"), ("queue", "list")])
def test_on_a_terminal(make_router: MakeRouter, receivers: ReceiverHost, words: tuple[str, ...]) -> None:
    """There the program itself moves the cursor; the peer's text must not."""
    end = receivers.receiver(Behaviour(status=0x0122, comment=f"EVILCOMMENT{TITLE}\x1b[31m[bold]x[/bold]"))
    router = make_router(
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("all", ["end"], unless={"PatientID": "re:^HELD"})],
    ).start()
    send_all(
        router.caller(), [synthetic.image("terminal", 0), described(1, TITLE.encode() + FORGED.encode(), "", True)]
    )
    router.wait_failed(1)
    output = on_terminal(*words, "-c", router.config_file, until=b"EVILCOMMENT")
    assert b"EVILCOMMENT" in output
    assert b"\x1b]" not in output
    assert b"\x07" not in output
    assert b"[bold]" in output, "markup of rich was obeyed"
    assert not re.search(rb"\n2026-01-01T00", output)
