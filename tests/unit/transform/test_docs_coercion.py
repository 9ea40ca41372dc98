"""The documentation of coercion is true: every step, its keys, and what it makes of a value."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from pydicom.dataset import Dataset

from asyncroute.config.steps import STEPS
from asyncroute.config.templates import FUNCTIONS
from asyncroute.core import coercion
from tests.support.coercing import FACTS, edited, read, write
from tests.support.encoding import EXPLICIT
from tests.unit.pages import FENCED, codes, page, rows, section

PAGE = "coercion.md"


def test_every_step_is_documented_with_its_keys() -> None:
    documented = {codes(cells[0])[0]: set(codes(cells[2])) for cells in rows(section(PAGE, "Steps"))}
    known = {
        name: {field.alias or key for key, field in kind.model_fields.items()} - {name} for name, kind in STEPS.items()
    }
    assert documented == known


def test_functions_and_facts_are_documented() -> None:
    functions = [
        cells[0] for cells in rows(section(PAGE, "Values")) if cells[0].count("(") == 1 and "{" not in cells[0]
    ]
    assert [re.match(r"`(\w+)\(", cell)[1] for cell in functions] == list(FUNCTIONS)  # type: ignore[index]
    (sentence,) = re.findall(r"Facts are (.*?)\.", page(PAGE), re.DOTALL)
    assert codes(sentence) == list(coercion.FACTS)


@pytest.mark.parametrize("cells", [cells for cells in rows(section(PAGE, "Values")) if cells[0].startswith("`{")])
def test_a_step_makes_what_is_shown(cells: Sequence[str]) -> None:
    (step,), (keyword, before), (after,) = (codes(cell) for cell in cells)
    dataset = Dataset()
    setattr(dataset, keyword, before)
    found = read(bytes(edited(write(dataset, EXPLICIT), step).data), EXPLICIT)
    assert str(found[keyword].value) == after


def test_the_function_that_is_shown_works() -> None:
    (shown,) = [text for info, text in FENCED.findall(page(PAGE)) if info == "python"]
    names: dict[str, object] = {}
    exec(shown, names)
    header, function = Dataset(), names["coerce"]
    header.PatientID, header.StudyDescription = "1", "Head"
    assert callable(function)
    assert function(header, FACTS).StudyDescription == "Head (CT_A)"
