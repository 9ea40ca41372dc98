"""A data set that begins with group 0002, as some devices send: it is not part of the File Meta before it.

wire/part10.py ``parse_meta`` goes on reading elements of group 0002 behind the end that the group length tells.
Proposed: where the elements end exactly at the group length, stop there.
"""

from __future__ import annotations

from pathlib import Path

from asyncroute.spool.local import LocalSpool
from asyncroute.wire.part10 import build_meta, parse_meta
from tests.unit.parts import instance

DATA = b"\x02\x00\x10\x00UI\x04\x001.2\x00" + b"\x08\x00\x16\x00UI\x04\x001.2\x00"


def test_our_own_head_ends_where_it_says() -> None:
    head = build_meta("1.2.3", "1.2.3.4", "1.2.840.10008.1.2.1", private=b"12")
    assert parse_meta(head + DATA).data_offset == len(head)
    assert parse_meta(head + DATA).transfer_syntax == "1.2.840.10008.1.2.1"


def test_such_a_file_is_whole(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path, "process-crash")
    made = instance(1, path="000000/00000001.dcm", data_offset=0)
    assert spool.write([(made, [DATA])]) == {}
    facts = spool.facts(made.path)
    assert facts is not None
    assert (facts.size, facts.transfer_syntax) == (len(DATA), made.transfer_syntax)
    spool.close()
