"""Users' functions that sleep for ever, crash, raise or return nonsense: each costs only its own images."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support import settings, synthetic
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import run_cli
from tests.support.waiting import wait_until

FUNCTIONS = """
import os, time
from asyncroute.transform.user import Drop, Hold

def good(header, facts):
    header.PatientID = facts.calling_aet + "-" + header.PatientID
    return header

def odd(header, facts):
    match header.PatientID:
        case "sleeps": time.sleep(1000)
        case "crashes": os.abort()
        case "leaves": os._exit(0)
        case "raises": raise KeyError("AccessionNumber")
        case "nonsense": return 42
        case "eats": bytearray(8 << 30)
        case "holds": raise Hold("a person should look")
        case "drops": raise Drop("not for research")
    return good(header, facts)
"""

HELD = {
    "sleeps": "held: transform user: not done after 6 s",
    "crashes": "held: transform user: its process was ended by SIGABRT",
    "leaves": "held: transform user: its process ended with status 0",
    "raises": "held: transform user, step 1 (python): ",
    "nonsense": "held: transform user, step 1 (python): ",
    "eats": "held: transform user",
    "holds": "held: transform user, step 1 (python): a person should look",
}


def image(index: int, patient: str) -> Image:
    kind = synthetic.Kind(*synthetic.KINDS[index % len(synthetic.KINDS)], size=4096)
    return synthetic.image("user", index, kind, patient=patient)


def workers_of(pid: int) -> list[str]:
    return [it for task in Path(f"/proc/{pid}/task").iterdir() for it in (task / "children").read_text().split()]


def test_a_function_costs_only_its_own_images(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    plain, changed = receivers.receiver(), receivers.receiver()
    router = make_router(
        node=settings.node(worker_deadline="6s", workers=3),
        destination=[settings.dicom("plain", plain.port), settings.dicom("changed", changed.port)],
        route=[settings.route("plain", ["plain"]), settings.route("odd", ["changed"], transform=["user"])],
        transform={"user": {"steps": [{"python": "user.py:odd"}]}},
    )
    (router.folder / "user.py").write_text(FUNCTIONS)
    router.start()
    good = [image(n, "PAT-1") for n in range(12)]
    bad = {patient: image(100 + n, patient) for n, patient in enumerate([*HELD, "drops"])}
    send_all(router.caller(), [*good[:6], *bad.values(), *good[6:]])

    router.wait_failed(len(HELD))
    router.wait_delivered(len(good) + len(good) + len(bad))
    assert_exactly(plain, [*good, *bad.values()])
    assert_exactly(changed, [image(n, "EXACT-PAT-1") for n in range(12)])
    listed = json.loads(run_cli("queue", "list", "--json", "-c", router.config_file).stdout)
    errors = {row["sop_instance_uid"]: row["last_error"] for row in listed}
    for patient, text in HELD.items():
        assert errors[bad[patient].sop_instance].startswith(text), patient
    told = run_cli("why", bad["drops"].sop_instance, "-c", router.config_file).stdout
    assert "discarded" in told
    assert "dropped: transform user, step 1 (python): not for research" in told
    assert router.status()["totals"]["waiting"] == 0

    (router.folder / "user.py").write_text(FUNCTIONS.replace("def odd", "def former").replace("def good", "def odd", 1))
    assert run_cli("reload", "-c", router.config_file).returncode == 0
    assert run_cli("queue", "retry", "--all", "-c", router.config_file).returncode == 0
    router.wait_delivered(len(good) + len(good) + len(bad) + len(HELD))
    held = [image(100 + n, f"EXACT-{patient}") for n, patient in enumerate(HELD)]
    assert_exactly(changed, [*(image(n, "EXACT-PAT-1") for n in range(12)), *held])
    workers = workers_of(router.pid)
    assert workers
    router.stop()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 10, "the workers are gone")
