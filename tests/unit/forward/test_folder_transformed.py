"""Folder destinations that get what a transform makes of an image: named by its new attributes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncroute.config.template import parse_layout
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import SUCCESS, Kind, Outcome
from asyncroute.forward.coercion import Coercions
from asyncroute.forward.folder import FolderForwarder
from asyncroute.forward.reading import WHOLE, Readers
from asyncroute.link.processes import Processes
from asyncroute.transform.remote import Remote, edited_of
from asyncroute.wire.part10 import parse_meta
from tests.support.transforms import Splice, deflated
from tests.unit.forward.test_folder import Bench
from tests.unit.forward.test_transformed import DEFLATED, OTHER, UID, data_set, expected
from tests.unit.parts import CT, EXPLICIT_LE, delivery, instance, on_loop

NAMES = "{PatientID}/{SOPInstanceUID}.dcm"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.pool.shutdown()
    made.spool.close()


def _stored(bench: Bench, content: bytes, syntax: str) -> Delivery:
    bench.number += 1
    facts = {"sop_class_uid": CT, "sop_instance_uid": UID, "transfer_syntax": syntax}
    made = instance(bench.number, data_offset=0, **facts)
    assert bench.spool.write([(made, [content])]) == {}
    kept = {"data_offset": made.data_offset, "size": made.size, "checksum": made.checksum}
    return delivery(bench.number, "folder", route="ct", **facts, **kept)


async def written(bench: Bench, splice: Splice, *contents: bytes, syntax: str = EXPLICIT_LE) -> list[Outcome]:
    """Write these, one after the other."""
    readers, processes = Readers(bench.spool, 1), Processes(1)
    coercions = Coercions(readers, processes, edited_of)
    coercions.change({"ct": splice}, {} if splice.quick else {"ct": Remote(splice, 20.0)}, frozenset())
    forwarder = FolderForwarder(
        "folder", bench.out, parse_layout(NAMES), "keep-both", bench.spool, bench.pool, True, coercions
    )
    loop, outcomes = asyncio.get_running_loop(), []
    try:
        for content in contents:
            stored = _stored(bench, content, syntax)
            outcomes.append(await loop.run_in_executor(bench.pool, forwarder.write, stored))
            assert (stored.sent is not None) == outcomes[-1].delivered
    finally:
        processes.close()
        readers.close()
    return outcomes


def there(bench: Bench) -> dict[str, bytes]:
    return {name: content for name, content in bench.there().items() if name.endswith(".dcm")}


@pytest.mark.parametrize("quick", [True, False])
def test_files_are_named_by_their_new_attributes(bench: Bench, quick: bool) -> None:
    @on_loop
    async def body() -> None:
        small, large = data_set(seed=1), data_set(pixels=2 * WHOLE, seed=2)
        outcomes = await written(bench, Splice(quick=quick), small, large, small)
        assert outcomes[:1] == [SUCCESS]
        assert [outcome.text for outcome in outcomes[1:]] == [
            f"{UID}.dcm was taken; kept as {UID}~2.dcm",
            f"{UID}.dcm is there already, with the same bytes",
        ]
        assert there(bench) == {f"X-1/{UID}.dcm": expected(small), f"X-1/{UID}~2.dcm": expected(large)}

    body()


def test_file_meta_has_the_new_uid(bench: Bench) -> None:
    @on_loop
    async def body() -> None:
        assert await written(bench, Splice(uid=OTHER), data_set()) == [SUCCESS]
        (content,) = (path.read_bytes() for path in bench.out.rglob("*.dcm"))
        assert parse_meta(content).sop_instance_uid == OTHER

    body()


def test_deflated_and_what_is_behind(bench: Bench) -> None:
    @on_loop
    async def body() -> None:
        plain = data_set(behind=True)
        assert await written(bench, Splice(edits_tail=True), deflated(plain), syntax=DEFLATED) == [SUCCESS]
        assert list(there(bench).values()) == [deflated(expected(plain, behind=True))]

    body()


@pytest.mark.parametrize(("trouble", "quick"), [("refuse", True), ("refuse", False), ("raise", True), ("crash", False)])
def test_what_goes_wrong_costs_one_image(bench: Bench, trouble: str, quick: bool) -> None:
    @on_loop
    async def body() -> None:
        (outcome,) = await written(bench, Splice(trouble=trouble, quick=quick), data_set())
        assert (outcome.kind, outcome.charge, outcome.ours) == (Kind.IMAGE_FAILED, False, True)
        assert outcome.text.startswith("held: transform site-a")
        assert not there(bench)

    body()
