"""Who may use an AE title, and who has to name a user: certificates bound to titles, user names with passcodes (PS3.7
D.3.3.7), with dcmtk's storescu and exact requests on the other end."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.interop.test_tls import listening_with
from tests.interop.test_tls_refusals import receiving_router, said
from tests.support import peers, settings, synthetic, ul
from tests.support.certs import Authority, Identity
from tests.support.exact_sender import Association, Caller, Rejected, contexts_for
from tests.support.fixtures import MakeRouter
from tests.support.images import write_part10
from tests.support.ports import HOST
from tests.support.router import Router, command, environment, run_cli

NOT_VERIFIED, UNKNOWN_CALLING = (1, 2, 1), (1, 1, 3)


# --- AE titles bound to certificates ----------------------------------------------------------------------------------


def fingerprint(identity: Identity) -> str:
    """As openssl prints it."""
    shown = ["openssl", "x509", "-in", str(identity.certificate), "-noout", "-fingerprint", "-sha256"]
    done = subprocess.run(shown, capture_output=True, text=True, check=True, timeout=20)
    return "sha256:" + done.stdout.strip().partition("=")[2]


def refusal(router: Router, authority: Authority, calling: str, identity: Identity | None) -> tuple[int, ...] | None:
    """Result, source and reason of the rejection that this title gets with this certificate; None if it is served."""
    try:
        with router.caller(calling, tls=authority.client_context(identity)).associate() as association:
            assert association.echo() == 0
            return None
    except Rejected as rejected:
        return rejected.code


def test_titles_are_bound_to_certificates(make_router: MakeRouter, authority: Authority, tmp_path: Path) -> None:
    ct, mr, pinned, other = (
        authority.issue(name, dns=dns)
        for name, dns in (("ct1", ["CT1.example.org"]), ("mr", ["x.org"]), ("pinned", []), ("other", ["o.example.org"]))
    )
    bound = {"CT_*": "ct-many", "CT_1": "ct1.example.org", "MR_?": ["nobody", "MR"], "US_1": fingerprint(pinned)}
    tls = {"client_ca": str(authority.ca), "require_client": False, "bind_ae": bound}
    router = receiving_router(make_router, tmp_path, listening_with(authority.issue("router"), **tls))
    served = [("CT_1", ct), ("MR_1", mr), ("US_1", pinned), ("XA_1", other), ("XA_1", None)]
    assert {title: refusal(router, authority, title, each) for title, each in served} == {t: None for t, _ in served}
    refused = [("CT_1", mr), ("CT_2", ct), ("MR_1", other), ("US_1", ct), ("CT_1", None), ("US_1", None)]
    for title, each in refused:
        assert refusal(router, authority, title, each) == UNKNOWN_CALLING, (title, each)
    said(
        router,
        r"MR_1@127\.0\.0\.1: association rejected: calling AE title 'MR_1' is bound to the certificate nobody or MR; "
        r"it came with certificate 'other' \(issued by 'Test CA', DNS names o\.example\.org, sha256:[0-9a-f]{64}\)",
    )
    said(
        router, r"calling AE title 'US_1' is bound to the certificate sha256:[0-9a-f]{64}; it came with no certificate"
    )

    router.config["listener"][0]["tls"]["bind_ae"] = {"*": "other"}  # all titles are bound now
    router.write_config()
    assert run_cli("reload", "-c", router.config_file).returncode == 0
    assert refusal(router, authority, "XA_1", other) is None
    assert refusal(router, authority, "XA_1", ct) == refusal(router, authority, "XA_1", None) == UNKNOWN_CALLING


def test_dcmtk_under_a_bound_title(make_router: MakeRouter, authority: Authority, tmp_path: Path) -> None:
    """An image under somebody else's title is refused whole; under the own one it is delivered."""
    ct, mr = authority.issue("ct"), authority.issue("mr")
    tls = {"client_ca": str(authority.ca), "bind_ae": {"CT_1": "ct", "MR_1": "mr"}}
    router = receiving_router(make_router, tmp_path, listening_with(authority.issue("router"), **tls))
    file = write_part10(synthetic.image("bound", 0), tmp_path)
    caller = router.caller()
    for identity, code in ((mr, 1), (ct, 0)):
        options = peers.tls_options(identity, authority.ca)
        titles = ("-aet", "CT_1", "-aec", caller.called, "-xe")
        done = peers.run("storescu", *titles, *options, HOST, caller.port, file)
        assert bool(done.returncode) == bool(code), done.stdout
        assert ("Calling AE Title Not Recognized" in done.stdout) == bool(code)
    router.wait_delivered(1)
    assert router.status()["totals"]["received"] == 1


