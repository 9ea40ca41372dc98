"""Many rows at a time: the same outcome as one by one, in few executions of few statements."""

from __future__ import annotations

import sqlite3
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from asyncroute.core.model import RouteHit, Settlement
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal import bulk, work
from asyncroute.journal.base import Group
from asyncroute.journal.bulk import LENGTHS, Rows
from asyncroute.journal.sqlite import CACHED_STATEMENTS, SqliteJournal
from asyncroute.journal.statements import load
from tests.contract.made import T0, delivered, failed, image, retried

FEWEST_PARAMETERS = 32_766
"""What every SQLite that is new enough allows, unless it was built with less."""


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 31, 33, 64, 65, 200])
def test_all_rows_are_written_in_their_order(count: int) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
    executed: list[str] = []
    connection.set_trace_callback(executed.append)
    insert = Rows("INSERT INTO t (a, b) VALUES (?, ?)")
    changed = insert.run(connection, [(n, str(n)) for n in range(count)])
    connection.set_trace_callback(None)
    assert changed == count
    assert connection.execute("SELECT a, b FROM t ORDER BY id").fetchall() == [(n, str(n)) for n in range(count)]
    assert len(executed) <= count // LENGTHS[-1] + 3
    connection.close()


def test_statements_are_few_and_narrow_enough() -> None:
    assert all(load("write.sql")[name].count("?") * LENGTHS[-1] <= FEWEST_PARAMETERS for name in work.BULK)
    others = sum(len(load(file)) for file in ("write.sql", "admin.sql"))
    assert len(work.BULK) * len(LENGTHS) + others < CACHED_STATEMENTS


def test_a_statement_without_a_row_of_values_is_none() -> None:
    with pytest.raises(ValueError, match="unpack"):
        bulk.Rows("DELETE FROM t")


def test_a_group_is_few_statements(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a", header=bytes(500)) for n in range(1, 11)]))
    journal.commit(Group(settlements=[delivered(n, "a") for n in range(1, 6)]))
    executed: list[str] = []
    journal._connection.set_trace_callback(executed.append)
    images = [image(n, "a", header=bytes(500)) for n in range(11, 16)]
    done = journal.commit(Group(images, [delivered(n, "a") for n in range(6, 11)], range(1, 6)))
    journal._connection.set_trace_callback(None)
    journal.close()
    assert sorted(number for number, _ in done.releasable) == [6, 7, 8, 9, 10]
    executions = [text for text, _ in groupby(executed)]  # what triggers do is told under the text of their statement
    assert len(executions) <= 8, executions


def test_a_group_that_leaves_the_rest_for_later_is_fewer(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(1, "a", header=bytes(500))]))
    executed: list[str] = []
    journal._connection.set_trace_callback(executed.append)
    journal.commit(Group([image(n, "a", header=bytes(500)) for n in range(2, 7)], later=True))
    journal._connection.set_trace_callback(None)
    journal.close()
    executions = [text for text, _ in groupby(executed)]
    assert len(executions) <= 5, executions


def rows(journal: SqliteJournal, columns: str) -> list[tuple[object, ...]]:
    return journal._connection.execute(f"SELECT {columns} FROM delivery ORDER BY instance, destination").fetchall()


@pytest.mark.parametrize("count", [1, 5, 40])
def test_every_result_has_its_own_facts(tmp_path: Path, count: int) -> None:
    """Of two destinations and several kinds, mixed: each delivery gets what its own settlement says."""
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a", "b") for n in range(1, count + 1)]))
    kinds = (S.DELIVERED, S.FAILED, S.READY, S.DISCARDED)
    told = [
        Settlement(n, to, kinds[(n + k) % 4], n, T0 + 0.1 * n, n, f"error {n}{to}", n / 7 if n % 4 == 2 else 0.0)
        for n in range(1, count + 1)
        for k, to in enumerate("ab")
    ]
    journal.commit(Group(settlements=told))
    assert rows(journal, "state, attempts, last_status, last_error, not_before, first_try_at, settled_at") == [
        (int(it.state), it.attempts, it.status, it.error, it.not_before, it.at, None if it.state is S.READY else it.at)
        for it in told
    ]
    found = dict(journal._connection.execute("SELECT name, sum(value) FROM counter GROUP BY name"))
    expected = Counter(it.state for it in told)
    journal.close()
    assert found.get("delivered", 0) == found.get("warned", 0) == expected[S.DELIVERED]
    assert found.get("discarded", 0) == expected[S.DISCARDED]


def test_only_rows_really_changed_are_counted(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a") for n in range(1, 11)]))
    journal.commit(Group(settlements=[delivered(n, "a") for n in range(1, 6)]))
    done = journal.commit(Group(settlements=[delivered(n, "a") for n in range(3, 9)]))
    (count,) = journal._connection.execute("SELECT value FROM counter WHERE name = 'delivered'").fetchone()
    journal.close()
    assert count == 8
    assert sorted(number for number, _ in done.releasable) == [3, 4, 5, 6, 7, 8]


def test_several_results_of_one_delivery_and_kind(tmp_path: Path) -> None:
    """As if written one by one: the first success counts, the last failure and the last retry stand."""
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a") for n in (1, 2, 3)]))
    first = Settlement(1, "a", S.DELIVERED, 1, T0 + 1, 0)
    again = Settlement(1, "a", S.DELIVERED, 2, T0 + 2, 0)
    journal.commit(Group(settlements=[first, again, failed(2, "a", "one"), failed(2, "a", "two")]))
    journal.commit(Group(settlements=[retried(3, "a", T0 + 7, 1), retried(3, "a", T0 + 9, 2)]))
    found = rows(journal, "attempts, last_error, not_before, settled_at")
    (count,) = journal._connection.execute("SELECT value FROM counter WHERE name = 'delivered'").fetchone()
    journal.close()
    assert found == [(1, "", 0, T0 + 1), (3, "two", 0, T0 + 1000), (2, "out of resources", T0 + 9, None)]
    assert count == 1


def test_a_dead_letter_stands_against_retries_of_no_more_attempts(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a") for n in (1, 2, 3)]))
    journal.commit(Group(settlements=[failed(n, "a") for n in (1, 2, 3)]))
    journal.commit(Group(settlements=[retried(n, "a", 0, attempts) for n, attempts in ((1, 2), (2, 3), (3, 4))]))
    assert rows(journal, "state") == [(5,), (5,), (1,)]
    journal.close()


def test_one_bad_image_of_many_is_refused_alone(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    images = [image(n, "a", header=b"h") for n in range(1, 21)]
    images[7].size = "many"  # type: ignore[assignment]
    images[9].header = "text"  # type: ignore[assignment]
    images[11].hits = (RouteHit("all", "\ud800"),)
    done = journal.commit(Group(images))
    assert sorted(done.refused) == [8, 10]
    assert len(rows(journal, "instance")) == 18
    assert journal._connection.execute("SELECT value FROM counter WHERE name = 'received'").fetchone() == (18,)
    journal.close()


def test_conflicts_are_told_in_order_of_arrival(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a", sop_instance_uid=f"1.{n}") for n in range(1, 30)]))
    order = [9, 3, 20, 14]
    done = journal.commit(Group([image(100 + n, "a", sop_instance_uid=f"1.{n}") for n in order]))
    events = journal._connection.execute("SELECT instance, text FROM event ORDER BY id").fetchall()
    journal.close()
    assert done.conflicts == [100 + n for n in order]
    assert [number for number, _ in events] == done.conflicts
    assert events[0][1] == "this SOP Instance UID was received before with other bytes (image 9)"
