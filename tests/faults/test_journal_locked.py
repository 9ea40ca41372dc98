"""Another program locks the journal, or another router wants the folder.

Nothing is lost, nothing is acknowledged that is not written, nothing else stands still meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet, send, send_all
from tests.support.fixtures import MakeRouter
from tests.support.foreign_lock import ForeignLock
from tests.support.images import Image
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

OUT_OF_RESOURCES = 0xA700
PATIENCE = 5.0
"""Seconds that the router itself waits for a lock."""

STALLED = 4.0
BACK = 10.0
SENDERS = 3


def routed(make_router: MakeRouter, port: int) -> Router:
    return make_router(
        destination=[settings.dicom("end", port, max_associations=4)], route=[settings.route("all", ["end"])]
    )


def seconds(what: Callable[[], Any]) -> float:
    """How long ``what`` takes."""
    begun = monotonic()
    what()
    return monotonic() - begun


def echo(router: Router) -> None:
    with router.caller("ECHO").associate() as association:
        assert association.echo() == 0
        association.release()


class Watch:
    """Asks for status and an echo all the time, and remembers how long the answers took."""

    def __init__(self, router: Router) -> None:
        self.took: list[float] = []
        self._router = router
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self.took.append(max(seconds(self._router.status), seconds(lambda: echo(self._router))))

    def end(self) -> None:
        """No more; the thread must not have died of an error."""
        assert self._thread.is_alive(), "no status or no echo"
        self._stop.set()
        self._thread.join(30)

    @property
    def slow(self) -> float:
        """The third slowest: a router that waits for the lock itself is slow each time, a busy machine now and then."""
        return sorted(self.took)[-3]


def send_while_locked(router: Router, until: float) -> tuple[list[Image], set[int], set[str]]:
    """Senders that go on until the time ``until``: what was acknowledged, other statuses, and why."""
    taken: list[Image] = []
    statuses: set[int] = set()
    whys: set[str] = set()
    turn = 0
    while monotonic() < until:
        turn += 1
        callers = [(router.caller(f"S{n}", timeout=60), synthetic.series(f"s{turn}/{n}", 4)) for n in range(SENDERS)]
        fleet = Fleet(callers).run()
        assert {report.ended for report in fleet.reports} == {"released"}
        taken += fleet.acknowledged
        statuses |= {it.status for report in fleet.reports for it in report.refused}
        whys |= {it.comment for report in fleet.reports for it in report.refused}
    return taken, statuses, whys


def seconds_until_stored(router: Router) -> tuple[float, Image]:
    image = synthetic.image("back", 0)
    begun = monotonic()
    wait_until(lambda: send(router.caller(), [image]).acknowledged, BACK, "images are taken again", router.log_tail)
    return monotonic() - begun, image


@dataclass
class Meanwhile:
    """What happened while the journal was locked."""

    taken: list[Image]
    statuses: set[int]
    whys: set[str]
    trouble: list[str]
    delivered: int


def lock_for_a_while(router: Router, locked: float) -> Meanwhile:
    """Lock the journal of a running router for so many seconds, with senders that go on."""
    with ForeignLock(router.data_dir):
        seen = send_while_locked(router, monotonic() + locked)
        status = router.status()
        return Meanwhile(*seen, status["trouble"], status["totals"]["delivered"])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("locked", [3 * PATIENCE, pytest.param(6 * PATIENCE, marks=pytest.mark.long)])
def test_locked_for_a_while(make_router: MakeRouter, receivers: ReceiverHost, locked: float) -> None:
    """In its shadow two starts that find the journals of their own folders locked."""
    end = receivers.receiver(Behaviour(delay=5.0))
    router = routed(make_router, end.port).start()
    one, other = (queued(make_router, receivers, f"queued{n}") for n in range(2))
    with (
        ThreadPoolExecutor(2) as pool,
        ForeignLock(one.data_dir, exclusive=True),
        ForeignLock(other.data_dir, exclusive=True) as soon,
    ):
        starts = [pool.submit(refused_start, one), pool.submit(late_start, other, soon)]
        before = send_all(router.caller(), synthetic.series("before", 4))
        end.wait_stored(1)
        watch = Watch(router)
        meanwhile = lock_for_a_while(router, locked)
        watch.end()
        end.set(Behaviour())
        back, last = seconds_until_stored(router)
        waited = [start.result(60) for start in starts]
    check_meanwhile(meanwhile)
    assert meanwhile.delivered <= len(before)
    assert watch.slow < STALLED, f"answers took {watch.slow:.1f} s"
    router.wait_delivered(len(before) + 1)
    router.wait_status(lambda s: not s["trouble"], BACK, "no trouble any more")
    router.stop()
    left = router.start().wait_drained()["totals"]
    assert (left["received"], left["delivered"]) == (len(before) + 1, len(before) + 1)
    assert_exactly(end, [*before, last])  # once each: results were kept and written, nothing was sent again
    check_starts([one, other], waited)
    print(
        f"journal locked for {locked:g} s: {len(watch.took)} times status and echo, "
        f"the slowest {max(watch.took):.2f} s; "
        f"{len(before)} deliveries kept; images taken again after {back:.1f} s"
    )


def check_meanwhile(seen: Meanwhile) -> None:
    """Every image was refused with the reason, and status told it."""
    assert seen.statuses == {OUT_OF_RESOURCES}
    assert not seen.taken
    assert all("another program has locked it" in why for why in seen.whys), seen.whys
    assert any("another program has locked it" in line for line in seen.trouble), seen.trouble


# --- starts -----------------------------------------------------------------------------------------------------------


def queued(make_router: MakeRouter, receivers: ReceiverHost, seed: str) -> Router:
    """A stopped router that owes three images."""
    router = routed(make_router, receivers.receiver(start=False).port).start()
    send_all(router.caller(), synthetic.series(seed, 3))
    router.stop()
    return router


def refused_start(router: Router) -> float:
    """A start that finds the journal locked all the time; how long it waited."""
    begun = monotonic()
    router.start(wait=False)
    assert router.wait_exit(60) == 1
    return monotonic() - begun


def late_start(router: Router, lock: ForeignLock) -> float:
    """A start that finds the journal locked at first."""
    router.start(wait=False)
    wait_until(lambda: (router.data_dir / "lock").read_text().strip() == str(router.pid), 30, "it has the folder")
    threading.Event().wait(1.0)  # it waits for the journal now; if not, this shows less, but nothing wrong
    lock.release()
    router.wait_listening()
    return 0.0


def check_starts(stopped: Sequence[Router], waited: Sequence[float]) -> None:
    """One was refused in one line, after waiting; then, and at the other, all is there."""
    assert waited[0] >= PATIENCE
    lines = [line for line in stopped[0].log_tail().splitlines() if "has locked it" in line]
    assert len(lines) == 1
    assert "journal.db: another program has locked it" in lines[0]
    assert "Traceback" not in stopped[0].log_tail()
    stopped[0].start()
    assert [router.status()["totals"]["waiting"] for router in stopped] == [3, 3]


# --- a second router --------------------------------------------------------------------------------------------------


def test_a_second_router_on_the_same_folder(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """It ends with a clear error, and the first one does not notice."""
    end = receivers.receiver()
    router = routed(make_router, end.port).start()
    second = make_router(**{**router.config, "listener": [settings.listener()]})
    shares = [synthetic.series(f"share{n}", 150) for n in range(2)]
    fleet = Fleet((router.caller(f"S{n}"), share) for n, share in enumerate(shares)).start()
    for _ in range(2):
        second.start(wait=False)
        assert second.wait_exit() == 1
    fleet.join().assert_clean()
    errors = [line for line in second.log_tail().splitlines() if line]
    assert len(errors) == 2, errors
    for line in errors:
        assert f"in use by another asyncroute (process {router.pid}); stop it or use another data_dir" in line
    checked = run_cli("status", "-c", second.config_file)
    assert checked.returncode == 0, checked.stderr
    router.wait_drained()
    assert_exactly(end, [image for share in shares for image in share])
    router.stop()
    router.start()
    assert router.status()["totals"]["delivered"] == 300
