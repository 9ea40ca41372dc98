"""Tables, ratios, targets, and the page of the documentation that is made of them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import report, results, table
from benchmarks.evaluate import Outcome, Proof
from benchmarks.results import Result, Results, Row, Told
from benchmarks.scenarios import Check


def result(**figures: tuple[float, float]) -> Result:
    """Two routers, one case: (ours, theirs) of each figure."""
    rows = [
        Row("34 KB", peer, 0.0, 1, {name: both[n] for name, both in figures.items()}, Proof())
        for n, peer in enumerate(("asyncroute", "other"))
    ]
    return Result("peers", "Side by side", "images", True, rows)


def all_of(*found: Result) -> Results:
    return Results(results.machine("tiny"), {each.name: each for each in found})


def test_ratios_are_ours_divided_by_theirs() -> None:
    made = table.ratios(all_of(result(images_per_s=(900.0, 300.0), cpu_ms_per_image=(0.5, 2.5))))
    (row,) = made.rows
    shown = dict(zip(made.columns, row, strict=True))
    assert (shown["scenario"], shown["router"]) == ("peers: 34 KB", "other")
    assert (shown["images/s"], shown["CPU ms/image"], shown["peak MB"]) == ("3.00x", "0.20x", "-")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (0.0123, "0.012"), (0.25, "0.25"), (12.345, "12.3"), (1234.5, "1,234")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert table.number(value) == text


def test_a_table_as_text_and_as_markdown() -> None:
    made = table.Table("T", ["case", "router", "ms"], [["a", "x", "1"], ["bb", "yyyyyyy", "22"]])
    assert made.text().splitlines() == ["T", "case  router   ms", "a     x         1", "bb    yyyyyyy  22"]
    assert made.markdown().splitlines()[1:] == ["| --- | --- | ---: |", "| a | x | 1 |", "| bb | yyyyyyy | 22 |"]


def test_growth_is_relative_to_the_first_case_of_the_same_router() -> None:
    rows = [
        Row(case, peer, x, 1, {"cpu_ms_per_image": cpu}, Proof())
        for case, x, peer, cpu in (("1", 1, "a", 2.0), ("1", 1, "b", 4.0), ("10", 10, "a", 3.0), ("10", 10, "b", 4.0))
    ]
    made = table.growth(Result("associations", "Senders", "senders", False, rows))
    assert [row[-1] for row in made.rows] == ["1.00x", "1.00x", "1.50x", "1.00x"]


@pytest.mark.parametrize(
    ("how", "most", "value", "kept"),
    [("ratio", 1.2, 1.25, False), ("difference", 3.0, 2.0, True), ("value", 9.0, 10.0, False)],
)
def test_a_check_is_held_to_its_target(how: str, most: float, value: float, kept: bool) -> None:
    rows = [
        Row("many", "asyncroute", 0, 1, {"cpu": 10.0}, Proof()),
        Row("few", "asyncroute", 0, 1, {"cpu": 8.0}, Proof()),
    ]
    to = "" if how == "value" else "few"
    told = results.tell(Check("CPU", "cpu", "many", most, to, how), Result("x", "", "", False, rows))
    assert told is not None
    assert told.value == pytest.approx(value)
    assert told.kept is kept
    assert ("MISSED" in str(told)) is not kept


def test_a_check_without_figures_tells_nothing() -> None:
    assert results.tell(Check("CPU", "cpu", "many", 1.0, "few"), result(cpu=(1, 1))) is None


def test_medians_are_of_the_runs_that_came_to_their_end_and_the_worst_proof_stays() -> None:
    runs = [
        Outcome({"wall_s": 1.0}),
        Outcome({"wall_s": 3.0}, Proof(lost=2)),
        Outcome({"wall_s": 50.0}, trouble="stuck"),
        Outcome(trouble="did not start"),
    ]
    row = results.row("34 KB", "asyncroute", 0.0, runs)
    assert (row.figures, row.runs, row.proof.lost, row.trouble) == ({"wall_s": 2.0}, 2, 2, "stuck")
    made = all_of(Result("peers", "", "", True, [row]))
    assert len(made.unclean) == 1


def test_results_survive_their_file(tmp_path: Path) -> None:
    made = all_of(result(cpu_ms_per_image=(1.0, 2.0)))
    made.scenarios["peers"].checks.append(Told("CPU", 1.0, 1.2, "ratio", ""))
    made.write(tmp_path / "r.json")
    assert Results.read(tmp_path / "r.json") == made


def test_a_page_gets_its_pieces_anew() -> None:
    text = "Kept.\n\n<!-- bench: peers -->\nold\n<!-- /bench -->\n\nKept too.\n"
    made = all_of(result(cpu_ms_per_image=(1.0, 2.0)))
    once = report.page(text, made)
    assert "old" not in once
    assert "| 34 KB | other | 2.00 | all |" in once
    assert once.startswith("Kept.\n")
    assert once.endswith("Kept too.\n")
    assert report.page(once, made) == once


def test_a_page_that_asks_for_what_was_not_measured_is_refused() -> None:
    with pytest.raises(SystemExit, match="backlog"):
        report.page("<!-- bench: backlog -->\n<!-- /bench -->", all_of())


def test_the_documentation_shows_what_its_data_say() -> None:
    made = Results.read(report.DOCS / report.DATA)
    page = (report.DOCS / report.PAGE).read_text("utf-8")
    assert report.page(page, made) == page
    pictures = dict(report.pictures(made))
    found = {path.stem.removeprefix("performance-"): path for path in report.DOCS.glob("performance-*.svg")}
    assert found.keys() == pictures.keys()
    for name, svg in pictures.items():
        assert found[name].read_text("utf-8") == svg
        ET.fromstring(svg)
        assert f"(performance-{name}.svg)" in page
