"""Which class of step is run by what.

A step is a frozen dataclass (see `core.coercion`) and a function of its family that turns it into ``run(editing)``.
Another one is a line in `KINDS`. What a step may do:

- read and write elements of ``editing.top`` (a `Level`), by ``get``, ``put``, ``drop``, ``levels``; text by
  ``editing.text`` and ``editing.write``;
- tell people by ``editing.changed``; raise ``editing.refused``;
- where it needs the whole header as a pydicom Dataset: ``whole.edit_dataset(editing, function)`` gives `function` the
  Dataset and splices in what it changed; elements that it did not change keep their bytes.

Failures: none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from asyncroute.core import coercion
from asyncroute.core.deidentification import Deidentify
from asyncroute.transform import dates, deidentify, python, structure, texts, uids
from asyncroute.transform.editing import Editing
from asyncroute.transform.tail import Drops


class Kind(NamedTuple):
    """`make`: from a step to what runs it. `deep`: it looks at all of the header, sequences included, so it is slow.

    `drops`: from a step to what it drops behind the pixel data, or None.
    """

    make: Callable[[Any], Callable[[Editing], None]]
    deep: bool = False
    drops: Callable[[Any], Drops | None] | None = None


KINDS: dict[type[Any], Kind] = {
    coercion.Set: Kind(texts.set_step),
    coercion.Affix: Kind(texts.affix_step),
    coercion.Replace: Kind(texts.replace_step),
    coercion.Alter: Kind(texts.alter_step),
    coercion.Lookup: Kind(texts.map_step),
    coercion.Transfer: Kind(structure.transfer_step),
    coercion.Delete: Kind(structure.delete_step, drops=structure.dropped_behind),
    coercion.ShiftDates: Kind(dates.dates_step, deep=True),
    coercion.NewUids: Kind(uids.uids_step, deep=True),
    coercion.Python: Kind(python.python_step, deep=True),
    Deidentify: Kind(deidentify.deidentify_step, deep=True, drops=deidentify.dropped_behind),
}
