"""Thousands of open descriptors, and too few of them.

Nothing that the router does may depend on small numbers of descriptors (``select`` ends at 1,024), and callers must not
be able to take those that images need on their way: files being written, associations to destinations.
"""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support import crowds, settings, synthetic
from tests.support.certs import Authority
from tests.support.crowds import Crowd
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Aborted, Association, Caller, Closed, Rejected, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, command, environment
from tests.support.waiting import wait_until

ASSOCIATIONS, SILENT = 1200, 800
FEW = 128
SPARE = 40
"""Descriptors that are left for files and destinations, whoever calls."""
BESIEGING = 300


def test_2000_open_descriptors(make_router: MakeRouter, receivers: ReceiverHost, authority: Authority) -> None:
    """Images in and out, in memory and through files, plain and with TLS, all with descriptors above 2,000."""
    with crowds.many_descriptors():
        beyond_2000(make_router, receivers, authority)


def beyond_2000(make_router: MakeRouter, receivers: ReceiverHost, authority: Authority) -> None:
    server = authority.issue("door")
    tls = {"certificate": str(server.certificate), "key": str(server.key)}
    ends = [receivers.receiver(), receivers.receiver()]
    router = make_router(
        listener=[settings.listener(max_associations=3000, association_timeout="120s"), settings.listener(tls=tls)],
        destination=[settings.dicom(f"end{n}", end.port) for n, end in enumerate(ends)],
        route=[settings.route("all", ["end0", "end1"])],
    ).start()
    before = router.usage()
    with Crowd("idle", 0) as crowd:
        crowd.join(crowds.idle, router.caller(), ASSOCIATIONS).join(crowds.silent, router.caller(), SILENT)
        wait_until(lambda: router.usage().descriptors >= 2000, 20, "2,000 open descriptors", router.usage)
        held = router.usage()
        images = [*synthetic.mixed("many", 12), synthetic.image("large", 0, synthetic.Kind(size=8_000_000))]
        send_all(router.caller(), images[::2], associations=2)
        send_all(router.caller(listener=1, tls=authority.client_context()), images[1::2])
        router.wait_delivered(2 * len(images))
        for end in ends:
            assert_exactly(end, images)
    each = (held.rss - before.rss) / (ASSOCIATIONS + SILENT) / 1024
    print(f"{held.descriptors} descriptors, {each:.1f} KiB of memory for each idle caller")
    assert each < 24
    router.wait_quiet()


def test_the_soft_limit_is_raised(make_router: MakeRouter, tmp_path: Path) -> None:
    """Services are started with a soft limit of 1,024 as a rule, and a hard one far above it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        router = make_router(**small(tmp_path))
        router.afresh = True
        router.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(router.pid, resource.RLIMIT_NOFILE) == (hard, hard)


# --- too few ----------------------------------------------------------------------------------------------------------


class LimitedRouter(Router):
    """A router that may have ``FEW`` descriptors and no more."""

    def _spawn(self, log: IO[bytes], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit -n {FEW}; exec "$@"', "sh", *command("serve", "-c", self.config_file)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(**env),
            cwd=self.folder,
            start_new_session=True,
        )


def small(tmp_path: Path) -> dict[str, Any]:
    """A configuration that copies everything into a folder."""
    return {
        "destination": [settings.folder("copy", tmp_path / "copy")],
        "route": [settings.route("all", ["copy"])],
    }


@pytest.mark.parametrize("bad", [crowds.silent, crowds.idle, crowds.stalled], ids=lambda bad: str(bad.__name__))
def test_too_few_descriptors(tmp_path: Path, receivers: ReceiverHost, bad: crowds.Bad) -> None:
    """Three hundred callers where there are 128 descriptors: who was there first goes on as if nothing were."""
    end = receivers.receiver()
    config = {
        "listener": [settings.listener(association_timeout="60s", pdu_timeout="60s")],
        "destination": [settings.dicom("end", end.port), settings.folder("copy", tmp_path / "copy")],
        "route": [settings.route("all", ["end", "copy"])],
    }
    with LimitedRouter(tmp_path / "router", config) as router:
        try:
            few_descriptors(router, bad)
        finally:
            Router.made.remove(router)
        images = SENT
        router.wait_delivered(2 * len(images))
        assert_exactly(end, images)
        router.stop()


SENT = [
    *synthetic.series("established", 40),
    synthetic.image("established-large", 0, synthetic.Kind(size=6_000_000)),
    *synthetic.series("afterwards", 5),
]


def few_descriptors(router: Router, bad: crowds.Bad) -> None:
    """The siege: half of the established senders' images before, the others during it."""
    idle = router.usage().descriptors
    senders = [router.caller("EARLY").associate(SENT) for _ in range(4)]
    store(senders, SENT[:20])
    with Crowd(bad.__name__, 0) as crowd:
        turned_away = besiege(crowd, router.caller("CROWD"), bad)
        store(senders, SENT[20:41])
        during = router.usage().descriptors
    assert during < FEW - SPARE
    for sender in senders:
        sender.release()
    wait_until(lambda: router.usage().descriptors <= idle + 8, 30, "descriptors are given back", router.usage)
    send_all(router.caller(), SENT[41:])
    text = router.log_file.read_text()
    lines = text.splitlines()
    print(f"{bad.__name__}: {during} of {FEW} descriptors in use, {turned_away} turned away, {len(lines)} log lines")
    assert f"open files are limited to {FEW}" in text
    assert re.search(r"closed to make room|cut off", text)
    assert len(lines) < 60
    assert "A700" not in text


def store(senders: list[Association], images: list[Image]) -> None:
    for n, image in enumerate(images):
        result = senders[n % len(senders)].store(image)
        assert result.status == 0, result


def besiege(crowd: Crowd, caller: Caller, bad: crowds.Bad) -> int:
    """Let the crowd come; how many did not get in."""
    turned_away = 0
    for _ in range(BESIEGING):
        try:
            crowd.join(bad, caller)
        except (Aborted, Closed, Rejected, OSError):
            turned_away += 1
    return turned_away
