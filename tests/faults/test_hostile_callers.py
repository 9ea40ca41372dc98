"""Callers that say nothing, too little, or too slowly: cleared at their deadlines while others are served.

Twenty of each kind, all kinds at once, plain and over TLS.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.support import peers, settings, synthetic, ul
from tests.support.certs import Authority
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import Caller, Dripper, contexts_for, send_all
from tests.support.fixtures import MakeRouter
from tests.support.ports import HOST
from tests.support.router import Router
from tests.support.waiting import wait_until

MANY = 20
DEADLINE, IDLE = 2.0, 4.0
LATE = 6.0
"""Seconds past its deadline after which a caller that is still connected is a failure: generous, for a busy machine."""
ECHO_WITHIN = 3.0
IMAGE = synthetic.image("hostile", 0, synthetic.Kind(size=400_000))


@dataclass
class Crowd:
    """Twenty callers of one kind, when they had all come, and the deadline that each kind has."""

    sockets: list[socket.socket]
    arrived: float
    deadline: float

    def assert_cleared(self) -> None:
        """Check that all are cleared in time.

        Raises:
            AssertionError: some are still connected.
        """
        until = self.arrived + self.deadline + LATE
        still = sum(not ended(sock, until) for sock in self.sockets)
        assert not still, f"{still} of {len(self.sockets)} still connected"


@dataclass
class Door:
    """One listener of the router: how to call it, dcmtk's options for it, and the crowds that wait before it."""

    router: Router
    caller: Caller
    options: list[str]
    crowds: dict[str, Crowd] = field(default_factory=dict)

    def crowd(self, name: str, sockets: list[socket.socket], deadline: float) -> None:
        """Remember a crowd that has just come."""
        self.crowds[name] = Crowd(sockets, time.monotonic(), deadline)

    def leave(self) -> None:
        """Close every caller's side."""
        for crowd in self.crowds.values():
            for sock in crowd.sockets:
                sock.close()


@pytest.fixture(scope="module")
def router(make_module_router: MakeRouter, receivers: ReceiverHost, authority: Authority) -> Router:
    server = authority.issue("door")
    short = {"association_timeout": "2s", "pdu_timeout": "2s", "idle_timeout": "4s"}
    tls = {"certificate": str(server.certificate), "key": str(server.key)}
    end = receivers.receiver()
    return make_module_router(
        listener=[settings.listener(**short), settings.listener(tls=tls, **short)],
        destination=[settings.dicom("end", end.port, association={"idle_close": "1s"})],
        route=[settings.route("all", ["end"])],
    ).start()


@pytest.fixture(scope="module", params=["plain", "tls"])
def door(request: pytest.FixtureRequest, router: Router, authority: Authority) -> Iterator[Door]:
    """A listener with all crowds before it at once; the last of them drip as long as the tests run."""
    plain = request.param == "plain"
    tls = None if plain else authority.client_context()
    caller = router.caller(listener=0 if plain else 1, tls=tls)
    door = Door(router, caller, [] if plain else peers.tls_options(None, authority.ca))
    before = router.usage().descriptors
    for bad, deadline in CALLERS:
        door.crowd(bad.__name__, [bad(caller) for _ in range(MANY)], deadline)
    with dripping_requests(door), dripping_data(door):
        yield door
    door.leave()
    wait_until(lambda: router.usage().descriptors <= before, LATE, "descriptors are given back", router.usage)


def silent(caller: Caller) -> socket.socket:
    """Connects (without a TLS handshake) and says nothing."""
    return socket.create_connection((HOST, caller.port), 10)


def shaken(caller: Caller) -> socket.socket:
    """Connects, with the TLS handshake, and says nothing."""
    return caller.connect()


def three_bytes(caller: Caller) -> socket.socket:
    """Sends the first three bytes of an A-ASSOCIATE-RQ."""
    sock = caller.connect()
    sock.sendall(b"\x01\x00\x00")
    return sock


def three_raw_bytes(caller: Caller) -> socket.socket:
    """Sends three bytes before any TLS handshake."""
    sock = silent(caller)
    sock.sendall(b"\x16\x03\x01")
    return sock


def stalled(caller: Caller) -> socket.socket:
    """Stops in the middle of a presentation data value."""
    association = caller.associate([IMAGE])
    association.write(b"".join(association.store_pdus(IMAGE))[:150_000])
    return association.sock


def idle(caller: Caller) -> socket.socket:
    """An association on which nothing happens."""
    return caller.associate([IMAGE]).sock


def between_pdus(caller: Caller) -> socket.socket:
    """Stops inside a message, between two PDUs."""
    association = caller.associate([IMAGE])
    for piece in list(association.store_pdus(IMAGE))[:3]:
        association.write(piece)
    return association.sock


CALLERS: list[tuple[Callable[[Caller], socket.socket], float]] = [
    (silent, DEADLINE),
    (shaken, DEADLINE),
    (three_bytes, DEADLINE),
    (three_raw_bytes, DEADLINE),
    (stalled, DEADLINE),
    (between_pdus, IDLE),
    (idle, IDLE),
]
NAMES = [*(bad.__name__ for bad, _ in CALLERS), "dripping_requests", "dripping_data"]


def ended(sock: socket.socket, until: float) -> bool:
    """Whether the other side ends the connection before ``until`` (monotonic): closes it, or says A-ABORT.

    After an A-ABORT it may wait a little for our close (PS3.8 9.2.2, ARTIM).
    """
    try:
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            data = sock.recv(4096)
            if not data or data[0] == ul.ABORT:
                return True
    except TimeoutError:
        return False
    except (OSError, ssl.SSLError):
        return True
    return False


def dripping_requests(door: Door) -> Dripper:
    """A crowd whose A-ASSOCIATE-RQs come a byte at a time."""
    door.crowd("dripping_requests", [door.caller.connect() for _ in range(MANY)], DEADLINE)
    request = ul.associate_rq("DRIP", door.caller.called, contexts_for([IMAGE]))
    return Dripper(door.crowds["dripping_requests"].sockets, request)


def dripping_data(door: Door) -> Dripper:
    """A crowd whose data comes a byte at a time."""
    associations = [door.caller.associate([IMAGE]) for _ in range(MANY)]
    data = b"".join(associations[0].store_pdus(IMAGE))
    for association in associations:
        association.write(data[:1000])
    door.crowd("dripping_data", [association.sock for association in associations], DEADLINE)
    return Dripper(door.crowds["dripping_data"].sockets, data[1000:3000])


def test_others_are_served(door: Door) -> None:
    """echoscu is answered, and images are taken, while all the bad callers are connected."""
    began = time.monotonic()
    peers.assert_ran(peers.echoscu(door.caller, *door.options))
    taken = time.monotonic() - began
    assert taken < ECHO_WITHIN, f"echoscu took {taken:.1f} s"
    assert len(door.router.status()["associations"]["inbound"]) >= 2 * MANY
    send_all(door.caller, [synthetic.image("served", time.monotonic_ns())])


@pytest.mark.parametrize("name", NAMES)
def test_cleared_at_their_deadline(door: Door, name: str) -> None:
    door.crowds[name].assert_cleared()


def test_a_patient_sender_is_not_cleared(door: Door) -> None:
    """Each PDU well within its deadline, the whole image longer than any of them."""
    with door.caller.associate([IMAGE]) as association:
        for piece in association.store_pdus(IMAGE):
            association.write(piece)
            time.sleep(0.6)  # the pace is the point
        assert association.read_response()[ul.STATUS] == 0
        association.release()