# --- users ------------------------------------------------------------------------------------------------------------

PASSCODE = "tr\u00e8s secret 4711"


def put_user(file: Path, name: str, passcode: str) -> None:
    """As an administrator does it in a script."""
    done = subprocess.run(
        command("user", "add", file, name, "--stdin"),
        input=passcode + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert passcode not in done.stdout + done.stderr


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A users file with one user."""
    put_user(tmp_path / "users", "site-a", PASSCODE)
    return tmp_path / "users"


def identity_item(passcode: bytes, name: bytes = b"site-a", kind: int = 2, answer: int = 1) -> bytes:
    """A User Identity sub-item (PS3.7 table D.3-14)."""
    fields = b"".join(len(each).to_bytes(2, "big") + each for each in (name, passcode))
    return ul.item(0x58, bytes((kind, answer)) + fields)


def ask(caller: Caller, item: bytes, source: str = HOST) -> tuple[int, bytes]:
    """Type and content of the answer to an association request with this sub-item, from this address."""
    with socket.create_connection((HOST, caller.port), 30, source_address=(source, 0)) as sock:
        association = Association(caller, sock)
        association.write(ul.associate_rq(caller.calling, caller.called, contexts_for([]), 65536, item))
        kind, body = association.read_pdu()
        if kind == ul.AC:
            association.release()
        return kind, body


def test_users_with_dcmtk(make_router: MakeRouter, authority: Authority, users: Path, tmp_path: Path) -> None:
    listener = {**listening_with(authority.issue("router")), "user_identity": {"users_file": str(users)}}
    router = receiving_router(make_router, tmp_path, listener)
    file = write_part10(synthetic.image("users", 0), tmp_path)
    (tmp_path / "ticket").write_text("ticket")
    caller, ticket = router.caller(), tmp_path / "ticket"
    tls = ("-aec", caller.called, "-xe", *peers.tls_options(None, authority.ca))
    wrong = {
        "no user is named": (),
        "a user name without a passcode is named": ("--user", "site-a"),
        "user 'site-a': no passcode": ("--user", "site-a", "--empty-password"),
        "user 'site-a': wrong passcode": ("--user", "site-a", "--password", "not " + PASSCODE),
        "user 'site-b': wrong passcode, or no such user": ("--user", "site-b", "--password", PASSCODE),
        "a Kerberos ticket is named": ("--kerberos", ticket),
        "a SAML assertion is named": ("--saml", ticket),
        "a web token is named": ("--jwt", ticket),
    }
    for words, options in wrong.items():
        done = peers.run("storescu", *tls, *options, HOST, caller.port, file)
        assert done.returncode != 0, words
        assert "Rejected Permanent" in done.stdout, done.stdout
        line = said(router, re.escape(words))
        assert "association refused: rejected permanently: no reason given by the association service (1/2/1)" in line
    assert router.status()["totals"]["received"] == 0
    for answer in ((), ("--pos-response",)):
        right = ("--user", "site-a", "--password", PASSCODE, *answer)
        peers.assert_ran(peers.run("storescu", *tls, *right, HOST, caller.port, file))
    router.wait_delivered(2)
    assert "secret" not in router.log_file.read_text()


def test_the_user_is_shown_and_the_file_is_read_again(make_router: MakeRouter, users: Path, tmp_path: Path) -> None:
    router = receiving_router(make_router, tmp_path, settings.listener(user_identity={"users_file": str(users)}))
    said(router, "WARNING listener .*: user_identity without tls: user names and passcodes cross .* in clear text")
    right = identity_item(PASSCODE.encode())
    caller = router.caller()
    with Association(caller, caller.connect()) as association:
        association.write(ul.associate_rq("CT_1", caller.called, contexts_for([]), 65536, right))
        kind, body = association.read_pdu()
        assert kind == ul.AC
        sub_items = dict(ul.items(next(content for kind, content in ul.items(body[68:]) if kind == 0x50)))
        assert sub_items[0x59] == b"\0\0"  # the positive response that was asked for
        (shown,) = router.status()["associations"]["inbound"]
        assert (shown["calling_aet"], shown["user"]) == ("CT_1", "site-a")
        assert "site-a" in run_cli("status", "-c", router.config_file).stdout
    put_user(users, "site-a", "word 4712")
    put_user(users, "site-c", "new")
    assert ask(caller, right)[0] == ul.AC  # until the file is read again
    assert "other certificates, keys or users" in run_cli("reload", "-c", router.config_file).stdout
    assert ask(caller, right) == (ul.RJ, bytes((0, *NOT_VERIFIED)))
    assert ask(caller, identity_item(b"word 4712"))[0] == ask(caller, identity_item(b"new", b"site-c"))[0] == ul.AC
    assert run_cli("user", "remove", users, "site-c").returncode == 0
    assert run_cli("reload", "-c", router.config_file).returncode == 0
    assert ask(caller, identity_item(b"new", b"site-c"))[0] == ul.RJ

    users.chmod(0o644)
    done = run_cli("reload", "-c", router.config_file)
    assert (done.returncode, "everybody on this machine may read" in done.stderr) == (1, True)
    assert run_cli("check", "-c", router.config_file).returncode == 1
    assert ask(caller, identity_item(b"word 4712"))[0] == ul.AC  # the old configuration goes on
    router.stop()
    router.start(wait=False)
    assert router.wait_exit() == 1
    assert "everybody on this machine may read" in router.log_tail()


def test_an_answer_that_is_remembered_lets_nobody_in(make_router: MakeRouter, users: Path, tmp_path: Path) -> None:
    """Two listeners with the same answers, one for everybody: the same bytes are accepted there and refused here."""
    tables = [settings.listener(), settings.listener(user_identity={"users_file": str(users)})]
    router = receiving_router(make_router, tmp_path, *tables)
    everybody, known = router.caller(), router.caller(listener=1)
    right = identity_item(PASSCODE.encode(), answer=0)
    for item in (b"", right, identity_item(b"wrong")):
        for _ in range(3):
            assert ask(everybody, item)[0] == ul.AC
            assert ask(known, item)[0] == (ul.AC if item == right else ul.RJ)
    router.config["listener"][1]["user_identity"]["required"] = False
    router.write_config()
    assert run_cli("reload", "-c", router.config_file).returncode == 0
    name_only = identity_item(b"", kind=1)
    answers = [ask(known, item)[0] for item in (b"", name_only, right, identity_item(b"wrong"))]
    assert answers == [ul.AC, ul.AC, ul.AC, ul.RJ]
    assert b"\x59\0\0\x02" not in ask(known, name_only)[1], "a promise that nobody has verified"


@pytest.mark.parametrize("guesses", [60, pytest.param(2000, marks=pytest.mark.long)])
def test_somebody_who_guesses_holds_up_nobody(
    make_router: MakeRouter, users: Path, tmp_path: Path, guesses: int
) -> None:
    """Wrong passcodes from one address, 12 at a time; others call from other addresses meanwhile, with and without."""
    for n in range(4):
        put_user(users, f"fresh-{n}", PASSCODE)
    tables = [settings.listener(user_identity={"users_file": str(users)}), settings.listener()]
    router = receiving_router(make_router, tmp_path, *tables)
    left, told = list(range(guesses)), []

    def guess() -> None:
        while left:
            told.append(ask(router.caller(), identity_item(b"guess %d" % left.pop()), "127.0.0.2")[0])

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for n in range(4):  # verified for the first time: each takes its turn
        assert ask(router.caller(), identity_item(PASSCODE.encode(), b"fresh-%d" % n), "127.0.0.3")[0] == ul.AC
        assert ask(router.caller(listener=1), b"", "127.0.0.3")[0] == ul.AC
    for thread in threads:
        thread.join(60)
    assert set(told) == {ul.RJ}
    line = said(router, "user 'site-a': too many wrong passcodes from this address; looked at again in")
    assert "127.0.0.2" in line
    assert ask(router.caller(), identity_item(PASSCODE.encode()), "127.0.0.2")[0] == ul.RJ, "the same address waits"
    assert ask(router.caller(), identity_item(PASSCODE.encode()))[0] == ul.AC, "others do not"
    looked_at = router.log_file.read_text().count("wrong passcode, or no such user")
    print(f"guessing: {guesses} wrong passcodes, {looked_at} looked at, {guesses - looked_at} refused unseen")
    assert looked_at <= 40
