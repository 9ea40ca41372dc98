"""What was delivered is kept as it was received: the program, real peers, real folders."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support import settings, synthetic
from tests.support.archiving import digests, digests_in, files_in, tiers
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.router import Router, run_cli


def test_what_was_delivered_is_kept_as_received(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    tier = tmp_path / "ssd"
    end = receivers.receiver()
    down = receivers.receiver(start=False)
    router = make_router(
        destination=[settings.dicom("pacs", end.port), settings.dicom("down", down.port)],
        route=[
            settings.route("all", ["pacs"]),
            settings.route("mr", ["down"], match={"Modality": "MR"}),
        ],
        archive={"tiers": tiers(tier)},
    ).start()
    images = [*synthetic.mixed("kept", 12), synthetic.image("large", 0, synthetic.Kind(size=5_000_000))]
    sent = send_all(router.caller(), images)
    there = [image for image in sent if image.modality != "MR"]
    router.wait_status(lambda s: s["spool"]["files"] == len(sent) - len(there), 30, "only what is owed is in the spool")
    assert digests_in(tier) == digests(there)
    assert all(path.parent.parent.name == "20240229" for path in files_in(tier))
    down.start()
    router.wait_drained()
    assert digests_in(tier) == digests(sent)
    send_all(router.caller(), images[:3])
    router.wait_delivered(len(sent) + 3 + len(sent) - len(there))
    router.wait_drained()
    assert digests_in(tier) == digests(sent), "what comes twice is one file"
    status = router.wait_status(lambda s: s["archive"]["tiers"][0]["images"] == len(sent), 20, "status tells")
    assert status["trouble"] == []
    router.stop()


def archive(router: Router, *words: str, exits: int = 0) -> Any:
    """What ``asyncroute archive WORDS --json`` says."""
    done = run_cli("archive", *words, "-c", router.config_file, "--json")
    assert done.returncode == exits, done.stderr
    return json.loads(done.stdout)


def replay(router: Router, *words: str, exits: int = 0) -> Any:
    """What ``asyncroute replay WORDS --json`` says."""
    done = run_cli("replay", *words, "-c", router.config_file, "--json")
    assert done.returncode == exits, done.stderr
    return json.loads(done.stdout)


def moved(router: Router, tier: int, images: int) -> None:
    """Wait until a tier has so many images."""
    router.wait_status(lambda s: s["archive"]["tiers"][tier]["images"] == images, 30, f"{images} images in tier {tier}")


def test_move_find_verify_and_send_again(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    ssd, raid = tmp_path / "ssd", tmp_path / "raid"
    end, other = receivers.receiver(), receivers.receiver()
    router = make_router(
        destination=[
            settings.dicom("pacs", end.port, calling_ae_title="{calling_aet}"),
            settings.dicom("other", other.port),
        ],
        route=[settings.route("ct", ["pacs"], match={"calling_aet": "CT_A"})],
        archive={"tiers": tiers(ssd, raid, at="02:00")},
    ).start()
    first, second = (synthetic.series(f"again{n}", 4, synthetic.Kind(size=3000), n) for n in range(2))
    send_all(router.caller("CT_A"), first)
    router.wait_drained()
    assert archive(router, "move") == {"tiers": [str(raid)]}
    moved(router, 1, 4)
    assert digests_in(raid) == digests(first)
    assert files_in(ssd) == []
    send_all(router.caller("CT_A"), [*second, synthetic.image("again0", 9, synthetic.Kind(size=3000), 0)])
    router.wait_drained()
    moved(router, 0, 5)

    (study,) = archive(router, "find", "--accession", f"A{synthetic.uid('again0', 'study', 0)[-8:]}")
    assert (study["images"], study["tiers"]) == (5, {str(ssd): 1, str(raid): 4})
    found = archive(router, "find", "--patient", "PAT-1", "--date", "2024-02-01-20240301")
    assert sorted(it["images"] for it in found) == [4, 5]
    assert archive(router, "find", "--date", "20240301-", exits=1) == []
    assert archive(router, "verify")["images"] == 9

    order = replay(router, study["study_uid"], "--to", "other")
    assert (order["images"], order["target"]) == (5, "other")
    wanted = digests([*first, synthetic.image("again0", 9, synthetic.Kind(size=3000), 0)])
    router.wait_delivered(9 + 5)
    assert sorted(stored.sha256 for stored in other.stored()) == wanted
    replay(router, "--since", "1h")
    router.wait_delivered(9 + 5 + 9)
    router.wait_drained()
    assert Counter(stored.calling for stored in end.stored()) == {"CT_A": 18}, "they come from who sent them first"
    status = archive(router, "status")
    assert [(it["images"], it["waiting"], it["failed"]) for it in status["replays"]] == [(9, 0, 0), (5, 0, 0)]
    assert [tier["images"] for tier in status["tiers"]] == [5, 4], "nothing is archived twice"
    shown = run_cli("why", first[0].sop_instance, "-c", router.config_file).stdout
    assert "sent again: out of the archive, at a person's word, only to other" in shown
    assert replay(router, "1.2.3.4.5", exits=1)["images"] == 0
    router.stop()
    assert archive(router, "find", study["study_uid"])[0]["images"] == 5
    assert [tier["images"] for tier in archive(router, "status")["tiers"]] == [5, 4]
    assert [tier["images"] for tier in router.cli_status()["archive"]["tiers"]] == [5, 4]
    files_in(raid)[0].unlink()
    archive(router, "verify", exits=1)
    raid.rename(tmp_path / "away")
    left = run_cli("status", "-c", router.config_file)
    assert (left.returncode, f"{raid}  missing" in left.stdout) == (1, True)
    assert f"  archive: tier 2: missing: there is no folder {raid}\n" in left.stdout
    assert "  archive: tier 2: 1 files are missing or damaged (asyncroute archive verify)" in left.stdout


def test_what_changes_by_hand_is_told(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    ssd, raid = tmp_path / "ssd", tmp_path / "raid"
    router = make_router(
        destination=[settings.dicom("pacs", receivers.receiver().port)],
        route=[settings.route("all", ["pacs"])],
        archive={"tiers": tiers(ssd, raid, older_than="1s")},
    ).start()
    images = synthetic.series("by hand", 4, synthetic.Kind(size=3000))
    send_all(router.caller(), images)
    moved(router, 1, 4)
    gone, damaged, *_ = files_in(raid)
    kept = gone.read_bytes()
    gone.unlink()
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    (raid / "stranger.txt").write_text("?")
    found = archive(router, "verify", "--tier", "2", exits=1)
    assert (found["images"], found["missing"], found["damaged"], found["unknown_files"]) == (4, 1, 1, 1)
    assert {Path(path) for path, _ in found["wrong"]} == {gone, damaged}
    shown = run_cli("archive", "verify", "-c", router.config_file).stdout
    assert f"{gone}: missing\n" in shown
    assert f"{damaged}: damaged: " in shown
    assert f"{raid / 'stranger.txt'}: not known to the archive\n" in shown
    assert shown.endswith("looked at, 1 damaged, 1 missing, 1 files that are not known\n")
    router.wait_status(lambda s: s["archive"]["tiers"][1]["wrong"] == 2, 20, "status tells")
    assert run_cli("status", "-c", router.config_file).returncode == 1
    replay(router, "--since", "1h")
    router.wait_delivered(4 + 2)
    gone.write_bytes(kept)
    content[-1] ^= 1
    damaged.write_bytes(content)
    (raid / "stranger.txt").unlink()
    assert archive(router, "verify")["mended"] == 2
    router.wait_status(lambda s: not s["trouble"], 20, "all is well again")


def test_tiers_that_go_and_come(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    ssd, raid = tmp_path / "ssd", tmp_path / "raid"
    router = make_router(
        destination=[settings.dicom("pacs", receivers.receiver().port)],
        route=[settings.route("all", ["pacs"])],
        archive={"tiers": tiers(ssd, raid, older_than="0s")},
    ).start()
    send_all(router.caller(), synthetic.series("first", 2))
    moved(router, 1, 2)
    raid.rename(tmp_path / "away")
    ssd.rename(tmp_path / "away, too")
    images = synthetic.series("second", 3)
    send_all(router.caller(), images)
    status = router.wait_status(lambda s: len(s["trouble"]) == 2, 20, "both are told")
    assert "images stay in the spool: missing: there is no folder" in status["trouble"][0]
    router.wait_delivered(5)
    assert archive(router, "status", exits=1)["tiers"][0]["state"] == "missing"
    router.stop()
    assert len(router.spool_files()) == 3
    router.start()
    (tmp_path / "away, too").rename(ssd)
    router.wait_drained(20)
    moved(router, 0, 3)
    (tmp_path / "away").rename(raid)
    moved(router, 1, 5)
    assert router.status()["trouble"] == []
    router.config["archive"] = {"tiers": tiers(ssd)}
    router.write_config()
    assert run_cli("reload", "-c", router.config_file).stdout == "table archive: changed\n"
    send_all(router.caller(), synthetic.series("third", 2))
    router.wait_status(lambda s: [t["images"] for t in s["archive"]["tiers"]] == [2], 20, "it stays in the one tier")
    del router.config["archive"]
    router.write_config()
    run_cli("reload", "-c", router.config_file)
    send_all(router.caller(), synthetic.series("fourth", 2))
    router.wait_drained()
    assert router.status()["archive"] is None
    assert len(files_in(ssd)) == 2
    router.stop()


def test_the_index_is_made_again_from_the_files(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    ssd, raid = tmp_path / "ssd", tmp_path / "raid"
    router = make_router(
        destination=[settings.dicom("pacs", receivers.receiver().port)],
        route=[settings.route("all", ["pacs"])],
        archive={"tiers": tiers(ssd, raid, at="02:00")},
    ).start()
    send_all(router.caller(), synthetic.mixed("made again", 6))
    moved(router, 0, 6)
    archive(router, "move")
    moved(router, 1, 6)
    router.stop()
    before = archive(router, "find")
    index = router.data_dir / "archive.db"
    content = bytearray(index.read_bytes())
    content[4096:8192] = bytes(4096)
    index.write_bytes(content)
    done = run_cli("rebuild", "-c", router.config_file, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["archived"], report["strange"], report["reason"]) == (6, 0, "")
    assert (Path(report["evidence"]) / "archive" / "archive.db").exists()
    after = archive(router, "find")
    forget = {"first_at": 0, "last_at": 0}
    assert [it | forget for it in after] == [it | forget for it in before]
    assert archive(router, "verify")["images"] == 6
    for name in ("archive.db", "archive.db-wal", "archive.db-shm"):
        (router.data_dir / name).unlink(missing_ok=True)
    router.start()
    router.wait_status(lambda s: len(s["trouble"]) == 1, 20, "files that are not known are told")
    router.stop()
    assert json.loads(run_cli("rebuild", "-c", router.config_file, "--json").stdout)["archived"] == 6
    router.start()
    moved(router, 1, 6)
    assert router.status()["trouble"] == []
    router.stop()
