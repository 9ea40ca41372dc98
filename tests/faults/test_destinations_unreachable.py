"""Destinations that cannot be reached: unknown names, names that move, dead addresses, a TLS handshake that hangs.

Name look-ups are the real ones: the router runs in a mount namespace of its own with its own /etc/hosts, which is
edited while it runs.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.certs import Authority
from tests.support.deliveries import attempts
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.ports import HOST, BlackHole, free_port
from tests.support.router import Router, command, environment, owed, run_cli
from tests.support.waiting import wait_until

NAME = "pacs.test"
OLD, NEW = "127.0.0.2", "127.0.0.3"
IN_NAMESPACE = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"'


class Names:
    """A name service of one's own: the files hosts(5) and nsswitch.conf(5) of programs started through ``wrapped``."""

    def __init__(self, folder: Path) -> None:
        self.hosts, self._switch = folder / "hosts", folder / "nsswitch.conf"
        self._switch.write_text("hosts: files\n")
        self.say()

    def say(self, *addresses: str) -> None:
        """``NAME`` has these addresses from now on. (In place: the file is mounted.)"""
        lines = ["127.0.0.1 localhost", *(f"{address} {NAME}" for address in addresses)]
        self.hosts.write_text("\n".join(lines) + "\n")

    def wrapped(self, *arguments: str) -> list[str]:
        """The command line that runs ``arguments`` with these names."""
        return ["unshare", "-rm", "sh", "-c", IN_NAMESPACE, "sh", str(self.hosts), str(self._switch), *arguments]

    def found(self) -> list[str]:
        """The addresses of ``NAME`` in the order in which programs get them."""
        asked = subprocess.run(
            self.wrapped("getent", "ahostsv4", NAME), capture_output=True, text=True, timeout=20, check=False
        )
        return list(dict.fromkeys(line.split()[0] for line in asked.stdout.splitlines()))


class NamedRouter(Router):
    """A router with names of its own."""

    names: Names

    def _spawn(self, log: IO[bytes], env: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.names.wrapped(*command("serve", "-c", self.config_file)),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(**env),
            cwd=self.folder,
            start_new_session=True,
        )


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(tmp_path)


@pytest.fixture
def other_receivers() -> Iterator[ReceiverHost]:
    """Another process for receivers, which may use the same ports on other addresses."""
    with ReceiverHost() as host:
        yield host


@pytest.fixture
def named(tmp_path: Path, names: Names) -> Iterator[Any]:
    """Makes one router with a destination at ``NAME`` and some port."""
    made: list[NamedRouter] = []

    def make(port: int, **more: Any) -> NamedRouter:
        config = {
            "destination": [settings.dicom("pacs", port, host=NAME, association={"idle_close": "200ms"}, **more)],
            "route": [settings.route("all", ["pacs"])],
        }
        made.append(NamedRouter(tmp_path / "router", config))
        made[0].names = names
        made[0].start()
        return made[0]

    yield make
    for router in made:
        router.kill()
        Router.made.remove(router)


def test_a_name_that_is_unknown_then_known_then_moves(
    named: Any, names: Names, receivers: ReceiverHost, other_receivers: ReceiverHost
) -> None:
    """To the new address without a restart, within a look-up's life (5 s) and a pause of the backoff."""
    old = receivers.receiver(Behaviour(host=OLD))
    new = other_receivers.receiver(Behaviour(host=NEW), port=old.port)
    router: NamedRouter = named(old.port)
    first = send_all(router.caller(), synthetic.series("names-first", 10))
    router.wait_status(lambda s: s["channels"][0]["state"] == "down", 20, "the destination counts as down")
    error = router.channel("pacs")["last_error"]
    assert error.startswith(f"cannot find the host's address: {NAME}: "), error
    told = run_cli("status", "-c", router.config_file)
    assert (told.returncode, f"pacs: down: {error}" in told.stdout) == (1, True), told.stdout
    assert owed(router.channel("pacs")) == 10

    names.say(OLD)
    known = time.monotonic()
    old.wait_stored(10, deadline=30)
    appeared = old.stored()[0].at - known
    router.wait_status(lambda s: s["channels"][0]["state"] == "up", 20, "the destination is up again")

    old.stop()
    names.say(NEW)
    moved = time.monotonic()
    second = send_all(router.caller(), synthetic.series("names-second", 10))
    new.wait_stored(10, deadline=30)
    followed = new.stored()[0].at - moved
    print(f"a name became known: delivered after {appeared:.1f} s; its address changed: after {followed:.1f} s")
    assert_exactly(old, first)
    assert_exactly(new, second)
    assert router.channel("pacs")["failed"] == 0
    router.wait_drained()
    assert attempts(router, "pacs") == {1: 20}
    router.stop()


def test_a_name_that_moves_while_both_addresses_answer(
    named: Any, names: Names, receivers: ReceiverHost, other_receivers: ReceiverHost
) -> None:
    old = receivers.receiver(Behaviour(host=OLD))
    new = other_receivers.receiver(Behaviour(host=NEW), port=old.port)
    names.say(OLD)
    router: NamedRouter = named(old.port)
    count = 0

    def one_more() -> bool:
        nonlocal count
        send_all(router.caller(), [synthetic.image("moves", count)])
        count += 1
        router.wait_delivered(count)
        router.wait_status(lambda s: not s["associations"]["outbound"], 10, "the association is idle and closed")
        return bool(new.tally().stored)

    assert not one_more()
    names.say(NEW)
    wait_until(one_more, 30, "the new address is used")
    assert old.tally().stored + new.tally().stored == count


def test_the_second_address_of_a_name_has_its_chance(named: Any, names: Names, receivers: ReceiverHost) -> None:
    """And the dead first one is paid for once, not with each association."""
    end = receivers.receiver(Behaviour(host=NEW))
    names.say(OLD, NEW)
    assert names.found() == [OLD, NEW], "the dead address comes first"
    with BlackHole(OLD, end.port):
        router: NamedRouter = named(end.port, connect_timeout="5s", max_associations=1)
        took = []
        for number in range(3):
            begun = time.monotonic()
            send_all(router.caller(), [synthetic.image("second", number)])
            router.wait_delivered(number + 1)
            took.append(end.stored()[number].at - begun)
            router.wait_status(lambda s: not s["associations"]["outbound"], 10, "the association is idle and closed")
    print("with a dead first address: " + ", ".join(f"{seconds:.2f} s" for seconds in took))
    assert took[0] >= 5 > max(took[1:])
    assert end.tally().associations == 3
    assert router.channel("pacs")["failed"] == 0


def test_all_addresses_are_dead(named: Any, names: Names) -> None:
    port = free_port()
    names.say(OLD, NEW)
    with BlackHole(OLD, port), BlackHole(NEW, port):
        router: NamedRouter = named(port, connect_timeout="200ms", max_associations=1)
        send_all(router.caller(), [synthetic.image("dead", 0)])
        router.wait_status(lambda s: s["channels"][0]["state"] == "down", 30, "the destination counts as down")
    assert router.channel("pacs")["last_error"] == f"cannot connect: no answer from {NAME}:{port} ({NEW}) in 0.2 s"


def test_a_tls_handshake_that_hangs_is_told(
    make_router: MakeRouter, receivers: ReceiverHost, authority: Authority
) -> None:
    """The port takes connections and says nothing, as a plain DICOM port does when it is greeted with TLS."""
    server = authority.issue("localhost")
    end, quick = receivers.receiver(start=False), receivers.receiver()
    end.set(Behaviour(tls={"certificate": str(server.certificate), "key": str(server.key)}))
    tls = {"ca": str(authority.ca), "server_name": "localhost"}
    with socket.create_server((HOST, end.port), backlog=64):
        router = make_router(
            destination=[
                settings.dicom("silent", end.port, connect_timeout="1s", max_associations=1, tls=tls),
                settings.dicom("quick", quick.port),
            ],
            route=[settings.route("all", ["silent", "quick"])],
        ).start()
        images = send_all(router.caller(), synthetic.series("handshake", 5))
        wait_until(lambda: router.channel("silent")["last_error"], 20, "its first failure")
        channel = router.channel("silent")
        words = f"TLS: no answer to the handshake from {HOST}:{end.port} in 1 s"
        assert (channel["state"], channel["last_error"], owed(channel)) == ("down", words, 5)
        assert f"ERROR silent: down: {words}" in router.log_tail()
        assert run_cli("status", "-c", router.config_file).returncode == 1
        quick.wait_stored(5)
        assert_exactly(quick, images)
    end.start()
    end.wait_stored(5)
    assert_exactly(end, images)
    router.wait_status(lambda s: router.channel("silent", s)["state"] == "up", 20, "the channel is well again")
